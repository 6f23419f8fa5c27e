/* Row-major matrix products on OpenBLAS, and sums of rows. */
#ifndef MPISTILL_OPS_BLAS_H
#define MPISTILL_OPS_BLAS_H

#include <cblas.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* y[m, n] = alpha op(a) op(b) + beta y. op(a) is [m, k]: `a` holds it so, or as [k, m] with ta; b likewise
 * [k, n]. */
static inline void blas_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                                const float *a, const float *b, float beta, float *y) {
  cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m,
              (blasint)n, (blasint)k, alpha, a, (blasint)(ta ? m : k), b, (blasint)(tb ? k : n), beta, y,
              (blasint)n);
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
