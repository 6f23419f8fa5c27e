/* Tiny operators on float arrays and a short way to build graphs of them, so that this layer is tested by
 * itself. */
#ifndef TESTS_GRAPH_TOY_OPS_H
#define TESTS_GRAPH_TOY_OPS_H

#include "base/mem.h"
#include "graph/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline float *floats(const tensor *t) {
  return t->data;
}

static inline int64_t count(const tensor *t) {
  return shape_count(&t->shape);
}

/* d[i] = or += x, as the step was told. */
static inline void give(const step *s, int input, int64_t i, float x) {
  float *d = floats(s->din[input]);
  d[i] = s->accumulate[input] ? d[i] + x : x;
}

static inline status infer_same(step *s) {
  for (int i = 1; i < s->n_in; i++)
    if (s->in[i] && !shape_equal(&s->in[i]->shape, &s->in[0]->shape)) return step_error(s, "shapes differ");
  for (int i = 0; i < s->n_out; i++) step_set_output(s, i, s->in[0]->type, &s->in[0]->shape);
  return STATUS_OK;
}

/* out = a + b */
static inline status add_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    floats(s->out[0])[i] = floats(s->in[0])[i] + floats(s->in[1])[i];
  return STATUS_OK;
}

static inline status add_backward(step *s) {
  for (int k = 0; k < 2; k++)
    for (int64_t i = 0; s->din[k] && i < count(s->din[k]); i++) give(s, k, i, floats(s->dout[0])[i]);
  return STATUS_OK;
}

static const op add_op = {.name = "Add",
                          .min_inputs = 2,
                          .max_inputs = 2,
                          .max_outputs = 1,
                          .flags = OP_IN_PLACE,
                          .differentiable = 3,
                          .infer = infer_same,
                          .forward = add_forward,
                          .backward = add_backward};

/* out = a / 2 + 2 b: reads dout[0] again when din[0] is written. */
static inline status mix_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    floats(s->out[0])[i] = floats(s->in[0])[i] / 2 + 2 * floats(s->in[1])[i];
  return STATUS_OK;
}

static inline status mix_backward(step *s) {
  for (int k = 0; k < 2; k++)
    for (int64_t i = 0; s->din[k] && i < count(s->din[k]); i++)
      give(s, k, i, floats(s->dout[0])[i] * (k ? 2.0f : 0.5f));
  return STATUS_OK;
}

static const op mix_op = {.name = "Mix",
                          .min_inputs = 2,
                          .max_inputs = 2,
                          .max_outputs = 1,
                          .flags = OP_IN_PLACE,
                          .differentiable = 3,
                          .infer = infer_same,
                          .forward = mix_forward,
                          .backward = mix_backward};

/* out = a / 4 + 3 b: the gradient that lies in dout's memory is written last. */
static inline status blend_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    floats(s->out[0])[i] = floats(s->in[0])[i] / 4 + 3 * floats(s->in[1])[i];
  return STATUS_OK;
}

static inline status blend_backward(step *s) {
  const int last = s->din[1] && s->din[1] != s->din[0] && s->din[1]->data == s->dout[0]->data;
  for (int turn = 0; turn < 2; turn++) {
    const int k = s->din[0] == s->din[1] || last ? turn : 1 - turn;
    for (int64_t i = 0; s->din[k] && i < count(s->din[k]); i++)
      give(s, k, i, floats(s->dout[0])[i] * (k ? 3.0f : 0.25f));
  }
  return STATUS_OK;
}

static const op blend_op = {.name = "Blend",
                            .min_inputs = 2,
                            .max_inputs = 2,
                            .max_outputs = 1,
                            .flags = OP_IN_PLACE | OP_ANY_IN_PLACE,
                            .differentiable = 3,
                            .infer = infer_same,
                            .forward = blend_forward,
                            .backward = blend_backward};

/* out = a * b */
static inline status mul_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    floats(s->out[0])[i] = floats(s->in[0])[i] * floats(s->in[1])[i];
  return STATUS_OK;
}

