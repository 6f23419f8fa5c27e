/* Means of the teachers: of probabilities, of logits, with weights given, learned or by row. */
#include "learn/combines.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>

enum { BLOCK = 64 }; /* classes at a time */

static int block_size(int64_t from, int64_t classes) {
  return classes - from < BLOCK ? (int)(classes - from) : BLOCK;
}

/* Logarithms of weight times probability of one teacher's classes [from, from + n) of a row. A teacher of
 * weight 0 has no share of anything (log 0). */
static void log_parts(const combine_batch *b, int k, int64_t row, int64_t from, int n, double share,
                      double *out) {
  const double inverse_t = 1 / b->temperature;
  const float *z = b->logits[k] + row * b->classes + from;
  for (int j = 0; j < n; j++) out[j] = z[j] * inverse_t + share;
  if (!b->log_class_weights) return;
  const double *by_class = b->log_class_weights + k * b->classes + from;
  for (int j = 0; j < n; j++) out[j] += by_class[j];
}

/* The largest term is taken out first: a class that every teacher gives less than the smallest double still
 * gets its logit. */
static void mix_block(const combine_batch *b, int64_t row, int64_t from, const double *shares, float *out) {
  const int n = block_size(from, b->classes);
  double largest[BLOCK], sum[BLOCK] = {0}, part[BLOCK];
  for (int j = 0; j < n; j++) largest[j] = -INFINITY;
  for (int k = 0; k < b->n_teachers; k++) {
    log_parts(b, k, row, from, n, shares[k], part);
    for (int j = 0; j < n; j++) largest[j] = largest[j] > part[j] ? largest[j] : part[j];
  }
  for (int k = 0; k < b->n_teachers; k++) {
    log_parts(b, k, row, from, n, shares[k], part);
    for (int j = 0; j < n; j++) part[j] -= largest[j];
    softmax_exp(part, n);
    for (int j = 0; j < n; j++) sum[j] += part[j];
  }
  for (int j = 0; j < n; j++) out[from + j] = (float)(b->temperature * (largest[j] + log(sum[j])));
}

void combine_mix_row(const combine_batch *b, int64_t row, const double *weights, float *out) {
  double shares[COMBINE_MAX_TEACHERS], sum;
  for (int k = 0; k < b->n_teachers; k++)
    shares[k] = (b->log_class_weights ? 0 : log(weights[k])) -
                softmax_terms(b->logits[k] + row * b->classes, b->classes, 1 / b->temperature, NULL, &sum);
  for (int64_t from = 0; from < b->classes; from += BLOCK) mix_block(b, row, from, shares, out);
}

static status probability_mean_rows(const combine_batch *b, float *out) {
  for (int64_t i = 0; i < b->rows; i++) combine_mix_row(b, i, b->weights, out + i * b->classes);
  return STATUS_OK;
}

static status logit_mean_rows(const combine_batch *b, float *out) {
  const int64_t n = b->rows * b->classes;
  for (int64_t at = 0; at < n; at += BLOCK) {
    const int m = block_size(at, n);
    double sum[BLOCK] = {0};
    for (int k = 0; k < b->n_teachers; k++)
      for (int j = 0; j < m; j++) sum[j] += b->weights[k] * b->logits[k][at + j];
    for (int j = 0; j < m; j++) out[at + j] = (float)sum[j];
  }
  return STATUS_OK;
}

static const char *const weighted[] = {"weights", "calibrate", NULL};
static const char *const found[] = {"per_class", "calibrate", NULL};

const combine_kind combine_probability_mean = {
    .name = "probability-mean",
    .formula = "T log(sum_k w_k p_k): at T the softmax is exactly the mean of the teachers' probabilities "
               "(Hinton, Vinyals, Dean 2015)",
    .of_one = true,
    .options = weighted,
    .rows = probability_mean_rows,
};

const combine_kind combine_logit_mean = {
    .name = "logit-mean",
    .formula = "sum_k w_k z_k: the geometric mean of the teachers' probabilities, for every T",
    .linear = true,
    .options = weighted,
    .rows = logit_mean_rows,
};

const combine_kind combine_learned = {
    .name = "learned",
    .formula =
        "T log(sum_k w_k p_k), w >= 0 of sum 1 that minimise the mean of -log(sum_k w_k p_k)_y at T = 1, "
        "after "
        "each teacher's calibration: 500 steps of expectation-maximisation; per_class: w_k of each class, "
        "500 further steps of exponentiated gradient (stacking: Wolpert 1992; Breiman 1996)",
    .needs = "labelled rows that the teachers were not trained on: --fit, else --held-out of the rows",
    .of_one = true,
    .learned = true,
    .options = found,
    .rows = probability_mean_rows,
};
