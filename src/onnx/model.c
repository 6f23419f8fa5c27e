#include "onnx/model.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/profile.h"
#include "graph/op.h"
#include "onnx/load.h"
#include "onnx/loader.h"
#include "onnx/merged.h"
#include "onnx/proto.h"
#include "onnx/side.h"
#include "onnx/tensor_proto.h"
#include "onnx/training_mode.h"

#include <stdio.h>
#include <string.h>

enum { SPLIT_BYTES = 1024 };      /* smaller tensors stay in the model */
enum { IR_OWN_INITIALIZERS = 4 }; /* before, each was an input too */

/* protobuf messages end at 2 GiB; the rest is for the graph */
static const int64_t INLINE_MAX = INT32_MAX - (4 << 20);

struct model {
  char *path;
  model_origin origin;
  float *block;            /* borrowed: a shell's numbers */
  Onnx__ModelProto *proto; /* initializers that are parameters or statistics have lost their data */
  graph *graph;
  int *initializers; /* value of each initializer */
};

static bool in_block(const model *m, size_t initializer) {
  if (m->initializers[initializer] < 0) return false;
  value_kind kind = m->graph->values[m->initializers[initializer]].kind;
  return kind == VALUE_PARAMETER || kind == VALUE_STATISTIC;
}

/* From bytes to a message; bytes are not needed after that. */
static status unpack(model *m, const void *bytes, size_t n, hash_stream *h) {
  status st = STATUS_OK;
  hash_add(h, bytes, n);
  m->origin.bytes = (int64_t)n;
  if (!n) THROW(STATUS_BAD_INPUT, "%s: is empty", m->path);
  TRY(proto_unpack(&m->proto, m->path, &onnx__model_proto__descriptor, bytes, n));
  if (!m->proto->graph) THROW(STATUS_BAD_INPUT, "%s: is not an ONNX model: it holds no graph", m->path);
done:
  return st;
}

/* Large data is in the graph alone while that is built (load_graph): what is not in the block comes back. */
static status restore_data(model *m, size_t i) {
  Onnx__TensorProto *t = m->proto->graph->initializer[i];
  if (!load_took_data(t)) return STATUS_OK;
  const tensor *from = m->graph->values[m->initializers[i]].constant;
  status st =
      tensor_to_raw(t, from->data, shape_count(&from->shape), m->path, &t->raw_data.data, &t->raw_data.len);
  t->has_raw_data = !st;
  return st;
}

static status build(model *m, hash_stream **h, float *block) {
  status st = STATUS_OK;
  int n_ended = 0, n_parted = 0;
  char *ended = NULL, *parted = NULL;
  TRY(side_load(m->proto->graph, m->path, *h, &m->origin.bytes));
  m->origin.hash = hash_end(h);
  TRY(training_mode_end(m->proto->graph, load_opset(m->proto, ""), &n_ended, &ended));
  m->origin.n_ended = n_ended;
  snprintf(m->origin.ended, sizeof m->origin.ended, "%s", ended ? ended : "");
  if (m->proto->ir_version >= IR_OWN_INITIALIZERS) TRY(merged_part(m->proto->graph, &n_parted, &parted));
  m->origin.n_parted = n_parted;
  snprintf(m->origin.parted, sizeof m->origin.parted, "%s", parted ? parted : "");
  TRY(load_graph(&m->graph, &m->initializers, m->path, m->proto, block));
  for (size_t i = 0; i < m->proto->graph->n_initializer; i++) {
    if (in_block(m, i))
      tensor_proto_drop_data(m->proto->graph->initializer[i]);
    else
      TRY(restore_data(m, i));
  }
done:
  mem_free(ended);
  mem_free(parted);
  return st;
}

/* Takes `view` where it is not NULL: it goes before the graph is built. */
static status parse(model **out, const char *name, const void *bytes, size_t n, file_view *view,
                    float *block) {
  status st = STATUS_OK;
  model *m = NULL;
  hash_stream *h = NULL;
  *out = NULL;
  TRY(mem_new(&m, 1, sizeof *m));
  TRY(mem_string(&m->path, name));
  TRY(hash_start(&h));
  TRY(unpack(m, bytes, n, h));
  if (view) file_unmap(view);
  m->block = block;
  TRY(build(m, &h, block));
done:
  hash_end(&h);
  if (st) model_free(&m);
  *out = m;
  return st;
}

status model_parse(model **out, const char *name, const void *bytes, size_t n) {
  return parse(out, name, bytes, n, NULL, NULL);
}

