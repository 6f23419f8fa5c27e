/* Multiply-adds of a model, as papers count them. */
#ifndef MPISTILL_STAGES_MACS_H
#define MPISTILL_STAGES_MACS_H

#include "graph/plan.h"

/* Local. Of one forward pass of the plan: convolutions, matrix products and recurrent layers; what works
 * element by element counts nothing. */
int64_t macs_of_plan(const plan *p);

#endif
