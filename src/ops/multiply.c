#include "ops/multiply.h"

#include "ops/blas.h"
#include "ops/thin.h"

/* Below that the library's calls take longer than its kernels save. */
enum { LEAST_PRODUCTS = 64 * 64 * 64 };

static size_t scratch_bytes(const multiply *p) {
  if (p->kernel) return product_kernel_scratch_bytes(p->kernel);
  return p->thin ? thin_scratch_bytes(p->ta, p->tb, p->m, p->n, p->k) : 0;
}

status multiply_open(step *s, multiply *p) {
  status st = STATUS_OK;
  p->thin = p->alpha == 1 && thin_suits(p->ta, p->tb, p->m, p->n, p->k);
  if (!p->thin && p->alpha == 1 && p->k <= PRODUCT_K_MAX && p->m * p->n >= LEAST_PRODUCTS / p->k)
    st = product_kernel_new(&p->kernel, &(product_shape){.batch = 1,
                                                         .m = p->m,
                                                         .n = p->n,
                                                         .k = p->k,
                                                         .turned = p->ta,
                                                         .transposed = p->tb,
                                                         .add = p->add,
                                                         .fast = true});
  const size_t bytes = scratch_bytes(p);
  if (bytes > s->scratch_bytes) s->scratch_bytes = bytes;
  return st;
}

void multiply_close(multiply *p) {
  product_kernel_free(&p->kernel);
}

status multiply_run(const multiply *p, const float *a, const float *b, float *y, void *scratch) {
  if (p->kernel) return product_kernel_run(p->kernel, a, b, NULL, y, scratch);
  if (p->thin)
    thin_product(p->ta, p->tb, p->m, p->n, p->k, a, b, p->add, y, scratch);
  else
    blas_product(p->ta, p->tb, p->m, p->n, p->k, p->alpha, a, b, p->add, y);
  return STATUS_OK;
}
