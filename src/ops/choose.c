/* Elements by their values: Hardmax, OneHot, NonZero, Compress. */
#include "base/mem.h"
#include "ops/support.h"

#include <string.h>

/* The array is [outer][n][inner]. */
typedef struct extent {
  int64_t outer, n, inner;
} extent;

/* Hardmax: 1 at the first of the greatest elements, else 0. From opset 13 along one axis; before that along
 * all from `axis` on, taken together. */
static status read_hardmax(const step *s, extent *e) {
  const shape *x = &s->in[0]->shape;
  const bool together = s->op->until != 0;
  int axis;
  status st = axis_from_front(s, node_int(s->node, "axis", together ? 1 : -1), x->rank, &axis);
  if (st != STATUS_OK) return st;
  const int end = together ? x->rank : axis + 1;
  *e = (extent){shape_span(x, 0, axis), shape_span(x, axis, end), shape_span(x, end, x->rank)};
  return STATUS_OK;
}

static status hardmax_infer(step *s) {
  extent e;
  status st = read_hardmax(s, &e);
  return st == STATUS_OK ? infer_like_float_input(s) : st;
}

static status hardmax_forward(step *s) {
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  extent e;
  status st = read_hardmax(s, &e);
  if (st != STATUS_OK || !tensor_count(s->in[0])) return st;
  for (int64_t o = 0; o < e.outer; o++, x += e.n * e.inner, y += e.n * e.inner) {
    for (int64_t i = 0; i < e.inner; i++) {
      int64_t best = 0;
      for (int64_t k = 1; k < e.n; k++)
        if (x[k * e.inner + i] > x[best * e.inner + i]) best = k;
      for (int64_t k = 0; k < e.n; k++) y[k * e.inner + i] = k == best;
    }
  }
  return STATUS_OK;
}

/* OneHot: indices get an axis of `depth` places, where values[1] stands at the index and values[0] elsewhere.
 */
static status read_depth(const step *s, int64_t *depth) {
  status st = input_want_constant(s, 1);
  if (st == STATUS_OK) st = input_want_number(s, 1);
  if (st != STATUS_OK) return st;
  double given = tensor_count(s->in[1]) == 1 ? tensor_real(s->in[1], 0) : -1;
  if (!(given >= 0 && given < 0x1p31)) return step_error(s, "depth must be one number that is not negative");
  *depth = (int64_t)given;
  return STATUS_OK;
}

static status one_hot_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  int64_t depth = 0;
  int axis;
  status st = STATUS_OK;
  TRY(read_depth(s, &depth));
  TRY(input_want_number(s, 0));
  TRY(input_want_number(s, 2));
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), x->rank + 1, &axis));
  if (tensor_count(s->in[2]) != 2) return step_error(s, "values must be two numbers: off and on");
  if (x->rank == SHAPE_MAX_RANK)
    return step_error(s, "more than %d dimensions are not supported", SHAPE_MAX_RANK);
  shape out = {.rank = x->rank + 1};
  for (int d = 0; d < out.rank; d++) out.dims[d] = d < axis ? x->dims[d] : d == axis ? depth : x->dims[d - 1];
  step_set_output(s, 0, s->in[2]->type, &out);
done:
  return st;
}

/* to[i] = from[j] of the same type. */
static void copy_element(tensor *to, int64_t i, const tensor *from, int64_t j) {
  const size_t bytes = dtype_bytes(to->type);
  memcpy((char *)to->data + (size_t)i * bytes, (const char *)from->data + (size_t)j * bytes, bytes);
}

static status one_hot_forward(step *s) {
  const shape *x = &s->in[0]->shape;
  int64_t depth = 0;
  int axis;
  status st = STATUS_OK;
  TRY(read_depth(s, &depth));
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), x->rank + 1, &axis));
  const int64_t inner = shape_span(x, axis, x->rank), n = tensor_count(s->out[0]);
  for (int64_t i = 0; i < n; i++) copy_element(s->out[0], i, s->in[2], 0);
  for (int64_t i = 0; i < tensor_count(s->in[0]); i++) {
    double index = tensor_real(s->in[0], i);
    if (index < 0) index += (double)depth;
    if (!(index >= 0 && index < (double)depth)) continue;
    copy_element(s->out[0], (i / inner * depth + (int64_t)index) * inner + i % inner, s->in[2], 1);
  }
done:
  return st;
}

