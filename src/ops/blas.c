#include "ops/blas.h"

#include "ops/dnnl.h"

#include <cblas.h>
#include <stdatomic.h>
#include <string.h>

static atomic_bool makeshift;

/* What OpenBLAS names its kernels for processors with AVX2 and more. */
void blas_init(void) {
  static const char *const known[] = {"Haswell",  "Zen",        "Excavator",
                                      "SkylakeX", "Cooperlake", "Sapphirerapids"};
  bool found = false;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    found |= strcmp(openblas_get_corename(), known[i]) == 0;
  atomic_store(&makeshift, !found);
}

bool blas_is_makeshift(void) {
  return atomic_load_explicit(&makeshift, memory_order_relaxed);
}

/* oneDNN makes its kernels for the processor it runs on, but looks for memory with every such product. */
static void product_of_library(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                               int64_t a_row, const float *b, int64_t b_row, float beta, float *y,
                               int64_t y_row) {
  if (blas_is_makeshift() && dnnl_product(ta, tb, m, n, k, alpha, a, a_row, b, b_row, beta, y, y_row)) return;
  cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m,
              (blasint)n, (blasint)k, alpha, a, (blasint)a_row, b, (blasint)b_row, beta, y, (blasint)y_row);
}

void blas_product_rows(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                       int64_t a_row, const float *b, int64_t b_row, float beta, float *y, int64_t y_row) {
  const int64_t most = blas_is_makeshift() ? PRODUCT_K_MAX : k;
  int64_t at = 0;
  do {
    const int64_t piece = k - at < most ? k - at : most;
    product_of_library(ta, tb, m, n, piece, alpha, a + at * (ta ? a_row : 1), a_row,
                       b + at * (tb ? 1 : b_row), b_row, at ? 1 : beta, y, y_row);
    at += piece;
  } while (at < k);
}
