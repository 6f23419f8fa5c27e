/* Slices from or to places that indices name: n slices of `width` elements each, slice i at element at[i] of
 * the larger tensor. at[] is made in forward, where the indices are known, and kept for backward.
 *
 *     GatherElements    y[i, j] = x[index[i, j], j]                (axis 0; likewise along any other)
 *     GatherND          y[i] = x[index[i, 0], index[i, 1], ...]    (batch_dims: leading axes shared by x and
 * index) ReverseSequence   y[t, b] = x[lengths[b] - 1 - t, b] for t < lengths[b], else x[t, b]
 *     ScatterElements   y = x, then y[index[i, j], j] = update[i, j], or +=, *=, the greater, the less
 *     ScatterND         y = x, then y[index[i, 0], index[i, 1], ...] = update[i], likewise
 *
 * The gradient of a slice that was gathered is the sum over its uses in the order of the indices. What was
 * scattered over gets none. */
#include "base/mem.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <string.h>

typedef enum reduction { REPLACE, ADD, MULTIPLY, GREATER, LESS, N_REDUCTIONS } reduction;

static const char *const reductions[N_REDUCTIONS] = {"none", "add", "mul", "max", "min"};

typedef struct places {
  int64_t n, width;
  reduction reduction;
  nest elements;                     /* the *Elements: indices (array 0), and x without its axis (array 1) */
  int axis;                          /* likewise: the axis, its extent and stride in x */
  int64_t extent, stride;            /* ReverseSequence: extent of the time axis */
  int64_t dims[SHAPE_MAX_RANK];      /* the *ND: extents of the axes that an index names */
  int64_t strides[SHAPE_MAX_RANK];   /* and their strides in x */
  int named;                         /* and how many they are */
  int64_t per_batch, batch_elements; /* indices and elements of x for each place of the batch axes */
} places;

static status places_new(step *s, int64_t n, int64_t width, places **out) {
  status st = mem_new(out, 1, sizeof **out);
  if (st != STATUS_OK) return st;
  (*out)->n = n;
  (*out)->width = width;
  s->state = *out;
  s->saved_bytes = (size_t)n * sizeof(int64_t);
  return STATUS_OK;
}

static void places_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* Index i, counted from the front, in [0, extent). */
static status read_index(const step *s, int64_t i, int64_t extent, int64_t *out) {
  int64_t index = tensor_int(s->in[1], i);
  if (index < -extent || index >= extent)
    return step_error(s, "index %lld is outside [%lld, %lld)", (long long)index, (long long)-extent,
                      (long long)extent);
  *out = index < 0 ? index + extent : index;
  return STATUS_OK;
}

static status find_elements(const step *s) {
  const places *p = s->state;
  int64_t *at = s->saved;
  nest n = p->elements;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      int64_t place = n.offset[0] + i * nest_stride(&n, 0), index = 0;
      status st = read_index(s, place, p->extent, &index);
      if (st != STATUS_OK) return st;
      at[place] = n.offset[1] + i * nest_stride(&n, 1) + index * p->stride;
    }
  }
  return STATUS_OK;
}

static status find_slices(const step *s) {
  const places *p = s->state;
  int64_t *at = s->saved;
  for (int64_t i = 0; i < p->n; i++) {
    at[i] = i / p->per_batch * p->batch_elements;
    for (int k = 0; k < p->named; k++) {
      int64_t index = 0;
      status st = read_index(s, i * p->named + k, p->dims[k], &index);
      if (st != STATUS_OK) return st;
      at[i] += index * p->strides[k];
    }
  }
  return STATUS_OK;
}

/* Axes 0 and 1 are time and batch, in the order that axis (of the batch) says. */
static status find_reversed(const step *s) {
  const places *p = s->state;
  const int64_t batch = p->n / p->extent, of_time = p->axis == 1 ? batch : 1,
                of_batch = p->axis == 1 ? 1 : p->extent;
  int64_t *at = s->saved;
  for (int64_t b = 0; b < batch; b++) {
    int64_t length = tensor_int(s->in[1], b);
    if (length < 0 || length > p->extent)
      return step_error(s, "length %lld is outside [0, %lld]", (long long)length, (long long)p->extent);
    for (int64_t t = 0; t < p->extent; t++) {
      int64_t from = t < length ? length - 1 - t : t;
      at[t * of_time + b * of_batch] = (from * of_time + b * of_batch) * p->width;
    }
  }
  return STATUS_OK;
}

