/* Feature losses: values and gradients against PyTorch, and what must hold for any of them. */
#include "reference.h"

#include "learn/feature.h"

typedef struct feature_case {
  const feature_kind *kind;
  int number, n_tensors;
  mpistill_feature options;
  feature_batch batch;
  int64_t n_learned;
  float *student[FEATURE_TENSORS], *teacher[FEATURE_TENSORS], *learned;
  float *gradient[FEATURE_TENSORS], *learned_gradient;
} feature_case;

static const reference_array *array_of(const feature_case *c, const char *what, int tensor) {
  char text[48];
  snprintf(text, sizeof text, tensor < 0 ? "%s" : "%s/%d", what, tensor);
  return reference_find("feature/%s/%d/%s", c->kind->name, c->number, text);
}

static feature_map map_of(const feature_case *c, const char *side, int tensor, float **values) {
  char what[32], name[48];
  snprintf(what, sizeof what, "shape/%s", side);
  snprintf(name, sizeof name, "%s/%d", side, tensor);
  const reference_array *dims = array_of(c, what, tensor);
  shape s = {.rank = (int)dims->n};
  for (int d = 0; d < s.rank; d++) s.dims[d] = (int64_t)dims->values[d];
  *values = reference_floats("feature", c->kind->name, c->number, name);
  feature_map m = feature_map_of(&s);
  m.values = *values;
  return m;
}

static void case_load(feature_case *c, const feature_kind *kind, int number) {
  static const char *const projectors[] = {"conv1x1", "linear", "mean", "none"};
  const double *o = reference_values("feature", kind->name, number, "options");
  *c = (feature_case){.kind = kind, .number = number, .n_tensors = (int)o[0]};
  c->options = (mpistill_feature){.kind = (char *)(uintptr_t)kind->name,
                                  .weight = o[1],
                                  .projector = (char *)(uintptr_t)projectors[(int)o[2]],
                                  .heads = (int64_t)o[3],
                                  .distance = o[4],
                                  .angle = o[5]};
  feature_batch *b = &c->batch;
  for (int i = 0; i < c->n_tensors; i++) {
    b->student[i] = map_of(c, "student", i, &c->student[i]);
    b->teacher[i] = map_of(c, "teacher", i, &c->teacher[i]);
    b->rows = b->batch_rows = b->student[i].shape.dims[0];
    b->gradient[i] = c->gradient[i] = calloc((size_t)(b->rows * b->student[i].row_values), sizeof(float));
  }
  if (c->n_tensors == 1) {
    b->student[1] = b->student[0];
    b->teacher[1] = b->teacher[0];
    b->gradient[1] = b->gradient[0];
  }
  if (array_of(c, "learned", -1)) {
    c->n_learned = array_of(c, "learned", -1)->n;
    b->parameters = c->learned = reference_floats("feature", kind->name, number, "learned");
    b->parameter_gradient = c->learned_gradient = calloc((size_t)c->n_learned, sizeof(float));
  }
}

static void case_free(feature_case *c) {
  for (int i = 0; i < c->n_tensors; i++) {
    free(c->student[i]);
    free(c->teacher[i]);
    free(c->gradient[i]);
  }
  free(c->learned);
  free(c->learned_gradient);
}

/* Calls `check` for every case of every row of the table; a row without a case fails. */
static void every_case(void (*check)(feature_case *c)) {
  for (const feature_kind *const *k = feature_kinds(); *k; k++) {
    int n = 0;
    for (; reference_find("feature/%s/%d/value", (*k)->name, n); n++) {
      feature_case c;
      case_load(&c, *k, n);
      check(&c);
      case_free(&c);
    }
    if (!n) fail_msg("feature loss '%s' has no reference values", (*k)->name);
  }
}

/* With scratch of just the size asked for, filled with NaN. */
static double evaluate(const feature_case *c, feature_batch *b) {
  size_t n = c->kind->scratch(&c->options, b->rows, b->student, b->teacher);
  b->scratch = malloc((n ? n : 1) * sizeof *b->scratch);
  assert_non_null(b->scratch);
  memset(b->scratch, 0xff, n * sizeof *b->scratch);
  double value = c->kind->evaluate(&c->options, b);
  free(b->scratch);
  return value;
}

static void check_gradient(const feature_case *c, const char *what) {
  for (int i = 0; i < c->n_tensors; i++) {
    const reference_array *a = array_of(c, what, i);
    double off = relative_difference(c->gradient[i], a->values, a->n);
    if (!(off <= 2e-6)) fail_msg("gradient %d of '%s' %d is off by %g", i, c->kind->name, c->number, off);
  }
}

