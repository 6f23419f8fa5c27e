#include "learn/losses.h"
#include "learn/softmax.h"

#include <math.h>
#include <string.h>

enum { LANES = SOFTMAX_LANES };
static const double EPSILON = 1e-7; /* beside the standard deviation */

loss_shares loss_soften(const loss_row *r) {
  const int64_t n = r->classes;
  loss_shares s = {.student = r->terms, .teacher = r->terms + n};
  double student_log = softmax_terms(r->student, n, r->inverse_t, r->terms, &s.student_sum);
  double teacher_log = softmax_terms(r->teacher, n, r->inverse_t, r->terms + n, &s.teacher_sum);
  s.shift = teacher_log - student_log;
  return s;
}

/* ---- standardised logits ---- */

typedef struct spread {
  double mean, std; /* over C - 1 */
} spread;

static spread spread_of(const float *x, int64_t n) {
  double lanes[LANES] = {0}, squares[LANES] = {0};
  for (int64_t j = 0; j < n; j++) lanes[j % LANES] += x[j];
  const double mean = softmax_add_lanes(lanes) / (double)n;
  for (int64_t j = 0; j < n; j++) squares[j % LANES] += (x[j] - mean) * (x[j] - mean);
  return (spread){mean, n > 1 ? sqrt(softmax_add_lanes(squares) / (double)(n - 1)) : 0};
}

static spread standardise(const float *x, int64_t n, float *out) {
  const spread s = spread_of(x, n);
  for (int64_t j = 0; j < n; j++) out[j] = (float)((x[j] - s.mean) / (s.std + EPSILON));
  return s;
}

/* The chain rule back through it: y standardised, dy the gradient by it. The standard deviation's own
 * gradient by x_j is (x_j - mean) / ((C - 1) std) = y_j (std + epsilon) / ((C - 1) std). */
static void add_unstandardised(const spread *s, const float *y, const float *dy, int64_t n, float *gradient) {
  double sums[LANES] = {0}, products[LANES] = {0};
  for (int64_t j = 0; j < n; j++) {
    sums[j % LANES] += dy[j];
    products[j % LANES] += (double)dy[j] * y[j];
  }
  const double mean = softmax_add_lanes(sums) / (double)n, scale = 1 / (s->std + EPSILON);
  const double along = s->std > 0 ? softmax_add_lanes(products) / ((double)(n - 1) * s->std) : 0;
  for (int64_t j = 0; j < n; j++) gradient[j] += (float)((dy[j] - mean) * scale - along * y[j]);
}

/* ---- rows ---- */

static double standardised_row(const mpistill_loss *options, loss_row r, float *scratch, float factor,
                               loss_row_function value, float *gradient) {
  const int64_t n = r.classes;
  float *student = scratch, *teacher = scratch + n, *inner = scratch + 2 * n;
  const spread s = standardise(r.student, n, student);
  standardise(r.teacher, n, teacher);
  r.student = student;
  r.teacher = teacher;
  memset(inner, 0, (size_t)n * sizeof *inner);
  double v = value(options, &r, factor, inner);
  add_unstandardised(&s, student, inner, n, gradient);
  return v;
}

double loss_rows(const mpistill_loss *options, const loss_batch *b, bool labelled, loss_row_function value,
                 float *gradient) {
  const int64_t n = b->classes, mean_of = labelled ? b->batch_labelled : b->batch_rows;
  if (mean_of <= 0) return 0;
  const double t = b->temperature > 0 ? b->temperature : loss_temperature(options, b->progress);
  const float factor = (float)(options->weight * t / (double)mean_of);
  double loss = 0, by_scale = 0, slopes = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    loss_row r = {.classes = n,
                  .student = b->logits + i * n,
                  .teacher = b->soft + i * n,
                  .label = labelled ? b->labels[i] : -1,
                  .inverse_t = 1 / t,
                  .terms = b->scratch,
                  .by_scale = b->temperature_slope ? &by_scale : NULL};
    float *g = gradient + i * n;
    if (isnan(r.teacher[0]) || (labelled && r.label < 0)) continue;
    loss += options->standardize ? standardised_row(options, r, b->scratch + 2 * n, factor, value, g)
                                 : value(options, &r, factor, g);
    slopes += by_scale;
  }
  if (b->temperature_slope)
    *b->temperature_slope += options->weight * (2 * t * loss - slopes) / (double)mean_of;
  return t * t * loss / (double)mean_of;
}
