#include "stages/predict.h"

#include "base/mem.h"
#include "base/options.h"
#include "base/profile.h"
#include "base/progress.h"
#include "stages/macs.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

/* Numbers that the steps of a plan write. */
static int64_t written(const plan *p) {
  int64_t n = 0;
  for (int i = 0; i < plan_n_steps(p); i++) {
    const step *s = plan_step(p, i);
    if (s->out[0]) n += shape_count(&s->out[0]->shape);
  }
  return n;
}

static bool takes_integers(dtype type) {
  return type == DTYPE_INT32 || type == DTYPE_INT64;
}

static status check_type(const classifier *k, const value *x, const array *a, const char *dataset_path) {
  bool integers = a->type == ELEMENT_UINT8 || a->type == ELEMENT_INT32 || a->type == ELEMENT_INT64;
  if (x->type != DTYPE_FLOAT && !takes_integers(x->type))
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' is %s, expected float, int32 or int64", k->path,
                      x->name, dtype_name(x->type));
  if (takes_integers(x->type) && !integers)
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' takes %s, but '%s' of %s holds %s", k->path, x->name,
                      dtype_name(x->type), a->name, dataset_path, element_name(a->type));
  if (takes_integers(x->type) && array_is_scaled(a))
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' takes %s, but '%s' of %s has a scale or an offset",
                      k->path, x->name, dtype_name(x->type), a->name, dataset_path);
  if (x->shape.rank < 1)
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' has no dimension for rows", k->path, x->name);
  return STATUS_OK;
}

/* Input i, whatever the dimensions that the model leaves open. */
static status bind_input(classifier *k, int i, const char *dataset_path) {
  const value *x = &k->g->values[k->g->inputs[i]];
  const array *a = k->arrays[i];
  shape *in = &k->inputs[i];
  char text[128], other[128];
  status st = check_type(k, x, a, dataset_path);
  if (st) return st;
  *in = x->shape;
  in->dims[0] = -1;
  bool same_rank = a->rank == x->shape.rank;
  for (int d = 1; same_rank && d < a->rank; d++)
    if (in->dims[d] < 0) in->dims[d] = a->dims[d];
  bool fits = x->shape.rank == 2 && (in->dims[1] < 0 || in->dims[1] == a->row_values);
  if (fits) in->dims[1] = a->row_values;
  if (!fits) {
    fits = same_rank;
    for (int d = 1; fits && d < a->rank; d++) fits = in->dims[d] == a->dims[d];
  }
  if (fits) return STATUS_OK;
  shape have = {.rank = a->rank};
  memcpy(have.dims, a->dims, sizeof have.dims);
  have.dims[0] = -1;
  return status_set(
      STATUS_BAD_INPUT,
      "%s: input '%s' takes %s, but '%s' of %s has %s (a model with an input [N, %lld] or of the same "
      "shape fits)",
      k->path, x->name, shape_text(&x->shape, text, sizeof text), a->name, dataset_path,
      shape_text(&have, other, sizeof other), (long long)a->row_values);
}

/* What is made of images must be what the model takes. */
static status bind_preprocess(classifier *k, const mpistill_preprocess *pre, const char *dataset_path) {
  status st = STATUS_OK;
  const value *x = &k->g->values[k->g->inputs[0]];
  char text[128], other[128];
  if (!pre || !preprocess_given(pre)) return st;
  if (k->n_inputs > 1)
    THROW(STATUS_BAD_INPUT, "%s: has %d inputs; preprocess is for models of one", k->path, k->n_inputs);
  if (x->type != DTYPE_FLOAT && x->type != DTYPE_UINT8 && x->type != DTYPE_INT8 && x->type != DTYPE_INT32)
    THROW(STATUS_BAD_INPUT, "%s: input '%s' is %s, expected float, uint8, int8 or int32", k->path, x->name,
          dtype_name(x->type));
  TRY(preprocess_make(&k->pre, pre, k->arrays[0], dataset_path));
  const shape have = preprocess_shape(&k->pre, -1);
  bool fits = x->shape.rank == have.rank;
  for (int d = 1; fits && d < have.rank; d++) fits = x->shape.dims[d] < 0 || x->shape.dims[d] == have.dims[d];
  if (!fits)
    THROW(STATUS_BAD_INPUT, "%s: input '%s' takes %s, but preprocess makes %s of '%s' of %s", k->path,
          x->name, shape_text(&x->shape, text, sizeof text), shape_text(&have, other, sizeof other),
          k->arrays[0]->name, dataset_path);
  k->inputs[0] = have;
done:
  return st;
}

