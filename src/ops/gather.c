/* Gather: slices of one axis by index (embedding tables). The gradient of a slice is the sum over its uses,
 * in the order of the indices. */
#include "base/mem.h"
#include "ops/support.h"

#include <string.h>

/* x is [outer][dim][inner]. */
typedef struct gather_state {
  int64_t outer, dim, inner;
} gather_state;

static status gather_infer(step *s) {
  const shape *x = &s->in[0]->shape, *indices = &s->in[1]->shape;
  int axis = 0;
  status st = axis_from_front(s, node_int(s->node, "axis", 0), x->rank, &axis);
  if (st != STATUS_OK) return st;
  if (s->in[1]->type != DTYPE_INT64 && s->in[1]->type != DTYPE_INT32) return input_want(s, 1, DTYPE_INT64);
  shape out = {.rank = x->rank + indices->rank - 1};
  if (out.rank > SHAPE_MAX_RANK)
    return step_error(s, "more than %d dimensions are not supported", SHAPE_MAX_RANK);
  for (int d = 0; d < out.rank; d++) {
    bool of_index = d >= axis && d < axis + indices->rank;
    out.dims[d] = of_index ? indices->dims[d - axis] : x->dims[d < axis ? d : d - indices->rank + 1];
  }
  step_set_output(s, 0, s->in[0]->type, &out);
  return STATUS_OK;
}

static status gather_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  gather_state *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st != STATUS_OK) return st;
  int64_t given = node_int(s->node, "axis", 0);
  int axis = (int)(given < 0 ? given + x->rank : given);
  *state = (gather_state){shape_span(x, 0, axis), x->dims[axis], shape_span(x, axis + 1, x->rank)};
  s->state = state;
  return STATUS_OK;
}

static void gather_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static int64_t index_at(const step *s, const gather_state *g, int64_t i) {
  int64_t index = tensor_int(s->in[1], i);
  return index < 0 ? index + g->dim : index;
}

static status gather_forward(step *s) {
  const gather_state *g = s->state;
  const size_t slice = (size_t)g->inner * dtype_bytes(s->in[0]->type);
  const int64_t n = tensor_count(s->in[1]);
  const char *x = s->in[0]->data;
  char *y = s->out[0]->data;
  for (int64_t i = 0; i < n; i++) {
    int64_t index = index_at(s, g, i);
    if (index < 0 || index >= g->dim) {
      return step_error(s, "index %lld is outside [%lld, %lld)", (long long)tensor_int(s->in[1], i),
                        (long long)-g->dim, (long long)g->dim);
    }
    for (int64_t o = 0; o < g->outer; o++) {
      memcpy(y + (size_t)(o * n + i) * slice, x + (size_t)(o * g->dim + index) * slice, slice);
    }
  }
  return STATUS_OK;
}

static status gather_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const gather_state *g = s->state;
  const int64_t n = tensor_count(s->in[1]);
  const float *from = s->dout[0]->data;
  float *to = gradient_begin(s, 0);
  for (int64_t o = 0; o < g->outer; o++) {
    for (int64_t i = 0; i < n; i++) {
      int64_t at = (o * g->dim + index_at(s, g, i)) * g->inner;
      gradient_write(to + at, from + (o * n + i) * g->inner, g->inner, true);
    }
  }
  return STATUS_OK;
}

const op op_Gather = {.name = "Gather",
                      .domain = "",
                      .since = 1,
                      .min_inputs = 2,
                      .max_inputs = 2,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"axis", NULL},
                      .keeps = KEEP_IN1,
                      .differentiable = 1,
                      .infer = gather_infer,
                      .prepare = gather_prepare,
                      .forward = gather_forward,
                      .backward = gather_backward,
                      .release = gather_release};