static void check_reference(feature_case *c) {
  if (c->kind->check) assert_int_equal(c->kind->check(&c->options, c->batch.student, c->batch.teacher), 0);
  assert_int_equal(c->kind->parameters ? c->kind->parameters(&c->options, c->batch.student, c->batch.teacher)
                                       : 0,
                   c->n_learned);
  assert_close(evaluate(c, &c->batch), array_of(c, "value", -1)->values[0], 1e-6);
  check_gradient(c, "gradient");
  if (!c->n_learned) return;
  double off =
      relative_difference(c->learned_gradient, array_of(c, "learned_gradient", -1)->values, c->n_learned);
  if (!(off <= 2e-6)) fail_msg("what '%s' %d learns is off by %g", c->kind->name, c->number, off);
}

static void test_values_and_gradients_are_those_of_pytorch(void **state) {
  (void)state;
  every_case(check_reference);
}

/* Two shards of two rows and the others, as PyTorch has the two. */
static void check_two_shards(feature_case *c) {
  const int64_t cuts[] = {0, 2, c->batch.rows};
  double sum = 0;
  for (int s = 0; s < 2; s++) {
    feature_batch b = c->batch;
    b.rows = cuts[s + 1] - cuts[s];
    for (int i = 0; i < FEATURE_TENSORS; i++) {
      b.student[i].values += cuts[s] * b.student[i].row_values;
      b.teacher[i].values += cuts[s] * b.teacher[i].row_values;
      b.gradient[i] += cuts[s] * b.student[i].row_values;
    }
    sum += evaluate(c, &b);
  }
  assert_close(sum, array_of(c, "two/value", -1)->values[0], 1e-6);
  check_gradient(c, "two/gradient");
  if (!c->kind->relates_rows) assert_close(sum, array_of(c, "value", -1)->values[0], 1e-6);
}

static void test_parts_of_shards_add_up(void **state) {
  (void)state;
  every_case(check_two_shards);
}

/* Where nothing is learned. */
static void check_equal(feature_case *c) {
  if (c->n_learned || c->batch.student[0].row_values != c->batch.teacher[0].row_values ||
      c->batch.student[0].channels != c->batch.teacher[0].channels)
    return;
  for (int i = 0; i < FEATURE_TENSORS; i++) c->batch.teacher[i] = c->batch.student[i];
  if (!(fabs(evaluate(c, &c->batch)) < 1e-12))
    fail_msg("'%s' %d of equals is not 0", c->kind->name, c->number);
  for (int i = 0; i < c->n_tensors; i++)
    for (int64_t j = 0; j < c->batch.rows * c->batch.student[i].row_values; j++)
      if (!(fabsf(c->gradient[i][j]) < 1e-9f))
        fail_msg("'%s' %d of equals has a gradient of %g", c->kind->name, c->number, c->gradient[i][j]);
}

static void test_student_equal_to_teacher_has_no_loss(void **state) {
  (void)state;
  every_case(check_equal);
}

static void check_added(feature_case *c) {
  float *once[FEATURE_TENSORS] = {0};
  evaluate(c, &c->batch);
  for (int i = 0; i < c->n_tensors; i++) {
    const size_t n = (size_t)(c->batch.rows * c->batch.student[i].row_values);
    once[i] = malloc(n * sizeof(float));
    memcpy(once[i], c->gradient[i], n * sizeof(float));
  }
  evaluate(c, &c->batch);
  for (int i = 0; i < c->n_tensors; i++) {
    for (int64_t j = 0; j < c->batch.rows * c->batch.student[i].row_values; j++)
      assert_true(fabsf(c->gradient[i][j] - 2 * once[i][j]) <= 1e-5f * fabsf(once[i][j]) + 1e-6f);
    free(once[i]);
  }
}

static void test_gradient_is_added(void **state) {
  (void)state;
  every_case(check_added);
}

/* A shard without rows, and rows that are all zero, give numbers. */
static void check_degenerate(feature_case *c) {
  feature_batch none = c->batch;
  none.rows = 0;
  if (!c->kind->relates_rows && !c->n_learned) assert_true(evaluate(c, &none) == 0);
  for (int i = 0; i < c->n_tensors; i++)
    memset(c->student[i], 0, (size_t)(c->batch.rows * c->batch.student[i].row_values) * sizeof(float));
  if (!isfinite(evaluate(c, &c->batch))) fail_msg("'%s' %d of zeros is not finite", c->kind->name, c->number);
  for (int i = 0; i < c->n_tensors; i++)
    for (int64_t j = 0; j < c->batch.rows * c->batch.student[i].row_values; j++)
      if (!isfinite(c->gradient[i][j])) fail_msg("'%s' %d: gradient at 0", c->kind->name, c->number);
}

