/* plan: what a run will cost on N ranks, before it is queued. */
#ifndef MPISTILL_STAGES_PLAN_H
#define MPISTILL_STAGES_PLAN_H

#include "comm/comm.h"
#include "mpistill/mpistill.h"

#include <jansson.h>

typedef struct plan_request {
  char *recipe;
  mpistill_strings set;
  int64_t ranks;
  int64_t ranks_per_node; /* 0: all on one */
  double memory_gib;      /* of a node; 0: not known */
  double link_gbits;      /* out of a node; 0: not known */
  bool slurm;             /* the one line that queues it */
  bool json;
} plan_request;

/* c: comm_alone. Measures the recipe's models on a few rows, and prints time, memory and disk on stdout. */
status stage_plan(comm *c, const plan_request *o);
/* The same as an object (a reference for the caller). */
status forecast_make(json_t **out, comm *c, const plan_request *o);
/* Local. As lines for people; as the line that queues it under Slurm. */
void forecast_print(const json_t *p);
void forecast_print_sbatch(const json_t *p, const plan_request *o);

#endif
