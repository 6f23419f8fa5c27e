/* Graphs of one operator, written as one line a case, and the gradient that a plan of it gives.
 *
 *     CASE("Gemm", "r4,5 r5,3 r3", .attributes = "alpha=0.5 transB=0", .opset = 11)
 *
 * Inputs, separated by spaces:
 *     r2,3      floats of (-1, 1)            p2,3       floats of (0.5, 1.5)
 *     h2,3      floats of (-0.5, 0.5)        q2,3       floats of (1.5, 2.5)
 *     a2,3      floats that are all at least 0.02 apart from each other, from 0 and from those of other
 * inputs r         (no dimensions) a scalar     same       input 0 once more i=1,2     int64 constants, a
 * list      i2,2=0,1,1,0   of a shape;  i,=3 a scalar b2=1,0    bool constants               c=0.5      a
 * float constant, a scalar;  c2=0.5,1 a list
 *     -         absent
 * Attributes: name=3, name=0.5, name=text; a comma makes a list (axes=1, is a list of one), of floats if
 * there is a point in it. */
#ifndef TESTS_OPS_GRADIENT_H
#define TESTS_OPS_GRADIENT_H

#include "base/mem.h"
#include "base/rng.h"
#include "graph/plan.h"
#include "ops/ops.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct gradient_case {
  const char *op;
  const char *inputs;
  const char *attributes;
  int opset;   /* 0: 17 */
  int outputs; /* 0: 1 */
} gradient_case;

#define CASE(type, ends, ...)                                                                                \
  { .op = type, .inputs = ends, __VA_ARGS__ }

enum { CASE_ENDS = 8 };

static inline int case_opset(const gradient_case *c) {
  return c->opset ? c->opset : 17;
}

/* "Gelu" of ONNX, or "com.microsoft.Gelu" of another domain. */
static inline const op *case_op(const gradient_case *c) {
  const char *point = strrchr(c->op, '.');
  char domain[64] = "";
  if (point) snprintf(domain, sizeof domain, "%.*s", (int)(point - c->op), c->op);
  const op *o = op_find(domain, point ? point + 1 : c->op, case_opset(c));
  if (!o) fail_msg("%s of opset %d is not in ops.def", c->op, case_opset(c));
  return o;
}

/* Everything a test says about a case begins with it. */
#define case_fail(c, format, ...)                                                                            \
  fail_msg("%s [%s] {%s}: " format, (c)->op, (c)->inputs, (c)->attributes ? (c)->attributes : "", __VA_ARGS__)
#define case_must(c, call)                                                                                   \
  do {                                                                                                       \
    if ((call) != STATUS_OK) case_fail(c, "%s", status_message());                                           \
  } while (0)

static inline int numbers_of(const char *text, double *out, int max) {
  int n = 0;
  char *end;
  for (; *text && *text != '=' && n < max; text = *end == ',' ? end + 1 : end) {
    out[n] = strtod(text, &end);
    if (end == text) break;
    n++;
  }
  return n;
}

static inline attribute attribute_of(const char *name, const char *value) {
  attribute a = {.type = ATTRIBUTE_INT};
  double numbers[64];
  assert_int_equal(mem_string(&a.name, name), STATUS_OK);
  const bool is_text = isalpha((unsigned char)*value) || strstr(value, "->");
  if (is_text && strchr(value, ',') && strcmp(name, "equation") != 0) {
    char copy[128], *rest = NULL;
    a.type = ATTRIBUTE_STRINGS;
    snprintf(copy, sizeof copy, "%s", value);
    assert_int_equal(mem_new(&a.strings, 8, sizeof *a.strings), STATUS_OK);
    for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
      assert_int_equal(mem_string(&a.strings[a.n++], word), STATUS_OK);
  } else if (is_text) {
    a.type = ATTRIBUTE_STRING;
    assert_int_equal(mem_string(&a.s, value), STATUS_OK);
  } else if (strchr(value, ',') && strchr(value, '.')) {
    a.type = ATTRIBUTE_FLOATS;
    a.n = numbers_of(value, numbers, 64);
    assert_int_equal(mem_new(&a.floats, (size_t)a.n, sizeof *a.floats), STATUS_OK);
    for (int64_t i = 0; i < a.n; i++) a.floats[i] = (float)numbers[i];
  } else if (strchr(value, ',')) {
    a.type = ATTRIBUTE_INTS;
    a.n = numbers_of(value, numbers, 64);
    assert_int_equal(mem_new(&a.ints, (size_t)a.n, sizeof *a.ints), STATUS_OK);
    for (int64_t i = 0; i < a.n; i++) a.ints[i] = (int64_t)numbers[i];
  } else if (strchr(value, '.')) {
    a.type = ATTRIBUTE_FLOAT;
    a.f = strtof(value, NULL);
  } else {
    a.i = strtoll(value, NULL, 10);
  }
  return a;
}

