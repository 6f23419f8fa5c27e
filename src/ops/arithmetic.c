/* Add, Sub, Mul, Div, Pow, PRelu, Mod. */
#include "ops/binary.h"
#include "ops/gelu_forms.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

/* Integers wrap around as numpy's do. */
static int64_t whole_sum(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a + (uint64_t)b);
}
static int64_t whole_difference(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a - (uint64_t)b);
}
static int64_t whole_product(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a * (uint64_t)b);
}
static int64_t whole_quotient(int64_t a, int64_t b) {
  return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}
static double real_sum(double a, double b) {
  return a + b;
}
static double real_difference(double a, double b) {
  return a - b;
}
static double real_product(double a, double b) {
  return a * b;
}
static double real_quotient(double a, double b) {
  return a / b;
}
static double real_prelu(double x, double slope) {
  return x < 0 ? x * slope : x;
}

BINARY_VALUE(sum, u + v)
BINARY_VALUE(difference, u - v)
BINARY_VALUE(product, u *v)
BINARY_VALUE(quotient, u / v)
BINARY_VALUE(prelu, u < 0 ? u * v : u)
BINARY_VALUE(power, powf(u, v))
BINARY_VALUE(square, u *u)

BINARY_SLOPE(minus_one, -1)
BINARY_SLOPE(second, v)
BINARY_SLOPE(first, u)
BINARY_SLOPE(one_over_second, 1 / v)
BINARY_SLOPE(quotient_second, -u / (v * v))
BINARY_SLOPE(prelu_first, u < 0 ? v : 1)
BINARY_SLOPE(prelu_second, u < 0 ? u : 0)
BINARY_SLOPE(power_first, v == 0 ? 0 : v * powf(u, v - 1))
BINARY_SLOPE(square_first, 2 * u)
BINARY_SLOPE(remainder_second, -truncf(u / v)) /* u - trunc(u / v) v, between its jumps */
BINARY_SLOPE(power_second, u == 0 && v >= 0 ? 0 : powf(u, v) * logf(u)) /* 0^v is flat in v */

static const binary_kernel add_kernel = {.value = sum, .real = real_sum, .whole = whole_sum};
static const binary_kernel sub_kernel = {
    .value = difference, .real = real_difference, .whole = whole_difference, .slope = {NULL, minus_one}};
static const binary_kernel mul_kernel = {
    .value = product, .real = real_product, .whole = whole_product, .slope = {second, first}};
static const binary_kernel div_kernel = {.value = quotient,
                                         .real = real_quotient,
                                         .whole = whole_quotient,
                                         .slope = {one_over_second, quotient_second}};
static const binary_kernel pow_kernel = {.value = power, .real = pow, .slope = {power_first, power_second}};
static const binary_kernel prelu_kernel = {
    .value = prelu, .real = real_prelu, .slope = {prelu_first, prelu_second}};

static status infer_same_types(step *s) {
  status st = input_want(s, 1, s->in[0]->type);
  return st == STATUS_OK ? binary_infer(s, s->in[0]->type) : st;
}

/* The base decides the type. */
static status pow_infer(step *s) {
  return binary_infer(s, s->in[0]->type);
}

static status check_divisors(const step *s) {
  const tensor *b = s->in[1];
  if (!dtype_is_integer(b->type)) return STATUS_OK;
  for (int64_t i = 0, n = tensor_count(b); i < n; i++) {
    if (tensor_int(b, i) == 0) return step_error(s, "division of integers by zero");
  }
  return STATUS_OK;
}

static status add_forward(step *s) {
  return binary_forward(s, &add_kernel);
}
static status add_backward(step *s) {
  return binary_backward(s, &add_kernel);
}
static status sub_forward(step *s) {
  return binary_forward(s, &sub_kernel);
}
static status sub_backward(step *s) {
  return binary_backward(s, &sub_kernel);
}
static status mul_forward(step *s) {
  return binary_forward(s, &mul_kernel);
}
static status mul_backward(step *s) {
  return binary_backward(s, &mul_kernel);
}
static status div_forward(step *s) {
  status st = check_divisors(s);
  return st == STATUS_OK ? binary_forward(s, &div_kernel) : st;
}
static status div_backward(step *s) {
  return binary_backward(s, &div_kernel);
}
static status prelu_forward(step *s) {
  return binary_forward(s, &prelu_kernel);
}
static status prelu_backward(step *s) {
  return binary_backward(s, &prelu_kernel);
}

/* Squares are what normalisation layers spell with Pow; powf would take most of their time. */
static const binary_kernel square_kernel = {
    .value = square, .real = pow, .slope = {square_first, power_second}};

static const binary_kernel *pow_kernel_of(const step *s) {
  const tensor *exponent = s->in[1];
  return tensor_count(exponent) == 1 && tensor_real(exponent, 0) == 2 ? &square_kernel : &pow_kernel;
}

static status pow_forward(step *s) {
  return binary_forward(s, pow_kernel_of(s));
}

/* Exponents may be integers: their floats go to scratch. */
static status pow_prepare(step *s) {
  if (s->in[1]->type != DTYPE_FLOAT) s->scratch_bytes = (size_t)tensor_count(s->in[1]) * sizeof(float);
  return STATUS_OK;
}

