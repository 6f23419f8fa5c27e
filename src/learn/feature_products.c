#include "learn/features.h"

#include <string.h>

enum { LANES = 8 };

static double product(const float *a, const float *b, int64_t n) {
  double lanes[LANES] = {0}, sum = 0;
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES)
    for (int l = 0; l < LANES; l++) lanes[l] += (double)a[j + l] * b[j + l];
  for (; j < n; j++) lanes[j % LANES] += (double)a[j] * b[j];
  for (int l = 0; l < LANES; l++) sum += lanes[l];
  return sum;
}

void feature_products(const feature_map *m, int64_t rows, double *g) {
  const int64_t n = m->row_values;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j <= i; j++)
      g[i * rows + j] = g[j * rows + i] = product(m->values + i * n, m->values + j * n, n);
}

void feature_products_back(const feature_map *m, int64_t rows, const double *dg, double factor, double *row,
                           float *gradient) {
  const int64_t n = m->row_values;
  for (int64_t i = 0; i < rows; i++) {
    memset(row, 0, (size_t)n * sizeof *row);
    for (int64_t j = 0; j < rows; j++) {
      const double share = factor * (dg[i * rows + j] + dg[j * rows + i]);
      const float *restrict x = m->values + j * n;
      for (int64_t k = 0; k < n; k++) row[k] += share * x[k];
    }
    for (int64_t k = 0; k < n; k++) gradient[i * n + k] += (float)row[k];
  }
}
