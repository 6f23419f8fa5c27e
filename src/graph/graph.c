#include "graph/graph.h"

#include "base/hash.h"
#include "base/mem.h"
#include "graph/graph_private.h"

#include <string.h>

/* A graph and the index of its value names. */
typedef struct named_graph {
  graph graph;    /* first: what callers hold */
  int *slots;     /* open addressing: value index + 1, 0 is free */
  size_t n_slots; /* a power of two, more than twice the number of values */
} named_graph;

enum { FIRST_CAPACITY = 16 };

status graph_new(graph **out) {
  return mem_new(out, 1, sizeof(named_graph));
}

void attribute_clear(attribute *a) {
  for (int64_t i = 0; a->strings && i < a->n; i++) mem_free(a->strings[i]);
  mem_free(a->strings);
  mem_free(a->floats);
  mem_free(a->ints);
  mem_free(a->s);
  mem_free(a->t);
  mem_free(a->name);
  *a = (attribute){0};
}

static void attributes_free(attribute *a, int n) {
  for (int i = 0; a && i < n; i++) attribute_clear(&a[i]);
  mem_free(a);
}

void node_clear(node *n) {
  attributes_free(n->attributes, n->n_attributes);
  mem_free(n->inputs);
  mem_free(n->outputs);
  mem_free(n->name);
  *n = (node){0};
}

void graph_free(graph **g) {
  if (!*g) return;
  for (int i = 0; i < (*g)->n_values; i++) {
    mem_free((*g)->values[i].name);
    mem_free((*g)->values[i].constant);
  }
  for (int i = 0; i < (*g)->n_nodes; i++) node_clear(&(*g)->nodes[i]);
  mem_free((*g)->values);
  mem_free((*g)->nodes);
  mem_free((*g)->inputs);
  mem_free((*g)->outputs);
  mem_free(((named_graph *)*g)->slots);
  mem_free(*g);
  *g = NULL;
}

/* Room for one more element of an array of n: its capacity is FIRST_CAPACITY times the next power of two. */
static status reserve(void *array, int n, size_t size) {
  if (n == 0) return mem_new(array, FIRST_CAPACITY, size);
  if (n < FIRST_CAPACITY || (n & (n - 1))) return STATUS_OK;
  return mem_resize(array, (size_t)n, 2 * (size_t)n, size);
}

/* The slot that holds `name`, or the free one where it belongs. */
static size_t find_slot(const named_graph *g, const char *name) {
  size_t at = hash_bytes(name, strlen(name)) & (g->n_slots - 1);
  while (g->slots[at] && strcmp(g->graph.values[g->slots[at] - 1].name, name))
    at = (at + 1) & (g->n_slots - 1);
  return at;
}

static status grow_slots(named_graph *g) {
  if (2 * ((size_t)g->graph.n_values + 1) < g->n_slots) return STATUS_OK;
  size_t n = g->n_slots ? 2 * g->n_slots : 4 * FIRST_CAPACITY;
  int *fresh;
  status st = mem_new(&fresh, n, sizeof *fresh);
  if (st) return st;
  mem_free(g->slots);
  g->slots = fresh;
  g->n_slots = n;
  for (int i = 0; i < g->graph.n_values; i++) g->slots[find_slot(g, g->graph.values[i].name)] = i + 1;
  return STATUS_OK;
}

int graph_find(const graph *g, const char *name) {
  const named_graph *named = (const named_graph *)g;
  return named->n_slots ? named->slots[find_slot(named, name)] - 1 : -1;
}

static status add_value(graph *g, const char *name, const value *v, int *out) {
  status st = STATUS_OK;
  named_graph *named = (named_graph *)g;
  *out = -1;
  TRY(grow_slots(named));
  size_t slot = find_slot(named, name);
  if (named->slots[slot]) THROW(STATUS_BAD_INPUT, "value '%s' is defined twice", name);
  TRY(reserve(&g->values, g->n_values, sizeof *g->values));
  g->values[g->n_values] = *v;
  g->values[g->n_values].producer = -1;
  g->values[g->n_values].offset = -1;
  TRY(mem_string(&g->values[g->n_values].name, name));
  named->slots[slot] = g->n_values + 1;
  *out = g->n_values++;
done:
  return st;
}

status graph_add_input(graph *g, const char *name, dtype type, const shape *s, int *out) {
  status st = STATUS_OK;
  TRY(reserve(&g->inputs, g->n_inputs, sizeof *g->inputs));
  TRY(add_value(g, name, &(value){.kind = VALUE_INPUT, .type = type, .shape = *s}, out));
  g->inputs[g->n_inputs++] = *out;
done:
  return st;
}

status graph_add_constant(graph *g, const char *name, bool initializer, tensor *take, int *out) {
  value v = {.kind = VALUE_CONSTANT,
             .type = take->type,
             .shape = take->shape,
             .constant = take,
             .initializer = initializer};
  status st = add_value(g, name, &v, out);
  if (st) mem_free(take);
  return st;
}

status graph_add_value(graph *g, const char *name, int *out) {
  return add_value(g, name, &(value){.kind = VALUE_COMPUTED}, out);
}

