/* Metrics of a model over a split, shared by evaluate, train and run. */
#ifndef MPISTILL_STAGES_EVALUATE_H
#define MPISTILL_STAGES_EVALUATE_H

#include "base/progress.h"
#include "learn/metrics.h"
#include "mpistill/mpistill.h"
#include "stages/predict.h"

#include <jansson.h>

/* Of one output over rows. */
typedef struct score {
  bool values; /* numbers against targets, not logits against labels */
  bool dense;  /* of several positions a row: mean_iou is known */
  metric_sums sums;
  double mean_iou;
} score;

/* Collective. out[k->n_heads]. Rows are divided in fixed blocks over the ranks; the sums are the same on any
 * number of them. */
status evaluate_rows(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                     int threads, bool show, score *out);

/* Local, the same on all ranks. STATUS_FAILED when a trained model's outputs there, in scores[n], are not
 * finite. */
status evaluate_check(const score *scores, int n, const char *path, const char *split);

/* Collective; rank 0 measures. Seconds of one row through the model, one thread: the median after a warm-up.
 */
status evaluate_latency(comm *c, const classifier *k, const float *block, double *seconds);

/* "samples", "errors", "accuracy", "nll", "ece", and for several positions a row "mean_iou"; of numbers
 * "samples", "mse", "mae", "r2". */
json_t *score_json(const score *m);
/* "accuracy 0.9 (36 errors of 360), nll 0.3". */
void score_text(const score *m, char *out, size_t n);

#endif
