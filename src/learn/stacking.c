#include "learn/stacking.h"

#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>

enum { BLOCK = 64 }; /* classes at a time */

static int block_size(int64_t from, int64_t classes) {
  return classes - from < BLOCK ? (int)(classes - from) : BLOCK;
}

/* p[n] of the classes from `from` on. */
static void probabilities(const float *z, int64_t from, int n, double scale, double log_sum, double *p) {
  for (int j = 0; j < n; j++) p[j] = fmin(z[from + j] * scale - log_sum, 0);
  softmax_exp(p, n);
}

static double expectation(const float *z, int64_t n, double scale) {
  double sum, log_sum = softmax_terms(z, n, scale, NULL, &sum), mean = 0, p[BLOCK];
  for (int64_t from = 0; from < n; from += BLOCK) {
    const int m = block_size(from, n);
    probabilities(z, from, m, scale, log_sum, p);
    for (int j = 0; j < m; j++) mean += p[j] * z[from + j];
  }
  return mean;
}

void stack_slopes(const stack_rows *r, int64_t from, int64_t to, const double *inverse_t, double *sums) {
  for (int64_t i = from; i < to; i++)
    for (int k = 0; k < r->n_teachers; k++) {
      const float *z = r->values[k] + i * r->classes;
      sums[k] += expectation(z, r->classes, inverse_t[k]) - z[r->labels[i]];
    }
}

void stack_soften(const stack_rows *r, const double *inverse_t) {
  for (int k = 0; k < r->n_teachers; k++)
    for (int64_t i = 0; i < r->rows; i++) {
      float *z = r->values[k] + i * r->classes;
      double sum, log_sum = softmax_terms(z, r->classes, inverse_t[k], NULL, &sum), p[BLOCK];
      for (int64_t at = 0; at < r->classes; at += BLOCK) {
        const int m = block_size(at, r->classes);
        probabilities(z, at, m, inverse_t[k], log_sum, p);
        for (int j = 0; j < m; j++) z[at + j] = (float)p[j];
      }
    }
}

double stack_shares(const stack_rows *r, int64_t from, int64_t to, const double *weights, double *sums) {
  double nll = 0;
  for (int64_t i = from; i < to; i++) {
    const int64_t at = i * r->classes + r->labels[i];
    double mixed = 1e-300; /* no teacher thinks of the label at all: no share for anybody */
    for (int k = 0; k < r->n_teachers; k++) mixed += weights[k] * r->values[k][at];
    for (int k = 0; k < r->n_teachers; k++) sums[k] += weights[k] * r->values[k][at] / mixed;
    nll -= log(mixed);
  }
  return nll;
}

double stack_pulls(const stack_rows *r, int64_t from, int64_t to, const double *weights, double *sums,
                   double *counts) {
  const int64_t n = r->classes;
  double nll = 0;
  for (int64_t i = from; i < to; i++) {
    const int32_t y = r->labels[i];
    double own = 1e-300, all = 1e-300;
    for (int k = 0; k < r->n_teachers; k++) {
      const float *p = r->values[k] + i * n;
      own += weights[k * n + y] * p[y];
      for (int64_t j = 0; j < n; j++) all += weights[k * n + j] * p[j];
    }
    for (int k = 0; k < r->n_teachers; k++) {
      const float *p = r->values[k] + i * n;
      for (int64_t j = 0; j < n; j++) sums[k * n + j] -= p[j] / all;
      sums[k * n + y] += p[y] / own;
    }
    counts[y]++;
    nll -= log(own / all);
  }
  return nll;
}

void stack_step(int n_teachers, int64_t classes, const double *sums, const double *counts, double *weights) {
  for (int64_t j = 0; j < classes; j++) {
    double most = -INFINITY, sum = 0;
    if (counts[j] <= 0) continue;
    const double rate = 0.5 / counts[j];
    for (int k = 0; k < n_teachers; k++)
      if (weights[k * classes + j] > 0) most = fmax(most, rate * sums[k * classes + j]);
    for (int k = 0; k < n_teachers; k++) {
      double *w = &weights[k * classes + j];
      sum += *w *= exp(rate * sums[k * classes + j] - most);
    }
    for (int k = 0; k < n_teachers; k++) weights[k * classes + j] /= sum;
  }
}
