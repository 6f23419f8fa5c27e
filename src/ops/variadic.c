/* Sum, Mean, Max and Min of any number of broadcast inputs. */
#include "ops/binary.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

typedef struct fold {
  binary_value *value; /* y = f(y, x) */
  double (*real)(double, double);
  bool mean;
} fold;

static double real_sum(double a, double b) {
  return a + b;
}
/* NaN wins, as in numpy. */
static double real_max(double a, double b) {
  return a >= b || isnan(a) ? a : b;
}
static double real_min(double a, double b) {
  return a <= b || isnan(a) ? a : b;
}
BINARY_VALUE(sum, u + v)
BINARY_VALUE(larger, u >= v || u != u ? u : v)
BINARY_VALUE(smaller, u <= v || u != u ? u : v)

static const fold fold_sum = {sum, real_sum, false}, fold_mean = {sum, real_sum, true};
static const fold fold_max = {larger, real_max, false}, fold_min = {smaller, real_min, false};

static status infer(step *s) {
  status st = input_want_all(s);
  if (st == STATUS_OK) st = input_want_number(s, 0);
  shape out = s->in[0]->shape;
  for (int i = 1; i < s->n_in && st == STATUS_OK; i++) {
    shape both;
    char a[96], b[96];
    if (!shape_broadcast(&out, &s->in[i]->shape, &both)) {
      return step_error(s, "input %d of shape %s does not broadcast with %s", i,
                        shape_text(&s->in[i]->shape, a, sizeof a), shape_text(&out, b, sizeof b));
    }
    out = both;
    st = input_want(s, i, s->in[0]->type);
  }
  if (st == STATUS_OK) step_set_output(s, 0, s->in[0]->type, &out);
  return st;
}

/* Output and input i, both seen through the output's shape. */
static void nest_of_input(const step *s, int i, nest *n) {
  const shape *out = &s->out[0]->shape;
  nest_broadcast(n, out, (const shape *[]){out, &s->in[i]->shape}, 2);
  nest_simplify(n);
}

static void fold_floats(const step *s, const fold *f, int i) {
  nest n;
  float *y = s->out[0]->data;
  const float *x = s->in[i]->data;
  nest_of_input(s, i, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    float *to = y + n.offset[0];
    f->value(to, to, 1, x + n.offset[1], nest_stride(&n, 1), nest_length(&n));
  }
}

static void fold_elements(const step *s, const fold *f, int i) {
  nest n;
  tensor *y = s->out[0];
  nest_of_input(s, i, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t k = 0; k < nest_length(&n); k++) {
      int64_t to = n.offset[0] + k, from = n.offset[1] + k * nest_stride(&n, 1);
      element_set_real(y, to, f->real(tensor_real(y, to), tensor_real(s->in[i], from)));
    }
  }
}

static status forward(step *s, const fold *f) {
  const bool floats = s->in[0]->type == DTYPE_FLOAT && !s->reference;
  const int64_t count = tensor_count(s->out[0]);
  nest n;
  nest_of_input(s, 0, &n);
  nest_copy(&n, s->out[0]->data, s->in[0]->data, dtype_bytes(s->in[0]->type));
  for (int i = 1; i < s->n_in; i++) (floats ? fold_floats : fold_elements)(s, f, i);
  for (int64_t i = 0; f->mean && i < count; i++) {
    element_set_real(s->out[0], i, tensor_real(s->out[0], i) / s->n_in);
  }
  return STATUS_OK;
}

/* din[i] += the part, summed where the input was repeated. */
static void add_part(const step *s, int i, const float *part) {
  const shape *out = &s->out[0]->shape;
  nest n;
  nest_broadcast(&n, out, (const shape *[]){&s->din[i]->shape, out}, 2);
  nest_sum(&n, s->din[i]->data, part);
}

static status sum_prepare(step *s) {
  s->scratch_bytes = (size_t)tensor_count(s->out[0]) * sizeof(float);
  return STATUS_OK;
}

static status sum_backward_of(step *s, float weight) {
  const float *g = s->dout[0]->data;
  float *part = s->scratch;
  const int64_t count = tensor_count(s->out[0]);
  for (int64_t i = 0; i < count; i++) part[i] = g[i] * weight;
  for (int i = 0; i < s->n_in; i++) {
    if (!s->din[i]) continue;
    gradient_begin(s, i);
    add_part(s, i, part);
  }
  return STATUS_OK;
}

/* Room for the shares and for one input's part. */
static status extreme_prepare(step *s) {
  s->scratch_bytes = 2 * (size_t)tensor_count(s->out[0]) * sizeof(float);
  return STATUS_OK;
}

/* part[k] = 1 where input i is the one that won, else 0. */
static void mark_winners(const step *s, int i, float *part) {
  const float *y = s->out[0]->data, *x = s->in[i]->data;
  nest n;
  nest_of_input(s, i, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    int64_t from = n.offset[1], to = n.offset[0], stride = nest_stride(&n, 1);
    for (int64_t k = 0; k < nest_length(&n); k++) part[to + k] = x[from + k * stride] == y[to + k] ? 1 : 0;
  }
}

/* Inputs that tie share the gradient evenly. */
static status extreme_backward(step *s) {
  const float *g = s->dout[0]->data;
  const int64_t count = tensor_count(s->out[0]);
  float *share = s->scratch, *part = share + count;
  memset(share, 0, (size_t)count * sizeof *share);
  for (int i = 0; i < s->n_in; i++) {
    mark_winners(s, i, part);
    gradient_write(share, part, count, true);
  }
  for (int64_t k = 0; k < count; k++) share[k] = share[k] > 0 ? g[k] / share[k] : 0;
  for (int i = 0; i < s->n_in; i++) {
    if (!s->din[i]) continue;
    mark_winners(s, i, part);
    for (int64_t k = 0; k < count; k++) part[k] *= share[k];
    gradient_begin(s, i);
    add_part(s, i, part);
  }
  return STATUS_OK;
}

static status sum_forward(step *s) {
  return forward(s, &fold_sum);
}
static status mean_forward(step *s) {
  return forward(s, &fold_mean);
}
static status max_forward(step *s) {
  return forward(s, &fold_max);
}
static status min_forward(step *s) {
  return forward(s, &fold_min);
}
static status sum_backward(step *s) {
  return sum_backward_of(s, 1);
}
static status mean_backward(step *s) {
  return sum_backward_of(s, 1 / (float)s->n_in);
}

#define OPERATOR(identifier, prepare_of, forward_of, backward_of, kept)                                      \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = 6,                                                                    \
                              .min_inputs = 1,                                                               \
                              .max_inputs = -1,                                                              \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){NULL},                                     \
                              .keeps = kept,                                                                 \
                              .differentiable = OP_EVERY_INPUT,                                              \
                              .infer = infer,                                                                \
                              .prepare = prepare_of,                                                         \
                              .forward = forward_of,                                                         \
                              .backward = backward_of}

OPERATOR(Sum, sum_prepare, sum_forward, sum_backward, 0);
OPERATOR(Mean, sum_prepare, mean_forward, mean_backward, 0);
OPERATOR(Max, extreme_prepare, max_forward, extreme_backward, KEEP_IN_ALL | KEEP_OUT0);
OPERATOR(Min, extreme_prepare, min_forward, extreme_backward, KEEP_IN_ALL | KEEP_OUT0);
