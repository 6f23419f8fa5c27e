/* Which tensors share storage, how long each piece of storage is needed, and where it lies.
 *
 * Time runs over one batch: forward of step i is time i, the caller writes the gradients of outputs at time
 * n, backward of step i is time 2n - i, and all is over at 2n + 1. */
#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

typedef enum place {
  NOWHERE = 0, /* absent, or fixed data with its own address */
  IN_ARENA,
  IN_BLOCK /* the parameter block; for gradients the gradient block */
} place;

/* A piece of storage. Those that share are a tree; what its root says holds for all. */
typedef struct span {
  int parent;
  place place;
  size_t bytes;
  int first, last;
  size_t offset; /* IN_BLOCK: of the caller's block, in bytes; IN_ARENA: of the arena */
} span;

typedef struct layout {
  plan *p;
  span *spans; /* data of all values, gradients of all values, saved of all steps, scratch */
  int n_spans;
} layout;

static int data_span(int v) {
  return v;
}

static int gradient_span(const layout *l, int v) {
  return l->p->graph->n_values + v;
}

static int saved_span(const layout *l, int i) {
  return 2 * l->p->graph->n_values + i;
}

static int scratch_span(const layout *l) {
  return l->n_spans - 1;
}

static int backward_time(const layout *l, int i) {
  return 2 * l->p->n_steps - i;
}

static int end_time(const layout *l) {
  return 2 * l->p->n_steps + 1;
}

static span *root(const layout *l, int at) {
  span *s = l->spans;
  while (s[at].parent != at) at = s[at].parent = s[s[at].parent].parent;
  return &s[at];
}

static void need_at(const layout *l, int at, int time) {
  span *s = root(l, at);
  if (time < s->first) s->first = time;
  if (time > s->last) s->last = time;
}

static void join(const layout *l, int into, int from) {
  span *a = root(l, into), *b = root(l, from);
  b->parent = a->parent;
  if (b->first < a->first) a->first = b->first;
  if (b->last > a->last) a->last = b->last;
}

static void create_span(const layout *l, int at, place where, size_t bytes, int time) {
  l->spans[at] = (span){.parent = at, .place = where, .bytes = bytes, .first = time, .last = time};
}

static void create_data(const layout *l, int v, int time) {
  create_span(l, data_span(v), l->p->values[v].known ? NOWHERE : IN_ARENA,
              tensor_bytes(&l->p->values[v].data), time);
}

/* Spans of everything the plan reads or writes, each with the time it is written first. */
static void create_spans(const layout *l) {
  const plan *p = l->p;
  const graph *g = p->graph;
  for (int i = 0; i < l->n_spans; i++) l->spans[i].parent = i;
  for (int v = 0; v < g->n_values; v++) {
    if (g->values[v].kind != VALUE_PARAMETER && g->values[v].kind != VALUE_STATISTIC) continue;
    create_span(l, data_span(v), IN_BLOCK, tensor_bytes(&p->values[v].data), -1);
    l->spans[v].offset = (size_t)g->values[v].offset * sizeof(float);
    if (!p->values[v].has_gradient) continue;
    l->spans[gradient_span(l, v)] = l->spans[v];
    l->spans[gradient_span(l, v)].parent = gradient_span(l, v);
  }
  for (int i = 0; i < g->n_inputs; i++) {
    create_data(l, g->inputs[i], -1);
    need_at(l, data_span(g->inputs[i]), end_time(l));
  }
  for (int i = 0; i < p->n_steps; i++)
    for (int j = 0; j < p->steps[i].n_out; j++)
      if (p->steps[i].out[j]) create_data(l, p->steps[i].node->outputs[j], i);
  for (int v = 0; v < g->n_values; v++)
    if (p->values[v].has_gradient && l->spans[v].place == IN_ARENA)
      create_span(l, gradient_span(l, v), IN_ARENA, l->spans[v].bytes, p->n_steps);
  for (int i = 0; i < p->n_steps; i++) create_span(l, saved_span(l, i), IN_ARENA, p->steps[i].saved_bytes, i);
}

static bool same_size(const tensor *a, const tensor *b) {
  return a->type == b->type && tensor_bytes(a) == tensor_bytes(b);
}

