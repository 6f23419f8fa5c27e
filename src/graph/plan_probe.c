/* Values that are known before the graph is finished: conditions that choose which part of a model becomes
 * part of it. What a value depends on, borrowed, is planned as a graph of its own: in time and memory that do
 * not grow with the rest of the graph, as a loop asks in each of its turns. */
#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

typedef struct slot {
  int64_t key; /* a value of the whole graph, or n_values + a node; -1: free */
  int held;    /* the part's value; of a node whether it is in the part */
} slot;

enum { OPEN = 0, PLACED = 1, FIRST = 16 };

typedef struct part {
  const graph *whole;
  graph g;         /* attributes, names and constants are the whole's */
  slot *slots;     /* open addressing */
  size_t n_slots;  /* a power of two */
  size_t n_taken;  /* at most half of them */
  int *stack;      /* nodes of the whole graph */
  size_t room;     /* of stack */
  int room_values; /* of g.values */
  int room_nodes;
} part;

static slot *find(const part *p, int64_t key) {
  size_t at = ((uint64_t)key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (p->n_slots - 1);
  while (p->slots[at].key >= 0 && p->slots[at].key != key) at = (at + 1) & (p->n_slots - 1);
  return &p->slots[at];
}

static status make_slots(part *p, size_t n) {
  slot *old = p->slots;
  size_t n_old = p->n_slots;
  status st = mem_new(&p->slots, n, sizeof *p->slots);
  if (st) {
    p->slots = old;
    return st;
  }
  p->n_slots = n;
  for (size_t i = 0; i < n; i++) p->slots[i].key = -1;
  for (size_t i = 0; i < n_old; i++)
    if (old[i].key >= 0) *find(p, old[i].key) = old[i];
  mem_free(old);
  return STATUS_OK;
}

static status take(part *p, int64_t key, int held) {
  if (2 * (p->n_taken + 1) > p->n_slots) {
    status st = make_slots(p, 2 * p->n_slots);
    if (st) return st;
  }
  *find(p, key) = (slot){key, held};
  p->n_taken++;
  return STATUS_OK;
}

/* The part's index of a value of the whole graph. */
static status index_of(part *p, int value, int *out) {
  status st = STATUS_OK;
  const slot *known = find(p, value);
  *out = known->held;
  if (known->key >= 0) return STATUS_OK;
  if (p->g.n_values == p->room_values) {
    TRY(mem_resize(&p->g.values, (size_t)p->room_values, 2 * (size_t)p->room_values, sizeof *p->g.values));
    p->room_values *= 2;
  }
  *out = p->g.n_values;
  p->g.values[*out] = p->whole->values[value];
  p->g.values[*out].n_uses = 0;
  p->g.n_values++;
  TRY(take(p, value, *out));
done:
  return st;
}

static status map_values(part *p, const int *from, int n, int **to) {
  status st = STATUS_OK;
  TRY(mem_new(to, (size_t)n, sizeof **to));
  for (int i = 0; i < n; i++) {
    (*to)[i] = -1;
    if (from[i] >= 0) TRY(index_of(p, from[i], &(*to)[i]));
  }
done:
  return st;
}

static status place(part *p, int index) {
  status st = STATUS_OK;
  if (p->g.n_nodes == p->room_nodes) {
    TRY(mem_resize(&p->g.nodes, (size_t)p->room_nodes, 2 * (size_t)p->room_nodes, sizeof *p->g.nodes));
    p->room_nodes *= 2;
  }
  node *n = &p->g.nodes[p->g.n_nodes];
  const node *from = &p->whole->nodes[index];
  *n = *from;
  n->inputs = n->outputs = NULL;
  p->g.n_nodes++;
  TRY(map_values(p, from->inputs, from->n_inputs, &n->inputs));
  TRY(map_values(p, from->outputs, from->n_outputs, &n->outputs));
  for (int i = 0; i < n->n_inputs; i++)
    if (n->inputs[i] >= 0) p->g.values[n->inputs[i]].n_uses++;
  for (int i = 0; i < n->n_outputs; i++)
    if (n->outputs[i] >= 0) p->g.values[n->outputs[i]].producer = p->g.n_nodes - 1;
  find(p, (int64_t)p->whole->n_values + index)->held = PLACED;
done:
  return st;
}

/* Puts on the stack what gives a value, unless that is in the part. */
static status want(part *p, int value, size_t *n) {
  const value_kind kind = p->whole->values[value].kind;
  const int producer = p->whole->values[value].producer;
  if (kind != VALUE_COMPUTED) return STATUS_OK;
  if (producer < 0)
    return status_set(STATUS_BAD_INPUT, "value '%s' is needed but neither given nor computed",
                      p->whole->values[value].name);
  const slot *known = find(p, (int64_t)p->whole->n_values + producer);
  if (known->key >= 0 && known->held == PLACED) return STATUS_OK;
  if (known->key >= 0)
    return status_set(STATUS_BAD_INPUT, "value '%s' depends on itself", p->whole->values[value].name);
  if (*n == p->room) {
    status st = mem_resize(&p->stack, p->room, 2 * p->room, sizeof *p->stack);
    if (st) return st;
    p->room *= 2;
  }
  p->stack[(*n)++] = producer;
  return STATUS_OK;
}

/* Producers first: a node stays on the stack, open, until what it reads is placed. */
static status collect(part *p, int value) {
  status st = STATUS_OK;
  size_t n = 0;
  TRY(want(p, value, &n));
  while (n) {
    const int at = p->stack[n - 1];
    const node *here = &p->whole->nodes[at];
    const int64_t key = (int64_t)p->whole->n_values + at;
    const slot *known = find(p, key);
    if (known->key >= 0) {
      if (known->held == OPEN) TRY(place(p, at));
      n--;
      continue;
    }
    TRY(take(p, key, OPEN));
    for (int i = 0; i < here->n_inputs; i++)
      if (here->inputs[i] >= 0) TRY(want(p, here->inputs[i], &n));
  }
done:
  return st;
}

static status part_make(part *p, const graph *whole, int value, int *output) {
  status st = STATUS_OK;
  *p = (part){.whole = whole, .room = FIRST, .room_values = FIRST, .room_nodes = FIRST};
  TRY(make_slots(p, 4 * FIRST));
  TRY(mem_new(&p->stack, FIRST, sizeof *p->stack));
  TRY(mem_new(&p->g.values, FIRST, sizeof *p->g.values));
  TRY(mem_new(&p->g.nodes, FIRST, sizeof *p->g.nodes));
  TRY(mem_new(&p->g.inputs, (size_t)whole->n_inputs, sizeof *p->g.inputs));
  TRY(collect(p, value));
  TRY(index_of(p, value, output));
  for (int i = 0; i < whole->n_inputs; i++) {
    const slot *known = find(p, whole->inputs[i]);
    if (known->key >= 0) p->g.inputs[p->g.n_inputs++] = known->held;
  }
  p->g.outputs = output;
  p->g.n_outputs = 1;
done:
  return st;
}

static void part_clear(part *p) {
  for (int i = 0; i < p->g.n_nodes; i++) {
    mem_free(p->g.nodes[i].inputs);
    mem_free(p->g.nodes[i].outputs);
  }
  mem_free(p->g.values);
  mem_free(p->g.nodes);
  mem_free(p->g.inputs);
  mem_free(p->slots);
  mem_free(p->stack);
}

static status copy_tensor(tensor **out, const tensor *from) {
  status st = tensor_new(out, from->type, &from->shape);
  if (!st && tensor_bytes(from)) memcpy((*out)->data, from->data, tensor_bytes(from));
  return st;
}

status plan_probe(const graph *g, int value, int64_t rows, tensor **out, probed *about) {
  status st = STATUS_OK;
  part of = {0};
  plan *p = NULL;
  int output;
  *out = NULL;
  *about = (probed){0};
  if (g->values[value].kind == VALUE_CONSTANT) return copy_tensor(out, g->values[value].constant);
  TRY(part_make(&of, g, value, &output));
  about->n_nodes = of.g.n_nodes;
  for (int i = 0; i < of.g.n_inputs; i++) {
    const shape *declared = &of.g.values[of.g.inputs[i]].shape;
    if (declared->rank && declared->dims[0] > 0) about->rows_fixed = declared->dims[0];
  }
  TRY(plan_new(&p, &of.g, &(plan_options){.rows = about->rows_fixed ? about->rows_fixed : rows}));
  if (p->values[output].known) TRY(copy_tensor(out, &p->values[output].data));
done:
  plan_free(&p);
  part_clear(&of);
  return st;
}
