#include "onnx/load.h"

#include "base/mem.h"
#include "onnx/attributes.h"
#include "onnx/loader.h"
#include "onnx/tensor_proto.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* An operator that meant something else in an old opset is refused by its row in ops.def; what opsets to come
 * will change is not known. */
enum { OPSET_MIN = 1, OPSET_MAX = 23 };
enum { OPSET_COMPLETE = 22 }; /* of the operators that came later not all are known */

enum { LARGE = 1 << 16 }; /* floats of an initializer */

/* Bytes, about, of a node in an If or a loop, and of what it computes: in the graph and in its plans. */
enum { NODE_COST = 1536, VALUE_COST = 512 };

static const char *plain_domain(const char *domain) {
  return strcmp(proto_text(domain), "ai.onnx") == 0 ? "" : proto_text(domain);
}

int load_opset(const Onnx__ModelProto *proto, const char *domain) {
  for (size_t i = 0; i < proto->n_opset_import; i++) {
    const Onnx__OperatorSetIdProto *import = proto->opset_import[i];
    if (strcmp(plain_domain(import->domain), plain_domain(domain)) == 0)
      return import->version > 0 && import->version <= INT_MAX ? (int)import->version : 0;
  }
  return 0;
}

static status check_file(const loader *l) {
  for (size_t i = 0; i < l->proto->n_opset_import; i++) {
    const Onnx__OperatorSetIdProto *import = l->proto->opset_import[i];
    if (*plain_domain(import->domain)) continue;
    if (import->version < OPSET_MIN || import->version > OPSET_MAX)
      return status_set(STATUS_BAD_INPUT,
                        "%s: is written for opset %" PRId64 " of ai.onnx; %d to %d are understood", l->name,
                        import->version, OPSET_MIN, OPSET_MAX);
  }
  if (!l->proto->n_opset_import)
    return status_set(STATUS_BAD_INPUT, "%s: does not say its opset; %d to %d of ai.onnx are understood",
                      l->name, OPSET_MIN, OPSET_MAX);
  if (l->from->n_sparse_initializer)
    return status_set(STATUS_BAD_INPUT, "%s: has sparse initializers, which are not supported", l->name);
  if (!l->from->n_output) return status_set(STATUS_BAD_INPUT, "%s: has no outputs", l->name);
  return STATUS_OK;
}

status loader_name_file(const loader *l, status st) {
  if (st == STATUS_BAD_INPUT) status_set(st, "%s: %s", l->name, status_message());
  return st;
}

int loader_find(const loader *l, const char *name) {
  for (; l; l = l->up) {
    char *full = NULL;
    int value = -1;
    for (size_t i = 0; l->bound && i < l->from->n_input; i++)
      if (strcmp(proto_text(l->from->input[i]->name), name) == 0) return l->bound[i];
    if (!*l->prefix)
      value = graph_find(l->g, name);
    else if (mem_format(&full, "%s%s", l->prefix, name) == STATUS_OK)
      value = graph_find(l->g, full);
    mem_free(full);
    if (value >= 0) return value;
  }
  return -1;
}

static status check_name(const loader *l, const char *name) {
  if (*name) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: an input or initializer has no name", l->name);
}

static int64_t count_of(const Onnx__TensorProto *t) {
  int64_t n = 1;
  for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
  return n;
}

bool load_took_data(const Onnx__TensorProto *t) {
  return t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && !t->has_raw_data && !t->n_float_data &&
         count_of(t) >= LARGE;
}

/* Whether it is there once more for every turn of a loop. */
static bool is_in_turn(const loader *l) {
  while (l && !l->bound) l = l->up;
  return l;
}

/* A vector that PyTorch's exporter named itself ("val_41"): a constant of a formula, an attention's scale or
 * the ones of a norm without any. Matrices of such names are weights that it has transposed. */
static bool is_formula(const Onnx__TensorProto *t) {
  const char *name = proto_text(t->name);
  return t->n_dims == 1 && !strncmp(name, "val_", 4) && name[4] && !name[4 + strspn(name + 4, "0123456789")];
}

