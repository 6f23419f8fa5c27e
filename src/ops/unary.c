/* One input, one output, element by element: a row of the table below is an operator. */
#include "base/mem.h"
#include "ops/curve.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

typedef void unary_values(float *y, const float *x, int64_t n, float a, float b);
/* d = g * slope, or d += g * slope; `kept` is x or y, as op.keeps says. */
typedef void unary_slopes(float *d, const float *g, const float *kept, int64_t n, float a, float b, bool add);

/* The values of the operator's attributes, looked up once. */
typedef struct unary_state {
  float a, b;
} unary_state;

static status unary_prepare(step *s, float a, float b) {
  unary_state *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st != STATUS_OK) return st;
  const char *const *names = s->op->attributes;
  state->a = names[0] ? node_float(s->node, names[0], a) : a;
  state->b = names[0] && names[1] ? node_float(s->node, names[1], b) : b;
  s->state = state;
  return STATUS_OK;
}

static void unary_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status unary_forward(step *s, unary_values *values) {
  const unary_state *state = s->state;
  values(s->out[0]->data, s->in[0]->data, tensor_count(s->in[0]), state->a, state->b);
  return STATUS_OK;
}

static status unary_backward(step *s, unary_slopes *slopes) {
  if (!s->din[0]) return STATUS_OK;
  const unary_state *state = s->state;
  const tensor *kept = s->op->keeps & KEEP_OUT0 ? s->out[0] : s->in[0];
  slopes(s->din[0]->data, s->dout[0]->data, kept->data, tensor_count(s->din[0]), state->a, state->b,
         s->accumulate[0]);
  return STATUS_OK;
}

/* Integers of any width, where the operator has a meaning for them. */
static status unary_forward_int(step *s, int64_t (*value)(int64_t)) {
  int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) element_set_int(s->out[0], i, value(tensor_int(s->in[0], i)));
  return STATUS_OK;
}

static status infer_number(step *s) {
  status st = input_want_number(s, 0);
  if (st == STATUS_OK && s->in[0]->type == DTYPE_DOUBLE) st = input_want(s, 0, DTYPE_FLOAT);
  return st == STATUS_OK ? infer_like_input(s) : st;
}

static int64_t int_absolute(int64_t x) {
  return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
}
static int64_t int_negative(int64_t x) {
  return (int64_t)(0 - (uint64_t)x);
}
static int64_t int_ramp(int64_t x) {
  return x < 0 ? 0 : x;
}
static int64_t int_sign(int64_t x) {
  return (x > 0) - (x < 0);
}

static inline float limit(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;
}

#define VALUES(identifier, value)                                                                            \
  FOR_EACH_PROCESSOR static void identifier##_values(float *y, const float *in, int64_t n, float a,          \
                                                     float b) {                                              \
    (void)a, (void)b;                                                                                        \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float x = in[i];                                                                                 \
      y[i] = (value);                                                                                        \
    }                                                                                                        \
  }

#define SLOPES(identifier, kept, slope)                                                                      \
  FOR_EACH_PROCESSOR static void identifier##_slopes(float *d, const float *g, const float *v, int64_t n,    \
                                                     float a, float b, bool add) {                           \
    (void)a, (void)b, (void)v;                                                                               \
    if (add) {                                                                                               \
      EACH_ALONE                                                                                             \
      for (int64_t i = 0; i < n; i++) {                                                                      \
        const float kept = v[i];                                                                             \
        (void)kept;                                                                                          \
        d[i] += g[i] * (slope);                                                                              \
      }                                                                                                      \
    } else {                                                                                                 \
      EACH_ALONE                                                                                             \
      for (int64_t i = 0; i < n; i++) {                                                                      \
        const float kept = v[i];                                                                             \
        (void)kept;                                                                                          \
        d[i] = g[i] * (slope);                                                                               \
      }                                                                                                      \
    }                                                                                                        \
  }                                                                                                          \
  static status identifier##_backward(step *s) {                                                             \
    return unary_backward(s, identifier##_slopes);                                                           \
  }

#define KEPT_x KEEP_IN0
#define KEPT_y KEEP_OUT0
#define KEPT_nothing 0

