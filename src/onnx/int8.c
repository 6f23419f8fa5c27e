/* precision_int8 and what it needs to know. */
#include "onnx/precision.h"

#include "base/mem.h"
#include "onnx/load.h"
#include "onnx/message.h"
#include "onnx/tensor_proto.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
  FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
  UINT8 = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
  INT8 = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
  INT32 = ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
  OPSET = 13,
  STEM_BYTES = 16,
  FEWEST = 64 /* numbers of a weight: below, scales and nodes cost more than it saves */
};

/* How an operator's weight is quantised. */
typedef struct rule {
  const char *type;
  int weight, other; /* inputs; other: the second weight, 0: none */
  int axis;          /* of the scales; negative: from the end */
  int bias;          /* input that becomes int32, 0: none */
  bool data;         /* input 0 is quantised too */
} rule;

static const rule rules[] = {
    {.type = "Conv", .weight = 1, .axis = 0, .bias = 2, .data = true},
    {.type = "ConvTranspose", .weight = 1, .axis = 1, .data = true},
    {.type = "Gemm", .weight = 1, .axis = 1, .bias = 2, .data = true}, /* transB: 0 */
    {.type = "MatMul", .weight = 1, .axis = -1, .data = true},
    {.type = "Gather", .weight = 0, .axis = 0},
    {.type = "LSTM", .weight = 1, .other = 2, .axis = 1},
    {.type = "GRU", .weight = 1, .other = 2, .axis = 1},
    {.type = "RNN", .weight = 1, .other = 2, .axis = 1},
};

typedef struct weight { /* of one initializer */
  Onnx__TensorProto *from;
  char *name; /* that it has in the file */
  int axis;
  bool refused;
  float *scales; /* [channels] once it is quantised */
  int64_t channels;
} weight;

typedef struct work {
  const char *name;
  Onnx__GraphProto *g;
  weight *weights; /* [n_initializer] of the file */
  size_t n_weights;
  const precision_range *ranges;
  int n_ranges;
  char stem[STEM_BYTES];   /* of what is added: "int8" */
  Onnx__NodeProto **nodes; /* the new list */
  size_t n_nodes;
  size_t n_moved; /* of the file's nodes: they belong to the new list */
} work;

static const rule *rule_of(const Onnx__NodeProto *n) {
  if (*proto_text(n->domain) && strcmp(n->domain, "ai.onnx")) return NULL;
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (strcmp(proto_text(n->op_type), rules[i].type) == 0) return &rules[i];
  return NULL;
}

static int64_t attribute_of(const Onnx__NodeProto *n, const char *name, int64_t fallback) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(proto_text(n->attribute[i]->name), name) == 0) return n->attribute[i]->i;
  return fallback;
}

static weight *find_weight(const work *w, const char *name) {
  for (size_t i = 0; i < w->n_weights; i++)
    if (w->weights[i].from && strcmp(w->weights[i].name, name) == 0) return &w->weights[i];
  return NULL;
}

static int64_t count_of(const Onnx__TensorProto *t) {
  int64_t n = 1;
  for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
  return n;
}

/* The axis of the scales when the node reads its input k as a weight, else -1. */
static int axis_of(const Onnx__NodeProto *n, size_t k, const Onnx__TensorProto *t) {
  const rule *r = rule_of(n);
  if (!r || ((int)k != r->weight && (!r->other || (int)k != r->other))) return -1;
  int axis = r->axis < 0 ? (int)t->n_dims + r->axis : r->axis;
  if (strcmp(r->type, "Gemm") == 0 && attribute_of(n, "transB", 0)) axis = 0;
  if (strcmp(r->type, "MatMul") == 0 && t->n_dims != 2) return -1;
  if (strcmp(r->type, "Gather") == 0 && (t->n_dims != 2 || attribute_of(n, "axis", 0))) return -1;
  if (strcmp(r->type, "ConvTranspose") == 0 && attribute_of(n, "group", 1) != 1) return -1;
  return axis >= 0 && axis < (int)t->n_dims ? axis : -1;
}

