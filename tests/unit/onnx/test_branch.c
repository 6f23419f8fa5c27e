/* If: the branch that shapes choose becomes part of the graph; what shapes do not choose is refused. */
#include "onnx/small.h"

/* outputs = If(condition) */
static void add_if(wire *g, const char *name, const char *condition, const char *const *outputs, wire *yes,
                   wire *no) {
  wire n = node_of("If", name, NAMES(condition), outputs);
  add_subgraph(&n, "then_branch", yes);
  add_subgraph(&n, "else_branch", no);
  wire_message(g, 1, &n);
}

/* u = type(input): both branches use the same name. */
static wire branch_of(const char *type, const char *input) {
  wire g = {0};
  add_node(&g, type, "op", NAMES(input), "u");
  add_output(&g, "u");
  return g;
}

/* x [N, 3], t = -x, and three conditions: the second dimension is 3 ("three"), is 2 ("two"), the first is 2.
 */
static wire start(void) {
  wire g = {0};
  const int64_t zero = 0, one = 1, two = 2, three = 3;
  add_input(&g, "x", 3);
  add_number(&g, "0", 7, &zero, sizeof zero);
  add_number(&g, "1", 7, &one, sizeof one);
  add_number(&g, "2", 7, &two, sizeof two);
  add_number(&g, "3", 7, &three, sizeof three);
  add_node(&g, "Neg", "neg", NAMES("x"), "t");
  add_node(&g, "Shape", "shape", NAMES("x"), "dims");
  add_node(&g, "Gather", "columns", NAMES("dims", "1"), "columns");
  add_node(&g, "Gather", "rows", NAMES("dims", "0"), "rows");
  add_node(&g, "Equal", "three", NAMES("columns", "3"), "three");
  add_node(&g, "Equal", "two", NAMES("columns", "2"), "two");
  add_node(&g, "Equal", "some", NAMES("rows", "2"), "some");
  return g;
}

static void test_the_shape_chooses(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    wire g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
    add_if(&g, "choose", k ? "two" : "three", NAMES("y"), &yes, &no);
    add_output(&g, "y");
    model *m = parse(&g, STATUS_OK);
    expect_output(m, 0, k ? (float[]){1, 2, 3} : (float[]){1, 0, 3}, 3);
    assert_true(graph_find(model_graph(m), "choose/u") >= 0);
    model_free(&m);
  }
}

/* Inside: the t of the If around it, not the graph's. And what the branch itself brings is no parameter. */
static void test_branches_in_branches(void **state) {
  (void)state;
  const float half = 0.5f;
  wire g = start(), outer = {0}, inner = {0}, no = branch_of("Abs", "x"), other = branch_of("Abs", "x");
  add_number(&inner, "half", 1, &half, sizeof half);
  add_node(&inner, "Mul", "scale", NAMES("t", "half"), "scaled");
  add_output(&inner, "scaled");
  add_node(&outer, "Relu", "ramp", NAMES("x"), "t");
  add_if(&outer, "inner", "three", NAMES("z"), &inner, &no);
  add_output(&outer, "z");
  add_if(&g, "outer", "three", NAMES("y"), &outer, &other);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){0, 1, 0}, 3);
  assert_int_equal(model_graph(m)->n_parameters, 0);
  assert_true(graph_find(model_graph(m), "outer/inner/scaled") >= 0);
  model_free(&m);
}

static void test_the_file_stays_as_it_is(void **state) {
  (void)state;
  wire g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
  add_if(&g, "choose", "three", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK), *again;
  unsigned char *bytes;
  size_t n;
  assert_int_equal(model_pack(m, NULL, &bytes, &n), STATUS_OK);
  assert_int_equal(model_parse(&again, "again.onnx", bytes, n), STATUS_OK);
  expect_output(again, 0, (float[]){1, 0, 3}, 3);
  mem_free(bytes);
  model_free(&again);
  model_free(&m);
}

static void test_a_branch_that_is_not_taken_may_hold_anything(void **state) {
  (void)state;
  wire g = start(), yes = branch_of("Relu", "t"), no = branch_of("Unheard", "t");
  add_if(&g, "choose", "three", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){1, 0, 3}, 3);
  model_free(&m);
  g = start(), yes = branch_of("Relu", "t"), no = branch_of("Unheard", "t");
  add_if(&g, "choose", "two", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "'choose/op' (Unheard, opset 17): unknown operator");
}

static void test_what_no_shape_chooses_is_refused(void **state) {
  (void)state;
  wire g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
  add_if(&g, "choose", "some", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "node 'choose' (If): which branch it takes depends on the data or the number of rows");
  g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
  add_input(&g, "given", 0);
  add_if(&g, "choose", "given", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "node 'choose' (If): which branch it takes depends on the data or the number of rows");
}

static void test_branches_that_do_not_fit(void **state) {
  (void)state;
  wire g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
  add_if(&g, "choose", "three", NAMES("y", "z"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "its branch has 0 inputs and 1 outputs, not 0 and 2");
  g = start();
  wire n = node_of("If", "choose", NAMES("three"), NAMES("y"));
  wire_message(&g, 1, &n);
  add_output(&g, "y");
  expect_refused(&g, "node 'choose' (If): lacks a branch");
  g = start(), yes = branch_of("Relu", "t"), no = branch_of("Abs", "t");
  add_if(&g, "choose", "nowhere", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "nothing gives its input 'nowhere'");
  g = (wire){0}, yes = branch_of("Relu", "x"), no = branch_of("Abs", "x");
  add_input(&g, "x", 3);
  add_if(&g, "choose", "y", NAMES("y"), &yes, &no);
  add_output(&g, "y");
  expect_refused(&g, "value 'y' is needed but neither given nor computed");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_shape_chooses),
      cmocka_unit_test(test_branches_in_branches),
      cmocka_unit_test(test_the_file_stays_as_it_is),
      cmocka_unit_test(test_a_branch_that_is_not_taken_may_hold_anything),
      cmocka_unit_test(test_what_no_shape_chooses_is_refused),
      cmocka_unit_test(test_branches_that_do_not_fit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
