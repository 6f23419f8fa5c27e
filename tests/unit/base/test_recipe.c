/* YAML recipes and --set against option rows: values, places of mistakes, everything that is refused. */
#include "base/mem.h"
#include "base/options.h"
#include "testing.h"

typedef struct teacher {
  char *name, *model;
  mpistill_strings classes;
} teacher;

typedef struct teachers {
  size_t n;
  teacher *items;
} teachers;

typedef struct training {
  int64_t epochs;
  double rate;
  char *kind;
  mpistill_reals weights;
} training;

typedef struct config {
  char *dataset;
  uint64_t seed;
  bool baseline;
  teachers teachers;
  training distill;
  mpistill_ints layers;
} config;

static const char *kinds(int i) {
  static const char *const names[] = {"sgd", "adamw", NULL};
  return names[i];
}

static const option teacher_fields[] = {
    {.key = "name", .type = OPTION_STRING, .at = offsetof(teacher, name), .required = true},
    {.key = "model", .type = OPTION_PATH, .at = offsetof(teacher, model)},
    {.key = "classes", .type = OPTION_STRINGS, .at = offsetof(teacher, classes)},
    {0}};

static const option training_rows[] = {
    {.key = "epochs",
     .type = OPTION_INT,
     .at = offsetof(training, epochs),
     .initial = "10",
     .min = 1,
     .max = 1000},
    {.key = "optimizer.learning_rate",
     .type = OPTION_REAL,
     .at = offsetof(training, rate),
     .initial = "0.1",
     .min = 0,
     .max = 10},
    {.key = "optimizer.kind",
     .type = OPTION_CHOICE,
     .at = offsetof(training, kind),
     .initial = "sgd",
     .choice = kinds},
    {.key = "weights", .type = OPTION_REALS, .at = offsetof(training, weights)},
    {0}};

#define AT(field) offsetof(config, field)
static const option rows[] = {
    {.key = "dataset", .type = OPTION_PATH, .at = AT(dataset), .required = true},
    {.key = "seed", .type = OPTION_SEED, .at = AT(seed), .initial = "0"},
    {.key = "baseline", .type = OPTION_FLAG, .at = AT(baseline)},
    {.key = "teachers",
     .type = OPTION_ITEMS,
     .at = AT(teachers),
     .fields = teacher_fields,
     .item_bytes = sizeof(teacher)},
    {.key = "student.layers", .type = OPTION_INTS, .at = AT(layers), .min = 1, .max = 1000},
    {.key = "distill", .type = OPTION_GROUP, .at = AT(distill), .fields = training_rows},
    {0}};

static status read_text(config *c, const char *text, const char *folder, const char *set,
                        options_seen *seen) {
  char *one = (char *)(uintptr_t)set;
  mpistill_strings settings = {.n = set ? 1 : 0, .items = &one};
  status st = options_defaults(rows, c);
  return st ? st : options_recipe(rows, c, "r.yaml", text, strlen(text), folder, &settings, seen);
}

static const char good[] = "dataset: digits.h5   # the rows\n"
                           "seed: 3\n"
                           "baseline: true\n"
                           "teachers:\n"
                           "  - {name: wide, model: wide.onnx}\n"
                           "  - name: conv\n"
                           "    model: /abs/conv.onnx\n"
                           "    classes: [0, 1, 'two']\n"
                           "student:\n"
                           "  layers: [64, 32, 10]\n"
                           "distill:\n"
                           "  optimizer: {kind: adamw, learning_rate: 1e-3}\n"
                           "  epochs: 30\n"
                           "  weights: [0.25, 1]\n";

static void a_recipe_is_read(void **state) {
  (void)state;
  config c;
  options_seen seen = {0};
  assert_int_equal(read_text(&c, good, "runs/a", NULL, &seen), STATUS_OK);
  assert_string_equal(c.dataset, "runs/a/digits.h5");
  assert_true(c.seed == 3 && c.baseline && c.teachers.n == 2);
  assert_string_equal(c.teachers.items[0].model, "runs/a/wide.onnx");
  assert_string_equal(c.teachers.items[1].model, "/abs/conv.onnx");
  assert_int_equal(c.teachers.items[1].classes.n, 3);
  assert_string_equal(c.teachers.items[1].classes.items[0], "0");
  assert_true(c.layers.n == 3 && c.layers.items[2] == 10);
  assert_true(c.distill.epochs == 30 && c.distill.rate == 1e-3 && c.distill.weights.items[0] == 0.25);
  assert_string_equal(c.distill.kind, "adamw");
  assert_string_equal(options_given(&seen, &c.distill.epochs), "line 13, column 3: distill.epochs");
  assert_string_equal(options_given(&seen, &c.teachers.items[1].model), "line 7, column 5: teachers.1.model");
  assert_null(options_given(&seen, &c.teachers.items[0].classes));
  options_seen_free(&seen);
  options_free(rows, &c);
}

