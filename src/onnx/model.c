#include "onnx/model.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "onnx/load.h"
#include "onnx/proto.h"
#include "onnx/tensor_proto.h"

struct model {
  char *path;
  uint64_t hash;
  int64_t bytes;
  Onnx__ModelProto *proto; /* initializers that are parameters or statistics have lost their data */
  graph *graph;
  int *initializers; /* value of each initializer */
};

static bool in_block(const model *m, size_t initializer) {
  value_kind kind = m->graph->values[m->initializers[initializer]].kind;
  return kind == VALUE_PARAMETER || kind == VALUE_STATISTIC;
}

status model_parse(model **out, const char *name, const void *bytes, size_t n) {
  status st = STATUS_OK;
  model *m;
  *out = NULL;
  TRY(mem_new(&m, 1, sizeof *m));
  TRY(mem_string(&m->path, name));
  m->hash = hash_bytes(bytes, n);
  m->bytes = (int64_t)n;
  if (!n) THROW(STATUS_BAD_INPUT, "%s: is empty", name);
  TRY(proto_unpack(&m->proto, name, &onnx__model_proto__descriptor, bytes, n));
  if (!m->proto->graph) THROW(STATUS_BAD_INPUT, "%s: is not an ONNX model: it holds no graph", name);
  TRY(load_graph(&m->graph, &m->initializers, name, m->proto));
  for (size_t i = 0; i < m->proto->graph->n_initializer; i++)
    if (in_block(m, i)) tensor_proto_drop_data(m->proto->graph->initializer[i]);
done:
  if (st) model_free(&m);
  *out = m;
  return st;
}

status model_read(model **out, const char *path) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  *out = NULL;
  TRY(file_read(path, &bytes, &n));
  TRY(model_parse(out, path, bytes, n));
done:
  mem_free(bytes);
  return st;
}

void model_free(model **m) {
  if (!*m) return;
  graph_free(&(*m)->graph);
  mem_free((*m)->initializers);
  proto_free((*m)->proto);
  mem_free((*m)->path);
  mem_free(*m);
  *m = NULL;
}

const graph *model_graph(const model *m) {
  return m->graph;
}

const char *model_path(const model *m) {
  return m->path;
}

uint64_t model_hash(const model *m) {
  return m->hash;
}

int64_t model_bytes(const model *m) {
  return m->bytes;
}

int model_opset(const model *m) {
  return load_opset(m->proto, "");
}

const char *model_producer(const model *m) {
  return proto_text(m->proto->producer_name);
}

/* A copy of the graph's initializers in which those of the block have its values: the model itself stays as
 * it is, so several threads may write it. `tensors` and `list` have room for all of them. */
static status fill_initializers(const model *m, const float *block, Onnx__TensorProto *tensors,
                                Onnx__TensorProto **list) {
  status st = STATUS_OK;
  char *what = NULL;
  const Onnx__GraphProto *g = m->proto->graph;
  for (size_t i = 0; i < g->n_initializer; i++) {
    list[i] = g->initializer[i];
    if (!in_block(m, i)) continue;
    const value *v = &m->graph->values[m->initializers[i]];
    tensors[i] = *g->initializer[i];
    TRY(mem_format(&what, "%s: initializer '%s'", m->path, v->name));
    TRY(tensor_to_raw(&tensors[i], block + v->offset, shape_count(&v->constant->shape), what,
                      &tensors[i].raw_data.data, &tensors[i].raw_data.len));
    tensors[i].has_raw_data = true;
    list[i] = &tensors[i];
    mem_free(what);
    what = NULL;
  }
done:
  mem_free(what);
  return st;
}

status model_pack(const model *m, const float *block, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  Onnx__ModelProto proto = *m->proto;
  Onnx__GraphProto g = *m->proto->graph;
  Onnx__TensorProto *tensors = NULL;
  Onnx__TensorProto **list = NULL;
  *bytes = NULL;
  TRY(mem_new(&tensors, g.n_initializer, sizeof *tensors));
  TRY(mem_new(&list, g.n_initializer, sizeof *list));
  TRY(fill_initializers(m, block, tensors, list));
  g.initializer = list;
  proto.graph = &g;
  TRY(proto_pack(&proto, bytes, n));
done:
  for (size_t i = 0; tensors && i < g.n_initializer; i++) mem_free(tensors[i].raw_data.data);
  mem_free(tensors);
  mem_free(list);
  return st;
}

status model_write(const model *m, const float *block, const char *path) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  TRY(model_pack(m, block, &bytes, &n));
  TRY(file_write(path, bytes, n));
done:
  mem_free(bytes);
  return st;
}
