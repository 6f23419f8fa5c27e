/* RNN: h' = f(x W' + h R' + b). The gate holds f's result, then the gradient of what f was given. */
#include "ops/recurrent.h"

#include <string.h>

static const char *const defaults[] = {"Tanh"};

static void rnn_forward(const moment *m) {
  const recurrent *r = m->r;
  recurrent_product_right(r, r->n, r->h, r->h, m->before, r->h, m->weight, r->h, true, m->gates, r->h);
  for (int64_t n = 0; n < r->n; n++) {
    float *g = m->gates + n * r->h;
    const bool goes_on = moment_has(m, n);
    if (goes_on) gate_value(&m->f[0], g, r->h);
    memcpy(m->after + n * r->h, goes_on ? g : m->before + n * r->h, (size_t)r->h * sizeof *g);
  }
}

static void rnn_backward(const moment *m) {
  const recurrent *r = m->r;
  const size_t bytes = (size_t)r->h * sizeof(float);
  for (int64_t n = 0; n < r->n; n++) {
    float *g = m->gates + n * r->h, *dh = m->dh + n * r->h;
    if (!moment_has(m, n)) {
      memset(g, 0, bytes);
      continue;
    }
    gate_slope(&m->f[0], dh, g, r->h);
    memcpy(g, dh, bytes);
    memset(dh, 0, bytes);
  }
  recurrent_product(r, false, r->n, r->h, r->h, m->gates, r->h, m->weight, r->h, true, m->dh, r->h);
}

static const cell_kind rnn = {
    .gates = 1, .functions = 1, .defaults = defaults, .forward = rnn_forward, .backward = rnn_backward};

static status rnn_infer(step *s) {
  return recurrent_infer(s, &rnn);
}
static status rnn_prepare(step *s) {
  return recurrent_prepare(s, &rnn);
}

const op op_RNN = {.name = "RNN",
                   .domain = "",
                   .since = 7,
                   .min_inputs = 3,
                   .max_inputs = 6,
                   .max_outputs = 2,
                   .attributes = (const char *const[]){"activation_alpha", "activation_beta", "activations",
                                                       "clip", "direction", "hidden_size", "layout", NULL},
                   .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2,
                   .differentiable = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5,
                   .infer = rnn_infer,
                   .prepare = rnn_prepare,
                   .forward = recurrent_forward,
                   .backward = recurrent_backward,
                   .release = recurrent_release};
