/* The stages of a distillation: one file each, one call each. Collective over c; options are borrowed.
 * Results go to stdout of rank 0 (one JSON object with out.json), progress to its stderr. Options and their
 * defaults: stages/options.h. */
#ifndef MPISTILL_STAGES_STAGES_H
#define MPISTILL_STAGES_STAGES_H

#include "comm/comm.h"
#include "mpistill/mpistill.h"

#include <jansson.h>

status stage_train(comm *c, const mpistill_train_options *o);
status stage_teach(comm *c, const mpistill_teach_options *o);
status stage_aggregate(comm *c, const mpistill_aggregate_options *o);
status stage_evaluate(comm *c, const mpistill_evaluate_options *o, mpistill_evaluation *result);
status stage_run(comm *c, const mpistill_run_options *o);

/* Local: what one process does alone. */
status stage_import(const mpistill_import_options *o);
status stage_create(const mpistill_create_options *o);

#endif
