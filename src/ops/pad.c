/* Pad: every dimension is extended (or, with negative pads, cut) by a constant, by its edge, or by its mirror
 * image. */
#include "base/mem.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <string.h>

/* For every place along every dimension of the output: where it comes from along the input's, -1 for the
 * constant. */
typedef struct pad_state {
  int64_t *map[SHAPE_MAX_RANK];
  int64_t strides[SHAPE_MAX_RANK]; /* of the input */
  float value;                     /* the constant of old opsets */
  int64_t run, run_length;         /* places of the last dimension that follow each other in the input, too */
  int64_t places[];
} pad_state;

typedef struct pads {
  int64_t before[SHAPE_MAX_RANK], after[SHAPE_MAX_RANK];
} pads;

static status read_pads(const step *s, pads *p) {
  const int rank = s->in[0]->shape.rank;
  int64_t values[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
  int n, n_axes;
  status st = STATUS_OK;
  *p = (pads){0};
  TRY(step_ints(s, 1, "pads", values, 2 * SHAPE_MAX_RANK, &n));
  TRY(step_ints(s, 3, NULL, axes, SHAPE_MAX_RANK, &n_axes));
  int named = n_axes < 0 ? rank : n_axes;
  if (n != 2 * named) return step_error(s, "has %d pads for %d dimensions, expected %d", n, named, 2 * named);
  for (int i = 0; i < named; i++) {
    int axis = i;
    if (n_axes >= 0) TRY(axis_from_front(s, axes[i], rank, &axis));
    p->before[axis] = values[i];
    p->after[axis] = values[named + i];
  }
done:
  return st;
}

static status pad_infer(step *s) {
  pads p;
  shape out = s->in[0]->shape;
  const char *mode = node_string(s->node, "mode", "constant");
  bool constant = strcmp(mode, "constant") == 0;
  if (!constant && strcmp(mode, "edge") != 0 && strcmp(mode, "reflect") != 0) {
    return step_error(s, "mode '%s' is not supported; constant, edge and reflect are", mode);
  }
  status st = read_pads(s, &p);
  if (st != STATUS_OK) return st;
  for (int d = 0; d < out.rank; d++) {
    int64_t dim = out.dims[d];
    if (__builtin_add_overflow(out.dims[d], p.before[d], &out.dims[d]) ||
        __builtin_add_overflow(out.dims[d], p.after[d], &out.dims[d]) || out.dims[d] < 0) {
      return step_error(s, "dimension %d of %lld cannot be padded by %lld and %lld", d, (long long)dim,
                        (long long)p.before[d], (long long)p.after[d]);
    }
    if (!constant && dim == 0 && out.dims[d] > 0)
      return step_error(s, "dimension %d has no edge: it is 0", d);
  }
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

/* Where place i of a dimension comes from, i counted from the input's first element. */
static int64_t source(int64_t i, int64_t dim, char mode) {
  if (i >= 0 && i < dim) return i;
  if (mode == 'c') return -1;
  if (mode == 'e' || dim == 1) return i < 0 ? 0 : dim - 1;
  int64_t period = 2 * (dim - 1), folded = i % period;
  if (folded < 0) folded += period;
  return folded < dim ? folded : period - folded;
}

static status pad_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *y = &s->out[0]->shape;
  const char mode = *node_string(s->node, "mode", "constant");
  pad_state *state;
  pads p;
  size_t n = 0;
  for (int d = 0; d < y->rank; d++) n += (size_t)y->dims[d];
  status st = read_pads(s, &p);
  if (st == STATUS_OK) st = mem_new(&state, 1, sizeof *state + n * sizeof state->places[0]);
  if (st != STATUS_OK) return st;
  shape_strides(x, x, state->strides);
  state->value = node_float(s->node, "value", 0);
  int64_t *place = state->places;
  for (int d = 0; d < y->rank; d++) {
    state->map[d] = place;
    for (int64_t i = 0; i < y->dims[d]; i++) *place++ = source(i - p.before[d], x->dims[d], mode);
  }
  const int last = y->rank - 1;
  if (last >= 0) {
    int64_t begin = p.before[last], end = begin + x->dims[last];
    state->run = begin < 0 ? 0 : begin;
    state->run_length = (end < y->dims[last] ? end : y->dims[last]) - state->run;
    if (state->run_length < 0) state->run_length = 0;
    if (state->run > y->dims[last]) state->run = y->dims[last];
  }
  s->state = state;
  return STATUS_OK;
}

static void pad_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* The input's offset of the present row, -1 if the row is all constant. */
static int64_t row_source(const pad_state *state, const nest *n) {
  int64_t at = 0;
  for (int d = 0; d < n->rank - 1; d++) {
    int64_t from = state->map[d][n->index[d]];
    if (from < 0) return -1;
    at += from * state->strides[d];
  }
  return at;
}

static void nest_of_output(const step *s, nest *n) {
  nest_broadcast(n, &s->out[0]->shape, (const shape *[]){&s->out[0]->shape}, 1);
}

/* The constant as an element of the output's type. */
static void constant_element(const step *s, void *element) {
  tensor one = {.type = s->out[0]->type, .data = element};
  if (step_has(s, 2)) {
    memcpy(element, s->in[2]->data, dtype_bytes(one.type));
  } else {
    element_set_real(&one, 0, ((const pad_state *)s->state)->value);
  }
}

/* Elements from..to of a row whose places are columns[]; x is the input's row, NULL: all constant. */
static void fill_places(char *y, const char *x, const int64_t *columns, int64_t from, int64_t to,
                        const void *constant, size_t bytes) {
  for (int64_t i = from; i < to; i++) {
    bool outside = !x || columns[i] < 0;
    memcpy(y + (size_t)i * bytes, outside ? constant : x + (size_t)columns[i] * bytes, bytes);
  }
}

static status pad_forward(step *s) {
  const pad_state *state = s->state;
  const size_t bytes = dtype_bytes(s->out[0]->type);
  int64_t constant;
  nest n;
  if (s->out[0]->shape.rank == 0) return view_forward(s);
  constant_element(s, &constant);
  nest_of_output(s, &n);
  const int64_t *columns = state->map[n.rank - 1], end = state->run + state->run_length;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    const int64_t at = row_source(state, &n);
    const char *x = at < 0 ? NULL : (const char *)s->in[0]->data + (size_t)at * bytes;
    char *y = (char *)s->out[0]->data + (size_t)n.offset[0] * bytes;
    fill_places(y, x, columns, 0, x ? state->run : nest_length(&n), &constant, bytes);
    if (!x) continue;
    if (state->run_length > 0) {
      memcpy(y + (size_t)state->run * bytes, x + (size_t)columns[state->run] * bytes,
             (size_t)state->run_length * bytes);
    }
    fill_places(y, x, columns, end, nest_length(&n), &constant, bytes);
  }
  return STATUS_OK;
}

