/* Losses of numbers: against targets, and against the teachers' numbers. */
#include "learn/losses.h"

#include <math.h>

/* Of one number; *slope its derivative by it. */
typedef double (*distance)(const mpistill_loss *options, double away, double *slope);

static double square(const mpistill_loss *options, double away, double *slope) {
  (void)options;
  *slope = 2 * away;
  return away * away;
}

static double smooth(const mpistill_loss *options, double away, double *slope) {
  const double d = options->delta, size = fabs(away);
  *slope = size < d ? away / d : away < 0 ? -1 : 1;
  return size < d ? away * away / (2 * d) : size - d / 2;
}

/* The mean over mean_of numbers; NaN: there is none to be near to. */
static double mean(const mpistill_loss *options, const loss_batch *b, const float *goal, int64_t mean_of,
                   distance of, float *gradient) {
  const int64_t n = b->rows * b->classes;
  double sum = 0, slope;
  if (mean_of <= 0) return 0;
  const double factor = options->weight / (double)mean_of;
  for (int64_t i = 0; i < n; i++) {
    if (isnan(goal[i])) continue;
    sum += of(options, (double)b->logits[i] - goal[i], &slope);
    gradient[i] += (float)(factor * slope);
  }
  return sum / (double)mean_of;
}

static double mse(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return mean(options, b, b->targets, b->batch_labelled, square, gradient);
}

static double smooth_l1(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return mean(options, b, b->targets, b->batch_labelled, smooth, gradient);
}

static double soft_mse(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return mean(options, b, b->soft, b->batch_rows, square, gradient);
}

static double soft_smooth_l1(const mpistill_loss *options, const loss_batch *b, float *gradient) {
  return mean(options, b, b->soft, b->batch_rows, smooth, gradient);
}

static status check_delta(const mpistill_loss *options) {
  if (options->delta > 0) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "loss '%s': delta is %g, expected a number above 0", options->kind,
                    options->delta);
}

static const char *const keys[] = {"delta", NULL};

const loss_kind loss_mse = {
    .name = "mse",
    .formula = "(y - target)^2, mean over the numbers of the batch that have a target (regression)",
    .needs_labels = true,
    .of_values = true,
    .evaluate = mse,
};

const loss_kind loss_smooth_l1 = {
    .name = "smooth-l1",
    .formula =
        "a = |y - target|: a^2 / (2 delta) where a < delta, else a - delta / 2; mean over the numbers of "
        "the batch that have a target; delta 1 (Girshick 2015)",
    .needs_labels = true,
    .of_values = true,
    .options = keys,
    .evaluate = smooth_l1,
    .check = check_delta,
};

const loss_kind loss_soft_mse = {
    .name = "soft-mse",
    .formula = "(y - t)^2, t the teachers' number, mean over the numbers of the batch (Ba, Caruana 2014, of "
               "outputs)",
    .needs_soft = true,
    .of_values = true,
    .evaluate = soft_mse,
};

const loss_kind loss_soft_smooth_l1 = {
    .name = "soft-smooth-l1",
    .formula =
        "a = |y - t|, t the teachers' number: a^2 / (2 delta) where a < delta, else a - delta / 2; mean "
        "over the numbers of the batch; delta 1 (Chen et al. 2017, of boxes)",
    .needs_soft = true,
    .of_values = true,
    .options = keys,
    .evaluate = soft_smooth_l1,
    .check = check_delta,
};
