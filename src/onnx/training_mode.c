#include "onnx/training_mode.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static Onnx__AttributeProto *find_attribute(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(proto_text(n->attribute[i]->name), name) == 0) return n->attribute[i];
  return NULL;
}

/* By a node, a branch or the outside. */
static bool is_read(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_output; i++)
    if (strcmp(proto_text(g->output[i]->name), name) == 0) return true;
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    for (size_t k = 0; k < n->n_input; k++)
      if (strcmp(n->input[k], name) == 0) return true;
    for (size_t k = 0; k < n->n_attribute; k++)
      if (n->attribute[k]->g && is_read(n->attribute[k]->g, name)) return true;
  }
  return false;
}

static bool end_batch_norm(const Onnx__GraphProto *g, Onnx__NodeProto *n, int opset) {
  Onnx__AttributeProto *mode = find_attribute(n, "training_mode");
  bool trains = opset < 14 ? n->n_output > 1 : mode && mode->i;
  for (size_t i = 1; trains && i < n->n_output; i++)
    if (*n->output[i] && is_read(g, n->output[i])) return false;
  if (!trains) return false;
  if (mode) mode->i = 0;
  while (n->n_output > 1) mem_free(n->output[--n->n_output]);
  return true;
}

/* The tensor of that name where it is fixed, else NULL. */
static const Onnx__TensorProto *find_constant(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_initializer; i++)
    if (strcmp(proto_text(g->initializer[i]->name), name) == 0) return g->initializer[i];
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    if (!proto_is_op(n, "Constant") || n->n_output != 1 || strcmp(n->output[0], name) != 0) continue;
    const Onnx__AttributeProto *value = find_attribute(n, "value");
    return value ? value->t : NULL;
  }
  return NULL;
}

static bool end_dropout(const Onnx__GraphProto *g, Onnx__NodeProto *n) {
  if (n->n_input < 3 || !*n->input[2]) return false;
  const Onnx__TensorProto *mode = find_constant(g, n->input[2]);
  if (!mode) return false;
  bool trains = mode->raw_data.len ? mode->raw_data.data[0] != 0 : mode->n_int32_data && mode->int32_data[0];
  if (!trains) return false;
  while (n->n_input > 2) mem_free(n->input[--n->n_input]);
  return true;
}

static status end_node(const Onnx__GraphProto *g, size_t i, int opset, int *count, char **first) {
  status st = STATUS_OK;
  Onnx__NodeProto *n = g->node[i];
  bool ended = proto_is_op(n, "BatchNormalization") ? end_batch_norm(g, n, opset)
               : proto_is_op(n, "Dropout")          ? end_dropout(g, n)
                                                    : false;
  for (size_t k = 0; k < n->n_attribute; k++)
    if (n->attribute[k]->g) TRY(training_mode_end(n->attribute[k]->g, opset, count, first));
  if (!ended) goto done;
  ++*count;
  if (*first) goto done;
  if (*proto_text(n->name))
    TRY(mem_string(first, n->name));
  else
    TRY(mem_format(first, "%s_%zu", n->op_type, i));
done:
  return st;
}

status training_mode_end(Onnx__GraphProto *g, int opset, int *n, char **first) {
  status st = STATUS_OK;
  for (size_t i = 0; i < g->n_node && !st; i++) st = end_node(g, i, opset, n, first);
  return st;
}

/* "193", "onnx::Conv_193" of PyTorch; "const_fold_opt__12" of tf2onnx. */
static bool is_made_up(const char *name) {
  if (strncmp(name, "const_fold_opt__", 16) == 0) return true;
  if (strncmp(name, "onnx::Conv_", 11) == 0) name += 11;
  for (const char *c = name; *c; c++)
    if (!isdigit((unsigned char)*c)) return false;
  return *name != '\0';
}

/* By PyTorch's newer exporter: the convolution gives what was one of a batch norm's several outputs. */
static bool gives_item(const Onnx__NodeProto *n) {
  return n->n_output == 1 && strncmp(n->output[0], "getitem", 7) == 0;
}

const char *training_mode_folded(const Onnx__GraphProto *g) {
  const char *found = NULL;
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    if (proto_is_op(n, "BatchNormalization")) return NULL;
    if (!found && proto_is_op(n, "Conv") && n->n_input > 2 && (is_made_up(n->input[1]) || gives_item(n)))
      found = n->input[1];
  }
  return found;
}
