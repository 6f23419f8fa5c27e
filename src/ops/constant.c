/* Data out of nothing: Constant, ConstantOfShape, Range. All are known when the model is loaded. */
#include "ops/support.h"

#include <math.h>

static const char *const constant_names[] = {"value",     "value_float", "value_floats",
                                             "value_int", "value_ints",  NULL};

static const attribute *constant_attribute(const step *s) {
  for (int i = 0; constant_names[i]; i++) {
    const attribute *a = node_attribute(s->node, constant_names[i]);
    if (a) return a;
  }
  return NULL;
}

static status constant_infer(step *s) {
  const attribute *a = constant_attribute(s);
  if (!a) return step_error(s, "has none of the attributes value, value_float(s), value_int(s)");
  const shape scalar = {0}, list = {.rank = 1, .dims = {a->n}};
  switch (a->type) {
  case ATTRIBUTE_TENSOR:
    step_set_output(s, 0, a->t->type, &a->t->shape);
    return step_constant_output(s, 0, a->t->data);
  case ATTRIBUTE_INT:
    step_set_output(s, 0, DTYPE_INT64, &scalar);
    return step_constant_output(s, 0, &a->i);
  case ATTRIBUTE_INTS:
    step_set_output(s, 0, DTYPE_INT64, &list);
    return step_constant_output(s, 0, a->ints);
  case ATTRIBUTE_FLOAT:
    step_set_output(s, 0, DTYPE_FLOAT, &scalar);
    return step_constant_output(s, 0, &a->f);
  case ATTRIBUTE_FLOATS:
    step_set_output(s, 0, DTYPE_FLOAT, &list);
    return step_constant_output(s, 0, a->floats);
  default:
    return step_error(s, "holds strings, which are not supported");
  }
}

const op op_Constant = {.name = "Constant",
                        .domain = "",
                        .since = 1,
                        .max_outputs = 1,
                        .attributes = constant_names,
                        .infer = constant_infer};

static status constant_of_shape_infer(step *s) {
  shape out;
  status st = step_ints(s, 0, NULL, out.dims, SHAPE_MAX_RANK, &out.rank);
  if (st != STATUS_OK) return st;
  for (int d = 0; d < out.rank; d++) {
    if (out.dims[d] < 0) return step_error(s, "dimension %d is %lld", d, (long long)out.dims[d]);
  }
  if (shape_count(&out) < 0) return step_error(s, "the shape is too large");
  const attribute *a = node_attribute(s->node, "value");
  if (a && (a->type != ATTRIBUTE_TENSOR || tensor_count(a->t) != 1)) {
    return step_error(s, "attribute 'value' must be a tensor of one number");
  }
  step_set_output(s, 0, a ? a->t->type : DTYPE_FLOAT, &out);
  return STATUS_OK;
}

static status constant_of_shape_forward(step *s) {
  const attribute *a = node_attribute(s->node, "value");
  const int64_t n = tensor_count(s->out[0]);
  const bool whole = a && dtype_is_integer(a->t->type);
  for (int64_t i = 0; i < n; i++) {
    if (whole) {
      element_set_int(s->out[0], i, tensor_int(a->t, 0));
    } else {
      element_set_real(s->out[0], i, a ? tensor_real(a->t, 0) : 0);
    }
  }
  return STATUS_OK;
}

const op op_ConstantOfShape = {.name = "ConstantOfShape",
                               .domain = "",
                               .since = 9,
                               .min_inputs = 1,
                               .max_inputs = 1,
                               .max_outputs = 1,
                               .attributes = (const char *const[]){"value", NULL},
                               .infer = constant_of_shape_infer,
                               .forward = constant_of_shape_forward};

/* start, start + delta, ... before limit. */
static status range_infer(step *s) {
  double numbers[3];
  for (int i = 0; i < 3; i++) {
    status st = input_want_constant(s, i);
    if (st == STATUS_OK) st = input_want(s, i, s->in[0]->type);
    if (st == STATUS_OK) st = input_want_number(s, i);
    if (st != STATUS_OK) return st;
    if (tensor_count(s->in[i]) != 1) return step_error(s, "input %d must be one number", i);
    numbers[i] = tensor_real(s->in[i], 0);
  }
  double n = ceil((numbers[1] - numbers[0]) / numbers[2]);
  if (numbers[2] == 0 || !isfinite(n)) return step_error(s, "needs finite limits and a delta that is not 0");
  if (n > 0x1p31) return step_error(s, "would have %g elements", n);
  step_set_output(s, 0, s->in[0]->type, &(shape){.rank = 1, .dims = {n > 0 ? (int64_t)n : 0}});
  return STATUS_OK;
}

static status range_forward(step *s) {
  const int64_t n = tensor_count(s->out[0]);
  const double start = tensor_real(s->in[0], 0), delta = tensor_real(s->in[2], 0);
  for (int64_t i = 0; i < n; i++) element_set_real(s->out[0], i, start + (double)i * delta);
  return STATUS_OK;
}

const op op_Range = {.name = "Range",
                     .domain = "",
                     .since = 11,
                     .min_inputs = 3,
                     .max_inputs = 3,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){NULL},
                     .infer = range_infer,
                     .forward = range_forward};