static void test_zeros_give_numbers(void **state) {
  (void)state;
  every_case(check_degenerate);
}

static feature_map shaped(int rank, int64_t a, int64_t b, int64_t c) {
  return feature_map_of(&(shape){.rank = rank, .dims = {-1, a, b, c}});
}

static void test_tensors_that_do_not_go_together_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *kind, *projector, *message;
    int64_t heads;
    int rank[2];
    int64_t dims[2][3];
  } cases[] = {
      {"hint", "conv1x1", "position by position", 0, {4, 4}, {{3, 4, 4}, {3, 2, 2}}},
      {"hint", "none", "as many channels", 0, {2, 2}, {{3}, {4}}},
      {"vid", NULL, "position by position", 0, {4, 4}, {{3, 4, 4}, {3, 2, 2}}},
      {"attention", NULL, "position by position", 0, {4, 4}, {{3, 4, 4}, {3, 2, 2}}},
      {"attention", NULL, "only one", 0, {2, 2}, {{3}, {3}}},
      {"nst", NULL, "position by position", 0, {4, 4}, {{3, 4, 4}, {3, 2, 2}}},
      {"gram", NULL, "channel by channel", 0, {4, 4}, {{3, 4, 4}, {4, 4, 4}}},
      {"attention-maps", NULL, "takes tensors", 0, {3, 3}, {{4, 4}, {4, 4}}},
      {"attention-maps", NULL, "token by token", 0, {4, 4}, {{2, 4, 4}, {2, 5, 5}}},
      {"relation", NULL, "takes queries", 0, {2, 2}, {{4}, {4}}},
      {"relation", NULL, "into 3 heads", 3, {3, 3}, {{5, 4}, {5, 6}}},
      {"relation", NULL, "token by token", 2, {3, 3}, {{5, 4}, {6, 4}}},
      {"relation", NULL, "head by head", 0, {4, 3}, {{2, 5, 4}, {5, 8}}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    feature_map m[2][FEATURE_TENSORS];
    for (int side = 0; side < 2; side++)
      for (int k = 0; k < FEATURE_TENSORS; k++)
        m[side][k] = shaped(cases[i].rank[side], cases[i].dims[side][0], cases[i].dims[side][1],
                            cases[i].dims[side][2]);
    mpistill_feature o = {.kind = (char *)(uintptr_t)cases[i].kind,
                          .projector = (char *)(uintptr_t)cases[i].projector,
                          .heads = cases[i].heads};
    assert_int_equal(feature_find(cases[i].kind)->check(&o, m[0], m[1]), STATUS_BAD_INPUT);
    if (!strstr(status_message(), cases[i].message))
      fail_msg("'%s' has no '%s'", status_message(), cases[i].message);
  }
  assert_null(feature_find("kd"));
}

/* Learned maps begin as a function of (seed, stream), spread and within bounds. */
static void test_learned_maps_begin_alike(void **state) {
  (void)state;
  const feature_map s = shaped(2, 16, 0, 0), t = shaped(2, 8, 0, 0);
  enum { N = 8 * 17 };
  float a[N], b[N], other[N];
  const mpistill_feature o = {.kind = "hint"};
  assert_int_equal(feature_find("hint")->parameters(&o, &s, &t), N);
  feature_find("hint")->initial(&o, &s, &t, 3, 5, a);
  feature_find("hint")->initial(&o, &s, &t, 3, 5, b);
  feature_find("hint")->initial(&o, &s, &t, 3, 6, other);
  assert_memory_equal(a, b, sizeof a);
  assert_memory_not_equal(a, other, sizeof a);
  double squares = 0;
  for (int i = 0; i < 8 * 16; i++) {
    assert_true(fabsf(a[i]) <= 0.25f);
    squares += a[i] * a[i];
  }
  assert_true(fabs(squares / 128 - 0.25 * 0.25 / 3) < 0.006);
  for (int i = 8 * 16; i < N; i++) assert_true(a[i] == 0);
}

static int setup(void **state) {
  (void)state;
  return reference_run("features");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values_and_gradients_are_those_of_pytorch),
      cmocka_unit_test(test_parts_of_shards_add_up),
      cmocka_unit_test(test_student_equal_to_teacher_has_no_loss),
      cmocka_unit_test(test_gradient_is_added),
      cmocka_unit_test(test_zeros_give_numbers),
      cmocka_unit_test(test_tensors_that_do_not_go_together_are_refused),
      cmocka_unit_test(test_learned_maps_begin_alike),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
