/* Metrics of a classifier over a split, shared by evaluate, train and run. */
#ifndef MPISTILL_STAGES_EVALUATE_H
#define MPISTILL_STAGES_EVALUATE_H

#include "base/progress.h"
#include "learn/metrics.h"
#include "mpistill/mpistill.h"
#include "stages/predict.h"

#include <jansson.h>

/* Collective. Rows are divided in fixed blocks over the ranks; the sums are the same on any number of them.
 */
status evaluate_rows(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                     int threads, bool show, metric_sums *out);

/* Collective. The split's labels, NULL without any. */
status labels_open(rows **out, dataset *d, const split *sp);
/* Local. Labels of rows [from, from + n); -1 without labels (d and sp may be NULL then). STATUS_BAD_INPUT
 * naming the row for those that are no class. */
status labels_read(rows *labels, int64_t from, int64_t n, int64_t classes, const dataset *d, const split *sp,
                   int32_t *out);

/* Collective; rank 0 measures. Seconds of one row through the model, one thread: the median after a warm-up.
 */
status evaluate_latency(comm *c, const classifier *k, const float *block, double *seconds);

/* "samples", "errors", "accuracy", "nll", "ece". */
json_t *metrics_json(const metric_sums *m);

#endif
