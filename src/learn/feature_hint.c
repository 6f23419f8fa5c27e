#include "learn/features.h"

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  projection p = projector_apply(o, b);
  const int64_t n = p.items * p.n_out;
  const double mean_of = (double)b->batch_rows * (double)p.row_values;
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    const double apart = (double)p.y[i] - p.t[i];
    sum += apart * apart;
    p.y[i] = (float)(o->weight * 2 * apart / mean_of);
  }
  projector_back(o, b, &p);
  return sum / mean_of;
}

static const char *const keys[] = {"projector", NULL};

const feature_kind feature_hint = {
    .name = "hint",
    .formula =
        "(r(s) - t)^2, mean over the values of t and over rows, r learned: projector conv1x1 (the default) "
        "maps the channels of each position or token, linear the whole tensor, mean the means over "
        "positions or tokens, none nothing (Romero et al. 2015; hidden states and embeddings as in TinyBERT, "
        "Jiao et al. 2020)",
    .options = keys,
    .check = projector_check,
    .parameters = projector_parameters,
    .initial = projector_initial,
    .scratch = projector_scratch,
    .evaluate = evaluate,
};
