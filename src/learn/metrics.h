/* How good logits are against labels, and numbers against targets. Sums are made per block of rows and added
 * in block order, so that they do not depend on ranks. A row here is one position of a sample: a pixel, a
 * frame, a number. */
#ifndef MPISTILL_LEARN_METRICS_H
#define MPISTILL_LEARN_METRICS_H

#include <stdint.h>

/* Equal-width confidence bins of the expected calibration error (Guo et al. 2017). */
enum { METRIC_BINS = 15 };

typedef struct metric_sums { /* additive; only doubles, so that an array of it can be summed as numbers */
  double rows;               /* labelled rows, or numbers with a target */
  double errors;             /* argmax (lowest index on a tie) is not the label */
  double nll;                /* sum of -log softmax(logits)[label], in double */
  double bin_rows[METRIC_BINS], bin_hits[METRIC_BINS], bin_confidence[METRIC_BINS];
  double squares, distances;      /* (y - t)^2 and |y - t|, y a number and t its target */
  double targets, target_squares; /* t and t^2 */
} metric_sums;

/* Adds rows x classes logits; labels are below classes, those of -1 are skipped. */
void metric_add(metric_sums *m, const float *logits, const int32_t *labels, int64_t rows, int64_t classes);
void metric_merge(metric_sums *m, const metric_sums *other);
double metric_accuracy(const metric_sums *m); /* NaN without labelled rows, as the two below */
double metric_nll(const metric_sums *m);
double metric_ece(const metric_sums *m);
/* Adds n numbers; those whose target is NaN are skipped. */
void metric_add_values(metric_sums *m, const float *values, const float *targets, int64_t n);
double metric_mse(const metric_sums *m); /* NaN without targets, as the two below */
double metric_mae(const metric_sums *m);
/* 1 - sum (y - t)^2 / sum (t - mean t)^2 over all numbers together; NaN where all targets are the same. */
double metric_r2(const metric_sums *m);
/* areas[3, classes], all added to: rows of a class that are found, all that are said to be of it, all that
 * are of it. Rows of label -1 are skipped. */
void metric_add_areas(int64_t *areas, const float *logits, const int32_t *labels, int64_t rows,
                      int64_t classes);
/* Mean over the classes that occur of found / (said + there - found); NaN where none does. */
double metric_mean_iou(const int64_t *areas, int64_t classes);
/* Argmax with the lowest index on a tie. */
int64_t metric_argmax(const float *logits, int64_t classes);

#endif
