#include "stages/inspect.h"
#include "stages/macs.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/model.h"
#include "ops/ops.h"
#include "stages/recipe.h"
#include "stages/truth.h"
#include "stages/watch.h"
#include "store/softlabels.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_VALUES = 1 << 20, HISTOGRAM_MAX = 1 << 20 };

/* A missing value is found out once, at the end: not at every call. */
static _Thread_local bool incomplete;

static void put(json_t *object, const char *name, json_t *take) {
  if (json_object_set_new(object, name, take)) incomplete = true;
}

static json_t *dims_json(int rank, const int64_t *dims) {
  json_t *list = json_array();
  for (int i = 0; i < rank; i++) json_array_append_new(list, json_integer(dims[i]));
  return list;
}

static json_t *strings_json(const char *const *texts, int n) {
  json_t *list = json_array();
  for (int i = 0; i < n; i++) json_array_append_new(list, json_string(texts[i]));
  return list;
}

/* ---- dataset ---- */

/* 1 number, or one per channel. */
static json_t *scale_json(const float *values, int64_t n) {
  if (n == 1) return json_number(values[0]);
  json_t *list = json_array();
  for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_number(values[i]));
  return list;
}

static json_t *array_json(const array *a, bool scaled) {
  json_t *o = json_object();
  put(o, "type", json_string(element_name(a->type)));
  put(o, "shape", dims_json(a->rank, a->dims));
  if (scaled && a->n_scale) {
    put(o, "scale", scale_json(a->scale, a->n_scale));
    put(o, "offset", scale_json(a->offset, a->n_scale));
  }
  return o;
}

typedef struct label_counts {
  int64_t none, n; /* labels of -1; classes counted so far */
  int64_t *of;
  int32_t least;
  bool too_many;
} label_counts;

static status count_labels(label_counts *counts, const int32_t *labels, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (labels[i] < counts->least) counts->least = labels[i];
    if (labels[i] < 0) {
      counts->none++;
      continue;
    }
    if (labels[i] >= HISTOGRAM_MAX) {
      counts->too_many = true;
      continue;
    }
    if (labels[i] >= counts->n) {
      int64_t room = labels[i] + 1 > 2 * counts->n ? labels[i] + 1 : 2 * counts->n;
      status st = mem_resize(&counts->of, (size_t)counts->n, (size_t)room, sizeof *counts->of);
      if (st) return st;
      counts->n = room;
    }
    counts->of[labels[i]]++;
  }
  return STATUS_OK;
}

/* Rows of an array, a piece at a time: for each piece either the labels are counted, or the values are only
 * looked at. */
static status scan(dataset *d, const split *s, const array *a, label_counts *counts) {
  status st = STATUS_OK;
  rows *r = NULL;
  int64_t *ids = NULL,
          piece = a->row_values < PIECE_VALUES ? PIECE_VALUES / (a->row_values ? a->row_values : 1) : 1;
  void *values = NULL;
  if (piece > s->n) piece = s->n;
  TRY(rows_open(&r, d, s, a, 0));
  TRY(mem_new(&ids, (size_t)piece, sizeof *ids));
  TRY(mem_new(&values, (size_t)(piece * a->row_values), sizeof(float))); /* int32_t has the same size */
  for (int64_t from = 0; from < s->n; from += piece) {
    int64_t n = s->n - from < piece ? s->n - from : piece;
    for (int64_t i = 0; i < n; i++) ids[i] = from + i;
    if (!counts) {
      TRY(truth_is_values(a) ? rows_targets(r, ids, n, values) : rows_floats(r, ids, n, values));
    } else {
      TRY(rows_ints(r, ids, n, values));
      TRY(count_labels(counts, values, n * a->row_values));
    }
  }
done:
  rows_close(&r);
  mem_free(ids);
  mem_free(values);
  return st;
}

/* [rows of class 0, of class 1, ...] as far as the names of classes or the labels go. */
static json_t *histogram_json(const label_counts *counts, int n_classes) {
  int64_t n = counts->n;
  while (n > n_classes && counts->of[n - 1] == 0) n--;
  if (n < n_classes) n = n_classes;
  json_t *list = json_array();
  for (int64_t i = 0; i < n; i++)
    json_array_append_new(list, json_integer(i < counts->n ? counts->of[i] : 0));
  return list;
}

