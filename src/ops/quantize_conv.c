/* ConvInteger and QLinearConv: convolution of 8-bit integers, into int32 or rounded to 8 bits again. */
#include "base/mem.h"
#include "ops/blas.h"
#include "ops/quantize.h"
#include "ops/reference.h"

/* Which inputs of an operator are what; -1: it has none. */
typedef struct roles {
  int x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias;
} roles;

static const roles integer_roles = {0, -1, 2, 1, -1, 3, -1, -1, -1};
static const roles linear_roles = {0, 1, 2, 3, 4, 5, 6, 7, 8};

enum { TILE_COLUMNS = 1024 }; /* outputs whose taps are laid out at once: about what a cache holds */

typedef struct quantized_conv {
  const roles *r;
  convolution c;
  levels x, w;
  int64_t terms; /* channels * taps: what one output sums */
  int64_t lines; /* lines of outputs in a tile */
  float *weight; /* [groups * filters][terms] without its zero points */
  bool fixed;    /* the same in every batch */
} quantized_conv;

static status want_bytes(const step *s, int i) {
  dtype type = s->in[i]->type;
  if (type == DTYPE_UINT8 || type == DTYPE_INT8) return STATUS_OK;
  return step_error(s, "input %d is %s; uint8 and int8 are supported", i, dtype_name(type));
}

static status read_shapes(const step *s, const roles *r, convolution *c) {
  const shape *x = &s->in[r->x]->shape, *w = &s->in[r->w]->shape;
  int64_t groups = node_int(s->node, "group", 1);
  char text_x[128], text_w[128];
  if (w->rank != x->rank || x->rank < 3 || shape_count(w) < 1 || groups < 1 || w->dims[0] % groups ||
      x->dims[1] != w->dims[1] * groups)
    return step_error(s,
                      "expected input [rows, channels, ...] and weight [filters, channels / group, ...], got "
                      "%s and %s in %lld groups",
                      shape_text(x, text_x, sizeof text_x), shape_text(w, text_w, sizeof text_w),
                      (long long)groups);
  *c = (convolution){.rows = x->dims[0], .groups = groups, .channels = w->dims[1]};
  c->filters = w->dims[0] / groups;
  return window_read(s, x, w->dims + 2, &c->window);
}

static status read_levels(const step *s, const roles *r, levels *x, levels *w) {
  status st = STATUS_OK;
  TRY(levels_read(s, r->x, r->x_scale, r->x_zero, 1, x));
  TRY(levels_read(s, r->w, r->w_scale, r->w_zero, 0, w));
  if (x->channels != 1)
    return step_error(s, "only one scale and zero point for the whole input is supported");
  if ((x->type && x->type != s->in[r->x]->type) || (w->type && w->type != s->in[r->w]->type))
    st = step_error(s, "a zero point has another type than what it belongs to");
done:
  return st;
}

static status infer(step *s, const roles *r, dtype type) {
  status st = STATUS_OK;
  convolution c;
  levels of_x, of_w;
  shape y;
  TRY(want_bytes(s, r->x));
  TRY(want_bytes(s, r->w));
  TRY(read_shapes(s, r, &c));
  TRY(read_levels(s, r, &of_x, &of_w));
  window_shape(&c.window, c.rows, c.groups * c.filters, &y);
  step_set_output(s, 0, type, &y);
done:
  return st;
}

static status integer_infer(step *s) {
  return infer(s, &integer_roles, DTYPE_INT32);
}

static status linear_infer(step *s) {
  status st = STATUS_OK;
  const roles *r = &linear_roles;
  for (int i = 0; i < r->bias; i++) {
    if (!s->in[i]) return step_error(s, "input %d is missing", i);
  }
  TRY(want_bytes(s, r->y_zero));
  TRY(input_want(s, r->y_scale, DTYPE_FLOAT));
  if (tensor_count(s->in[r->y_scale]) != 1 || tensor_count(s->in[r->y_zero]) != 1)
    return step_error(s, "only one scale and zero point for the whole output is supported");
  if (step_has(s, r->bias)) {
    TRY(input_want(s, r->bias, DTYPE_INT32));
    if (tensor_count(s->in[r->bias]) != s->in[r->w]->shape.dims[0])
      return step_error(s, "its bias has %lld values for %lld filters",
                        (long long)tensor_count(s->in[r->bias]), (long long)s->in[r->w]->shape.dims[0]);
  }
  TRY(infer(s, r, s->in[r->y_zero]->type));
done:
  return st;
}

static void release(step *s) {
  quantized_conv *q = s->state;
  if (q) mem_free(q->weight);
  mem_free(q);
  s->state = NULL;
}

static int64_t tile_columns(const quantized_conv *q) {
  return q->lines * q->c.window.out[2];
}

