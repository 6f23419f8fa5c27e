/* The same elements under another shape, and shapes as data. */
#include "ops/support.h"

static status check_same_count(const step *s, const shape *out) {
  if (shape_count(out) == tensor_count(s->in[0])) return STATUS_OK;
  char from[96], to[96];
  return step_error(s, "input of shape %s cannot become %s", shape_text(&s->in[0]->shape, from, sizeof from),
                    shape_text(out, to, sizeof to));
}

static status infer_shape(step *s, const shape *out) {
  status st = check_same_count(s, out);
  if (st == STATUS_OK) step_set_output(s, 0, s->in[0]->type, out);
  return st;
}

/* Everything before the axis becomes rows, everything from it on columns. */
static status flatten_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  int64_t axis = node_int(s->node, "axis", 1);
  if (axis < -x->rank || axis > x->rank) {
    return step_error(s, "axis %lld is outside [%d, %d]", (long long)axis, -x->rank, x->rank);
  }
  if (axis < 0) axis += x->rank;
  shape out = {.rank = 2, .dims = {shape_span(x, 0, (int)axis), shape_span(x, (int)axis, x->rank)}};
  return infer_shape(s, &out);
}

/* 0 copies the input's dimension (unless allowzero), -1 takes what is left. */
static status reshape_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  const bool zero_is_zero = node_int(s->node, "allowzero", 0) != 0;
  shape out;
  int64_t known = 1;
  int open = -1;
  status st = step_ints(s, 1, NULL, out.dims, SHAPE_MAX_RANK, &out.rank);
  if (st != STATUS_OK) return st;
  if (out.rank < 0) return step_error(s, "has no shape");
  for (int d = 0; d < out.rank; d++) {
    if (out.dims[d] == 0 && !zero_is_zero) {
      if (d >= x->rank) return step_error(s, "copies dimension %d of an input that has %d", d, x->rank);
      out.dims[d] = x->dims[d];
    }
    if (out.dims[d] == -1 && open < 0) {
      open = d;
    } else if (out.dims[d] < 0) {
      return step_error(s, "dimension %d of the new shape is %lld", d, (long long)out.dims[d]);
    } else if (__builtin_mul_overflow(known, out.dims[d], &known)) {
      return step_error(s, "the new shape is too large");
    }
  }
  if (open >= 0) out.dims[open] = known ? tensor_count(s->in[0]) / known : 0;
  return infer_shape(s, &out);
}

static status squeeze_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  shape out = {0};
  unsigned mask;
  int n;
  status st = axes_read(s, 1, x->rank, &mask, &n);
  if (st != STATUS_OK) return st;
  for (int d = 0; d < x->rank; d++) {
    bool named = mask >> d & 1;
    if (named && x->dims[d] != 1)
      return step_error(s, "dimension %d is %lld, not 1", d, (long long)x->dims[d]);
    if (!named && !(n < 0 && x->dims[d] == 1)) out.dims[out.rank++] = x->dims[d];
  }
  return infer_shape(s, &out);
}

static status unsqueeze_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  int64_t axes[SHAPE_MAX_RANK];
  unsigned mask;
  int n, from = 0;
  status st = step_ints(s, 1, "axes", axes, SHAPE_MAX_RANK, &n);
  if (st != STATUS_OK) return st;
  if (n < 0) return step_error(s, "has no axes");
  shape out = {.rank = x->rank + n};
  if (out.rank > SHAPE_MAX_RANK)
    return step_error(s, "more than %d dimensions are not supported", SHAPE_MAX_RANK);
  st = axes_read(s, 1, out.rank, &mask, &n);
  if (st != STATUS_OK) return st;
  for (int d = 0; d < out.rank; d++) out.dims[d] = mask >> d & 1 ? 1 : x->dims[from++];
  return infer_shape(s, &out);
}

static int clamp_axis(int64_t axis, int rank) {
  if (axis < 0) axis += rank;
  return (int)(axis < 0 ? 0 : axis > rank ? rank : axis);
}

static status shape_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  int start = clamp_axis(node_int(s->node, "start", 0), x->rank);
  int end = clamp_axis(node_int(s->node, "end", x->rank), x->rank);
  shape out = {.rank = 1, .dims = {end > start ? end - start : 0}};
  step_set_output(s, 0, DTYPE_INT64, &out);
  return step_constant_output(s, 0, x->dims + start);
}

static status size_infer(step *s) {
  int64_t count = tensor_count(s->in[0]);
  step_set_output(s, 0, DTYPE_INT64, &(shape){0});
  return step_constant_output(s, 0, &count);
}

#define VIEW(identifier, first, infer_of, most_inputs, ...)                                                  \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 1,                                                               \
                              .max_inputs = most_inputs,                                                     \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .flags = OP_VIEW,                                                              \
                              .differentiable = 1,                                                           \
                              .infer = infer_of,                                                             \
                              .forward = view_forward,                                                       \
                              .backward = view_backward}
VIEW(Flatten, 1, flatten_infer, 1, "axis", NULL);
VIEW(Identity, 1, infer_like_input, 1, NULL);
VIEW(Reshape, 5, reshape_infer, 2, "allowzero", NULL);
VIEW(Squeeze, 1, squeeze_infer, 2, "axes", NULL);
VIEW(Unsqueeze, 1, unsqueeze_infer, 2, "axes", NULL);

/* Known as soon as the shape is: never run. */
#define SHAPE_AS_DATA(identifier, infer_of, ...)                                                             \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = 1,                                                                    \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .infer = infer_of}
SHAPE_AS_DATA(Shape, shape_infer, "start", "end", NULL);
SHAPE_AS_DATA(Size, size_infer, NULL);
