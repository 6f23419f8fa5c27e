#include "ops/support.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

status axis_from_front(const step *s, int64_t axis, int rank, int *out) {
  if (axis < -rank || axis >= rank) {
    return step_error(s, "axis %lld is outside [%d, %d) of an input with %d dimensions", (long long)axis,
                      -rank, rank, rank);
  }
  *out = (int)(axis < 0 ? axis + rank : axis);
  return STATUS_OK;
}

status axes_read(const step *s, int input, int rank, unsigned *mask, int *n) {
  status st = STATUS_OK;
  int64_t axes[SHAPE_MAX_RANK];
  *mask = 0;
  TRY(step_ints(s, input, "axes", axes, SHAPE_MAX_RANK, n));
  for (int i = 0; i < *n; i++) {
    int axis = 0;
    TRY(axis_from_front(s, axes[i], rank, &axis));
    if (*mask & 1u << axis) {
      st = step_error(s, "axis %d is named twice", axis);
      goto done;
    }
    *mask |= 1u << axis;
  }
done:
  return st;
}

bool dtype_is_integer(dtype type) {
  return type == DTYPE_UINT8 || type == DTYPE_INT8 || type == DTYPE_INT32 || type == DTYPE_INT64 ||
         type == DTYPE_BOOL;
}

status input_want(const step *s, int i, dtype type) {
  if (s->in[i]->type == type) return STATUS_OK;
  return step_error(s, "input %d is %s; only %s is supported", i, dtype_name(s->in[i]->type),
                    dtype_name(type));
}

status input_want_index(const step *s, int i) {
  return s->in[i]->type == DTYPE_INT32 ? STATUS_OK : input_want(s, i, DTYPE_INT64);
}

status input_want_number(const step *s, int i) {
  dtype type = s->in[i]->type;
  if (type == DTYPE_FLOAT || type == DTYPE_DOUBLE || dtype_is_integer(type)) return STATUS_OK;
  return step_error(s, "input %d is %s, which this operator does not compute with; insert a Cast to float", i,
                    dtype_name(type));
}

status input_want_constant(const step *s, int i) {
  if (s->constant[i] && s->in[i]->data) return STATUS_OK;
  return step_error(s, "input %d must be constant: shapes may not depend on the values of a batch", i);
}

status input_want_all(const step *s) {
  for (int i = 0; i < s->n_in; i++) {
    if (!s->in[i]) return step_error(s, "input %d is missing", i);
  }
  return STATUS_OK;
}

status infer_like_input(step *s) {
  step_set_output(s, 0, s->in[0]->type, &s->in[0]->shape);
  return STATUS_OK;
}

status infer_like_float_input(step *s) {
  status st = input_want(s, 0, DTYPE_FLOAT);
  return st == STATUS_OK ? infer_like_input(s) : st;
}

static int64_t limited(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

void element_set_int(tensor *t, int64_t i, int64_t value) {
  switch (t->type) {
  case DTYPE_UINT8:
    ((uint8_t *)t->data)[i] = (uint8_t)value;
    break;
  case DTYPE_INT8:
    ((int8_t *)t->data)[i] = (int8_t)value;
    break;
  case DTYPE_INT32:
    ((int32_t *)t->data)[i] = (int32_t)value;
    break;
  case DTYPE_INT64:
    ((int64_t *)t->data)[i] = value;
    break;
  case DTYPE_BOOL:
    ((uint8_t *)t->data)[i] = value != 0;
    break;
  default:
    element_set_real(t, i, (double)value);
  }
}

static int64_t int_of_real(double value) {
  if (isnan(value)) return 0;
  if (value >= 0x1p63) return INT64_MAX;
  return value <= -0x1p63 ? INT64_MIN : (int64_t)value;
}

void element_set_real(tensor *t, int64_t i, double value) {
  float single = (float)value;
  int64_t whole = int_of_real(value);
  switch (t->type) {
  case DTYPE_FLOAT:
    ((float *)t->data)[i] = single;
    break;
  case DTYPE_DOUBLE:
    ((double *)t->data)[i] = value;
    break;
  case DTYPE_FLOAT16:
    half_from_float(&single, (uint16_t *)t->data + i, 1);
    break;
  case DTYPE_BOOL:
    ((uint8_t *)t->data)[i] = value != 0;
    break;
  case DTYPE_UINT8:
    element_set_int(t, i, limited(whole, 0, UINT8_MAX));
    break;
  case DTYPE_INT8:
    element_set_int(t, i, limited(whole, INT8_MIN, INT8_MAX));
    break;
  case DTYPE_INT32:
    element_set_int(t, i, limited(whole, INT32_MIN, INT32_MAX));
    break;
  case DTYPE_INT64:
    element_set_int(t, i, whole);
    break;
  case DTYPE_NONE:
    break;
  }
}

/* What becomes of zero is tried out. */
status blocks_by_element(const step *s, block_use *use) {
  status st = STATUS_OK;
  float x = 0, y = 1;
  tensor in = {.type = DTYPE_FLOAT, .data = &x}, out = {.type = DTYPE_FLOAT, .data = &y};
  tensor *ins[] = {&in, step_has(s, 1) ? s->in[1] : NULL, step_has(s, 2) ? s->in[2] : NULL}, *outs[] = {&out};
  step one = *s;
  if (s->in[0]->type != DTYPE_FLOAT || s->n_in > 3) return STATUS_OK;
  *use = (block_use){.may = 1 | BLOCKS_OUT, .alike = 1 | BLOCKS_OUT};
  for (int i = 1; i < s->n_in; i++)
    if (s->in[i] && !s->constant[i]) return STATUS_OK;
  one.in = ins;
  one.out = outs;
  one.scratch = one.saved = one.state = NULL;
  TRY(s->op->prepare(&one));
  st = s->op->forward(&one);
  s->op->release(&one);
  use->keeps_zero = y == 0;
done:
  return st;
}

status view_forward(step *s) {
  const tensor *in = s->in[0];
  tensor *out = s->out[0];
  if (out->data != in->data) memcpy(out->data, in->data, (size_t)tensor_count(in) * dtype_bytes(in->type));
  return STATUS_OK;
}

status view_backward(step *s) {
  if (s->din[0]->data != s->dout[0]->data || s->accumulate[0]) {
    gradient_write(s->din[0]->data, s->dout[0]->data, tensor_count(s->dout[0]), s->accumulate[0]);
  }
  return STATUS_OK;
}

FOR_EACH_PROCESSOR static void add_floats(float *d, const float *part, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) d[i] += part[i];
}

void gradient_write(float *d, const float *part, int64_t n, bool add) {
  if (add) {
    add_floats(d, part, n);
  } else if (d != part) {
    memcpy(d, part, (size_t)n * sizeof *d);
  }
}

float *gradient_begin(step *s, int i) {
  tensor *d = s->din[i];
  if (!s->accumulate[i]) memset(d->data, 0, (size_t)tensor_count(d) * sizeof(float));
  return d->data;
}

/* Lanes of their own, so that the compiler may use vectors without changing the order. */
FOR_EACH_PROCESSOR static float sum_in_lanes(const float *x, int64_t n) {
  enum { LANES = 16 };
  float lane[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l];
  }
  double sum = 0;
  for (int l = 0; l < LANES; l++) sum += lane[l];
  for (; i < n; i++) sum += x[i];
  return (float)sum;
}

float floats_sum(const float *x, int64_t n) {
  return sum_in_lanes(x, n);
}