static status labels_json(json_t **out, dataset *d, const split *s, const array *a, bool verify) {
  label_counts counts = {0};
  status st = scan(d, s, a, &counts);
  if (!st && verify && counts.least < -1)
    st = status_set(STATUS_BAD_INPUT, "%s: /%s/%s has a label of %d; -1 is that of a row without one",
                    dataset_path(d), s->name, a->name, (int)counts.least);
  if (!st) {
    *out = array_json(a, false);
    put(*out, "histogram", counts.too_many ? json_null() : histogram_json(&counts, dataset_n_classes(d)));
    put(*out, "unlabelled", json_integer(counts.none));
  }
  mem_free(counts.of);
  return st;
}

static status split_json(json_t *out, dataset *d, const split *s, bool verify) {
  status st = STATUS_OK;
  char hash[HASH_TEXT_BYTES];
  json_t *inputs = json_object(), *labels = json_object(), *targets = json_object();
  put(out, "rows", json_integer(s->n));
  put(out, "inputs", inputs);
  put(out, "labels", labels);
  put(out, "targets", targets);
  TRY(dataset_hash(d, s, hash));
  put(out, "hash", json_string(hash));
  for (int i = 0; i < s->n_inputs; i++) {
    if (verify) TRY(scan(d, s, &s->inputs[i], NULL));
    put(inputs, s->inputs[i].name, array_json(&s->inputs[i], true));
  }
  for (int i = 0; i < s->n_labels; i++) {
    json_t *label = NULL;
    TRY(labels_json(&label, d, s, &s->labels[i], verify));
    put(labels, s->labels[i].name, label);
  }
  for (int i = 0; i < s->n_targets; i++) {
    if (verify) TRY(scan(d, s, &s->targets[i], NULL));
    put(targets, s->targets[i].name, array_json(&s->targets[i], false));
  }
done:
  return st;
}

static status dataset_json(json_t *out, dataset *d, bool verify) {
  status st = STATUS_OK;
  json_t *splits = json_object();
  put(out, "kind", json_string("dataset"));
  put(out, "name", json_string(dataset_name(d)));
  put(out, "source", json_string(dataset_text(d, "source")));
  put(out, "licence", json_string(dataset_text(d, "licence")));
  put(out, "classes", strings_json(dataset_classes(d), dataset_n_classes(d)));
  put(out, "splits", splits);
  if (verify) dataset_hash_anew(d);
  for (int i = 0; i < dataset_n_splits(d); i++) {
    json_t *one = json_object();
    put(splits, dataset_split_at(d, i)->name, one);
    TRY(split_json(one, d, dataset_split_at(d, i), verify));
  }
done:
  return st;
}

/* ---- soft labels ---- */

static int64_t blocks_done(const softlabels *s) {
  const unsigned char *done = softlabels_done(s);
  int64_t n = 0;
  for (int64_t i = 0; i < softlabels_n_blocks(s); i++) n += !done || done[i];
  return n;
}

static status verify_features(softlabels *s) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s);
  float *values = NULL;
  for (int i = 0; i < h->n_features; i++) {
    int64_t n = 1;
    for (int d = 1; d < h->features[i].rank; d++) n *= h->features[i].dims[d];
    TRY(mem_new(&values, (size_t)n, sizeof *values));
    for (int64_t row = 0; row < h->dims[0]; row++) TRY(softlabels_feature_rows(s, i, &row, 1, values));
    mem_free(values);
    values = NULL;
  }
done:
  mem_free(values);
  return st;
}

static status verify_softlabels(softlabels *s) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s);
  int64_t row_values = 1, n = h->dims[0];
  float *values = NULL;
  for (int i = 1; i < h->rank; i++) row_values *= h->dims[i];
  int64_t piece = row_values < PIECE_VALUES ? PIECE_VALUES / (row_values ? row_values : 1) : 1;
  TRY(softlabels_verify(s));
  TRY(mem_new(&values, (size_t)(piece * row_values), sizeof *values));
  for (int64_t from = 0; from < n; from += piece)
    TRY(softlabels_read(s, from, n - from < piece ? n - from : piece, values));
  TRY(verify_features(s));