status model_parse_shell(model **out, const char *name, const void *bytes, size_t n, float *block,
                         const model_origin *from) {
  status st = parse(out, name, bytes, n, NULL, block);
  if (!st) (*out)->origin = *from;
  return st;
}

model_origin model_origin_of(const model *m) {
  return m->origin;
}

const float *model_block(const model *m) {
  return m->block;
}

status model_pack_shell(const model *m, unsigned char **bytes, size_t *n) {
  *bytes = NULL;
  *n = 0;
  for (size_t i = 0; i < m->proto->graph->n_node; i++)
    if (inlined_find(m->proto->graph->node[i])) return STATUS_OK;
  return proto_pack(m->proto, bytes, n);
}

status model_read(model **out, const char *path) {
  file_view view;
  *out = NULL;
  const profile_phase before = profile_enter(PROFILE_READ);
  status st = file_map(&view, path);
  if (!st) st = parse(out, path, view.bytes, view.n, &view, NULL);
  file_unmap(&view);
  profile_enter(before);
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

void model_drop_data(model *m) {
  graph_drop_data(m->graph);
}

const char *model_path(const model *m) {
  return m->path;
}

uint64_t model_hash(const model *m) {
  return m->origin.hash;
}

int64_t model_bytes(const model *m) {
  return m->origin.bytes;
}

static bool is_quantiser(const Onnx__NodeProto *n) {
  return !strcmp(proto_text(n->op_type), "DequantizeLinear") ||
         !strcmp(proto_text(n->op_type), "QuantizeLinear");
}

/* Whether a number of that name is a weight: read by some node, and no scale, zero point or statistic. */
static bool is_weight(const Onnx__GraphProto *g, const Onnx__TensorProto *t) {
  bool read = false;
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    for (size_t k = 0; k < n->n_input; k++) {
      if (strcmp(n->input[k], proto_text(t->name)) != 0) continue;
      if (is_quantiser(n) && k) return false;
      if (!strcmp(n->op_type, "BatchNormalization") && k > 2) return false;
      read = is_quantiser(n) || t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    }
  }
  return read;
}

/* Gradients end at a QuantizeLinear, so behind one the graph counts none. */
int64_t model_parameters(const model *m) {
  const Onnx__GraphProto *g = m->proto->graph;
  bool quantised = false;
  int64_t n = 0;
  for (size_t i = 0; i < g->n_node; i++) quantised = quantised || is_quantiser(g->node[i]);
  if (!quantised) return m->graph->n_parameters;
  for (size_t i = 0; i < g->n_initializer; i++) {
    int64_t count = 1;
    for (size_t k = 0; k < g->initializer[i]->n_dims; k++) count *= g->initializer[i]->dims[k];
    if (g->initializer[i]->n_dims && is_weight(g, g->initializer[i])) n += count;
  }
  return n;
}

int model_opset(const model *m) {
  return load_opset(m->proto, "");
}

const char *model_training_node(const model *m, int *n) {
  *n = (int)m->origin.n_ended;
  return m->origin.n_ended ? m->origin.ended : NULL;
}

const char *model_parted_weight(const model *m, int *n) {
  *n = (int)m->origin.n_parted;
  return m->origin.n_parted ? m->origin.parted : NULL;
}

const char *model_tied_weight(const model *m, int *n) {
  const graph *g = m->graph;
  const char *first = NULL;
  *n = 0;
  for (int v = 0; v < g->n_values; v++) {
    const op *reader = NULL;
    bool tied = false;
    if (g->values[v].kind != VALUE_PARAMETER || g->values[v].n_uses < 2) continue;
    for (int i = 0; i < g->n_nodes && !tied; i++)
      for (int k = 0; k < g->nodes[i].n_inputs; k++) {
        if (g->nodes[i].inputs[k] != v) continue;
        tied = reader == g->nodes[i].op || !strcmp(g->nodes[i].op->name, "Identity");
        reader = g->nodes[i].op;
      }
    if (tied && !(*n)++) first = g->values[v].name;
  }
  return first;
}

const char *model_folded_weight(const model *m) {
  return training_mode_folded(m->proto->graph);
}

const char *model_producer(const model *m) {
  return proto_text(m->proto->producer_name);
}

/* Initializer i with the block's values where it has some, in *copy: the model itself stays as it is, so
 * several threads may write it. What copy->raw_data then points to is the caller's (mem_free). */
