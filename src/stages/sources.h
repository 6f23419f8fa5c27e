/* The soft-label files a stage learns from: opened, checked against each other and the dataset, put into the
 * dataset's class order, combined by a rule. Shared by aggregate and train. */
#ifndef MPISTILL_STAGES_SOURCES_H
#define MPISTILL_STAGES_SOURCES_H

#include "learn/combine.h"
#include "mpistill/mpistill.h"
#include "store/softlabels.h"

typedef struct sources {
  int n;
  softlabels **files;
  int64_t **place;       /* [n] of [classes]: the dataset's class of a file's column; NULL: in order */
  unsigned char **known; /* [n] of [classes] and [n], as in combine_batch; NULL unless the rule unites */
  bool *others;
  double *weights;       /* [n], sum 1 */
  double *calibration;   /* [n] temperatures that the logits are divided by as they are read; NULL: none */
  double *class_weights; /* [n, classes] in place of weights; NULL: none */
  double *log_class_weights;
  const combine_kind *rule;
  int64_t rows, classes;
} sources;

/* Collective. STATUS_BAD_INPUT for files of different datasets, splits, row counts or classes. d NULL: the
 * files are compared with each other only; sp NULL: the split they name. weights empty: equal. method NULL or
 * one file: taken as it is. */
status sources_open(sources *s, comm *c, const mpistill_strings *paths, const char *method,
                    const mpistill_reals *weights, dataset *d, const split *sp, bool trust_rows);
void sources_close(sources *s);

/* Local. Calibration and weights of an ensemble that was made before from the same teachers. */
status sources_take(sources *s, const softlabels_header *ensemble);
/* Local. log_class_weights from class_weights. */
status sources_weigh_classes(sources *s);

/* Local. STATUS_BAD_INPUT when a file is an ensemble made for another temperature. */
status sources_check_temperature(const sources *s, double temperature);
/* Local. STATUS_BAD_INPUT when a file is made for one: for a loss whose temperature moves. */
status sources_check_any_temperature(const sources *s, const char *loss);

/* Local. Logits of file i for rows [from, from + n), or for any rows once softlabels_load was called, classes
 * in the dataset's order. raw: scratch of [n * classes], or NULL where the file's order is the dataset's. */
status sources_read(const sources *s, int i, int64_t from, int64_t n, float *raw, float *out);
status sources_rows(const sources *s, int i, const int64_t *ids, int64_t n, float *raw, float *out);

#endif
