/* The list of operators: whole, without overlaps, and searched by name, domain and opset. */
#include "ops/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool ranges_meet(const op *a, const op *b) {
  return (!a->until || b->since <= a->until) && (!b->until || a->since <= b->until);
}

static void rows_are_whole(void **state) {
  (void)state;
  for (const op *const *row = op_table(); *row; row++) {
    const op *o = *row;
    if (!o->name || !o->domain || !o->attributes || !o->infer || o->since < 1)
      fail_msg("%s lacks a field", o->name);
    if (o->until && o->until < o->since) fail_msg("%s ends before it begins", o->name);
    if (o->max_inputs >= 0 && o->max_inputs < o->min_inputs)
      fail_msg("%s takes no number of inputs", o->name);
    if (!o->backward != !o->differentiable) fail_msg("%s: backward and differentiable disagree", o->name);
    if (o->prepare && o->flags & OP_VIEW) fail_msg("%s is a view and prepares something", o->name);
  }
}

static void one_meaning_an_opset(void **state) {
  (void)state;
  for (const op *const *a = op_table(); *a; a++) {
    for (const op *const *b = a + 1; *b; b++) {
      bool same = strcmp((*a)->name, (*b)->name) == 0 && strcmp((*a)->domain, (*b)->domain) == 0;
      if (same && ranges_meet(*a, *b)) fail_msg("%s has two meanings in one opset", (*a)->name);
    }
  }
}

static void meaning_follows_opset(void **state) {
  (void)state;
  assert_ptr_equal(op_find("", "Softmax", 12), op_find("ai.onnx", "Softmax", 7));
  assert_ptr_not_equal(op_find("", "Softmax", 12), op_find("", "Softmax", 13));
  assert_ptr_equal(op_find("", "Softmax", 13), op_find("", "Softmax", 17));
  assert_int_equal(op_find("", "Slice", 9)->max_inputs, 1);
  assert_int_equal(op_find("", "Slice", 10)->max_inputs, 5);
  assert_non_null(op_find(NULL, "Relu", 17));
}

static void what_is_not_there_is_not_found(void **state) {
  (void)state;
  assert_null(op_find("", "relu", 17));
  assert_null(op_find("com.example", "Relu", 17));
  assert_null(op_find("", "HardSwish", 13));
}

/* Operators of any number of inputs look at each of them. */
static void none_of_any_number_is_absent(void **state) {
  (void)state;
  int n = 0;
  for (const op *const *row = op_table(); *row; row++) {
    graph *g;
    int x, y;
    if ((*row)->max_inputs >= 0) continue;
    n++;
    assert_int_equal(graph_new(&g), STATUS_OK);
    assert_int_equal(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 2, .dims = {-1, 3}}, &x),
                     STATUS_OK);
    assert_int_equal(graph_add_value(g, "y", &y), STATUS_OK);
    assert_int_equal(graph_add_node(g, "n", *row, (*row)->since, (int[]){x, -1}, 2, &y, 1, NULL, 0),
                     STATUS_BAD_INPUT);
    assert_non_null(strstr(status_message(), "input 1 is required and absent"));
    graph_free(&g);
  }
  assert_true(n > 3);
}

static void libraries_are_named(void **state) {
  (void)state;
  if (ops_init() != STATUS_OK) fail_msg("%s", status_message());
  const char *text = ops_libraries();
  int version[2];
  char core[64];
  if (sscanf(text, "OpenBLAS %d.%d.%*s %63[^,], oneDNN", &version[0], &version[1], core) != 3)
    fail_msg("%s", text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_whole),
      cmocka_unit_test(one_meaning_an_opset),
      cmocka_unit_test(meaning_follows_opset),
      cmocka_unit_test(what_is_not_there_is_not_found),
      cmocka_unit_test(none_of_any_number_is_absent),
      cmocka_unit_test(libraries_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
