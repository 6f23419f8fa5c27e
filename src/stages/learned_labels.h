/* The hard labels that a student learns from. */
#ifndef MPISTILL_STAGES_LEARNED_LABELS_H
#define MPISTILL_STAGES_LEARNED_LABELS_H

#include "stages/objective.h"
#include "stages/predict.h"

/* Collective. (*out)[sp->n], -1 where there is none; mem_free. NULL when no loss of the goal reads labels.
 * STATUS_BAD_INPUT for labels that the model k has no class for, and when there is nothing to learn from. */
status learned_labels(int32_t **out, comm *c, dataset *d, const split *sp, const classifier *k,
                      const objective *goal, bool has_soft);

#endif
