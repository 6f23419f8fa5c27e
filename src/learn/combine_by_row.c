/* Weights that are another for every row: by how sure a teacher is, by how right, by lot. */
#include "base/rng.h"
#include "learn/combines.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { BLOCK = 64 }; /* classes at a time */

/* -sum_j p_j log p_j, p = softmax(z * scale). */
static double entropy(const float *z, int64_t n, double scale) {
  double sum, log_sum = softmax_terms(z, n, scale, NULL, &sum), h = 0;
  for (int64_t from = 0; from < n; from += BLOCK) {
    const int m = n - from < BLOCK ? (int)(n - from) : BLOCK;
    double log_p[BLOCK], p[BLOCK];
    for (int j = 0; j < m; j++) p[j] = log_p[j] = fmin(z[from + j] * scale - log_sum, 0);
    softmax_exp(p, m);
    for (int j = 0; j < m; j++) h -= p[j] * log_p[j];
  }
  return h;
}

/* w_k times (1 - x_k / sum x), made to sum to 1; where that leaves nothing, w_k itself. */
static void weigh(const combine_batch *b, const double *x, double *weights) {
  double all = 0, sum = 0;
  for (int k = 0; k < b->n_teachers; k++) all += x[k];
  for (int k = 0; k < b->n_teachers; k++) {
    weights[k] = all > 0 ? b->weights[k] * (1 - x[k] / all) : 0;
    sum += weights[k];
  }
  for (int k = 0; k < b->n_teachers; k++) weights[k] = sum > 0 ? weights[k] / sum : b->weights[k];
}

static status entropy_rows(const combine_batch *b, float *out) {
  double x[COMBINE_MAX_TEACHERS], weights[COMBINE_MAX_TEACHERS];
  for (int64_t i = 0; i < b->rows; i++) {
    for (int k = 0; k < b->n_teachers; k++)
      x[k] = entropy(b->logits[k] + i * b->classes, b->classes, 1 / b->temperature);
    weigh(b, x, weights);
    combine_mix_row(b, i, weights, out + i * b->classes);
  }
  return STATUS_OK;
}

/* exp(CE_k) of all teachers, the largest being 1: only their shares count. */
static void exponentials(const combine_batch *b, int64_t row, double *x) {
  double sum, most = -INFINITY;
  for (int k = 0; k < b->n_teachers; k++) {
    const float *z = b->logits[k] + row * b->classes;
    x[k] = softmax_terms(z, b->classes, 1, NULL, &sum) - z[b->labels[row]];
    most = x[k] > most ? x[k] : most;
  }
  for (int k = 0; k < b->n_teachers; k++) x[k] = exp(x[k] - most);
}

static status confidence_rows(const combine_batch *b, float *out) {
  double x[COMBINE_MAX_TEACHERS], weights[COMBINE_MAX_TEACHERS];
  for (int64_t i = 0; i < b->rows; i++) {
    if (b->labels[i] < 0) {
      combine_mix_row(b, i, b->weights, out + i * b->classes);
      continue;
    }
    exponentials(b, i, x);
    weigh(b, x, weights);
    combine_mix_row(b, i, weights, out + i * b->classes);
  }
  return STATUS_OK;
}

/* The teacher whose share of [0, 1) holds u; one of weight 0 has none. */
int combine_pick(const combine_batch *b, double u) {
  int last = 0;
  for (int k = 0; k < b->n_teachers; k++) {
    if (b->weights[k] <= 0) continue;
    if (u < b->weights[k]) return k;
    u -= b->weights[k];
    last = k;
  }
  return last;
}

static status random_rows(const combine_batch *b, float *out) {
  const size_t bytes = (size_t)b->classes * sizeof *out;
  for (int64_t i = 0; i < b->rows; i++) {
    uint32_t words[4];
    rng_words(b->seed, RNG_COMBINE, COMBINE_DRAW_TEACHER, (uint64_t)b->ids[i], words);
    memcpy(out + i * b->classes, b->logits[combine_pick(b, words[0] * 0x1p-32)] + i * b->classes, bytes);
  }
  return STATUS_OK;
}

static const char *const weighted[] = {"weights", "calibrate", NULL};

const combine_kind combine_entropy = {
    .name = "entropy",
    .formula =
        "T log(sum_k v_k p_k), row by row v_k ~ w_k (1 - H(p_k) / sum_j H(p_j)), H the entropy: who is sure "
        "counts more (EBKD, Kwon et al. 2020)",
    .of_one = true,
    .options = weighted,
    .rows = entropy_rows,
};

const combine_kind combine_confidence = {
    .name = "confidence",
    .formula =
        "T log(sum_k v_k p_k), row by row v_k ~ w_k (1 - exp(CE_k) / sum_j exp(CE_j)), CE_k = -log "
        "softmax(z_k)_y: who is right counts more; w_k for rows without a label. The ensemble's figures then "
        "know the labels (CA-MKD, Zhang et al. 2022)",
    .needs = "labels (--dataset)",
    .of_one = true,
    .needs_labels = true,
    .options = weighted,
    .rows = confidence_rows,
};

const combine_kind combine_random = {
    .name = "random",
    .formula = "z_k of one teacher for each row, k drawn with probability w_k from the seed and the row, for "
               "every T "
               "(Fukuda et al. 2017)",
    .linear = true,
    .options = weighted,
    .rows = random_rows,
};