/* A batch fixed to one row at export shows with two, often far from its cause: in a Reshape. */
static status plan_two(const classifier *k) {
  plan *p = NULL;
  char *why = NULL;
  status st = classifier_plan(&p, k, 2, false, NULL);
  plan_free(&p);
  if (st != STATUS_BAD_INPUT || mem_string(&why, status_message())) return st;
  if (classifier_plan(&p, k, 1, false, NULL) == STATUS_OK)
    status_set(st,
               "%s\nit takes one row, but not two: the model was exported with a fixed batch; export it with "
               "a dynamic one",
               why);
  else
    status_set(st, "%s", why);
  plan_free(&p);
  mem_free(why);
  return st;
}

/* Which outputs, and which values behind them. */
static status bind_heads(classifier *k, const head_options *o, int n, logits_place *places) {
  status st = STATUS_OK;
  static const head_options the_only = {0};
  plan *p = NULL;
  k->n_heads = n ? n : 1;
  for (int i = 0; i < k->n_heads; i++) k->heads[i].value = k->g->outputs[0];
  if (k->g->n_outputs > 1) TRY(classifier_plan(&p, k, 1, false, NULL));
  for (int i = 0; i < k->n_heads; i++) {
    TRY(head_choose(&k->heads[i], n ? &o[i] : &the_only, k->g, p, k->path, &places[i]));
    for (int j = 0; j < i; j++)
      if (k->heads[i].output == k->heads[j].output)
        THROW(STATUS_BAD_INPUT, "%s: tasks '%s' and '%s' have the same output '%s'", k->path, o[j].task,
              o[i].task, k->g->values[k->heads[i].output].name);
  }
done:
  plan_free(&p);
  return st;
}

/* Where the graph does not tell, the numbers do. */
static status bind_kind(classifier *k, const model *m, int i, logits_kind kind, plan *p) {
  head *h = &k->heads[i];
  float *block = NULL;
  status st;
  h->probabilities = kind == LOGITS_PROBABILITIES;
  if (kind != LOGITS_UNKNOWN || h->values) return STATUS_OK;
  if (!model_block(m)) {
    st = mem_new(&block, (size_t)k->g->n_block, sizeof *block);
    if (st) return st;
    graph_initial_block(k->g, block);
  }
  plan_set_parameters(p, block ? block : model_block(m));
  h->probabilities = logits_sum_to_one(p, i);
  mem_free(block);
  return STATUS_OK;
}

status classifier_bind(classifier *k, const model *m, const array *const *arrays,
                       const mpistill_preprocess *pre, const char *dataset_path, const head_options *heads,
                       int n_heads) {
  status st = STATUS_OK;
  plan *p = NULL;
  logits_place places[CLASSIFIER_MAX_HEADS];
  memset(k, 0, sizeof *k);
  k->g = model_graph(m);
  k->path = model_path(m);
  k->n_inputs = k->g->n_inputs;
  memcpy(k->arrays, arrays, (size_t)k->n_inputs * sizeof *arrays);
  TRY(bind_preprocess(k, pre, dataset_path));
  for (int i = 0; i < k->n_inputs && !k->pre.active; i++) TRY(bind_input(k, i, dataset_path));
  TRY(bind_heads(k, heads, n_heads, places));
  TRY(plan_two(k));
  TRY(classifier_plan(&p, k, 1, false, NULL));
  for (int i = 0; i < k->n_heads; i++)
    TRY(head_measure(&k->heads[i], k->g, plan_tap(p, i), &places[i], k->path));
  k->work = macs_of_plan(p) + written(p);
  for (int i = 0; i < k->n_heads; i++) TRY(bind_kind(k, m, i, places[i].kind, p));
done:
  plan_free(&p);
  return st;
}

typedef struct names_of { /* a graph's values, for nearest_name; to those not computed no name is near */
  const graph *g;
} names_of;

static const char *computed_name(const void *table, int i) {
  const graph *g = ((const names_of *)table)->g;
  if (i >= g->n_values) return NULL;
  return g->values[i].producer >= 0 ? g->values[i].name : "";
}

