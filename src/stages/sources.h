/* The soft-label files a stage learns from: opened, checked against each other and the dataset, put into the
 * dataset's class order, combined by a rule. Shared by aggregate and train. Rows of a file are `positions`
 * vectors of C numbers each (head.h). */
#ifndef MPISTILL_STAGES_SOURCES_H
#define MPISTILL_STAGES_SOURCES_H

#include "learn/combine.h"
#include "mpistill/mpistill.h"
#include "stages/truth.h"
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
  int64_t rows;
  form f;
  const struct live *live; /* teachers that are asked in training, in place of files; borrowed */
  int *asked;              /* [n] which of those they are */
} sources;

/* How many files there are: none where teachers are live. */
static inline int sources_n_files(const sources *s) {
  return s->files ? s->n : 0;
}

typedef struct sources_options {
  const mpistill_strings *paths;
  const mpistill_reals *weights; /* empty: equal */
  const char *method;            /* NULL: logit-mean for values, probability-mean for logits */
  bool of_logits;                /* the method is not meant for values */
  bool trust_rows;
  const char *labels; /* the array of labels that these are the classes of; NULL: of the dataset's only ones
                         (truth_is_named) */
} sources_options;

/* Collective. STATUS_BAD_INPUT for files of different datasets, splits, row counts or classes. d NULL: the
 * files are compared with each other only; sp NULL: the split they name. One file is taken as it is. */
status sources_open(sources *s, comm *c, const sources_options *o, dataset *d, const split *sp);
/* Collective. softlabels_check of all. */
status sources_check(const sources *s);
/* Local. Teachers asked[n] of those that are asked as the student learns (live.h); files stays NULL. */
status sources_open_live(sources *s, const int *asked, int n, const form *f, const sources_options *o,
                         const struct live *live);
void sources_close(sources *s);

/* Local. Calibration and weights of an ensemble that was made before from the same teachers. */
status sources_take(sources *s, const softlabels_header *ensemble);
/* Local. log_class_weights from class_weights. */
status sources_weigh_classes(sources *s);

/* Local. STATUS_BAD_INPUT when a file is an ensemble made for another temperature. */
status sources_check_temperature(const sources *s, double temperature);
/* Local. *out: the temperature that their combination for `asked` is made for, 0: any. A combination that
 * serves any is made for that of the ensembles among the files. STATUS_BAD_INPUT when one is made for
 * another. */
status sources_temperature(const sources *s, double asked, double *out);
/* Local. STATUS_BAD_INPUT when a file is made for one: for a loss whose temperature moves. */
status sources_check_any_temperature(const sources *s, const char *loss);

/* Local. The matrix [n * positions, C] of file i for rows [from, from + n), or for any rows once
 * softlabels_load was called, classes in the dataset's order. raw: scratch of as many floats. */
status sources_read(const sources *s, int i, int64_t from, int64_t n, float *raw, float *out);
status sources_rows(const sources *s, int i, const int64_t *ids, int64_t n, float *raw, float *out);

#endif
