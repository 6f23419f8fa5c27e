#include "learn/losses.h"
#include "learn/softmax.h"

#include <math.h>
#include <string.h>

enum { LANES = SOFTMAX_LANES };

typedef struct split_row { /* one row: the label's class against the others, and the others among themselves
                            */
  float *others;           /* [C] their exponentials; 0 at the label */
  double sum;
  double log_sum; /* log-sum-exp of the others at T */
  double target;  /* what the label's logit stands above it: sigmoid(target) is its probability */
} split_row;

/* The label's place holds the first of the others meanwhile, and that one's place is passed over: their
 * log-sum-exp is taken of them alone, so a label of probability 1 leaves it exact. */
static split_row split_at(const float *z, int64_t n, int32_t label, double inverse_t, float *others) {
  split_row s = {.others = others};
  memcpy(others, z, (size_t)n * sizeof *others);
  others[label] = others[0];
  s.log_sum = softmax_terms(others + 1, n - 1, inverse_t, others + 1, &s.sum);
  others[0] = label ? others[label] : 0;
  others[label] = 0;
  s.target = z[label] * inverse_t - s.log_sum;
  return s;
}

static double softplus(double x) {
  return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* KL of two coins whose log-odds are t and z; its derivative by z is sigmoid(z) - sigmoid(t). */
static double coins(double t, double z) {
  return sigmoid(t) * (softplus(-z) - softplus(-t)) + sigmoid(-t) * (softplus(z) - softplus(t));
}

/* Adds the gradient of both parts: the log-odds fall with every other class's logit by its share of them. */
static void add_gradient(const split_row *z, const split_row *t, int64_t n, int32_t label, double target,
                         double others, float *restrict gradient) {
  const double z_share = 1 / z->sum, t_share = 1 / t->sum;
  for (int64_t j = 0; j < n; j++) {
    const double q = z->others[j] * z_share, p = t->others[j] * t_share;
    gradient[j] += (float)(others * (q - p) - target * q);
  }
  gradient[label] += (float)target;
}

static double row(const mpistill_loss *options, const loss_row *r, float factor, float *restrict gradient) {
  const int64_t n = r->classes;
  if (n < 2) return 0;
  const split_row z = split_at(r->student, n, r->label, r->inverse_t, r->terms);
  const split_row t = split_at(r->teacher, n, r->label, r->inverse_t, r->terms + n);
  const double shift = t.log_sum - z.log_sum;
  double lanes[LANES] = {0};
  for (int64_t j = 0; j < n; j++)
    if (j != r->label)
      lanes[j % LANES] += t.others[j] * (((double)r->teacher[j] - r->student[j]) * r->inverse_t - shift);
  add_gradient(&z, &t, n, r->label, options->alpha * factor * (sigmoid(z.target) - sigmoid(t.target)),
               options->beta * factor, gradient);
  return options->alpha * coins(t.target, z.target) + options->beta * (softmax_add_lanes(lanes) / t.sum);
}

static double evaluate(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return loss_rows(options, b, true, row, gradient);
}

static status check(const mpistill_loss *options) {
  if (options->alpha > 0 || options->beta > 0) return loss_check_temperature(options);
  return status_set(STATUS_BAD_INPUT, "loss 'dkd': alpha and beta are both 0, nothing would be learnt");
}

static const char *const keys[] = {
    "temperature", "temperature_end", "temperature_schedule", "standardize", "alpha", "beta", NULL};

const loss_kind loss_dkd = {
    .name = "dkd",
    .formula =
        "T^2 (alpha KL(b(p) || b(q)) + beta KL(p' || q')), mean over the labelled rows of the batch; y the "
        "label, b(p) = (p_y, 1 - p_y), p' = softmax(t/T) of the classes other than y; alpha 1, beta 8 "
        "(Zhao et al. 2022)",
    .needs_labels = true,
    .needs_soft = true,
    .scratch_rows = LOSS_ROWS_SCRATCH,
    .options = keys,
    .evaluate = evaluate,
    .check = check,
};