/* Floats in front of the next array of the scratch. */
static int64_t padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

static status prepare(step *s, const roles *r) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(quantized_conv)));
  quantized_conv *q = s->state;
  q->r = r;
  TRY(read_shapes(s, r, &q->c));
  TRY(read_levels(s, r, &q->x, &q->w));
  const window *w = &q->c.window;
  q->terms = q->c.channels * window_taps(w);
  q->lines = TILE_COLUMNS / w->out[2];
  if (q->lines < 1) q->lines = 1;
  if (q->lines > w->out[0] * w->out[1]) q->lines = w->out[0] * w->out[1];
  if (!blas_fits(q->c.filters, tile_columns(q), q->terms))
    return step_error(s, "a convolution of this size is not supported");
  TRY(mem_new(&q->weight, (size_t)(q->c.groups * q->c.filters * q->terms), sizeof(float)));
  q->fixed = s->constant[r->w] && (!q->w.zero || s->constant[r->w_zero]);
  if (q->fixed) levels_center_all(&q->w, s->in[r->w], q->weight);
  int64_t sums = padded(q->c.filters * tile_columns(q));
  s->scratch_bytes =
      (size_t)(padded(q->c.channels * window_inputs(w)) + padded(q->terms * tile_columns(q)) + 2 * sums) *
      sizeof(float);
done:
  return st;
}

static status integer_prepare(step *s) {
  return prepare(s, &integer_roles);
}

static status linear_prepare(step *s) {
  return prepare(s, &linear_roles);
}

/* sums[n] of outputs `first` and on of a filter's plane (counted over rows and filters) into the output. */
static void emit(step *s, const quantized_conv *q, int64_t plane, int64_t first, int64_t n,
                 const int32_t *sums) {
  int64_t at = plane * window_outputs(&q->c.window) + first, filter = plane % (q->c.groups * q->c.filters);
  if (q->r == &integer_roles) {
    memcpy((int32_t *)s->out[0]->data + at, sums, (size_t)n * sizeof *sums);
    return;
  }
  int32_t bias = step_has(s, q->r->bias) ? ((const int32_t *)s->in[q->r->bias]->data)[filter] : 0;
  float y_scale = *(const float *)s->in[q->r->y_scale]->data;
  float scale = levels_scale(&q->x, 0) * levels_scale(&q->w, filter) / y_scale;
  levels_requantize(s->out[0]->type, sums, bias, scale, (int32_t)tensor_int(s->in[q->r->y_zero], 0), n,
                    (char *)s->out[0]->data + at);
}

/* What one tap reads for a line of outputs: 0 in the padding. */
static void lay_line(const window *w, const float *x, int64_t tap, float *to) {
  int64_t stride = w->stride[2], start = tap * w->dilation[2] - w->begin[2];
  int64_t from = start < 0 ? (-start + stride - 1) / stride : 0;
  int64_t behind = start < w->in[2] ? (w->in[2] - 1 - start) / stride + 1 : 0;
  if (from > w->out[2]) from = w->out[2];
  if (behind > w->out[2]) behind = w->out[2];
  if (behind < from) behind = from;
  memset(to, 0, (size_t)from * sizeof *to);
  if (stride == 1) {
    memcpy(to + from, x + from + start, (size_t)(behind - from) * sizeof *to);
  } else {
    for (int64_t o = from; o < behind; o++) to[o] = x[o * stride + start];
  }
  memset(to + behind, 0, (size_t)(w->out[2] - behind) * sizeof *to);
}

/* columns[tap][n outputs] of a plane x of one channel, for lines [first, first + lines) of outputs. */
static void lay_plane(const window *w, const float *x, int64_t first, int64_t lines, float *columns) {
  int64_t tap = 0, n = lines * w->out[2];
  for (int64_t k0 = 0; k0 < w->kernel[0]; k0++) {
    for (int64_t k1 = 0; k1 < w->kernel[1]; k1++) {
      for (int64_t k2 = 0; k2 < w->kernel[2]; k2++, tap++) {
        for (int64_t line = 0; line < lines; line++) {
          int64_t i0 = (first + line) / w->out[1] * w->stride[0] + k0 * w->dilation[0] - w->begin[0];
          int64_t i1 = (first + line) % w->out[1] * w->stride[1] + k1 * w->dilation[1] - w->begin[1];
          float *to = columns + tap * n + line * w->out[2];
          if (i0 < 0 || i0 >= w->in[0] || i1 < 0 || i1 >= w->in[1]) {
            memset(to, 0, (size_t)w->out[2] * sizeof *to);
          } else {
            lay_line(w, x + (i0 * w->in[1] + i1) * w->in[2], k2, to);
          }
        }
      }
    }
  }
}

