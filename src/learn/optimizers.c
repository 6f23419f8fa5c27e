#include "learn/optimizer.h"

#include "base/processor.h"

#include <math.h>
#include <string.h>

/* Constants are formed in double and rounded once; elements are float throughout, as the parameters are. */

FOR_EACH_PROCESSOR static void sgd_plain(const mpistill_optimizer *o, double learning_rate, float scale,
                                         size_t n, float *restrict p, const float *restrict gradient) {
  const float rate = (float)learning_rate, decay = (float)o->weight_decay;
  for (size_t i = 0; i < n; i++) p[i] -= rate * (gradient[i] * scale + decay * p[i]);
}

FOR_EACH_PROCESSOR static void sgd_momentum(const mpistill_optimizer *o, double learning_rate, float scale,
                                            size_t n, float *restrict p, const float *restrict gradient,
                                            float *restrict velocity) {
  const float rate = (float)learning_rate, decay = (float)o->weight_decay, momentum = (float)o->momentum;
  for (size_t i = 0; i < n; i++) {
    velocity[i] = momentum * velocity[i] + (gradient[i] * scale + decay * p[i]);
    p[i] -= rate * velocity[i];
  }
}

FOR_EACH_PROCESSOR static void sgd_nesterov(const mpistill_optimizer *o, double learning_rate, float scale,
                                            size_t n, float *restrict p, const float *restrict gradient,
                                            float *restrict velocity) {
  const float rate = (float)learning_rate, decay = (float)o->weight_decay, momentum = (float)o->momentum;
  for (size_t i = 0; i < n; i++) {
    const float g = gradient[i] * scale + decay * p[i];
    velocity[i] = momentum * velocity[i] + g;
    p[i] -= rate * (g + momentum * velocity[i]);
  }
}

/* The velocity starts at zero, so that the first step's is the gradient itself. */
static void sgd_update(const mpistill_optimizer *o, double learning_rate, int64_t step, float scale, size_t n,
                       float *p, const float *gradient, float *const *state) {
  (void)step;
  if (o->momentum == 0)
    sgd_plain(o, learning_rate, scale, n, p, gradient);
  else if (o->nesterov)
    sgd_nesterov(o, learning_rate, scale, n, p, gradient, state[0]);
  else
    sgd_momentum(o, learning_rate, scale, n, p, gradient, state[0]);
}

typedef struct adamw_step {
  float scale;                               /* of the gradient */
  float keep;                                /* 1 - rate * decay */
  float rate;                                /* with the bias of the mean corrected */
  float root;                                /* corrects the bias of the root of the squares */
  float beta1, rest1, beta2, rest2, epsilon; /* rest = 1 - beta */
} adamw_step;

FOR_EACH_PROCESSOR static void adamw_pass(adamw_step c, size_t n, float *restrict p,
                                          const float *restrict gradient, float *restrict mean,
                                          float *restrict square) {
  for (size_t i = 0; i < n; i++) {
    const float g = gradient[i] * c.scale;
    mean[i] = c.beta1 * mean[i] + c.rest1 * g;
    square[i] = c.beta2 * square[i] + c.rest2 * (g * g);
    p[i] = c.keep * p[i] - c.rate * (mean[i] / (sqrtf(square[i]) * c.root + c.epsilon));
  }
}

static void adamw_update(const mpistill_optimizer *o, double learning_rate, int64_t step, float scale,
                         size_t n, float *p, const float *gradient, float *const *state) {
  adamw_step c = {
      .scale = scale,
      .keep = (float)(1 - learning_rate * o->weight_decay),
      .rate = (float)(learning_rate / (1 - pow(o->beta1, (double)step))),
      .root = (float)(1 / sqrt(1 - pow(o->beta2, (double)step))),
      .beta1 = (float)o->beta1,
      .rest1 = (float)(1 - o->beta1),
      .beta2 = (float)o->beta2,
      .rest2 = (float)(1 - o->beta2),
      .epsilon = (float)o->epsilon,
  };
  adamw_pass(c, n, p, gradient, state[0], state[1]);
}

static const optimizer_kind sgd = {
    .name = "sgd",
    .formula = "v = m*v + g + d*p, p = p - r*v (nesterov: p - r*(g + d*p + m*v)); r the learning rate, m the "
               "momentum, d the weight "
               "decay, v from 0, no dampening (Sutskever et al. 2013, as in PyTorch)",
    .n_states = 1,
    .update = sgd_update,
};

static const optimizer_kind adamw = {
    .name = "adamw",
    .formula = "p = p - r*d*p - r * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + e), m = b1*m + (1-b1)*g, v = b2*v + "
               "(1-b2)*g^2; r the learning "
               "rate, d the weight decay (Loshchilov, Hutter 2019)",
    .n_states = 2,
    .update = adamw_update,
};

static const optimizer_kind *const kinds[] = {&sgd, &adamw, NULL};

const optimizer_kind *const *optimizer_kinds(void) {
  return kinds;
}

const optimizer_kind *optimizer_find(const char *name) {
  for (const optimizer_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}
