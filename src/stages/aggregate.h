/* Metrics of teachers and their ensemble from soft-label files, shared by aggregate and run. */
#ifndef MPISTILL_STAGES_AGGREGATE_H
#define MPISTILL_STAGES_AGGREGATE_H

#include "comm/comm.h"
#include "learn/metrics.h"
#include "mpistill/mpistill.h"

/* Collective. members[o->inputs.n + 1]: each file's sums against the labels of o->dataset, then those of the
 * combination at temperature 1. Writes nothing. */
status aggregate_measure(comm *c, const mpistill_aggregate_options *o, metric_sums *members);

#endif
