#include "learn/losses.h"
#include "learn/softmax.h"

enum { LANES = SOFTMAX_LANES };

/* The logarithm is taken of each ratio before it is summed: near the optimum the ratios are close to 1, and a
 * difference of two sums would lose them. */
static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  (void)options;
  const loss_shares s = loss_soften(r);
  const float student_share = (float)(1 / s.student_sum), teacher_share = (float)(1 / s.teacher_sum);
  const int64_t n = r->classes;
  double lanes[LANES] = {0};
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES)
    for (int k = 0; k < LANES; k++) lanes[k] += s.teacher[j + k] * loss_log_ratio(r, &s, j + k);
  for (int k = 0; j + k < n; k++) lanes[k] += s.teacher[j + k] * loss_log_ratio(r, &s, j + k);
  for (j = 0; j < n; j++)
    gradient[j] += factor * (s.student[j] * student_share - s.teacher[j] * teacher_share);
  return softmax_add_lanes(lanes) / s.teacher_sum;
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

static const char *const keys[] = {"temperature", "temperature_end", "temperature_schedule", "standardize",
                                   NULL};

const loss_kind loss_kd = {
    .name = "kd",
    .formula =
        "T^2 KL(p || q), mean over the rows of the batch (Hinton, Vinyals, Dean 2015); standardize: of "
        "z and t standardised row by row (Sun et al. 2024, T = 2)",
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .options = keys,
    .evaluate = evaluate,
    .check = loss_check_temperature,
};
