/* CumSum: y[i] = x[0] + ... + x[i] along one axis; exclusive: without x[i]; reverse: from the end. The
 * gradient is the same sum of dy in the other direction. */
#include "ops/support.h"

#include <string.h>

static status cumsum_infer(step *s) {
  status st = input_want_number(s, 0);
  if (st == STATUS_OK && tensor_count(s->in[1]) != 1) st = step_error(s, "axis must be one number");
  return st == STATUS_OK ? infer_like_input(s) : st;
}

/* The array is [outer][n][inner], and one pass goes over n. */
typedef struct course {
  int64_t outer, n, inner;
  bool exclusive, reverse;
} course;

static status read_course(const step *s, course *c) {
  const shape *x = &s->in[0]->shape;
  int axis;
  status st = axis_from_front(s, tensor_int(s->in[1], 0), x->rank, &axis);
  if (st != STATUS_OK) return st;
  *c = (course){.outer = shape_span(x, 0, axis),
                .n = x->dims[axis],
                .inner = shape_span(x, axis + 1, x->rank),
                .exclusive = node_int(s->node, "exclusive", 0) != 0,
                .reverse = node_int(s->node, "reverse", 0) != 0};
  return STATUS_OK;
}

/* Place k of the course's direction. */
static int64_t at(const course *c, int64_t k) {
  return (c->reverse ? c->n - 1 - k : k) * c->inner;
}

/* y (+)= sums of x. Each row is the one before it and one more, so that no array of sums is needed; with
 * `add` that would not be so, and the sum of an element runs in a number of its own. */
static void sum_floats(const course *c, const float *x, float *y, bool add) {
  for (int64_t o = 0; o < c->outer; o++, x += c->n * c->inner, y += c->n * c->inner) {
    for (int64_t i = 0; i < c->inner; i++) {
      float sum = 0;
      for (int64_t k = 0; k < c->n; k++) {
        const float next = x[at(c, k) + i], now = c->exclusive ? sum : sum + next;
        sum += next;
        y[at(c, k) + i] = add ? y[at(c, k) + i] + now : now;
      }
    }
  }
}

static void sum_any(const course *c, const tensor *x, tensor *y) {
  const bool whole = dtype_is_integer(x->type);
  for (int64_t o = 0; o < c->outer; o++) {
    for (int64_t i = 0; i < c->inner; i++) {
      int64_t count = 0;
      double sum = 0;
      for (int64_t k = 0; k < c->n; k++) {
        const int64_t place = o * c->n * c->inner + at(c, k) + i;
        const int64_t old_count = count;
        const double old_sum = sum;
        count = (int64_t)((uint64_t)count + (uint64_t)(whole ? tensor_int(x, place) : 0));
        sum += whole ? 0 : tensor_real(x, place);
        if (whole) {
          element_set_int(y, place, c->exclusive ? old_count : count);
        } else {
          element_set_real(y, place, c->exclusive ? old_sum : sum);
        }
      }
    }
  }
}

static status cumsum_forward(step *s) {
  course c;
  status st = read_course(s, &c);
  if (st != STATUS_OK) return st;
  if (s->in[0]->type == DTYPE_FLOAT) {
    sum_floats(&c, s->in[0]->data, s->out[0]->data, false);
  } else {
    sum_any(&c, s->in[0], s->out[0]);
  }
  return STATUS_OK;
}

static status cumsum_backward(step *s) {
  course c;
  status st = read_course(s, &c);
  if (st != STATUS_OK || !s->din[0]) return st;
  c.reverse = !c.reverse;
  sum_floats(&c, s->dout[0]->data, s->din[0]->data, s->accumulate[0]);
  return STATUS_OK;
}

const op op_CumSum = {.name = "CumSum",
                      .domain = "",
                      .since = 11,
                      .min_inputs = 2,
                      .max_inputs = 2,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"exclusive", "reverse", NULL},
                      .flags = OP_IN_PLACE,
                      .keeps = KEEP_IN1,
                      .differentiable = 1,
                      .infer = cumsum_infer,
                      .forward = cumsum_forward,
                      .backward = cumsum_backward};
