/* Loop, Scan and sequences: turns that shapes decide become part of the graph; all others, and loops without
 * an end, are refused. */
#include "onnx/small.h"

/* x [N, 3], numbers, true, and the number of rows. */
static wire start(void) {
  wire g = {0};
  const int64_t zero = 0, one = 1, two = 2, three = 3;
  const float half = 0.5f;
  add_input(&g, "x", 3);
  add_number(&g, "0", 7, &zero, sizeof zero);
  add_number(&g, "1", 7, &one, sizeof one);
  add_number(&g, "2", 7, &two, sizeof two);
  add_number(&g, "3", 7, &three, sizeof three);
  add_number(&g, "half", 1, &half, sizeof half);
  add_number(&g, "true", 9, "\1", 1);
  add_node(&g, "Shape", "shape", NAMES("x"), "dims");
  add_node(&g, "Gather", "columns", NAMES("dims", "1"), "columns");
  add_node(&g, "Gather", "rows", NAMES("dims", "0"), "rows");
  return g;
}

static void add_named_input(wire *g, const char *name) {
  wire info = {0};
  wire_text(&info, 1, name);
  wire_message(g, 11, &info);
}

/* A body of (i, c, s) with what the caller adds. */
static wire body_of(void) {
  wire b = {0};
  add_named_input(&b, "i");
  add_named_input(&b, "c");
  add_named_input(&b, "s");
  return b;
}

static void add_outputs(wire *g, const char *const *names) {
  for (; *names; names++) add_output(g, *names);
}

static void add_loop(wire *g, const char *name, const char *const *inputs, const char *const *outputs,
                     wire *body) {
  wire n = node_of("Loop", name, inputs, outputs);
  add_subgraph(&n, "body", body);
  wire_message(g, 1, &n);
}

/* s = s + x, kept; the condition is handed on. */
static wire adding(void) {
  wire b = body_of();
  add_node(&b, "Add", "add", NAMES("s", "x"), "sum");
  add_outputs(&b, NAMES("c", "sum", "sum"));
  return b;
}

static void test_a_number_of_turns(void **state) {
  (void)state;
  wire g = start(), body = adding();
  add_loop(&g, "loop", NAMES("3", "", "x"), NAMES("last", "all"), &body);
  add_outputs(&g, NAMES("last", "all"));
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){-4, 8, -12}, 3);
  expect_output(m, 1, (float[]){-2, 4, -6, -3, 6, -9, -4, 8, -12}, 9);
  assert_true(graph_find(model_graph(m), "loop/2/sum") >= 0);
  model_free(&m);
}

/* What no turn changes is there once; weights around the loop are parameters. */
static void test_weights_in_a_loop(void **state) {
  (void)state;
  wire g = start(), body = body_of();
  add_node(&body, "Neg", "once", NAMES("half"), "minus");
  add_node(&body, "Mul", "scale", NAMES("s", "minus"), "scaled");
  add_outputs(&body, NAMES("c", "scaled"));
  add_loop(&g, "loop", NAMES("3", "true", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){0.125f, -0.25f, 0.375f}, 3);
  assert_int_equal(model_graph(m)->n_parameters, 1);
  assert_true(graph_find(model_graph(m), "loop/minus") >= 0);
  model_free(&m);
}

/* count = 0; do { s = s + x; count = count + 1 } while (count < columns) */
static wire counting(const char *most) {
  wire b = body_of();
  add_named_input(&b, "count");
  add_node(&b, "Add", "add", NAMES("s", "x"), "sum");
  add_node(&b, "Add", "next", NAMES("count", "1"), "counted");
  add_node(&b, "Less", "more", NAMES("counted", most), "more");
  add_outputs(&b, NAMES("more", "sum", "counted"));
  return b;
}

static void test_a_condition(void **state) {
  (void)state;
  wire g = start(), body = counting("columns");
  add_loop(&g, "loop", NAMES("", "true", "x", "0"), NAMES("y"), &body);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){-4, 8, -12}, 3);
  model_free(&m);
  g = start(), body = counting("rows");
  add_loop(&g, "loop", NAMES("", "true", "x", "0"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g,
                 "node 'loop' (Loop): whether turn 1 is its last depends on the data or the number of rows");
}

static void test_loops_in_loops(void **state) {
  (void)state;
  wire g = start(), outer = body_of(), inner = adding();
  add_loop(&outer, "inner", NAMES("3", "", "s"), NAMES("t", "all"), &inner);
  add_node(&outer, "Identity", "same", NAMES("t"), "u");
  add_outputs(&outer, NAMES("c", "u"));
  add_loop(&g, "outer", NAMES("2", "", "x"), NAMES("y"), &outer);
  add_output(&g, "y");
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){-7, 14, -21}, 3);
  assert_true(graph_find(model_graph(m), "outer/1/inner/2/sum") >= 0);
  model_free(&m);
}