static status add_initializer(loader *l, size_t i) {
  status st = STATUS_OK;
  Onnx__TensorProto *from = l->from->initializer[i];
  const char *name = proto_text(from->name);
  char *what = NULL, *full = NULL;
  tensor *t;
  l->initializers[i] = -1;
  if (from->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING) return STATUS_OK;
  TRY(check_name(l, name));
  TRY(mem_format(&what, "%s: initializer '%s'", l->name, name));
  TRY(mem_format(&full, "%s%s", l->prefix, name));
  bool hollow = l->block && onnx_type_dtype(from->data_type) == DTYPE_FLOAT && !tensor_proto_has_data(from);
  TRY(hollow && count_of(from) ? tensor_hollow_from_proto(&t, from, what)
                               : tensor_from_proto(&t, from, what));
  if (is_in_turn(l)) st = loader_spend(l, (size_t)shape_count(&t->shape) * dtype_bytes(t->type));
  if (st) {
    mem_free(t);
    goto done;
  }
  bool large = from->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && count_of(from) >= LARGE;
  if (large && !l->up) tensor_proto_drop_data(from);
  TRY(loader_name_file(l,
                       graph_add_constant(l->g, full, !l->up && !is_formula(from), t, &l->initializers[i])));
done:
  mem_free(what);
  mem_free(full);
  return st;
}

static status read_input_shape(const loader *l, const char *name, const Onnx__TensorShapeProto *from,
                               shape *out) {
  if (!from)
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' does not say how many dimensions it has", l->name,
                      name);
  if (from->n_dim > SHAPE_MAX_RANK)
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' has %zu dimensions, at most %d are understood",
                      l->name, name, from->n_dim, SHAPE_MAX_RANK);
  out->rank = (int)from->n_dim;
  for (int i = 0; i < out->rank; i++) {
    const Onnx__TensorShapeProto__Dimension *d = from->dim[i];
    bool known = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    out->dims[i] = known ? d->dim_value : -1;
    if (known && d->dim_value < 0)
      return status_set(STATUS_BAD_INPUT, "%s: input '%s' has a negative dimension (%" PRId64 ")", l->name,
                        name, d->dim_value);
  }
  return STATUS_OK;
}

/* Files older than IR version 4 list initializers among the inputs as well: these are not given from outside.
 */
static status add_input(loader *l, const Onnx__ValueInfoProto *input) {
  status st = STATUS_OK;
  const char *name = proto_text(input->name);
  const Onnx__TypeProto *type = input->type;
  int value = graph_find(l->g, name);
  shape s = {0};
  if (value >= 0 && l->g->values[value].kind == VALUE_CONSTANT) return STATUS_OK;
  TRY(check_name(l, name));
  if (!type || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !type->tensor_type)
    THROW(STATUS_BAD_INPUT, "%s: input '%s' is not a tensor", l->name, name);
  int element = type->tensor_type->elem_type;
  if (onnx_type_dtype(element) == DTYPE_NONE)
    THROW(STATUS_BAD_INPUT, "%s: input '%s' has elements of type %s (%d), which are not supported", l->name,
          name, onnx_type_name(element), element);
  TRY(read_input_shape(l, name, type->tensor_type->shape, &s));
  TRY(loader_name_file(l, graph_add_input(l->g, name, onnx_type_dtype(element), &s, &value)));
done:
  return st;
}

static bool is_wanted(const loader *l, size_t node) {
  return !l->wanted || l->wanted[node];
}

static status add_computed(loader *l, const Onnx__NodeProto *n) {
  status st = STATUS_OK;
  char *full = NULL;
  if (l->up) TRY(loader_spend(l, NODE_COST));
  for (size_t k = 0; k < n->n_output; k++) {
    int value;
    if (!*n->output[k]) continue;
    TRY(mem_format(&full, "%s%s", l->prefix, n->output[k]));
    if (l->up) TRY(loader_spend(l, VALUE_COST + 2 * strlen(full)));
    TRY(loader_name_file(l, graph_add_value(l->g, full, &value)));
    mem_free(full);
    full = NULL;
  }
done:
  mem_free(full);
  return st;
}

static status add_values(loader *l) {
  status st = STATUS_OK;
  if (!l->bound) {
    TRY(mem_new(&l->initializers, l->from->n_initializer, sizeof *l->initializers));
    for (size_t i = 0; i < l->from->n_initializer; i++) TRY(add_initializer(l, i));
  }
  for (size_t i = 0; !l->up && i < l->from->n_input; i++) TRY(add_input(l, l->from->input[i]));
  for (size_t i = 0; i < l->from->n_node; i++)
    if (is_wanted(l, i)) TRY(add_computed(l, l->from->node[i]));
done:
  return st;
}

/* Strings are no tensors of the engine: labels of classes by name, mostly, beside an output of numbers. */
static bool is_text(const Onnx__ValueInfoProto *output) {
  const Onnx__TypeProto *type = output->type;
  return type && type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && type->tensor_type &&
         type->tensor_type->elem_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING;
}

