/* From a bag of nodes to an ordered graph with its parameter block. */
#include "base/mem.h"
#include "graph/graph_private.h"

enum { BLOCK_ALIGNMENT = 16 }; /* floats: 64 bytes */

/* Where the depth-first walk stands in a node. */
typedef struct visit {
  int node, next_input;
} visit;

typedef enum mark { UNNEEDED = 0, NEEDED, OPEN, PLACED } mark;

/* The node that computes a value somebody needs, -1 when it is given. STATUS_BAD_INPUT when nothing computes
 * it. */
static status producer_of(const graph *g, int v, const char *reader, int *out) {
  *out = -1;
  if (v < 0 || g->values[v].kind != VALUE_COMPUTED) return STATUS_OK;
  *out = g->values[v].producer;
  if (*out >= 0) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "value '%s' is needed by %s%s%s but neither given nor computed",
                    g->values[v].name, reader ? "node '" : "the outputs", reader ? reader : "",
                    reader ? "'" : "");
}

static status need(const graph *g, int v, const char *reader, mark *marks, int *stack, int *n) {
  int p;
  status st = producer_of(g, v, reader, &p);
  if (st || p < 0 || marks[p] != UNNEEDED) return st;
  marks[p] = NEEDED;
  stack[(*n)++] = p;
  return STATUS_OK;
}

/* Marks every node that one of the outputs depends on. */
static status mark_needed(const graph *g, mark *marks, int *stack) {
  status st = STATUS_OK;
  int n = 0;
  for (int i = 0; i < g->n_outputs; i++) TRY(need(g, g->outputs[i], NULL, marks, stack, &n));
  while (n) {
    const node *at = &g->nodes[stack[--n]];
    for (int i = 0; i < at->n_inputs; i++) TRY(need(g, at->inputs[i], at->name, marks, stack, &n));
  }
done:
  return st;
}

/* Appends `start` and what it depends on to `order`, producers first. */
static status place(const graph *g, int start, mark *marks, visit *stack, int *order, int *n_order) {
  int n = 0;
  stack[n++] = (visit){start, 0};
  marks[start] = OPEN;
  while (n) {
    visit *at = &stack[n - 1];
    const node *here = &g->nodes[at->node];
    if (at->next_input == here->n_inputs) {
      marks[at->node] = PLACED;
      order[(*n_order)++] = at->node;
      n--;
      continue;
    }
    int v = here->inputs[at->next_input++];
    int p = v < 0 ? -1 : g->values[v].producer;
    if (p < 0 || marks[p] == PLACED) continue;
    if (marks[p] == OPEN)
      return status_set(STATUS_BAD_INPUT,
                        "node '%s' (%s): needs '%s', which depends on this node's own output", here->name,
                        here->op->name, g->values[v].name);
    marks[p] = OPEN;
    stack[n++] = (visit){p, 0};
  }
  return STATUS_OK;
}

/* Puts the nodes into the given order, without those that are not in it. */
static status reorder(graph *g, const int *order, int n_order) {
  node *sorted;
  status st = mem_new(&sorted, (size_t)n_order, sizeof *sorted);
  if (st) return st;
  for (int i = 0; i < n_order; i++) {
    sorted[i] = g->nodes[order[i]];
    g->nodes[order[i]] = (node){0};
  }
  for (int i = 0; i < g->n_nodes; i++) node_clear(&g->nodes[i]);
  mem_free(g->nodes);
  g->nodes = sorted;
  g->n_nodes = n_order;
  for (int i = 0; i < g->n_values; i++) g->values[i].producer = -1;
  for (int i = 0; i < n_order; i++)
    for (int j = 0; j < sorted[i].n_outputs; j++)
      if (sorted[i].outputs[j] >= 0) g->values[sorted[i].outputs[j]].producer = i;
  return STATUS_OK;
}

/* The nodes that the outputs depend on, in an order that can be executed; *order is the caller's (mem_free),
 * also after a failure. Walking in the file's order keeps that order wherever it can be executed already. */
static status find_order(const graph *g, int **order, int *n_order) {
  status st = STATUS_OK;
  mark *marks = NULL;
  visit *stack = NULL;
  *n_order = 0;
  TRY(mem_new(order, (size_t)g->n_nodes, sizeof **order));
  TRY(mem_new(&marks, (size_t)g->n_nodes, sizeof *marks));
  TRY(mem_new(&stack, (size_t)g->n_nodes, sizeof *stack));
  TRY(mark_needed(g, marks, *order));
  for (int i = 0; i < g->n_nodes; i++)
    if (marks[i] == NEEDED) TRY(place(g, i, marks, stack, *order, n_order));
done:
  mem_free(marks);
  mem_free(stack);
  return st;
}

