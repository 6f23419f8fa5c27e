#include "ops/reference.h"

/* Integers are summed in uint64_t, where overflow wraps instead of being undefined. */
#define PRODUCT(name, type, sum_type, signed_type)                                                           \
  static void name(const product *p, const type *a, const type *b, type *y) {                                \
    for (int64_t i = 0; i < p->m; i++) {                                                                     \
      for (int64_t j = 0; j < p->n; j++) {                                                                   \
        sum_type sum = 0;                                                                                    \
        for (int64_t k = 0; k < p->k; k++) {                                                                 \
          sum += (sum_type)a[i * p->a_row + k * p->a_column] * (sum_type)b[k * p->b_row + j * p->b_column];  \
        }                                                                                                    \
        if (p->alpha != 1.0) sum = (sum_type)(signed_type)(p->alpha * (double)(signed_type)sum);             \
        type *at = y + i * p->y_row + j * p->y_column;                                                       \
        *at = (type)(p->accumulate ? (sum_type)*at + sum : sum);                                             \
      }                                                                                                      \
    }                                                                                                        \
  }

PRODUCT(product_float, float, double, double)
PRODUCT(product_double, double, double, double)
PRODUCT(product_int32, int32_t, uint64_t, int64_t)
PRODUCT(product_int64, int64_t, uint64_t, int64_t)

void product_reference(dtype type, const product *p, const void *a, const void *b, void *y) {
  switch (type) {
  case DTYPE_DOUBLE:
    product_double(p, a, b, y);
    break;
  case DTYPE_INT32:
    product_int32(p, a, b, y);
    break;
  case DTYPE_INT64:
    product_int64(p, a, b, y);
    break;
  default:
    product_float(p, a, b, y);
    break;
  }
}
