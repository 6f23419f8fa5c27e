/* Teachers that vote: plainly, and with the noise of PATE, which hides what any one of them was trained on.
 */
#include "base/rng.h"
#include "learn/combines.h"
#include "learn/metrics.h"

#include <math.h>
#include <stddef.h>

static float logit_of(const combine_batch *b, double probability) {
  return (float)(b->temperature * log(probability > COMBINE_FLOOR ? probability : COMBINE_FLOOR));
}

/* votes[C] of one row, kept in out itself: each teacher's weight, or 1, for its first class. Those that did
 * not answer do not vote. Returns the sum. */
static double count(const combine_batch *b, int64_t row, const double *weights, float *votes) {
  double sum = 0;
  for (int64_t j = 0; j < b->classes; j++) votes[j] = 0;
  for (int k = 0; k < b->n_teachers; k++) {
    const float *z = b->logits[k] + row * b->classes;
    if (isnan(z[0])) continue;
    votes[metric_argmax(z, b->classes)] += weights ? (float)weights[k] : 1;
    sum += weights ? weights[k] : 1;
  }
  return sum;
}

static status vote_rows(const combine_batch *b, float *out) {
  for (int64_t i = 0; i < b->rows; i++, out += b->classes) {
    double sum = count(b, i, b->weights, out);
    for (int64_t j = 0; j < b->classes; j++) out[j] = sum > 0 ? logit_of(b, out[j] / sum) : NAN;
  }
  return STATUS_OK;
}

static void answer(const combine_batch *b, int64_t winner, float *out) {
  for (int64_t j = 0; j < b->classes; j++) out[j] = logit_of(b, j == winner);
}

static uint64_t place(const combine_batch *b, int64_t row, int64_t j) {
  return (uint64_t)b->ids[row] * (uint64_t)b->classes + (uint64_t)j;
}

/* Two exponentials' difference. */
static double laplace(const combine_batch *b, int64_t row, int64_t j) {
  uint32_t words[4];
  rng_words(b->seed, RNG_COMBINE, COMBINE_DRAW_ANSWER, place(b, row, j), words);
  double u = (words[0] + 1.0) * 0x1p-32, v = (words[1] + 1.0) * 0x1p-32;
  return log(u) - log(v);
}

static double gauss(const combine_batch *b, int stream, int64_t row, int64_t j) {
  return rng_normal(b->seed, RNG_COMBINE, (uint64_t)stream, place(b, row, j));
}

static status lnmax_rows(const combine_batch *b, float *out) {
  for (int64_t i = 0; i < b->rows; i++, out += b->classes) {
    count(b, i, NULL, out);
    for (int64_t j = 0; j < b->classes; j++) out[j] += (float)(b->options->noise * laplace(b, i, j));
    answer(b, metric_argmax(out, b->classes), out);
  }
  return STATUS_OK;
}

static status gnmax_rows(const combine_batch *b, float *out) {
  const mpistill_aggregate_options *o = b->options;
  for (int64_t i = 0; i < b->rows; i++, out += b->classes) {
    count(b, i, NULL, out);
    double most = out[metric_argmax(out, b->classes)] + o->sigma1 * gauss(b, COMBINE_DRAW_THRESHOLD, i, 0);
    for (int64_t j = 0; j < b->classes; j++)
      out[j] += (float)(o->sigma2 * gauss(b, COMBINE_DRAW_ANSWER, i, j));
    if (most >= o->threshold)
      answer(b, metric_argmax(out, b->classes), out);
    else
      for (int64_t j = 0; j < b->classes; j++) out[j] = NAN;
  }
  return STATUS_OK;
}

/* ---- what the noise hides ---- */

/* min over alpha > 1 of slope * alpha + log(1/delta) / (alpha - 1). */
static double best_order(double slope, double delta) {
  return slope > 0 ? slope + 2 * sqrt(slope * log(1 / delta)) : 0;
}

