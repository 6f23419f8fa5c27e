/* Row-major matrix products on OpenBLAS, and sums of rows. OpenBLAS falls back to SSE on processors younger
 * than itself; there products are oneDNN's. */
#ifndef MPISTILL_OPS_BLAS_H
#define MPISTILL_OPS_BLAS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Local, once and before threads. */
void blas_init(void);
/* Local. Whether OpenBLAS runs on kernels for processors without AVX2. */
bool blas_is_makeshift(void);

/* y[m, n] = alpha op(a) op(b) + beta y, rows of a, b and y being a_row, b_row and y_row elements apart. op(a)
 * is [m, k]: `a` holds it so, or as [k, m] with ta; b likewise [k, n]. */
void blas_product_rows(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                       int64_t a_row, const float *b, int64_t b_row, float beta, float *y, int64_t y_row);

/* The same without gaps between rows. */
static inline void blas_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                                const float *a, const float *b, float beta, float *y) {
  blas_product_rows(ta, tb, m, n, k, alpha, a, ta ? m : k, b, tb ? k : n, beta, y, n);
}

/* blasint is an int in this build: larger matrices take the reference path. */
static inline bool blas_fits(int64_t m, int64_t n, int64_t k) {
  return m > 0 && n > 0 && k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX;
}

/* to[n] (+)= scale * the sum of the m rows of y[m, n], always from the first row to the last. */
static inline void rows_sum(int64_t m, int64_t n, float scale, const float *restrict y, bool accumulate,
                            float *restrict to) {
  if (!accumulate) memset(to, 0, (size_t)n * sizeof *to);
  for (int64_t i = 0; i < m; i++) {
    const float *restrict row = y + i * n;
    for (int64_t j = 0; j < n; j++) to[j] += scale * row[j];
  }
}

#endif
