/* One product of a shape that is known beforehand, in the fastest way for it: our own tiles (thin.h), a
 * kernel that oneDNN makes for processors with AVX-512, else OpenBLAS. */
#ifndef MPISTILL_OPS_MULTIPLY_H
#define MPISTILL_OPS_MULTIPLY_H

#include "graph/op.h"
#include "ops/dnnl.h"

/* y[m, n] = alpha op(a) op(b), or y += that with `add`; op(a) is [m, k], kept so or as [k, m] with ta, b
 * likewise as [k, n] or [n, k]. */
typedef struct multiply {
  bool ta, tb, add;
  int64_t m, n, k;
  float alpha;
  bool thin;
  product_kernel *kernel; /* NULL: none */
} multiply;

/* Local. Finds the way for the shape that stands in *p and blas_fits; the step's scratch grows to what it
 * takes. multiply_close in any case. */
status multiply_open(step *s, multiply *p);
void multiply_close(multiply *p);
/* scratch: of the step. */
status multiply_run(const multiply *p, const float *a, const float *b, float *y, void *scratch);

#endif
