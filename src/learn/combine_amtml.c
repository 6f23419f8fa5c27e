/* Weights for each row, learned with the student from a tensor of its own. */
#include "base/rng.h"
#include "learn/combines.h"
#include "learn/softmax.h"

#include <math.h>

enum { MAX_TEACHERS = 64, BLOCK = 64 /* classes at a time */ };

/* theta[K, D], then v[D]. */
static int64_t n_parameters(int n_teachers, int64_t width) {
  return (n_teachers + 1) * width;
}

/* Far enough apart that the teachers have different weights, by which alone they are told from each other. */
static void initial(int n_teachers, int64_t width, uint64_t seed, float *to) {
  const int64_t n = n_parameters(n_teachers, width);
  const float bound = 1 / sqrtf((float)width);
  for (int64_t i = 0; i < n; i++)
    to[i] = (i < n_teachers * width ? 1 : bound) *
            (2 * rng_uniform(seed, RNG_COMBINE, COMBINE_DRAW_INITIAL, (uint64_t)i) - 1);
}

static void weigh(const combine_batch *b, const float *features, double *w) {
  const combine_learning *l = b->learning;
  const float *v = l->parameters + b->n_teachers * l->width;
  double most = -INFINITY, sum = 0;
  for (int k = 0; k < b->n_teachers; k++) {
    w[k] = 0;
    for (int64_t d = 0; d < l->width; d++)
      w[k] += (double)v[d] * l->parameters[k * l->width + d] * features[d];
    most = fmax(most, w[k]);
  }
  for (int k = 0; k < b->n_teachers; k++) sum += w[k] = exp(w[k] - most);
  for (int k = 0; k < b->n_teachers; k++) w[k] /= sum;
}

/* slopes[K] of KL(p || q) by w_k, but for what is the same for all: sum_c p_kc log(p_c / q_c). */
static void by_weights(const combine_batch *b, int64_t row, const float *mixed, double *slopes) {
  const double inverse_t = 1 / b->temperature;
  const float *q = b->student + row * b->classes;
  double log_sums[MAX_TEACHERS], p[BLOCK], sum;
  const double log_p = softmax_terms(mixed, b->classes, inverse_t, NULL, &sum),
               log_q = softmax_terms(q, b->classes, inverse_t, NULL, &sum);
  for (int k = 0; k < b->n_teachers; k++) {
    log_sums[k] = softmax_terms(b->logits[k] + row * b->classes, b->classes, inverse_t, NULL, &sum);
    slopes[k] = 0;
  }
  for (int64_t from = 0; from < b->classes; from += BLOCK) {
    const int n = b->classes - from < BLOCK ? (int)(b->classes - from) : BLOCK;
    for (int k = 0; k < b->n_teachers; k++) {
      const float *z = b->logits[k] + row * b->classes + from;
      for (int c = 0; c < n; c++) p[c] = z[c] * inverse_t - log_sums[k];
      softmax_exp(p, n);
      for (int c = 0; c < n; c++)
        slopes[k] += p[c] * ((mixed[from + c] * inverse_t - log_p) - (q[from + c] * inverse_t - log_q));
    }
  }
}

static void learn(const combine_batch *b, const float *features, const double *w, const double *slopes) {
  const combine_learning *l = b->learning;
  const int64_t n = l->width;
  const float *theta = l->parameters, *v = theta + b->n_teachers * n;
  float *d_theta = l->gradient, *d_v = d_theta + b->n_teachers * n;
  double mean = 0;
  for (int k = 0; k < b->n_teachers; k++) mean += w[k] * slopes[k];
  for (int k = 0; k < b->n_teachers; k++) {
    const float slope = (float)(l->scale * w[k] * (slopes[k] - mean));
    for (int64_t d = 0; d < n; d++) {
      d_theta[k * n + d] += slope * v[d] * features[d];
      d_v[d] += slope * theta[k * n + d] * features[d];
    }
  }
}

static status amtml_rows(const combine_batch *b, float *out) {
  double w[MAX_TEACHERS], slopes[MAX_TEACHERS];
  for (int64_t i = 0; i < b->rows; i++) {
    const float *features = b->learning->features + i * b->learning->width;
    float *mixed = out + i * b->classes;
    weigh(b, features, w);
    combine_mix_row(b, i, w, mixed);
    if (isnan(mixed[0]) || !b->learning->gradient) continue;
    by_weights(b, i, mixed, slopes);
    learn(b, features, w, slopes);
  }
  return STATUS_OK;
}

static const char *const keys[] = {"tensor", NULL};

const combine_kind combine_amtml = {
    .name = "amtml",
    .formula =
        "T log(sum_k w_k p_k), row by row w = softmax over k of v . (theta_k * f), f the student's "
        "`tensor`, its largest value in each channel; v and theta are learned with the student from the "
        "kd loss, which does not reach the student through f (Liu, Zhang, Wang 2020)",
    .in_training = true,
    .max_teachers = MAX_TEACHERS,
    .options = keys,
    .n_parameters = n_parameters,
    .initial = initial,
    .rows = amtml_rows,
};
