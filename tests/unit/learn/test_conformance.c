/* Every row of the tables of losses, of losses between inner tensors, of rules that combine teachers and of
 * augmentations: has values from outside, a formula, and a name of its own. The values are compared in
 * test_loss.c, test_feature.c, test_combine.c and test_augment.c, which walk the same cases. */
#include "reference.h"

#include "learn/augment.h"
#include "learn/combine.h"
#include "learn/feature.h"
#include "learn/loss.h"

typedef struct table_row {
  const char *group, *name, *formula, *result;
} table_row;

enum { ROWS_MAX = 128 };
static table_row table[ROWS_MAX];
static int n_rows;

static void add(const char *group, const char *name, const char *formula, const char *result) {
  assert_true(n_rows < ROWS_MAX);
  table[n_rows++] = (table_row){group, name, formula, result};
}

static int setup(void **state) {
  (void)state;
  for (const loss_kind *const *k = loss_kinds(); *k; k++) add("loss", (*k)->name, (*k)->formula, "value");
  for (const feature_kind *const *k = feature_kinds(); *k; k++)
    add("feature", (*k)->name, (*k)->formula, "value");
  for (const combine_kind *const *k = combine_kinds(); *k; k++)
    add("combine", (*k)->name, (*k)->formula, "result");
  for (const augment_kind *const *k = augment_kinds(); *k; k++)
    add("augment", (*k)->name, (*k)->formula, "value");
  return reference_run("losses") || reference_run("features") || reference_run("combine") ||
                 reference_run("augment")
             ? -1
             : 0;
}

static void test_every_row_has_values_from_outside(void **state) {
  (void)state;
  int missing = 0;
  for (int i = 0; i < n_rows; i++) {
    const table_row *r = &table[i];
    const bool there = reference_find("%s/%s/0/%s", r->group, r->name, r->result) &&
                       reference_find("%s/%s/1/%s", r->group, r->name, r->result);
    if (!there) print_error("%s '%s' has fewer than two cases in reference.py\n", r->group, r->name);
    missing += !there;
  }
  assert_int_equal(missing, 0);
  assert_true(n_rows >= 35);
}

/* A reference that no row has any more is a misspelt name. */
static void test_every_reference_belongs_to_a_row(void **state) {
  (void)state;
  for (int i = 0; i < n_references; i++) {
    const char *name = references[i].name;
    bool found = !strncmp(name, "epsilon/", strlen("epsilon/"));
    for (int j = 0; !found && j < n_rows; j++) {
      char prefix[64];
      snprintf(prefix, sizeof prefix, "%s/%s/", table[j].group, table[j].name);
      found = !strncmp(name, prefix, strlen(prefix));
    }
    if (!found) fail_msg("reference '%s' belongs to no row of a table", name);
  }
}

static void test_rows_are_named_and_explained(void **state) {
  (void)state;
  for (int i = 0; i < n_rows; i++) {
    assert_true(strlen(table[i].formula) > 10);
    assert_true(strspn(table[i].name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(table[i].name));
    for (int j = 0; j < i; j++)
      assert_true(strcmp(table[i].group, table[j].group) || strcmp(table[i].name, table[j].name));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_row_has_values_from_outside),
      cmocka_unit_test(test_every_reference_belongs_to_a_row),
      cmocka_unit_test(test_rows_are_named_and_explained),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