/* A view is its input's storage. Its gradient is that of its input when nobody else writes there. */
static void join_views(const layout *l) {
  const plan *p = l->p;
  for (int i = 0; i < p->n_steps; i++) {
    const step *s = &p->steps[i];
    if (!(s->op->flags & OP_VIEW) || !s->in[0] || !s->out[0] || !same_size(s->in[0], s->out[0])) continue;
    int in = s->node->inputs[0], out = s->node->outputs[0];
    if (root(l, data_span(in))->place == NOWHERE || root(l, data_span(out))->place == NOWHERE) continue;
    join(l, data_span(in), data_span(out));
    if (s->din[0] && s->dout[0] && p->values[in].n_uses == 1 && !p->values[in].held)
      join(l, gradient_span(l, in), gradient_span(l, out));
  }
}

static void need_forward(const layout *l, int i) {
  const step *s = &l->p->steps[i];
  for (int j = 0; j < s->n_in; j++)
    if (s->in[j]) need_at(l, data_span(s->node->inputs[j]), i);
  for (int j = 0; j < s->n_out; j++)
    if (s->out[j]) need_at(l, data_span(s->node->outputs[j]), i);
}

static bool is_kept(const op *op, int input) {
  return (op->keeps & KEEP_IN_ALL) == KEEP_IN_ALL || (input < 16 && op->keeps >> input & 1);
}

static void need_backward(const layout *l, int i) {
  const step *s = &l->p->steps[i];
  int now = backward_time(l, i);
  for (int j = 0; j < s->n_in; j++) {
    if (s->in[j] && is_kept(s->op, j)) need_at(l, data_span(s->node->inputs[j]), now);
    if (s->din[j]) need_at(l, gradient_span(l, s->node->inputs[j]), now);
  }
  for (int j = 0; j < s->n_out; j++) {
    if (s->out[j] && j < 2 && s->op->keeps >> (16 + j) & 1) need_at(l, data_span(s->node->outputs[j]), now);
    if (s->dout[j]) need_at(l, gradient_span(l, s->node->outputs[j]), now);
  }
  need_at(l, saved_span(l, i), now);
}

/* The first writer of a gradient that no caller fills is the start of its life, not time n. */
static void start_gradients(const layout *l) {
  const plan *p = l->p;
  for (int v = 0; v < p->graph->n_values; v++)
    if (p->values[v].has_gradient && !p->values[v].held) {
      span *s = root(l, gradient_span(l, v));
      s->first = end_time(l);
      s->last = -1;
    }
  for (int v = 0; v < p->graph->n_values; v++)
    if (p->values[v].has_gradient && p->values[v].held) need_at(l, gradient_span(l, v), p->n_steps);
}

static void find_lifetimes(const layout *l) {
  const plan *p = l->p;
  const graph *g = p->graph;
  start_gradients(l);
  for (int i = 0; i < p->n_steps; i++) need_forward(l, i);
  for (int i = 0; i < p->n_steps; i++)
    if (step_is_differentiated(&p->steps[i])) need_backward(l, i);
  for (int v = 0; v < g->n_values; v++)
    if (p->values[v].held) need_at(l, data_span(v), end_time(l));
  for (int i = 0; i < g->n_inputs; i++)
    if (p->values[g->inputs[i]].has_gradient) need_at(l, gradient_span(l, g->inputs[i]), end_time(l));
}

/* Whether `to`, born at `time`, may take over the storage of `from`, which nobody needs later. */
static bool can_take_over(const layout *l, int to, int from, int time) {
  const span *a = root(l, from), *b = root(l, to);
  return a != b && a->place == IN_ARENA && b->place == IN_ARENA && a->bytes == b->bytes && a->last == time &&
         b->first == time;
}

static void join_forward(const layout *l, int i) {
  const step *s = &l->p->steps[i];
  const int from = s->overwrites ? s->overwrites - 1 : s->op->flags & OP_IN_PLACE ? 0 : -1;
  if (from < 0 || from >= s->n_in || !s->in[from] || !s->n_out || !s->out[0]) return;
  int in = data_span(s->node->inputs[from]), out = data_span(s->node->outputs[0]);
  if (s->in[from]->type != s->out[0]->type || !can_take_over(l, out, in, i)) return;
  for (int j = 0; j < s->n_in; j++)
    if (j != from && s->in[j] && root(l, data_span(s->node->inputs[j])) == root(l, in)) return;
  join(l, in, out);
}

/* Without OP_ANY_IN_PLACE only where din[0] is all that is asked for: the operator may read dout[0] again. A
 * gradient that holds a part already was born earlier, so it takes over nothing. */
