/* exp, tanh, sigmoid, erf and the normal distribution of floats without branches or calls, so that loops over
 * them become vector code; the C library's are an order slower in activations and softmax. Each is within a
 * few units in the last place of the true value (tests/unit/ops/test_curve.c), infinities and NaN included.
 * The coefficients are our own near-minimax fits. */
#ifndef MPISTILL_OPS_CURVE_H
#define MPISTILL_OPS_CURVE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* 2^n for -126 <= n <= 127, n given as a float. */
static inline float curve_power_of_two(float n) {
  int32_t bits = ((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

/* exp(x) = 2^k exp(r), |r| <= log(2)/2, exp(r) = 1 + r + r^2 P(r): returns exp(r). */
static inline float curve_reduced(float x, float *k) {
  const float round = 0x1.8p23f; /* adding and taking it away rounds to the nearest integer */
  *k = x * 1.44269504f + round - round;
  float r = x - *k * 0x1.62e4p-1f; /* log(2) in two pieces: the first has few bits, so the product is exact */
  r = r - *k * 0x1.7f7d1cp-20f;
  float p = 1.38144e-3f;
  p = p * r + 8.3688e-3f;
  p = p * r + 4.16684e-2f;
  p = p * r + 1.666652e-1f;
  p = p * r + 4.9999993e-1f;
  return p * (r * r) + r + 1.0f;
}

static inline float curve_exp(float x) {
  const float round = 0x1.8p23f;
  float limited = x > 89.0f ? 89.0f : x, k;
  limited = limited > -104.0f ? limited : -104.0f;
  float p = curve_reduced(limited, &k);
  float half = k * 0.5f + round - round; /* in two steps: 2^k itself may be out of range */
  p = p * curve_power_of_two(half) * curve_power_of_two(k - half);
  return x != x ? x : p;
}

/* exp(x) for x <= 0; below -80 it is exp(-80), as it goes into products that shall not be slowed by numbers
 * without a leading one. */
static inline float curve_decay(float x) {
  float k, p = curve_reduced(x > -80.0f ? x : -80.0f, &k);
  return p * curve_power_of_two(k);
}

/* The standard normal distribution: the probability of less than x, and *density at x. That of more than |x|
 * is exp(-x^2/2) t P(t), t = 1 / (1 + 0.3 |x|), the form of Abramowitz and Stegun 26.2.17. */
static inline float curve_normal(float x, float *density) {
  const float e = curve_decay(-0.5f * x * x), t = 1.0f / (1.0f + 0.3f * fabsf(x));
  float p = 0.0364251696f;
  p = p * t - 0.160107657f;
  p = p * t + 0.210952476f;
  p = p * t - 0.05752616f;
  p = p * t + 0.130383283f;
  p = p * t + 0.0994250476f;
  p = p * t + 0.12082243f;
  p = p * t + 0.11962539f;
  const float tail = e * (t * p);
  *density = 0.398942280f * e;
  return x < 0 ? tail : 1.0f - tail;
}

static inline float curve_sigmoid(float x) {
  return 1.0f / (1.0f + curve_exp(-x));
}

static inline float curve_tanh(float x) {
  float z = x * x;
  float p = -5.37241e-3f;
  p = p * z + 2.033452e-2f;
  p = p * z - 5.364476e-2f;
  p = p * z + 1.3330295e-1f;
  p = p * z - 3.333324e-1f;
  float small = x + x * z * p;
  float large = 1.0f - 2.0f / (curve_exp(2.0f * fabsf(x)) + 1.0f);
  return fabsf(x) < 0.625f ? small : copysignf(large, x);
}

static inline float curve_erf(float x) {
  float z = x * x, a = fabsf(x);
  float p = 7.88911953e-5f;
  p = p * z - 8.02084128e-4f;
  p = p * z + 5.18953534e-3f;
  p = p * z - 2.68544446e-2f;
  p = p * z + 1.12836002e-1f;
  p = p * z - 3.76126271e-1f;
  p = p * z + 1.12837917f;
  float limited = a > 4.0f ? 4.0f : a;
  float q = 1.92426077e-4f; /* log(1 - erf(a)) */
  q = q * limited - 3.00853738e-3f;
  q = q * limited + 2.20876421e-2f;
  q = q * limited - 1.03640325e-1f;
  q = q * limited - 6.37517009e-1f;
  q = q * limited - 1.12747499f;
  q = q * limited - 2.44713588e-4f;
  float large = 1.0f - curve_exp(q);
  float far = x != x ? x : copysignf(large, x);
  return a < 1.0f ? x * p : far;
}

#endif