static status pow_backward(step *s) {
  if (s->in[1]->type == DTYPE_FLOAT) return binary_backward(s, pow_kernel_of(s));
  tensor exponent = {.type = DTYPE_FLOAT, .shape = s->in[1]->shape, .data = s->scratch};
  const int64_t n = tensor_count(&exponent);
  for (int64_t i = 0; i < n; i++) element_set_real(&exponent, i, tensor_real(s->in[1], i));
  tensor *in[] = {s->in[0], &exponent};
  step with_floats = *s;
  with_floats.in = in;
  return binary_backward(&with_floats, pow_kernel_of(s));
}

static status prelu_infer(step *s) {
  status st = infer_same_types(s);
  if (st != STATUS_OK || shape_equal(&s->out[0]->shape, &s->in[0]->shape)) return st;
  char x[96], slope[96];
  return step_error(s, "slope of shape %s does not broadcast to the input's %s",
                    shape_text(&s->in[1]->shape, slope, sizeof slope),
                    shape_text(&s->in[0]->shape, x, sizeof x));
}

static const char *const none[] = {NULL};
static const char *const fmod_attribute[] = {"fmod", NULL};

#define TWO_INPUTS(identifier, first_opset, infer_of, forward_of, ...)                                       \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first_opset,                                                          \
                              .min_inputs = 2,                                                               \
                              .max_inputs = 2,                                                               \
                              .max_outputs = 1,                                                              \
                              .infer = infer_of,                                                             \
                              .forward = forward_of,                                                         \
                              __VA_ARGS__}
#define BOTH .attributes = none, .differentiable = 1 | 1 << 1

TWO_INPUTS(Add, 7, infer_same_types, add_forward, BOTH, .flags = OP_IN_PLACE | OP_ANY_IN_PLACE,
           .backward = add_backward, .blocks = binary_blocks);
TWO_INPUTS(Sub, 7, infer_same_types, sub_forward, BOTH, .flags = OP_IN_PLACE | OP_ANY_IN_PLACE,
           .backward = sub_backward, .blocks = binary_blocks);
TWO_INPUTS(Mul, 7, infer_same_types, mul_forward, BOTH, .flags = OP_IN_PLACE | OP_ANY_IN_PLACE,
           .backward = mul_backward, .blocks = binary_blocks, .keeps = KEEP_IN0 | KEEP_IN1,
           .shorten = gelu_shorten);
TWO_INPUTS(Div, 7, infer_same_types, div_forward, BOTH, .flags = OP_IN_PLACE | OP_ANY_IN_PLACE,
           .backward = div_backward, .keeps = KEEP_IN0 | KEEP_IN1);
TWO_INPUTS(Pow, 7, pow_infer, pow_forward, BOTH, .flags = OP_IN_PLACE, .prepare = pow_prepare,
           .backward = pow_backward, .keeps = KEEP_IN0 | KEEP_IN1);
TWO_INPUTS(PRelu, 7, prelu_infer, prelu_forward, BOTH, .flags = OP_IN_PLACE, .backward = prelu_backward,
           .keeps = KEEP_IN0 | KEEP_IN1);

/* The remainder has the divisor's sign; with fmod the dividend's, as in C. */
static int64_t whole_modulo(int64_t a, int64_t b) {
  int64_t r = b == -1 ? 0 : a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static int64_t whole_remainder(int64_t a, int64_t b) {
  return b == -1 ? 0 : a % b;
}

static const binary_kernel modulo_kernel = {.real = fmod, .whole = whole_modulo};
static const binary_kernel remainder_kernel = {
    .real = fmod, .whole = whole_remainder, .slope = {NULL, remainder_second}};

static status mod_infer(step *s) {
  status st = infer_same_types(s);
  if (st != STATUS_OK || dtype_is_integer(s->in[0]->type) || node_int(s->node, "fmod", 0) == 1) return st;
  return step_error(s, "the remainder of %s needs the attribute fmod=1", dtype_name(s->in[0]->type));
}

static status mod_prepare(step *s) {
  s->state = (void *)(node_int(s->node, "fmod", 0) ? &remainder_kernel : &modulo_kernel);
  return STATUS_OK;
}

static status mod_forward(step *s) {
  status st = check_divisors(s);
  if (st != STATUS_OK) return st;
  return binary_forward(s, s->state);
}

static status mod_backward(step *s) {
  return binary_backward(s, s->state);
}

TWO_INPUTS(Mod, 10, mod_infer, mod_forward, .attributes = fmod_attribute, .differentiable = 1 | 1 << 1,
           .prepare = mod_prepare, .backward = mod_backward, .keeps = KEEP_IN0 | KEEP_IN1);

static int64_t whole_left(int64_t a, int64_t b) {
  return b > 7 ? 0 : a << b;
}
static int64_t whole_right(int64_t a, int64_t b) {
  return b > 7 ? 0 : a >> b;
}

static const binary_kernel left_kernel = {.whole = whole_left};
static const binary_kernel right_kernel = {.whole = whole_right};

static status shift_infer(step *s) {
  const char *direction = node_string(s->node, "direction", "");
  if (strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0)
    return step_error(s, "direction is '%s', expected LEFT or RIGHT", direction);
  status st = input_want(s, 0, DTYPE_UINT8);
  return st == STATUS_OK ? infer_same_types(s) : st;
}

static status shift_prepare(step *s) {
  s->state = (void *)(*node_string(s->node, "direction", "") == 'L' ? &left_kernel : &right_kernel);
  return STATUS_OK;
}

static status shift_forward(step *s) {
  return binary_forward(s, s->state);
}

static const char *const direction_attribute[] = {"direction", NULL};

TWO_INPUTS(BitShift, 11, shift_infer, shift_forward, .attributes = direction_attribute,
           .prepare = shift_prepare);
