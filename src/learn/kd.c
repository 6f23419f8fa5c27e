#include "learn/losses.h"
#include "learn/softmax.h"

enum { LANES = SOFTMAX_LANES };

/* The logarithm is taken of each ratio before it is summed: near the optimum the ratios are close to 1, and a
 * difference of two sums would lose them. */
/* dK/du, u = 1/T: the covariance under p of t and log(p/q), less the difference of the means of z under p and
 * q.
 */
static double slope_by_scale(const loss_row *r, const loss_shares *s, double value) {
  double teacher = 0, mine = 0, its = 0, both = 0;
  for (int64_t j = 0; j < r->classes; j++) {
    const double p = s->teacher[j] / s->teacher_sum, q = s->student[j] / s->student_sum;
    teacher += p * r->teacher[j];
    both += p * r->teacher[j] * loss_log_ratio(r, s, j);
    its += p * r->student[j];
    mine += q * r->student[j];
  }
  return both - teacher * value - (its - mine);
}

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
  const double value = softmax_add_lanes(lanes) / s.teacher_sum;
  if (r->by_scale) *r->by_scale = slope_by_scale(r, &s, value);
  return value;
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

static const char *const keys[] = {"temperature",       "temperature_end", "temperature_schedule",
                                   "learn_temperature", "standardize",     NULL};

const loss_kind loss_kd = {
    .name = "kd",
    .formula =
        "T^2 KL(p || q), mean over the rows of the batch (Hinton, Vinyals, Dean 2015); standardize: of "
        "z and t standardised row by row, (z - mean)/(std + 1e-7), std^2 the sum of squares / (C - 1) (Sun "
        "et al. 2024, T = 2); "
        "learn_temperature: T = 1 + 20/(1 + e^-x) "
        "from the one "
        "given on, x trained to make the loss larger, by (1 - cos(pi progress))/2 (CTKD, Li et al. 2023)",
    .needs_soft = true,
    .learns_temperature = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .options = keys,
    .evaluate = evaluate,
    .check = loss_check_temperature,
};