static bool may_take_over(const step *s, int input) {
  const bool any = s->op->flags & OP_ANY_IN_PLACE;
  if (!s->din[input] || (input && !any)) return false;
  for (int j = 0; j < s->n_in; j++)
    if (j != input && s->din[j] && (!any || s->din[j] == s->din[input])) return false;
  return true;
}

static void join_backward(const layout *l, int i) {
  const step *s = &l->p->steps[i];
  if (!(s->op->flags & OP_IN_PLACE) || !s->n_in || !s->dout[0]) return;
  const int out = gradient_span(l, s->node->outputs[0]);
  for (int j = 0; j < s->n_in; j++) {
    if (!may_take_over(s, j)) continue;
    const int in = gradient_span(l, s->node->inputs[j]);
    if (!can_take_over(l, in, out, backward_time(l, i))) continue;
    join(l, out, in);
    return;
  }
}

static void join_in_place(const layout *l) {
  for (int i = 0; i < l->p->n_steps; i++) join_forward(l, i);
  for (int i = l->p->n_steps - 1; i >= 0; i--) join_backward(l, i);
}

static void create_scratch(const layout *l) {
  size_t bytes = 0;
  for (int i = 0; i < l->p->n_steps; i++)
    if (l->p->steps[i].scratch_bytes > bytes) bytes = l->p->steps[i].scratch_bytes;
  create_span(l, scratch_span(l), IN_ARENA, bytes, 0);
  need_at(l, scratch_span(l), end_time(l));
}

static bool needs_place(const layout *l, int at) {
  return l->spans[at].parent == at && l->spans[at].place == IN_ARENA && l->spans[at].bytes;
}

/* Offsets for all roots in the arena; those without bytes stay at 0. */
static status place_spans(const layout *l) {
  status st = STATUS_OK;
  interval *items = NULL;
  int n = 0;
  TRY(mem_new(&items, (size_t)l->n_spans, sizeof *items));
  for (int i = 0; i < l->n_spans; i++) {
    if (!needs_place(l, i)) continue;
    items[n].bytes = l->spans[i].bytes;
    items[n].first = l->p->options.separate ? 0 : l->spans[i].first;
    items[n++].last = l->p->options.separate ? 0 : l->spans[i].last;
  }
  TRY(layout_place(items, n, &l->p->arena_bytes));
  n = 0;
  for (int i = 0; i < l->n_spans; i++)
    if (needs_place(l, i)) l->spans[i].offset = items[n++].offset;
done:
  mem_free(items);
  return st;
}

static void bind(const layout *l, int at, void **pointer, bindings *block) {
  const span *s = root(l, at);
  if (s->place == NOWHERE) return;
  bindings *b = s->place == IN_BLOCK ? block : &l->p->in_arena;
  b->items[b->n++] = (binding){pointer, s->offset};
}

static status create_bindings(const layout *l) {
  plan *p = l->p;
  status st = STATUS_OK;
  size_t n = (size_t)p->graph->n_values;
  TRY(mem_new(&p->in_arena.items, 2 * n + 2 * (size_t)p->n_steps, sizeof(binding)));
  TRY(mem_new(&p->in_block.items, n, sizeof(binding)));
  TRY(mem_new(&p->in_gradients.items, n, sizeof(binding)));
  for (int v = 0; v < p->graph->n_values; v++) {
    bind(l, data_span(v), &p->values[v].data.data, &p->in_block);
    if (p->values[v].has_gradient)
      bind(l, gradient_span(l, v), &p->values[v].gradient.data, &p->in_gradients);
  }
  for (int i = 0; i < p->n_steps; i++) {
    if (p->steps[i].saved_bytes) bind(l, saved_span(l, i), &p->steps[i].saved, NULL);
    if (p->steps[i].scratch_bytes) bind(l, scratch_span(l), &p->steps[i].scratch, NULL);
  }
done:
  return st;
}

status plan_memory(plan *p) {
  status st = STATUS_OK;
  layout l = {.p = p, .n_spans = 2 * p->graph->n_values + p->n_steps + 1};
  TRY(mem_new(&l.spans, (size_t)l.n_spans, sizeof *l.spans));
  create_spans(&l);
  if (!p->options.separate) join_views(&l);
  find_lifetimes(&l);
  if (!p->options.separate) join_in_place(&l);
  create_scratch(&l);
  TRY(place_spans(&l));
  TRY(create_bindings(&l));
done:
  mem_free(l.spans);
  return st;
}
