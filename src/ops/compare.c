/* Comparisons and logic of two broadcast inputs, and tests of one: the result is bool. */
#include "ops/binary.h"
#include "ops/support.h"

#include <math.h>

/* Both as integers and as reals: int64_t has values that no double has. */
#define COMPARISON(name, test)                                                                               \
  static int64_t name##_whole(int64_t a, int64_t b) {                                                        \
    return test;                                                                                             \
  }                                                                                                          \
  static double name##_real(double a, double b) {                                                            \
    return test;                                                                                             \
  }                                                                                                          \
  static status name##_forward(step *s) {                                                                    \
    static const binary_kernel kernel = {.real = name##_real, .whole = name##_whole};                        \
    return binary_forward(s, &kernel);                                                                       \
  }

static status compare_infer(step *s) {
  status st = input_want(s, 1, s->in[0]->type);
  return st == STATUS_OK ? binary_infer(s, DTYPE_BOOL) : st;
}

static status logic_infer(step *s) {
  status st = input_want(s, 0, DTYPE_BOOL);
  return st == STATUS_OK ? compare_infer(s) : st;
}

#define OPERATOR(identifier, first, infer_of, name_of, test)                                                 \
  COMPARISON(name_of, test)                                                                                  \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 2,                                                               \
                              .max_inputs = 2,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){NULL},                                     \
                              .infer = infer_of,                                                             \
                              .forward = name_of##_forward};

OPERATOR(Equal, 7, compare_infer, equal, a == b)
OPERATOR(Less, 7, compare_infer, less, a < b)
OPERATOR(LessOrEqual, 12, compare_infer, less_or_equal, a <= b)
OPERATOR(Greater, 7, compare_infer, greater, a > b)
OPERATOR(GreaterOrEqual, 12, compare_infer, greater_or_equal, a >= b)
OPERATOR(And, 7, logic_infer, and, a != 0 && b != 0)
OPERATOR(Or, 7, logic_infer, or, a != 0 || b != 0)
OPERATOR(Xor, 7, logic_infer, xor, (a != 0) != (b != 0))

static status test_infer(step *s) {
  status st = input_want(s, 0, DTYPE_FLOAT);
  if (st == STATUS_OK) step_set_output(s, 0, DTYPE_BOOL, &s->in[0]->shape);
  return st;
}

static status is_nan_forward(step *s) {
  const float *x = s->in[0]->data;
  uint8_t *y = s->out[0]->data;
  const int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) y[i] = isnan(x[i]) != 0;
  return STATUS_OK;
}

static status is_inf_forward(step *s) {
  const bool positive = node_int(s->node, "detect_positive", 1),
             negative = node_int(s->node, "detect_negative", 1);
  const float *x = s->in[0]->data;
  uint8_t *y = s->out[0]->data;
  const int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) y[i] = isinf(x[i]) && (x[i] > 0 ? positive : negative);
  return STATUS_OK;
}

const op op_IsNaN = {.name = "IsNaN",
                     .domain = "",
                     .since = 9,
                     .min_inputs = 1,
                     .max_inputs = 1,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){NULL},
                     .infer = test_infer,
                     .forward = is_nan_forward};

const op op_IsInf = {.name = "IsInf",
                     .domain = "",
                     .since = 10,
                     .min_inputs = 1,
                     .max_inputs = 1,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){"detect_positive", "detect_negative", NULL},
                     .infer = test_infer,
                     .forward = is_inf_forward};
