/* Philox4x32-10 against Random123's published vectors, and the distributions made of it. */
#include "base/rng.h"
#include "testing.h"

#include <math.h>

static void known_answers(void **state) {
  (void)state;
  static const struct {
    uint64_t seed, stream, index;
    uint32_t words[4];
  } answers[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       0x0370734413198a2e,
       0x85a308d3243f6a88,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < 3; i++) {
    uint32_t words[4];
    rng_words(answers[i].seed, (rng_purpose)0, answers[i].stream, answers[i].index, words);
    assert_memory_equal(words, answers[i].words, sizeof words);
  }
}

static void purposes_differ(void **state) {
  (void)state;
  uint32_t a[4], b[4];
  rng_words(7, RNG_ORDER, 3, 5, a);
  rng_words(7, RNG_DROPOUT, 3, 5, b);
  assert_memory_not_equal(a, b, sizeof a);
}

static void uniform_is_uniform(void **state) {
  (void)state;
  enum { DRAWS = 1000000, BINS = 64 };
  double bins[BINS] = {0}, chi = 0;
  for (int i = 0; i < DRAWS; i++) {
    float u = rng_uniform(1, RNG_NOISE, 0, (uint64_t)i);
    assert_true(u >= 0 && u < 1);
    bins[(int)(u * BINS)]++;
  }
  for (int i = 0; i < BINS; i++) chi += (bins[i] - DRAWS / BINS) * (bins[i] - DRAWS / BINS) / (DRAWS / BINS);
  assert_true(chi > 20 && chi < 63 + 5 * sqrt(2 * 63.0));
}

static void normal_is_normal(void **state) {
  (void)state;
  enum { DRAWS = 1000000 };
  double moments[5] = {0};
  for (int i = 0; i < DRAWS; i++) {
    double x = rng_normal(2, RNG_NOISE, 9, (uint64_t)i), power = 1;
    assert_true(isfinite(x));
    for (int k = 0; k < 5; k++, power *= x) moments[k] += power / DRAWS;
  }
  assert_true(fabs(moments[1]) < 0.005 && fabs(moments[2] - 1) < 0.01);
  assert_true(fabs(moments[3]) < 0.02 && fabs(moments[4] - 3) < 0.06);
}

static void permutation_is_one(void **state) {
  (void)state;
  enum { N = 1797 };
  static int64_t first[N], second[N];
  static int seen[N];
  rng_permutation(1, RNG_ORDER, 0, N, first);
  rng_permutation(1, RNG_ORDER, 1, N, second);
  assert_memory_not_equal(first, second, sizeof first);
  for (int i = 0; i < N; i++) {
    assert_true(first[i] >= 0 && first[i] < N);
    seen[first[i]]++;
  }
  for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
  rng_permutation(1, RNG_ORDER, 0, N, second);
  assert_memory_equal(first, second, sizeof first);
  rng_permutation(2, RNG_ORDER, 0, N, second);
  assert_memory_not_equal(first, second, sizeof first);
}

/* All 120 orders of 5 things are equally likely: chi-square with 119 degrees of freedom. */
static void permutations_are_uniform(void **state) {
  (void)state;
  enum { DRAWS = 120 * 500 };
  static double counts[3125];
  double chi = 0;
  int kinds = 0;
  for (int e = 0; e < DRAWS; e++) {
    int64_t order[5];
    rng_permutation(11, RNG_ORDER, (uint64_t)e, 5, order);
    counts[order[0] * 625 + order[1] * 125 + order[2] * 25 + order[3] * 5 + order[4]]++;
  }
  for (int i = 0; i < 3125; i++) {
    if (counts[i] == 0) continue;
    kinds++;
    chi += (counts[i] - 500) * (counts[i] - 500) / 500;
  }
  assert_int_equal(kinds, 120);
  assert_true(chi > 50 && chi < 119 + 5 * sqrt(2 * 119.0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_answers),      cmocka_unit_test(purposes_differ),
      cmocka_unit_test(uniform_is_uniform), cmocka_unit_test(normal_is_normal),
      cmocka_unit_test(permutation_is_one), cmocka_unit_test(permutations_are_uniform),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
