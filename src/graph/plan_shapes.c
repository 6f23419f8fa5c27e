#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

/* The shape of input i in this plan. */
static status input_shape(const plan *p, int i, shape *out) {
  const value *v = &p->graph->values[p->graph->inputs[i]];
  *out = v->shape;
  if (p->options.input_shapes) {
    const shape *given = &p->options.input_shapes[i];
    char a[128], b[128];
    bool fits = given->rank == v->shape.rank && shape_count(given) >= 0;
    for (int d = 1; fits && d < given->rank; d++)
      fits = v->shape.dims[d] < 0 || v->shape.dims[d] == given->dims[d];
    if (!fits)
      return status_set(STATUS_BAD_INPUT, "input '%s': shape %s was given, the model declares %s", v->name,
                        shape_text(given, a, sizeof a), shape_text(&v->shape, b, sizeof b));
    *out = *given;
    return STATUS_OK;
  }
  if (out->rank) out->dims[0] = p->options.rows;
  for (int d = 1; d < out->rank; d++)
    if (out->dims[d] < 0)
      return status_set(STATUS_BAD_INPUT,
                        "input '%s': dimension %d is not fixed by the model and must be given", v->name, d);
  return STATUS_OK;
}

/* An input that is declared for another number of rows than this plan has, NULL if there is none. */
static const value *fixed_batch(const plan *p) {
  for (int i = 0; !p->options.input_shapes && i < p->graph->n_inputs; i++) {
    const value *v = &p->graph->values[p->graph->inputs[i]];
    if (v->shape.rank && v->shape.dims[0] > 0 && v->shape.dims[0] != p->options.rows) return v;
  }
  return NULL;
}

static void explain_fixed_batch(const plan *p) {
  const value *v = fixed_batch(p);
  if (!v) return;
  status_add_line(
      "the model was exported with a fixed batch of %lld for input '%s' and %lld rows were asked for: "
      "export it with a dynamic first dimension",
      (long long)v->shape.dims[0], v->name, (long long)p->options.rows);
}

static status create_values(plan *p) {
  const graph *g = p->graph;
  status st = STATUS_OK;
  TRY(mem_new(&p->values, (size_t)g->n_values, sizeof *p->values));
  for (int i = 0; i < g->n_values; i++) {
    const value *v = &g->values[i];
    if (!v->constant) continue;
    p->values[i].data = *v->constant;
    p->model_bytes += tensor_bytes(v->constant);
    p->values[i].known = v->kind == VALUE_CONSTANT;
    if (!p->values[i].known) p->values[i].data.data = NULL;
  }
  for (int i = 0; i < g->n_inputs; i++) {
    plan_value *v = &p->values[g->inputs[i]];
    v->data.type = g->values[g->inputs[i]].type;
    TRY(input_shape(p, i, &v->data.shape));
  }
  for (int i = 0; i < g->n_outputs; i++) p->values[g->outputs[i]].held = true;
  for (int i = 0; i < p->options.n_taps; i++) {
    int v = p->options.taps[i];
    if (v < 0 || v >= g->n_values) THROW(STATUS_FAILED, "tap %d names value %d of %d", i, v, g->n_values);
    if (g->values[v].kind == VALUE_COMPUTED && g->values[v].producer < 0)
      THROW(STATUS_BAD_INPUT, "value '%s' cannot be tapped: no output of the model depends on it",
            g->values[v].name);
    p->values[v].held = true;
  }
done:
  return st;
}

/* Cuts the next n pointers from the pool. */
static void *cut(void ***pool, int n) {
  void **from = *pool;
  *pool += n;
  return from;
}

static void create_step(plan *p, int index, void ***pool, bool **flags) {
  const node *n = &p->graph->nodes[index];
  step *s = &p->steps[index];
  *s = (step){.op = n->op,
              .node = n,
              .graph = p->graph,
              .index = index,
              .n_in = n->n_inputs,
              .n_out = n->n_outputs,
              .rows = p->options.rows,
              .reference = p->options.reference,
              .training = p->options.training,
              .invalid = &p->invalid};
  s->in = cut(pool, s->n_in);
  s->din = cut(pool, s->n_in);
  s->out = cut(pool, s->n_out);
  s->dout = cut(pool, s->n_out);
  s->accumulate = *flags;
  s->constant = *flags + s->n_in;
  *flags += 2 * s->n_in;
  for (int i = 0; i < s->n_in; i++)
    if (n->inputs[i] >= 0) s->in[i] = &p->values[n->inputs[i]].data;
  for (int i = 0; i < s->n_out; i++) {
    int v = n->outputs[i];
    if (v >= 0 && (i == 0 || p->graph->values[v].n_uses || p->values[v].held)) s->out[i] = &p->values[v].data;
  }
}

