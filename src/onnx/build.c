#include "onnx/build.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "graph/tensor.h"
#include "onnx/message.h"

#include <math.h>
#include <string.h>

enum { BUILD_IR_VERSION = 8, FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT };

static const int64_t BYTES_MAX =
    INT32_MAX - (1 << 20); /* protobuf messages end at 2 GiB; the rest is for the graph */

struct builder {
  status st; /* the first failure; nothing is done after it */
  uint64_t seed;
  uint64_t n_parameters;
  int64_t n_bytes;         /* of all initializers */
  Onnx__ModelProto *proto; /* made of mem_new pieces, so that proto_free takes it apart */
};

static status start(builder *b, const char *graph_name) {
  status st = STATUS_OK;
  Onnx__OperatorSetIdProto *import;
  TRY(message_new(&b->proto, &onnx__model_proto__descriptor));
  Onnx__ModelProto *p = b->proto;
  p->has_ir_version = true;
  p->ir_version = BUILD_IR_VERSION;
  TRY(mem_string(&p->producer_name, "mpistill"));
  TRY(mem_string(&p->producer_version, MPISTILL_VERSION));
  TRY(message_add(&import, &p->opset_import, &p->n_opset_import, &onnx__operator_set_id_proto__descriptor));
  TRY(mem_string(&import->domain, ""));
  import->has_version = true;
  import->version = BUILD_OPSET;
  TRY(message_new(&p->graph, &onnx__graph_proto__descriptor));
  TRY(mem_string(&p->graph->name, graph_name));
done:
  return st;
}

status builder_new(builder **out, const char *graph_name, uint64_t seed) {
  status st = STATUS_OK;
  TRY(mem_new(out, 1, sizeof **out));
  (*out)->seed = seed;
  TRY(start(*out, graph_name));
done:
  if (st) builder_free(out);
  return st;
}

void builder_free(builder **b) {
  if (!*b) return;
  proto_free((*b)->proto);
  mem_free(*b);
  *b = NULL;
}

static status add_dimension(Onnx__TensorShapeProto *s, const char *name, int64_t size) {
  Onnx__TensorShapeProto__Dimension *d;
  status st = message_add(&d, &s->dim, &s->n_dim, &onnx__tensor_shape_proto__dimension__descriptor);
  if (st) return st;
  if (!name) {
    d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    d->dim_value = size;
    return STATUS_OK;
  }
  st = mem_string(&d->dim_param, name);
  if (!st) d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
  return st;
}

/* An input or output: [N, dims...]. */
static status add_end(Onnx__ValueInfoProto ***array, size_t *n, const char *name, int element,
                      const int64_t *dims, int rank) {
  status st = STATUS_OK;
  Onnx__ValueInfoProto *info;
  TRY(message_add(&info, array, n, &onnx__value_info_proto__descriptor));
  TRY(mem_string(&info->name, name));
  TRY(message_new(&info->type, &onnx__type_proto__descriptor));
  TRY(message_new(&info->type->tensor_type, &onnx__type_proto__tensor__descriptor));
  info->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  Onnx__TypeProto__Tensor *type = info->type->tensor_type;
  type->has_elem_type = true;
  type->elem_type = element;
  TRY(message_new(&type->shape, &onnx__tensor_shape_proto__descriptor));
  TRY(add_dimension(type->shape, "N", 0));
  for (int i = 0; i < rank; i++) TRY(add_dimension(type->shape, NULL, dims[i]));
done:
  return st;
}

void builder_input(builder *b, const char *name, const int64_t *dims, int rank) {
  Onnx__GraphProto *g = b->proto->graph;
  if (!b->st) b->st = add_end(&g->input, &g->n_input, name, FLOAT, dims, rank);
}

void builder_tokens(builder *b, const char *name, const int64_t *dims, int rank) {
  Onnx__GraphProto *g = b->proto->graph;
  if (!b->st) b->st = add_end(&g->input, &g->n_input, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, dims, rank);
}

bool builder_has(const builder *b, const char *name) {
  const Onnx__GraphProto *g = b->proto->graph;
  bool has = false;
  for (size_t i = 0; i < g->n_input; i++) has = has || strcmp(g->input[i]->name, name) == 0;
  for (size_t i = 0; i < g->n_initializer; i++) has = has || strcmp(g->initializer[i]->name, name) == 0;
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++) has = has || strcmp(g->node[i]->output[k], name) == 0;
  return has;
}

void builder_output(builder *b, const char *name, const int64_t *dims, int rank) {
  Onnx__GraphProto *g = b->proto->graph;
  if (!b->st) b->st = add_end(&g->output, &g->n_output, name, FLOAT, dims, rank);
}

/* An initializer with zeroed raw_data of `bytes` an element. */
static status add_initializer(builder *b, const char *name, int type, size_t bytes, const int64_t *dims,
                              int rank, Onnx__TensorProto **out) {
  status st = STATUS_OK;
  Onnx__GraphProto *g = b->proto->graph;
  shape s = {.rank = rank};
  for (int i = 0; i < rank; i++) s.dims[i] = dims[i];
  int64_t count = shape_count(&s);
  if (count < 0 || count > (BYTES_MAX - b->n_bytes) / (int64_t)bytes)
    THROW(STATUS_BAD_INPUT, "the model would be larger than 2 GiB, which no ONNX file can be");
  b->n_bytes += count * (int64_t)bytes;
  TRY(message_add(out, &g->initializer, &g->n_initializer, &onnx__tensor_proto__descriptor));
  Onnx__TensorProto *t = *out;
  TRY(mem_string(&t->name, name));
  t->has_data_type = true;
  t->data_type = type;
  TRY(mem_new(&t->dims, (size_t)rank, sizeof *t->dims));
  t->n_dims = (size_t)rank;
  if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
  TRY(mem_new(&t->raw_data.data, (size_t)count, bytes));
  t->raw_data.len = (size_t)count * bytes;
  t->has_raw_data = true;
done:
  return st;
}