/* What branches and loops read keeps its name and type. */
static void refuse_inside(work *w, const Onnx__NodeProto *n) {
  for (size_t i = 0; i < n->n_attribute; i++) {
    const Onnx__GraphProto *g = n->attribute[i]->g;
    for (size_t j = 0; g && j < g->n_node; j++) {
      for (size_t k = 0; k < g->node[j]->n_input; k++) {
        weight *x = find_weight(w, g->node[j]->input[k]);
        if (x) x->refused = true;
      }
      refuse_inside(w, g->node[j]);
    }
    for (size_t j = 0; g && j < g->n_output; j++) {
      weight *x = find_weight(w, proto_text(g->output[j]->name));
      if (x) x->refused = true;
    }
  }
}

/* A tensor that is a weight wherever it is read, the same way round. */
static void judge(work *w) {
  for (size_t i = 0; i < w->g->n_node; i++) refuse_inside(w, w->g->node[i]);
  for (size_t i = 0; i < w->g->n_node; i++)
    for (size_t k = 0; k < w->g->node[i]->n_input; k++) {
      weight *x = find_weight(w, w->g->node[i]->input[k]);
      if (!x) continue;
      int axis = axis_of(w->g->node[i], k, x->from);
      x->refused = x->refused || axis < 0 || (x->axis >= 0 && x->axis != axis);
      x->axis = axis;
    }
  for (size_t i = 0; i < w->g->n_input + w->g->n_output; i++) {
    const Onnx__ValueInfoProto *v = i < w->g->n_input ? w->g->input[i] : w->g->output[i - w->g->n_input];
    weight *x = find_weight(w, proto_text(v->name));
    if (x) x->refused = true;
  }
}

static status find_weights(work *w) {
  status st = STATUS_OK;
  size_t n = w->g->n_initializer, n_good = 0;
  TRY(mem_new(&w->weights, n, sizeof *w->weights));
  w->n_weights = n;
  for (size_t i = 0; i < n; i++) {
    Onnx__TensorProto *t = w->g->initializer[i];
    w->weights[i].axis = -1;
    TRY(mem_string(&w->weights[i].name, proto_text(t->name)));
    if (t->data_type == FLOAT && count_of(t) >= FEWEST) w->weights[i].from = t;
  }
  judge(w);
  for (size_t i = 0; i < n; i++) {
    weight *x = &w->weights[i];
    if (x->refused || x->axis < 0) x->from = NULL;
    n_good += x->from != NULL;
  }
  if (!n_good)
    THROW(STATUS_BAD_INPUT,
          "%s: has no weights of Conv, Gemm, MatMul, Gather, LSTM, GRU or RNN of %d numbers or more to "
          "quantise; leave out --precision int8",
          w->name, FEWEST);
done:
  return st;
}

/* The node's rule when it is one whose data is quantised with its weight. */
static const rule *quantised(const work *w, const Onnx__NodeProto *n) {
  const rule *r = rule_of(n);
  if (!r || !r->data || n->n_input <= (size_t)r->weight) return NULL;
  return find_weight(w, n->input[r->weight]) ? r : NULL;
}

static bool has_stem(const work *w, const char *name) {
  for (const char *at = strstr(proto_text(name), w->stem); at; at = strstr(at + 1, w->stem))
    if (at > name && at[-1] == '.') return true;
  return false;
}

/* "NAME.int8_scale" and the like must be new names: "int8" grows until no name of the model has it. */
static void choose_stem(work *w) {
  const Onnx__GraphProto *g = w->g;
  bool taken = true;
  strcpy(w->stem, "int8");
  while (taken && strlen(w->stem) + 1 < STEM_BYTES) {
    taken = false;
    for (size_t i = 0; i < g->n_initializer; i++) taken = taken || has_stem(w, g->initializer[i]->name);
    for (size_t i = 0; i < g->n_node; i++) {
      taken = taken || has_stem(w, g->node[i]->name);
      for (size_t k = 0; k < g->node[i]->n_output; k++) taken = taken || has_stem(w, g->node[i]->output[k]);
    }
    if (taken) strcat(w->stem, "_");
  }
}

static status open_work(work *w, const char *name, const unsigned char *bytes, size_t n,
                        Onnx__ModelProto **proto) {
  status st = STATUS_OK;
  w->name = name;
  TRY(proto_unpack(proto, name, &onnx__model_proto__descriptor, bytes, n));
  w->g = (*proto)->graph;
  choose_stem(w);
  int opset = load_opset(*proto, "");
  if (opset < OPSET)
    THROW(STATUS_BAD_INPUT,
          "%s: is written for opset %d; --precision int8 needs %d or more, which has scales per channel: "
          "export "
          "the student again with it",
          name, opset, OPSET);
  TRY(find_weights(w));
done:
  return st;
}

