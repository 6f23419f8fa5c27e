/* Which parameters training leaves as they are. */
#ifndef MPISTILL_STAGES_FREEZE_H
#define MPISTILL_STAGES_FREEZE_H

#include "graph/graph.h"
#include "mpistill/mpistill.h"

/* Local. (*frozen)[g->n_values]: parameters and running statistics whose names match one of the patterns
 * ("layer1.*", as a shell matches file names). A batch norm one of whose parameters is frozen keeps its
 * running statistics, and uses them. NULL without patterns; owned by the caller (mem_free). STATUS_BAD_INPUT
 * for a pattern that matches nothing, with the nearest name, and when nothing is left to train; `path` begins
 * the message. */
status freeze_find(bool **frozen, const graph *g, const mpistill_strings *patterns, const char *path);

#endif