static void settings_come_last(void **state) {
  (void)state;
  static const struct {
    const char *set;
    int64_t epochs;
    const char *dataset, *second;
  } cases[] = {
      {"distill.epochs=5", 5, "here/digits.h5", "conv"},
      {"distill={epochs: 6}", 6, "here/digits.h5", "conv"},
      {"dataset=other.h5", 30, "other.h5", "conv"},
      {"teachers.1.name=other", 30, "here/digits.h5", "other"},
      {"teachers=[{name: x}, {name: y}]", 30, "here/digits.h5", "y"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config c;
    assert_int_equal(read_text(&c, good, "here", cases[i].set, NULL), STATUS_OK);
    assert_int_equal(c.distill.epochs, cases[i].epochs);
    assert_string_equal(c.dataset, cases[i].dataset);
    assert_string_equal(c.teachers.items[1].name, cases[i].second);
    options_free(rows, &c);
  }
}

static void refuse(const char *text, const char *set, const char *expected) {
  config c;
  if (read_text(&c, text, ".", set, NULL) != STATUS_BAD_INPUT)
    fail_msg("accepted: %s %s", text, set ? set : "");
  assert_contains(status_message(), "r.yaml: cannot be followed:\n");
  assert_contains(status_message(), expected);
  options_free(rows, &c);
}

static void wrong_recipes_are_refused(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"dataset: a\nsede: 1\n", "line 2, column 1: unknown key 'sede' (did you mean 'seed'?)"},
      {"dataset: a\ndistill:\n  epochs: 1\n  epoch: 2\n",
       "line 4, column 3: unknown key 'distill.epoch' (did you mean 'distill.epochs'?)"},
      {"dataset: a\nepochs: 2\n", "line 2, column 1: unknown key 'epochs' (did you mean 'distill.epochs'?)"},
      {"dataset: a\nqqqqqq: 2\n",
       "unknown key 'qqqqqq'; valid: dataset, seed, baseline, teachers, student, distill"},
      {"dataset: a\ndistill.epochs: 2\n", "write sections as nested mappings"},
      {"seed: 1\n", "key 'dataset' is missing"},
      {"dataset: a\nseed: 1x\n", "line 2, column 1: seed: '1x' is not a whole number"},
      {"dataset: a\nseed: 010\n", "leave out the leading zeros"},
      {"dataset: a\nseed: 0x10\n", "is not a whole number"},
      {"dataset: a\nseed: '1'\n", "a number was expected, found text in quotes"},
      {"dataset: a\nseed:\n", "a number was expected, found nothing"},
      {"dataset: a\nseed: ~\n", "found nothing"},
      {"dataset: a\nseed: [1]\n", "a number was expected, found a sequence"},
      {"dataset: {a: b}\n", "text was expected, found a mapping"},
      {"dataset: a\nbaseline: yes\n", "'yes' is neither true nor false"},
      {"dataset: a\ndistill: 3\n", "line 2, column 1: distill: a mapping was expected, found one value"},
      {"dataset: a\ndistill: {optimizer: {learning_rate: nan}}\n",
       "line 2, column 23: distill.optimizer.learning_rate: 'nan' is not a number"},
      {"dataset: a\ndistill: {optimizer: {learning_rate: .inf}}\n", "is not a number"},
      {"dataset: a\ndistill: {optimizer: {learning_rate: 11}}\n", "out of range (at least 0, at most 10)"},
      {"dataset: a\ndistill: {optimizer: {kind: adam}}\n", "(did you mean 'adamw'?); valid: sgd, adamw"},
      {"dataset: a\nstudent: {layers: 5}\n",
       "a sequence of numbers, like [3, 32, 32], was expected, found one value"},
      {"dataset: a\nstudent: {layers: [5, x]}\n", "'x' is not a whole number"},
      {"dataset: a\nstudent: {layers: [5, [6]]}\n", "a number was expected, found a sequence"},
      {"dataset: a\nteachers: wide\n", "teachers: a sequence was expected"},
      {"dataset: a\nteachers: [wide]\n",
       "line 2, column 12: teachers: a mapping was expected, found one value"},
      {"dataset: a\nteachers:\n - {model: m}\n", "line 3, column 4: key 'teachers.0.name' is missing"},
      {"dataset: a\nteachers:\n - {name: n, modle: m}\n",
       "line 3, column 14: unknown key 'teachers.0.modle' (did you mean 'teachers.0.model'?)"},
      {"dataset: a\nseed: 1\nseed: 2\n", "line 3, column 1: key 'seed' is there twice, first in line 2"},
      {"dataset: &x a\n", "line 1, column 10: anchors (&)"},
      {"dataset: a\nseed: *x\n", "line 2, column 7: aliases (*)"},
      {"dataset: !!str a\n", "line 1, column 10: tags (!)"},
      {"dataset: a\n---\nseed: 1\n", "line 2, column 1: a second document"},
      {"dataset: a\n? [x]\n: 1\n", "a key must be a word"},
      {"dataset: [a\n", "not YAML: "},
      {"dataset: a\n\tseed: 1\n", "line 2, column 1: not YAML: "},
      {"- a\n", "a mapping was expected, found a sequence"},
      {"", "there is nothing in it"},
      {"# only words\n", "there is nothing in it"},
      {"dataset: \"a\\0b\"\n", "NUL"},
      {"dataset: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "nested too deeply"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(cases[i][0], NULL, cases[i][1]);
}

static void wrong_settings_are_refused(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"distill.epoch=5",
       "--set distill.epoch: unknown key 'distill.epoch' (did you mean 'distill.epochs'?)"},
      {"qqqqqq.x=1", "--set qqqqqq.x: unknown key 'qqqqqq'; valid: dataset, seed"},
      {"distill.epochs=x", "--set distill.epochs: 'x' is not a whole number"},
      {"distill.epochs", "--set distill.epochs: KEY=VALUE was expected"},
      {"=5", "KEY=VALUE was expected"},
      {"seed=", "--set seed: there is nothing in it"},
      {"seed=[", "--set seed: line 2, column 1: not YAML: "},
      {"teachers.7.name=x", "--set teachers.7.name: unknown key"},
      {"teachers=[{model: m}]", "--set teachers: key 'teachers.0.name' is missing"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(good, cases[i][0], cases[i][1]);
}

static void all_problems_are_listed(void **state) {
  (void)state;
  config c;
  assert_int_equal(read_text(&c, "seed: -1\nteachers: [{name: a, x: 1}, {}]\ndistill:\n  epochs: 0\n", ".",
                             "baseline=3", NULL),
                   STATUS_BAD_INPUT);
  assert_string_equal(status_message(),
                      "r.yaml: cannot be followed:\n"
                      "line 1, column 1: seed: '-1' is not a whole number from 0 to 18446744073709551615\n"
                      "line 2, column 22: unknown key 'teachers.0.x'; valid: name, model, classes\n"
                      "line 2, column 29: key 'teachers.1.name' is missing\n"
                      "line 4, column 3: distill.epochs: 0 is out of range (at least 1, at most 1000)\n"
                      "--set baseline: '3' is neither true nor false\n"
                      "key 'dataset' is missing");
  options_free(rows, &c);
}

static void keys_have_help(void **state) {
  (void)state;
  char *text;
  size_t n;
  FILE *f = open_memstream(&text, &n);
  options_help_keys(rows, f);
  fclose(f);
  assert_contains(text, "  teachers[].name ");
  assert_contains(text, "  distill.optimizer.learning_rate");
  free(text);
}

static void no_memory_is_survived(void **state) {
  (void)state;
  for (unsigned long n = 1;; n++) {
    config c;
    options_seen seen = {0};
    assert_int_equal(options_defaults(rows, &c), STATUS_OK);
    unsigned long before = mem_count();
    mem_fail_at(n);
    status st = options_recipe(rows, &c, "r.yaml", good, strlen(good), "x", NULL, &seen);
    bool fired = mem_count() - before >= n;
    mem_fail_at(0);
    assert_int_equal(st, fired ? STATUS_FAILED : STATUS_OK);
    options_seen_free(&seen);
    options_free(rows, &c);
    if (!fired) break;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_recipe_is_read),          cmocka_unit_test(settings_come_last),
      cmocka_unit_test(wrong_recipes_are_refused), cmocka_unit_test(wrong_settings_are_refused),
      cmocka_unit_test(all_problems_are_listed),   cmocka_unit_test(keys_have_help),
      cmocka_unit_test(no_memory_is_survived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
