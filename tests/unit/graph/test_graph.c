/* Building graphs: order, unused nodes, cycles, parameters, attributes. */
#include "toy_ops.h"

#include <time.h>

static const shape square = {2, {2, 2}}, rows2 = {2, {-1, 2}};

static void expect_failure(status st, status expected, const char *part) {
  assert_int_equal(st, expected);
  if (!strstr(status_message(), part)) fail_msg("'%s' is not in '%s'", part, status_message());
}

/* A node whose output value exists already. */
static void node_to(graph *g, const op *op, const char *name, int a, int b, int out) {
  OK(graph_add_node(g, name, op, 17, (int[]){a, b}, b < 0 ? 1 : 2, &out, 1, NULL, 0));
}

static void test_sorts_nodes(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), a = computed(g, "a"), b = computed(g, "b"), c = computed(g, "c");
  node_to(g, &add_op, "last", a, b, c);
  node_to(g, &relu_op, "second", a, -1, b);
  node_to(g, &relu_op, "first", x, -1, a);
  finish(g, c);
  assert_int_equal(g->n_nodes, 3);
  const char *names[] = {"first", "second", "last"};
  for (int i = 0; i < 3; i++) {
    assert_string_equal(g->nodes[i].name, names[i]);
    assert_int_equal(g->values[g->nodes[i].outputs[0]].producer, i);
  }
  assert_int_equal(g->values[a].n_uses, 2);
  assert_int_equal(g->values[c].n_uses, 1);
  graph_free(&g);
}

static void test_keeps_the_order_of_the_file(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2);
  int a = apply(g, &relu_op, "a", x, -1), b = apply(g, &relu_op, "b", x, -1);
  int c = apply(g, &relu_op, "c", b, -1), d = apply(g, &relu_op, "d", a, -1);
  finish(g, apply(g, &add_op, "e", c, d));
  for (int i = 0; i < 5; i++)
    assert_string_equal(g->nodes[i].name, ((const char *[]){"a", "b", "c", "d", "e"})[i]);
  graph_free(&g);
}

static void test_drops_unused_nodes_and_inputs(void **state) {
  (void)state;
  graph *g = start();
  input(g, "nobody's", rows2);
  int x = input(g, "x", rows2), w = initializer(g, "w", square, NULL);
  int y = apply(g, &relu_op, "y", x, -1);
  int unused = apply(g, &matmul_op, "unused", x, w);
  apply(g, &relu_op, "unused too", unused, -1);
  finish(g, y);
  assert_int_equal(g->n_nodes, 1);
  assert_int_equal(g->n_inputs, 1);
  assert_int_equal(g->inputs[0], x);
  assert_int_equal(g->values[unused].producer, -1);
  assert_int_equal(g->values[w].kind, VALUE_CONSTANT);
  assert_int_equal(g->values[x].n_uses, 1);
  graph_free(&g);
}

static void test_refuses_cycles(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), a = computed(g, "a"), b = computed(g, "b");
  node_to(g, &add_op, "one", x, b, a);
  node_to(g, &relu_op, "two", a, -1, b);
  OK(graph_add_output(g, b));
  expect_failure(graph_finish(g), STATUS_BAD_INPUT, "node 'two' (Relu): needs 'a'");
  graph_free(&g);
  g = start();
  a = computed(g, "a");
  node_to(g, &relu_op, "self", a, -1, a);
  OK(graph_add_output(g, a));
  expect_failure(graph_finish(g), STATUS_BAD_INPUT, "node 'self' (Relu): needs 'a'");
  graph_free(&g);
}

