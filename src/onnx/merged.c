#include "onnx/merged.h"

#include "base/mem.h"
#include "onnx/message.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- which tensors, which places ---- */

static float float_at(const Onnx__TensorProto *t, int64_t i) {
  float x;
  if (!t->has_raw_data) return t->float_data[i];
  memcpy(&x, t->raw_data.data + (size_t)i * sizeof x, sizeof x);
  return x;
}

/* How many numbers a tensor of floats has that are all the same; 0 for any other. */
static int64_t even_count(const Onnx__TensorProto *t) {
  int64_t n = 1, have = (int64_t)(t->has_raw_data ? t->raw_data.len / sizeof(float) : t->n_float_data);
  if (t->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || !t->n_dims) return 0;
  for (size_t i = 0; i < t->n_dims && n > 0 && n <= have; i++)
    n = t->dims[i] > 0 && t->dims[i] <= have ? n * t->dims[i] : 0;
  if (n != have) return 0;
  for (int64_t i = 1; i < n; i++)
    if (float_at(t, i) != float_at(t, 0)) return 0;
  return n;
}

typedef struct place { /* where a layer of that type has a tensor of its own */
  const char *type;
  size_t first, last; /* inputs */
} place;

static const place places[] = {
    {"BatchNormalization", 1, 4},
    {"InstanceNormalization", 1, 2},
    {"LayerNormalization", 1, 2},
    {"GroupNormalization", 1, 2},
    {"PRelu", 1, 1},
    {"Conv", 2, 2},
    {"ConvTranspose", 2, 2},
    {"Gemm", 2, 2},
    {"LSTM", 3, 3},
    {"GRU", 3, 3},
    {"RNN", 3, 3},
};

static bool is_own(const Onnx__NodeProto *n, size_t input, const Onnx__TensorProto *t, int64_t count) {
  if ((proto_is_op(n, "Add") || proto_is_op(n, "Mul")) && t->n_dims == 1 && count > 1) return true;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    if (proto_is_op(n, places[i].type)) return input >= places[i].first && input <= places[i].last;
  return false;
}

/* ---- initializers and Identities by name ---- */

typedef struct source {
  const char *name;
  const Onnx__TensorProto *t;
  int64_t count;   /* of its numbers */
  size_t identity; /* the node that gives the name + 1; 0: it is the initializer's own */
  bool named;      /* other layers have it under other names, by Identities */
  bool owned;      /* some layer has it for itself */
} source;

/* A place that reads one. */
typedef struct reading {
  size_t source, node, input;
  const char *weight; /* of a Conv or a Gemm whose bias it is, else "" */
} reading;

typedef struct merged {
  Onnx__GraphProto *g;
  source *sources; /* by name */
  size_t n_sources;
  reading *readings; /* by source and weight */
  size_t n_readings;
  const char **taken; /* names, sorted */
  size_t n_taken;
  int *n; /* merged_part */
  char **first;
} merged;

static int by_name(const void *a, const void *b) {
  return strcmp(((const source *)a)->name, ((const source *)b)->name);
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_source(const void *a, const void *b) {
  const reading *x = a, *y = b;
  if (x->source != y->source) return x->source < y->source ? -1 : 1;
  const int order = strcmp(x->weight, y->weight);
  if (order) return order;
  if (x->node != y->node) return x->node < y->node ? -1 : 1;
  return (x->input > y->input) - (x->input < y->input);
}

static source *find(const merged *m, size_t n, const char *name) {
  const source wanted = {.name = name};
  return bsearch(&wanted, m->sources, n, sizeof *m->sources, by_name);
}

static bool is_output(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_output; i++)
    if (!strcmp(proto_text(g->output[i]->name), name)) return true;
  return false;
}

static status list_sources(merged *m) {
  status st = STATUS_OK;
  const Onnx__GraphProto *g = m->g;
  TRY(mem_new(&m->sources, g->n_initializer + g->n_node, sizeof *m->sources));
  for (size_t i = 0; i < g->n_initializer; i++) {
    const Onnx__TensorProto *t = g->initializer[i];
    const int64_t count = even_count(t);
    if (count) m->sources[m->n_sources++] = (source){.name = proto_text(t->name), .t = t, .count = count};
  }
  const size_t n_own = m->n_sources;
  qsort(m->sources, n_own, sizeof *m->sources, by_name);
  for (size_t i = 0; i < g->n_node; i++) {
    const Onnx__NodeProto *n = g->node[i];
    if (!proto_is_op(n, "Identity") || n->n_input != 1 || n->n_output != 1) continue;
    source *from = find(m, n_own, n->input[0]);
    if (!from || is_output(g, n->output[0])) continue;
    from->named = true;
    m->sources[m->n_sources++] =
        (source){.name = n->output[0], .t = from->t, .count = from->count, .identity = i + 1};
  }
  qsort(m->sources, m->n_sources, sizeof *m->sources, by_name);
done:
  return st;
}

