/* The loops that operators of two broadcast inputs share. */
#ifndef MPISTILL_OPS_BINARY_H
#define MPISTILL_OPS_BINARY_H

#include "ops/support.h"

/* y[i] = f(a[i * sa], b[i * sb]); strides are 0 or 1, y may be a or b. */
typedef void binary_value(float *y, const float *a, int64_t sa, const float *b, int64_t sb, int64_t n);
/* part[i] = g[i] * df/da or df/db. */
typedef void binary_slope(float *part, const float *g, const float *a, int64_t sa, const float *b, int64_t sb,
                          int64_t n);

typedef struct binary_kernel {
  binary_value *value;                /* NULL: floats go through real, too */
  double (*real)(double, double);     /* other types than float, and the reference */
  int64_t (*whole)(int64_t, int64_t); /* both inputs integers; NULL: real */
  binary_slope *slope[2];             /* NULL: 1 */
} binary_kernel;

/* out[0] gets the broadcast shape and that type. */
status binary_infer(step *s, dtype result);
/* op.blocks of operators for which of two zeros comes zero. */
status binary_blocks(const step *s, block_use *use);
status binary_forward(step *s, const binary_kernel *k);
status binary_backward(step *s, const binary_kernel *k);

/* Defines a binary_value or binary_slope from an expression in u (of a), v (of b) and, for slopes, g; with a
 * loop of its own for each way the strides can be, so that each becomes vector code. */
#define BINARY_LOOP(target, expression)                                                                      \
  if (sa == 0) {                                                                                             \
    const float u = *a;                                                                                      \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float v = b[i];                                                                                  \
      (void)u, (void)v;                                                                                      \
      target = (expression);                                                                                 \
    }                                                                                                        \
  } else if (sb == 0) {                                                                                      \
    const float v = *b;                                                                                      \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float u = a[i];                                                                                  \
      (void)u, (void)v;                                                                                      \
      target = (expression);                                                                                 \
    }                                                                                                        \
  } else {                                                                                                   \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float u = a[i], v = b[i];                                                                        \
      (void)u, (void)v;                                                                                      \
      target = (expression);                                                                                 \
    }                                                                                                        \
  }

#define BINARY_VALUE(name, expression)                                                                       \
  FOR_EACH_PROCESSOR static void name(float *y, const float *a, int64_t sa, const float *b, int64_t sb,      \
                                      int64_t n) {                                                           \
    BINARY_LOOP(y[i], expression)                                                                            \
  }
#define BINARY_SLOPE(name, expression)                                                                       \
  FOR_EACH_PROCESSOR static void name(float *part, const float *g, const float *a, int64_t sa,               \
                                      const float *b, int64_t sb, int64_t n) {                               \
    BINARY_LOOP(part[i], g[i] * (expression))                                                                \
  }

#endif
