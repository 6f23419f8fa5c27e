/* Where: y = condition ? a : b, all three broadcast. */
#include "ops/nest.h"
#include "ops/support.h"

#include <string.h>

static status where_infer(step *s) {
  status st = STATUS_OK;
  shape both, out;
  TRY(input_want(s, 0, DTYPE_BOOL));
  TRY(input_want(s, 2, s->in[1]->type));
  if (!shape_broadcast(&s->in[1]->shape, &s->in[2]->shape, &both) ||
      !shape_broadcast(&both, &s->in[0]->shape, &out)) {
    char a[96], b[96], c[96];
    return step_error(s, "inputs of shapes %s, %s and %s do not broadcast",
                      shape_text(&s->in[0]->shape, a, sizeof a), shape_text(&s->in[1]->shape, b, sizeof b),
                      shape_text(&s->in[2]->shape, c, sizeof c));
  }
  step_set_output(s, 0, s->in[1]->type, &out);
done:
  return st;
}

static status where_forward(step *s) {
  const shape *out = &s->out[0]->shape;
  const size_t bytes = dtype_bytes(s->out[0]->type);
  const uint8_t *condition = s->in[0]->data;
  char *y = s->out[0]->data;
  nest n;
  nest_broadcast(&n, out, (const shape *[]){out, &s->in[0]->shape, &s->in[1]->shape, &s->in[2]->shape}, 4);
  nest_simplify(&n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      int chosen = condition[n.offset[1] + i * nest_stride(&n, 1)] ? 1 : 2;
      int64_t from = n.offset[1 + chosen] + i * nest_stride(&n, 1 + chosen);
      const char *source = s->in[chosen]->data;
      memcpy(y + (size_t)(n.offset[0] + i) * bytes, source + (size_t)from * bytes, bytes);
    }
  }
  return STATUS_OK;
}

static void where_backward_one(step *s, int which) {
  const shape *out = &s->dout[0]->shape;
  const uint8_t *condition = s->in[0]->data;
  const float *g = s->dout[0]->data;
  float *d = gradient_begin(s, which);
  nest n;
  nest_broadcast(&n, out, (const shape *[]){out, &s->in[0]->shape, &s->din[which]->shape}, 3);
  nest_simplify(&n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      bool first = condition[n.offset[1] + i * nest_stride(&n, 1)];
      if (first == (which == 1)) d[n.offset[2] + i * nest_stride(&n, 2)] += g[n.offset[0] + i];
    }
  }
}

static status where_backward(step *s) {
  for (int i = 1; i <= 2; i++) {
    if (s->din[i]) where_backward_one(s, i);
  }
  return STATUS_OK;
}

const op op_Where = {.name = "Where",
                     .domain = "",
                     .since = 9,
                     .min_inputs = 3,
                     .max_inputs = 3,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){NULL},
                     .keeps = KEEP_IN0,
                     .differentiable = 1 << 1 | 1 << 2,
                     .infer = where_infer,
                     .forward = where_forward,
                     .backward = where_backward};
