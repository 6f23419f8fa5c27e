#include "learn/losses.h"
#include "learn/softmax.h"

#include <math.h>
#include <string.h>

/* Beside a product of norms: a vector that does not vary has no correlation and asks for nothing. */
static const double EPSILON = 1e-8;

typedef struct pair { /* two vectors of n elements, `stride` apart */
  const double *student, *teacher;
  int64_t n, stride;
  double student_mean, teacher_mean;
  double r;                            /* their correlation */
  double teacher_share, student_share; /* of its slope by the student */
} pair;

/* r = (ab + e) / (|a| |b| + e), a and b the centred vectors: exactly 1 where they are equal. */
static void correlate(pair *p) {
  double a_sum = 0, b_sum = 0, ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < p->n; i++) {
    a_sum += p->student[i * p->stride];
    b_sum += p->teacher[i * p->stride];
  }
  p->student_mean = a_sum / (double)p->n;
  p->teacher_mean = b_sum / (double)p->n;
  for (int64_t i = 0; i < p->n; i++) {
    const double a = p->student[i * p->stride] - p->student_mean,
                 b = p->teacher[i * p->stride] - p->teacher_mean;
    ab += a * b;
    aa += a * a;
    bb += b * b;
  }
  const double norms = sqrt(aa * bb), below = norms + EPSILON;
  p->r = (ab + EPSILON) / below;
  p->teacher_share = 1 / below;
  p->student_share = norms > 0 ? p->r * (bb / norms) / below : 0;
}

/* dr/d(student_i) = (b_i - r |b|/|a| a_i) / (|a| |b| + e); the mean's own share is 0, as a and b sum to 0. */
static double slope(const pair *p, int64_t i) {
  return (p->teacher[i * p->stride] - p->teacher_mean) * p->teacher_share -
         (p->student[i * p->stride] - p->student_mean) * p->student_share;
}

/* In double: where a class hardly varies, its correlation is one of small differences. */
static void probabilities(const float *z, int64_t n, double inverse_t, double *out) {
  double sum, log_sum = softmax_terms(z, n, inverse_t, NULL, &sum);
  for (int64_t j = 0; j < n; j++) out[j] = z[j] * inverse_t - log_sum;
  softmax_exp(out, n);
}

/* The rows that have an answer, one after the other in the scratch: student's, then teacher's. */
static int64_t soften(const loss_batch *b, double inverse_t, double *student, double *teacher) {
  const int64_t n = b->classes;
  int64_t m = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    if (isnan(b->soft[i * n])) continue;
    probabilities(b->logits + i * n, n, inverse_t, student + m * n);
    probabilities(b->soft + i * n, n, inverse_t, teacher + m * n);
    m++;
  }
  return m;
}

/* 1 - r of a pair; adds its slope by the student, times factor, to slopes, which lie as the student does. */
static double relate(pair p, double factor, double *slopes) {
  correlate(&p);
  for (int64_t i = 0; i < p.n; i++) slopes[i * p.stride] -= factor * slope(&p, i);
  return 1 - p.r;
}

/* dz_j = q_j (s_j - sum_i q_i s_i): back through the softmax; 1/T is in the factors. */
static void add_through_softmax(const double *q, const double *slopes, int64_t n, float *restrict gradient) {
  double lanes[SOFTMAX_LANES] = {0};
  for (int64_t j = 0; j < n; j++) lanes[j % SOFTMAX_LANES] += q[j] * slopes[j];
  const double mean = softmax_add_lanes(lanes);
  for (int64_t j = 0; j < n; j++) gradient[j] += (float)(q[j] * (slopes[j] - mean));
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  const int64_t n = b->classes;
  const double t = loss_temperature(options, b->progress), batch = (double)b->batch_rows;
  double *student = (double *)b->scratch, *teacher = student + b->rows * n, *slopes = teacher + b->rows * n;
  const int64_t m = soften(b, 1 / t, student, teacher);
  const double factor = options->weight * t / batch, share = options->gamma * (double)m / (double)n;
  double rows = 0, classes = 0;
  memset(slopes, 0, (size_t)(m * n) * sizeof *slopes);
  for (int64_t i = 0; i < m; i++)
    rows += relate((pair){.student = student + i * n, .teacher = teacher + i * n, .n = n, .stride = 1},
                   factor, slopes + i * n);
  for (int64_t j = 0; j < n && share > 0 && m > 1; j++)
    classes += relate((pair){.student = student + j, .teacher = teacher + j, .n = m, .stride = n},
                      factor * share, slopes + j);
  for (int64_t i = 0, at = 0; i < b->rows; i++) {
    if (isnan(b->soft[i * n])) continue;
    add_through_softmax(student + at * n, slopes + at * n, n, gradient + i * n);
    at++;
  }
  return m ? t * t * (rows + share * classes) / batch : 0;
}

static const char *const keys[] = {"temperature", "temperature_end", "temperature_schedule", "gamma", NULL};

const loss_kind loss_dist = {
    .name = "dist",
    .formula =
        "T^2 (1 - r(p_i, q_i), mean over the rows i of the batch, + gamma (1 - r(p_c, q_c)), mean over the "
        "classes c), r Pearson's correlation over the classes of a row and over the rows of a class, "
        "1 where one of the two is constant; gamma 1 (Huang et al. 2022). The second part sees the rows of "
        "one shard, weighed by their "
        "number: --shards decides what is compared",
    .needs_soft = true,
    .relates_rows = true,
    .options = keys,
    .evaluate = evaluate,
    .check = loss_check_temperature,
};