static bool is_text_initializer(const loader *l, const char *name) {
  for (size_t i = 0; i < l->from->n_initializer; i++)
    if (l->from->initializer[i]->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING &&
        strcmp(proto_text(l->from->initializer[i]->name), name) == 0)
      return true;
  return false;
}

/* Marks the node that gives a value, and puts it on the stack. */
static void want(const loader *l, const char *name, const int *producers, int *stack, int *n) {
  int value = *name ? graph_find(l->g, name) : -1;
  if (value < 0 || producers[value] < 0 || l->wanted[producers[value]]) return;
  l->wanted[producers[value]] = true;
  stack[(*n)++] = producers[value];
}

/* Nodes of which only outputs that are strings are made need not be understood. */
static status mark_wanted(loader *l) {
  status st = STATUS_OK;
  int *producers = NULL, *stack = NULL, n = 0;
  size_t n_texts = 0;
  TRY(mem_new(&l->wanted, l->from->n_node, sizeof *l->wanted));
  for (size_t i = 0; i < l->from->n_output; i++) n_texts += is_text(l->from->output[i]);
  if (n_texts == l->from->n_output)
    THROW(STATUS_BAD_INPUT, "%s: its outputs are strings, which are not supported", l->name);
  for (size_t i = 0; i < l->from->n_node; i++) l->wanted[i] = !n_texts;
  if (!n_texts) goto done;
  TRY(mem_new(&producers, (size_t)l->g->n_values, sizeof *producers));
  TRY(mem_new(&stack, l->from->n_node, sizeof *stack));
  for (int v = 0; v < l->g->n_values; v++) producers[v] = -1;
  for (size_t i = 0; i < l->from->n_node; i++)
    for (size_t k = 0; k < l->from->node[i]->n_output; k++) {
      int value = graph_find(l->g, l->from->node[i]->output[k]);
      if (value >= 0) producers[value] = (int)i;
    }
  for (size_t i = 0; i < l->from->n_output; i++)
    if (!is_text(l->from->output[i])) want(l, proto_text(l->from->output[i]->name), producers, stack, &n);
  while (n) {
    const Onnx__NodeProto *at = l->from->node[stack[--n]];
    for (size_t k = 0; k < at->n_input; k++) want(l, at->input[k], producers, stack, &n);
  }
done:
  mem_free(producers);
  mem_free(stack);
  return st;
}

static const op *find_op(const loader *l, const Onnx__NodeProto *n) {
  return op_find(plain_domain(n->domain), proto_text(n->op_type), load_opset(l->proto, n->domain));
}

static bool has_attribute(const op *o, const char *name) {
  for (int i = 0; o->attributes && o->attributes[i]; i++)
    if (strcmp(o->attributes[i], name) == 0) return true;
  return false;
}

