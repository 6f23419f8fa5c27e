/* Models of a few nodes, written by hand. */
#ifndef MPISTILL_TESTS_SMALL_H
#define MPISTILL_TESTS_SMALL_H

#include "onnx/wire.h"

#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/model.h"

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline void wire_names(wire *to, int field, const char *const *names) {
  for (; *names; names++) wire_text(to, field, *names);
}

static inline wire node_of(const char *type, const char *name, const char *const *inputs,
                           const char *const *outputs) {
  wire n = {0};
  wire_names(&n, 1, inputs);
  wire_names(&n, 2, outputs);
  wire_text(&n, 3, name);
  wire_text(&n, 4, type);
  return n;
}

static inline void add_node(wire *g, const char *type, const char *name, const char *const *inputs,
                            const char *output) {
  wire n = node_of(type, name, inputs, NAMES(output));
  wire_message(g, 1, &n);
}

static inline void add_output(wire *g, const char *name) {
  wire info = {0};
  wire_text(&info, 1, name);
  wire_message(g, 12, &info);
}

/* float [N, side], or one bool */
static inline void add_input(wire *g, const char *name, int64_t side) {
  wire rows = {0}, columns = {0}, dims = {0}, tensor = {0}, type = {0}, info = {0};
  wire_text(&rows, 2, "N");
  wire_int(&columns, 1, side);
  if (side) wire_message(&dims, 1, &rows);
  if (side) wire_message(&dims, 1, &columns);
  wire_int(&tensor, 1, side ? 1 : 9);
  wire_message(&tensor, 2, &dims);
  wire_message(&type, 1, &tensor);
  wire_text(&info, 1, name);
  wire_message(&info, 2, &type);
  wire_message(g, 11, &info);
  free(rows.bytes);
  free(columns.bytes);
}

/* type 1: float, 7: int64; a list of one. */
static inline void add_number(wire *g, const char *name, int type, const void *value, size_t bytes) {
  wire t = {0};
  wire_int(&t, 1, 1);
  wire_int(&t, 2, type);
  wire_text(&t, 8, name);
  wire_bytes(&t, 9, value, bytes);
  wire_message(g, 5, &t);
}

static inline void add_subgraph(wire *node, const char *name, wire *graph) {
  wire a = {0};
  wire_text(&a, 1, name);
  wire_message(&a, 6, graph);
  wire_int(&a, 20, 5);
  wire_message(node, 5, &a);
}

static inline wire model_of(wire *graph) {
  wire m = {0}, opset = {0};
  wire_int(&m, 1, 8);
  wire_message(&m, 7, graph);
  wire_int(&opset, 2, 17);
  wire_message(&m, 8, &opset);
  return m;
}

static inline model *parse(wire *graph, status expected) {
  model *m;
  wire bytes = model_of(graph);
  status st = model_parse(&m, "m.onnx", bytes.bytes, bytes.n);
  free(bytes.bytes);
  if (st != expected) fail_msg("status %d: %s", st, status_message());
  return m;
}

static inline void expect_refused(wire *graph, const char *message) {
  model *m = parse(graph, STATUS_BAD_INPUT);
  assert_null(m);
  if (!strstr(status_message(), message)) fail_msg("'%s' is not in '%s'", message, status_message());
}

/* The first n numbers of an output for the row -1, 2, -3. */
static inline void expect_output(const model *m, int output, const float *expected, int n) {
  static const float row[] = {-1, 2, -3};
  const graph *g = model_graph(m);
  plan *p;
  float *block;
  if (plan_new(&p, g, &(plan_options){.rows = 1}) != STATUS_OK) fail_msg("%s", status_message());
  assert_int_equal(mem_new(&block, (size_t)g->n_block, sizeof *block), STATUS_OK);
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  memcpy(plan_input(p, 0)->data, row, sizeof row);
  assert_int_equal(plan_forward(p, &(run_context){0}), STATUS_OK);
  assert_true(shape_count(&plan_output(p, output)->shape) >= n);
  const float *got = plan_output(p, output)->data;
  for (int i = 0; i < n; i++)
    if (got[i] != expected[i])
      fail_msg("output %d, number %d is %g, expected %g", output, i, got[i], expected[i]);
  plan_free(&p);
  mem_free(block);
}

static inline void add_attribute_int(wire *node, const char *name, int64_t value) {
  wire a = {0};
  wire_text(&a, 1, name);
  wire_int(&a, 3, value);
  wire_int(&a, 20, 2);
  wire_message(node, 5, &a);
}

/* A list of one. */
static inline void add_attribute_ints(wire *node, const char *name, int64_t value) {
  wire a = {0};
  wire_text(&a, 1, name);
  wire_int(&a, 8, value);
  wire_int(&a, 20, 7);
  wire_message(node, 5, &a);
}

#endif
