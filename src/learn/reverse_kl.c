#include "learn/losses.h"
#include "learn/softmax.h"

enum { LANES = SOFTMAX_LANES };

/* d KL(q || p) / d(z_j/T) = q_j (log(q_j / p_j) - KL). */
static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  (void)options;
  const loss_shares s = loss_soften(r);
  const int64_t n = r->classes;
  double lanes[LANES] = {0};
  for (int64_t j = 0; j < n; j++) lanes[j % LANES] -= s.student[j] * loss_log_ratio(r, &s, j);
  const double value = softmax_add_lanes(lanes) / s.student_sum, share = factor / s.student_sum;
  for (int64_t j = 0; j < n; j++)
    gradient[j] += (float)(share * s.student[j] * (-loss_log_ratio(r, &s, j) - value));
  return value;
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

static const char *const keys[] = {"temperature", "temperature_end", "temperature_schedule", "standardize",
                                   NULL};

const loss_kind loss_reverse_kl = {
    .name = "reverse-kl",
    .formula = "T^2 KL(q || p), mean over the rows of the batch: the student keeps to what the teachers find "
               "likely, rather than cover all of it (Gu et al. 2024)",
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .options = keys,
    .evaluate = evaluate,
    .check = loss_check_temperature,
};