static void add_text(char *text, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Appends to a list whose items stand behind each other with "; " between, cut to n bytes. */
static void add_text(char *text, size_t n, const char *format, ...) {
  size_t used = strlen(text);
  va_list args;
  if (used && used + 2 < n) {
    memcpy(text + used, "; ", 3);
    used += 2;
  }
  va_start(args, format);
  vsnprintf(text + used, n - used, format, args);
  va_end(args);
}

static void check_counts(const op *o, const Onnx__NodeProto *n, char *text, size_t bytes) {
  if (n->n_input < (size_t)o->min_inputs || (o->max_inputs >= 0 && n->n_input > (size_t)o->max_inputs)) {
    if (o->max_inputs < 0)
      add_text(text, bytes, "has %zu inputs, at least %d are needed", n->n_input, o->min_inputs);
    else if (o->min_inputs == o->max_inputs)
      add_text(text, bytes, "has %zu inputs, not %d", n->n_input, o->min_inputs);
    else
      add_text(text, bytes, "has %zu inputs, not %d to %d", n->n_input, o->min_inputs, o->max_inputs);
  }
  if (n->n_output > (size_t)o->max_outputs)
    add_text(text, bytes, "has %zu outputs, at most %d are understood", n->n_output, o->max_outputs);
  if (!n->n_output) add_text(text, bytes, "has no outputs");
}

/* Why there is no row for a node's operator. */
static void explain_missing(const loader *l, const Onnx__NodeProto *n, char *text, size_t bytes) {
  int opset = load_opset(l->proto, n->domain), first = 0;
  for (const op *const *row = op_table(); *row; row++) {
    if (strcmp((*row)->name, proto_text(n->op_type)) != 0) continue;
    if (strcmp((*row)->domain, plain_domain(n->domain)) != 0 || (*row)->since < opset) continue;
    if (!first || (*row)->since < first) first = (*row)->since;
  }
  if (!opset)
    add_text(text, bytes, "the model imports no opset of its domain");
  else if (first)
    add_text(text, bytes, "understood from opset %d on", first);
  else
    add_text(text, bytes, "unknown operator%s",
             opset > OPSET_COMPLETE && !*plain_domain(n->domain)
                 ? " of this opset (an export for opset 22 or less may do without it)"
                 : "");
}

static void check_given(const loader *l, const Onnx__NodeProto *n, size_t i, char *text, size_t bytes) {
  if (loader_find(l, n->input[i]) >= 0) return;
  if (is_text_initializer(l, n->input[i]))
    add_text(text, bytes, "its input '%s' holds strings, which are not supported", n->input[i]);
  else
    add_text(text, bytes, "nothing gives its input '%s'", n->input[i]);
}

static void check_inlined(const loader *l, const Onnx__NodeProto *n, const inlined *kind, char *text,
                          size_t bytes) {
  if (load_opset(l->proto, "") < kind->since)
    add_text(text, bytes, "understood from opset %d on", kind->since);
  if (n->n_input < kind->min_inputs)
    add_text(text, bytes, "has %zu inputs, at least %zu are needed", n->n_input, kind->min_inputs);
  for (size_t i = 0; i < n->n_input; i++) {
    if (*n->input[i]) check_given(l, n, i, text, bytes);
    if (!*n->input[i] && i >= kind->may_lack) add_text(text, bytes, "input %zu is left out", i);
  }
}

/* Everything that keeps a node from being run, into text; "" if there is nothing. */
static void check_node(const loader *l, size_t index, char *text, size_t bytes) {
  const Onnx__NodeProto *n = l->from->node[index];
  const op *o = find_op(l, n);
  *text = '\0';
  if (!is_wanted(l, index)) return;
  if (inlined_find(n)) {
    check_inlined(l, n, inlined_find(n), text, bytes);
    return;
  }
  if (!o) {
    explain_missing(l, n, text, bytes);
    return;
  }
  check_counts(o, n, text, bytes);
  for (size_t i = 0; i < n->n_input; i++) {
    if (!*n->input[i] && i < (size_t)o->min_inputs) add_text(text, bytes, "input %zu is left out", i);
    if (*n->input[i]) check_given(l, n, i, text, bytes);
  }
  for (size_t i = 0; i < n->n_attribute; i++)
    if (!has_attribute(o, proto_text(n->attribute[i]->name)))
      add_text(text, bytes, "attribute '%s' is not understood", proto_text(n->attribute[i]->name));
}

status loader_title(const loader *l, size_t i, char **out) {
  const Onnx__NodeProto *n = l->from->node[i];
  if (*proto_text(n->name)) return mem_format(out, "%s%s", l->prefix, n->name);
  return mem_format(out, "%s%s_%zu", l->prefix, proto_text(n->op_type), i);
}

static status list_problems(const loader *l, size_t n_bad) {
  status st = STATUS_OK;
  char text[512];
  status_set(STATUS_BAD_INPUT, "%s: %zu node%s cannot be run:", l->name, n_bad, n_bad == 1 ? "" : "s");
  for (size_t i = 0; i < l->from->n_node; i++) {
    const Onnx__NodeProto *n = l->from->node[i];
    char *title;
    check_node(l, i, text, sizeof text);
    if (!*text) continue;
    TRY(loader_title(l, i, &title));
    const char *domain = plain_domain(n->domain);
    status_add_line("  '%s' (%s%s%s, opset %d): %s", title, domain, *domain ? "." : "",
                    proto_text(n->op_type), load_opset(l->proto, domain), text);
    mem_free(title);
  }
  return STATUS_BAD_INPUT;
done:
  return st;
}

static status check_nodes(const loader *l) {
  char text[512];
  size_t n_bad = 0;
  for (size_t i = 0; i < l->from->n_node; i++) {
    check_node(l, i, text, sizeof text);
    n_bad += *text != '\0';
  }
  return n_bad ? list_problems(l, n_bad) : STATUS_OK;
}

static void find_values(const loader *l, char *const *names_of, size_t n, int *out) {
  for (size_t i = 0; i < n; i++) out[i] = *names_of[i] ? loader_find(l, names_of[i]) : -1;
}

static status read_attributes(const loader *l, const Onnx__NodeProto *n, const char *title, attribute **out) {
  status st = STATUS_OK;
  char *what = NULL;
  size_t i = 0;
  TRY(mem_format(&what, "%s: node '%s' (%s)", l->name, title, proto_text(n->op_type)));
  TRY(mem_new(out, n->n_attribute, sizeof **out));
  for (; i < n->n_attribute; i++) TRY(attribute_from_proto(&(*out)[i], n->attribute[i], what));
done:
  mem_free(what);
  if (!st) return st;
  for (size_t k = 0; *out && k < n->n_attribute; k++) attribute_clear(&(*out)[k]);
  mem_free(*out);
  *out = NULL;
  return st;
}

static status add_node(loader *l, size_t i) {
  status st = STATUS_OK;
  const Onnx__NodeProto *n = l->from->node[i];
  if (inlined_find(n)) return inlined_find(n)->add(l, i);
  if (n->n_input == 1 && n->n_output == 1 && sequence_find(l, loader_find(l, n->input[0])) &&
      strcmp(proto_text(n->op_type), "Identity") == 0)
    return loader_connect(l, loader_find(l, n->input[0]), n->output[0], "");
  char *title = NULL;
  int *ends = NULL;
  attribute *attributes = NULL;
  TRY(loader_title(l, i, &title));
  TRY(mem_new(&ends, n->n_input + n->n_output, sizeof *ends));
  find_values(l, n->input, n->n_input, ends);
  find_values(l, n->output, n->n_output, ends + n->n_input);
  TRY(read_attributes(l, n, title, &attributes));
  TRY(loader_name_file(l, graph_add_node(l->g, title, find_op(l, n), load_opset(l->proto, n->domain), ends,
                                         (int)n->n_input, ends + n->n_input, (int)n->n_output, attributes,
                                         (int)n->n_attribute)));
done:
  mem_free(ends);
  mem_free(title);
  return st;
}

status loader_add_branch(loader *l) {
  status st = STATUS_OK;
  TRY(add_values(l));
  TRY(check_nodes(l));
  for (size_t i = 0; i < l->from->n_node; i++)
    if (is_wanted(l, i)) TRY(add_node(l, i));
done:
  return st;
}

static status add_output(loader *l, const Onnx__ValueInfoProto *output) {
  int value = graph_find(l->g, proto_text(output->name));
  if (value < 0 && is_text_initializer(l, proto_text(output->name)))
    return status_set(STATUS_BAD_INPUT, "%s: its output '%s' holds strings, which are not supported", l->name,
                      proto_text(output->name));
  if (value < 0)
    return status_set(STATUS_BAD_INPUT, "%s: nothing gives its output '%s'", l->name,
                      proto_text(output->name));
  return loader_name_file(l, graph_add_output(l->g, value));
}

static status take_block(const loader *l) {
  for (int i = 0; i < l->g->n_values; i++) {
    value *v = &l->g->values[i];
    bool inside = v->kind == VALUE_PARAMETER || v->kind == VALUE_STATISTIC;
    if (inside) v->constant->data = l->block + v->offset;
    if (v->constant && !v->constant->data)
      return status_set(STATUS_FAILED, "%s: initializer '%s' has no data", l->name, v->name);
  }
  return STATUS_OK;
}

status load_graph(graph **out, int **initializers, const char *name, Onnx__ModelProto *proto, float *block) {
  status st = STATUS_OK;
  int64_t work = 0;
  loader l = {
      .name = name, .proto = proto, .from = proto->graph, .prefix = "", .work = &work, .block = block};
  TRY(check_file(&l));
  TRY(sequences_new(&l.lists));
  TRY(graph_new(&l.g));
  TRY(add_values(&l));
  TRY(mark_wanted(&l));
  TRY(check_nodes(&l));
  for (size_t i = 0; i < l.from->n_node; i++)
    if (l.wanted[i]) TRY(add_node(&l, i));
  for (size_t i = 0; i < l.from->n_output; i++)
    if (!is_text(l.from->output[i])) TRY(add_output(&l, l.from->output[i]));
  TRY(loader_name_file(&l, graph_finish(l.g)));
  if (block) TRY(take_block(&l));
done:
  sequences_free(&l.lists);
  mem_free(l.wanted);
  if (st) {
    graph_free(&l.g);
    mem_free(l.initializers);
    l.initializers = NULL;
  }
  *out = l.g;
  *initializers = l.initializers;
  return st;
}
