#include "base/mem.h"
#include "graph/plan_private.h"

/* Whether a gradient for input i of the step is of interest. Statistics get theirs through op.statistics
 * alone. */
static bool wants_gradient(const plan *p, const step *s, int i) {
  int v = s->node->inputs[i];
  if (v < 0 || !p->values[v].trainable) return false;
  return op_mask_has(plan_kind(p, v) == VALUE_STATISTIC ? s->op->statistics : s->op->differentiable, i);
}

static void mark_trainable(plan *p) {
  const graph *g = p->graph;
  const bool *frozen = p->options.frozen;
  for (int i = 0; i < g->n_values; i++)
    p->values[i].trainable = !(frozen && frozen[i]) &&
                             (g->values[i].kind == VALUE_PARAMETER || g->values[i].kind == VALUE_STATISTIC);
  for (int i = 0; p->options.input_gradients && i < g->n_inputs; i++)
    p->values[g->inputs[i]].trainable = g->values[g->inputs[i]].type == DTYPE_FLOAT;
  for (int i = 0; i < p->n_steps; i++) {
    const step *s = &p->steps[i];
    bool any = false;
    for (int j = 0; j < s->n_in; j++) any |= wants_gradient(p, s, j);
    for (int j = 0; any && j < s->n_out; j++)
      if (s->out[j] && s->out[j]->type == DTYPE_FLOAT) p->values[s->node->outputs[j]].trainable = true;
  }
}

static void mark_frozen(plan *p) {
  const bool *frozen = p->options.frozen;
  for (int i = 0; frozen && i < p->n_steps; i++) {
    step *s = &p->steps[i];
    for (int j = 0; j < s->n_in; j++) {
      int v = s->node->inputs[j];
      s->frozen = s->frozen || (v >= 0 && frozen[v] && plan_kind(p, v) == VALUE_STATISTIC);
    }
  }
}

static tensor *make_gradient(plan_value *v) {
  v->has_gradient = true;
  v->gradient.type = v->data.type;
  v->gradient.shape = v->data.shape;
  v->gradient.block = v->data.block;
  return &v->gradient;
}

/* Gives the step its gradients. Steps are visited in the order of the backward pass, so who comes first to a
 * value that no caller fills is the one to overwrite it. */
static status link_step(plan *p, step *s) {
  for (int i = 0; i < s->n_out; i++)
    if (s->out[i] && p->values[s->node->outputs[i]].has_gradient)
      s->dout[i] = &p->values[s->node->outputs[i]].gradient;
  if (!step_is_differentiated(s)) return STATUS_OK;
  for (int i = 0; i < s->n_in; i++) {
    if (!wants_gradient(p, s, i)) continue;
    plan_value *v = &p->values[s->node->inputs[i]];
    s->accumulate[i] = v->has_gradient;
    if (v->has_gradient && plan_kind(p, s->node->inputs[i]) == VALUE_STATISTIC)
      return step_error(s, "its running statistic '%s' belongs to another node as well and cannot be trained",
                        p->graph->values[s->node->inputs[i]].name);
    s->din[i] = make_gradient(v);
  }
  return STATUS_OK;
}

/* All nodes at once, so that the user sees how far the model is from being trainable. */
static status check_backward(const plan *p) {
  status st = STATUS_OK;
  for (int i = 0; i < p->n_steps; i++) {
    const step *s = &p->steps[i];
    bool any = false;
    for (int j = 0; j < s->n_in; j++) any |= s->din[j] != NULL;
    if (!any || s->op->backward) continue;
    if (!st)
      st = status_set(STATUS_BAD_INPUT, "operator %s has no gradient: node '%s'", s->op->name, s->node->name);
    else
      status_add_line("operator %s has no gradient: node '%s'", s->op->name, s->node->name);
  }
  return st;
}

/* Parameters that are frozen, or that no output depends on any more (a folded or dropped path): their
 * gradient is zero. */
static status list_unwritten(plan *p) {
  const graph *g = p->graph;
  status st = mem_new(&p->unwritten, (size_t)g->n_values, sizeof *p->unwritten);
  for (int i = 0; !st && i < g->n_values; i++)
    if (!p->values[i].has_gradient && g->values[i].offset >= 0)
      p->unwritten[p->n_unwritten++] = (range){g->values[i].offset, shape_count(&g->values[i].shape)};
  return st;
}

static status list_reverse(plan *p) {
  status st = mem_new(&p->reverse, (size_t)p->n_steps, sizeof *p->reverse);
  for (int i = p->n_steps - 1; !st && i >= 0; i--)
    if (step_is_differentiated(&p->steps[i]) && p->steps[i].op->backward)
      p->reverse[p->n_reverse++] = &p->steps[i];
  return st;
}

/* Looks from the last step back: what it writes is not final before it. */
static status find_final(plan *p) {
  status st = mem_new(&p->final_from, (size_t)p->n_reverse, sizeof *p->final_from);
  int64_t from = 0;
  for (int i = p->n_reverse - 1; !st && i >= 0; i--) {
    const step *s = p->reverse[i];
    p->final_from[i] = from;
    for (int j = 0; j < s->n_in; j++) {
      const value *v = s->din[j] ? &p->graph->values[s->node->inputs[j]] : NULL;
      if (v && v->offset >= 0 && v->offset + shape_count(&v->shape) > from)
        from = v->offset + shape_count(&v->shape);
    }
  }
  return st;
}

status plan_gradient(plan *p) {
  status st = STATUS_OK;
  if (!p->options.training) return STATUS_OK;
  mark_trainable(p);
  mark_frozen(p);
  for (int i = 0; i < p->graph->n_values; i++)
    if (p->values[i].held && p->values[i].trainable) make_gradient(&p->values[i]);
  for (int i = p->n_steps - 1; i >= 0; i--) TRY(link_step(p, &p->steps[i]));
  TRY(check_backward(p));
  TRY(list_unwritten(p));
  TRY(list_reverse(p));
  TRY(find_final(p));
done:
  return st;
}
