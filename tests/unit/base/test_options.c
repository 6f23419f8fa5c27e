/* The command line: values, defaults, help, and every problem at once. */
#include "base/mem.h"
#include "base/options.h"
#include "testing.h"

typedef struct part {
  char *name;
  double weight;
} part;

typedef struct parts {
  size_t n;
  part *items;
} parts;

typedef struct inner {
  bool quiet;
  double rate;
} inner;

typedef struct config {
  bool force;
  int64_t epochs;
  uint64_t seed;
  double share;
  char *name, *file, *kind;
  mpistill_strings texts;
  mpistill_ints layers;
  mpistill_reals weights;
  parts parts;
  inner inner;
} config;

static const char *kinds(int i) {
  static const char *const names[] = {"sgd", "adamw", NULL};
  return names[i];
}

static const option part_fields[] = {
    {.key = "name", .type = OPTION_STRING, .at = offsetof(part, name), .required = true},
    {.key = "weight",
     .type = OPTION_REAL,
     .at = offsetof(part, weight),
     .initial = "0.5",
     .min = 0,
     .max = 1},
    {0}};

static status parse_part(const char *text, void *item) {
  const char *colon = strchr(text, ':');
  if (!colon) return status_set(STATUS_BAD_INPUT, "NAME:WEIGHT was expected");
  status st = mem_string_n(&((part *)item)->name, text, (size_t)(colon - text));
  return st ? st : options_set(part_fields, item, "weight", colon + 1);
}

static const option inner_rows[] = {
    {.flag = "quiet", .type = OPTION_FLAG, .at = offsetof(inner, quiet), .help = "say nothing"},
    {.flag = "rate",
     .type = OPTION_REAL,
     .at = offsetof(inner, rate),
     .initial = "0.1",
     .max = 9,
     .above_min = true,
     .help = "speed"},
    {0}};

#define AT(field) offsetof(config, field)
static const option rows[] = {
    {.flag = "force", .type = OPTION_FLAG, .at = AT(force), .help = "overwrite"},
    {.flag = "epochs",
     .type = OPTION_INT,
     .at = AT(epochs),
     .initial = "10",
     .min = 1,
     .max = 100,
     .help = "passes over the data"},
    {.flag = "seed", .type = OPTION_SEED, .at = AT(seed), .initial = "0", .help = "of everything"},
    {.flag = "share", .type = OPTION_REAL, .at = AT(share), .min = 0, .max = 1, .help = "a share"},
    {.flag = "name", .type = OPTION_STRING, .at = AT(name), .initial = "test", .help = "a name"},
    {.flag = "file",
     .type = OPTION_PATH,
     .at = AT(file),
     .value = "FILE",
     .help = "a file",
     .required = true},
    {.flag = "kind",
     .type = OPTION_CHOICE,
     .at = AT(kind),
     .initial = "sgd",
     .choice = kinds,
     .help = "of steps"},
    {.flag = "text", .type = OPTION_STRINGS, .at = AT(texts), .initial = "default", .help = "texts"},
    {.flag = "layers", .type = OPTION_INTS, .at = AT(layers), .min = 1, .max = 1e6, .help = "widths"},
    {.flag = "weights", .type = OPTION_REALS, .at = AT(weights), .initial = "0.5,0.5", .help = "weights"},
    {.flag = "part",
     .type = OPTION_ITEMS,
     .at = AT(parts),
     .fields = part_fields,
     .item_bytes = sizeof(part),
     .parse_item = parse_part,
     .help = "a part"},
    {.type = OPTION_GROUP, .at = AT(inner), .fields = inner_rows},
    {0}};

static status parse(config *c, mpistill_strings *rest, options_seen *seen, const char *line) {
  char copy[1024], *argv[64], *at;
  int argc = 0;
  snprintf(copy, sizeof copy, "%s", line);
  for (char *word = strtok_r(copy, " ", &at); word; word = strtok_r(NULL, " ", &at)) argv[argc++] = word;
  status st = options_defaults(rows, c);
  return st ? st : options_parse(rows, c, argc, argv, rest, seen);
}

static void defaults_are_set(void **state) {
  (void)state;
  config c;
  assert_int_equal(parse(&c, NULL, NULL, "--file x"), STATUS_OK);
  assert_true(!c.force && c.epochs == 10 && c.seed == 0 && c.share == 0 && c.inner.rate == 0.1);
  assert_string_equal(c.kind, "sgd");
  assert_int_equal(c.texts.n, 1);
  assert_string_equal(c.texts.items[0], "default");
  assert_int_equal(c.weights.n, 2);
  assert_true(c.weights.items[1] == 0.5);
  assert_true(c.layers.n == 0 && c.parts.n == 0);
  options_free(rows, &c);
  assert_true(!c.kind && !c.texts.n && !c.weights.items);
}