static inline status mul_backward(step *s) {
  for (int k = 0; k < 2; k++)
    for (int64_t i = 0; s->din[k] && i < count(s->din[k]); i++)
      give(s, k, i, floats(s->dout[0])[i] * floats(s->in[1 - k])[i]);
  return STATUS_OK;
}

static const op mul_op = {.name = "Mul",
                          .min_inputs = 2,
                          .max_inputs = 2,
                          .max_outputs = 1,
                          .keeps = KEEP_IN_ALL,
                          .differentiable = OP_EVERY_INPUT,
                          .infer = infer_same,
                          .forward = mul_forward,
                          .backward = mul_backward};

/* out = max(a, 0) */
static inline status relu_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    floats(s->out[0])[i] = floats(s->in[0])[i] > 0 ? floats(s->in[0])[i] : 0;
  return STATUS_OK;
}

static inline status relu_backward(step *s) {
  for (int64_t i = 0; i < count(s->din[0]); i++)
    give(s, 0, i, floats(s->out[0])[i] > 0 ? floats(s->dout[0])[i] : 0);
  return STATUS_OK;
}

static const op relu_op = {.name = "Relu",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .max_outputs = 1,
                           .flags = OP_IN_PLACE,
                           .keeps = KEEP_OUT0,
                           .differentiable = 1,
                           .infer = infer_same,
                           .forward = relu_forward,
                           .backward = relu_backward};

/* out = tanh(2 a): keeps its result as saved memory and goes through scratch. */
static inline status tanh_prepare(step *s) {
  s->scratch_bytes = s->saved_bytes = (size_t)count(s->in[0]) * sizeof(float);
  return STATUS_OK;
}

static inline status tanh_forward(step *s) {
  float *twice = s->scratch, *saved = s->saved;
  for (int64_t i = 0; i < count(s->in[0]); i++) twice[i] = 2 * floats(s->in[0])[i];
  for (int64_t i = 0; i < count(s->in[0]); i++) saved[i] = floats(s->out[0])[i] = tanhf(twice[i]);
  return STATUS_OK;
}

static inline status tanh_backward(step *s) {
  float *slope = s->scratch;
  const float *saved = s->saved;
  for (int64_t i = 0; i < count(s->din[0]); i++) slope[i] = 2 * (1 - saved[i] * saved[i]);
  for (int64_t i = 0; i < count(s->din[0]); i++) give(s, 0, i, slope[i] * floats(s->dout[0])[i]);
  return STATUS_OK;
}

static const op tanh_op = {.name = "Tanh2",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .max_outputs = 1,
                           .flags = OP_IN_PLACE,
                           .differentiable = 1,
                           .infer = infer_same,
                           .prepare = tanh_prepare,
                           .forward = tanh_forward,
                           .backward = tanh_backward};

/* The same numbers as [n, rest], whatever they were. */
static inline status view_infer(step *s) {
  const shape *from = &s->in[0]->shape;
  shape flat = {.rank = 2, .dims = {from->dims[0], shape_span(from, 1, from->rank)}};
  step_set_output(s, 0, s->in[0]->type, &flat);
  return STATUS_OK;
}

static inline status view_forward(step *s) {
  if (s->out[0]->data != s->in[0]->data)
    memcpy(s->out[0]->data, s->in[0]->data, (size_t)count(s->out[0]) * sizeof(float));
  return STATUS_OK;
}

static inline status view_backward(step *s) {
  for (int64_t i = 0; s->din[0]->data != s->dout[0]->data && i < count(s->din[0]); i++)
    give(s, 0, i, floats(s->dout[0])[i]);
  return STATUS_OK;
}

static const op view_op = {.name = "Flatten",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .max_outputs = 1,
                           .flags = OP_VIEW,
                           .differentiable = 1,
                           .infer = view_infer,
                           .forward = view_forward,
                           .backward = view_backward};

/* out[n,m] = a[n,k] b[k,m] */
static inline status matmul_infer(step *s) {
  const shape *a = &s->in[0]->shape, *b = &s->in[1]->shape;
  if (a->rank != 2 || b->rank != 2 || a->dims[1] != b->dims[0]) return step_error(s, "shapes do not fit");
  step_set_output(s, 0, DTYPE_FLOAT, &(shape){2, {a->dims[0], b->dims[1]}});
  return STATUS_OK;
}

