/* What aggregate finds from labelled rows before it combines teachers: their calibration, their weights. */
#ifndef MPISTILL_STAGES_FIT_H
#define MPISTILL_STAGES_FIT_H

#include "stages/sources.h"

typedef struct fit {
  int64_t rows; /* labelled rows that it was found from */
  double nll;   /* learned: of the combination on them; else 0 */
} fit;

/* Whether these options ask for it. */
bool fit_needed(const mpistill_aggregate_options *o, const combine_kind *rule);

/* Collective. Sets s->calibration and, for a rule that is learned, s->weights or s->class_weights. From the
 * labels of d and the rows of o->fit, or from o->held_out of the labelled rows of s, drawn by o->seed. The
 * same on any number of ranks, of which STACK_PIECES can work; all their rows are in memory at once, at most
 * 1 GiB of them over all ranks, beyond which fewer rows are drawn. STATUS_BAD_INPUT without labelled rows. */
status fit_sources(sources *s, comm *c, const mpistill_aggregate_options *o, dataset *d, fit *out);
/* Collective. The split of o->fit, whose files are checked as fit_sources will. */
status fit_split(const sources *s, comm *c, const mpistill_aggregate_options *o, dataset *d,
                 const split **out);

#endif
