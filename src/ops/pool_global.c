/* GlobalAveragePool and GlobalMaxPool: one window as large as the plane. */
#include "ops/reference.h"
#include "ops/span_block.h"
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

/* Reads blocks, writes what is row-major: one element a plane. */
static status average_blocks(const step *s, block_use *use) {
  (void)s;
  *use = (block_use){.may = 1, .keeps_zero = true};
  return STATUS_OK;
}

static void average_of_blocks(const global_pool *p, const tensor *x, float *y) {
  const shape layout = tensor_layout(x);
  const int64_t channels = x->shape.dims[1], block = x->block;
  const float *from = x->data;
  for (int64_t r = 0; r < layout.dims[0]; r++)
    for (int64_t c = 0; c < channels; c += block, from += p->extent * block) {
      double sums[SPAN_BLOCK_MAX] = {0};
      span_block_sum(from, p->extent, block, sums);
      for (int64_t i = 0; i < block && c + i < channels; i++) *y++ = (float)(sums[i] / (double)p->extent);
    }
}

static status average_forward(step *s) {
  const global_pool *p = s->state;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  if (s->in[0]->block) {
    average_of_blocks(p, s->in[0], y);
    return STATUS_OK;
  }
  if (s->reference) {
    pool_reference_average(&p->window, p->planes, false, x, y);
    return STATUS_OK;
  }
  for (int64_t i = 0; i < p->planes; i++) y[i] = floats_sum(x + i * p->extent, p->extent) / (float)p->extent;
  return STATUS_OK;
}

/* All channels of a block, in training, where every block is full. */
static void spread_over_blocks(const global_pool *p, int64_t block, const float *dy, bool add, float *dx) {
  for (int64_t i = 0; i < p->planes; i += block) {
    float part[SPAN_BLOCK_MAX];
    for (int64_t c = 0; c < block; c++) part[c] = dy[i + c] / (float)p->extent;
    for (int64_t j = 0; j < p->extent; j++, dx += block)
      for (int64_t c = 0; c < block; c++) dx[c] = add ? dx[c] + part[c] : part[c];
  }
}

static status average_backward(step *s) {
  const global_pool *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  const float *dy = s->dout[0]->data;
  float *dx = s->din[0]->data;
  if (s->din[0]->block) {
    spread_over_blocks(p, s->din[0]->block, dy, s->accumulate[0], dx);
    return STATUS_OK;
  }
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
                                 .release = global_release,
                                 .blocks = average_blocks};

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
