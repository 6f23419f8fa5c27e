/* MaxPool and AveragePool: the largest or the mean element under a sliding window. */
#include "ops/dnnl.h"
#include "ops/pool_blocks.h"
#include "ops/support.h"

#include "base/mem.h"

#include <string.h>

typedef struct pool {
  window window;
  int64_t rows, planes;
  bool padding;        /* AveragePool: padding counts in the divisor */
  bool column_major;   /* MaxPool: order of the indices that output 1 gives */
  int64_t blocks;      /* MaxPool by pool_blocks.h: of that many blocks of channels, in all rows; 0: not */
  pool_kernel *kernel; /* NULL: the reference path, where there are no blocks */
  size_t kernel_bytes; /* scratch of the kernel, in front of a gradient that is to be added to another */
} pool;

static status pool_read(const step *s, pool *p) {
  const tensor *x = s->in[0];
  status st = window_read(s, &x->shape, NULL, &p->window);
  if (st) return st;
  p->rows = x->shape.dims[0];
  p->planes = p->rows * x->shape.dims[1];
  p->padding = node_int(s->node, "count_include_pad", 0) != 0;
  p->column_major = node_int(s->node, "storage_order", 0) != 0;
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    const window *w = &p->window;
    int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
    if (w->begin[axis] >= extent || w->end[axis] >= extent) {
      return step_error(s, "a padding of %lld leaves windows of %lld elements without any input",
                        (long long)(w->begin[axis] > w->end[axis] ? w->begin[axis] : w->end[axis]),
                        (long long)extent);
    }
  }
  return STATUS_OK;
}

static status pool_infer(step *s) {
  pool p = {.rows = 0};
  shape y;
  status st = pool_read(s, &p);
  if (st) return st;
  window_shape(&p.window, p.rows, s->in[0]->shape.dims[1], &y);
  step_set_output(s, 0, s->in[0]->type, &y);
  step_set_output(s, 1, DTYPE_INT64, &y);
  return STATUS_OK;
}

static status max_infer(step *s) {
  dtype t = s->in[0]->type;
  if (t != DTYPE_FLOAT && t != DTYPE_DOUBLE && t != DTYPE_INT8 && t != DTYPE_UINT8) {
    return step_error(s, "takes float, double, int8 or uint8, got %s", dtype_name(t));
  }
  return pool_infer(s);
}

static status average_infer(step *s) {
  status st = input_want(s, 0, DTYPE_FLOAT);
  return st ? st : pool_infer(s);
}

static void pool_release(step *s) {
  pool *p = s->state;
  if (!p) return;
  pool_kernel_free(&p->kernel);
  mem_free(p);
  s->state = NULL;
}

/* The library counts all taps or those inside the input. With ceil_mode a window may also reach over the
 * padding, whose taps do not count: that only our own loop knows. */
static bool reaches_over(const window *w) {
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
    if ((w->out[axis] - 1) * w->stride[axis] + extent > w->in[axis] + w->begin[axis] + w->end[axis])
      return true;
  }
  return false;
}

static status pool_prepare(step *s, bool library, pool_kind kind) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(pool)));
  pool *p = s->state;
  TRY(pool_read(s, p));
  if (library && !s->reference && p->planes > 0) {
    if (kind == POOL_AVERAGE && p->padding) kind = POOL_AVERAGE_PADDED;
    TRY(pool_kernel_new(&p->kernel, kind, &p->window, p->rows, p->planes / p->rows, s->in[0]->block,
                        s->out[0]->block, s->training));
  }
  if (!p->kernel) return STATUS_OK;
  size_t spare = s->din[0] && s->accumulate[0] ? (size_t)tensor_count(s->in[0]) * sizeof(float) : 0;
  p->kernel_bytes = (pool_kernel_scratch_bytes(p->kernel) + 63) / 64 * 64;
  s->scratch_bytes = p->kernel_bytes + spare;
  s->saved_bytes = pool_kernel_saved_bytes(p->kernel);
done:
  if (st) pool_release(s);
  return st;
}

static status pool_blocks(const step *s, bool library, pool_kind kind, block_use *use) {
  status st = STATUS_OK;
  pool_kernel *k = NULL;
  pool p = {.rows = 0};
  TRY(pool_read(s, &p));
  if (!library) return STATUS_OK;
  if (kind == POOL_AVERAGE && p.padding) kind = POOL_AVERAGE_PADDED;
  TRY(pool_kernel_new(&k, kind, &p.window, p.rows, p.planes / p.rows, dnnl_block(), dnnl_block(),
                      s->training));
  if (k) *use = (block_use){.may = 1 | BLOCKS_OUT, .keeps_zero = true};
  pool_kernel_free(&k);
done:
  return st;
}

static bool has_indices(const step *s) {
  return s->n_out > 1 && s->out[1];
}

static status max_blocks(const step *s, block_use *use) {
  return pool_blocks(s, s->in[0]->type == DTYPE_FLOAT && !has_indices(s), POOL_MAX, use);
}

static bool max_in_blocks(const step *s, const pool *p) {
  return !s->reference && p->planes > 0 && pool_blocks_suit(&p->window, s->in[0]->block, s->out[0]->block);
}