static status fill_initializer(const model *m, const float *block, size_t i, Onnx__TensorProto *copy) {
  status st = STATUS_OK;
  char *what = NULL;
  const value *v = &m->graph->values[m->initializers[i]];
  *copy = *m->proto->graph->initializer[i];
  TRY(mem_format(&what, "%s: initializer '%s'", m->path, v->name));
  TRY(tensor_to_raw(copy, block + v->offset, shape_count(&v->constant->shape), what, &copy->raw_data.data,
                    &copy->raw_data.len));
  copy->has_raw_data = true;
done:
  mem_free(what);
  return st;
}

/* A copy of the model's message whose initializers may be replaced: list[i] by &tensors[i]. */
typedef struct copy {
  Onnx__ModelProto proto;
  Onnx__GraphProto graph;
  Onnx__TensorProto *tensors, **list;
} copy;

static status copy_make(copy *c, const model *m) {
  status st = STATUS_OK;
  *c = (copy){.proto = *m->proto, .graph = *m->proto->graph};
  size_t n = c->graph.n_initializer;
  TRY(mem_new(&c->tensors, n, sizeof *c->tensors));
  TRY(mem_new(&c->list, n, sizeof *c->list));
  if (n) memcpy(c->list, c->graph.initializer, n * sizeof *c->list);
  c->graph.initializer = c->list;
  c->proto.graph = &c->graph;
done:
  return st;
}

static void copy_clear(copy *c) {
  mem_free(c->tensors);
  mem_free(c->list);
}

status model_pack(const model *m, const float *block, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  copy c;
  *bytes = NULL;
  TRY(copy_make(&c, m));
  for (size_t i = 0; i < c.graph.n_initializer; i++) {
    if (!in_block(m, i)) continue;
    TRY(fill_initializer(m, block, i, &c.tensors[i]));
    c.list[i] = &c.tensors[i];
  }
  TRY(proto_pack(&c.proto, bytes, n));
done:
  for (size_t i = 0; c.tensors && i < c.graph.n_initializer; i++)
    if (in_block(m, i)) mem_free(c.tensors[i].raw_data.data);
  copy_clear(&c);
  return st;
}

/* Moves the data of initializer i into the file beside the model, unless it is small. */
static status split_initializer(const model *m, const float *block, size_t i, side_file *f, copy *c) {
  status st = STATUS_OK;
  unsigned char *owned = NULL;
  c->tensors[i] = *c->list[i];
  if (in_block(m, i)) {
    TRY(fill_initializer(m, block, i, &c->tensors[i]));
    owned = c->tensors[i].raw_data.data;
  }
  if (c->tensors[i].has_raw_data)
    TRY(side_add(f, &c->tensors[i], c->tensors[i].raw_data.data, c->tensors[i].raw_data.len));
  c->list[i] = &c->tensors[i];
done:
  mem_free(owned);
  return st;
}

static status tensor_bytes_of(const model *m, size_t i, int64_t *bytes) {
  const Onnx__TensorProto *t = m->proto->graph->initializer[i];
  if (in_block(m, i)) return tensor_proto_bytes(t, m->path, bytes);
  *bytes = (int64_t)protobuf_c_message_get_packed_size(&t->base);
  return STATUS_OK;
}

static status write_split(const model *m, const float *block, const char *path) {
  status st = STATUS_OK;
  copy c;
  side_file *f = NULL;
  unsigned char *bytes = NULL;
  size_t n;
  int64_t of_tensor;
  TRY(copy_make(&c, m));
  TRY(side_create(&f, path));
  for (size_t i = 0; i < c.graph.n_initializer; i++) {
    TRY(tensor_bytes_of(m, i, &of_tensor));
    if (of_tensor >= SPLIT_BYTES || in_block(m, i)) TRY(split_initializer(m, block, i, f, &c));
  }
  TRY(proto_pack(&c.proto, &bytes, &n));
  TRY(side_commit(f));
  TRY(file_write(path, bytes, n));
done:
  mem_free(bytes);
  side_free(&f);
  copy_clear(&c);
  return st;
}

status model_write_split(const model *m, const float *block, const char *path, int64_t inline_max) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  int64_t total = 0, of_tensor;
  for (size_t i = 0; i < m->proto->graph->n_initializer; i++) {
    TRY(tensor_bytes_of(m, i, &of_tensor));
    total += of_tensor;
  }
  if (total > inline_max) return write_split(m, block, path);
  TRY(model_pack(m, block, &bytes, &n));
  TRY(file_write(path, bytes, n));
done:
  mem_free(bytes);
  return st;
}

status model_write(const model *m, const float *block, const char *path) {
  const profile_phase before = profile_enter(PROFILE_WRITE);
  status st = model_write_split(m, block, path, INLINE_MAX);
  profile_enter(before);
  return st;
}