static void add_places(float *d, const float *g, const int64_t *columns, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; i++) {
    if (columns[i] >= 0) d[columns[i]] += g[i];
  }
}

static status pad_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const pad_state *state = s->state;
  float *d = gradient_begin(s, 0);
  nest n;
  if (s->out[0]->shape.rank == 0) {
    gradient_write(d, s->dout[0]->data, 1, true);
    return STATUS_OK;
  }
  nest_of_output(s, &n);
  const int64_t *columns = state->map[n.rank - 1], end = state->run + state->run_length;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    const int64_t at = row_source(state, &n);
    const float *g = (const float *)s->dout[0]->data + n.offset[0];
    if (at < 0) continue;
    add_places(d + at, g, columns, 0, state->run);
    if (state->run_length > 0)
      gradient_write(d + at + columns[state->run], g + state->run, state->run_length, true);
    add_places(d + at, g, columns, end, nest_length(&n));
  }
  return STATUS_OK;
}

#define PAD(identifier, first, last, most_inputs, ...)                                                       \
  const op op_##identifier = {.name = "Pad",                                                                 \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = 1,                                                               \
                              .max_inputs = most_inputs,                                                     \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .differentiable = 1,                                                           \
                              .infer = pad_infer,                                                            \
                              .prepare = pad_prepare,                                                        \
                              .forward = pad_forward,                                                        \
                              .backward = pad_backward,                                                      \
                              .release = pad_release}

PAD(Pad_2, 2, 10, 1, "mode", "pads", "value", NULL);
PAD(Pad_11, 11, 0, 4, "mode", NULL);
