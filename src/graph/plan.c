#include "graph/plan.h"

#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

static status copy_options(plan *p, const plan_options *o) {
  p->options = *o;
  p->options.taps = NULL;
  int *taps;
  status st = mem_new(&taps, (size_t)o->n_taps, sizeof *taps);
  if (st) return st;
  if (o->n_taps) memcpy(taps, o->taps, (size_t)o->n_taps * sizeof *taps);
  p->options.taps = taps;
  return STATUS_OK;
}

static status prepare_steps(plan *p) {
  status st = STATUS_OK;
  TRY(mem_new(&p->loading, (size_t)p->n_steps, sizeof *p->loading));
  for (int i = 0; i < p->n_steps; i++) {
    step *s = &p->steps[i];
    p->n_prepared = i + 1;
    s->empty = step_is_empty(s);
    if (s->op->prepare) TRY(s->op->prepare(s));
    if (s->op->load && i >= p->n_settled) p->loading[p->n_loading++] = s;
  }
done:
  return st;
}

static status enter_arena(plan *p) {
  status st = STATUS_OK;
  arena *a = p->options.arena;
  if (!a) {
    TRY(arena_new(&a));
    p->own_arena = true;
  }
  p->arena = a;
  TRY(arena_join(a, p));
done:
  return st;
}

status plan_new(plan **out, const graph *g, const plan_options *o) {
  status st = STATUS_OK;
  plan *p = NULL;
  *out = NULL;
  TRY(mem_new(&p, 1, sizeof *p));
  p->graph = g;
  p->touched = true;
  TRY(copy_options(p, o));
  TRY(plan_shapes(p));
  TRY(plan_layout(p));
  TRY(plan_gradient(p));
  TRY(prepare_steps(p));
  TRY(plan_find_late(p));
  TRY(plan_memory(p));
  TRY(enter_arena(p));
  p->options.input_shapes = NULL;
  p->options.frozen = NULL;
  p->options.late = NULL;
  *out = p;
  return STATUS_OK;
done:
  plan_free(&p);
  return st;
}

void plan_free(plan **out) {
  plan *p = *out;
  if (!p) return;
  for (int i = 0; i < p->n_prepared; i++)
    if (p->steps[i].op->release) p->steps[i].op->release(&p->steps[i]);
  if (p->arena) arena_leave(p->arena, p);
  if (p->own_arena) arena_free(&p->arena);
  for (int i = 0; p->values && i < p->graph->n_values; i++)
    if (p->values[i].owned) mem_free(p->values[i].data.data);
  mem_free((void *)p->options.taps);
  mem_free(p->in_arena.items);
  mem_free(p->in_block.items);
  mem_free(p->in_gradients.items);
  mem_free(p->merged);
  mem_free(p->makers);
  mem_free(p->late);
  mem_free(p->copied);
  mem_free(p->unwritten);
  mem_free(p->reverse);
  mem_free(p->final_from);
  mem_free(p->loading);
  mem_free(p->flags);
  mem_free(p->pointers);
  mem_free(p->steps);
  mem_free(p->values);
  mem_free(p);
  *out = NULL;
}

void plan_set_parameters(plan *p, const float *block) {
  p->block = block;
  bindings_set(&p->in_block, (void *)block); /* steps only read them */
  p->touched = true;
}

void plan_touch_parameters(plan *p) {
  p->touched = true;
}

void plan_set_gradients(plan *p, float *block) {
  p->gradients = block;
  bindings_set(&p->in_gradients, block);
}

void plan_set_watcher(plan *p, plan_passed *passed, void *data) {
  p->passed = passed;
  p->passed_data = data;
}

static tensor *gradient_of(const plan *p, int v) {
  return p->values[v].has_gradient ? &p->values[v].gradient : NULL;
}

tensor *plan_input(const plan *p, int i) {
  return &p->values[p->graph->inputs[i]].data;
}

tensor *plan_output(const plan *p, int i) {
  return &p->values[p->graph->outputs[i]].data;
}

tensor *plan_tap(const plan *p, int i) {
  return &p->values[p->options.taps[i]].data;
}

tensor *plan_output_gradient(const plan *p, int i) {
  return gradient_of(p, p->graph->outputs[i]);
}

tensor *plan_tap_gradient(const plan *p, int i) {
  return gradient_of(p, p->options.taps[i]);
}

tensor *plan_input_gradient(const plan *p, int i) {
  return gradient_of(p, p->graph->inputs[i]);
}

size_t plan_memory_bytes(const plan *p) {
  return p->arena_bytes;
}

int64_t plan_rows(const plan *p) {
  return p->options.rows;
}

int plan_n_steps(const plan *p) {
  return p->n_steps;
}

const step *plan_step(const plan *p, int i) {
  return &p->steps[i];
}