static status find_inner(const classifier *k, const char *name, int *v) {
  *v = graph_find(k->g, name);
  if (*v >= 0 && k->g->values[*v].producer >= 0) return STATUS_OK;
  const char *nearest = nearest_name(name, computed_name, &(names_of){k->g});
  if (nearest && !*nearest) nearest = NULL;
  return status_set(STATUS_BAD_INPUT, "%s: has no inner tensor '%s'%s%s%s; 'mpistill inspect' lists them",
                    k->path, name, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                    nearest ? "'" : "");
}

/* What the tensor is for two rows: one row could be a batch of one by chance. */
static status check_inner(const classifier *k, shape *s) {
  status st = STATUS_OK;
  plan *p = NULL;
  char text[128];
  const char *name = k->g->values[k->inner[k->n_inner - 1]].name;
  TRY(classifier_plan(&p, k, 2, false, NULL));
  const tensor *t = plan_tap(p, k->n_heads + k->n_inner - 1);
  if (t->type != DTYPE_FLOAT || t->shape.rank < 2 || t->shape.dims[0] != 2 || shape_count(&t->shape) < 1)
    THROW(STATUS_BAD_INPUT, "%s: tensor '%s' is %s %s for two rows, expected float [2, ...]", k->path, name,
          dtype_name(t->type), shape_text(&t->shape, text, sizeof text));
  *s = t->shape;
  s->dims[0] = -1;
done:
  plan_free(&p);
  return st;
}

status classifier_tap(classifier *k, const char *name, int *place, shape *s) {
  int v;
  status st = find_inner(k, name, &v);
  if (st) return st;
  for (*place = 0; *place < k->n_inner && k->inner[*place] != v;) ++*place;
  if (*place == CLASSIFIER_MAX_INNER)
    return status_set(STATUS_BAD_INPUT, "%s: more than %d tensors are asked for", k->path,
                      CLASSIFIER_MAX_INNER);
  classifier with = *k;
  with.inner[0] = v;
  with.n_inner = 1;
  st = check_inner(&with, s);
  if (st || *place < k->n_inner) return st;
  k->inner[k->n_inner++] = v;
  return STATUS_OK;
}

void classifier_clear(classifier *k) {
  for (int i = 0; i < k->n_heads; i++) head_clear(&k->heads[i]);
}

status classifier_name(const classifier *k, status st) {
  char *why = NULL;
  const bool failed = st == STATUS_BAD_INPUT || st == STATUS_FAILED;
  if (failed && !mem_string(&why, status_message())) status_set(st, "%s: %s", k->path, why);
  mem_free(why);
  return st;
}

/* Every head has a row for each of the batch. */
static status check_rows(const classifier *k, const plan *p, int64_t rows) {
  for (int i = 0; i < k->n_heads; i++) {
    const shape *s = &plan_tap(p, i)->shape;
    if (s->rank > 0 && s->dims[0] != rows)
      return status_set(STATUS_BAD_INPUT,
                        "output '%s' has %lld rows for a batch of %lld: the model was exported with a fixed "
                        "batch; export it with "
                        "a dynamic one",
                        k->g->values[k->heads[i].value].name, (long long)s->dims[0], (long long)rows);
  }
  return STATUS_OK;
}

static status make_plan(plan **out, const classifier *k, int64_t rows, bool training, const bool *late,
                        arena *arena) {
  shape inputs[CLASSIFIER_MAX_INPUTS];
  int taps[CLASSIFIER_MAX_HEADS + CLASSIFIER_MAX_INNER];
  memcpy(inputs, k->inputs, sizeof inputs);
  for (int i = 0; i < k->n_inputs; i++) inputs[i].dims[0] = rows;
  for (int i = 0; i < k->n_heads; i++) taps[i] = k->heads[i].value;
  for (int i = 0; i < k->n_inner; i++) taps[k->n_heads + i] = k->inner[i];
  status st = plan_new(out, k->g,
                       &(plan_options){.rows = rows,
                                       .training = training,
                                       .frozen = k->frozen,
                                       .late = late,
                                       .arena = arena,
                                       .taps = taps,
                                       .n_taps = k->n_heads + k->n_inner,
                                       .input_shapes = inputs});
  if (!st) st = check_rows(k, *out, rows);
  if (st == STATUS_BAD_INPUT) plan_free(out);
  return classifier_name(k, st);
}

