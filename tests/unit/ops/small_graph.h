/* Graphs of a few operators, written line by line. */
#ifndef TESTS_OPS_SMALL_GRAPH_H
#define TESTS_OPS_SMALL_GRAPH_H

#include "one_op.h"

/* Every value has a name of its own. */
static inline const char *new_name(void) {
  static char name[16];
  static int n;
  snprintf(name, sizeof name, "v%d", n++);
  return name;
}

/* Positive where it is a variance. */
static inline int parameter(graph *g, shape s, bool positive) {
  static uint64_t stream;
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_FLOAT, &s));
  float *x = t->data;
  fill_random(x, shape_count(&s), ++stream);
  for (int64_t i = 0; i < shape_count(&s); i++) x[i] = positive ? fabsf(x[i]) + 0.5f : 0.5f * x[i];
  must(graph_add_constant(g, new_name(), true, t, &v));
  return v;
}

static inline int number(graph *g, float x) {
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_FLOAT, &(shape){0}));
  ((float *)t->data)[0] = x;
  must(graph_add_constant(g, new_name(), false, t, &v));
  return v;
}

static inline int apply(graph *g, const char *type, const char *attributes, const int *in, int n_in) {
  attribute *a;
  int n, y;
  attributes_from_text(attributes, &a, &n);
  must(graph_add_value(g, new_name(), &y));
  must(graph_add_node(g, new_name(), op_find("", type, 17), 17, in, n_in, &y, 1, a, n));
  return y;
}

#define APPLY(g, type, attributes, ...)                                                                      \
  apply(g, type, attributes, (int[]){__VA_ARGS__}, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)))

#endif
