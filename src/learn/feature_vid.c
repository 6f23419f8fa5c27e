#include "learn/features.h"

#include <math.h>

static const double LEAST = 1e-5;  /* beside the variance */
static const double INITIAL = 5.0; /* variance */

static int64_t parameters(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  return projector_parameters(o, student, teacher) + teacher->channels;
}

/* Behind W and b: a number a of each channel, its variance is log(1 + e^a) + LEAST. */
static void initial(const mpistill_feature *o, const feature_map *student, const feature_map *teacher,
                    uint64_t seed, uint64_t stream, float *to) {
  projector_initial(o, student, teacher, seed, stream, to);
  to += projector_parameters(o, student, teacher);
  for (int64_t c = 0; c < teacher->channels; c++) to[c] = (float)log(expm1(INITIAL - LEAST));
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  projection p = projector_apply(o, b);
  const int64_t at = projector_parameters(o, &b->student[0], &b->teacher[0]);
  const double mean_of = (double)b->batch_rows * (double)p.row_values;
  double sum = 0;
  for (int64_t c = 0; c < p.n_out; c++) {
    const double a = b->parameters[at + c], slope = 1 / (1 + exp(-a));
    const double variance = (a > 0 ? a + log1p(exp(-a)) : log1p(exp(a))) + LEAST;
    double squares = 0;
    for (int64_t i = 0; i < p.items; i++) {
      float *y = &p.y[i * p.n_out + c];
      const double apart = (double)*y - p.t[i * p.n_out + c];
      squares += apart * apart;
      *y = (float)(o->weight * apart / (variance * mean_of));
    }
    sum += (squares / variance + (double)p.items * log(variance)) / 2;
    const double by_variance = ((double)p.items - squares / variance) / (2 * variance * mean_of);
    b->parameter_gradient[at + c] += (float)(o->weight * by_variance * slope);
  }
  projector_back(o, b, &p);
  return sum / mean_of;
}

const feature_kind feature_vid = {
    .name = "vid",
    .formula =
        "((m(s) - t)^2 / v + log v) / 2, mean over the values of t and over rows: minus the likelihood of t, "
        "with a learned map m of the channels at each position and a learned variance v of each channel, 5 "
        "at first (Ahn et al. 2019). It may be negative",
    .check = projector_check,
    .parameters = parameters,
    .initial = initial,
    .scratch = projector_scratch,
    .evaluate = evaluate,
};
