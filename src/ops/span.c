#include "ops/span.h"

#include "ops/support.h"

enum { QUADS = 4, LANES = 4 * QUADS };

/* Four floats at any address, in a register on every processor: wider ones would be cut up in memory on those
 * that lack them. Four of them keep the adders busy. */
typedef float quad __attribute__((vector_size(4 * sizeof(float)), aligned(4), may_alias));

#define QUAD_AT(x) (*(const quad *)(x))

static inline float lanes_sum(const quad *sum) {
  quad all = (sum[0] + sum[2]) + (sum[1] + sum[3]);
  return (all[0] + all[2]) + (all[1] + all[3]);
}

float span_sum(const float *x, int64_t n) {
  quad sum[QUADS] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int q = 0; q < QUADS; q++) sum[q] += QUAD_AT(x + i + 4 * q);
  }
  float rest = 0;
  for (; i < n; i++) rest += x[i];
  return lanes_sum(sum) + rest;
}

float span_squares(const float *x, float center, int64_t n) {
  quad sum[QUADS] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int q = 0; q < QUADS; q++) {
      quad d = QUAD_AT(x + i + 4 * q) - center;
      sum[q] += d * d;
    }
  }
  float rest = 0;
  for (; i < n; i++) rest += (x[i] - center) * (x[i] - center);
  return lanes_sum(sum) + rest;
}

FOR_EACH_PROCESSOR void span_affine(const float *x, float center, float scale, float bias, float *y,
                                    int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - center) * scale + bias;
}

void span_moments(const float *x, const float *dy, float center, int64_t n, float *plain, float *centered) {
  quad a[QUADS] = {0}, b[QUADS] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int q = 0; q < QUADS; q++) {
      quad d = QUAD_AT(dy + i + 4 * q);
      a[q] += d;
      b[q] += d * (QUAD_AT(x + i + 4 * q) - center);
    }
  }
  float rest_a = 0, rest_b = 0;
  for (; i < n; i++) {
    rest_a += dy[i];
    rest_b += dy[i] * (x[i] - center);
  }
  *plain = lanes_sum(a) + rest_a;
  *centered = lanes_sum(b) + rest_b;
}

FOR_EACH_PROCESSOR void span_gradient(const float *x, const float *dy, float center, float scale, float plain,
                                      float centered, bool add, float *dx, int64_t n) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] += scale * (dy[i] - plain - (x[i] - center) * centered);
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] = scale * (dy[i] - plain - (x[i] - center) * centered);
  }
}