static status max_prepare(step *s) {
  status st = STATUS_OK;
  pool read = {.rows = 0};
  TRY(pool_read(s, &read));
  const bool blocks = max_in_blocks(s, &read);
  TRY(pool_prepare(s, !blocks && s->in[0]->type == DTYPE_FLOAT && !has_indices(s), POOL_MAX));
  pool *p = s->state;
  if (blocks) {
    p->blocks = tensor_places(s->in[0]) / (window_inputs(&p->window) * s->in[0]->block);
    *(s->din[0] ? &s->saved_bytes : &s->scratch_bytes) = (size_t)tensor_places(s->out[0]);
  } else if (!p->kernel && s->training) {
    s->saved_bytes = (size_t)(p->planes * window_outputs(&p->window)) * sizeof(int64_t);
  }
done:
  return st;
}

static bool library_averages(const pool *p) {
  return !p->padding || !reaches_over(&p->window);
}

static status average_prepare(step *s) {
  pool p = {.rows = 0};
  status st = pool_read(s, &p);
  return st ? st : pool_prepare(s, library_averages(&p), POOL_AVERAGE);
}

static status average_blocks(const step *s, block_use *use) {
  pool p = {.rows = 0};
  status st = pool_read(s, &p);
  return st ? st : pool_blocks(s, library_averages(&p), POOL_AVERAGE, use);
}

/* Output 1: where each maximum stands in the whole input, each plane in row- or column-major order. */
static void write_indices(const pool *p, const int64_t *index, int64_t *to) {
  const window *w = &p->window;
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t i = 0; i < p->planes * outputs; i++) {
    int64_t at = index[i];
    if (p->column_major) {
      int64_t i2 = at % w->in[2], i1 = at / w->in[2] % w->in[1], i0 = at / w->in[2] / w->in[1];
      at = (i2 * w->in[1] + i1) * w->in[0] + i0;
    }
    to[i] = i / outputs * inputs + at;
  }
}

static status max_forward(step *s) {
  pool *p = s->state;
  if (p->blocks) {
    pool_blocks_max(&p->window, p->blocks, s->in[0]->block, s->in[0]->data, s->out[0]->data,
                    s->saved_bytes ? s->saved : s->scratch);
    return STATUS_OK;
  }
  if (p->kernel) return pool_kernel_forward(p->kernel, s->in[0]->data, s->out[0]->data, s->saved, s->scratch);
  int64_t *indices = has_indices(s) ? s->out[1]->data : NULL;
  int64_t *index = s->training ? s->saved : indices;
  pool_reference_max(s->in[0]->type, &p->window, p->planes, s->in[0]->data, s->out[0]->data, index);
  if (indices) write_indices(p, index, indices);
  return STATUS_OK;
}

/* The kernel overwrites dx: what is to be added to a part is made in the scratch first. */
static status kernel_backward(pool *p, step *s) {
  bool add = s->accumulate[0];
  float *dx = add ? (float *)((char *)s->scratch + p->kernel_bytes) : s->din[0]->data;
  status st = pool_kernel_backward(p->kernel, s->dout[0]->data, dx, s->saved, s->scratch);
  if (!st && add) gradient_write(s->din[0]->data, dx, tensor_count(s->in[0]), true);
  return st;
}

static status max_backward(step *s) {
  pool *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  if (p->blocks) {
    pool_blocks_max_backward(&p->window, p->blocks, s->in[0]->block, s->dout[0]->data, s->saved,
                             s->din[0]->data, s->accumulate[0]);
    return STATUS_OK;
  }
  if (p->kernel) return kernel_backward(p, s);
  pool_reference_max_backward(&p->window, p->planes, s->dout[0]->data, s->saved, s->din[0]->data,
                              s->accumulate[0]);
  return STATUS_OK;
}

static status average_forward(step *s) {
  pool *p = s->state;
  if (p->kernel) return pool_kernel_forward(p->kernel, s->in[0]->data, s->out[0]->data, s->saved, s->scratch);
  pool_reference_average(&p->window, p->planes, p->padding, s->in[0]->data, s->out[0]->data);
  return STATUS_OK;
}

static status average_backward(step *s) {
  pool *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  if (p->kernel) return kernel_backward(p, s);
  pool_reference_average_backward(&p->window, p->planes, p->padding, s->dout[0]->data, s->din[0]->data,
                                  s->accumulate[0]);
  return STATUS_OK;
}

const op op_MaxPool = {.name = "MaxPool",
                       .domain = "",
                       .since = 1,
                       .min_inputs = 1,
                       .max_inputs = 1,
                       .max_outputs = 2,
                       .attributes =
                           (const char *const[]){"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads",
                                                 "storage_order", "strides", NULL},
                       .differentiable = 1,
                       .infer = max_infer,
                       .prepare = max_prepare,
                       .forward = max_forward,
                       .backward = max_backward,
                       .release = pool_release,
                       .blocks = max_blocks};

const op op_AveragePool = {.name = "AveragePool",
                           .domain = "",
                           .since = 7,
                           .min_inputs = 1,
                           .max_inputs = 1,
                           .max_outputs = 1,
                           .attributes = (const char *const[]){"auto_pad", "ceil_mode", "count_include_pad",
                                                               "kernel_shape", "pads", "strides", NULL},
                           .differentiable = 1,
                           .infer = average_infer,
                           .prepare = average_prepare,
                           .forward = average_forward,
                           .backward = average_backward,
                           .release = pool_release,
                           .blocks = average_blocks};
