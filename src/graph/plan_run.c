#include "graph/plan_private.h"

#include <string.h>

/* Steps that repack weights do so before the first forward after these have changed. */
static void load_parameters(plan *p) {
  for (int i = 0; i < p->n_loading; i++) p->loading[i]->op->load(p->loading[i]);
  p->touched = false;
}

status plan_forward(plan *p, const run_context *run) {
  if (!p->block && p->graph->n_block) return status_set(STATUS_FAILED, "the plan has no parameters");
  if (p->touched) load_parameters(p);
  for (step *s = p->steps, *end = s + p->n_steps; s < end; s++) {
    s->run = run;
    status st = s->op->forward(s);
    if (st) return st;
  }
  return STATUS_OK;
}

status plan_backward(plan *p, const run_context *run) {
  if (!p->gradients && p->graph->n_block) return status_set(STATUS_FAILED, "the plan has no gradient block");
  for (int i = 0; i < p->n_unwritten; i++)
    memset(p->gradients + p->unwritten[i].first, 0, (size_t)p->unwritten[i].n * sizeof *p->gradients);
  for (int i = 0; i < p->n_reverse; i++) {
    step *s = p->reverse[i];
    s->run = run;
    status st = s->op->backward(s);
    if (st) return st;
  }
  return STATUS_OK;
}
