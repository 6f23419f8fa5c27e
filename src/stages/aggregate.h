/* Metrics of teachers and their ensemble from soft-label files, shared by aggregate and run. */
#ifndef MPISTILL_STAGES_AGGREGATE_H
#define MPISTILL_STAGES_AGGREGATE_H

#include "mpistill/mpistill.h"
#include "stages/evaluate.h"

/* Collective. scores[o->inputs.n + 1]: each file's sums against the labels of o->dataset, then those of the
 * combination at temperature 1, with the calibration and weights of the ensemble file (NULL: those of o). No
 * sums of a combination by a rule that reads labels, which would know the answers, or that hides its
 * teachers, which would tell more of them. Writes nothing. */
status aggregate_measure(comm *c, const mpistill_aggregate_options *o, const char *ensemble, score *scores);

#endif
