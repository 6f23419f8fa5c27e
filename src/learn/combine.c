#include "learn/combine.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { BLOCK = 64 }; /* classes at a time */

static int block_size(int64_t from, int64_t classes) {
  return classes - from < BLOCK ? (int)(classes - from) : BLOCK;
}

/* log(weight) - log-sum-exp of each teacher's softened row: what turns its logits into log(weight *
 * probability). */
static void log_shares(const combine_batch *b, int64_t row, double *shares) {
  for (int k = 0; k < b->n_teachers; k++) {
    double sum;
    shares[k] = log(b->weights[k]) -
                softmax_terms(b->logits[k] + row * b->classes, b->classes, 1 / b->temperature, NULL, &sum);
  }
}

/* out[j] = T log sum_k exp(z_kj / T + share_k), the largest term taken out first: a class that every teacher
 * gives less than the smallest double still gets its logit. Teachers of weight 0 have no share of anything
 * (log 0). */
static void mix_block(const combine_batch *b, int64_t at, int n, const double *shares, float *out) {
  const double inverse_t = 1 / b->temperature;
  double largest[BLOCK], sum[BLOCK] = {0}, term[BLOCK];
  for (int j = 0; j < n; j++) largest[j] = -INFINITY;
  for (int k = 0; k < b->n_teachers; k++) {
    const float *z = b->logits[k] + at;
    for (int j = 0; j < n; j++) {
      double x = z[j] * inverse_t + shares[k];
      largest[j] = largest[j] > x ? largest[j] : x;
    }
  }
  for (int k = 0; k < b->n_teachers; k++) {
    const float *z = b->logits[k] + at;
    for (int j = 0; j < n; j++) term[j] = (z[j] * inverse_t + shares[k]) - largest[j];
    softmax_exp(term, n);
    for (int j = 0; j < n; j++) sum[j] += term[j];
  }
  for (int j = 0; j < n; j++) out[j] = (float)(b->temperature * (largest[j] + log(sum[j])));
}

static void probability_mean_rows(const combine_batch *b, float *out) {
  double shares[COMBINE_MAX_TEACHERS];
  for (int64_t i = 0; i < b->rows; i++) {
    log_shares(b, i, shares);
    for (int64_t from = 0; from < b->classes; from += BLOCK) {
      int64_t at = i * b->classes + from;
      mix_block(b, at, block_size(from, b->classes), shares, out + at);
    }
  }
}

static void logit_mean_rows(const combine_batch *b, float *out) {
  const int64_t n = b->rows * b->classes;
  for (int64_t at = 0; at < n; at += BLOCK) {
    const int m = block_size(at, n);
    double sum[BLOCK] = {0};
    for (int k = 0; k < b->n_teachers; k++)
      for (int j = 0; j < m; j++) sum[j] += b->weights[k] * b->logits[k][at + j];
    for (int j = 0; j < m; j++) out[at + j] = (float)sum[j];
  }
}

static const combine_kind probability_mean = {
    .name = "probability-mean",
    .formula = "T log(sum_k w_k softmax(z_k/T)): at T the softmax is exactly the mean of the teachers' "
               "probabilities (Hinton, Vinyals, "
               "Dean 2015)",
    .rows = probability_mean_rows,
};

static const combine_kind logit_mean = {
    .name = "logit-mean",
    .formula = "sum_k w_k z_k: the geometric mean of the teachers' probabilities, for every T",
    .linear = true,
    .rows = logit_mean_rows,
};

static const combine_kind *const kinds[] = {&probability_mean, &logit_mean, NULL};

const combine_kind *const *combine_kinds(void) {
  return kinds;
}

const combine_kind *combine_find(const char *name) {
  for (const combine_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}