status classifier_plan(plan **out, const classifier *k, int64_t rows, bool training, arena *arena) {
  return make_plan(out, k, rows, training, NULL, arena);
}

status classifier_plan_late(plan **out, const classifier *k, int64_t rows, const bool *late, arena *arena) {
  return make_plan(out, k, rows, true, late, arena);
}

typedef struct lane { /* what one thread works with */
  arena *memory;
  plan *whole;
  int64_t *ids;
  float *scratch; /* of rows in views */
  float *matrix;  /* of a batch of the widest head whose classes are put in order; NULL: there is none */
} lane;

struct predictor {
  const classifier *k;
  int64_t batch_rows;
  int threads;
  lane *lanes;
};

static status lane_new(lane *l, const classifier *k, const float *block, int64_t batch_rows) {
  status st = STATUS_OK;
  TRY(arena_new(&l->memory));
  int64_t widest = 0;
  for (int i = 0; i < k->n_heads; i++)
    if (k->heads[i].order && head_row_values(&k->heads[i]) > widest) widest = head_row_values(&k->heads[i]);
  TRY(mem_new(&l->ids, (size_t)batch_rows, sizeof *l->ids));
  if (widest) TRY(mem_new(&l->matrix, (size_t)(batch_rows * widest), sizeof *l->matrix));
  TRY(classifier_plan(&l->whole, k, batch_rows, false, l->memory));
  plan_set_parameters(l->whole, block);
done:
  return st;
}

status predictor_new(predictor **out, const classifier *k, const float *block, int64_t batch_rows,
                     int threads) {
  status st = STATUS_OK;
  predictor *p = NULL;
  TRY(mem_new(&p, 1, sizeof *p));
  *p = (predictor){.k = k, .batch_rows = batch_rows, .threads = threads};
  TRY(mem_new(&p->lanes, (size_t)threads, sizeof *p->lanes));
  for (int t = 0; t < threads; t++) TRY(lane_new(&p->lanes[t], k, block, batch_rows));
  *out = p;
  p = NULL;
done:
  predictor_free(&p);
  return st;
}

status predictor_see(predictor *p, const augmenter *a) {
  status st = STATUS_OK;
  for (int t = 0; t < p->threads && !st; t++)
    st = mem_new(&p->lanes[t].scratch, augmenter_scratch(a), sizeof(float));
  return st;
}

void predictor_free(predictor **p) {
  if (!*p) return;
  for (int t = 0; (*p)->lanes && t < (*p)->threads; t++) {
    lane *l = &(*p)->lanes[t];
    plan_free(&l->whole);
    arena_free(&l->memory);
    mem_free(l->ids);
    mem_free(l->scratch);
    mem_free(l->matrix);
  }
  mem_free((*p)->lanes);
  mem_free(*p);
  *p = NULL;
}

void predictor_touch(predictor *p) {
  for (int t = 0; t < p->threads; t++) plan_touch_parameters(p->lanes[t].whole);
}

typedef struct destination { /* of rows first.. of a call */
  int64_t first;
  float *const *heads;
  float *const *inner;
} destination;

/* A head's numbers into its matrix, logits in the dataset's order of classes. scratch: for a batch where the
 * tensor is not the matrix and the order is not the dataset's. */
static void copy_head(const head *h, const float *from, int64_t n, float *scratch, float *to) {
  const int64_t rows = n * h->positions;
  if (!head_is_matrix(h)) {
    float *matrix = h->order ? scratch : to;
    head_positions_first(from, n, h->classes, h->positions, matrix);
    from = matrix;
  }
  if (h->order) {
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < h->classes; j++) to[i * h->classes + h->order[j]] = from[i * h->classes + j];
  } else if (from != to) {
    memcpy(to, from, (size_t)(rows * h->classes) * sizeof *to);
  }
  if (h->probabilities) logits_from_probabilities(to, rows * h->classes);
}

static void copy_inner(const classifier *k, const plan *pl, int64_t n, const destination *to) {
  for (int i = 0; to->inner && i < k->n_inner; i++) {
    const tensor *t = plan_tap(pl, k->n_heads + i);
    const int64_t row_values = shape_count(&t->shape) / plan_rows(pl);
    memcpy(to->inner[i] + to->first * row_values, t->data, (size_t)(n * row_values) * sizeof(float));
  }
}

