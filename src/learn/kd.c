#include "learn/losses.h"
#include "learn/softmax.h"

enum { LANES = SOFTMAX_LANES };

typedef struct softened {                     /* one row of each at temperature T */
  const float *student, *teacher;             /* logits */
  const float *student_terms, *teacher_terms; /* exponentials, not normalised */
  float student_share, teacher_share;         /* what makes them probabilities */
  double inverse_t, shift;                    /* 1/T; log-sum-exp of the teacher minus that of the student */
} softened;

/* Adds factor * (q - p) to the gradient and returns sum_j e_j log(p_j / q_j), e the teacher's terms. The
 * logarithm is taken of each ratio before it is summed: near the optimum the ratios are close to 1, and a
 * difference of two sums would lose them. */
static double add_row(const softened *s, int64_t n, float factor, float *restrict gradient) {
  double lanes[LANES] = {0};
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES)
    for (int k = 0; k < LANES; k++)
      lanes[k] += s->teacher_terms[j + k] *
                  (((double)s->teacher[j + k] - s->student[j + k]) * s->inverse_t - s->shift);
  for (int k = 0; j + k < n; k++)
    lanes[k] +=
        s->teacher_terms[j + k] * (((double)s->teacher[j + k] - s->student[j + k]) * s->inverse_t - s->shift);
  for (j = 0; j < n; j++)
    gradient[j] += factor * (s->student_terms[j] * s->student_share - s->teacher_terms[j] * s->teacher_share);
  return softmax_add_lanes(lanes);
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  const int64_t n = b->classes;
  const double t = options->temperature;
  const float factor = (float)(options->weight * t / (double)b->batch_rows);
  double loss = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    softened s = {.student = b->logits + i * n, .teacher = b->soft + i * n, .inverse_t = 1 / t};
    s.student_terms = b->scratch;
    s.teacher_terms = b->scratch + n;
    double student_sum, teacher_sum;
    double student_log = softmax_terms(s.student, n, s.inverse_t, b->scratch, &student_sum);
    double teacher_log = softmax_terms(s.teacher, n, s.inverse_t, b->scratch + n, &teacher_sum);
    s.shift = teacher_log - student_log;
    s.student_share = (float)(1 / student_sum);
    s.teacher_share = (float)(1 / teacher_sum);
    loss += add_row(&s, n, factor, gradient + i * n) / teacher_sum;
  }
  return b->rows ? t * t * loss / (double)b->batch_rows : 0;
}

static status check(const mpistill_loss *options) {
  double t = options->temperature;
  if (t >= 1e-3 && t <= 1e6) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "loss 'kd': temperature is %g, expected a number from 0.001 to 1000000",
                    t);
}

const loss_kind loss_kd = {
    .name = "kd",
    .formula =
        "T^2 * KL(softmax(t/T) || softmax(z/T)), mean over the rows of the batch; z the student's logits, "
        "t the teachers' (Hinton, Vinyals, Dean 2015)",
    .needs_soft = true,
    .evaluate = evaluate,
    .check = check,
};
