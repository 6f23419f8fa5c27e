#include "learn/loss_mixed.h"

#include <string.h>

/* One of the two sides of a row; its value and slope are not multiplied by `share` yet. */
static double side(const loss_kind *k, const mpistill_loss *options, const loss_batch *b, double share,
                   float *own, double *slope, float *gradient) {
  loss_batch one = *b;
  one.temperature_slope = b->temperature_slope ? slope : NULL;
  *slope = 0;
  memset(own, 0, (size_t)b->classes * sizeof *own);
  const double value = k->evaluate(options, &one, own);
  for (int64_t j = 0; j < b->classes; j++) gradient[j] += (float)(share * own[j]);
  return value;
}

double loss_mixed(const loss_kind *k, const mpistill_loss *options, const loss_batch *b, const loss_mix *m,
                  float *gradient) {
  const bool labels = k->needs_labels, soft = k->needs_soft && m->soft;
  double loss = 0;
  if (!labels && !soft) return k->evaluate(options, b, gradient);
  for (int64_t i = 0; i < b->rows; i++) {
    const int64_t at = i * b->classes;
    for (int other = 0; other < 2; other++) {
      const double share = other ? 1 - m->shares[i] : m->shares[i];
      loss_batch one = *b;
      double slope;
      one.rows = 1;
      one.logits += at;
      if (b->labels) one.labels = (other ? m->labels : b->labels) + i;
      if (b->soft) one.soft = (other && m->soft ? m->soft : b->soft) + at;
      if (share <= 0) continue;
      loss += share * side(k, options, &one, share, m->gradient, &slope, gradient + at);
      if (b->temperature_slope) *b->temperature_slope += share * slope;
    }
  }
  return loss;
}