/* One answer is 2/b-private, so its Renyi divergence of order alpha is at most 2 alpha/b^2, and at most 2/b.
 */
static double lnmax_epsilon(const mpistill_aggregate_options *o, double asked, double answered) {
  (void)answered;
  return fmin(asked * 2 / o->noise, best_order(asked * 2 / (o->noise * o->noise), o->delta));
}

static double gnmax_epsilon(const mpistill_aggregate_options *o, double asked, double answered) {
  return best_order(asked / (2 * o->sigma1 * o->sigma1) + answered / (o->sigma2 * o->sigma2), o->delta);
}

/* The noise hides nothing from who can make it again. */
static status check_seed(const mpistill_aggregate_options *o, const char *method) {
  if (o->seed) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "method '%s' needs a seed that nobody else knows, not 0, or its noise can be taken away: "
                    "--seed N, in a recipe seed: N",
                    method);
}

static status lnmax_check(const mpistill_aggregate_options *o) {
  if (o->noise > 0) return check_seed(o, "pate-lnmax");
  return status_set(STATUS_BAD_INPUT, "method 'pate-lnmax' needs --noise, in a recipe aggregate.noise: the "
                                      "scale of its Laplace noise in votes");
}

static status gnmax_check(const mpistill_aggregate_options *o) {
  if (o->sigma1 > 0 && o->sigma2 > 0 && o->threshold > 0) return check_seed(o, "pate-gnmax");
  return status_set(STATUS_BAD_INPUT, "method 'pate-gnmax' needs --sigma1, --sigma2 and --threshold, in a "
                                      "recipe keys of aggregate, all in votes");
}

static const char *const weighted[] = {"weights", NULL};
static const char *const lnmax[] = {"noise", "delta", NULL};
static const char *const gnmax[] = {"sigma1", "sigma2", "threshold", "delta", NULL};

const combine_kind combine_vote = {
    .name = "vote",
    .formula = "T log(max(v, 1e-7)), v the mean of the teachers' one-hot first classes, each with w_k",
    .floor = COMBINE_FLOOR,
    .options = weighted,
    .rows = vote_rows,
};

const combine_kind combine_pate_lnmax = {
    .name = "pate-lnmax",
    .formula = "one-hot argmax_j (n_j + Laplace(noise)), n_j the votes for class j, as T log(max(., 1e-7)). "
               "Epsilon by "
               "Renyi divergence, whatever the data: the lesser of 2n/b and c + 2 sqrt(c log(1/delta)), c = "
               "2n/b^2, of "
               "n rows and noise b (LNMax of PATE, Papernot et al. 2017)",
    .needs =
        "--noise; teachers of disjoint data; --seed, a number that nobody else knows, or the noise can be "
        "taken away (OUTPUT/recipe.yaml of a run holds it)",
    .floor = COMBINE_FLOOR,
    .options = lnmax,
    .rows = lnmax_rows,
    .check = lnmax_check,
    .epsilon = lnmax_epsilon,
};

const combine_kind combine_pate_gnmax = {
    .name = "pate-gnmax",
    .formula =
        "if max_j n_j + N(0, sigma1) >= threshold: one-hot argmax_j (n_j + N(0, sigma2)), as T log(max(., "
        "1e-7)); "
        "else no answer. Epsilon by Renyi divergence, whatever the data: c + 2 sqrt(c log(1/delta)), c = "
        "n/(2 "
        "sigma1^2) + a/sigma2^2, of n rows and a answers (Confident-GNMax of PATE, Papernot et al. 2018)",
    .needs = "--sigma1, --sigma2, --threshold; teachers of disjoint data; --seed, a number that nobody else "
             "knows, or the noise can be taken away (OUTPUT/recipe.yaml of a run holds it)",
    .partial = true,
    .floor = COMBINE_FLOOR,
    .options = gnmax,
    .rows = gnmax_rows,
    .check = gnmax_check,
    .epsilon = gnmax_epsilon,
};