static void values_replace_defaults(void **state) {
  (void)state;
  config c;
  mpistill_strings rest = {0};
  assert_int_equal(
      parse(
          &c, &rest, NULL,
          "a --force --epochs=20 --seed 18446744073709551615 --share 2.5e-1 --name n --file f b --kind adamw "
          "--text one --text two --layers 3x32,32 --weights .25,1 --part a:0.25 --part b:1 --quiet --rate 8 "
          "-- --c"),
      STATUS_OK);
  assert_true(c.force && c.epochs == 20 && c.seed == UINT64_MAX && c.share == 0.25);
  assert_string_equal(c.name, "n");
  assert_string_equal(c.kind, "adamw");
  assert_int_equal(c.texts.n, 2);
  assert_string_equal(c.texts.items[1], "two");
  assert_true(c.layers.n == 3 && c.layers.items[0] == 3 && c.layers.items[2] == 32);
  assert_true(c.weights.n == 2 && c.weights.items[0] == 0.25 && c.weights.items[1] == 1);
  assert_true(c.parts.n == 2 && c.parts.items[0].weight == 0.25);
  assert_string_equal(c.parts.items[1].name, "b");
  assert_true(c.inner.quiet && c.inner.rate == 8);
  assert_int_equal(rest.n, 3);
  assert_string_equal(rest.items[1], "b");
  assert_string_equal(rest.items[2], "--c");
  strings_free(&rest);
  options_free(rows, &c);
}

static void wrong_lines_are_refused(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "--file FILE is needed"},
      {"--file x --epoch 3", "unknown option '--epoch' (did you mean '--epochs'?)"},
      {"--file x --ephocs 3", "did you mean '--epochs'?"},
      {"--file x --quite", "did you mean '--quiet'?"},
      {"--file x --zzzz", "unknown option '--zzzz'"},
      {"--file x -e 3", "unknown option '-e'"},
      {"--file x y", "'y' is not expected here"},
      {"--file x --epochs", "--epochs needs a value"},
      {"--file x --epochs --force", "--epochs needs a value"},
      {"--file x --epochs 0", "--epochs: 0 is out of range (at least 1, at most 100)"},
      {"--file x --epochs 101", "out of range"},
      {"--file x --epochs 1x", "'1x' is not a whole number"},
      {"--file x --epochs 010", "leave out the leading zeros"},
      {"--file x --epochs 1.5", "not a whole number"},
      {"--file x --epochs 99999999999999999999", "not a whole number"},
      {"--file x --seed -1", "not a whole number from 0"},
      {"--file x --seed 18446744073709551616", "not a whole number from 0"},
      {"--file x --share nan", "'nan' is not a number"},
      {"--file x --share inf", "'inf' is not a number"},
      {"--file x --share 0x1p-1", "is not a number"},
      {"--file x --share 1e999", "is not a number"},
      {"--file x --share 00.5", "is not a number"},
      {"--file x --share 1.5", "out of range"},
      {"--file x --rate 0", "--rate: 0 is out of range (more than 0, at most 9)"},
      {"--file x --layers 3,,4", "'' is not a whole number"},
      {"--file x --layers 3,0", "--layers: 0 is out of range"},
      {"--file x --weights 1;2", "is not a number"},
      {"--file x --kind adam", "'adam' is not known (did you mean 'adamw'?); valid: sgd, adamw"},
      {"--file x --force=maybe", "neither true nor false"},
      {"--file x --name=", "--name: the value is empty"},
      {"--file x --part a", "--part a: NAME:WEIGHT was expected"},
      {"--file x --part a:2", "--part a:2: weight: 2 is out of range"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config c;
    if (parse(&c, NULL, NULL, cases[i][0]) != STATUS_BAD_INPUT) fail_msg("accepted: %s", cases[i][0]);
    assert_contains(status_message(), cases[i][1]);
    assert_lacks(status_message(), "\n");
    options_free(rows, &c);
  }
}

static void all_problems_are_listed(void **state) {
  (void)state;
  config c;
  assert_int_equal(parse(&c, NULL, NULL, "--epochs 0 --knd adamw --share x"), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "several options are wrong:\n"
                                        "--epochs: 0 is out of range (at least 1, at most 100)\n"
                                        "unknown option '--knd' (did you mean '--kind'?)\n"
                                        "--share: 'x' is not a number\n"
                                        "--file FILE is needed");
  options_free(rows, &c);
}

