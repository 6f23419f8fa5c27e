/* The activations that LSTM, GRU and RNN may name. */
#include "ops/curve.h"
#include "ops/recurrent.h"

#include <strings.h>

#define ACTIVATION(identifier, value, slope)                                                                 \
  FOR_EACH_PROCESSOR static void identifier##_value(float *v, int64_t n, float a, float b) {                 \
    (void)a, (void)b;                                                                                        \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float x = v[i];                                                                                  \
      v[i] = (value);                                                                                        \
    }                                                                                                        \
  }                                                                                                          \
  FOR_EACH_PROCESSOR static void identifier##_slope(float *d, const float *v, int64_t n, float a, float b) { \
    (void)a, (void)b;                                                                                        \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float y = v[i];                                                                                  \
      (void)y;                                                                                               \
      d[i] *= (slope);                                                                                       \
    }                                                                                                        \
  }

static inline float limit(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;
}

ACTIVATION(affine, a *x + b, a)
ACTIVATION(elu, x < 0 ? a * (curve_exp(x) - 1) : x, y < 0 ? y + a : 1)
ACTIVATION(hard_sigmoid, limit(a *x + b, 0, 1), y > 0 && y < 1 ? a : 0)
ACTIVATION(leaky_relu, x < 0 ? a * x : x, y < 0 ? a : 1)
ACTIVATION(relu, x<0 ? 0 : x, y> 0 ? 1 : 0)
ACTIVATION(scaled_tanh, a *curve_tanh(b *x), b *(a - y * y / a))
ACTIVATION(sigmoid, curve_sigmoid(x), y *(1 - y))
ACTIVATION(softplus, (x < 0 ? 0 : x) + log1pf(curve_exp(-fabsf(x))), 1 - curve_exp(-y))
ACTIVATION(softsign, x / (1 + fabsf(x)), (1 - fabsf(y)) * (1 - fabsf(y)))
ACTIVATION(tanh, curve_tanh(x), 1 - y * y)
ACTIVATION(thresholded_relu, x <= a ? 0 : x, y == 0 ? 0 : 1)

static const activation activations[] = {
    {"Affine", 1, 0, affine_value, affine_slope},
    {"Elu", 1, 0, elu_value, elu_slope},
    {"HardSigmoid", 0.2f, 0.5f, hard_sigmoid_value, hard_sigmoid_slope},
    {"LeakyRelu", 0.01f, 0, leaky_relu_value, leaky_relu_slope},
    {"Relu", 0, 0, relu_value, relu_slope},
    {"ScaledTanh", 1, 1, scaled_tanh_value, scaled_tanh_slope},
    {"Sigmoid", 0, 0, sigmoid_value, sigmoid_slope},
    {"Softplus", 0, 0, softplus_value, softplus_slope},
    {"Softsign", 0, 0, softsign_value, softsign_slope},
    {"Tanh", 0, 0, tanh_value, tanh_slope},
    {"ThresholdedRelu", 1, 0, thresholded_relu_value, thresholded_relu_slope},
};

const activation *recurrent_activation_find(const char *name) {
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
    if (strcasecmp(name, activations[i].name) == 0) return &activations[i];
  return NULL;
}

void gate_value(const gate_function *f, float *y, int64_t n) {
  for (int64_t i = 0; f->clip > 0 && i < n; i++) y[i] = limit(y[i], -f->clip, f->clip);
  f->kind->value(y, n, f->alpha, f->beta);
}

void gate_slope(const gate_function *f, float *d, const float *y, int64_t n) {
  f->kind->slope(d, y, n, f->alpha, f->beta);
  for (int64_t i = 0; f->clip > 0 && i < n; i++)
    if (y[i] == f->low || y[i] == f->high) d[i] = 0;
}
