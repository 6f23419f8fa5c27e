/* Two models on the same rows. */
#ifndef MPISTILL_STAGES_COMPARE_H
#define MPISTILL_STAGES_COMPARE_H

#include "stages/common.h"
#include "stages/evaluate.h"

typedef struct comparison {
  double rows;
  double same;     /* rows that both give the same class */
  double distance; /* sum of |logit - other's|, each row's mean over classes */
  double largest;  /* of all logits */
  score other;
} comparison;

/* Collective. k with its block against the model at `path`, of which heads[0] is taken, on the rows of sp.
 * STATUS_BAD_INPUT when their numbers of classes differ. */
status compare_models(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                      const mpistill_evaluate_options *o, const head_options *heads, comparison *out);

#endif