static void test_refuses_broken_graphs(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), nothing = computed(g, "nothing"), v;
  expect_failure(graph_finish(g), STATUS_BAD_INPUT, "no output");
  int y = apply(g, &add_op, "y", x, nothing);
  OK(graph_add_output(g, y));
  expect_failure(graph_add_output(g, y), STATUS_BAD_INPUT, "'y' is listed twice");
  expect_failure(graph_add_value(g, "x", &v), STATUS_BAD_INPUT, "'x' is defined twice");
  expect_failure(graph_add_node(g, "n", &relu_op, 17, &x, 1, &y, 1, NULL, 0), STATUS_BAD_INPUT,
                 "node 'n' (Relu): its output 'y' is defined elsewhere");
  expect_failure(graph_add_node(g, "n", &relu_op, 17, &x, 1, &x, 1, NULL, 0), STATUS_BAD_INPUT,
                 "its output 'x' is defined elsewhere");
  int two[] = {x, x}, absent[] = {x, -1}, out = computed(g, "out");
  expect_failure(graph_add_node(g, "n", &relu_op, 17, two, 2, &out, 1, NULL, 0), STATUS_BAD_INPUT,
                 "has 2 inputs, expected at most 1");
  expect_failure(graph_add_node(g, "n", &add_op, 17, two, 1, &out, 1, NULL, 0), STATUS_BAD_INPUT,
                 "has 1 inputs, expected at least 2");
  expect_failure(graph_add_node(g, "n", &add_op, 17, absent, 2, &out, 1, NULL, 0), STATUS_BAD_INPUT,
                 "input 1 is required and absent");
  expect_failure(graph_add_node(g, "n", &relu_op, 17, &x, 1, (int[]){out, -1}, 2, NULL, 0), STATUS_BAD_INPUT,
                 "has 2 outputs, expected at most 1");
  expect_failure(graph_finish(g), STATUS_BAD_INPUT, "value 'nothing' is needed by node 'y'");
  graph_free(&g);
}

static void test_finds_parameters(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), unused;
  int w = initializer(g, "w", square, (float[]){1, 2, 3, 4}), m = initializer(g, "m", (shape){1, {1}}, NULL);
  int s = initializer(g, "s", square, NULL), fixed = constant(g, "fixed", square, NULL),
      half = initializer(g, "half", (shape){0}, NULL);
  tensor *ints;
  OK(tensor_new(&ints, DTYPE_INT64, &square));
  OK(graph_add_constant(g, "ints", true, ints, &unused));
  int h = apply(g, &centre_op, "h", apply(g, &matmul_op, "xw", apply(g, &add_op, "x+half", x, half), w), m);
  int mask = initializer(g, "mask", square, (float[]){0, -INFINITY, 0, -3.4e38f}),
      shift = initializer(g, "shift", square, (float[]){0, -1e4f, 0, 0});
  int i = apply(g, &matmul_op, "i", apply(g, &matmul_op, "f", h, fixed), w);
  i = apply(g, &add_op, "shifted", apply(g, &add_op, "masked", i, mask), shift);
  int blind = apply(g, &range_op, "r", apply(g, &shape_op, "shape", s, -1), -1);
  finish(g, apply(g, &matmul_op, "y", i, blind));
  assert_int_equal(g->values[w].kind, VALUE_PARAMETER);
  assert_int_equal(g->values[m].kind, VALUE_STATISTIC);
  assert_int_equal(g->values[s].kind, VALUE_CONSTANT); /* only its shape matters */
  assert_int_equal(g->values[fixed].kind, VALUE_CONSTANT);
  assert_int_equal(g->values[half].kind, VALUE_CONSTANT); /* a constant of a formula */
  assert_int_equal(g->values[mask].kind, VALUE_CONSTANT);
  assert_int_equal(g->values[shift].kind, VALUE_PARAMETER);
  assert_int_equal(g->values[unused].kind, VALUE_CONSTANT);
  assert_int_equal(g->values[w].offset, 0);
  assert_int_equal(g->values[m].offset, 16);
  assert_int_equal(g->n_block, 48);
  assert_int_equal(g->n_parameters, 8);
  float block[48];
  memset(block, 1, sizeof block);
  graph_initial_block(g, block);
  float expected[48] = {1, 2, 3, 4, [16] = -0.6f, [33] = -1e4f};
  assert_memory_equal(block, expected, sizeof block);
  graph_free(&g);
}

