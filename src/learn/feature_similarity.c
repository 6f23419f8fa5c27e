#include "learn/features.h"

#include <math.h>

static const double LEAST = 1e-12;

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)teacher;
  return (size_t)(2 * rows * rows + student->row_values);
}

/* A row at length 1; returns its length before. */
static double normalise(double *g, int64_t n) {
  double squares = 0;
  for (int64_t j = 0; j < n; j++) squares += g[j] * g[j];
  const double length = sqrt(squares);
  for (int64_t j = 0; j < n; j++) g[j] /= length > LEAST ? length : LEAST;
  return length;
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const int64_t n = b->rows;
  double *s = b->scratch, *t = s + n * n, *row = t + n * n, sum = 0;
  const double share = 1 / ((double)n * (double)b->batch_rows); /* 1/n^2, times n/batch rows */
  feature_products(&b->student[0], n, s);
  feature_products(&b->teacher[0], n, t);
  for (int64_t i = 0; i < n; i++) {
    double *u = s + i * n, *d = t + i * n, along = 0;
    const double length = normalise(u, n);
    normalise(d, n);
    for (int64_t j = 0; j < n; j++) {
      d[j] = u[j] - d[j];
      sum += d[j] * d[j];
      along += u[j] * d[j];
    }
    for (int64_t j = 0; j < n; j++) d[j] = length > LEAST ? 2 * (d[j] - u[j] * along) / length : 0;
  }
  feature_products_back(&b->student[0], n, t, o->weight * share, row, b->gradient[0]);
  return sum * share;
}

const feature_kind feature_similarity = {
    .name = "similarity",
    .formula = "|N(t t') - N(s s')|^2 / rows^2 over the rows of a shard, N: each row of the matrix at length "
               "1; tensors "
               "are taken as one vector a row, of any two shapes (Tung, Mori 2019)",
    .relates_rows = true,
    .scratch = scratch,
    .evaluate = evaluate,
};