static void fill(float *x, int64_t n, uint64_t seed, uint64_t stream, build_init init, double fan_in,
                 double fan_out) {
  float deviation = (float)sqrt(2.0 / fan_in);
  float limit = (float)sqrt(6.0 / (fan_in + fan_out));
  for (int64_t i = 0; i < n; i++) {
    uint64_t at = (uint64_t)i;
    switch (init) {
    case BUILD_ZERO:
      x[i] = 0;
      break;
    case BUILD_ONE:
      x[i] = 1;
      break;
    case BUILD_HE:
      x[i] = deviation * rng_normal(seed, RNG_INITIALISE, stream, at);
      break;
    case BUILD_SMALL:
      x[i] = 0.02f * rng_normal(seed, RNG_INITIALISE, stream, at);
      break;
    case BUILD_GLOROT:
      x[i] = limit * (2 * rng_uniform(seed, RNG_INITIALISE, stream, at) - 1);
      break;
    }
  }
}

void builder_parameter(builder *b, const char *name, const int64_t *dims, int rank, build_init init,
                       int64_t fan_in, int64_t fan_out) {
  Onnx__TensorProto *t = NULL;
  if (b->st) return;
  b->st = add_initializer(b, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, sizeof(float), dims, rank, &t);
  if (b->st) return;
  int64_t n = (int64_t)(t->raw_data.len / sizeof(float));
  fill((float *)t->raw_data.data, n, b->seed, b->n_parameters++, init, (double)fan_in, (double)fan_out);
}

void builder_ints_constant(builder *b, const char *name, const int64_t *values, int n) {
  Onnx__TensorProto *t = NULL;
  if (b->st) return;
  b->st =
      add_initializer(b, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, sizeof *values, (int64_t[]){n}, 1, &t);
  if (!b->st && n) memcpy(t->raw_data.data, values, t->raw_data.len);
}

static status add_node(builder *b, const char *type, const char *name, const char *const *inputs,
                       const char *output) {
  status st = STATUS_OK;
  Onnx__NodeProto *n;
  Onnx__GraphProto *g = b->proto->graph;
  TRY(message_add(&n, &g->node, &g->n_node, &onnx__node_proto__descriptor));
  TRY(message_node(n, type, name, inputs, output));
done:
  return st;
}

void builder_node(builder *b, const char *type, const char *name, const char *const *inputs,
                  const char *output) {
  if (!b->st) b->st = add_node(b, type, name, inputs, output);
}

void builder_node_output(builder *b, const char *output) {
  Onnx__GraphProto *g = b->proto->graph;
  if (b->st) return;
  Onnx__NodeProto *n = g->node[g->n_node - 1];
  b->st = message_add_string(&n->output, &n->n_output, output);
}

/* A named attribute of the node added last; NULL after a failure. */
static Onnx__AttributeProto *add_attribute(builder *b, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = NULL;
  Onnx__GraphProto *g = b->proto->graph;
  if (b->st) return NULL;
  Onnx__NodeProto *n = g->node[g->n_node - 1];
  b->st = message_add(&a, &n->attribute, &n->n_attribute, &onnx__attribute_proto__descriptor);
  if (!b->st) b->st = mem_string(&a->name, name);
  if (b->st) return NULL;
  a->has_type = true;
  a->type = type;
  return a;
}

void builder_int(builder *b, const char *attribute, int64_t value) {
  Onnx__AttributeProto *a = add_attribute(b, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  if (!a) return;
  a->has_i = true;
  a->i = value;
}

void builder_float(builder *b, const char *attribute, float value) {
  Onnx__AttributeProto *a = add_attribute(b, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  if (!a) return;
  a->has_f = true;
  a->f = value;
}

void builder_float_constant(builder *b, const char *name, float value) {
  builder_node(b, "Constant", name, (const char *[]){NULL}, name);
  builder_float(b, "value_float", value);
}

void builder_string(builder *b, const char *attribute, const char *value) {
  Onnx__AttributeProto *a = add_attribute(b, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  if (!a) return;
  b->st = mem_new(&a->s.data, strlen(value), 1);
  if (b->st) return;
  a->has_s = true;
  a->s.len = strlen(value);
  memcpy(a->s.data, value, a->s.len);
}

void builder_ints(builder *b, const char *attribute, const int64_t *values, int n) {
  Onnx__AttributeProto *a = add_attribute(b, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  if (!a) return;
  b->st = mem_new(&a->ints, (size_t)n, sizeof *a->ints);
  if (b->st) return;
  a->n_ints = (size_t)n;
  if (n) memcpy(a->ints, values, (size_t)n * sizeof *values);
}

status builder_pack(builder *b, unsigned char **bytes, size_t *n) {
  return b->st ? b->st : proto_pack(b->proto, bytes, n);
}

status builder_write(builder *b, const char *path) {
  unsigned char *bytes = NULL;
  size_t n;
  status st = builder_pack(b, &bytes, &n);
  if (!st) st = file_write(path, bytes, n);
  mem_free(bytes);
  return st;
}
