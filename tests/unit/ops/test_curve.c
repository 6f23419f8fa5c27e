/* exp, tanh, sigmoid, erf and the normal distribution against the C library in double, over floats of all
 * sizes. */
#include "ops/curve.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Distance in units in the last place of the expected value. */
static double ulps(float got, double expected) {
  float nearest = (float)expected;
  if (isinf(nearest)) return got == nearest ? 0 : INFINITY;
  double unit = fabs(expected) < FLT_MIN ? 0x1p-149 : ldexp(1, ilogb(expected) - 23);
  return fabs(got - expected) / unit;
}

static double sigmoid(double x) {
  return 1 / (1 + exp(-x));
}

typedef float curve(float x);
typedef double truth(double x);

/* Every 997th float of both signs up to `limit`; past it for exp, overflow and underflow. */
static double worst(curve *f, truth *g, float limit) {
  double most = 0;
  uint32_t last;
  memcpy(&last, &limit, sizeof last);
  for (uint32_t bits = 0; bits <= last; bits += 997) {
    float x;
    memcpy(&x, &bits, sizeof x);
    for (int sign = 0; sign < 2; sign++, x = -x) {
      double off = ulps(f(x), g(x));
      if (!(off <= most)) most = off;
    }
  }
  return most;
}

static void exp_is_close(void **state) {
  (void)state;
  double off = worst(curve_exp, exp, 200);
  if (!(off <= 2)) fail_msg("off by %g ulp", off);
}

static void tanh_is_close(void **state) {
  (void)state;
  double off = worst(curve_tanh, tanh, 100);
  if (!(off <= 4)) fail_msg("off by %g ulp", off);
}

static void sigmoid_is_close(void **state) {
  (void)state;
  double off = worst(curve_sigmoid, sigmoid, 80);
  if (!(off <= 4)) fail_msg("off by %g ulp", off);
}

static void erf_is_close(void **state) {
  (void)state;
  double off = worst(curve_erf, erf, 100);
  if (!(off <= 4)) fail_msg("off by %g ulp", off);
}

static float below(float x) {
  float density;
  return curve_normal(x, &density);
}

static double true_below(double x) {
  return erfc(-x / sqrt(2)) / 2;
}

static float density(float x) {
  float d;
  curve_normal(x, &d);
  return d;
}

static double true_density(double x) {
  return exp(-x * x / 2) / sqrt(2 * acos(-1));
}

/* The square in the exponent is rounded: what is left of that grows with it. */
static void normal_is_close(void **state) {
  (void)state;
  double off = worst(below, true_below, 5);
  if (!(off <= 16)) fail_msg("off by %g ulp", off);
  off = worst(density, true_density, 5);
  if (!(off <= 12)) fail_msg("density off by %g ulp", off);
  for (float x = -50; x <= 50; x += 0x1p-10f) {
    if (!(fabs(below(x) - true_below(x)) <= 0x1p-22))
      fail_msg("%g: off by %g", (double)x, below(x) - true_below(x));
    if (!(fabs(density(x) - true_density(x)) <= 0x1p-22)) fail_msg("%g: density off", (double)x);
  }
  assert_true(below(0) == 0.5f && below(INFINITY) == 1 && below(-INFINITY) == 0);
}

static void ends_are_exact(void **state) {
  (void)state;
  assert_true(curve_exp(0) == 1);
  assert_true(curve_exp(-INFINITY) == 0 && curve_exp(INFINITY) == INFINITY);
  assert_true(curve_tanh(INFINITY) == 1 && curve_tanh(-INFINITY) == -1);
  assert_true(curve_erf(INFINITY) == 1 && curve_erf(-INFINITY) == -1);
  assert_true(curve_sigmoid(INFINITY) == 1 && curve_sigmoid(-INFINITY) == 0 && curve_sigmoid(0) == 0.5f);
  curve *const all[] = {curve_exp, curve_tanh, curve_erf, curve_sigmoid, below};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) assert_true(isnan(all[i](NAN)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exp_is_close), cmocka_unit_test(tanh_is_close),   cmocka_unit_test(sigmoid_is_close),
      cmocka_unit_test(erf_is_close), cmocka_unit_test(normal_is_close), cmocka_unit_test(ends_are_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
