/* The exponential against the C library's in double, and sums of rows. */
#include "reference.h"

#include "learn/softmax.h"

static void test_exponential_is_within_1e_12(void **state) {
  (void)state;
  double worst = 0, worst_float = 0;
  for (int i = 0; i <= 2000000; i++) {
    double x = -708.0 * i / 2000000.0 * (i % 2 ? 1 : 1e-3), y = x;
    softmax_exp(&y, 1);
    double expected = exp(x), off = fabs(y - expected) / expected;
    if (off > worst) worst = off;
    float rounded = (float)y, nearest = (float)expected;
    double ulp = nextafterf(nearest, INFINITY) - nearest;
    if (fabs((double)rounded - expected) / ulp > worst_float)
      worst_float = fabs((double)rounded - expected) / ulp;
  }
  print_message("largest relative error %.3g, as float %.3f ulp\n", worst, worst_float);
  assert_true(worst < 1e-12);
  assert_true(worst_float < 0.51);
}

static void test_exponential_at_the_ends(void **state) {
  (void)state;
  double y[] = {0, -0.0, -708.5, -1e5, -1e300, -INFINITY, NAN};
  softmax_exp(y, 7);
  assert_true(y[0] == 1 && y[1] == 1);
  for (int i = 2; i < 6; i++) assert_true(y[i] > 0 && y[i] < 4e-308);
  assert_true(isnan(y[6]));
}

/* Rows of every length up to two blocks: tails take part like all others. */
static void test_log_sum_of_any_length(void **state) {
  (void)state;
  float z[140], e[140];
  for (int n = 1; n <= 140; n++) {
    double expected = 0, sum;
    for (int j = 0; j < n; j++) expected += exp((z[j] = (float)(20 * sin(n * 7.0 + j))) / 3.0);
    assert_close(softmax_terms(z, n, 1 / 3.0, e, &sum), log(expected), 1e-12);
    double total = 0;
    for (int j = 0; j < n; j++) total += e[j];
    assert_close(total, sum, 1e-6);
  }
}

static void test_large_logits_do_not_overflow(void **state) {
  (void)state;
  float z[] = {3e38f, 3e38f, -3e38f};
  double sum;
  assert_close(softmax_terms(z, 3, 1, NULL, &sum), 3e38, 1e-6);
  assert_true(sum == 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_exponential_is_within_1e_12),
      cmocka_unit_test(test_exponential_at_the_ends),
      cmocka_unit_test(test_log_sum_of_any_length),
      cmocka_unit_test(test_large_logits_do_not_overflow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
