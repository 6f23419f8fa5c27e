/* QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: between real numbers and 8-bit integers. */
#include "base/mem.h"
#include "ops/quantize.h"

static bool is_byte(dtype type) {
  return type == DTYPE_UINT8 || type == DTYPE_INT8;
}

/* Blocks of a scale each, and 16-bit and 4-bit results, came with later opsets. */
static status check_later(const step *s) {
  int64_t block = node_int(s->node, "block_size", 0), type = node_int(s->node, "output_dtype", 0);
  if (block) return step_error(s, "block_size=%lld is not supported", (long long)block);
  if (type && type != 2 && type != 3)
    return step_error(s, "output_dtype=%lld is not supported; uint8 (2) and int8 (3) are", (long long)type);
  return STATUS_OK;
}

static status quantize_infer(step *s) {
  status st = STATUS_OK;
  levels l;
  if (s->in[0]->type != DTYPE_FLOAT && s->in[0]->type != DTYPE_INT32) return input_want(s, 0, DTYPE_FLOAT);
  TRY(check_later(s));
  TRY(levels_read(s, 0, 1, 2, node_int(s->node, "axis", 1), &l));
  dtype type = l.zero ? l.type : node_int(s->node, "output_dtype", 2) == 3 ? DTYPE_INT8 : DTYPE_UINT8;
  if (!is_byte(type)) {
    st = step_error(s, "its zero point is %s; uint8 and int8 are supported", dtype_name(type));
    goto done;
  }
  step_set_output(s, 0, type, &s->in[0]->shape);
done:
  return st;
}

/* QuantizeLinear and DequantizeLinear keep their levels. */
static status linear_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(levels));
  return st ? st : levels_read(s, 0, 1, 2, node_int(s->node, "axis", 1), s->state);
}

static void linear_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* int32 through a few floats at a time. */
static void quantize_ints(dtype type, const int32_t *x, float scale, int32_t zero, int64_t n, char *q) {
  enum { PIECE = 256 };
  float piece[PIECE];
  for (int64_t first = 0; first < n; first += PIECE) {
    int64_t m = n - first < PIECE ? n - first : PIECE;
    for (int64_t i = 0; i < m; i++) piece[i] = (float)x[first + i];
    levels_quantize(type, piece, scale, zero, m, q + first);
  }
}

static status quantize_forward(step *s) {
  const levels *l = s->state;
  dtype type = s->out[0]->type;
  char *q = s->out[0]->data;
  for (int64_t i = 0; i < l->outer * l->channels; i++) {
    int64_t at = i * l->inner, channel = i % l->channels;
    float scale = levels_scale(l, channel);
    int32_t zero = levels_zero(l, channel);
    if (s->in[0]->type == DTYPE_FLOAT) {
      levels_quantize(type, (const float *)s->in[0]->data + at, scale, zero, l->inner, q + at);
    } else {
      quantize_ints(type, (const int32_t *)s->in[0]->data + at, scale, zero, l->inner, q + at);
    }
  }
  return STATUS_OK;
}

const op op_QuantizeLinear = {
    .name = "QuantizeLinear",
    .domain = "",
    .since = 10,
    .min_inputs = 2,
    .max_inputs = 3,
    .max_outputs = 1,
    .attributes = (const char *const[]){"axis", "block_size", "output_dtype", "saturate", NULL},
    .infer = quantize_infer,
    .prepare = linear_prepare,
    .forward = quantize_forward,
    .release = linear_release};

static status dequantize_infer(step *s) {
  status st = STATUS_OK;
  levels l;
  dtype type = s->in[0]->type;
  if (!is_byte(type) && type != DTYPE_INT32)
    return step_error(s, "input 0 is %s; uint8, int8 and int32 are supported", dtype_name(type));
  TRY(check_later(s));
  TRY(levels_read(s, 0, 1, 2, node_int(s->node, "axis", 1), &l));
  if (l.zero && l.type != type) {
    st = step_error(s, "its zero point is %s and its input %s", dtype_name(l.type), dtype_name(type));
    goto done;
  }
  step_set_output(s, 0, DTYPE_FLOAT, &s->in[0]->shape);
done:
  return st;
}

FOR_EACH_PROCESSOR static void scale_floats(float *y, float scale, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

static void dequantize_ints(const int32_t *q, int32_t zero, float scale, int64_t n, float *y) {
  for (int64_t i = 0; i < n; i++) y[i] = (float)((int64_t)q[i] - zero) * scale;
}

static status dequantize_forward(step *s) {
  const levels *l = s->state;
  const tensor *q = s->in[0];
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < l->outer * l->channels; i++) {
    int64_t at = i * l->inner, channel = i % l->channels;
    float scale = levels_scale(l, channel);
    int32_t zero = levels_zero(l, channel);
    if (q->type == DTYPE_INT32) {
      dequantize_ints((const int32_t *)q->data + at, zero, scale, l->inner, y + at);
    } else {
      levels_center(q, at, l->inner, zero, y + at);
      scale_floats(y + at, scale, l->inner);
    }
  }
  return STATUS_OK;
}

const op op_DequantizeLinear = {.name = "DequantizeLinear",
                                .domain = "",
                                .since = 10,
                                .min_inputs = 2,
                                .max_inputs = 3,
                                .max_outputs = 1,
                                .attributes =
                                    (const char *const[]){"axis", "block_size", "output_dtype", NULL},
                                .infer = dequantize_infer,
                                .prepare = linear_prepare,
                                .forward = dequantize_forward,
                                .release = linear_release};

static status dynamic_infer(step *s) {
  status st = input_want(s, 0, DTYPE_FLOAT);
  const shape scalar = {.rank = 0};
  if (st) return st;
  step_set_output(s, 0, DTYPE_UINT8, &s->in[0]->shape);
  step_set_output(s, 1, DTYPE_FLOAT, &scalar);
  step_set_output(s, 2, DTYPE_UINT8, &scalar);
  return STATUS_OK;
}

/* The range is that of the whole batch, and holds zero: y = (x - min) / ((max - min) / 255), rounded. */
static status dynamic_forward(step *s) {
  const float *x = s->in[0]->data;
  const int64_t n = tensor_count(s->in[0]);
  float low = 0, high = 0, real_zero;
  for (int64_t i = 0; i < n; i++) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  float scale = low == high ? 1 : (high - low) / UINT8_MAX;
  uint8_t zero;
  real_zero = -low;
  levels_quantize(DTYPE_UINT8, &real_zero, scale, 0, 1, &zero);
  levels_quantize(DTYPE_UINT8, x, scale, zero, n, s->out[0]->data);
  if (s->n_out > 1 && s->out[1]) *(float *)s->out[1]->data = scale;
  if (s->n_out > 2 && s->out[2]) *(uint8_t *)s->out[2]->data = zero;
  return STATUS_OK;
}

const op op_DynamicQuantizeLinear = {.name = "DynamicQuantizeLinear",
                                     .domain = "",
                                     .since = 11,
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .max_outputs = 3,
                                     .attributes = (const char *const[]){NULL},
                                     .infer = dynamic_infer,
                                     .forward = dynamic_forward};
