#include "ops/span.h"

#include "ops/support.h"

enum { LANES = 16 };

/* One build of these loops for each vector width; the loader picks. The sanitizers come up too late for that.
 */
#if defined __x86_64__ && defined __has_attribute && !defined __SANITIZE_ADDRESS__ && !defined __clang__
#if __has_attribute(target_clones)
#define EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef EACH_WIDTH
#define EACH_WIDTH
#endif

/* Sixteen floats at any address; the compiler cuts them to the width at hand. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

#define LANES_AT(x) (*(const lanes *)(x))

static inline float lanes_sum(const lanes *v) {
  float sum[LANES];
  for (int l = 0; l < LANES; l++) sum[l] = (*v)[l];
  for (int half = LANES / 2; half; half /= 2) {
    for (int l = 0; l < half; l++) sum[l] += sum[l + half];
  }
  return sum[0];
}

EACH_WIDTH float span_sum(const float *x, int64_t n) {
  lanes sum = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) sum += LANES_AT(x + i);
  for (int l = 0; i < n; i++, l++) sum[l] += x[i];
  return lanes_sum(&sum);
}

EACH_WIDTH float span_squares(const float *x, float center, int64_t n) {
  lanes sum = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) sum += (LANES_AT(x + i) - center) * (LANES_AT(x + i) - center);
  for (int l = 0; i < n; i++, l++) sum[l] += (x[i] - center) * (x[i] - center);
  return lanes_sum(&sum);
}

EACH_WIDTH void span_affine(const float *x, float center, float scale, float bias, float *y, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - center) * scale + bias;
}

EACH_WIDTH void span_moments(const float *x, const float *dy, float center, int64_t n, float *plain,
                             float *centered) {
  lanes a = {0}, b = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    a += LANES_AT(dy + i);
    b += LANES_AT(dy + i) * (LANES_AT(x + i) - center);
  }
  for (int l = 0; i < n; i++, l++) {
    a[l] += dy[i];
    b[l] += dy[i] * (x[i] - center);
  }
  *plain = lanes_sum(&a);
  *centered = lanes_sum(&b);
}

EACH_WIDTH void span_gradient(const float *x, const float *dy, float center, float scale, float plain,
                              float centered, bool add, float *dx, int64_t n) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] += scale * (dy[i] - plain - (x[i] - center) * centered);
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] = scale * (dy[i] - plain - (x[i] - center) * centered);
  }
}
