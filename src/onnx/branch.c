/* If: exporters write it where a shape decides (a Squeeze of a dimension that may not be 1). The condition is
 * known as soon as shapes are, so the branch that is taken becomes part of the graph and nobody sees the If.
 */
#include "base/mem.h"
#include "onnx/loader.h"

/* The condition for any number of rows; -1 when it depends on them or on the batch. */
static status read_condition(const loader *l, int value, int *out) {
  tensor *t = NULL;
  status st = loader_probe(l, value, &t);
  *out = t && t->type == DTYPE_BOOL && shape_count(&t->shape) == 1 ? tensor_int(t, 0) != 0 : -1;
  mem_free(t);
  return st;
}

/* The outputs of the If are those of the branch under other names. */
static status connect(loader *l, const loader *branch, const Onnx__NodeProto *n, const char *title) {
  status st = STATUS_OK;
  char *name = NULL;
  for (size_t k = 0; k < n->n_output; k++) {
    int from = loader_find(branch, proto_text(branch->from->output[k]->name));
    if (!*n->output[k]) continue;
    if (from < 0)
      THROW(STATUS_BAD_INPUT, "%s: node '%s' (If): nothing gives output %zu of its branch", l->name, title,
            k);
    TRY(mem_format(&name, "%s:%zu", title, k));
    TRY(loader_connect(l, from, n->output[k], name));
    mem_free(name);
    name = NULL;
  }
done:
  mem_free(name);
  return st;
}

static status check_branch(const loader *l, const Onnx__NodeProto *n, const Onnx__GraphProto *g,
                           const char *title) {
  if (!g) return status_set(STATUS_BAD_INPUT, "%s: node '%s' (If): lacks a branch", l->name, title);
  if (g->n_input || g->n_output != n->n_output || g->n_sparse_initializer)
    return status_set(STATUS_BAD_INPUT,
                      "%s: node '%s' (If): its branch has %zu inputs and %zu outputs, not 0 and %zu", l->name,
                      title, g->n_input, g->n_output, n->n_output);
  return STATUS_OK;
}

status branch_add(loader *l, size_t i) {
  status st = STATUS_OK;
  const Onnx__NodeProto *n = l->from->node[i];
  char *title = NULL, *prefix = NULL;
  loader branch = *l;
  int condition = -1;
  branch.initializers = NULL;
  branch.wanted = NULL;
  branch.bound = NULL;
  TRY(loader_title(l, i, &title));
  TRY(read_condition(l, loader_find(l, n->input[0]), &condition));
  if (condition < 0)
    THROW(STATUS_BAD_INPUT,
          "%s: node '%s' (If): which branch it takes depends on the data or the number of rows; only "
          "conditions on "
          "other shapes are supported",
          l->name, title);
  branch.up = l;
  branch.from = loader_subgraph(n, condition ? "then_branch" : "else_branch");
  TRY(check_branch(l, n, branch.from, title));
  TRY(mem_format(&prefix, "%s/", title));
  branch.prefix = prefix;
  TRY(loader_add_branch(&branch));
  TRY(connect(l, &branch, n, title));
done:
  mem_free(branch.initializers);
  mem_free(prefix);
  mem_free(title);
  return st;
}
