/* precision_float16. */
#include "onnx/precision.h"

#include "base/mem.h"
#include "onnx/message.h"
#include "onnx/tensor_proto.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, FLOAT16 = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 };
static const float LARGEST = 65504;

static bool is_op(const Onnx__NodeProto *n, const char *type) {
  return strcmp(proto_text(n->op_type), type) == 0;
}

/* Inputs that are float by ONNX's definition, whatever the data is. */
static bool stays_float(const Onnx__NodeProto *n, size_t input) {
  if (is_op(n, "Resize")) return input > 0;
  return is_op(n, "Upsample") && input == 1;
}

static bool is_kept(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_input; k++)
      if (stays_float(g->node[i], k) && strcmp(g->node[i]->input[k], name) == 0) return true;
  return false;
}

/* Operators that ONNX does not define on float16, or whose result has a type of its own. */
static status check_nodes(const char *name, const Onnx__GraphProto *g) {
  static const char *const without[] = {"QuantizeLinear",
                                        "DequantizeLinear",
                                        "DynamicQuantizeLinear",
                                        "QLinearConv",
                                        "QLinearMatMul",
                                        "Range",
                                        "Multinomial",
                                        "Bernoulli",
                                        "RandomNormal",
                                        "RandomUniform",
                                        "EyeLike",
                                        "RandomNormalLike",
                                        "RandomUniformLike",
                                        "MatMulInteger",
                                        "ConvInteger",
                                        "If",
                                        "Loop",
                                        "Scan",
                                        "SequenceMap"};
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    bool known = !*proto_text(n->domain) || strcmp(n->domain, "ai.onnx") == 0;
    for (size_t k = 0; known && k < sizeof without / sizeof *without; k++) known = !is_op(n, without[k]);
    if (known) continue;
    return status_set(STATUS_BAD_INPUT,
                      "%s: node '%s' (%s): has no float16 form; leave out --precision float16", name,
                      proto_text(n->name), proto_text(n->op_type));
  }
  return STATUS_OK;
}

/* Constants that stand for "very much", as in masks, become the largest number there is. */
static void clamp(tensor *t) {
  float *x = t->data;
  for (int64_t i = 0; i < shape_count(&t->shape); i++)
    if (isfinite(x[i]) && fabsf(x[i]) > LARGEST) x[i] = copysignf(LARGEST, x[i]);
}

static status convert(const char *name, Onnx__TensorProto *t, bool constant) {
  status st = STATUS_OK;
  char *what = NULL;
  tensor *values = NULL;
  unsigned char *raw;
  size_t n;
  TRY(mem_format(&what, "%s: '%s'", name, proto_text(t->name)));
  TRY(tensor_from_proto(&values, t, what));
  if (constant) clamp(values);
  t->data_type = FLOAT16;
  TRY(tensor_to_raw(t, values->data, shape_count(&values->shape), what, &raw, &n));
  tensor_proto_drop_data(t);
  t->raw_data = (ProtobufCBinaryData){.len = n, .data = raw};
  t->has_raw_data = true;
done:
  mem_free(values);
  mem_free(what);
  return st;
}

/* value_float and value_floats hold floats for ever: they become a tensor. */
static status make_tensor(Onnx__AttributeProto *a) {
  status st = STATUS_OK;
  bool one = strcmp(a->name, "value_float") == 0;
  if (!one && strcmp(a->name, "value_floats")) return st;
  size_t n = one ? 1 : a->n_floats;
  TRY(message_new(&a->t, &onnx__tensor_proto__descriptor));
  Onnx__TensorProto *t = a->t;
  t->has_data_type = true;
  t->data_type = FLOAT;
  TRY(mem_new(&t->float_data, n, sizeof *t->float_data));
  t->n_float_data = n;
  if (n) memcpy(t->float_data, one ? &a->f : a->floats, n * sizeof *t->float_data);
  if (!one) {
    TRY(mem_new(&t->dims, 1, sizeof *t->dims));
    t->dims[t->n_dims++] = (int64_t)n;
  }
  mem_free(a->floats);
  a->floats = NULL;
  a->n_floats = 0;
  a->has_f = false;
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
  mem_free(a->name);
  a->name = NULL;
  TRY(mem_string(&a->name, "value"));
done:
  return st;
}

/* What ConstantOfShape fills with if it does not say: zero, of type float. */
static status add_fill(Onnx__NodeProto *n) {
  status st = STATUS_OK;
  Onnx__AttributeProto *a;
  TRY(message_add(&a, &n->attribute, &n->n_attribute, &onnx__attribute_proto__descriptor));
  TRY(mem_string(&a->name, "value"));
  a->has_type = true;
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
  TRY(message_new(&a->t, &onnx__tensor_proto__descriptor));
  a->t->has_data_type = true;
  a->t->data_type = FLOAT;
  TRY(mem_new(&a->t->dims, 1, sizeof *a->t->dims));
  a->t->dims[a->t->n_dims++] = 1;
  TRY(mem_new(&a->t->float_data, 1, sizeof *a->t->float_data));
  a->t->n_float_data = 1;
done:
  return st;
}

