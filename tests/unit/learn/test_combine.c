/* Rules that combine teachers, against PyTorch in double. */
#include "reference.h"

#include "learn/combine.h"

static void load(combine_batch *b, const float **teachers, const char *kind, int i) {
  const double *o = reference_values("combine", kind, i, "options");
  float *logits = reference_floats("combine", kind, i, "logits");
  *b = (combine_batch){
      .n_teachers = (int)o[0], .rows = (int64_t)o[1], .classes = (int64_t)o[2], .temperature = o[3]};
  b->weights = reference_values("combine", kind, i, "weights");
  b->logits = teachers;
  for (int k = 0; k < b->n_teachers; k++) teachers[k] = logits + k * b->rows * b->classes;
}

static void test_every_rule_is_its_formula(void **state) {
  (void)state;
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    int i = 0;
    for (; reference_find("combine/%s/%d/result", (*k)->name, i); i++) {
      const float *teachers[8];
      combine_batch b;
      load(&b, teachers, (*k)->name, i);
      const double *expected = reference_values("combine", (*k)->name, i, "result");
      float *out = calloc((size_t)(b.rows * b.classes), sizeof *out);
      (*k)->rows(&b, out);
      for (int64_t j = 0; j < b.rows * b.classes; j++)
        assert_true(fabs(out[j] - expected[j]) <= 1e-6 * fabs(expected[j]) + 1e-7);
      free(out);
      free((void *)teachers[0]);
    }
    if (!i) fail_msg("rule '%s' has no reference values", (*k)->name);
    assert_ptr_equal(combine_find((*k)->name), *k);
  }
  assert_null(combine_find("median"));
}

/* softmax(result / T) is the weighted mean of softmax(z_k / T). */
static void test_probability_mean_is_the_mean(void **state) {
  (void)state;
  const float *teachers[8];
  combine_batch b;
  load(&b, teachers, "probability-mean", 1);
  const int64_t n = b.classes;
  float *out = calloc((size_t)(b.rows * n), sizeof *out);
  combine_find("probability-mean")->rows(&b, out);
  for (int64_t i = 0; i < b.rows; i++) {
    double sums[8] = {0}, mixed = 0;
    for (int64_t j = 0; j < n; j++) {
      mixed += exp(out[i * n + j] / b.temperature);
      for (int k = 0; k < b.n_teachers; k++) sums[k] += exp(teachers[k][i * n + j] / b.temperature);
    }
    for (int64_t j = 0; j < n; j++) {
      double mean = 0;
      for (int k = 0; k < b.n_teachers; k++)
        mean += b.weights[k] * exp(teachers[k][i * n + j] / b.temperature) / sums[k];
      assert_true(fabs(exp(out[i * n + j] / b.temperature) / mixed - mean) < 1e-7);
    }
  }
  free(out);
  free((void *)teachers[0]);
}

static void test_a_teacher_of_weight_zero_has_no_say(void **state) {
  (void)state;
  const float a[] = {1, 2, 3}, other[] = {900, -900, 5};
  const float *both[] = {a, other};
  const double one[] = {1}, weights[] = {1, 0};
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    float alone[3], with[3];
    combine_batch b = {
        .n_teachers = 1, .rows = 1, .classes = 3, .logits = both, .weights = one, .temperature = 2};
    (*k)->rows(&b, alone);
    b.n_teachers = 2;
    b.weights = weights;
    (*k)->rows(&b, with);
    for (int j = 0; j < 3; j++) assert_true(alone[j] == with[j] && isfinite(with[j]));
  }
}

static int setup(void **state) {
  (void)state;
  return reference_run("combine");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_rule_is_its_formula),
      cmocka_unit_test(test_probability_mean_is_the_mean),
      cmocka_unit_test(test_a_teacher_of_weight_zero_has_no_say),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