/* One group of one row. */
static void convolve_group(step *s, const quantized_conv *q, int64_t row, int64_t group) {
  const convolution *c = &q->c;
  const window *w = &c->window;
  const int64_t inputs = c->channels * window_inputs(w), taps = window_taps(w), all = w->out[0] * w->out[1];
  float *x = s->scratch, *columns = x + padded(inputs), *part = columns + padded(q->terms * tile_columns(q));
  int32_t *sums = (int32_t *)(part + padded(c->filters * tile_columns(q)));
  levels_center(s->in[q->r->x], (row * c->groups + group) * inputs, inputs, levels_zero(&q->x, 0), x);
  for (int64_t first = 0; first < all; first += q->lines) {
    int64_t lines = all - first < q->lines ? all - first : q->lines, n = lines * w->out[2];
    for (int64_t channel = 0; channel < c->channels; channel++)
      lay_plane(w, x + channel * window_inputs(w), first, lines, columns + channel * taps * n);
    integer_product(c->filters, n, q->terms, q->weight + group * c->filters * q->terms, columns, part, sums);
    for (int64_t f = 0; f < c->filters; f++)
      emit(s, q, (row * c->groups + group) * c->filters + f, first * w->out[2], n, sums + f * n);
  }
}

/* One output, by the definition. */
static int32_t sum_plainly(const step *s, const quantized_conv *q, int64_t plane, const int64_t o[3]) {
  const convolution *c = &q->c;
  const window *w = &c->window;
  int64_t filter = plane % (c->groups * c->filters), row = plane / (c->groups * c->filters);
  int64_t from[3], to[3], sum = 0;
  for (int axis = 0; axis < WINDOW_RANK; axis++) window_inside(w, axis, o[axis], &from[axis], &to[axis]);
  for (int64_t channel = 0; channel < c->channels; channel++) {
    int64_t x = ((row * c->groups + filter / c->filters) * c->channels + channel) * window_inputs(w);
    int64_t weight = (filter * c->channels + channel) * window_taps(w);
    for (int64_t k0 = from[0]; k0 < to[0]; k0++)
      for (int64_t k1 = from[1]; k1 < to[1]; k1++)
        for (int64_t k2 = from[2]; k2 < to[2]; k2++) {
          int64_t i0 = o[0] * w->stride[0] + k0 * w->dilation[0] - w->begin[0];
          int64_t i1 = o[1] * w->stride[1] + k1 * w->dilation[1] - w->begin[1];
          int64_t i2 = o[2] * w->stride[2] + k2 * w->dilation[2] - w->begin[2];
          int64_t a = tensor_int(s->in[q->r->x], x + (i0 * w->in[1] + i1) * w->in[2] + i2);
          int64_t b = tensor_int(s->in[q->r->w], weight + (k0 * w->kernel[1] + k1) * w->kernel[2] + k2);
          sum += (a - levels_zero(&q->x, 0)) * (b - levels_zero(&q->w, filter));
        }
  }
  return (int32_t)(uint32_t)(uint64_t)sum;
}

static void convolve_plainly(step *s, const quantized_conv *q) {
  const window *w = &q->c.window;
  for (int64_t plane = 0; plane < q->c.rows * q->c.groups * q->c.filters; plane++) {
    for (int64_t i = 0; i < window_outputs(w); i++) {
      int32_t sum = sum_plainly(
          s, q, plane, (int64_t[]){i / w->out[2] / w->out[1], i / w->out[2] % w->out[1], i % w->out[2]});
      emit(s, q, plane, i, 1, &sum);
    }
  }
}

static status forward(step *s) {
  quantized_conv *q = s->state;
  if (s->reference) {
    convolve_plainly(s, q);
    return STATUS_OK;
  }
  if (!q->fixed) levels_center_all(&q->w, s->in[q->r->w], q->weight);
  for (int64_t row = 0; row < q->c.rows; row++)
    for (int64_t group = 0; group < q->c.groups; group++) convolve_group(s, q, row, group);
  return STATUS_OK;
}

static const char *const attributes[] = {"auto_pad", "dilations", "group", "kernel_shape",
                                         "pads",     "strides",   NULL};

const op op_ConvInteger = {.name = "ConvInteger",
                           .domain = "",
                           .since = 10,
                           .min_inputs = 2,
                           .max_inputs = 4,
                           .max_outputs = 1,
                           .attributes = attributes,
                           .infer = integer_infer,
                           .prepare = integer_prepare,
                           .forward = forward,
                           .release = release};

const op op_QLinearConv = {.name = "QLinearConv",
                           .domain = "",
                           .since = 10,
                           .min_inputs = 8,
                           .max_inputs = 9,
                           .max_outputs = 1,
                           .attributes = attributes,
                           .infer = linear_infer,
                           .prepare = linear_prepare,
                           .forward = forward,
                           .release = release};