#define OPERATOR(identifier, first, names, a, b, ...)                                                        \
  static status identifier##_prepare(step *s) {                                                              \
    return unary_prepare(s, a, b);                                                                           \
  }                                                                                                          \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = names,                                                           \
                              .flags = OP_IN_PLACE,                                                          \
                              .prepare = identifier##_prepare,                                               \
                              .forward = identifier##_forward,                                               \
                              .release = unary_release,                                                      \
                              .blocks = blocks_by_element,                                                   \
                              __VA_ARGS__};

#define FORWARD_FLOAT(identifier)                                                                            \
  static status identifier##_forward(step *s) {                                                              \
    return unary_forward(s, identifier##_values);                                                            \
  }
#define FORWARD_NUMBER(identifier, whole)                                                                    \
  static status identifier##_forward(step *s) {                                                              \
    if (s->in[0]->type != DTYPE_FLOAT) return unary_forward_int(s, whole);                                   \
    return unary_forward(s, identifier##_values);                                                            \
  }

/* A curve with its slope, written in `kept`: x, y, or nothing. a and b are the attributes, with their
 * defaults. */
#define CURVE(identifier, first, names, a, b, value, kept, slope)                                            \
  VALUES(identifier, value)                                                                                  \
  SLOPES(identifier, kept, slope)                                                                            \
  FORWARD_FLOAT(identifier)                                                                                  \
  OPERATOR(identifier, first, names, a, b, .keeps = KEPT_##kept, .differentiable = 1,                        \
           .infer = infer_like_float_input, .backward = identifier##_backward)

/* The same, for integers too. */
#define NUMBER_CURVE(identifier, first, whole, value, kept, slope)                                           \
  VALUES(identifier, value)                                                                                  \
  SLOPES(identifier, kept, slope)                                                                            \
  FORWARD_NUMBER(identifier, whole)                                                                          \
  OPERATOR(identifier, first, none, 0, 0, .keeps = KEPT_##kept, .differentiable = 1, .infer = infer_number,  \
           .backward = identifier##_backward)

/* Flat nearly everywhere: no gradient flows. */
#define STAIRS(identifier, first, value)                                                                     \
  VALUES(identifier, value)                                                                                  \
  FORWARD_FLOAT(identifier)                                                                                  \
  OPERATOR(identifier, first, none, 0, 0, .infer = infer_like_float_input)

static const char *const none[] = {NULL};
static const char *const alpha[] = {"alpha", NULL};
static const char *const alpha_beta[] = {"alpha", "beta", NULL};
static const char *const alpha_gamma[] = {"alpha", "gamma", NULL};
static const char *const lambd_bias[] = {"lambd", "bias", NULL};

static inline float softplus(float x) {
  return (x < 0 ? 0 : x) + log1pf(curve_exp(-fabsf(x)));
}
/* Mish (Misra 2019): x tanh(softplus(x)). */
static inline float mish_slope(float x) {
  const float t = curve_tanh(softplus(x));
  return t + x * (1 - t * t) * curve_sigmoid(x);
}

/* Comparisons are written so that NaN comes out as NaN: a diverged run must be seen. */
CURVE(Acos, 7, none, 0, 0, acosf(x), x, -1 / sqrtf(1 - x * x))
CURVE(Acosh, 9, none, 0, 0, acoshf(x), x, 1 / sqrtf((x - 1) * (x + 1)))
CURVE(Asin, 7, none, 0, 0, asinf(x), x, 1 / sqrtf(1 - x * x))
CURVE(Asinh, 9, none, 0, 0, asinhf(x), x, 1 / sqrtf(x * x + 1))
CURVE(Atan, 7, none, 0, 0, atanf(x), x, 1 / (x * x + 1))
CURVE(Atanh, 9, none, 0, 0, atanhf(x), x, 1 / (1 - x * x))
CURVE(Celu, 12, alpha, 1, 0, x < 0 ? a * (curve_exp(x / a) - 1) : x, x, x < 0 ? curve_exp(x / a) : 1)
CURVE(Cos, 7, none, 0, 0, cosf(x), x, -sinf(x))
CURVE(Cosh, 9, none, 0, 0, coshf(x), x, sinhf(x))
CURVE(Elu, 6, alpha, 1, 0, x < 0 ? a * (curve_exp(x) - 1) : x, x, x < 0 ? a * curve_exp(x) : 1)
CURVE(Erf, 9, none, 0, 0, curve_erf(x), x, 1.12837917f * curve_exp(-x * x))
CURVE(Exp, 6, none, 0, 0, curve_exp(x), y, y)
CURVE(HardSigmoid, 6, alpha_beta, 0.2f, 0.5f, limit(a *x + b, 0, 1), y, y > 0 && y < 1 ? a : 0)
CURVE(HardSwish, 14, none, 0, 0, x *limit(x / 6 + 0.5f, 0, 1), x, x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5f)
CURVE(LeakyRelu, 6, alpha, 0.01f, 0, x < 0 ? a * x : x, x, x < 0 ? a : 1)
CURVE(Log, 6, none, 0, 0, logf(x), x, 1 / x)
CURVE(Mish, 18, none, 0, 0, x *curve_tanh(softplus(x)), x, mish_slope(x))
CURVE(Reciprocal, 6, none, 0, 0, 1 / x, y, -y *y)
CURVE(Selu, 6, alpha_gamma, 1.67326319f, 1.05070102f, b *(x < 0 ? a * (curve_exp(x) - 1) : x), x,
      b *(x < 0 ? a * curve_exp(x) : 1))
CURVE(Shrink, 9, lambd_bias, 0.5f, 0, x < -a ? x + b : x <= a ? 0 : x - b, x, x >= -a && x <= a ? 0 : 1)
CURVE(Sigmoid, 6, none, 0, 0, curve_sigmoid(x), y, y *(1 - y))
CURVE(Sin, 7, none, 0, 0, sinf(x), x, cosf(x))
CURVE(Sinh, 9, none, 0, 0, sinhf(x), x, coshf(x))
CURVE(Softplus, 1, none, 0, 0, softplus(x), x, curve_sigmoid(x))
CURVE(Softsign, 1, none, 0, 0, x / (1 + fabsf(x)), y, (1 - fabsf(y)) * (1 - fabsf(y)))
CURVE(Sqrt, 6, none, 0, 0, sqrtf(x), y, 0.5f / y)
CURVE(Tan, 7, none, 0, 0, tanf(x), y, y *y + 1)
CURVE(Tanh, 6, none, 0, 0, curve_tanh(x), y, 1 - y * y)
CURVE(ThresholdedRelu, 10, alpha, 1, 0, x <= a ? 0 : x, x, x <= a ? 0 : 1)

NUMBER_CURVE(Abs, 6, int_absolute, fabsf(x), x, (float)((x > 0) - (x < 0)))
NUMBER_CURVE(Neg, 6, int_negative, -x, nothing, -1)
NUMBER_CURVE(Relu, 6, int_ramp, x<0 ? 0 : x, y, y> 0 ? 1 : 0)

STAIRS(Ceil, 6, ceilf(x))
STAIRS(Floor, 6, floorf(x))
STAIRS(Round, 11, rintf(x)) /* halves to the even neighbour */

VALUES(Sign, (float)((x > 0) - (x < 0)))
FORWARD_NUMBER(Sign, int_sign)
OPERATOR(Sign, 9, none, 0, 0, .infer = infer_number)

static status not_infer(step *s) {
  status st = input_want(s, 0, DTYPE_BOOL);
  return st == STATUS_OK ? infer_like_input(s) : st;
}

static status not_forward(step *s) {
  const uint8_t *x = s->in[0]->data;
  uint8_t *y = s->out[0]->data;
  int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) y[i] = !x[i];
  return STATUS_OK;
}

const op op_Not = {.name = "Not",
                   .domain = "",
                   .since = 1,
                   .min_inputs = 1,
                   .max_inputs = 1,
                   .max_outputs = 1,
                   .attributes = none,
                   .flags = OP_IN_PLACE,
                   .infer = not_infer,
                   .forward = not_forward};
