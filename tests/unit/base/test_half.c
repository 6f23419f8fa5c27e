/* float <-> half against the definition of the format, in exact double arithmetic. */
#include "base/half.h"
#include "testing.h"

#include <math.h>
#include <string.h>

/* The value of a half by the definition: sign, 5 bits of exponent (bias 15), 10 bits of fraction. */
static double value_of(uint16_t h) {
  int exponent = h >> 10 & 31, fraction = h & 1023;
  double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
  if (exponent == 31) magnitude = fraction ? NAN : INFINITY;
  return h & 0x8000 ? -magnitude : magnitude;
}

/* No half is nearer to x than h; between two equally near ones h is the even one. 65536 stands in for
 * infinity, as rounding does. */
static bool is_nearest(float x, uint16_t h) {
  double here = isinf(value_of(h)) ? copysign(65536, value_of(h)) : value_of(h), distance = fabs(here - x);
  if (!signbit(x) != !(h >> 15)) return false;
  for (int step = -1; step <= 1; step += 2) {
    int magnitude = (h & 0x7fff) + step;
    if (magnitude < 0 || magnitude > 0x7c00) continue;
    double other = magnitude == 0x7c00 ? 65536 : value_of((uint16_t)magnitude),
           gap = fabs(other - fabs((double)x));
    if (gap < distance || (gap == distance && h & 1)) return false;
  }
  return true;
}

static void every_half_comes_back(void **state) {
  (void)state;
  for (unsigned i = 0; i < 65536; i++) {
    uint16_t half = (uint16_t)i, back;
    float wide;
    half_to_float(&half, &wide, 1);
    half_from_float(&wide, &back, 1);
    if (isnan(value_of(half))) {
      assert_true(isnan(wide) && isnan(value_of(back)) && (back & 0x8000) == (half & 0x8000));
    } else {
      assert_true((double)wide == value_of(half));
      assert_int_equal(back, half);
    }
  }
}

static void check(float x) {
  uint16_t half;
  half_from_float(&x, &half, 1);
  if (fabsf(x) >= 65536.0f)
    assert_true(isinf(value_of(half)) && (value_of(half) < 0) == (x < 0));
  else if (!is_nearest(x, half))
    fail_msg("%a became %a", (double)x, value_of(half));
}

static void random_floats_go_to_the_nearest(void **state) {
  (void)state;
  uint64_t s = 1;
  for (int i = 0; i < 10000000; i++) {
    s = s * 6364136223846793005u + 1442695040888963407u;
    uint32_t bits = (uint32_t)(s >> 32);
    float x;
    if (i % 2)
      x = (float)((double)bits * 40.0 / 4294967296.0 - 20.0);
    else
      memcpy(&x, &bits, 4);
    if (isfinite(x)) check(x);
  }
}

static void edges(void **state) {
  (void)state;
  for (int e = -26; e <= 16; e++) {
    float power = ldexpf(1, e);
    check(power);
    check(nextafterf(power, 0));
    check(nextafterf(power, INFINITY));
    check(power * (1 - 0x1p-12f)); /* a tie at the power's own ulp */
    check(power * (1 + 0x1p-11f)); /* a tie above it */
    check(-power * (1 + 3 * 0x1p-11f));
  }
  check(7.99932718f);
  check(0.0f);
  check(-0.0f);
}

static void overflow_is_located(void **state) {
  (void)state;
  float values[] = {1, INFINITY, NAN, 65519.996f, -65520.0f, 1e9f};
  uint16_t halves[6];
  assert_int_equal(half_from_float(values, halves, 6), 4);
  assert_int_equal(half_from_float(values, halves, 4), -1);
  assert_int_equal(half_from_float(values, halves, 0), -1);
  assert_true(value_of(halves[3]) == 65504);
  assert_true(isinf(value_of(halves[1])) && isnan(value_of(halves[2])));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_half_comes_back),
      cmocka_unit_test(random_floats_go_to_the_nearest),
      cmocka_unit_test(edges),
      cmocka_unit_test(overflow_is_located),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
