#include "graph/plan_private.h"

#include <string.h>

static status run_step(step *s, const run_context *run) {
  s->run = run;
  return s->empty ? STATUS_OK : s->op->forward(s);
}

/* Before the first forward after parameters have changed: what depends on them alone, and weights to repack.
 */
static status load_parameters(plan *p, const run_context *run) {
  status st = STATUS_OK;
  for (int i = 0; i < p->n_settled; i++) {
    if (p->steps[i].op->load) p->steps[i].op->load(&p->steps[i]);
    TRY(run_step(&p->steps[i], run));
  }
  for (int i = 0; i < p->n_loading; i++) p->loading[i]->op->load(p->loading[i]);
  p->touched = false;
done:
  return st;
}

status plan_forward(plan *p, const run_context *run) {
  status st = STATUS_OK;
  if (!p->block && p->graph->n_block) return status_set(STATUS_FAILED, "the plan has no parameters");
  if (p->touched) TRY(load_parameters(p, run));
  for (int i = p->n_settled; i < p->n_steps; i++) TRY(run_step(&p->steps[i], run));
done:
  return st;
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
