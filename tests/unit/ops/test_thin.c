/* Products of a thin matrix: every element is the chain of fused multiply-adds that tiles.h promises, with
 * the kernels for this processor and, where it has those, for AVX2 alone. */
#include "ops/thin.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct sides {
  bool ta, tb;
  int64_t m, n, k;
} sides;

/* Short sides that fill no tile and no vector, and long ones that end within one. */
static const sides shapes[] = {
    {false, false, 1, 137, 131}, {false, false, 32, 784, 800}, {false, false, 64, 1025, 33},
    {false, false, 7, 10, 2000}, {false, true, 16, 800, 784},  {false, true, 33, 137, 211},
    {false, true, 64, 10, 2049}, {false, true, 23, 2000, 10},  {true, false, 800, 784, 32},
    {true, false, 137, 211, 17}, {true, false, 10, 2049, 64},  {true, false, 2049, 9, 16}};

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static float *numbers(int64_t n, unsigned seed) {
  float *x;
  assert_int_equal(mem_new(&x, (size_t)n, sizeof *x), 0);
  srand(seed);
  for (int64_t i = 0; i < n; i++) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
  return x;
}

static float *product(const sides *s, const float *a, const float *b, const float *before) {
  float *y = numbers(s->m * s->n, 3);
  char *scratch;
  assert_int_equal(mem_new(&scratch, thin_scratch_bytes(s->ta, s->tb, s->m, s->n, s->k), 1), 0);
  if (before) memcpy(y, before, (size_t)(s->m * s->n) * sizeof *y);
  thin_product(s->ta, s->tb, s->m, s->n, s->k, a, b, before, y, scratch);
  mem_free(scratch);
  return y;
}

static void compare(const sides *s, const float *a, const float *b, const float *before, const float *y) {
  for (int64_t i = 0; i < s->m; i++) {
    for (int64_t j = 0; j < s->n; j++) {
      float sum = 0;
      for (int64_t k = 0; k < s->k; k++)
        sum = fmaf(a[s->ta ? k * s->m + i : i * s->k + k], b[s->tb ? j * s->k + k : k * s->n + j], sum);
      if (before) sum = sum + before[i * s->n + j];
      if (memcmp(&sum, &y[i * s->n + j], sizeof sum) != 0)
        fail_msg("[%lld, %lld] is %a, expected %a", (long long)i, (long long)j, (double)y[i * s->n + j],
                 (double)sum);
    }
  }
}

/* Both written over what was there and added to it. */
static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < N_SHAPES; i++) {
    const sides *s = &shapes[i];
    if (!thin_suits(s->ta, s->tb, s->m, s->n, s->k)) continue;
    float *a = numbers(s->m * s->k, 1), *b = numbers(s->n * s->k, 2), *before = numbers(s->m * s->n, 4);
    float *y = product(s, a, b, NULL), *sum = product(s, a, b, before);
    compare(s, a, b, NULL, y);
    compare(s, a, b, before, sum);
    float *const all[] = {a, b, before, y, sum};
    for (int j = 0; j < 5; j++) mem_free(all[j]);
  }
}

/* Rows from..to alone are the rows of the whole. */
static void test_late_rows(void **state) {
  (void)state;
  static const sides late[] = {
      {true, false, 800, 784, 32}, {true, false, 137, 211, 1}, {true, false, 211, 137, 64}};
  for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
    const sides *s = &late[i];
    late_gradient g;
    if (!thin_suits(s->ta, s->tb, s->m, s->n, s->k)) continue;
    float *a = numbers(s->m * s->k, 1), *b = numbers(s->n * s->k, 2), *y = numbers(s->m * s->n, 3);
    assert_true(thin_late(NULL, NULL, s->k, s->m, s->n, &g));
    for (int64_t from = 0, n = 1; from < s->m; from += n, n = n % 40 + 12)
      g.make(&g, a, b, from, from + n < s->m ? from + n : s->m, false, y + from * s->n);
    compare(s, a, b, NULL, y);
    float *const all[] = {a, b, y};
    for (int j = 0; j < 3; j++) mem_free(all[j]);
  }
  late_gradient g;
  assert_false(thin_late(NULL, NULL, 65, 800, 784, &g));
  assert_false(thin_late(NULL, NULL, 32, 10, 800, &g));
  assert_false(thin_late(NULL, NULL, 32, 10, 5000, &g));
}

static void test_what_suits(void **state) {
  (void)state;
  assert_false(thin_suits(false, true, 256, 800, 784)); /* OpenBLAS's copy pays */
  assert_false(thin_suits(false, true, 1, 800, 784));
  assert_false(thin_suits(false, false, 32, 16, 16));
  assert_false(thin_suits(true, true, 32, 800, 784));
  assert_false(thin_suits(false, false, 32, 0, 784));
  assert_int_equal(thin_scratch_bytes(false, false, 32, 784, 800), 0);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    for (int i = 0; i < N_SHAPES; i++)
      assert_true(thin_suits(shapes[i].ta, shapes[i].tb, shapes[i].m, shapes[i].n, shapes[i].k));
#endif
}

int main(int n, char **arguments) {
  (void)n;
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_late_rows),
                                     cmocka_unit_test(test_what_suits)};
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (failed || getenv("ONEDNN_MAX_CPU_ISA") || setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1)) return failed;
  execv(arguments[0], arguments); /* again, with the kernels for AVX2 */
  return 1;
}
