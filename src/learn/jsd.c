#include "learn/losses.h"
#include "learn/softmax.h"

#include <math.h>

enum { LANES = SOFTMAX_LANES };

typedef struct to_mean {
  double teacher, student; /* log(p/m), log(q/m), m = (p + q)/2 */
} to_mean;

/* From d = log(p/q) alone: the larger of both is by -log((1 + exp(-|d|))/2) above their mean, in 0 to log 2,
 * and the smaller |d| below that. Exactly 0 where they are equal. */
static to_mean logs_to_mean(double d) {
  const double larger = -log1p(expm1(-fabs(d)) / 2), smaller = larger - fabs(d);
  return d > 0 ? (to_mean){larger, smaller} : (to_mean){smaller, larger};
}

/* d JSD / d(z_j/T) = q_j (log(q_j/m_j) - sum_i q_i log(q_i/m_i)) / 2. */
static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  (void)options;
  const loss_shares s = loss_soften(r);
  const int64_t n = r->classes;
  double teacher[LANES] = {0}, student[LANES] = {0};
  for (int64_t j = 0; j < n; j++) {
    const to_mean l = logs_to_mean(loss_log_ratio(r, &s, j));
    teacher[j % LANES] += s.teacher[j] * l.teacher;
    student[j % LANES] += s.student[j] * l.student;
  }
  const double of_student = softmax_add_lanes(student) / s.student_sum;
  const double share = 0.5 * factor / s.student_sum;
  for (int64_t j = 0; j < n; j++)
    gradient[j] +=
        (float)(share * s.student[j] * (logs_to_mean(loss_log_ratio(r, &s, j)).student - of_student));
  return 0.5 * (softmax_add_lanes(teacher) / s.teacher_sum + of_student);
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, false, row, gradient);
}

static const char *const keys[] = {"temperature", "temperature_end", "temperature_schedule", "standardize",
                                   NULL};

const loss_kind loss_jsd = {
    .name = "jsd",
    .formula =
        "T^2 (KL(p || m) + KL(q || m))/2, m = (p + q)/2, mean over the rows of the batch: a quarter of "
        "kd near the optimum, never above T^2 log 2 (Lin 1991; Agarwal et al. 2024)",
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .options = keys,
    .evaluate = evaluate,
    .check = loss_check_temperature,
};