static status convert_node(const char *name, const Onnx__GraphProto *g, Onnx__NodeProto *n) {
  status st = STATUS_OK;
  bool fills = is_op(n, "ConstantOfShape"), gives = is_op(n, "Constant");
  if (gives && is_kept(g, n->output[0])) return st;
  if (fills && !n->n_attribute) TRY(add_fill(n));
  for (size_t i = 0; i < n->n_attribute; i++) {
    Onnx__AttributeProto *a = n->attribute[i];
    if (is_op(n, "Cast") && strcmp(a->name, "to") == 0 && a->i == FLOAT) a->i = FLOAT16;
    if (!fills && !gives) continue;
    TRY(make_tensor(a));
    if (a->t && a->t->data_type == FLOAT) TRY(convert(name, a->t, true));
  }
done:
  return st;
}

/* All nodes read, or the one that computes it gives, another name. */
static status rename_value(Onnx__GraphProto *g, const char *from, const char *to, bool outputs) {
  status st = STATUS_OK;
  for (size_t i = 0; i < g->n_node; i++) {
    Onnx__NodeProto *n = g->node[i];
    for (size_t k = 0; k < n->n_input + (outputs ? n->n_output : 0); k++) {
      char **at = k < n->n_input ? &n->input[k] : &n->output[k - n->n_input];
      if (strcmp(*at, from) != 0) continue;
      if (k < n->n_input && stays_float(n, k)) continue;
      mem_free(*at);
      *at = NULL;
      TRY(mem_string(at, to));
    }
  }
done:
  return st;
}

static bool is_float(const Onnx__ValueInfoProto *v) {
  return v->type && v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && v->type->tensor_type &&
         v->type->tensor_type->elem_type == FLOAT;
}

static bool is_initializer(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_initializer; i++)
    if (strcmp(proto_text(g->initializer[i]->name), name) == 0) return true;
  return false;
}

/* A Cast behind an input (in front of all nodes) or before an output (behind them). */
static status cast_end(Onnx__GraphProto *g, const char *end, bool input) {
  status st = STATUS_OK;
  char *half = NULL, *title = NULL;
  Onnx__NodeProto *cast;
  TRY(mem_format(&half, "%s.float16", end));
  TRY(mem_format(&title, "%s.cast", end));
  TRY(rename_value(g, end, half, !input));
  TRY(message_add(&cast, &g->node, &g->n_node, &onnx__node_proto__descriptor));
  TRY(message_node(cast, "Cast", title, (const char *[]){input ? end : half, NULL}, input ? half : end));
  TRY(message_int(cast, "to", input ? FLOAT16 : FLOAT));
  if (!input) goto done;
  memmove(g->node + 1, g->node, (g->n_node - 1) * sizeof *g->node);
  g->node[0] = cast;
done:
  mem_free(half);
  mem_free(title);
  return st;
}

static status convert_graph(const char *name, Onnx__GraphProto *g) {
  status st = STATUS_OK;
  TRY(check_nodes(name, g));
  for (size_t i = 0; i < g->n_initializer; i++) {
    Onnx__TensorProto *t = g->initializer[i];
    if (t->data_type == FLOAT && !is_kept(g, proto_text(t->name))) TRY(convert(name, t, false));
  }
  for (size_t i = 0; i < g->n_node; i++) TRY(convert_node(name, g, g->node[i]));
  for (size_t i = 0; i < g->n_value_info; i++)
    if (is_float(g->value_info[i]) && !is_kept(g, g->value_info[i]->name))
      g->value_info[i]->type->tensor_type->elem_type = FLOAT16;
  for (size_t i = 0; i < g->n_output; i++)
    if (is_float(g->output[i])) TRY(cast_end(g, g->output[i]->name, false));
  for (size_t i = 0; i < g->n_input; i++)
    if (is_float(g->input[i]) && !is_initializer(g, g->input[i]->name))
      TRY(cast_end(g, g->input[i]->name, true));
done:
  return st;
}

status precision_float16(const char *name, const unsigned char *bytes, size_t n, unsigned char **out,
                         size_t *n_out) {
  status st = STATUS_OK;
  Onnx__ModelProto *proto = NULL;
  *out = NULL;
  TRY(proto_unpack(&proto, name, &onnx__model_proto__descriptor, bytes, n));
  TRY(convert_graph(name, proto->graph));
  TRY(proto_pack(proto, out, n_out));
done:
  proto_free(proto);
  return st;
}
