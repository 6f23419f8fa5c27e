#include "learn/losses.h"
#include "learn/softmax.h"

enum { LANES = SOFTMAX_LANES };

static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  (void)options;
  const int64_t n = r->classes;
  const double share = 2.0 * factor / (double)n;
  double lanes[LANES] = {0};
  for (int64_t j = 0; j < n; j++) {
    const double d = (double)r->student[j] - r->teacher[j];
    lanes[j % LANES] += d * d;
    gradient[j] += (float)(share * d);
  }
  return softmax_add_lanes(lanes) / (double)n;
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

const loss_kind loss_logit_mse = {
    .name = "logit-mse",
    .formula =
        "(z - t)^2, mean over classes and the rows of the batch; no temperature (Ba, Caruana 2014; Kim et "
        "al. 2021)",
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .evaluate = evaluate,
};