static status sort_nodes(graph *g) {
  status st = STATUS_OK;
  int *order = NULL, n;
  TRY(find_order(g, &order, &n));
  TRY(reorder(g, order, n));
done:
  mem_free(order);
  return st;
}

static void count_uses(graph *g) {
  for (int i = 0; i < g->n_outputs; i++) g->values[g->outputs[i]].n_uses++;
  for (int i = 0; i < g->n_nodes; i++)
    for (int j = 0; j < g->nodes[i].n_inputs; j++)
      if (g->nodes[i].inputs[j] >= 0) g->values[g->nodes[i].inputs[j]].n_uses++;
}

/* Exporters leave inputs behind whose readers they have folded. */
static void drop_inputs(graph *g) {
  int n = 0;
  for (int i = 0; i < g->n_inputs; i++)
    if (g->values[g->inputs[i]].n_uses) g->inputs[n++] = g->inputs[i];
  g->n_inputs = n;
}

/* reached[v]: a gradient could come to value v from an output. */
static void mark_reached(const graph *g, bool *reached) {
  for (int i = 0; i < g->n_outputs; i++) reached[g->outputs[i]] = true;
  for (int i = g->n_nodes - 1; i >= 0; i--) {
    const node *n = &g->nodes[i];
    bool any = false;
    for (int j = 0; j < n->n_outputs; j++) any |= n->outputs[j] >= 0 && reached[n->outputs[j]];
    for (int j = 0; any && j < n->n_inputs; j++)
      if (n->inputs[j] >= 0 && op_mask_has(n->op->differentiable, j)) reached[n->inputs[j]] = true;
  }
}

/* Of scores, to be added: zeros and what stands for minus infinity. Without data: that of a parameter lies
 * elsewhere. */
static bool is_mask(const value *v) {
  const float *x = v->constant->data;
  bool any = false;
  for (int64_t i = 0, n = x ? shape_count(&v->shape) : 0; i < n; i++) {
    if (x[i] != 0 && !(x[i] <= -1e30f)) return false;
    any = any || x[i] != 0;
  }
  return any;
}

/* What input j of a node is to training, when it is a float initializer. Numbers without a dimension are
 * constants of formulas, which exporters write like weights: a half, the root of a width, an epsilon; so are
 * masks. */
static value_kind trained_kind(const node *n, int j, const value *v) {
  if (op_mask_has(n->op->statistics, j)) return VALUE_STATISTIC;
  if (!v->shape.rank) return v->kind;
  if (op_mask_has(n->op->differentiable, j) && v->kind != VALUE_STATISTIC && !is_mask(v))
    return VALUE_PARAMETER;
  return v->kind;
}

static void place_in_block(graph *g, value *v) {
  int64_t n = shape_count(&v->shape);
  if (v->offset < 0) {
    v->offset = g->n_block;
    g->n_block += (n + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
  }
}

static status find_parameters(graph *g) {
  bool *reached;
  status st = mem_new(&reached, (size_t)g->n_values, sizeof *reached);
  if (st) return st;
  mark_reached(g, reached);
  for (int i = 0; i < g->n_nodes; i++) {
    const node *n = &g->nodes[i];
    bool any = false;
    for (int j = 0; j < n->n_outputs; j++) any |= n->outputs[j] >= 0 && reached[n->outputs[j]];
    for (int j = 0; any && j < n->n_inputs; j++) {
      value *v = n->inputs[j] < 0 ? NULL : &g->values[n->inputs[j]];
      if (!v || !v->initializer || v->type != DTYPE_FLOAT) continue;
      v->kind = trained_kind(n, j, v);
      if (v->kind != VALUE_CONSTANT) place_in_block(g, v);
    }
  }
  for (int i = 0; i < g->n_values; i++)
    if (g->values[i].kind == VALUE_PARAMETER) g->n_parameters += shape_count(&g->values[i].shape);
  mem_free(reached);
  return STATUS_OK;
}

status graph_finish(graph *g) {
  status st = STATUS_OK;
  if (!g->n_outputs) THROW(STATUS_BAD_INPUT, "the model has no output");
  TRY(sort_nodes(g));
  count_uses(g);
  drop_inputs(g);
  TRY(find_parameters(g));
done:
  return st;
}
