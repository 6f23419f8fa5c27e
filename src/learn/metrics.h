/* How good logits are against labels. Sums are made per block of rows and added in block order, so that they
 * do not depend on ranks. */
#ifndef MPISTILL_LEARN_METRICS_H
#define MPISTILL_LEARN_METRICS_H

#include <stdint.h>

/* Equal-width confidence bins of the expected calibration error (Guo et al. 2017). */
enum { METRIC_BINS = 15 };

typedef struct metric_sums { /* additive; only doubles, so that an array of it can be summed as numbers */
  double rows;               /* labelled rows */
  double errors;             /* argmax (lowest index on a tie) is not the label */
  double nll;                /* sum of -log softmax(logits)[label], in double */
  double bin_rows[METRIC_BINS], bin_hits[METRIC_BINS], bin_confidence[METRIC_BINS];
} metric_sums;

/* Adds rows x classes logits; labels are below classes, those of -1 are skipped. */
void metric_add(metric_sums *m, const float *logits, const int32_t *labels, int64_t rows, int64_t classes);
void metric_merge(metric_sums *m, const metric_sums *other);
double metric_accuracy(const metric_sums *m); /* NaN without labelled rows, as the two below */
double metric_nll(const metric_sums *m);
double metric_ece(const metric_sums *m);
/* Argmax with the lowest index on a tie. */
int64_t metric_argmax(const float *logits, int64_t classes);

#endif