static void free_weights(work *w) {
  for (size_t i = 0; w->weights && i < w->n_weights; i++) {
    mem_free(w->weights[i].scales);
    mem_free(w->weights[i].name);
  }
  mem_free(w->weights);
}

status precision_tensors(const char *name, const unsigned char *bytes, size_t n, precision_range **ranges,
                         int *n_ranges) {
  status st = STATUS_OK;
  work w = {0};
  Onnx__ModelProto *proto = NULL;
  *ranges = NULL;
  *n_ranges = 0;
  TRY(open_work(&w, name, bytes, n, &proto));
  TRY(mem_new(ranges, w.g->n_node, sizeof **ranges));
  for (size_t i = 0; i < w.g->n_node; i++) {
    const Onnx__NodeProto *at = w.g->node[i];
    bool known = !quantised(&w, at);
    for (int k = 0; k < *n_ranges && !known; k++) known = strcmp((*ranges)[k].name, at->input[0]) == 0;
    if (!known) TRY(mem_string(&(*ranges)[(*n_ranges)++].name, at->input[0]));
  }
done:
  free_weights(&w);
  proto_free(proto);
  if (st) precision_ranges_free(ranges, *n_ranges);
  return st;
}

void precision_ranges_free(precision_range **ranges, int n_ranges) {
  for (int i = 0; *ranges && i < n_ranges; i++) mem_free((*ranges)[i].name);
  mem_free(*ranges);
  *ranges = NULL;
}

static status add_node(work *w, const char *type, const char *of, const char *suffix,
                       const char *const *inputs, const char *output, int axis) {
  status st = STATUS_OK;
  char *title = NULL;
  Onnx__NodeProto *n;
  TRY(mem_format(&title, "%s.%s_%s", of, w->stem, suffix));
  TRY(message_add(&n, &w->nodes, &w->n_nodes, &onnx__node_proto__descriptor));
  TRY(message_node(n, type, title, inputs, output));
  if (axis >= 0) TRY(message_int(n, "axis", axis));
done:
  mem_free(title);
  return st;
}

/* An initializer OF.SUFFIX with a copy of the data; *full is its name, the caller's. */
static status add_constant(work *w, const char *of, const char *suffix, int type, const int64_t *dims,
                           size_t rank, const void *data, size_t bytes, char **full) {
  status st = STATUS_OK;
  unsigned char *raw = NULL;
  TRY(mem_format(full, "%s.%s_%s", of, w->stem, suffix));
  TRY(mem_new(&raw, bytes, 1));
  memcpy(raw, data, bytes);
  TRY(message_initializer(w->g, *full, type, dims, rank, raw, bytes));
done:
  return st;
}

static int64_t clamp_round(double x, double low, double high) {
  x = nearbyint(x);
  return (int64_t)(x < low ? low : x > high ? high : x);
}

/* The largest absolute value of a channel becomes 127. */
static status quantise(weight *x, const char *name, int8_t **out) {
  status st = STATUS_OK;
  tensor *t = NULL;
  char *what = NULL;
  TRY(mem_format(&what, "%s: initializer '%s'", name, proto_text(x->from->name)));
  TRY(tensor_from_proto(&t, x->from, what));
  int64_t count = shape_count(&t->shape), inner = shape_span(&t->shape, x->axis + 1, t->shape.rank);
  const float *v = t->data;
  x->channels = t->shape.dims[x->axis];
  TRY(mem_new(&x->scales, (size_t)x->channels, sizeof *x->scales));
  TRY(mem_new(out, (size_t)count, 1));
  for (int64_t i = 0; i < count; i++) {
    float *s = &x->scales[i / inner % x->channels];
    *s = fmaxf(*s, fabsf(v[i]) / 127);
  }
  for (int64_t c = 0; c < x->channels; c++)
    if (!(x->scales[c] > 1e-30f)) x->scales[c] = 1;
  for (int64_t i = 0; i < count; i++)
    (*out)[i] = (int8_t)clamp_round((double)v[i] / x->scales[i / inner % x->channels], -127, 127);
done:
  mem_free(t);
  mem_free(what);
  return st;
}

