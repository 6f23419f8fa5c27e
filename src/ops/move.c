/* Elements to other places, by strides: Transpose, Expand, Tile, Slice, DepthToSpace, SpaceToDepth. The
 * gradient goes the same ways back; where an element went to several places, their gradients are summed in
 * the order of the output. */
#include "base/mem.h"
#include "ops/attention.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <string.h>

/* Each operator's prepare makes a nest over the output (array 0) and the input (array 1). */
static status keep_nest(step *s, const nest *n) {
  nest *kept;
  status st = mem_new(&kept, 1, sizeof *kept);
  if (st != STATUS_OK) return st;
  *kept = *n;
  nest_simplify(kept);
  s->state = kept;
  return STATUS_OK;
}

static void move_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status move_forward(step *s) {
  nest n = *(const nest *)s->state;
  nest_copy(&n, s->out[0]->data, s->in[0]->data, dtype_bytes(s->in[0]->type));
  return STATUS_OK;
}

/* The way back: from the output's strides to the input's. */
static nest reversed(const nest *n) {
  nest r = *n;
  for (int d = 0; d < n->rank; d++) {
    r.strides[0][d] = n->strides[1][d];
    r.strides[1][d] = n->strides[0][d];
  }
  r.offset[0] = n->offset[1];
  r.offset[1] = n->offset[0];
  return r;
}

static status move_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  nest n = reversed(s->state);
  nest_sum(&n, gradient_begin(s, 0), s->dout[0]->data);
  return STATUS_OK;
}

static status read_permutation(const step *s, int perm[SHAPE_MAX_RANK]) {
  const int rank = s->in[0]->shape.rank;
  int64_t given[SHAPE_MAX_RANK];
  unsigned seen = 0;
  int n;
  status st = step_ints(s, -1, "perm", given, SHAPE_MAX_RANK, &n);
  if (st != STATUS_OK) return st;
  if (n >= 0 && n != rank) return step_error(s, "perm has %d axes, the input %d", n, rank);
  for (int d = 0; d < rank; d++) {
    int64_t axis = n < 0 ? rank - 1 - d : given[d];
    if (axis < 0 || axis >= rank || seen >> axis & 1)
      return step_error(s, "perm is not a permutation of the axes");
    seen |= 1u << axis;
    perm[d] = (int)axis;
  }
  return STATUS_OK;
}

static status transpose_infer(step *s) {
  int perm[SHAPE_MAX_RANK];
  status st = read_permutation(s, perm);
  if (st != STATUS_OK) return st;
  shape out = {.rank = s->in[0]->shape.rank};
  for (int d = 0; d < out.rank; d++) out.dims[d] = s->in[0]->shape.dims[perm[d]];
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status transpose_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *y = &s->out[0]->shape;
  int64_t from[SHAPE_MAX_RANK], to[SHAPE_MAX_RANK];
  int perm[SHAPE_MAX_RANK];
  nest n;
  status st = read_permutation(s, perm);
  if (st != STATUS_OK) return st;
  shape_strides(x, x, from);
  shape_strides(y, y, to);
  nest_clear(&n, 2);
  for (int d = 0; d < y->rank; d++) nest_add(&n, y->dims[d], (int64_t[]){to[d], from[perm[d]]});
  return keep_nest(s, &n);
}

/* Every element has one place: its gradient is written, not summed. */
static status transpose_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  nest n = reversed(s->state);
  if (s->accumulate[0]) {
    nest_sum(&n, s->din[0]->data, s->dout[0]->data);
  } else {
    nest_copy(&n, s->din[0]->data, s->dout[0]->data, sizeof(float));
  }
  return STATUS_OK;
}

