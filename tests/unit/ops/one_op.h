/* A graph of one operator from a line of text, and what a training plan of it computes. */
#ifndef TESTS_OPS_ONE_OP_H
#define TESTS_OPS_ONE_OP_H

#include "base/mem.h"
#include "base/rng.h"
#include "graph/plan.h"
#include "ops/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ONE_OP_INPUTS = 5 };

typedef struct one_op {
  const char *name;
  const char *attributes;      /* "strides=2,2 auto_pad=SAME_UPPER epsilon=0.1" */
  shape inputs[ONE_OP_INPUTS]; /* rank 0 and no dims: absent, at the end */
} one_op;

/* Shapes as they are written in a table: S(2, 3, 8, 8) */
#define S(...)                                                                                               \
  {                                                                                                          \
    .rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .dims = { __VA_ARGS__ }                      \
  }

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define must(call)                                                                                           \
  do {                                                                                                       \
    if ((call) != STATUS_OK) fail_msg("%s: %s", #call, status_message());                                    \
  } while (0)

static inline attribute attribute_from_text(const char *name, char *value) {
  static const char *const lists[] = {"strides",        "pads",         "dilations", "kernel_shape",
                                      "output_padding", "output_shape", "perm"};
  attribute a = {.type = ATTRIBUTE_INT};
  must(mem_string(&a.name, name));
  for (size_t i = 0; i < COUNT(lists); i++) {
    if (strcmp(name, lists[i]) == 0) a.type = ATTRIBUTE_INTS;
  }
  if (a.type == ATTRIBUTE_INTS) {
    must(mem_new(&a.ints, 16, sizeof *a.ints));
    for (char *at = value; *at; at += *at == ',') a.ints[a.n++] = strtoll(at, &at, 10);
  } else if (value[0] >= 'A') {
    a.type = ATTRIBUTE_STRING;
    must(mem_string(&a.s, value));
  } else if (strchr(value, '.')) {
    a.type = ATTRIBUTE_FLOAT;
    a.f = strtof(value, NULL);
  } else {
    a.i = strtoll(value, NULL, 10);
  }
  return a;
}

static inline void attributes_from_text(const char *text, attribute **out, int *n) {
  char copy[512], *rest = NULL;
  snprintf(copy, sizeof copy, "%s", text ? text : "");
  must(mem_new(out, 8, sizeof **out));
  *n = 0;
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *value = strchr(word, '=');
    *value = '\0';
    (*out)[(*n)++] = attribute_from_text(word, value + 1);
  }
}

static inline void fill_random(float *x, int64_t n, uint64_t stream) {
  for (int64_t i = 0; i < n; i++) x[i] = 2 * rng_uniform(7, RNG_NOISE, stream, (uint64_t)i) - 1;
}

static inline int add_parameter(graph *g, const one_op *c, int input, int copy) {
  tensor *t;
  int index;
  char name[16];
  snprintf(name, sizeof name, copy ? "in%d.%d" : "in%d", input, copy);
  must(tensor_new(&t, DTYPE_FLOAT, &c->inputs[input]));
  float *values = t->data;
  int64_t n = shape_count(&t->shape);
  fill_random(values, n, (uint64_t)input);
  for (int64_t i = 0; input == 4 && i < n; i++) values[i] = fabsf(values[i]) + 0.5f;
  must(graph_add_constant(g, name, true, t, &index));
  return index;
}

/* Input 0 is the graph's input, the others are parameters with random values; 3 and 4, a mean and a variance
 * (which is positive), belong to one node each. copies: so many nodes on the same inputs, which makes every
 * gradient but the first an addition. */
static inline graph *one_op_graph(const one_op *c, int copies) {
  graph *g;
  int inputs[ONE_OP_INPUTS], n_inputs;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &c->inputs[0], &inputs[0]));
  for (int i = 0; i < copies; i++) {
    for (n_inputs = 1; n_inputs < ONE_OP_INPUTS && c->inputs[n_inputs].rank; n_inputs++) {
      if (i == 0 || n_inputs >= 3) inputs[n_inputs] = add_parameter(g, c, n_inputs, i);
    }
    attribute *attributes;
    int n, y;
    char name[16];
    snprintf(name, sizeof name, "y%d", i);
    attributes_from_text(c->attributes, &attributes, &n);
    must(graph_add_value(g, name, &y));
    must(graph_add_node(g, name, op_find("", c->name, 17), 17, inputs, n_inputs, &y, 1, attributes, n));
    must(graph_add_output(g, y));
  }
  must(graph_finish(g));
  return g;
}

/* One training plan with its parameters and gradients. */
typedef struct trial {
  graph *graph;
  plan *plan;
  float *block, *gradients;
} trial;

static inline void trial_open(trial *t, const one_op *c, int copies, bool reference) {
  t->graph = one_op_graph(c, copies);
  must(mem_new(&t->block, (size_t)t->graph->n_block, sizeof(float)));
  must(mem_new(&t->gradients, (size_t)t->graph->n_block, sizeof(float)));
  graph_initial_block(t->graph, t->block);
  plan_options o = {
      .rows = c->inputs[0].dims[0], .training = true, .reference = reference, .input_gradients = true};
  must(plan_new(&t->plan, t->graph, &o));
  plan_set_parameters(t->plan, t->block);
  plan_set_gradients(t->plan, t->gradients);
}

static inline void trial_close(trial *t) {
  plan_free(&t->plan);
  graph_free(&t->graph);
  mem_free(t->block);
  mem_free(t->gradients);
}

static inline int64_t tensor_n(const tensor *t) {
  return shape_count(&t->shape);
}

/* Memory that nobody may read before writing it gets NaNs. */
static inline void poison(const plan *p, bool saved) {
  for (int i = 0; i < plan_n_steps(p); i++) {
    const step *s = plan_step(p, i);
    if (s->scratch_bytes) memset(s->scratch, 0xff, s->scratch_bytes);
    if (saved && s->saved_bytes) memset(s->saved, 0xff, s->saved_bytes);
  }
}

/* A forward and a backward pass on random data. No assertion: it may run on another thread than cmocka's. */
static inline status trial_run(const trial *t) {
  status st = STATUS_OK;
  run_context run = {.training = true, .row_share = 0.25f};
  tensor *x = plan_input(t->plan, 0);
  fill_random(x->data, tensor_n(x), 100);
  poison(t->plan, true);
  TRY(plan_forward(t->plan, &run));
  for (int i = 0; i < t->graph->n_outputs; i++) {
    tensor *dy = plan_output_gradient(t->plan, i);
    fill_random(dy->data, tensor_n(dy), 200 + (uint64_t)i);
  }
  poison(t->plan, false);
  TRY(plan_backward(t->plan, &run));
done:
  return st;
}

#endif