/* NAME.int8 -> DequantizeLinear -> NAME, so that who reads the weight need not change. */
static status store_weight(work *w, weight *x) {
  status st = STATUS_OK;
  char *q = NULL, *s = NULL, *z = NULL, *name = x->from->name;
  int8_t *values = NULL, *zeros = NULL;
  TRY(quantise(x, w->name, &values));
  TRY(mem_new(&zeros, (size_t)x->channels, 1));
  TRY(add_constant(w, name, "scale", FLOAT, &x->channels, 1, x->scales, (size_t)x->channels * sizeof(float),
                   &s));
  TRY(add_constant(w, name, "zero_point", INT8, &x->channels, 1, zeros, (size_t)x->channels, &z));
  TRY(mem_format(&q, "%s.%s", name, w->stem));
  TRY(add_node(w, "DequantizeLinear", name, "dequantize", (const char *[]){q, s, z, NULL}, name, x->axis));
  tensor_proto_drop_data(x->from);
  x->from->data_type = INT8;
  x->from->raw_data = (ProtobufCBinaryData){.len = (size_t)count_of(x->from), .data = (uint8_t *)values};
  x->from->has_raw_data = true;
  values = NULL;
  x->from->name = q;
  q = name; /* freed in its place */
done:
  mem_free(q);
  mem_free(s);
  mem_free(z);
  mem_free(values);
  mem_free(zeros);
  return st;
}

/* uint8: zero itself must have a number, as padding and relu give it. */
static void levels(const precision_range *r, float *scale, uint8_t *zero) {
  double low = r->low < 0 ? r->low : 0, high = r->high > 0 ? r->high : 0;
  *scale = (float)((high - low) / 255);
  if (!(*scale > 1e-30f)) *scale = 1;
  *zero = (uint8_t)clamp_round(-low / *scale, 0, 255);
}

static const precision_range *range_of(const work *w, const char *name) {
  for (int i = 0; i < w->n_ranges; i++)
    if (strcmp(w->ranges[i].name, name) == 0) return &w->ranges[i];
  return NULL;
}

/* The pair for a tensor, once: NAME.int8_value is what quantised nodes read. */
static status store_data(work *w, const char *name, bool there) {
  status st = STATUS_OK;
  char *s = NULL, *z = NULL, *q = NULL, *d = NULL;
  float scale;
  uint8_t zero;
  if (there) return st;
  levels(range_of(w, name), &scale, &zero);
  TRY(add_constant(w, name, "scale", FLOAT, NULL, 0, &scale, sizeof scale, &s));
  TRY(add_constant(w, name, "zero_point", UINT8, NULL, 0, &zero, sizeof zero, &z));
  TRY(mem_format(&q, "%s.%s", name, w->stem));
  TRY(mem_format(&d, "%s.%s_value", name, w->stem));
  TRY(add_node(w, "QuantizeLinear", name, "quantize", (const char *[]){name, s, z, NULL}, q, -1));
  TRY(add_node(w, "DequantizeLinear", name, "dequantize", (const char *[]){q, s, z, NULL}, d, -1));
done:
  mem_free(s);
  mem_free(z);
  mem_free(q);
  mem_free(d);
  return st;
}

static Onnx__TensorProto *bias_of(const work *w, const Onnx__NodeProto *n, const rule *r, int64_t channels) {
  if (!r->bias || n->n_input <= (size_t)r->bias) return NULL;
  for (size_t i = 0; i < n->n_attribute; i++) /* Gemm: only where the product is added to as it is */
    if ((!strcmp(n->attribute[i]->name, "alpha") || !strcmp(n->attribute[i]->name, "beta")) &&
        n->attribute[i]->f != 1)
      return NULL;
  int uses = 0;
  for (size_t i = 0; i < w->g->n_node; i++)
    for (size_t k = 0; k < w->g->node[i]->n_input; k++)
      uses += !strcmp(w->g->node[i]->input[k], n->input[r->bias]);
  for (size_t i = 0; uses == 1 && i < w->n_weights; i++) {
    Onnx__TensorProto *t = w->g->initializer[i];
    if (t->data_type == FLOAT && !strcmp(proto_text(t->name), n->input[r->bias]))
      return t->n_dims == 1 && t->dims[0] == channels ? t : NULL;
  }
  return NULL;
}