static status create_steps(plan *p) {
  const graph *g = p->graph;
  status st = STATUS_OK;
  size_t n_pointers = 0, n_flags = 0;
  for (int i = 0; i < g->n_nodes; i++) {
    n_pointers += 2 * (size_t)(g->nodes[i].n_inputs + g->nodes[i].n_outputs);
    n_flags += 2 * (size_t)g->nodes[i].n_inputs;
  }
  TRY(mem_new(&p->pointers, n_pointers, sizeof *p->pointers));
  TRY(mem_new(&p->flags, n_flags, sizeof *p->flags));
  TRY(mem_new(&p->steps, (size_t)g->n_nodes, sizeof *p->steps));
  void **pool = p->pointers;
  bool *flags = p->flags;
  for (int i = 0; i < g->n_nodes; i++) create_step(p, i, &pool, &flags);
done:
  return st;
}

/* What is the same in every batch may take LASTING_TIMES what the model has itself (float16 turned into
 * float32, then transposed) and LASTING_MORE bytes (masks and positions made of nothing): a small file whose
 * constants grow from node to node must not fill the memory. */
enum { LASTING_TIMES = 16, LASTING_MORE = 1 << 30 };

static status charge_lasting(plan *p, const step *s, int output) {
  size_t bytes;
  if (__builtin_add_overflow(p->lasting_bytes, tensor_bytes(s->out[output]), &bytes)) bytes = SIZE_MAX;
  if (bytes > LASTING_MORE && (bytes - LASTING_MORE) / LASTING_TIMES > p->model_bytes)
    return step_error(
        s,
        "its output '%s' does not depend on the input, and all such outputs up to here would take "
        "%.1f GiB, where the model has %.3g MiB of numbers",
        p->graph->values[s->node->outputs[output]].name, (double)bytes / (1 << 30),
        (double)p->model_bytes / (1 << 20));
  p->lasting_bytes = bytes;
  return STATUS_OK;
}

/* Gives the outputs of a step memory that no batch overwrites. */
static status own_outputs(plan *p, const step *s) {
  status st = STATUS_OK;
  for (int i = 0; i < s->n_out; i++) {
    plan_value *v = s->out[i] ? &p->values[s->node->outputs[i]] : NULL;
    if (!v || v->known) continue;
    TRY(charge_lasting(p, s, i));
    TRY(mem_new(&v->data.data, tensor_bytes(&v->data), 1));
    v->known = v->owned = true;
  }
done:
  return st;
}

/* Runs a step whose inputs are all known, now and once. */
static status fold(plan *p, step *s) {
  status st = STATUS_OK;
  bool prepared = false;
  run_context run = {0};
  s->training = false;
  s->run = &run;
  TRY(own_outputs(p, s));
  prepared = true;
  if (s->op->prepare) TRY(s->op->prepare(s));
  TRY(mem_new(&s->scratch, s->scratch_bytes, 1));
  TRY(mem_new(&s->saved, s->saved_bytes, 1));
  if (s->op->load) s->op->load(s);
  if (!step_is_empty(s)) TRY(s->op->forward(s));
done:
  if (prepared && s->op->release) s->op->release(s);
  mem_free(s->scratch);
  mem_free(s->saved);
  s->scratch = s->saved = NULL;
  s->run = NULL;
  return st;
}

/* Takes over the data that infer delivered. Returns whether nothing is left to compute. */
static bool adopt_outputs(plan *p, const step *s) {
  bool all_known = true;
  for (int i = 0; i < s->n_out; i++) {
    if (!s->out[i]) continue;
    plan_value *v = &p->values[s->node->outputs[i]];
    if (v->data.data) v->known = v->owned = true;
    all_known &= v->known;
  }
  return all_known;
}

static status check_outputs(const plan *p, const step *s) {
  for (int i = 0; i < s->n_out; i++)
    if (s->out[i] && (s->out[i]->type == DTYPE_NONE || shape_count(&s->out[i]->shape) < 0))
      return step_error(s, "the shape of its output '%s' cannot be told",
                        p->graph->values[s->node->outputs[i]].name);
  return STATUS_OK;
}