/* NonZero: [rank, n], the indices of the n elements that are not 0. How many there are must be known. */
static status non_zero_infer(step *s) {
  status st = STATUS_OK;
  const tensor *x = s->in[0];
  const int rank = x->shape.rank ? x->shape.rank : 1;
  int64_t *places = NULL, n = 0, k = 0;
  TRY(input_want_number(s, 0));
  TRY(input_want_constant(s, 0));
  for (int64_t i = 0; i < tensor_count(x); i++) n += tensor_real(x, i) != 0;
  TRY(mem_new(&places, (size_t)(rank * n), sizeof *places));
  for (int64_t i = 0; i < tensor_count(x); i++) {
    if (tensor_real(x, i) == 0) continue;
    int64_t rest = i;
    for (int d = x->shape.rank - 1; d >= 0; rest /= x->shape.dims[d--])
      places[d * n + k] = rest % x->shape.dims[d];
    k++;
  }
  step_set_output(s, 0, DTYPE_INT64, &(shape){.rank = 2, .dims = {rank, n}});
  TRY(step_constant_output(s, 0, places));
done:
  mem_free(places);
  return st;
}

/* Compress: the slices of an axis (without one: of all elements in a row) whose condition is true. */
static status read_compress(const step *s, extent *e, int *axis) {
  const shape *x = &s->in[0]->shape;
  const attribute *given = node_attribute(s->node, "axis");
  status st = STATUS_OK;
  TRY(input_want(s, 1, DTYPE_BOOL));
  TRY(input_want_constant(s, 1));
  *axis = -1;
  *e = (extent){1, tensor_count(s->in[0]), 1};
  if (given) {
    TRY(axis_from_front(s, given->i, x->rank, axis));
    *e = (extent){shape_span(x, 0, *axis), x->dims[*axis], shape_span(x, *axis + 1, x->rank)};
  }
  if (tensor_count(s->in[1]) > e->n)
    return step_error(s, "%lld conditions for %lld slices", (long long)tensor_count(s->in[1]),
                      (long long)e->n);
done:
  return st;
}

static status compress_infer(step *s) {
  extent e;
  int axis;
  int64_t n = 0;
  status st = read_compress(s, &e, &axis);
  if (st != STATUS_OK) return st;
  for (int64_t k = 0; k < tensor_count(s->in[1]); k++) n += tensor_int(s->in[1], k) != 0;
  shape out = axis < 0 ? (shape){.rank = 1} : s->in[0]->shape;
  out.dims[axis < 0 ? 0 : axis] = n;
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status compress_forward(step *s) {
  extent e;
  int axis;
  status st = read_compress(s, &e, &axis);
  if (st != STATUS_OK) return st;
  const size_t slice = (size_t)e.inner * dtype_bytes(s->in[0]->type);
  const char *x = s->in[0]->data;
  char *y = s->out[0]->data;
  for (int64_t o = 0; o < e.outer; o++) {
    for (int64_t k = 0; k < tensor_count(s->in[1]); k++) {
      if (!tensor_int(s->in[1], k)) continue;
      memcpy(y, x + (size_t)(o * e.n + k) * slice, slice);
      y += slice;
    }
  }
  return STATUS_OK;
}

static status compress_backward(step *s) {
  extent e;
  int axis;
  status st = read_compress(s, &e, &axis);
  if (st != STATUS_OK || !s->din[0]) return st;
  const float *dy = s->dout[0]->data;
  float *dx = gradient_begin(s, 0);
  for (int64_t o = 0; o < e.outer; o++) {
    for (int64_t k = 0; k < tensor_count(s->in[1]); k++) {
      if (!tensor_int(s->in[1], k)) continue;
      gradient_write(dx + (o * e.n + k) * e.inner, dy, e.inner, true);
      dy += e.inner;
    }
  }
  return STATUS_OK;
}

#define HARDMAX(identifier, first, last)                                                                     \
  const op op_##identifier = {.name = "Hardmax",                                                             \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){"axis", NULL},                             \
                              .infer = hardmax_infer,                                                        \
                              .forward = hardmax_forward}

HARDMAX(Hardmax_1, 1, 12);
HARDMAX(Hardmax_13, 13, 0);

const op op_OneHot = {.name = "OneHot",
                      .domain = "",
                      .since = 9,
                      .min_inputs = 3,
                      .max_inputs = 3,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"axis", NULL},
                      .infer = one_hot_infer,
                      .forward = one_hot_forward};

const op op_NonZero = {.name = "NonZero",
                       .domain = "",
                       .since = 9,
                       .min_inputs = 1,
                       .max_inputs = 1,
                       .max_outputs = 1,
                       .attributes = (const char *const[]){NULL},
                       .infer = non_zero_infer};

const op op_Compress = {.name = "Compress",
                        .domain = "",
                        .since = 9,
                        .min_inputs = 2,
                        .max_inputs = 2,
                        .max_outputs = 1,
                        .attributes = (const char *const[]){"axis", NULL},
                        .keeps = KEEP_IN1,
                        .differentiable = 1,
                        .infer = compress_infer,
                        .forward = compress_forward,
                        .backward = compress_backward};
