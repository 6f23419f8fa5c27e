#include "learn/metrics.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>

int64_t metric_argmax(const float *logits, int64_t classes) {
  int64_t best = 0;
  for (int64_t j = 1; j < classes; j++)
    if (logits[j] > logits[best]) best = j;
  return best;
}

/* Bins are open below and closed above: (b/15, (b+1)/15]. */
static int bin_of(double confidence) {
  int bin = confidence > 0 ? (int)ceil(confidence * METRIC_BINS) - 1 : 0;
  return bin < METRIC_BINS ? bin : METRIC_BINS - 1;
}

static void add_row(metric_sums *m, const float *logits, int32_t label, int64_t classes) {
  double sum;
  double log_sum = softmax_terms(logits, classes, 1, NULL, &sum);
  int64_t best = metric_argmax(logits, classes);
  double confidence = exp(logits[best] - log_sum);
  int bin = bin_of(confidence);
  m->rows++;
  m->errors += best != label;
  m->nll += log_sum - logits[label];
  m->bin_rows[bin]++;
  m->bin_hits[bin] += best == label;
  m->bin_confidence[bin] += confidence;
}

void metric_add(metric_sums *m, const float *logits, const int32_t *labels, int64_t rows, int64_t classes) {
  for (int64_t i = 0; i < rows; i++)
    if (labels[i] >= 0) add_row(m, logits + i * classes, labels[i], classes);
}

void metric_merge(metric_sums *m, const metric_sums *other) {
  double *to = (double *)m;
  const double *from = (const double *)other;
  for (size_t i = 0; i < sizeof *m / sizeof *to; i++) to[i] += from[i];
}

double metric_accuracy(const metric_sums *m) {
  return m->rows > 0 ? 1 - m->errors / m->rows : NAN;
}

double metric_nll(const metric_sums *m) {
  return m->rows > 0 ? m->nll / m->rows : NAN;
}

double metric_ece(const metric_sums *m) {
  double gap = 0;
  for (int b = 0; b < METRIC_BINS; b++) gap += fabs(m->bin_hits[b] - m->bin_confidence[b]);
  return m->rows > 0 ? gap / m->rows : NAN;
}

void metric_add_values(metric_sums *m, const float *values, const float *targets, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (isnan(targets[i])) continue;
    const double t = targets[i], away = values[i] - t;
    m->rows++;
    m->squares += away * away;
    m->distances += fabs(away);
    m->targets += t;
    m->target_squares += t * t;
  }
}

double metric_mse(const metric_sums *m) {
  return m->rows > 0 ? m->squares / m->rows : NAN;
}

double metric_mae(const metric_sums *m) {
  return m->rows > 0 ? m->distances / m->rows : NAN;
}

double metric_r2(const metric_sums *m) {
  const double spread = m->target_squares - m->targets * m->targets / m->rows;
  return m->rows > 0 && spread > 0 ? 1 - m->squares / spread : NAN;
}

void metric_add_areas(int64_t *areas, const float *logits, const int32_t *labels, int64_t rows,
                      int64_t classes) {
  int64_t *found = areas, *said = areas + classes, *there = areas + 2 * classes;
  for (int64_t i = 0; i < rows; i++) {
    if (labels[i] < 0) continue;
    const int64_t best = metric_argmax(logits + i * classes, classes);
    said[best]++;
    there[labels[i]]++;
    found[best] += best == labels[i];
  }
}

double metric_mean_iou(const int64_t *areas, int64_t classes) {
  double sum = 0;
  int64_t n = 0;
  for (int64_t c = 0; c < classes; c++) {
    const int64_t all = areas[classes + c] + areas[2 * classes + c] - areas[c];
    if (!all) continue;
    sum += (double)areas[c] / (double)all;
    n++;
  }
  return n ? sum / (double)n : NAN;
}