done:
  mem_free(values);
  return st;
}

static json_t *numbers_json(const double *values, int64_t n) {
  json_t *list = json_array();
  for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_number(values[i]));
  return list;
}

static void ensemble_json(json_t *out, const softlabels_header *h) {
  json_t *weights = numbers_json(h->weights, h->n_teachers), *by_class = json_array();
  put(out, "method", json_string(h->method));
  put(out, "teachers", strings_json((const char *const *)h->teachers, h->n_teachers));
  put(out, "weights", weights);
  put(out, "temperature", h->temperature > 0 ? json_number(h->temperature) : json_string("any"));
  if (h->calibration) put(out, "calibration", numbers_json(h->calibration, h->n_teachers));
  for (int i = 0; h->class_weights && i < h->n_teachers; i++)
    json_array_append_new(by_class, numbers_json(h->class_weights + i * h->dims[1], h->dims[1]));
  if (h->class_weights) put(out, "class_weights", json_incref(by_class));
  json_decref(by_class);
  if (h->epsilon > 0) put(out, "epsilon", json_number(h->epsilon));
  if (h->epsilon > 0) put(out, "delta", json_number(h->delta));
}

static json_t *features_json(const softlabels_header *h) {
  json_t *features = json_object();
  for (int i = 0; i < h->n_features; i++) {
    json_t *one = json_object();
    put(one, "type", json_string(element_name(h->features[i].type)));
    put(one, "shape", dims_json(h->features[i].rank, h->features[i].dims));
    put(features, h->features[i].name, one);
  }
  return features;
}

static status softlabels_json(json_t *out, softlabels *s, bool verify) {
  const softlabels_header *h = softlabels_get(s);
  put(out, "kind", json_string("soft-labels"));
  put(out, "teacher", json_string(h->teacher));
  put(out, "split", json_string(h->split));
  put(out, "dataset_hash", json_string(h->dataset_hash));
  put(out, "model_hash", json_string(h->model_hash));
  put(out, "encoding", json_string(h->top_k ? "topk" : "dense"));
  put(out, "type", json_string(element_name(h->type)));
  put(out, "shape", dims_json(h->rank, h->dims));
  if (h->top_k) put(out, "top_k", json_integer(h->top_k));
  if (h->values) put(out, "values", json_true());
  if (*h->method) ensemble_json(out, h);
  put(out, "classes", strings_json((const char *const *)h->classes, h->n_classes));
  if (h->n_features) put(out, "features", features_json(h));
  if (*h->augment) {
    put(out, "augment", json_string(h->augment));
    put(out, "augment_seed", json_string(h->augment_seed));
    put(out, "views", json_integer(softlabels_views(h)));
  }
  put(out, "blocks", json_integer(softlabels_n_blocks(s)));
  put(out, "blocks_done", json_integer(blocks_done(s)));
  put(out, "block_rows", json_integer(h->block_rows));
  put(out, "batch_rows", json_integer(h->batch_rows));
  return verify ? verify_softlabels(s) : STATUS_OK;
}

/* ---- model ---- */

static json_t *value_json(dtype type, const shape *s) {
  json_t *o = json_object(), *dims = json_array();
  for (int i = 0; i < s->rank; i++)
    json_array_append_new(dims, s->dims[i] >= 0 ? json_integer(s->dims[i])
                                : i             ? json_null()
                                                : json_string("N"));
  put(o, "type", json_string(dtype_name(type)));
  put(o, "shape", dims);
  return o;
}

/* Output shapes are not in the graph: a plan of one row knows them, if the other dimensions are fixed. */
static json_t *outputs_json(const graph *g) {
  json_t *outputs = json_object();
  plan *p = NULL;
  if (plan_new(&p, g, &(plan_options){.rows = 1})) p = NULL;
  for (int i = 0; i < g->n_outputs; i++) {
    const char *name = g->values[g->outputs[i]].name;
    if (!p) {
      put(outputs, name, json_null());
      continue;
    }
    shape s = plan_output(p, i)->shape;
    if (s.rank && s.dims[0] == 1) s.dims[0] = -1;
    put(outputs, name, value_json(plan_output(p, i)->type, &s));
  }
  plan_free(&p);
  return outputs;
}

