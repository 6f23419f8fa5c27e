/* Fewer steps for the same: chains that are another operator written out become that operator, and what
 * follows a product is done by the product. Only values that nobody else reads and nobody asked for
 * disappear. */
#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

enum { MERGED_INPUTS = 12, MERGED_FOLLOWERS = 3 };

/* A step whose node is not in the graph. */
struct merged_step {
  node node;
  int inputs[MERGED_INPUTS];
  tensor *in[MERGED_INPUTS], *din[MERGED_INPUTS];
  bool accumulate[MERGED_INPUTS], constant[MERGED_INPUTS];
  attribute attributes[SHORT_ATTRIBUTES];
  int64_t ints[SHORT_INTS];
  step followers[MERGED_FOLLOWERS];
};

/* The step whose output 0 is v. */
static step *maker_of(const plan *p, int v) {
  step *s = v >= 0 && p->makers[v] >= 0 ? &p->steps[p->makers[v]] : NULL;
  return s && s->node->outputs[0] == v ? s : NULL;
}

/* The same, when one reader is all that needs v. */
static step *lone_maker_of(const plan *p, int v) {
  step *s = maker_of(p, v);
  return s && p->values[v].n_uses == 1 && !p->values[v].held ? s : NULL;
}

static const step *maker_for_op(const void *plan, int v, bool alone) {
  return alone ? lone_maker_of(plan, v) : maker_of(plan, v);
}

static void find_makers(plan *p) {
  for (int v = 0; v < p->graph->n_values; v++) p->makers[v] = -1;
  for (int i = p->n_settled; i < p->n_steps; i++)
    for (int j = 0; j < p->steps[i].n_out; j++)
      if (p->steps[i].out[j]) p->makers[p->steps[i].node->outputs[j]] = i;
}

/* s gets the inputs of m. */
static void adopt(plan *p, step *s, merged_step *m, int n) {
  m->node.inputs = m->inputs;
  m->node.n_inputs = s->n_in = n;
  for (int i = 0; i < n; i++) {
    const int v = m->inputs[i];
    m->in[i] = v >= 0 ? &p->values[v].data : NULL;
    m->constant[i] = v >= 0 && p->values[v].known;
  }
  s->node = &m->node;
  s->in = m->in;
  s->din = m->din;
  s->accumulate = m->accumulate;
  s->constant = m->constant;
}

static void shorten(plan *p, step *s) {
  short_form form = {0};
  if (!s->op->shorten || !s->op->shorten(s, maker_for_op, p, &form)) return;
  if (form.like_input && !shape_equal(&p->values[form.inputs[0]].data.shape, &s->out[0]->shape)) return;
  merged_step *m = &p->merged[p->n_merged++];
  m->node = *s->node;
  m->node.op = s->op = form.op;
  m->node.opset = form.op->since;
  memcpy(m->attributes, form.attributes, sizeof m->attributes);
  memcpy(m->ints, form.ints, sizeof m->ints);
  m->node.attributes = m->attributes;
  m->node.n_attributes = form.n_attributes;
  for (int i = 0; i < form.n_attributes; i++)
    if (m->attributes[i].type == ATTRIBUTE_INTS) m->attributes[i].ints = m->ints;
  memcpy(m->inputs, form.inputs, sizeof form.inputs);
  adopt(p, s, m, form.n_inputs);
}

/* What next does, which reads f's output as its input `input`, is done by f in its place. */
static void absorb(plan *p, step *f, step *next, int input) {
  merged_step *m = &p->merged[p->n_merged++];
  int n = 0;
  m->node = *f->node;
  m->node.outputs = next->node->outputs;
  m->node.n_outputs = 1;
  for (int j = 0; j < f->n_in; j++) m->inputs[n++] = f->node->inputs[j];
  for (int j = 0; j < next->n_in; j++)
    if (j != input) m->inputs[n++] = next->node->inputs[j];
  for (int k = 0; k < f->n_followers; k++) m->followers[k] = f->followers[k];
  m->followers[f->n_followers] = *next;
  tensor **to = next->out, **dto = next->dout;
  *next = *f;
  next->out = to;
  next->dout = dto;
  next->n_out = 1;
  next->followers = m->followers;
  next->n_followers = f->n_followers + 1;
  adopt(p, next, m, n);
  f->op = NULL;
}

static void absorb_into_maker(plan *p, step *s) {
  for (int j = 0; j < s->n_in; j++) {
    step *f = lone_maker_of(p, s->node->inputs[j]);
    if (!f || !f->op->absorb || f->n_followers == MERGED_FOLLOWERS || f->n_in + s->n_in - 1 > MERGED_INPUTS ||
        !f->op->absorb(f, s, j))
      continue;
    absorb(p, f, s, j);
    return;
  }
}

static void drop_absorbed(plan *p) {
  int kept = 0;
  for (int i = 0; i < p->n_steps; i++)
    if (p->steps[i].op) p->steps[kept++] = p->steps[i];
  p->n_steps = kept;
}

status plan_shorten(plan *p) {
  status st = STATUS_OK;
  if (p->options.reference) return STATUS_OK;
  TRY(mem_new(&p->makers, (size_t)p->graph->n_values, sizeof *p->makers));
  TRY(mem_new(&p->merged, 2 * (size_t)p->n_steps, sizeof *p->merged));
  find_makers(p);
  for (int i = 0; i < p->n_steps; i++) shorten(p, &p->steps[i]);
done:
  return st;
}

void plan_absorb(plan *p) {
  if (p->options.reference || p->options.training) return;
  find_makers(p);
  for (int i = p->n_settled; i < p->n_steps; i++) absorb_into_maker(p, &p->steps[i]);
  drop_absorbed(p);
}
