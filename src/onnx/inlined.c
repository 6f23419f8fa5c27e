/* Nodes that hold graphs: which there are, what they have in common, and what a file may ask for by them. */
#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/loader.h"
#include "ops/ops.h"

#include <string.h>

/* Bytes: some hundred thousand nodes. */
static const int64_t WORK_MAX = INT64_C(512) << 20;

enum { PROBE_COST = 1024 }; /* of each node that a value depends on */

static const inlined table[] = {{"If", 1, 1, 0, branch_add},
                                {"Loop", 1, 2, 2, loop_add},
                                {"Scan", 9, 1, 0, scan_add},
                                {"ConcatFromSequence", 11, 1, 0, sequence_add},
                                {"SequenceAt", 11, 2, 0, sequence_add},
                                {"SequenceConstruct", 11, 1, 0, sequence_add},
                                {"SequenceEmpty", 11, 0, 0, sequence_add},
                                {"SequenceErase", 11, 1, 0, sequence_add},
                                {"SequenceInsert", 11, 2, 0, sequence_add},
                                {"SequenceLength", 11, 1, 0, sequence_add},
                                {"SplitToSequence", 11, 1, 0, sequence_add},
                                {0}};

const inlined *inlined_find(const Onnx__NodeProto *n) {
  const char *domain = proto_text(n->domain);
  if (*domain && strcmp(domain, "ai.onnx") != 0) return NULL;
  for (const inlined *i = table; i->name; i++)
    if (strcmp(proto_text(n->op_type), i->name) == 0) return i;
  return NULL;
}

status loader_spend(const loader *l, size_t bytes) {
  if (bytes > (size_t)WORK_MAX || (*l->work += (int64_t)bytes) > WORK_MAX)
    return status_set(
        STATUS_BAD_INPUT,
        "%s: its loops are too large at '%s': turn by turn they would be more nodes than a model "
        "may have",
        l->name, l->prefix);
  return STATUS_OK;
}

static bool is_same(const tensor *a, const tensor *b) {
  return a->type == b->type && shape_equal(&a->shape, &b->shape) &&
         !memcmp(a->data, b->data, (size_t)shape_count(&a->shape) * dtype_bytes(a->type));
}

status loader_probe(const loader *l, int value, tensor **out) {
  status st = STATUS_OK;
  tensor *first = NULL, *t = NULL;
  probed about = {0};
  *out = NULL;
  if (sequence_find(l, value)) return st;
  for (int64_t rows = 1; rows <= 3 && !about.rows_fixed; rows++) {
    TRY(loader_name_file(l, plan_probe(l->g, value, rows, &t, &about)));
    TRY(loader_spend(l, (size_t)about.n_nodes * PROBE_COST));
    if (!t || (first && !is_same(first, t))) goto done;
    if (first) mem_free(t);
    if (!first) first = t;
    t = NULL;
  }
  *out = first;
  first = NULL;
done:
  mem_free(first);
  mem_free(t);
  return st;
}

status loader_connect(const loader *l, int from, const char *to, const char *what) {
  if (!*to) return STATUS_OK;
  int target = loader_find(l, to);
  const sequence *held = sequence_find(l, from);
  if (held) return sequence_set(l, target, held->items, held->n);
  return loader_node(l, "", "Identity", 1, &from, 1, NULL, what, &target);
}

status loader_node(const loader *l, const char *domain, const char *type, int opset, const int *inputs, int n,
                   attribute *take, const char *name, int *out) {
  status st = *out < 0 ? graph_add_value(l->g, name, out) : STATUS_OK;
  if (st && take) attribute_clear(take);
  if (st)
    mem_free(take);
  else
    st = graph_add_node(l->g, name, op_find(domain, type, opset), opset, inputs, n, out, 1, take,
                        take ? 1 : 0);
  return loader_name_file(l, st);
}

status loader_axis(attribute **out, const char *name, int64_t axis, bool list) {
  status st = STATUS_OK;
  TRY(mem_new(out, 1, sizeof **out));
  TRY(mem_string(&(*out)->name, name));
  (*out)->type = list ? ATTRIBUTE_INTS : ATTRIBUTE_INT;
  (*out)->i = axis;
  if (!list) return st;
  TRY(mem_new(&(*out)->ints, 1, sizeof *(*out)->ints));
  (*out)->ints[0] = axis;
  (*out)->n = 1;
  return st;
done:
  if (*out) attribute_clear(*out);
  mem_free(*out);
  *out = NULL;
  return st;
}

status loader_constant(const loader *l, const char *name, tensor *take, int *out) {
  return loader_name_file(l, graph_add_constant(l->g, name, false, take, out));
}

status loader_number(const loader *l, const char *name, dtype type, int64_t number, int *out) {
  tensor *t;
  status st = tensor_new(&t, type, &(shape){0});
  if (st) return st;
  if (type == DTYPE_INT64)
    *(int64_t *)t->data = number;
  else
    *(unsigned char *)t->data = (unsigned char)number;
  return loader_constant(l, name, t, out);
}

status loader_length(const loader *l, int value, int64_t axis, const char *name, int64_t *out) {
  status st = STATUS_OK;
  char *names[3] = {0};
  attribute *along = NULL;
  int dims = -1, inputs[2], length = -1;
  tensor *t = NULL;
  *out = -1;
  for (int i = 0; i < 3; i++)
    TRY(mem_format(&names[i], "%s:%s", name, (const char *const[]){"shape", "axis", "length"}[i]));
  TRY(loader_node(l, "", "Shape", 1, &value, 1, NULL, names[0], &dims));
  TRY(loader_number(l, names[1], DTYPE_INT64, axis, &inputs[1]));
  inputs[0] = dims;
  TRY(loader_axis(&along, "axis", 0, false));
  TRY(loader_node(l, "", "Gather", 11, inputs, 2, along, names[2], &length));
  TRY(loader_probe(l, length, &t));
  if (t) *out = tensor_int(t, 0);
done:
  mem_free(t);
  for (int i = 0; i < 3; i++) mem_free(names[i]);
  return st;
}

const Onnx__AttributeProto *loader_attribute(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(proto_text(n->attribute[i]->name), name) == 0) return n->attribute[i];
  return NULL;
}

const Onnx__GraphProto *loader_subgraph(const Onnx__NodeProto *n, const char *name) {
  const Onnx__AttributeProto *a = loader_attribute(n, name);
  return a ? a->g : NULL;
}
