#include "learn/losses.h"
#include "learn/softmax.h"

#include <math.h>

enum { LANES = SOFTMAX_LANES };
static const double LEAST = 1e-8; /* a row shorter than that has no direction */

/* With the directions u of z and v of t: 1 - cos = |u - v|^2 / 2, which keeps its digits where they are
 * alike. Its gradient by z is (cos u - v) / |z| = ((u - v) - (1 - cos) u) / |z|. */
static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  (void)options;
  const int64_t n = r->classes;
  double zz[LANES] = {0}, tt[LANES] = {0}, apart[LANES] = {0};
  for (int64_t j = 0; j < n; j++) {
    zz[j % LANES] += (double)r->student[j] * r->student[j];
    tt[j % LANES] += (double)r->teacher[j] * r->teacher[j];
  }
  const double z = sqrt(softmax_add_lanes(zz)), t = sqrt(softmax_add_lanes(tt));
  if (z < LEAST || t < LEAST) return z < LEAST && t < LEAST ? 0 : 1;
  for (int64_t j = 0; j < n; j++) {
    const double d = r->student[j] / z - r->teacher[j] / t;
    apart[j % LANES] += d * d;
  }
  const double value = softmax_add_lanes(apart) / 2, share = factor / z;
  for (int64_t j = 0; j < n; j++)
    gradient[j] += (float)(share * ((r->student[j] / z - r->teacher[j] / t) - value * r->student[j] / z));
  return value;
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

const loss_kind loss_cosine = {
    .name = "cosine",
    .formula = "1 - z.t / (|z| |t|), mean over the rows of the batch: the directions, not the sizes; no "
               "temperature (as in DistilBERT, Sanh et al. 2019)",
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .evaluate = evaluate,
};
