/* LpPool and GlobalLpPool: y = (sum of |x|^p over the window)^(1/p). */
#include "ops/reference.h"
#include "ops/support.h"

#include "base/mem.h"

typedef struct lp_pool {
  window window;
  int64_t planes;
  double p;
} lp_pool;

static status read_window(const step *s, window *w) {
  const shape *x = &s->in[0]->shape;
  const bool global = !s->op->attributes[1];
  return global ? window_whole(s, x, w) : window_read(s, x, NULL, w);
}

static status lp_pool_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  window w;
  shape y;
  status st = STATUS_OK;
  TRY(input_want(s, 0, DTYPE_FLOAT));
  TRY(read_window(s, &w));
  if (node_int(s->node, "p", 2) < 1) return step_error(s, "p must be at least 1");
  window_shape(&w, x->dims[0], x->dims[1], &y);
  step_set_output(s, 0, DTYPE_FLOAT, &y);
done:
  return st;
}

static status lp_pool_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  lp_pool *l;
  status st = mem_new(&l, 1, sizeof *l);
  if (st != STATUS_OK) return st;
  s->state = l;
  l->planes = x->dims[0] * x->dims[1];
  l->p = (double)node_int(s->node, "p", 2);
  return read_window(s, &l->window);
}

static void lp_pool_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status lp_pool_forward(step *s) {
  const lp_pool *l = s->state;
  pool_reference_lp(&l->window, l->planes, l->p, s->in[0]->data, s->out[0]->data);
  return STATUS_OK;
}

static status lp_pool_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const lp_pool *l = s->state;
  pool_reference_lp_backward(&l->window, l->planes, l->p, s->in[0]->data, s->out[0]->data, s->dout[0]->data,
                             gradient_begin(s, 0));
  return STATUS_OK;
}

#define LP_POOL(identifier, first, ...)                                                                      \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .keeps = KEEP_IN0 | KEEP_OUT0,                                                 \
                              .differentiable = 1,                                                           \
                              .infer = lp_pool_infer,                                                        \
                              .prepare = lp_pool_prepare,                                                    \
                              .forward = lp_pool_forward,                                                    \
                              .backward = lp_pool_backward,                                                  \
                              .release = lp_pool_release}

LP_POOL(GlobalLpPool, 2, "p", NULL);
LP_POOL(LpPool, 2, "p", "kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode", NULL);
