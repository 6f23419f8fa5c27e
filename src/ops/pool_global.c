/* GlobalAveragePool and GlobalMaxPool: one window as large as the plane. */
#include "ops/reference.h"
#include "ops/support.h"

#include "base/mem.h"

typedef struct global_pool {
  window window;
  int64_t planes, extent; /* elements of a plane */
} global_pool;

static status global_infer(step *s) {
  window w;
  shape y;
  const shape *x = &s->in[0]->shape;
  status st = STATUS_OK;
  TRY(input_want(s, 0, DTYPE_FLOAT));
  TRY(window_whole(s, x, &w));
  window_shape(&w, x->dims[0], x->dims[1], &y);
  step_set_output(s, 0, DTYPE_FLOAT, &y);
done:
  return st;
}

static status global_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(global_pool)));
  global_pool *p = s->state;
  TRY(window_whole(s, &s->in[0]->shape, &p->window));
  p->planes = s->in[0]->shape.dims[0] * s->in[0]->shape.dims[1];
  p->extent = window_inputs(&p->window);
done:
  return st;
}

static void global_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status average_forward(step *s) {
  const global_pool *p = s->state;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  if (s->reference) {
    pool_reference_average(&p->window, p->planes, false, x, y);
    return STATUS_OK;
  }
  for (int64_t i = 0; i < p->planes; i++) y[i] = floats_sum(x + i * p->extent, p->extent) / (float)p->extent;
  return STATUS_OK;
}

static status average_backward(step *s) {
  const global_pool *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  const float *dy = s->dout[0]->data;
  float *dx = s->din[0]->data;
  if (s->reference) {
    pool_reference_average_backward(&p->window, p->planes, false, dy, dx, s->accumulate[0]);
    return STATUS_OK;
  }
  for (int64_t i = 0; i < p->planes; i++, dx += p->extent) {
    float part = dy[i] / (float)p->extent;
    for (int64_t j = 0; j < p->extent; j++) dx[j] = s->accumulate[0] ? dx[j] + part : part;
  }
  return STATUS_OK;
}

static status max_prepare(step *s) {
  status st = global_prepare(s);
  const global_pool *p = s->state;
  if (!st && s->training) s->saved_bytes = (size_t)p->planes * sizeof(int64_t);
  return st;
}

static status max_forward(step *s) {
  const global_pool *p = s->state;
  pool_reference_max(DTYPE_FLOAT, &p->window, p->planes, s->in[0]->data, s->out[0]->data,
                     s->training ? s->saved : NULL);
  return STATUS_OK;
}

static status max_backward(step *s) {
  const global_pool *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  pool_reference_max_backward(&p->window, p->planes, s->dout[0]->data, s->saved, s->din[0]->data,
                              s->accumulate[0]);
  return STATUS_OK;
}

const op op_GlobalAveragePool = {.name = "GlobalAveragePool",
                                 .domain = "",
                                 .since = 1,
                                 .min_inputs = 1,
                                 .max_inputs = 1,
                                 .max_outputs = 1,
                                 .attributes = (const char *const[]){NULL},
                                 .differentiable = 1,
                                 .infer = global_infer,
                                 .prepare = global_prepare,
                                 .forward = average_forward,
                                 .backward = average_backward,
                                 .release = global_release};

const op op_GlobalMaxPool = {.name = "GlobalMaxPool",
                             .domain = "",
                             .since = 1,
                             .min_inputs = 1,
                             .max_inputs = 1,
                             .max_outputs = 1,
                             .attributes = (const char *const[]){NULL},
                             .differentiable = 1,
                             .infer = global_infer,
                             .prepare = max_prepare,
                             .forward = max_forward,
                             .backward = max_backward,
                             .release = global_release};
