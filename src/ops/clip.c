/* Clip: y = min(max(x, low), high), the bounds attributes before opset 11 and inputs since. */
#include "base/mem.h"
#include "ops/support.h"

#include <float.h>
#include <math.h>

typedef struct bounds {
  double low, high;
} bounds;

static status clip_prepare(step *s) {
  bounds *b;
  status st = mem_new(&b, 1, sizeof *b);
  if (st != STATUS_OK) return st;
  const bool attributes = s->op->max_inputs == 1;
  b->low = attributes ? node_float(s->node, "min", -FLT_MAX) : -INFINITY;
  b->high = attributes ? node_float(s->node, "max", FLT_MAX) : INFINITY;
  s->state = b;
  return STATUS_OK;
}

static void clip_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* Bounds that are inputs may change with every batch. */
static bounds read_bounds(const step *s) {
  bounds b = *(const bounds *)s->state;
  if (step_has(s, 1)) b.low = tensor_real(s->in[1], 0);
  if (step_has(s, 2)) b.high = tensor_real(s->in[2], 0);
  return b;
}

static status clip_infer(step *s) {
  status st = input_want_number(s, 0);
  for (int i = 1; i < s->n_in && st == STATUS_OK; i++) {
    if (!s->in[i]) continue;
    if (tensor_count(s->in[i]) != 1) return step_error(s, "input %d must be one number", i);
    st = input_want(s, i, s->in[0]->type);
  }
  return st == STATUS_OK ? infer_like_input(s) : st;
}

static double limit(double x, bounds b) {
  double raised = x < b.low ? b.low : x;
  return raised > b.high ? b.high : raised;
}

FOR_EACH_PROCESSOR static void limit_floats(float *y, const float *x, int64_t n, float low, float high) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) {
    float raised = x[i] < low ? low : x[i];
    y[i] = raised > high ? high : raised;
  }
}

static status clip_forward(step *s) {
  const bounds b = read_bounds(s);
  const int64_t n = tensor_count(s->in[0]);
  if (s->in[0]->type == DTYPE_FLOAT) {
    limit_floats(s->out[0]->data, s->in[0]->data, n, (float)b.low, (float)b.high);
  } else {
    for (int64_t i = 0; i < n; i++) element_set_real(s->out[0], i, limit(tensor_real(s->in[0], i), b));
  }
  return STATUS_OK;
}

/* No short cut: a jump would keep the loop from becoming vector code. */
static inline bool within(float x, float low, float high) {
  return (x >= low) & (x <= high);
}

/* The gradient passes where x lies within the bounds, these included. */
FOR_EACH_PROCESSOR static void pass_within(float *d, const float *g, const float *x, int64_t n, float low,
                                           float high, bool add) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) d[i] += within(x[i], low, high) ? g[i] : 0;
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) d[i] = within(x[i], low, high) ? g[i] : 0;
  }
}

static status clip_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const bounds b = read_bounds(s);
  pass_within(s->din[0]->data, s->dout[0]->data, s->in[0]->data, tensor_count(s->in[0]), (float)b.low,
              (float)b.high, s->accumulate[0]);
  return STATUS_OK;
}

const op op_Clip_6 = {.name = "Clip",
                      .domain = "",
                      .since = 6,
                      .until = 10,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"min", "max", NULL},
                      .flags = OP_IN_PLACE,
                      .keeps = KEEP_IN0,
                      .differentiable = 1,
                      .infer = clip_infer,
                      .prepare = clip_prepare,
                      .forward = clip_forward,
                      .backward = clip_backward,
                      .release = clip_release,
                      .blocks = blocks_by_element};

const op op_Clip_11 = {.name = "Clip",
                       .domain = "",
                       .since = 11,
                       .min_inputs = 1,
                       .max_inputs = 3,
                       .max_outputs = 1,
                       .attributes = (const char *const[]){NULL},
                       .flags = OP_IN_PLACE,
                       .keeps = KEEP_IN_ALL,
                       .differentiable = 1,
                       .infer = clip_infer,
                       .prepare = clip_prepare,
                       .forward = clip_forward,
                       .backward = clip_backward,
                       .release = clip_release,
                       .blocks = blocks_by_element};