static status infer(plan *p, step *s) {
  status st = STATUS_OK;
  bool foldable = !(s->op->flags & OP_RANDOM);
  for (int i = 0; i < s->n_in; i++) {
    s->constant[i] = s->in[i] && p->values[s->node->inputs[i]].known;
    foldable &= !s->in[i] || s->constant[i];
  }
  st = s->op->infer(s);
  bool all_known = adopt_outputs(p, s); /* also after a failure: what infer made is to be freed */
  TRY(st);
  TRY(check_outputs(p, s));
  if (!all_known && foldable) TRY(fold(p, s));
done:
  return st;
}

static bool is_wanted(const plan *p, const step *s, int i) {
  if (!s->out[i]) return false;
  const plan_value *v = &p->values[s->node->outputs[i]];
  return !v->known && (v->n_uses || v->held);
}

/* Leaves out steps whose results are known or, now that others are, not needed any more. */
static void drop_steps(plan *p) {
  int n = p->n_steps, kept = n;
  for (int i = 0; i < p->graph->n_values; i++) p->values[i].n_uses = 0;
  for (int i = n - 1; i >= 0; i--) {
    step *s = &p->steps[i];
    bool live = false;
    for (int j = 0; j < s->n_out; j++) live |= is_wanted(p, s, j);
    if (!live) continue;
    for (int j = 1; j < s->n_out; j++)
      if (!is_wanted(p, s, j)) s->out[j] = NULL;
    for (int j = 0; j < s->n_in; j++)
      if (s->in[j]) p->values[s->node->inputs[j]].n_uses++;
    p->steps[--kept] = *s;
  }
  for (int i = kept; i < n; i++) p->steps[i - kept] = p->steps[i];
  p->n_steps = n - kept;
}

/* Gives back constants that only other constants were computed from. */
static void free_constants(plan *p) {
  for (int i = 0; i < p->graph->n_values; i++) {
    plan_value *v = &p->values[i];
    if (!v->owned || v->n_uses || v->held) continue;
    mem_free(v->data.data);
    v->data.data = NULL;
    v->owned = false;
  }
}

static bool depends_on_batch(const plan *p, const step *s) {
  if (s->op->flags & OP_RANDOM) return true;
  for (int i = 0; i < s->n_in; i++) {
    int v = s->node->inputs[i];
    if (v < 0 || p->values[v].known) continue;
    if (plan_kind(p, v) != VALUE_PARAMETER && plan_kind(p, v) != VALUE_STATISTIC) return true;
  }
  return false;
}

/* Puts the steps that depend on parameters alone (a transposed weight) first: they run when parameters
 * change. */
static status settle_steps(plan *p) {
  status st = STATUS_OK;
  step *sorted = NULL;
  TRY(mem_new(&sorted, (size_t)p->n_steps, sizeof *sorted));
  for (int i = 0; i < p->n_steps; i++) {
    if (depends_on_batch(p, &p->steps[i])) continue;
    TRY(own_outputs(p, &p->steps[i]));
    sorted[p->n_settled++] = p->steps[i];
  }
  for (int i = 0, n = p->n_settled; i < p->n_steps; i++)
    if (depends_on_batch(p, &p->steps[i])) sorted[n++] = p->steps[i];
  memcpy(p->steps, sorted, (size_t)p->n_steps * sizeof *sorted);
done:
  mem_free(sorted);
  return st;
}

/* A model with a fixed batch may run through and still give other rows than it was asked for. */
static status check_rows(const plan *p) {
  if (!fixed_batch(p)) return STATUS_OK;
  for (int i = 0; i < p->graph->n_outputs; i++) {
    const shape *s = &p->values[p->graph->outputs[i]].data.shape;
    if (s->rank && s->dims[0] == p->options.rows) continue;
    char text[128];
    status st = status_set(STATUS_BAD_INPUT, "output '%s' has shape %s, expected %lld rows",
                           p->graph->values[p->graph->outputs[i]].name, shape_text(s, text, sizeof text),
                           (long long)p->options.rows);
    explain_fixed_batch(p);
    return st;
  }
  return STATUS_OK;
}

status plan_shapes(plan *p) {
  status st = STATUS_OK;
  if (p->options.rows < 1) THROW(STATUS_FAILED, "a plan needs at least one row");
  TRY(create_values(p));
  TRY(create_steps(p));
  for (int i = 0; i < p->graph->n_nodes; i++) {
    if ((st = infer(p, &p->steps[i])) == STATUS_BAD_INPUT) explain_fixed_batch(p);
    TRY(st);
  }
  p->n_steps = p->graph->n_nodes;
  drop_steps(p);
  TRY(plan_shorten(p));
  drop_steps(p);
  free_constants(p);
  if (!p->options.training) TRY(settle_steps(p));
  plan_absorb(p);
  TRY(check_rows(p));
done:
  return st;
}
