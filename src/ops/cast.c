/* Cast and CastLike (the type of another tensor): numbers of one type as another. To integers the fraction is
 * cut off. */
#include "base/bfloat16.h"
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

enum { ONNX_BFLOAT16 = 16 };

dtype dtype_of_onnx(int64_t number) {
  static const dtype types[] = {[1] = DTYPE_FLOAT,  [2] = DTYPE_UINT8,  [3] = DTYPE_INT8,
                                [6] = DTYPE_INT32,  [7] = DTYPE_INT64,  [9] = DTYPE_BOOL,
                                [10] = DTYPE_FLOAT, [11] = DTYPE_FLOAT, [ONNX_BFLOAT16] = DTYPE_FLOAT};
  const int64_t n = sizeof types / sizeof types[0];
  return number >= 0 && number < n ? types[number] : DTYPE_NONE;
}

static status cast_infer(step *s) {
  int64_t to = node_int(s->node, "to", 0);
  dtype type = dtype_of_onnx(to);
  if (type == DTYPE_NONE)
    return step_error(s, "to=%lld: ONNX type %lld is not supported", (long long)to, (long long)to);
  step_set_output(s, 0, type, &s->in[0]->shape);
  return STATUS_OK;
}

static status cast_like_infer(step *s) {
  status st = input_want_all(s);
  if (st) return st;
  step_set_output(s, 0, s->in[1]->type, &s->in[0]->shape);
  return STATUS_OK;
}

typedef struct cast_state {
  bool round; /* to bfloat16 */
} cast_state;

static status cast_prepare(step *s) {
  cast_state *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st) return st;
  state->round = node_int(s->node, "to", 0) == ONNX_BFLOAT16;
  s->state = state;
  return STATUS_OK;
}

static void cast_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status cast_forward(step *s) {
  const cast_state *state = s->state;
  const tensor *x = s->in[0];
  tensor *y = s->out[0];
  const int64_t n = tensor_count(x);
  if (x->type == y->type) {
    view_forward(s);
  } else if (dtype_is_integer(x->type)) {
    for (int64_t i = 0; i < n; i++) element_set_int(y, i, tensor_int(x, i));
  } else {
    for (int64_t i = 0; i < n; i++) element_set_real(y, i, tensor_real(x, i));
  }
  float *rounded = y->data;
  for (int64_t i = 0; state->round && i < n; i++) rounded[i] = bfloat16_round(rounded[i]);
  return STATUS_OK;
}

/* Only from float to float does a gradient come back. */
static status cast_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  if (s->dout[0] && s->dout[0]->type == DTYPE_FLOAT && s->in[0]->type == DTYPE_FLOAT) return view_backward(s);
  gradient_begin(s, 0);
  return STATUS_OK;
}

const op op_Cast = {.name = "Cast",
                    .domain = "",
                    .since = 6,
                    .min_inputs = 1,
                    .max_inputs = 1,
                    .max_outputs = 1,
                    .attributes = (const char *const[]){"to", "saturate", NULL},
                    .flags = OP_IN_PLACE,
                    .differentiable = 1,
                    .infer = cast_infer,
                    .prepare = cast_prepare,
                    .forward = cast_forward,
                    .backward = cast_backward,
                    .release = cast_release};

const op op_CastLike = {.name = "CastLike",
                        .domain = "",
                        .since = 15,
                        .min_inputs = 2,
                        .max_inputs = 2,
                        .max_outputs = 1,
                        .attributes = (const char *const[]){"saturate", NULL},
                        .flags = OP_IN_PLACE,
                        .differentiable = 1,
                        .infer = cast_like_infer,
                        .prepare = cast_prepare,
                        .forward = cast_forward,
                        .backward = cast_backward,
                        .release = cast_release};
