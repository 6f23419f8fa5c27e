/* Rules that look at the student, or at the step: only training can follow them. */
#include "base/rng.h"
#include "learn/combines.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* ---- one teacher for each batch ---- */

static status random_batch_rows(const combine_batch *b, float *out) {
  uint32_t words[4];
  rng_words(b->seed, RNG_COMBINE, COMBINE_DRAW_BATCH, b->step, words);
  memcpy(out, b->logits[combine_pick(b, words[0] * 0x1p-32)], (size_t)(b->rows * b->classes) * sizeof *out);
  return STATUS_OK;
}

/* ---- AEKD ---- */

enum { MAX_TEACHERS = 64, MAX_PASSES = 200, BLOCK = 64 /* classes at a time */ };
static const double ENOUGH = 1e-12; /* a pass that moves no weight by more is the last */

/* w_i and w_j against each other, their sum kept: the minimum along that line. g = A w. Returns the move. */
static double improve_pair(int n, const double *a, double most, int i, int j, double *w, double *g) {
  const double curve = a[i * n + i] + a[j * n + j] - 2 * a[i * n + j];
  if (!(curve > 0)) return 0;
  double move = (g[j] - g[i]) / curve;
  move = fmin(move, fmin(w[j], most - w[i]));
  move = fmax(move, -fmin(w[i], most - w[j]));
  w[i] += move;
  w[j] -= move;
  for (int k = 0; k < n; k++) g[k] += move * (a[k * n + i] - a[k * n + j]);
  return fabs(move);
}

void combine_shortest(int n, const double *a, double most, double *w) {
  double g[MAX_TEACHERS];
  for (int i = 0; i < n; i++) {
    w[i] = 1.0 / n;
    g[i] = 0;
    for (int j = 0; j < n; j++) g[i] += a[i * n + j] / n;
  }
  for (int pass = 0; pass < MAX_PASSES; pass++) {
    double moved = 0;
    for (int i = 0; i < n; i++)
      for (int j = 0; j < i; j++) moved = fmax(moved, improve_pair(n, a, most, i, j, w, g));
    if (moved < ENOUGH) break;
  }
}

/* Probabilities of classes [from, from + n) of a row of logits. */
static void probabilities(const float *z, int64_t from, int n, double inverse_t, double log_sum,
                          double *out) {
  for (int j = 0; j < n; j++) out[j] = fmin(z[from + j] * inverse_t - log_sum, 0);
  softmax_exp(out, n);
}

/* a[K, K]: products of the gradients q - p_k of the teachers' losses by the student's logits, but for a
 * factor.
 */
static void products(const combine_batch *b, int64_t row, double *a) {
  const int n = b->n_teachers;
  const double inverse_t = 1 / b->temperature;
  const float *z[MAX_TEACHERS + 1];
  double log_sums[MAX_TEACHERS + 1], sum, p[MAX_TEACHERS + 1][BLOCK];
  for (int k = 0; k <= n; k++) {
    z[k] = (k < n ? b->logits[k] : b->student) + row * b->classes;
    log_sums[k] = softmax_terms(z[k], b->classes, inverse_t, NULL, &sum);
  }
  memset(a, 0, (size_t)(n * n) * sizeof *a);
  for (int64_t from = 0; from < b->classes; from += BLOCK) {
    const int m = b->classes - from < BLOCK ? (int)(b->classes - from) : BLOCK;
    for (int k = n; k >= 0; k--) probabilities(z[k], from, m, inverse_t, log_sums[k], p[k]);
    for (int i = 0; i < n; i++)
      for (int j = 0; j <= i; j++)
        for (int c = 0; c < m; c++) a[i * n + j] += (p[n][c] - p[i][c]) * (p[n][c] - p[j][c]);
  }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < i; j++) a[j * n + i] = a[i * n + j];
}

static status aekd_rows(const combine_batch *b, float *out) {
  const int n = b->n_teachers;
  double a[MAX_TEACHERS * MAX_TEACHERS], w[MAX_TEACHERS];
  for (int64_t i = 0; i < b->rows; i++) {
    products(b, i, a);
    combine_shortest(n, a, n > 2 ? 2.0 / n : 1, w);
    combine_mix_row(b, i, w, out + i * b->classes);
  }
  return STATUS_OK;
}

static const char *const weighted[] = {"weights", NULL};

const combine_kind combine_random_batch = {
    .name = "random-batch",
    .formula = "z_k of one teacher for each batch, k drawn with probability w_k from the seed and the step, "
               "for every "
               "T (Fukuda et al. 2017)",
    .linear = true,
    .in_training = true,
    .options = weighted,
    .rows = random_batch_rows,
};

const combine_kind combine_aekd = {
    .name = "aekd",
    .formula =
        "T log(sum_k v_k p_k), row by row v >= 0 of sum 1, none above 2/K, that make |sum_k v_k (q - p_k)| "
        "least, q the student's softmax(z/T): the teachers' gradients agree on that direction (Du et al. "
        "2020)",
    .in_training = true,
    .max_teachers = MAX_TEACHERS,
    .rows = aekd_rows,
};