static inline int attributes_of(const char *text, attribute **out) {
  char copy[256], *rest = NULL;
  int n = 0;
  snprintf(copy, sizeof copy, "%s", text ? text : "");
  assert_int_equal(mem_new(out, 16, sizeof **out), STATUS_OK);
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *value = strchr(word, '=');
    *value = '\0';
    (*out)[n++] = attribute_of(word, value + 1);
  }
  return n;
}

static inline float random_number(uint64_t stream, int64_t i) {
  return 2 * rng_uniform(11, RNG_NOISE, stream, (uint64_t)i) - 1;
}

/* kind 'a': a shuffled grid of 0.1 whose points no other input shares. */
static inline void fill_floats(float *x, int64_t n, char kind, int input) {
  int64_t order[4096];
  assert_true(n <= 4096);
  rng_permutation(5, RNG_NOISE, (uint64_t)input, n, order);
  for (int64_t i = 0; i < n; i++) {
    float r = random_number((uint64_t)input, i);
    x[i] = kind == 'r'   ? r
           : kind == 'p' ? 1 + r / 2
           : kind == 'q' ? 2 + r / 2
           : kind == 'h' ? r / 2
                         : 0.1f * (float)(order[i] - n / 2) + 0.025f + 0.025f * (float)input;
  }
}

/* A graph with what must be fed into it. */
typedef struct one_graph {
  graph *g;
  int n_floats;        /* graph inputs */
  int slot[CASE_ENDS]; /* operator input of each */
  float *values[CASE_ENDS];
  shape shapes[CASE_ENDS];
} one_graph;

static inline int add_fixed(graph *g, const gradient_case *c, const char *name, const char *word) {
  double dims[SHAPE_MAX_RANK], values[256];
  const char *given = strchr(word, '=') + 1;
  const dtype type = word[0] == 'i' ? DTYPE_INT64 : word[0] == 'b' ? DTYPE_BOOL : DTYPE_FLOAT;
  int n = numbers_of(given, values, 256), index;
  shape sh = {.rank = numbers_of(word + 1, dims, SHAPE_MAX_RANK)};
  for (int d = 0; d < sh.rank; d++) sh.dims[d] = (int64_t)dims[d];
  if (word[0] == 'i' && word[1] == '=') sh = (shape){.rank = 1, .dims = {n}};
  tensor *t;
  case_must(c, tensor_new(&t, type, &sh));
  if (shape_count(&sh) != n) case_fail(c, "input '%s' has %d values", word, n);
  for (int i = 0; i < n; i++) {
    if (type == DTYPE_INT64) ((int64_t *)t->data)[i] = (int64_t)values[i];
    if (type == DTYPE_BOOL) ((uint8_t *)t->data)[i] = values[i] != 0;
    if (type == DTYPE_FLOAT) ((float *)t->data)[i] = (float)values[i];
  }
  case_must(c, graph_add_constant(g, name, false, t, &index));
  return index;
}

static inline int add_float(one_graph *o, const gradient_case *c, const char *name, const char *word,
                            int input) {
  double dims[SHAPE_MAX_RANK];
  int k = o->n_floats++, index;
  shape *sh = &o->shapes[k];
  sh->rank = numbers_of(word + 1, dims, SHAPE_MAX_RANK);
  for (int d = 0; d < sh->rank; d++) sh->dims[d] = (int64_t)dims[d];
  int64_t n = shape_count(sh);
  o->slot[k] = input;
  case_must(c, mem_new(&o->values[k], (size_t)n, sizeof(float)));
  fill_floats(o->values[k], n, word[0], input);
  case_must(c, graph_add_input(o->g, name, DTYPE_FLOAT, sh, &index));
  return index;
}

static inline int add_inputs(one_graph *o, const gradient_case *c, int *inputs) {
  char copy[256], name[32], *rest = NULL;
  int n = 0;
  snprintf(copy, sizeof copy, "%s", c->inputs);
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest), n++) {
    snprintf(name, sizeof name, "in%d", n);
    inputs[n] = word[0] == '-'              ? -1
                : strcmp(word, "same") == 0 ? inputs[0]
                : strchr(word, '=')         ? add_fixed(o->g, c, name, word)
                                            : add_float(o, c, name, word, n);
  }
  return n;
}