/* What a tap can name: computed floats [rows, ...], in the order they are computed. Null where the shapes
 * depend on how the model is used. */
static json_t *tensors_json(const graph *g) {
  json_t *tensors = json_object();
  plan *p = NULL;
  int *taps = NULL, n = 0;
  if (mem_new(&taps, (size_t)g->n_values, sizeof *taps)) incomplete = true;
  for (int i = 0; taps && i < g->n_nodes; i++)
    for (int j = 0; j < g->nodes[i].n_outputs; j++)
      if (g->nodes[i].outputs[j] >= 0 && g->values[g->nodes[i].outputs[j]].n_uses)
        taps[n++] = g->nodes[i].outputs[j];
  if (!taps || plan_new(&p, g, &(plan_options){.rows = 2, .taps = taps, .n_taps = n})) {
    json_decref(tensors);
    tensors = json_null();
    status_clear();
    n = 0;
  }
  for (int i = 0; i < n; i++) {
    shape s = plan_tap(p, i)->shape;
    if (plan_tap(p, i)->type != DTYPE_FLOAT || s.rank < 2 || s.dims[0] != 2) continue;
    s.dims[0] = -1;
    put(tensors, g->values[taps[i]].name, value_json(DTYPE_FLOAT, &s));
  }
  plan_free(&p);
  mem_free(taps);
  return tensors;
}

enum { FEW = 8 }; /* rows of the smaller plan: what one more row takes shows between it and twice as many */

/* A row's part of the memory of a plan; -1 where there is no such plan, whose message then stands. */
static int64_t row_bytes(const graph *g, bool training, int64_t *macs) {
  int64_t bytes[2];
  for (int i = 0; i < 2; i++) {
    plan *p;
    if (plan_new(&p, g, &(plan_options){.rows = FEW << i, .training = training})) return -1;
    bytes[i] = (int64_t)plan_memory_bytes(p);
    if (macs) *macs = macs_of_plan(p) / (FEW << i);
    plan_free(&p);
  }
  return (bytes[1] - bytes[0]) / FEW;
}

static json_t *number_or_null(int64_t n) {
  return n < 0 ? json_null() : json_integer(n);
}

/* Multiply-adds and bytes of one sample; null where shapes depend on how the model is used. */
static json_t *per_sample_json(const graph *g) {
  json_t *o = json_object();
  int64_t macs = -1, bytes = row_bytes(g, false, &macs);
  put(o, "macs", number_or_null(bytes < 0 ? -1 : macs));
  put(o, "inference_bytes", number_or_null(bytes));
  put(o, "training_bytes", number_or_null(row_bytes(g, true, NULL)));
  status_clear();
  return o;
}

/* true, or the operators in the way of gradients. */
static json_t *trainable_json(const graph *g) {
  plan *p = NULL;
  json_t *why = json_true();
  if (!g->n_parameters) return json_string("it has no parameters that a gradient reaches");
  if (plan_new(&p, g, &(plan_options){.rows = FEW, .training = true})) why = json_string(status_message());
  plan_free(&p);
  status_clear();
  return why;
}

/* Names of what training changes; --freeze takes them. */
static json_t *trained_json(const graph *g) {
  json_t *names = json_array();
  for (int i = 0; i < g->n_values; i++)
    if (g->values[i].kind == VALUE_PARAMETER) json_array_append_new(names, json_string(g->values[i].name));
  return names;
}

static json_t *operators_json(const graph *g) {
  json_t *counts = json_object();
  for (int i = 0; i < g->n_nodes; i++) {
    const char *name = g->nodes[i].op->name;
    json_int_t n = json_integer_value(json_object_get(counts, name));
    put(counts, name, json_integer(n + 1));
  }
  return counts;
}

static status verify_model(const model *m) {
  status st = STATUS_OK;
  const graph *g = model_graph(m);
  float *block = NULL;
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  for (int i = 0; i < g->n_values; i++) {
    const value *v = &g->values[i];
    if (v->kind != VALUE_PARAMETER && v->kind != VALUE_STATISTIC) continue;
    for (int64_t j = 0; j < shape_count(&v->shape); j++)
      if (!isfinite(block[v->offset + j]))
        THROW(STATUS_BAD_INPUT, "%s: parameter '%s' holds a value that is not finite (element %lld)",
              model_path(m), v->name, (long long)j);
  }
done:
  mem_free(block);
  return st;
}