static void test_no_turn(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    wire g = start(), body = adding();
    add_loop(&g, "loop", NAMES("0", "", "x"), k ? NAMES("last", "all") : NAMES("last"), &body);
    add_output(&g, "last");
    if (k) {
      expect_refused(
          &g, "node 'loop' (Loop): makes no turn, so that nothing tells the shape of its output 'all'");
      continue;
    }
    model *m = parse(&g, STATUS_OK);
    expect_output(m, 0, (float[]){-1, 2, -3}, 3);
    model_free(&m);
  }
}

static void test_loops_without_an_end(void **state) {
  (void)state;
  const int64_t most = INT64_MAX;
  wire g = start(), body = adding();
  add_loop(&g, "loop", NAMES("", "", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "node 'loop' (Loop): has neither a number of turns nor a condition");
  g = start(), body = adding();
  add_loop(&g, "loop", NAMES("", "true", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "m.onnx: its loops are too large at 'loop/");
  g = start(), body = body_of();
  add_outputs(&body, NAMES("c", "s"));
  add_number(&g, "most", 7, &most, sizeof most);
  add_loop(&g, "loop", NAMES("most", "", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "m.onnx: its loops are too large at 'loop/");
}

static void test_turns_that_rows_decide(void **state) {
  (void)state;
  wire g = start(), body = adding();
  add_loop(&g, "loop", NAMES("rows", "", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "node 'loop' (Loop): how many turns it takes depends on the data or the number of rows");
}

static void test_bodies_that_do_not_fit(void **state) {
  (void)state;
  wire g = start(), body = adding();
  add_loop(&g, "loop", NAMES("3", "", "x", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "node 'loop' (Loop): its body has 3 inputs and 3 outputs, not 4 and 3 or more");
  g = start(), body = body_of();
  add_outputs(&body, NAMES("c", "nowhere"));
  add_loop(&g, "loop", NAMES("3", "", "x"), NAMES("y"), &body);
  add_output(&g, "y");
  expect_refused(&g, "node 'loop' (Loop): nothing gives output 1 of its body");
  g = start();
  wire n = node_of("Loop", "loop", NAMES("3", "", "x"), NAMES("y"));
  wire_message(&g, 1, &n);
  add_output(&g, "y");
  expect_refused(&g, "node 'loop' (Loop): lacks its body");
}

/* ---- Scan ---- */

static void add_scan(wire *g, const char *const *inputs, const char *const *outputs, int64_t axis,
                     int64_t back, wire *body) {
  wire n = node_of("Scan", "scan", inputs, outputs);
  add_subgraph(&n, "body", body);
  add_attribute_int(&n, "num_scan_inputs", 1);
  add_attribute_ints(&n, "scan_input_axes", axis);
  add_attribute_ints(&n, "scan_input_directions", back);
  add_attribute_ints(&n, "scan_output_axes", -1);
  add_attribute_ints(&n, "scan_output_directions", back);
  wire_message(g, 1, &n);
}

static wire sum_of(void) {
  wire b = {0};
  add_named_input(&b, "sum");
  add_named_input(&b, "part");
  add_node(&b, "Add", "add", NAMES("sum", "part"), "so far");
  add_outputs(&b, NAMES("so far", "so far"));
  return b;
}

static void test_scans(void **state) {
  (void)state;
  for (int back = 0; back < 2; back++) {
    wire g = start(), body = sum_of();
    add_scan(&g, NAMES("half", "x"), NAMES("last", "all"), -1, back, &body);
    add_outputs(&g, NAMES("last", "all"));
    model *m = parse(&g, STATUS_OK);
    expect_output(m, 0, (float[]){-1.5f}, 1);
    expect_output(m, 1, back ? (float[]){-1.5f, -0.5f, -2.5f} : (float[]){-0.5f, 1.5f, -1.5f}, 3);
    model_free(&m);
  }
  wire g = start(), body = sum_of();
  add_scan(&g, NAMES("half", "x"), NAMES("last", "all"), 0, 0, &body);
  add_output(&g, "all");
  expect_refused(&g, "node 'scan' (Scan): scans what has as many places as there are rows");
}

/* Two rows, (0, 0, 0) and (1, 1, 1), scanned as skl2onnx does, with x as the state. */
static void test_distances(void **state) {
  (void)state;
  wire g = start(), b = {0}, rows = {0};
  const float numbers[] = {0, 0, 0, 1, 1, 1};
  wire_int(&rows, 1, 2);
  wire_int(&rows, 1, 3);
  wire_int(&rows, 2, 1);
  wire_text(&rows, 8, "known");
  wire_bytes(&rows, 9, numbers, sizeof numbers);
  wire_message(&g, 5, &rows);
  add_named_input(&b, "state");
  add_named_input(&b, "row");
  add_node(&b, "Identity", "stay", NAMES("state"), "stays");
  add_node(&b, "Sub", "minus", NAMES("state", "row"), "difference");
  wire sum = node_of("ReduceSumSquare", "sum", NAMES("difference"), NAMES("sum"));
  add_attribute_ints(&sum, "axes", 1);
  add_attribute_int(&sum, "keepdims", 0);
  wire_message(&b, 1, &sum);
  add_node(&b, "Identity", "flat", NAMES("sum"), "distance");
  add_outputs(&b, NAMES("stays", "distance"));
  wire n = node_of("Scan", "scan", NAMES("x", "known"), NAMES("same", "distances"));
  add_subgraph(&n, "body", &b);
  add_attribute_int(&n, "num_scan_inputs", 1);
  wire_message(&g, 1, &n);
  add_outputs(&g, NAMES("distances", "same"));
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){14, 21}, 2);
  expect_output(m, 1, (float[]){-1, 2, -3}, 3);
  assert_int_equal(model_graph(m)->n_nodes, 2);
  model_free(&m);
}

/* ---- sequences ---- */

/* A loop that collects s in a sequence, joined behind it. */
static void test_sequences_in_loops(void **state) {
  (void)state;
  wire g = start(), body = body_of();
  add_named_input(&body, "list");
  add_node(&body, "Add", "add", NAMES("s", "x"), "sum");
  add_node(&body, "SequenceInsert", "put", NAMES("list", "sum"), "longer");
  add_outputs(&body, NAMES("c", "sum", "longer"));
  add_node(&g, "SequenceEmpty", "none", NAMES(NULL), "empty");
  add_loop(&g, "loop", NAMES("2", "", "x", "empty"), NAMES("last", "list"), &body);
  add_node(&g, "SequenceInsert", "first", NAMES("list", "x", "0"), "whole");
  wire n = node_of("ConcatFromSequence", "join", NAMES("whole"), NAMES("y"));
  add_attribute_int(&n, "axis", 1);
  wire_message(&g, 1, &n);
  add_node(&g, "SequenceAt", "at", NAMES("whole", "2"), "z");
  add_outputs(&g, NAMES("y", "z"));
  model *m = parse(&g, STATUS_OK);
  expect_output(m, 0, (float[]){-1, 2, -3, -2, 4, -6, -3, 6, -9}, 9);
  expect_output(m, 1, (float[]){-3, 6, -9}, 3);
  model_free(&m);
}

static void test_sequences_that_are_refused(void **state) {
  (void)state;
  wire g = start();
  add_node(&g, "SequenceConstruct", "make", NAMES("x", "x"), "list");
  add_node(&g, "SequenceAt", "at", NAMES("list", "2"), "y");
  add_output(&g, "y");
  expect_refused(&g, "node 'at' (SequenceAt): place 2 of a sequence of 2");
  g = start();
  add_node(&g, "SequenceConstruct", "make", NAMES("x", "x"), "list");
  add_node(&g, "SequenceAt", "at", NAMES("list", "rows"), "y");
  add_output(&g, "y");
  expect_refused(&g,
                 "node 'at' (SequenceAt): which place it means depends on the data or the number of rows");
  g = start();
  add_node(&g, "SequenceLength", "count", NAMES("x"), "y");
  add_output(&g, "y");
  expect_refused(&g, "node 'count' (SequenceLength): its input is not a sequence that the model makes");
  g = start();
  add_node(&g, "SplitToSequence", "split", NAMES("x"), "list");
  add_node(&g, "SequenceLength", "count", NAMES("list"), "y");
  add_output(&g, "y");
  expect_refused(
      &g,
      "node 'split' (SplitToSequence): how many pieces it makes depends on the data or the number of rows");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_number_of_turns),
      cmocka_unit_test(test_weights_in_a_loop),
      cmocka_unit_test(test_a_condition),
      cmocka_unit_test(test_loops_in_loops),
      cmocka_unit_test(test_no_turn),
      cmocka_unit_test(test_loops_without_an_end),
      cmocka_unit_test(test_turns_that_rows_decide),
      cmocka_unit_test(test_bodies_that_do_not_fit),
      cmocka_unit_test(test_scans),
      cmocka_unit_test(test_distances),
      cmocka_unit_test(test_sequences_in_loops),
      cmocka_unit_test(test_sequences_that_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