typedef struct request {
  const feed *input;
  int64_t from;          /* rows from there on, or */
  const int64_t *listed; /* those; NULL: none are */
  status (*idle)(void *);
  void *idle_data;
} request;

static int64_t row_at(const request *r, int64_t at) {
  return r->listed ? r->listed[at] : r->from + at;
}

static status forward(lane *l) {
  return plan_forward(l->whole, &(run_context){.rows = l->ids, .row_share = 1.0f});
}

/* Of n rows that could not be computed, the first that cannot be alone. */
static status blame(predictor *p, lane *l, const request *r, int64_t n, const destination *to) {
  char *why = NULL;
  for (int64_t i = 0; i < n && !why; i++) {
    const int64_t row = row_at(r, to->first + i);
    for (int64_t k = 0; k < p->batch_rows; k++) l->ids[k] = row;
    status st = feed_read_views(r->input, p->k, l->ids, p->batch_rows, l->whole, l->scratch);
    if (!st) st = forward(l);
    if (st == STATUS_BAD_INPUT && !mem_string(&why, status_message()))
      status_set(st, "row %lld: %s", (long long)row, why);
  }
  mem_free(why);
  return classifier_name(p->k, STATUS_BAD_INPUT);
}

/* A batch is filled up with its last row: the bits of a row depend on the batch's size, but not on the row's
 * place in it or on the other rows. */
static status run_batch(predictor *p, lane *l, const request *r, int64_t n, const destination *to) {
  const classifier *k = p->k;
  for (int64_t i = 0; i < p->batch_rows; i++) {
    l->ids[i] = row_at(r, to->first + (i < n ? i : n - 1));
  }
  const profile_phase before = profile_enter(PROFILE_READ);
  status st = feed_read_views(r->input, k, l->ids, p->batch_rows, l->whole, l->scratch);
  profile_enter(before);
  if (!st && (st = forward(l)) == STATUS_BAD_INPUT) st = blame(p, l, r, n, to);
  for (int i = 0; !st && i < k->n_heads; i++)
    copy_head(&k->heads[i], plan_tap(l->whole, i)->data, n, l->matrix,
              to->heads[i] + to->first * head_row_values(&k->heads[i]));
  if (!st) copy_inner(k, l->whole, n, to);
  return st;
}

static status run_batches(predictor *p, const request *r, int64_t n, float *const *heads,
                          float *const *inner) {
  status st = STATUS_OK;
  char *message = NULL;
  int64_t n_batches = (n + p->batch_rows - 1) / p->batch_rows;
#pragma omp parallel for num_threads(p->threads) schedule(static, 1)
  for (int64_t b = 0; b < n_batches; b++) {
    int64_t first = b * p->batch_rows, count = n - first < p->batch_rows ? n - first : p->batch_rows;
    const destination to = {first, heads, inner};
    status mine = run_batch(p, &p->lanes[omp_get_thread_num()], r, count, &to);
    if (!mine && r->idle && omp_get_thread_num() == 0) mine = r->idle(r->idle_data);
    if (mine) {
#pragma omp critical
      if (!st) {
        st = mine;
        if (mem_string(&message, status_message())) message = NULL;
      }
    }
  }
  if (st) status_set(st, "%s", message ? message : "out of memory");
  mem_free(message);
  return st;
}

status predictor_run(predictor *p, const feed *input, int64_t from, int64_t n, float *const *heads,
                     float *const *inner, status (*idle)(void *), void *idle_data) {
  return run_batches(p, &(request){.input = input, .from = from, .idle = idle, .idle_data = idle_data}, n,
                     heads, inner);
}

status predictor_rows(predictor *p, const feed *input, const int64_t *seen, int64_t n, float *const *heads,
                      float *const *inner) {
  return run_batches(p, &(request){.input = input, .listed = seen}, n, heads, inner);
}

/* Up to 4e8 multiply-adds a batch keep a core busy for some milliseconds; powers of two suit the kernels. */
int64_t predict_batch_rows(const classifier *k) {
  int64_t batch = 8;
  while (batch < 128 && 2 * batch * k->work <= 400000000) batch *= 2;
  return batch;
}