static void what_was_given_is_known(void **state) {
  (void)state;
  config c;
  options_seen seen = {0};
  assert_int_equal(parse(&c, NULL, &seen, "--file x --epochs 10 --rate 0.1"), STATUS_OK);
  assert_string_equal(options_given(&seen, &c.epochs), "--epochs");
  assert_string_equal(options_given(&seen, &c.inner.rate), "--rate");
  assert_null(options_given(&seen, &c.share));
  options_seen_free(&seen);
  options_free(rows, &c);
}

static void a_programs_own_values_are_checked(void **state) {
  (void)state;
  config c;
  assert_int_equal(options_defaults(rows, &c), STATUS_OK);
  c.epochs = 0;
  c.share = 7;
  assert_int_equal(options_check(rows, &c), STATUS_BAD_INPUT);
  assert_contains(status_message(), "epochs: 0 is out of range");
  assert_contains(status_message(), "share: 7 is out of range");
  assert_contains(status_message(), "file: is needed");
  c.epochs = 1;
  c.share = 0;
  assert_int_equal(mem_string(&c.file, "x"), STATUS_OK);
  assert_int_equal(options_check(rows, &c), STATUS_OK);
  options_free(rows, &c);
}

static void help_shows_defaults(void **state) {
  (void)state;
  char *text;
  size_t n;
  FILE *f = open_memstream(&text, &n);
  options_help(rows, f);
  fclose(f);
  assert_contains(text, "  --epochs N                  passes over the data [10]\n");
  assert_contains(text, "  --force                     overwrite\n");
  assert_contains(text, "  --file FILE                 a file (needed)\n");
  assert_contains(text, "  --kind KIND                 of steps: sgd, adamw [sgd]\n");
  assert_contains(text, "  --rate X                    speed [0.1]\n");
  free(text);
}

static const char *name_at(const void *table, int i) {
  return ((const char *const *)table)[i];
}

static void near_names_are_found(void **state) {
  (void)state;
  static const char *const names[] = {"import", "inspect", "create", "train", "teach", NULL};
  assert_string_equal(nearest_name("tain", name_at, names), "train");
  assert_string_equal(nearest_name("inpsect", name_at, names), "inspect");
  assert_string_equal(nearest_name("creat", name_at, names), "create");
  assert_null(nearest_name("zigzag", name_at, names));
  assert_null(nearest_name("", name_at, names));
}

static void texts_become_numbers(void **state) {
  (void)state;
  int64_t whole;
  double real;
  assert_true(text_to_int("-9223372036854775808", &whole) && whole == INT64_MIN);
  assert_true(text_to_int("007", &whole) && whole == 7);
  assert_false(text_to_int("9223372036854775808", &whole));
  assert_false(text_to_int("", &whole) || text_to_int("-", &whole) || text_to_int(" 1", &whole) ||
               text_to_int("1 ", &whole));
  assert_true(text_to_real("-1.5e-3", &real) && real == -1.5e-3);
  assert_true(text_to_real("5.", &real) && real == 5);
  assert_true(text_to_real("1e-320", &real) && real > 0);
  assert_false(text_to_real("", &real) || text_to_real(".", &real) || text_to_real("e5", &real) ||
               text_to_real("1e", &real));
  assert_false(text_to_real("infinity", &real) || text_to_real("NaN", &real) || text_to_real("0x10", &real));
  assert_false(text_to_real("1,5", &real) || text_to_real(" 1", &real) || text_to_real("1-2", &real));
}

/* Whichever allocation fails, the answer is STATUS_FAILED and everything can be freed. */
static void no_memory_is_survived(void **state) {
  (void)state;
  for (unsigned long n = 1;; n++) {
    config c = {0};
    mpistill_strings rest = {0};
    options_seen seen = {0};
    assert_int_equal(options_defaults(rows, &c), STATUS_OK);
    char *argv[] = {"a",      "--file", "f",         "--text", "t",      "--layers", "1,2",
                    "--part", "p:1",    "--weights", "1",      "--kind", "adamw"};
    mem_fail_at(n);
    unsigned long before = mem_count();
    status st = options_parse(rows, &c, 13, argv, &rest, &seen);
    bool fired = mem_count() - before >= n;
    mem_fail_at(0);
    assert_int_equal(st, fired ? STATUS_FAILED : STATUS_OK);
    strings_free(&rest);
    options_seen_free(&seen);
    options_free(rows, &c);
    if (!fired) break;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_are_set),        cmocka_unit_test(values_replace_defaults),
      cmocka_unit_test(wrong_lines_are_refused), cmocka_unit_test(all_problems_are_listed),
      cmocka_unit_test(what_was_given_is_known), cmocka_unit_test(a_programs_own_values_are_checked),
      cmocka_unit_test(help_shows_defaults),     cmocka_unit_test(near_names_are_found),
      cmocka_unit_test(texts_become_numbers),    cmocka_unit_test(no_memory_is_survived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
