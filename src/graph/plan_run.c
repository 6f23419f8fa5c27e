#include "graph/plan_private.h"

#include "base/profile.h"

#include <math.h>
#include <string.h>

static status run_step(step *s, const run_context *run) {
  s->run = run;
  if (s->empty) return STATUS_OK;
  const double at = profile_clock();
  status st = s->op->forward(s);
  profile_operator(s->op->name, false, at);
  return st;
}

static void load_step(step *s) {
  const double at = profile_clock();
  s->op->load(s);
  profile_operator(s->op->name, false, at);
}

/* Before the first forward after parameters have changed: what depends on them alone, and weights to repack.
 */
static status load_parameters(plan *p, const run_context *run) {
  status st = STATUS_OK;
  for (int i = 0; i < p->n_settled; i++) {
    if (p->steps[i].op->load) load_step(&p->steps[i]);
    TRY(run_step(&p->steps[i], run));
  }
  for (int i = 0; i < p->n_loading; i++) load_step(p->loading[i]);
  p->touched = false;
done:
  return st;
}

static void spoil_results(plan *p) {
  for (int v = 0; v < p->graph->n_values; v++) {
    const tensor *t = &p->values[v].data;
    if (!p->values[v].held || p->values[v].known || t->type != DTYPE_FLOAT) continue;
    for (int64_t i = 0; i < shape_count(&t->shape); i++) ((float *)t->data)[i] = NAN;
  }
}

status plan_forward(plan *p, const run_context *run) {
  status st = STATUS_OK;
  p->invalid = false;
  if (!p->block && p->graph->n_block) return status_set(STATUS_FAILED, "the plan has no parameters");
  const profile_phase before = profile_enter(PROFILE_FORWARD);
  if (p->touched) TRY(load_parameters(p, run));
  for (int i = p->n_settled; i < p->n_steps; i++) TRY(run_step(&p->steps[i], run));
  if (p->invalid) spoil_results(p);
done:
  profile_enter(before);
  return st;
}

status plan_backward(plan *p, const run_context *run) {
  status st = STATUS_OK;
  if (!p->gradients && p->graph->n_block) return status_set(STATUS_FAILED, "the plan has no gradient block");
  for (int i = 0; i < p->n_unwritten; i++)
    memset(p->gradients + p->unwritten[i].first, 0, (size_t)p->unwritten[i].n * sizeof *p->gradients);
  const profile_phase before = profile_enter(PROFILE_BACKWARD);
  for (int i = 0; i < p->n_reverse && !st; i++) {
    step *s = p->reverse[i];
    s->run = run;
    const double at = profile_clock();
    if (p->n_late && p->copied[i]) plan_copy_late(p, p->copied[i]);
    st = s->op->backward(s);
    profile_operator(s->op->name, true, at);
    if (p->passed && !st) p->passed(p->passed_data, p->final_from[i]);
  }
  profile_enter(before);
  return st;
}