static inline status matmul_forward(step *s) {
  int64_t n = s->in[0]->shape.dims[0], k = s->in[0]->shape.dims[1], m = s->in[1]->shape.dims[1];
  const float *a = floats(s->in[0]), *b = floats(s->in[1]);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < m; j++) {
      float sum = 0;
      for (int64_t l = 0; l < k; l++) sum += a[i * k + l] * b[l * m + j];
      floats(s->out[0])[i * m + j] = sum;
    }
  return STATUS_OK;
}

static inline status matmul_backward(step *s) {
  int64_t n = s->in[0]->shape.dims[0], k = s->in[0]->shape.dims[1], m = s->in[1]->shape.dims[1];
  const float *a = floats(s->in[0]), *b = floats(s->in[1]), *d = floats(s->dout[0]);
  for (int64_t i = 0; s->din[0] && i < n * k; i++) {
    float sum = 0;
    for (int64_t j = 0; j < m; j++) sum += d[i / k * m + j] * b[i % k * m + j];
    give(s, 0, i, sum);
  }
  for (int64_t i = 0; s->din[1] && i < k * m; i++) {
    float sum = 0;
    for (int64_t r = 0; r < n; r++) sum += a[r * k + i / m] * d[r * m + i % m];
    give(s, 1, i, sum);
  }
  return STATUS_OK;
}

static const op matmul_op = {.name = "MatMul",
                             .min_inputs = 2,
                             .max_inputs = 2,
                             .max_outputs = 1,
                             .keeps = KEEP_IN0 | KEEP_IN1,
                             .differentiable = 3,
                             .infer = matmul_infer,
                             .forward = matmul_forward,
                             .backward = matmul_backward};

/* p = 2 a, q = a * a; either may be absent. */
static inline status pair_forward(step *s) {
  for (int64_t i = 0; i < count(s->in[0]); i++) {
    float a = floats(s->in[0])[i];
    if (s->out[0]) floats(s->out[0])[i] = 2 * a;
    if (s->n_out > 1 && s->out[1]) floats(s->out[1])[i] = a * a;
  }
  return STATUS_OK;
}

static inline status pair_backward(step *s) {
  for (int64_t i = 0; i < count(s->din[0]); i++) {
    float sum = s->dout[0] ? 2 * floats(s->dout[0])[i] : 0;
    if (s->n_out > 1 && s->dout[1]) sum += 2 * floats(s->in[0])[i] * floats(s->dout[1])[i];
    give(s, 0, i, sum);
  }
  return STATUS_OK;
}

static const op pair_op = {.name = "Pair",
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .max_outputs = 2,
                           .keeps = KEEP_IN0,
                           .differentiable = 1,
                           .infer = infer_same,
                           .forward = pair_forward,
                           .backward = pair_backward};

/* out = a - mean in training, a - running[0] otherwise; the statistic is the mean over all of a, held
 * constant. */
static inline float mean(const tensor *t) {
  float sum = 0;
  for (int64_t i = 0; i < count(t); i++) sum += floats(t)[i];
  return sum / (float)count(t);
}

static inline status centre_infer(step *s) {
  step_set_output(s, 0, DTYPE_FLOAT, &s->in[0]->shape);
  return STATUS_OK;
}

static inline status centre_prepare(step *s) {
  s->saved_bytes = sizeof(float);
  return STATUS_OK;
}

static inline status centre_forward(step *s) {
  float m = s->run->training ? mean(s->in[0]) : floats(s->in[1])[0];
  *(float *)s->saved = m;
  for (int64_t i = 0; i < count(s->in[0]); i++) floats(s->out[0])[i] = floats(s->in[0])[i] - m;
  return STATUS_OK;
}

static inline status centre_backward(step *s) {
  for (int64_t i = 0; s->din[0] && i < count(s->din[0]); i++) give(s, 0, i, floats(s->dout[0])[i]);
  if (s->din[1]) give(s, 1, 0, s->run->row_share * *(float *)s->saved);
  return STATUS_OK;
}

