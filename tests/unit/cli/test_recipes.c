/* Recipes of the real option rows: what is handed down between stages, and what does not go together. */
#include "base/file.h"
#include "comm/comm.h"
#include "stages/recipe.h"
#include "testing.h"

#include <unistd.h>

static comm *alone;
static char folder[64];

static status read_text(mpistill_recipe *r, const char *text, const char *set) {
  char path[96], *one = (char *)(uintptr_t)set;
  mpistill_strings settings = {.n = set ? 1 : 0, .items = &one};
  snprintf(path, sizeof path, "%s/recipe.yaml", folder);
  assert_int_equal(file_write(path, text, strlen(text)), STATUS_OK);
  return recipe_read(alone, path, &settings, r);
}

static const char whole[] =
    "dataset: digits.h5\n"
    "output: run/digits\n"
    "seed: 7\n"
    "threads: 2\n"
    "baseline: true\n"
    "teachers:\n"
    "  - {name: wide, model: wide.onnx}\n"
    "  - {name: conv, model: conv.onnx, input: image, classes: [0, 1, 2]}\n"
    "  - {name: tree, soft_labels: tree.h5}\n"
    "teach:     {split: train, dtype: float16}\n"
    "aggregate: {method: probability-mean}\n"
    "student:   {create: mlp, layers: [64, 32, 10]}\n"
    "distill:\n"
    "  losses:\n"
    "    - {kind: kd, weight: 0.9, temperature: 5}\n"
    "    - {kind: cross-entropy, weight: 0.1}\n"
    "  optimizer: {kind: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0005}\n"
    "  schedule:  {kind: cosine, warmup_epochs: 1}\n"
    "  epochs: 30\n"
    "  batch: 128\n"
    "  shards: 8\n";

static void a_whole_recipe_is_read(void **state) {
  (void)state;
  mpistill_recipe r;
  char path[96];
  if (read_text(&r, whole, NULL)) fail_msg("%s", status_message());
  snprintf(path, sizeof path, "%s/wide.onnx", folder);
  assert_string_equal(r.teachers.items[0].model, path);
  assert_string_equal(r.teachers.items[1].classes.items[2], "2");
  assert_null(r.teachers.items[2].model);
  assert_string_equal(r.student.create.kind, "mlp");
  assert_string_equal(r.student.create.activation, "relu");
  assert_true(r.student.create.seed == 7 && r.distill.seed == 7 && r.distill.threads == 2 &&
              r.teach.threads == 2);
  assert_true(r.aggregate.temperature == 5 && r.baseline && r.distill.losses.n == 2);
  assert_true(r.distill.optimizer.weight_decay == 0.0005 && r.distill.shards == 8);
  assert_string_equal(r.distill.test_split, "test");
  recipe_free(&r);
}

static const char plain[] = "dataset: d.h5\noutput: out\nstudent: {model: s.onnx}\n";

static void plain_training_needs_little(void **state) {
  (void)state;
  mpistill_recipe r;
  if (read_text(&r, plain, "distill.epochs=3")) fail_msg("%s", status_message());
  assert_true(r.teachers.n == 0 && r.distill.epochs == 3 && r.distill.batch == 128);
  assert_null(r.student.create.kind);
  recipe_free(&r);
}

static void an_ensemble_for_another_temperature_is_refused(void **state) {
  (void)state;
  mpistill_recipe r;
  assert_int_equal(read_text(&r, whole, "aggregate.temperature=2"), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "temperature"));
  recipe_free(&r);
}

static void wrong_recipes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *set, *expected;
  } cases[] = {
      {whole, "distill.kd_weight=0.5", "the losses listed have weights of their own"},
      {whole, "distill.optimizer.beta1=0.5",
       "--set distill.optimizer.beta1: not an option of optimizer 'sgd'"},
      {whole, "distill.optimizer={kind: adamw, learning_rate: 0.001}",
       "line 17, column 46: distill.optimizer.momentum: not an option"},
      {whole, "student.depth=20", "--set student.depth: not an option of 'mlp'"},
      {whole, "student.model=x.onnx", "student: give either model or create"},
      {whole, "distill.split=test", "the student learns from the rows that were labelled"},
      {whole, "teachers.2.model=x", "teacher 'tree': give either model or soft_labels"},
      {whole, "teachers.0.name=conv", "teacher 'conv': two teachers have this name"},
      {whole, "aggregate.weights=[1, 2]", "weights: 2 given for 3 teachers"},
      {whole, "distill.seed=3", "unknown key 'distill.seed'"},
      {whole, "distill.losses=[{kind: cross-entropy, weight: 1}]", "none of them reads the soft labels"},
      {plain, "teach.dtype=float32", "--set teach.dtype: there are no teachers"},
      {plain, "distill.temperature=3", "needs soft labels, and there are none"},
      {plain, "distill.losses=[{kind: kd, weight: 1}]", "loss 'kd' needs soft labels"},
      {"dataset: d\noutput: o\n", NULL, "student: give either model or create"},
      {"student: {model: s}\n", NULL, "key 'dataset' is missing\nkey 'output' is missing"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    mpistill_recipe r;
    if (read_text(&r, cases[i].text, cases[i].set) != STATUS_BAD_INPUT)
      fail_msg("accepted: %s", cases[i].expected);
    assert_contains(status_message(), cases[i].expected);
    assert_contains(status_message(), "recipe.yaml: cannot be followed:\n");
    recipe_free(&r);
  }
}

static void a_missing_recipe_is_named(void **state) {
  (void)state;
  mpistill_recipe r;
  mpistill_strings none = {0};
  assert_int_equal(recipe_read(alone, "/none/recipe.yaml", &none, &r), STATUS_BAD_INPUT);
  assert_contains(status_message(), "/none/recipe.yaml");
  recipe_free(&r);
}

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s", "/tmp/mpistill-test-XXXXXX");
  return !mkdtemp(folder) || comm_alone(&alone);
}

static int tear_down(void **state) {
  char path[96];
  (void)state;
  snprintf(path, sizeof path, "%s/recipe.yaml", folder);
  unlink(path);
  comm_end(&alone);
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_whole_recipe_is_read),
      cmocka_unit_test(plain_training_needs_little),
      cmocka_unit_test(an_ensemble_for_another_temperature_is_refused),
      cmocka_unit_test(wrong_recipes_are_refused),
      cmocka_unit_test(a_missing_recipe_is_named),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
