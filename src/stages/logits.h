/* Where the logits of a model are. A network has them as its output, or before a Softmax at its end; what
 * scikit-learn and its kin export gives labels and probabilities, which may stand behind a ZipMap. */
#ifndef MPISTILL_STAGES_LOGITS_H
#define MPISTILL_STAGES_LOGITS_H

#include "graph/plan.h"

/* The least probability that is given a logit: that of a probability p is log(max(p, floor)). */
#define LOGITS_FLOOR 1e-7

typedef enum logits_kind {
  LOGITS_UNKNOWN,      /* the graph does not tell */
  LOGITS_FOR_SOFTMAX,  /* what goes into a final Softmax */
  LOGITS_PROBABILITIES /* by the operator that makes them */
} logits_kind;

typedef struct logits_place {
  int value; /* of the graph */
  logits_kind kind;
  int64_t axis;           /* of that Softmax, as the node has it */
  bool flattens;          /* it takes all dimensions from there on as one, as Softmax did before opset 13 */
  const attribute *names; /* of classes, integers or strings, borrowed from the graph; NULL: not said */
} logits_place;

/* Local. The output that holds logits or probabilities: the only one, else the only one of floats and rank 2
 * in the plan p. STATUS_BAD_INPUT listing the outputs when there is none or several. `path` begins the
 * message. */
status logits_output(const graph *g, const plan *p, const char *path, int *output);

/* Local. From output value `output` back through what changes nothing (Identity, ZipMap, Cast between floats)
 * and one Softmax of one vector a row, or at each position (head.h). */
void logits_find(const graph *g, int output, logits_place *out);

/* Local. Runs a plan of one row, whose parameters are set, on random rows: whether a tap, [1, C], holds
 * numbers from 0 to 1 that sum to 1 every time. Logits do not. A model that cannot be run so: false. */
bool logits_sum_to_one(plan *p, int tap);

/* p = log(max(p, floor)); a NaN stays one. */
void logits_from_probabilities(float *p, int64_t n);

#endif
