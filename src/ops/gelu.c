/* GELU (Hendrycks, Gimpel 2016): x times the normal distribution's probability of less than x, or what comes
 * near it with tanh. In training the slope is found with the value, out of the same exponential. */
#include "base/mem.h"
#include "ops/curve.h"
#include "ops/support.h"

#include <string.h>

typedef struct gelu {
  bool near; /* with tanh */
} gelu;

static inline float inner(float x) {
  return 0.797884561f * (x + 0.044715f * x * x * x);
}

static inline float near_value(float x, float t) {
  return 0.5f * x * (1 + t);
}

static inline float near_slope(float x, float t) {
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * (0.797884561f * (1 + 3 * 0.044715f * x * x));
}

FOR_EACH_PROCESSOR static void Gelu_values(float *y, const float *x, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) {
    float density;
    y[i] = x[i] * curve_normal(x[i], &density);
  }
}

FOR_EACH_PROCESSOR static void Gelu_near_values(float *y, const float *x, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] = near_value(x[i], curve_tanh(inner(x[i])));
}

/* y may be x. */
FOR_EACH_PROCESSOR static void Gelu_both(float *y, float *restrict slope, const float *in, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) {
    const float x = in[i];
    float density;
    const float below = curve_normal(x, &density);
    y[i] = x * below;
    slope[i] = below + x * density;
  }
}

FOR_EACH_PROCESSOR static void Gelu_near_both(float *y, float *restrict slope, const float *in, int64_t n) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) {
    const float x = in[i], t = curve_tanh(inner(x));
    y[i] = near_value(x, t);
    slope[i] = near_slope(x, t);
  }
}

FOR_EACH_PROCESSOR static void Gelu_slopes(float *d, const float *g, const float *slope, int64_t n,
                                           bool add) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) d[i] += g[i] * slope[i];
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) d[i] = g[i] * slope[i];
  }
}

static status gelu_prepare(step *s) {
  const char *form = node_string(s->node, "approximate", "none");
  if (strcmp(form, "none") != 0 && strcmp(form, "tanh") != 0)
    return step_error(s, "approximate is '%s', expected none or tanh", form);
  gelu *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st != STATUS_OK) return st;
  state->near = *form == 't';
  s->state = state;
  if (s->din[0]) s->saved_bytes = (size_t)tensor_count(s->in[0]) * sizeof(float);
  return STATUS_OK;
}

static status gelu_forward(step *s) {
  const bool near = ((const gelu *)s->state)->near;
  const int64_t n = tensor_count(s->in[0]);
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  if (s->saved)
    (near ? Gelu_near_both : Gelu_both)(y, s->saved, x, n);
  else
    (near ? Gelu_near_values : Gelu_values)(y, x, n);
  return STATUS_OK;
}

static status gelu_backward(step *s) {
  if (s->din[0])
    Gelu_slopes(s->din[0]->data, s->dout[0]->data, s->saved, tensor_count(s->din[0]), s->accumulate[0]);
  return STATUS_OK;
}

static void gelu_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

#define GELU(identifier, of, first, ...)                                                                     \
  const op op_##identifier = {.name = "Gelu",                                                                \
                              .domain = of,                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .flags = OP_IN_PLACE,                                                          \
                              .differentiable = 1,                                                           \
                              .infer = infer_like_float_input,                                               \
                              .prepare = gelu_prepare,                                                       \
                              .forward = gelu_forward,                                                       \
                              .backward = gelu_backward,                                                     \
                              .release = gelu_release}

GELU(Gelu, "", 20, "approximate", NULL);
GELU(Gelu_microsoft, "com.microsoft", 1, NULL);