/* The operator's own limits, so that its functions need not look whether in[i] is there. */
static status check_arity(const char *name, const op *op, const int *inputs, int n_inputs, int n_outputs) {
  if (n_inputs < op->min_inputs || (op->max_inputs >= 0 && n_inputs > op->max_inputs))
    return status_set(STATUS_BAD_INPUT, "node '%s' (%s): has %d inputs, expected %s %d", name, op->name,
                      n_inputs, n_inputs < op->min_inputs ? "at least" : "at most",
                      n_inputs < op->min_inputs ? op->min_inputs : op->max_inputs);
  if (op->max_outputs >= 0 && n_outputs > op->max_outputs)
    return status_set(STATUS_BAD_INPUT, "node '%s' (%s): has %d outputs, expected at most %d", name, op->name,
                      n_outputs, op->max_outputs);
  const int n_needed =
      op->max_inputs < 0 ? n_inputs : op->min_inputs; /* of any number none can be left out */
  for (int i = 0; i < n_needed; i++)
    if (inputs[i] < 0)
      return status_set(STATUS_BAD_INPUT, "node '%s' (%s): input %d is required and absent", name, op->name,
                        i);
  return STATUS_OK;
}

static status copy_indices(int **out, const graph *g, const int *from, int n) {
  for (int i = 0; i < n; i++)
    if (from[i] < -1 || from[i] >= g->n_values)
      return status_set(STATUS_FAILED, "a node names value %d of %d", from[i], g->n_values);
  status st = mem_new(out, (size_t)n, sizeof **out);
  if (!st && n) memcpy(*out, from, (size_t)n * sizeof **out);
  return st;
}

/* Operators write their first output whenever they run: one that the file leaves out, before others, gets a
 * value. */
static status give_first_output(graph *g, node *n) {
  status st = STATUS_OK;
  char *name = NULL;
  if (n->n_outputs < 2 || n->outputs[0] >= 0) return st;
  TRY(mem_format(&name, "%s:0", n->name));
  TRY(graph_add_value(g, name, &n->outputs[0]));
done:
  mem_free(name);
  return st;
}

status graph_add_node(graph *g, const char *name, const op *op, int opset, const int *inputs, int n_inputs,
                      const int *outputs, int n_outputs, attribute *take, int n_attributes) {
  status st = STATUS_OK;
  node n = {.op = op,
            .opset = opset,
            .n_inputs = n_inputs,
            .n_outputs = n_outputs,
            .attributes = take,
            .n_attributes = n_attributes};
  if (name && *name)
    TRY(mem_string(&n.name, name));
  else
    TRY(mem_format(&n.name, "%s_%d", op->name, g->n_nodes));
  TRY(check_arity(n.name, op, inputs, n_inputs, n_outputs));
  TRY(copy_indices(&n.inputs, g, inputs, n_inputs));
  TRY(copy_indices(&n.outputs, g, outputs, n_outputs));
  TRY(give_first_output(g, &n));
  TRY(reserve(&g->nodes, g->n_nodes, sizeof *g->nodes));
  for (int i = 0; i < n_outputs; i++) {
    if (n.outputs[i] < 0) continue;
    value *v = &g->values[n.outputs[i]];
    if (v->kind != VALUE_COMPUTED || v->producer >= 0)
      THROW(STATUS_BAD_INPUT, "node '%s' (%s): its output '%s' is defined elsewhere as well", n.name,
            op->name, v->name);
    v->producer = g->n_nodes;
  }
  g->nodes[g->n_nodes++] = n;
  return STATUS_OK;
done:
  node_clear(&n);
  return st;
}

status graph_add_output(graph *g, int value) {
  if (value < 0 || value >= g->n_values)
    return status_set(STATUS_FAILED, "an output names value %d of %d", value, g->n_values);
  for (int i = 0; i < g->n_outputs; i++)
    if (g->outputs[i] == value)
      return status_set(STATUS_BAD_INPUT, "output '%s' is listed twice", g->values[value].name);
  status st = reserve(&g->outputs, g->n_outputs, sizeof *g->outputs);
  if (!st) g->outputs[g->n_outputs++] = value;
  return st;
}

void graph_initial_block(const graph *g, float *block) {
  memset(block, 0, (size_t)g->n_block * sizeof *block);
  for (int i = 0; i < g->n_values; i++) {
    const value *v = &g->values[i];
    if (v->kind == VALUE_PARAMETER || v->kind == VALUE_STATISTIC)
      memcpy(block + v->offset, v->constant->data, (size_t)shape_count(&v->shape) * sizeof *block);
  }
}

void graph_drop_data(graph *g) {
  for (int i = 0; i < g->n_values; i++) {
    value *v = &g->values[i];
    tensor *empty;
    if (v->kind != VALUE_PARAMETER && v->kind != VALUE_STATISTIC) continue;
    if (mem_new(&empty, 1, sizeof *empty)) {
      status_clear(); /* it stays: only memory is lost */
      continue;
    }
    *empty = *v->constant;
    empty->data = NULL;
    mem_free(v->constant);
    v->constant = empty;
  }
}

const attribute *node_attribute(const node *n, const char *name) {
  for (int i = 0; i < n->n_attributes; i++)
    if (!strcmp(n->attributes[i].name, name)) return &n->attributes[i];
  return NULL;
}

int64_t node_int(const node *n, const char *name, int64_t fallback) {
  const attribute *a = node_attribute(n, name);
  return a && a->type == ATTRIBUTE_INT ? a->i : fallback;
}

float node_float(const node *n, const char *name, float fallback) {
  const attribute *a = node_attribute(n, name);
  return a && a->type == ATTRIBUTE_FLOAT ? a->f : fallback;
}

const char *node_string(const node *n, const char *name, const char *fallback) {
  const attribute *a = node_attribute(n, name);
  return a && a->type == ATTRIBUTE_STRING ? a->s : fallback;
}