static void gather(const step *s) {
  const places *p = s->state;
  const int64_t *at = s->saved;
  const size_t bytes = dtype_bytes(s->in[0]->type), slice = (size_t)p->width * bytes;
  const char *x = s->in[0]->data;
  char *y = s->out[0]->data;
  for (int64_t i = 0; i < p->n; i++) memcpy(y + (size_t)i * slice, x + (size_t)at[i] * bytes, slice);
}

static status gather_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const places *p = s->state;
  const int64_t *at = s->saved;
  const float *dy = s->dout[0]->data;
  float *dx = gradient_begin(s, 0);
  for (int64_t i = 0; i < p->n; i++) gradient_write(dx + at[i], dy + i * p->width, p->width, true);
  return STATUS_OK;
}

static double reduced(reduction r, double old, double update) {
  return r == ADD        ? old + update
         : r == MULTIPLY ? old * update
         : r == GREATER  ? (old > update ? old : update)
                         : (old < update ? old : update);
}

static int64_t reduced_int(reduction r, int64_t old, int64_t update) {
  return r == ADD        ? (int64_t)((uint64_t)old + (uint64_t)update)
         : r == MULTIPLY ? (int64_t)((uint64_t)old * (uint64_t)update)
         : r == GREATER  ? (old > update ? old : update)
                         : (old < update ? old : update);
}

/* y[at] takes in update[from], one element. */
static void reduce_element(tensor *y, int64_t at, const tensor *update, int64_t from, reduction r) {
  if (dtype_is_integer(y->type)) {
    element_set_int(y, at, reduced_int(r, tensor_int(y, at), tensor_int(update, from)));
  } else {
    element_set_real(y, at, reduced(r, tensor_real(y, at), tensor_real(update, from)));
  }
}

static void scatter(step *s) {
  const places *p = s->state;
  const int64_t *at = s->saved;
  const size_t bytes = dtype_bytes(s->in[0]->type), slice = (size_t)p->width * bytes;
  const char *update = s->in[2]->data;
  char *y = s->out[0]->data;
  if (y != s->in[0]->data) memcpy(y, s->in[0]->data, (size_t)tensor_count(s->in[0]) * bytes);
  for (int64_t i = 0; i < p->n; i++) {
    if (p->reduction == REPLACE) {
      memcpy(y + (size_t)at[i] * bytes, update + (size_t)i * slice, slice);
    } else {
      for (int64_t k = 0; k < p->width; k++)
        reduce_element(s->out[0], at[i] + k, s->in[2], i * p->width + k, p->reduction);
    }
  }
}

/* REPLACE: a place that was written keeps no gradient for what it held before, neither for x nor for an
 * earlier update. part is a copy of dy. */
static void take_back(step *s, float *part) {
  const places *p = s->state;
  const int64_t *at = s->saved;
  float *d = s->din[2] ? s->din[2]->data : NULL;
  for (int64_t i = p->n - 1; i >= 0; i--) {
    if (d) gradient_write(d + i * p->width, part + at[i], p->width, s->accumulate[2]);
    memset(part + at[i], 0, (size_t)p->width * sizeof *part);
  }
}

static status scatter_backward(step *s) {
  const places *p = s->state;
  const int64_t *at = s->saved;
  const float *dy = s->dout[0]->data;
  const int64_t n = tensor_count(s->dout[0]);
  if (p->reduction == REPLACE) {
    float *part = s->din[0] && !s->accumulate[0] ? s->din[0]->data : s->scratch;
    gradient_write(part, dy, n, false);
    take_back(s, part);
    if (s->din[0]) gradient_write(s->din[0]->data, part, part == s->scratch ? n : 0, true);
    return STATUS_OK;
  }
  if (s->din[0]) gradient_write(s->din[0]->data, dy, n, s->accumulate[0]);
  for (int64_t i = 0; s->din[2] && i < p->n; i++)
    gradient_write((float *)s->din[2]->data + i * p->width, dy + at[i], p->width, s->accumulate[2]);
  return STATUS_OK;
}

/* The index has x's dimensions, or smaller ones, but for the axis. */
static status elements_check(const step *s) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  int axis;
  status st = axis_from_front(s, node_int(s->node, "axis", 0), x->rank, &axis);
  if (st != STATUS_OK) return st;
  if (indices->rank != x->rank)
    return step_error(s, "needs an index of %d dimensions, like its input", x->rank);
  for (int d = 0; d < x->rank; d++) {
    if (d != axis && indices->dims[d] > x->dims[d])
      return step_error(s, "the index is longer than the input along axis %d", d);
  }
  return input_want_index(s, 1);
}