static void test_attributes(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), y = computed(g, "y");
  attribute *a;
  OK(mem_new(&a, 4, sizeof *a));
  for (int i = 0; i < 4; i++)
    OK(mem_string(&a[i].name, ((const char *[]){"axis", "alpha", "mode", "names"})[i]));
  a[0].type = ATTRIBUTE_INT, a[0].i = -3;
  a[1].type = ATTRIBUTE_FLOAT, a[1].f = 0.5f;
  a[2].type = ATTRIBUTE_STRING;
  OK(mem_string(&a[2].s, "constant"));
  a[3].type = ATTRIBUTE_STRINGS, a[3].n = 1;
  OK(mem_new(&a[3].strings, 1, sizeof(char *)));
  OK(mem_string(&a[3].strings[0], "one"));
  OK(graph_add_node(g, "", &relu_op, 13, &x, 1, &y, 1, a, 4));
  finish(g, y);
  const node *n = &g->nodes[0];
  assert_string_equal(n->name, "Relu_0");
  assert_int_equal(n->opset, 13);
  assert_int_equal(node_int(n, "axis", 1), -3);
  assert_int_equal(node_int(n, "none", 1), 1);
  assert_true(node_float(n, "alpha", 1) == 0.5f);
  assert_true(node_float(n, "none", 1) == 1);
  assert_string_equal(node_string(n, "mode", ""), "constant");
  assert_string_equal(node_attribute(n, "names")->strings[0], "one");
  assert_null(node_attribute(n, "none"));
  graph_free(&g);
}

/* 50,000 values: long chains recurse nowhere, and names are found by hash. */
static void test_large_graph(void **state) {
  (void)state;
  enum { N = 50000 };
  char name[32];
  clock_t before = clock();
  graph *g = start();
  int v = input(g, "x", rows2), first = v;
  for (int i = 0; i < N; i++) {
    snprintf(name, sizeof name, "layer.%d.output", i);
    v = computed(g, name);
  }
  for (int i = N - 1; i >= 0; i--) node_to(g, &relu_op, NULL, first + i, -1, first + i + 1);
  finish(g, v);
  assert_int_equal(g->n_nodes, N);
  for (int i = 0; i < N; i++) assert_int_equal(g->nodes[i].inputs[0], first + i);
  assert_int_equal(graph_find(g, "layer.31234.output"), first + 31235);
  assert_int_equal(graph_find(g, "layer.50000.output"), -1);
  assert_true((double)(clock() - before) / CLOCKS_PER_SEC < 2.0);
  graph_free(&g);
}

/* relu(x W), with an attribute; whatever is taken is freed by whoever failed. */
static status build_small(graph **out) {
  status st = STATUS_OK;
  int x, w, h, y;
  tensor *t = NULL;
  attribute *a = NULL;
  TRY(graph_new(out));
  TRY(tensor_new(&t, DTYPE_FLOAT, &square));
  TRY(graph_add_constant(*out, "w", true, t, &w));
  TRY(graph_add_input(*out, "x", DTYPE_FLOAT, &rows2, &x));
  TRY(graph_add_value(*out, "h", &h));
  TRY(graph_add_value(*out, "y", &y));
  TRY(graph_add_node(*out, "", &matmul_op, 1, (int[]){x, w}, 2, &h, 1, NULL, 0));
  TRY(mem_new(&a, 1, sizeof *a));
  TRY(graph_add_node(*out, "n", &relu_op, 1, &h, 1, &y, 1, a, 1));
  TRY(graph_add_output(*out, y));
  TRY(graph_finish(*out));
done:
  return st;
}

static void test_survives_failing_allocations(void **state) {
  (void)state;
  int n_failures = 0;
  for (unsigned long n = 1;; n++) {
    graph *g = NULL;
    mem_fail_at(n);
    status st = build_small(&g);
    mem_fail_at(0);
    graph_free(&g);
    if (!st) break;
    assert_int_equal(st, STATUS_FAILED);
    n_failures++;
  }
  assert_true(n_failures > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sorts_nodes),
                                     cmocka_unit_test(test_keeps_the_order_of_the_file),
                                     cmocka_unit_test(test_drops_unused_nodes_and_inputs),
                                     cmocka_unit_test(test_refuses_cycles),
                                     cmocka_unit_test(test_refuses_broken_graphs),
                                     cmocka_unit_test(test_finds_parameters),
                                     cmocka_unit_test(test_attributes),
                                     cmocka_unit_test(test_large_graph),
                                     cmocka_unit_test(test_survives_failing_allocations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