static inline int add_node(graph *g, const gradient_case *c, const char *name, const op *type, int opset,
                           const int *inputs, int n_inputs, int n_outputs, const char *attributes,
                           int *outputs) {
  attribute *list;
  char value[48];
  int n = attributes_of(attributes, &list);
  for (int i = 0; i < n_outputs; i++) {
    snprintf(value, sizeof value, "%s.%d", name, i);
    case_must(c, graph_add_value(g, value, &outputs[i]));
  }
  case_must(c, graph_add_node(g, name, type, opset, inputs, n_inputs, outputs, n_outputs, list, n));
  return outputs[0];
}

/* copies: so many nodes on the same inputs. between: Neg before input 0 and behind every output, so that the
 * node may write into its input's memory and its gradient into its output's. */
static inline void one_graph_open(one_graph *o, const gradient_case *c, int copies, bool between) {
  int inputs[CASE_ENDS], outputs[CASE_ENDS];
  const int n_outputs = c->outputs ? c->outputs : 1;
  const op *neg = op_find("", "Neg", 13);
  char name[32];
  *o = (one_graph){0};
  case_must(c, graph_new(&o->g));
  int n = add_inputs(o, c, inputs);
  if (between) inputs[0] = add_node(o->g, c, "before", neg, 13, inputs, 1, 1, NULL, outputs);
  for (int k = 0; k < copies; k++) {
    snprintf(name, sizeof name, "node%d", k);
    add_node(o->g, c, name, case_op(c), case_opset(c), inputs, n, n_outputs, c->attributes, outputs);
    for (int i = 0; i < n_outputs; i++) {
      int y = outputs[i], behind;
      snprintf(name, sizeof name, "behind%d.%d", k, i);
      if (between) y = add_node(o->g, c, name, neg, 13, &outputs[i], 1, 1, NULL, &behind);
      case_must(c, graph_add_output(o->g, y));
    }
  }
  case_must(c, graph_finish(o->g));
}

static inline void one_graph_close(one_graph *o) {
  graph_free(&o->g);
  for (int i = 0; i < o->n_floats; i++) mem_free(o->values[i]);
}

static inline plan *one_plan(const one_graph *o, const gradient_case *c, bool reference) {
  plan *p;
  plan_options options = {.rows = 1,
                          .training = true,
                          .input_gradients = true,
                          .reference = reference,
                          .input_shapes = o->shapes};
  case_must(c, plan_new(&p, o->g, &options));
  return p;
}

static const run_context gradient_run = {.training = true, .seed = 3, .step = 2, .row_share = 0.5f};

static inline void feed(const one_graph *o, plan *p, float sign) {
  for (int i = 0; i < o->n_floats; i++) {
    tensor *x = plan_input(p, i);
    const int64_t n = shape_count(&x->shape);
    for (int64_t k = 0; k < n; k++) ((float *)x->data)[k] = (i == 0 ? sign : 1) * o->values[i][k];
  }
}

/* The loss: sum of the outputs, each number with a fixed random weight. The weights of output i. */
static inline float weight_of(int output, int64_t i) {
  return random_number(100 + (uint64_t)output, i);
}

static inline double loss_of(const one_graph *o, plan *p, const gradient_case *c) {
  double loss = 0;
  feed(o, p, 1);
  case_must(c, plan_forward(p, &gradient_run));
  for (int i = 0; i < o->g->n_outputs; i++) {
    const tensor *y = plan_output(p, i);
    const int64_t n = shape_count(&y->shape);
    for (int64_t k = 0; y->type == DTYPE_FLOAT && k < n; k++)
      loss += (double)weight_of(i, k) * ((float *)y->data)[k];
  }
  return loss;
}

/* Forward and backward. first: which output's weights output 0 gets. */
static inline void differentiate(const one_graph *o, plan *p, const gradient_case *c, float sign, int first) {
  feed(o, p, sign);
  case_must(c, plan_forward(p, &gradient_run));
  for (int i = 0; i < o->g->n_outputs; i++) {
    tensor *dy = plan_output_gradient(p, i);
    const int64_t n = dy ? shape_count(&dy->shape) : 0;
    for (int64_t k = 0; k < n; k++) ((float *)dy->data)[k] = sign * weight_of(first + i, k);
  }
  case_must(c, plan_backward(p, &gradient_run));
}

/* dloss/dvalue by central differences of two widths, extrapolated to width 0. */
static inline double slope_at(const one_graph *o, plan *p, const gradient_case *c, float *value) {
  const float kept = *value;
  double slopes[2];
  for (int i = 0; i < 2; i++) {
    const float h = i == 0 ? 0x1p-6f : 0x1p-7f;
    *value = kept + h;
    double up = loss_of(o, p, c), width = *value;
    *value = kept - h;
    slopes[i] = (up - loss_of(o, p, c)) / (width - *value);
  }
  *value = kept;
  return (4 * slopes[1] - slopes[0]) / 3;
}

#endif