static status gather_elements_infer(step *s) {
  status st = elements_check(s);
  if (st == STATUS_OK) step_set_output(s, 0, s->in[0]->type, &s->in[1]->shape);
  return st;
}

static status elements_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  int64_t of_index[SHAPE_MAX_RANK], of_x[SHAPE_MAX_RANK];
  status st = STATUS_OK;
  places *p;
  int axis;
  TRY(axis_from_front(s, node_int(s->node, "axis", 0), x->rank, &axis));
  TRY(places_new(s, shape_count(indices), 1, &p));
  shape_strides(indices, indices, of_index);
  shape_strides(x, x, of_x);
  p->extent = x->dims[axis];
  p->stride = of_x[axis];
  nest_clear(&p->elements, 2);
  for (int d = 0; d < x->rank; d++)
    nest_add(&p->elements, indices->dims[d], (int64_t[]){of_index[d], d == axis ? 0 : of_x[d]});
  nest_simplify(&p->elements);
done:
  return st;
}

static status gather_elements_forward(step *s) {
  status st = find_elements(s);
  if (st == STATUS_OK) gather(s);
  return st;
}

/* Of an index [..., named]: how many leading axes x shares with it, and what is left of both. */
static status read_slices(const step *s, int64_t *shared, int64_t *named) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  *shared = node_int(s->node, "batch_dims", 0);
  if (indices->rank < 1 || *shared < 0 || *shared >= indices->rank || *shared >= x->rank)
    return step_error(s, "batch_dims is %lld for an input of %d and an index of %d dimensions",
                      (long long)*shared, x->rank, indices->rank);
  *named = indices->dims[indices->rank - 1];
  if (*named < 1 || *named > x->rank - *shared)
    return step_error(s, "the index names %lld axes of an input of %d dimensions", (long long)*named,
                      x->rank);
  for (int d = 0; d < *shared; d++) {
    if (indices->dims[d] != x->dims[d])
      return step_error(s, "input and index differ in axis %d, which they share", d);
  }
  return input_want_index(s, 1);
}

/* [the index without its last axis, then the axes of x that it does not name]. */
static status slices_shape(const step *s, shape *out) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  int64_t shared = 0, named = 0;
  status st = read_slices(s, &shared, &named);
  if (st != STATUS_OK) return st;
  *out = *indices;
  out->rank--;
  for (int d = (int)(shared + named); d < x->rank; d++) {
    if (out->rank == SHAPE_MAX_RANK)
      return step_error(s, "more than %d dimensions are not supported", SHAPE_MAX_RANK);
    out->dims[out->rank++] = x->dims[d];
  }
  return STATUS_OK;
}

static status gather_nd_infer(step *s) {
  shape out;
  status st = slices_shape(s, &out);
  if (st == STATUS_OK) step_set_output(s, 0, s->in[0]->type, &out);
  return st;
}

static status slices_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  int64_t shared = 0, named = 0, strides[SHAPE_MAX_RANK];
  status st = STATUS_OK;
  places *p;
  TRY(read_slices(s, &shared, &named));
  int first = (int)shared, behind = (int)(shared + named);
  TRY(places_new(s, shape_span(indices, 0, indices->rank - 1), shape_span(x, behind, x->rank), &p));
  shape_strides(x, x, strides);
  p->named = (int)named;
  p->per_batch = shape_span(indices, first, indices->rank - 1);
  p->batch_elements = shape_span(x, first, x->rank);
  for (int k = 0; k < p->named; k++) {
    p->dims[k] = x->dims[first + k];
    p->strides[k] = strides[first + k];
  }
done:
  return st;
}

static status gather_nd_forward(step *s) {
  status st = find_slices(s);
  if (st == STATUS_OK) gather(s);
  return st;
}

static status read_reduction(const step *s, reduction *out) {
  const char *name = node_string(s->node, "reduction", "none");
  for (int r = 0; r < N_REDUCTIONS; r++) {
    if (strcmp(name, reductions[r]) != 0) continue;
    *out = (reduction)r;
    return STATUS_OK;
  }
  return step_error(s, "reduction is '%s', expected none, add, mul, max or min", name);
}