/* What is added to products of integers has their scale. */
static status store_bias(work *w, const Onnx__NodeProto *n, const rule *r) {
  status st = STATUS_OK;
  const weight *x = find_weight(w, n->input[r->weight]);
  tensor *t = NULL;
  float *scales = NULL, scale;
  int32_t *values = NULL;
  char *s = NULL, *q = NULL;
  uint8_t zero;
  Onnx__TensorProto *b = bias_of(w, n, r, x->channels);
  if (!b) return st;
  levels(range_of(w, n->input[0]), &scale, &zero);
  TRY(tensor_from_proto(&t, b, w->name));
  TRY(mem_new(&scales, (size_t)x->channels, sizeof *scales));
  TRY(mem_new(&values, (size_t)x->channels, sizeof *values));
  for (int64_t c = 0; c < x->channels; c++) {
    scales[c] = scale * x->scales[c];
    double level = (double)((const float *)t->data)[c] / scales[c];
    if (!(fabs(level) < 0x1p30)) goto done; /* no int32 of that scale: it stays a float */
    values[c] = (int32_t)clamp_round(level, INT32_MIN, INT32_MAX);
  }
  TRY(add_constant(w, b->name, "scale", FLOAT, &x->channels, 1, scales, (size_t)x->channels * sizeof *scales,
                   &s));
  TRY(mem_format(&q, "%s.%s", b->name, w->stem));
  TRY(add_node(w, "DequantizeLinear", b->name, "dequantize", (const char *[]){q, s, NULL}, b->name, 0));
  tensor_proto_drop_data(b);
  b->data_type = INT32;
  b->raw_data = (ProtobufCBinaryData){.len = (size_t)x->channels * sizeof *values, .data = (uint8_t *)values};
  b->has_raw_data = true;
  values = NULL;
  char *name = b->name;
  b->name = q;
  q = name;
done:
  mem_free(t);
  mem_free(scales);
  mem_free(values);
  mem_free(s);
  mem_free(q);
  return st;
}

static status store_nodes(work *w) {
  status st = STATUS_OK;
  char *d = NULL;
  for (size_t i = 0; i < w->g->n_node; i++) {
    Onnx__NodeProto *n = w->g->node[i];
    const rule *r = quantised(w, n);
    if (r) {
      bool there = false;
      TRY(mem_format(&d, "%s.%s_value", n->input[0], w->stem));
      for (size_t k = 0; k < w->n_nodes && !there; k++) there = !strcmp(w->nodes[k]->output[0], d);
      TRY(store_data(w, n->input[0], there));
      TRY(store_bias(w, n, r));
      mem_free(n->input[0]);
      n->input[0] = d;
      d = NULL;
    }
    TRY(message_append(&w->nodes, &w->n_nodes, n));
    w->n_moved++;
  }
done:
  mem_free(d);
  return st;
}

static status check_ranges(const work *w) {
  for (size_t i = 0; i < w->g->n_node; i++)
    if (quantised(w, w->g->node[i]) && !range_of(w, w->g->node[i]->input[0]))
      return status_set(STATUS_FAILED, "%s: the range of '%s' is not known", w->name,
                        w->g->node[i]->input[0]);
  return STATUS_OK;
}

/* Puts the new list in the place of the old, also a part of it, so that all nodes have an owner. */
static void swap_nodes(work *w) {
  for (size_t i = w->n_moved; i < w->g->n_node; i++) proto_free(w->g->node[i]);
  mem_free(w->g->node);
  w->g->node = w->nodes;
  w->g->n_node = w->n_nodes;
}

status precision_int8(const char *name, const unsigned char *bytes, size_t n, const precision_range *ranges,
                      int n_ranges, unsigned char **out, size_t *n_out) {
  status st = STATUS_OK;
  work w = {.ranges = ranges, .n_ranges = n_ranges};
  Onnx__ModelProto *proto = NULL;
  *out = NULL;
  TRY(open_work(&w, name, bytes, n, &proto));
  TRY(check_ranges(&w));
  for (size_t i = 0; i < w.n_weights && !st; i++)
    if (w.weights[i].from) st = store_weight(&w, &w.weights[i]);
  if (!st) st = store_nodes(&w);
  swap_nodes(&w);
  TRY(st);
  TRY(proto_pack(proto, out, n_out));
done:
  free_weights(&w);
  proto_free(proto);
  return st;
}