static status model_json(json_t *out, const model *m, bool verify) {
  const graph *g = model_graph(m);
  char hash[HASH_TEXT_BYTES];
  json_t *inputs = json_object();
  hash_text(model_hash(m), hash);
  put(out, "kind", json_string("model"));
  put(out, "opset", json_integer(model_opset(m)));
  put(out, "producer", json_string(model_producer(m)));
  put(out, "hash", json_string(hash));
  put(out, "parameters", json_integer(model_parameters(m)));
  put(out, "inputs", inputs);
  for (int i = 0; i < g->n_inputs; i++) {
    const value *v = &g->values[g->inputs[i]];
    put(inputs, v->name, value_json(v->type, &v->shape));
  }
  put(out, "outputs", outputs_json(g));
  put(out, "operators", operators_json(g));
  put(out, "per_sample", per_sample_json(g));
  put(out, "trainable", trainable_json(g));
  put(out, "trained", trained_json(g));
  put(out, "tensors", tensors_json(g));
  return verify ? verify_model(m) : STATUS_OK;
}

/* ---- which is it? ---- */

static status starts_like_hdf5(const char *path, bool *out) {
  static const unsigned char signature[8] = "\211HDF\r\n\032\n";
  unsigned char head[8];
  FILE *f = fopen(path, "rb");
  if (!f) return status_set(STATUS_BAD_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
  *out = fread(head, 1, sizeof head, f) == sizeof head && !memcmp(head, signature, sizeof head);
  fclose(f);
  return STATUS_OK;
}

static status hdf5_json(json_t *out, comm *c, const char *path, bool verify) {
  status st = STATUS_OK;
  dataset *d = NULL;
  softlabels *s = NULL;
  bool soft = false;
  TRY(softlabels_recognise(c, path, &soft));
  if (soft) {
    TRY(softlabels_open(&s, c, path));
    TRY(softlabels_json(out, s, verify));
  } else {
    TRY(dataset_open(&d, c, path));
    TRY(dataset_json(out, d, verify));
  }
done:
  softlabels_close(&s);
  dataset_close(&d);
  return st;
}

static bool is_recipe(const char *path) {
  const char *end = strrchr(file_name(path), '.');
  return end && (!strcmp(end, ".yaml") || !strcmp(end, ".yml"));
}

static bool is_run(const char *path) {
  struct stat s;
  return is_recipe(path) || (!stat(path, &s) && S_ISDIR(s.st_mode));
}

/* The folder of a run, or the one that a recipe names. */
static status run_json(json_t *out, comm *c, const char *path) {
  status st = STATUS_OK;
  mpistill_recipe r = {0};
  if (is_recipe(path)) TRY(recipe_read(c, path, &(mpistill_strings){0}, &r));
  TRY(watch_read(out, r.output ? r.output : path));
done:
  recipe_free(&r);
  return st;
}

status inspect_file(json_t **out, comm *c, const char *path, bool verify) {
  status st = STATUS_OK;
  bool hdf5 = false;
  model *m = NULL;
  json_t *all = json_object();
  incomplete = false;
  if (is_run(path)) {
    TRY(run_json(all, c, path));
    *out = json_incref(all);
    goto done;
  }
  TRY(starts_like_hdf5(path, &hdf5));
  put(all, "file", json_string(path));
  put(all, "bytes", json_integer(file_size(path)));
  if (hdf5) {
    TRY(hdf5_json(all, c, path, verify));
  } else {
    TRY(ops_init());
    TRY(model_read(&m, path));
    TRY(model_json(all, m, verify));
  }
  if (verify) put(all, "verified", json_true());
  if (incomplete) THROW(STATUS_FAILED, "out of memory: %s was inspected", path);
  *out = json_incref(all);
done:
  model_free(&m);
  json_decref(all);
  return st;
}

status stage_inspect(comm *c, const inspect_options *o) {
  json_t *all = NULL;
  status st = inspect_file(&all, c, o->path, o->verify);
  if (!st && o->json) {
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    putchar('\n');
  } else if (!st) {
    inspect_print(all);
  }
  json_decref(all);
  return st;
}
