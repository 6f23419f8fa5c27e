/* Calibration and weights of teachers from labelled rows, against PyTorch and numpy in double. */
#include "reference.h"

#include "learn/stacking.h"

static stack_rows rows;
static float *values[8];
static int32_t *labels;

static const double *reference_of(const char *what) {
  const reference_array *a = reference_find("stacking/%s", what);
  if (!a) fail_msg("no reference stacking/%s", what);
  return a->values;
}

/* The reference's logits anew: stack_soften changes them. */
static void load(void) {
  const double *o = reference_of("options"), *z = reference_of("logits"), *y = reference_of("labels");
  rows = (stack_rows){
      .n_teachers = (int)o[0], .rows = (int64_t)o[1], .classes = (int64_t)o[2], .values = values};
  const int64_t n = rows.rows * rows.classes;
  labels = realloc(labels, (size_t)rows.rows * sizeof *labels);
  rows.labels = labels;
  for (int k = 0; k < rows.n_teachers; k++) {
    values[k] = realloc(values[k], (size_t)n * sizeof **values);
    for (int64_t i = 0; i < n; i++) values[k][i] = (float)z[k * n + i];
  }
  for (int64_t i = 0; i < rows.rows; i++) labels[i] = (int32_t)y[i];
}

static void soften(void) {
  double inverse[8];
  for (int k = 0; k < rows.n_teachers; k++) inverse[k] = 1 / reference_of("temperatures")[k];
  stack_soften(&rows, inverse);
}

static void test_slopes_are_those_of_pytorch(void **state) {
  (void)state;
  load();
  double whole[8] = {0}, pieces[8] = {0};
  stack_slopes(&rows, 0, rows.rows, reference_of("inverse"), whole);
  stack_slopes(&rows, 0, 123, reference_of("inverse"), pieces);
  stack_slopes(&rows, 123, rows.rows, reference_of("inverse"), pieces);
  for (int k = 0; k < rows.n_teachers; k++) {
    assert_close(whole[k], reference_of("slopes")[k], 1e-9);
    assert_close(pieces[k], whole[k], 1e-12);
  }
}

static void test_slopes_vanish_at_the_calibration(void **state) {
  (void)state;
  load();
  double inverse[8], at[8] = {0}, below[8] = {0}, above[8] = {0};
  for (int k = 0; k < rows.n_teachers; k++) inverse[k] = 1 / reference_of("temperatures")[k];
  stack_slopes(&rows, 0, rows.rows, inverse, at);
  for (int k = 0; k < rows.n_teachers; k++) inverse[k] *= 0.99;
  stack_slopes(&rows, 0, rows.rows, inverse, below);
  for (int k = 0; k < rows.n_teachers; k++) inverse[k] *= 1.01 / 0.99;
  stack_slopes(&rows, 0, rows.rows, inverse, above);
  for (int k = 0; k < rows.n_teachers - 1; k++) /* noise has no temperature that fits */
    assert_true(below[k] < 0 && above[k] > 0 && fabs(at[k]) < 1e-2 * (above[k] - below[k]));
}

static void test_weights_become_the_most_likely_ones(void **state) {
  (void)state;
  load();
  soften();
  const int n = rows.n_teachers;
  double weights[8], nll = 0, before = INFINITY;
  for (int k = 0; k < n; k++) weights[k] = 1.0 / n;
  for (int step = 0; step < STACK_STEPS; step++) {
    double sums[8] = {0};
    nll = stack_shares(&rows, 0, rows.rows, weights, sums);
    assert_true(nll <= before * (1 + 1e-12));
    before = nll;
    for (int k = 0; k < n; k++) weights[k] = sums[k] / (double)rows.rows;
  }
  for (int k = 0; k < n; k++) assert_true(fabs(weights[k] - reference_of("weights")[k]) < 1e-3);
  assert_close(nll / (double)rows.rows, reference_of("nll")[0], 1e-5);
  assert_true(weights[3] < 0.01); /* the teacher of noise */
}

static void test_pulls_are_minus_the_gradient(void **state) {
  (void)state;
  load();
  soften();
  const int64_t n = rows.n_teachers * rows.classes;
  double sums[64] = {0}, counts[8] = {0};
  double nll = stack_pulls(&rows, 0, rows.rows, reference_of("class_weights"), sums, counts);
  assert_close(nll, reference_of("class_nll")[0], 1e-6);
  for (int64_t i = 0; i < n; i++) assert_true(fabs(sums[i] - reference_of("pulls")[i]) < 1e-4);
  for (int64_t c = 0, all = 0; c < rows.classes; c++) {
    all += (int64_t)counts[c];
    if (c == rows.classes - 1) assert_true(all == rows.rows && counts[c] == 0);
  }
}

/* Weights by class fit the rows better than one for all, stay on the simplex, and leave a class without rows
 * alone. */
static void test_class_weights_lower_the_loss(void **state) {
  (void)state;
  load();
  soften();
  const int n = rows.n_teachers;
  const int64_t classes = rows.classes;
  double weights[64], first = 0, last = 0;
  for (int64_t i = 0; i < n * classes; i++) weights[i] = reference_of("weights")[i / classes];
  for (int step = 0; step < STACK_STEPS; step++) {
    double sums[64] = {0}, counts[8] = {0};
    last = stack_pulls(&rows, 0, rows.rows, weights, sums, counts);
    if (!step) first = last;
    stack_step(n, classes, sums, counts, weights);
  }
  assert_close(first / (double)rows.rows, reference_of("nll")[0], 1e-6);
  assert_true(last < first - 0.5);
  for (int64_t c = 0; c < classes; c++) {
    double sum = 0;
    for (int k = 0; k < n; k++) {
      sum += weights[k * classes + c];
      assert_true(weights[k * classes + c] >= 0);
      if (c == classes - 1) assert_true(weights[k * classes + c] == reference_of("weights")[k]);
    }
    assert_close(sum, 1, 1e-9);
  }
}

static int setup(void **state) {
  (void)state;
  return reference_run("stacking");
}

static int teardown(void **state) {
  free(labels);
  for (int k = 0; k < 8; k++) free(values[k]);
  return reference_free(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_slopes_are_those_of_pytorch),
      cmocka_unit_test(test_slopes_vanish_at_the_calibration),
      cmocka_unit_test(test_weights_become_the_most_likely_ones),
      cmocka_unit_test(test_pulls_are_minus_the_gradient),
      cmocka_unit_test(test_class_weights_lower_the_loss),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