static const op centre_op = {.name = "Centre",
                             .min_inputs = 2,
                             .max_inputs = 2,
                             .max_outputs = 1,
                             .differentiable = 1,
                             .statistics = 2,
                             .infer = centre_infer,
                             .prepare = centre_prepare,
                             .forward = centre_forward,
                             .backward = centre_backward};

/* The dimensions of a, known before a is. */
static inline status shape_infer(step *s) {
  step_set_output(s, 0, DTYPE_INT64, &(shape){1, {s->in[0]->shape.rank}});
  return step_constant_output(s, 0, s->in[0]->shape.dims);
}

static inline status never_forward(step *s) {
  return step_error(s, "must not be run");
}

static const op shape_op = {.name = "Shape",
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .max_outputs = 1,
                            .infer = shape_infer,
                            .forward = never_forward};

/* A float array of the shape given by a constant: 1, 2, 3, ... */
static inline status range_infer(step *s) {
  int n;
  shape sh = {0};
  status st = step_ints(s, 0, "shape", sh.dims, SHAPE_MAX_RANK, &n);
  if (st) return st;
  if (n < 0) return step_error(s, "needs a shape");
  sh.rank = n;
  step_set_output(s, 0, DTYPE_FLOAT, &sh);
  return STATUS_OK;
}

static inline status range_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++) floats(s->out[0])[i] = (float)(i + 1);
  return STATUS_OK;
}

static const op range_op = {.name = "Range",
                            .min_inputs = 0,
                            .max_inputs = 1,
                            .max_outputs = 1,
                            .infer = range_infer,
                            .forward = range_forward};

/* As Range, and not to be computed ahead. */
static const op noise_op = {.name = "Noise",
                            .min_inputs = 0,
                            .max_inputs = 1,
                            .max_outputs = 1,
                            .flags = OP_RANDOM,
                            .infer = range_infer,
                            .forward = range_forward};

/* Differentiable, and nobody wrote the gradient. */
static const op stuck_op = {.name = "Stuck",
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .max_outputs = 1,
                            .differentiable = 1,
                            .infer = infer_same,
                            .forward = relu_forward};

#define OK(call)                                                                                             \
  do {                                                                                                       \
    if (call) fail_msg("%s", status_message());                                                              \
  } while (0)

static inline tensor *new_floats(const shape *s, const float *data) {
  tensor *t;
  OK(tensor_new(&t, DTYPE_FLOAT, s));
  for (int64_t i = 0; i < count(t); i++) floats(t)[i] = data ? data[i] : (float)(i % 7) / 4 - 0.6f;
  return t;
}

static inline int input(graph *g, const char *name, shape s) {
  int v;
  OK(graph_add_input(g, name, DTYPE_FLOAT, &s, &v));
  return v;
}

/* NULL data: some numbers around zero. */
static inline int initializer(graph *g, const char *name, shape s, const float *data) {
  int v;
  OK(graph_add_constant(g, name, true, new_floats(&s, data), &v));
  return v;
}

static inline int constant(graph *g, const char *name, shape s, const float *data) {
  int v;
  OK(graph_add_constant(g, name, false, new_floats(&s, data), &v));
  return v;
}

static inline int computed(graph *g, const char *name) {
  int v;
  OK(graph_add_value(g, name, &v));
  return v;
}

/* A node of one or two inputs (b -1: one) whose one output is called `name`, as is the node. */
static inline int apply(graph *g, const op *op, const char *name, int a, int b) {
  int out = computed(g, name);
  OK(graph_add_node(g, name, op, 17, (int[]){a, b}, a < 0 ? 0 : b < 0 ? 1 : 2, &out, 1, NULL, 0));
  return out;
}

static inline graph *finish(graph *g, int output) {
  OK(graph_add_output(g, output));
  OK(graph_finish(g));
  return g;
}

static inline graph *start(void) {
  graph *g;
  OK(graph_new(&g));
  return g;
}

#endif