static const char *weight_of(const Onnx__NodeProto *n, size_t input) {
  const bool has = proto_is_op(n, "Conv") || proto_is_op(n, "ConvTranspose") || proto_is_op(n, "Gemm");
  return has && input == 2 ? n->input[1] : "";
}

static status list_readings(merged *m) {
  status st = STATUS_OK;
  size_t n = 0;
  for (size_t i = 0; i < m->g->n_node; i++) n += m->g->node[i]->n_input;
  TRY(mem_new(&m->readings, n, sizeof *m->readings));
  for (size_t i = 0; i < m->g->n_node; i++)
    for (size_t k = 0; k < m->g->node[i]->n_input; k++) {
      const Onnx__NodeProto *node = m->g->node[i];
      source *s = find(m, m->n_sources, node->input[k]);
      if (!s || !is_own(node, k, s->t, s->count)) continue;
      s->owned = true;
      m->readings[m->n_readings++] = (reading){(size_t)(s - m->sources), i, k, weight_of(node, k)};
    }
  qsort(m->readings, m->n_readings, sizeof *m->readings, by_source);
done:
  return st;
}

static status list_taken(merged *m) {
  status st = STATUS_OK;
  const Onnx__GraphProto *g = m->g;
  size_t n = g->n_initializer + g->n_input;
  for (size_t i = 0; i < g->n_node; i++) n += g->node[i]->n_output;
  TRY(mem_new(&m->taken, n, sizeof *m->taken));
  for (size_t i = 0; i < g->n_initializer; i++) m->taken[m->n_taken++] = proto_text(g->initializer[i]->name);
  for (size_t i = 0; i < g->n_input; i++) m->taken[m->n_taken++] = proto_text(g->input[i]->name);
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++) m->taken[m->n_taken++] = g->node[i]->output[k];
  qsort(m->taken, m->n_taken, sizeof *m->taken, by_text);
done:
  return st;
}

/* ---- parting ---- */

static status copy_as(const merged *m, const source *s, const char *name) {
  status st = STATUS_OK;
  float *numbers = NULL;
  if (!*m->first) TRY(mem_string(m->first, s->name));
  ++*m->n;
  TRY(mem_new(&numbers, (size_t)s->count, sizeof *numbers));
  for (int64_t i = 0; i < s->count; i++) numbers[i] = float_at(s->t, 0);
  TRY(message_initializer(m->g, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, s->t->dims, s->t->n_dims, numbers,
                          (size_t)s->count * sizeof *numbers));
done:
  return st;
}

/* Places that read the initializer itself: the first has it, each other gets a copy, NAME_2, NAME_3, ... A
 * layer that comes twice, which is known by its weight, has one. */
static status part_readings(const merged *m) {
  status st = STATUS_OK;
  char *name = NULL;
  int number = 1;
  for (size_t i = 0; i < m->n_readings; i++) {
    const reading *r = &m->readings[i], *before = i && r[-1].source == r->source ? r - 1 : NULL;
    const source *s = &m->sources[r->source];
    if (!before) number = 1;
    if (!before || s->named || s->identity) continue;
    if (!*r->weight || strcmp(r->weight, before->weight) != 0) {
      do {
        mem_free(name);
        name = NULL;
        TRY(mem_format(&name, "%s_%d", s->name, ++number));
      } while (bsearch(&(const char *){name}, m->taken, m->n_taken, sizeof *m->taken, by_text));
      TRY(copy_as(m, s, name));
    }
    if (number == 1) continue;
    char **input = &m->g->node[r->node]->input[r->input];
    mem_free(*input);
    TRY(mem_string(input, name));
  }
done:
  mem_free(name);
  return st;
}

/* An initializer in place of each Identity that gives a layer its tensor. */
static status part_identities(const merged *m) {
  status st = STATUS_OK;
  bool *gone = NULL;
  size_t left = 0;
  Onnx__GraphProto *g = m->g;
  TRY(mem_new(&gone, g->n_node, sizeof *gone));
  for (size_t i = 0; i < m->n_sources; i++) {
    const source *s = &m->sources[i];
    if (!s->identity || !s->owned) continue;
    TRY(copy_as(m, s, s->name));
    gone[s->identity - 1] = true;
  }
done:
  for (size_t i = 0; gone && i < g->n_node; i++) {
    if (gone[i])
      proto_free(g->node[i]);
    else
      g->node[left++] = g->node[i];
  }
  if (gone) g->n_node = left;
  mem_free(gone);
  return st;
}

status merged_part(Onnx__GraphProto *g, int *n, char **first) {
  status st = STATUS_OK;
  merged m = {.g = g, .n = n, .first = first};
  TRY(list_sources(&m));
  TRY(list_readings(&m));
  TRY(list_taken(&m));
  TRY(part_readings(&m));
  TRY(part_identities(&m));
done:
  mem_free(m.sources);
  mem_free(m.readings);
  mem_free(m.taken);
  return st;
}