static status expand_infer(step *s) {
  shape wanted, out;
  status st = step_ints(s, 1, NULL, wanted.dims, SHAPE_MAX_RANK, &wanted.rank);
  if (st != STATUS_OK) return st;
  if (!shape_broadcast(&s->in[0]->shape, &wanted, &out)) {
    char x[96], w[96];
    return step_error(s, "input of shape %s cannot be expanded to %s",
                      shape_text(&s->in[0]->shape, x, sizeof x), shape_text(&wanted, w, sizeof w));
  }
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status expand_prepare(step *s) {
  nest n;
  nest_broadcast(&n, &s->out[0]->shape, (const shape *[]){&s->out[0]->shape, &s->in[0]->shape}, 2);
  return keep_nest(s, &n);
}

static status tile_infer(step *s) {
  shape out = s->in[0]->shape;
  int64_t repeats[SHAPE_MAX_RANK];
  int n;
  status st = step_ints(s, 1, NULL, repeats, SHAPE_MAX_RANK, &n);
  if (st != STATUS_OK) return st;
  if (n != out.rank) return step_error(s, "has %d repeats for %d dimensions", n, out.rank);
  for (int d = 0; d < n; d++) {
    if (repeats[d] < 0 || __builtin_mul_overflow(out.dims[d], repeats[d], &out.dims[d])) {
      return step_error(s, "repeats dimension %d %lld times", d, (long long)repeats[d]);
    }
  }
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status tile_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *y = &s->out[0]->shape;
  int64_t from[SHAPE_MAX_RANK], to[SHAPE_MAX_RANK];
  nest n;
  shape_strides(x, x, from);
  shape_strides(y, y, to);
  nest_clear(&n, 2);
  for (int d = 0; d < y->rank; d++) {
    int64_t dim = x->dims[d];
    nest_add(&n, dim ? y->dims[d] / dim : 0, (int64_t[]){to[d] * dim, 0});
    nest_add(&n, dim, (int64_t[]){to[d], from[d]});
  }
  if (y->rank == 0) nest_add(&n, 1, (int64_t[]){0, 0});
  return keep_nest(s, &n);
}

/* What is taken of every dimension: `n` elements from `first` on, `step` apart. */
typedef struct slices {
  int64_t first[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK], n[SHAPE_MAX_RANK];
} slices;

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

static void slice_dimension(slices *t, int d, int64_t dim, int64_t start, int64_t end, int64_t step) {
  if (start < 0) start += dim;
  if (end < 0) end += dim;
  int64_t span;
  if (step > 0) {
    start = clamp(start, 0, dim);
    span = clamp(end, 0, dim) - start;
  } else {
    start = clamp(start, -1, dim - 1);
    span = start - clamp(end, -1, dim - 1);
  }
  uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
  t->n[d] = span > 0 ? (int64_t)(((uint64_t)span + stride - 1) / stride) : 0;
  t->first[d] = start;
  t->step[d] = t->n[d] > 1 ? step : 1;
}

static status read_slices(const step *s, slices *t) {
  const shape *x = &s->in[0]->shape;
  int64_t starts[SHAPE_MAX_RANK], ends[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK], steps[SHAPE_MAX_RANK];
  int n, n_ends, n_axes, n_steps;
  status st = STATUS_OK;
  TRY(step_ints(s, 1, "starts", starts, SHAPE_MAX_RANK, &n));
  TRY(step_ints(s, 2, "ends", ends, SHAPE_MAX_RANK, &n_ends));
  TRY(step_ints(s, 3, "axes", axes, SHAPE_MAX_RANK, &n_axes));
  TRY(step_ints(s, 4, NULL, steps, SHAPE_MAX_RANK, &n_steps));
  if (n < 0 || n != n_ends || n > x->rank || (n_axes >= 0 && n_axes != n) || (n_steps >= 0 && n_steps != n)) {
    return step_error(s, "needs as many ends, axes and steps as starts, at most %d", x->rank);
  }
  for (int d = 0; d < x->rank; d++) slice_dimension(t, d, x->dims[d], 0, x->dims[d], 1);
  for (int i = 0; i < n; i++) {
    int d = 0;
    TRY(axis_from_front(s, n_axes < 0 ? i : axes[i], x->rank, &d));
    if (n_steps >= 0 && steps[i] == 0) return step_error(s, "step of axis %d is 0", d);
    slice_dimension(t, d, x->dims[d], starts[i], ends[i], n_steps < 0 ? 1 : steps[i]);
  }
done:
  return st;
}

static status slice_infer(step *s) {
  slices t;
  status st = read_slices(s, &t);
  if (st != STATUS_OK) return st;
  shape out = {.rank = s->in[0]->shape.rank};
  for (int d = 0; d < out.rank; d++) out.dims[d] = t.n[d];
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status slice_prepare(step *s) {
  const shape *x = &s->in[0]->shape, *y = &s->out[0]->shape;
  int64_t from[SHAPE_MAX_RANK], to[SHAPE_MAX_RANK];
  slices t;
  nest n;
  status st = read_slices(s, &t);
  if (st != STATUS_OK) return st;
  shape_strides(x, x, from);
  shape_strides(y, y, to);
  nest_clear(&n, 2);
  for (int d = 0; d < y->rank; d++) {
    nest_add(&n, y->dims[d], (int64_t[]){to[d], from[d] * t.step[d]});
    n.offset[1] += t.first[d] * from[d];
  }
  return keep_nest(s, &n);
}

/* The side of the blocks that go between channels and pixels of an input [rows, channels, height, width]. */
static status read_block(const step *s, int64_t *side) {
  *side = node_int(s->node, "blocksize", 0);
  if (s->in[0]->shape.rank != 4)
    return step_error(s, "needs an input of 4 dimensions, not %d", s->in[0]->shape.rank);
  if (*side < 1 || *side > INT16_MAX) return step_error(s, "blocksize is %lld", (long long)*side);
  return STATUS_OK;
}

static status depth_to_space_infer(step *s) {
  const int64_t *x = s->in[0]->shape.dims;
  int64_t b = 0;
  status st = read_block(s, &b);
  if (st != STATUS_OK) return st;
  if (x[1] % (b * b))
    return step_error(s, "%lld channels are no blocks of %lld x %lld", (long long)x[1], (long long)b,
                      (long long)b);
  step_set_output(s, 0, s->in[0]->type,
                  &(shape){.rank = 4, .dims = {x[0], x[1] / (b * b), x[2] * b, x[3] * b}});
  return STATUS_OK;
}

static status space_to_depth_infer(step *s) {
  const int64_t *x = s->in[0]->shape.dims;
  int64_t b = 0;
  status st = read_block(s, &b);
  if (st != STATUS_OK) return st;
  if (x[2] % b || x[3] % b)
    return step_error(s, "%lld x %lld pixels are no blocks of %lld", (long long)x[2], (long long)x[3],
                      (long long)b);
  step_set_output(s, 0, s->in[0]->type,
                  &(shape){.rank = 4, .dims = {x[0], x[1] * b * b, x[2] / b, x[3] / b}});
  return STATUS_OK;
}

/* The order in which the pixel's place inside its block and its channel count in the channels of the deep
 * tensor: (place, channel), or with mode CRD (channel, place). array: which of the nest's the deep tensor is.
 */
static nest blocks(const step *s, const shape *deep, const shape *wide, int64_t b, int array) {
  const int64_t channels = wide->dims[1], h = deep->dims[2], w = deep->dims[3], area = h * w;
  const bool crd = strcmp(node_string(s->node, "mode", "DCR"), "CRD") == 0;
  const int64_t of_channel = (crd ? b * b : 1) * area, of_place = (crd ? 1 : channels) * area;
  const int64_t dims[] = {wide->dims[0], channels, h, b, w, b};
  const int64_t in_deep[] = {channels * b * b * area, of_channel, w, b * of_place, 1, of_place};
  const int64_t in_wide[] = {channels * b * b * area, b * b * area, b * b * w, b * w, b, 1};
  nest n;
  nest_clear(&n, 2);
  for (int d = 0; d < 6; d++) {
    int64_t strides[2] = {in_wide[d], in_wide[d]};
    strides[array] = in_deep[d];
    nest_add(&n, dims[d], strides);
  }
  return n;
}

static status depth_to_space_prepare(step *s) {
  const char *mode = node_string(s->node, "mode", "DCR");
  if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
    return step_error(s, "mode '%s' is not understood", mode);
  nest n = blocks(s, &s->in[0]->shape, &s->out[0]->shape, node_int(s->node, "blocksize", 1), 1);
  return keep_nest(s, &n);
}

static status space_to_depth_prepare(step *s) {
  nest n = blocks(s, &s->out[0]->shape, &s->in[0]->shape, node_int(s->node, "blocksize", 1), 0);
  return keep_nest(s, &n);
}

#define MOVE(identifier, type, first, last, most_inputs, family, backward_of, ...)                           \
  const op op_##identifier = {.name = type,                                                                  \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = 1,                                                               \
                              .max_inputs = most_inputs,                                                     \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .differentiable = 1,                                                           \
                              .infer = family##_infer,                                                       \
                              .prepare = family##_prepare,                                                   \
                              .forward = move_forward,                                                       \
                              .backward = backward_of,                                                       \
                              .release = move_release}

MOVE(DepthToSpace, "DepthToSpace", 1, 0, 1, depth_to_space, transpose_backward, "blocksize", "mode", NULL);
MOVE(Expand, "Expand", 8, 0, 2, expand, move_backward, NULL);
MOVE(Slice_1, "Slice", 1, 9, 1, slice, move_backward, "starts", "ends", "axes", NULL);
MOVE(Slice_10, "Slice", 10, 0, 5, slice, move_backward, NULL);
MOVE(SpaceToDepth, "SpaceToDepth", 1, 0, 1, space_to_depth, transpose_backward, "blocksize", NULL);
MOVE(Tile, "Tile", 6, 0, 2, tile, move_backward, NULL);
const op op_Transpose = {.name = "Transpose",
                         .domain = "",
                         .since = 1,
                         .min_inputs = 1,
                         .max_inputs = 1,
                         .max_outputs = 1,
                         .attributes = (const char *const[]){"perm", NULL},
                         .differentiable = 1,
                         .infer = transpose_infer,
                         .prepare = transpose_prepare,
                         .forward = move_forward,
                         .backward = transpose_backward,
                         .release = move_release,
                         .shorten = attention_turn};
