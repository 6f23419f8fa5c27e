#include "learn/features.h"

#include <math.h>

static const double LEAST = 1e-12; /* a map shorter than that has no direction */

static status check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  (void)o;
  return feature_same_positions("attention", student, teacher);
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)rows, (void)teacher;
  return 2 * (size_t)student->positions;
}

/* out[positions] = the sum of squares over channels, at length 1. Returns the length before. */
static double attention_of(const feature_map *m, int64_t row, double *out) {
  double squares = 0;
  for (int64_t p = 0; p < m->positions; p++) {
    out[p] = 0;
    for (int64_t c = 0; c < m->channels; c++) {
      const double x = m->values[feature_at(m, row, c, p)];
      out[p] += x * x;
    }
    squares += out[p] * out[p];
  }
  const double length = sqrt(squares), divisor = length > LEAST ? length : LEAST;
  for (int64_t p = 0; p < m->positions; p++) out[p] /= divisor;
  return length;
}

/* u the student's map, d = u - the teacher's: dA = 2 (d - u (u.d)) / |A|, and dA/ds = 2 s. */
static double row(const feature_batch *b, int64_t r, double factor) {
  const feature_map *m = &b->student[0];
  double *u = b->scratch, *d = u + m->positions, value = 0, along = 0;
  const double length = attention_of(m, r, u);
  attention_of(&b->teacher[0], r, d);
  for (int64_t p = 0; p < m->positions; p++) {
    d[p] = u[p] - d[p];
    value += d[p] * d[p];
    along += u[p] * d[p];
  }
  for (int64_t p = 0; length > LEAST && p < m->positions; p++) {
    const double slope = factor * 4 * (d[p] - u[p] * along) / length;
    for (int64_t c = 0; c < m->channels; c++) {
      const int64_t at = feature_at(m, r, c, p);
      b->gradient[0][at] += (float)(slope * m->values[at]);
    }
  }
  return value;
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  double sum = 0;
  for (int64_t r = 0; r < b->rows; r++) sum += row(b, r, o->weight / (double)b->batch_rows);
  return sum / (double)b->batch_rows;
}

const feature_kind feature_attention = {
    .name = "attention",
    .formula =
        "|A(s)/|A(s)| - A(t)/|A(t)||^2, mean over rows, A = the mean over channels of the squares, at each "
        "position (Zagoruyko, Komodakis 2017). Authors' code divides by the number of positions too",
    .check = check,
    .scratch = scratch,
    .evaluate = evaluate,
};
