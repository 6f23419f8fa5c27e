/* Values that are known before the graph is finished: conditions that choose which part of a model becomes
 * part of it. A part of the graph, borrowed, is planned as a graph of its own. */
#include "base/mem.h"
#include "graph/plan_private.h"

#include <string.h>

/* Nodes in the order given, and the values with their uses counted anew. Attributes, names and constants stay
 * the whole graph's. */
static status part_make(graph *part, const graph *g, int *output, const int *order, int n_order) {
  status st = STATUS_OK;
  *part = (graph){.n_values = g->n_values, .n_nodes = n_order, .outputs = output, .n_outputs = 1};
  TRY(mem_new(&part->values, (size_t)g->n_values, sizeof *part->values));
  TRY(mem_new(&part->nodes, (size_t)n_order, sizeof *part->nodes));
  TRY(mem_new(&part->inputs, (size_t)g->n_inputs, sizeof *part->inputs));
  memcpy(part->values, g->values, (size_t)g->n_values * sizeof *part->values);
  for (int i = 0; i < g->n_values; i++) part->values[i].n_uses = 0;
  for (int i = 0; i < n_order; i++) {
    part->nodes[i] = g->nodes[order[i]];
    for (int j = 0; j < part->nodes[i].n_inputs; j++)
      if (part->nodes[i].inputs[j] >= 0) part->values[part->nodes[i].inputs[j]].n_uses++;
  }
  for (int i = 0; i < g->n_inputs; i++)
    if (part->values[g->inputs[i]].n_uses || g->inputs[i] == *output)
      part->inputs[part->n_inputs++] = g->inputs[i];
done:
  return st;
}

static void part_clear(graph *part) {
  mem_free(part->values);
  mem_free(part->nodes);
  mem_free(part->inputs);
}

static status copy_tensor(tensor **out, const tensor *from) {
  status st = tensor_new(out, from->type, &from->shape);
  if (!st && tensor_bytes(from)) memcpy((*out)->data, from->data, tensor_bytes(from));
  return st;
}

status plan_probe(const graph *g, int value, int64_t rows, tensor **out, int64_t *rows_fixed) {
  status st = STATUS_OK;
  graph part = {0};
  plan *p = NULL;
  int *order = NULL, n_order;
  *out = NULL;
  *rows_fixed = 0;
  TRY(graph_order(g, &value, 1, &order, &n_order));
  TRY(part_make(&part, g, &value, order, n_order));
  for (int i = 0; i < part.n_inputs; i++) {
    const shape *declared = &part.values[part.inputs[i]].shape;
    if (declared->rank && declared->dims[0] > 0) *rows_fixed = declared->dims[0];
  }
  TRY(plan_new(&p, &part, &(plan_options){.rows = *rows_fixed ? *rows_fixed : rows}));
  if (p->values[value].known) TRY(copy_tensor(out, &p->values[value].data));
done:
  plan_free(&p);
  part_clear(&part);
  mem_free(order);
  return st;
}
