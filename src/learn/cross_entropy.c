#include "learn/losses.h"
#include "learn/softmax.h"

/* Sum of a row's logits, for the share that smoothing gives to every class. */
static double row_sum(const float *z, int64_t n) {
  double lanes[SOFTMAX_LANES] = {0};
  int64_t j = 0;
  for (; j + SOFTMAX_LANES <= n; j += SOFTMAX_LANES)
    for (int k = 0; k < SOFTMAX_LANES; k++) lanes[k] += z[j + k];
  for (int k = 0; j + k < n; k++) lanes[k] += z[j + k];
  return softmax_add_lanes(lanes);
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  if (b->batch_labelled <= 0) return 0;
  const int64_t n = b->classes;
  const double smoothing = options->label_smoothing;
  const double share = options->weight / (double)b->batch_labelled;
  const float spread = (float)(share * smoothing / (double)n), hit = (float)(share * (1 - smoothing));
  double loss = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    if (b->labels[i] < 0) continue;
    const float *z = b->logits + i * n, *e = b->scratch;
    float *g = gradient + i * n;
    double sum;
    double row = softmax_terms(z, n, 1, b->scratch, &sum) - (1 - smoothing) * z[b->labels[i]];
    if (smoothing > 0) row -= smoothing / (double)n * row_sum(z, n);
    const float factor = (float)(share / sum);
    for (int64_t j = 0; j < n; j++) g[j] += e[j] * factor - spread;
    g[b->labels[i]] -= hit;
    loss += row;
  }
  return loss / (double)b->batch_labelled;
}

static status check(const mpistill_loss *options) {
  double smoothing = options->label_smoothing;
  if (smoothing >= 0 && smoothing < 1) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "loss 'cross-entropy': label smoothing is %g, expected a number from 0 to below 1",
                    smoothing);
}

static const char *const keys[] = {"label_smoothing", NULL};

const loss_kind loss_cross_entropy = {
    .name = "cross-entropy",
    .formula = "-sum_j ((1-s) [j=y] + s/C) log softmax(z)_j, mean over the labelled rows of the batch; s the "
               "label smoothing; "
               "no T^2 (Szegedy et al. 2016)",
    .needs_labels = true,
    .scratch_rows = 1,
    .options = keys,
    .evaluate = evaluate,
    .check = check,
};
