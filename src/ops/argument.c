/* ArgMax and ArgMin: the index of the greatest or least element along one axis; the first of equal ones, or
 * with select_last_index the last. */
#include "base/mem.h"
#include "ops/support.h"

static status argument_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  shape out = {0};
  int axis;
  status st = axis_from_front(s, node_int(s->node, "axis", 0), x->rank, &axis);
  if (st == STATUS_OK) st = input_want_number(s, 0);
  if (st != STATUS_OK) return st;
  if (x->dims[axis] == 0) return step_error(s, "dimension %d has no elements to choose from", axis);
  bool keep = node_int(s->node, "keepdims", 1);
  for (int d = 0; d < x->rank; d++) {
    if (d != axis) out.dims[out.rank++] = x->dims[d];
    if (d == axis && keep) out.dims[out.rank++] = 1;
  }
  step_set_output(s, 0, DTYPE_INT64, &out);
  return STATUS_OK;
}

/* Of `n` elements `stride` apart. */
static int64_t best_of(const tensor *x, int64_t first, int64_t n, int64_t stride, double sign, bool last) {
  int64_t best = 0;
  double top = sign * tensor_real(x, first);
  for (int64_t k = 1; k < n; k++) {
    double value = sign * tensor_real(x, first + k * stride);
    if (value > top || (last && value == top)) {
      top = value;
      best = k;
    }
  }
  return best;
}

/* The input is [outer][n][inner]. */
typedef struct argument_state {
  int64_t outer, n, inner;
  bool last;
} argument_state;

static status argument_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  argument_state *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st != STATUS_OK) return st;
  const int64_t given = node_int(s->node, "axis", 0);
  const int axis = (int)(given < 0 ? given + x->rank : given);
  *state = (argument_state){.outer = shape_span(x, 0, axis),
                            .n = x->dims[axis],
                            .inner = shape_span(x, axis + 1, x->rank),
                            .last = node_int(s->node, "select_last_index", 0) != 0};
  s->state = state;
  return STATUS_OK;
}

static void argument_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status argument_forward(step *s, double sign) {
  const argument_state *a = s->state;
  int64_t *y = s->out[0]->data;
  for (int64_t o = 0; o < a->outer; o++) {
    for (int64_t i = 0; i < a->inner; i++) {
      *y++ = best_of(s->in[0], o * a->n * a->inner + i, a->n, a->inner, sign, a->last);
    }
  }
  return STATUS_OK;
}

static status arg_max_forward(step *s) {
  return argument_forward(s, 1);
}
static status arg_min_forward(step *s) {
  return argument_forward(s, -1);
}

static const char *const names[] = {"axis", "keepdims", "select_last_index", NULL};

const op op_ArgMax = {.name = "ArgMax",
                      .domain = "",
                      .since = 1,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 1,
                      .attributes = names,
                      .infer = argument_infer,
                      .prepare = argument_prepare,
                      .forward = arg_max_forward,
                      .release = argument_release};

const op op_ArgMin = {.name = "ArgMin",
                      .domain = "",
                      .since = 1,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 1,
                      .attributes = names,
                      .infer = argument_infer,
                      .prepare = argument_prepare,
                      .forward = arg_min_forward,
                      .release = argument_release};