static status scatter_infer(step *s, const shape *updates) {
  char a[128], b[128];
  reduction unused;
  status st = STATUS_OK;
  TRY(input_want_index(s, 1));
  TRY(input_want(s, 2, s->in[0]->type));
  TRY(read_reduction(s, &unused));
  if (!shape_equal(updates, &s->in[2]->shape))
    return step_error(s, "the updates have shape %s, expected %s", shape_text(&s->in[2]->shape, a, sizeof a),
                      shape_text(updates, b, sizeof b));
  TRY(infer_like_input(s));
done:
  return st;
}

/* After the preparation that all share. */
static status scatter_prepare(step *s) {
  places *p = s->state;
  status st = read_reduction(s, &p->reduction);
  if (st != STATUS_OK) return st;
  s->scratch_bytes = (size_t)tensor_count(s->in[0]) * sizeof(float);
  if (p->reduction > ADD && (s->din[0] || s->din[2]))
    return step_error(s, "reduction '%s' has no gradient", reductions[p->reduction]);
  return STATUS_OK;
}

static status scatter_elements_infer(step *s) {
  status st = elements_check(s);
  return st == STATUS_OK ? scatter_infer(s, &s->in[1]->shape) : st;
}

static status scatter_elements_prepare(step *s) {
  status st = elements_prepare(s);
  return st == STATUS_OK ? scatter_prepare(s) : st;
}

static status scatter_elements_forward(step *s) {
  status st = find_elements(s);
  if (st == STATUS_OK) scatter(s);
  return st;
}

static status scatter_nd_infer(step *s) {
  shape updates;
  status st = slices_shape(s, &updates);
  return st == STATUS_OK ? scatter_infer(s, &updates) : st;
}

static status scatter_nd_prepare(step *s) {
  status st = slices_prepare(s);
  return st == STATUS_OK ? scatter_prepare(s) : st;
}

static status scatter_nd_forward(step *s) {
  status st = find_slices(s);
  if (st == STATUS_OK) scatter(s);
  return st;
}

static status reverse_infer(step *s) {
  const shape *x = &s->in[0]->shape, *lengths = &s->in[1]->shape;
  int64_t batch = node_int(s->node, "batch_axis", 1), time = node_int(s->node, "time_axis", 0);
  status st = input_want_index(s, 1);
  if (st != STATUS_OK) return st;
  if (x->rank < 2 || batch < 0 || batch > 1 || time != 1 - batch)
    return step_error(s, "time_axis and batch_axis must be 0 and 1 or 1 and 0");
  if (lengths->rank != 1 || lengths->dims[0] != x->dims[batch])
    return step_error(s, "needs %lld lengths, one for each of the batch", (long long)x->dims[batch]);
  return infer_like_input(s);
}

static status reverse_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  places *p;
  status st = places_new(s, x->dims[0] * x->dims[1], shape_span(x, 2, x->rank), &p);
  if (st != STATUS_OK) return st;
  p->axis = (int)node_int(s->node, "batch_axis", 1);
  p->extent = x->dims[1 - p->axis];
  return STATUS_OK;
}

static status reverse_forward(step *s) {
  if (tensor_count(s->in[0]) == 0) return STATUS_OK;
  status st = find_reversed(s);
  if (st == STATUS_OK) gather(s);
  return st;
}

#define GATHER(identifier, first, family, prepare_of, ...)                                                   \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 2,                                                               \
                              .max_inputs = 2,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .differentiable = 1,                                                           \
                              .infer = family##_infer,                                                       \
                              .prepare = prepare_of,                                                         \
                              .forward = family##_forward,                                                   \
                              .backward = gather_backward,                                                   \
                              .release = places_release}

#define SCATTER(identifier, first, last, family, ...)                                                        \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = 3,                                                               \
                              .max_inputs = 3,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .flags = OP_IN_PLACE,                                                          \
                              .differentiable = 5,                                                           \
                              .infer = family##_infer,                                                       \
                              .prepare = family##_prepare,                                                   \
                              .forward = family##_forward,                                                   \
                              .backward = scatter_backward,                                                  \
                              .release = places_release}

GATHER(GatherElements, 11, gather_elements, elements_prepare, "axis", NULL);
GATHER(GatherND, 11, gather_nd, slices_prepare, "batch_dims", NULL);
GATHER(ReverseSequence, 10, reverse, reverse_prepare, "batch_axis", "time_axis", NULL);
SCATTER(Scatter, 9, 10, scatter_elements, "axis", NULL);
SCATTER(ScatterElements, 11, 0, scatter_elements, "axis", "reduction", NULL);
SCATTER(ScatterND, 11, 0, scatter_nd, "reduction", NULL);
