#include "stages/measure.h"

#include "base/mem.h"
#include "base/progress.h"
#include "comm/tree.h"
#include "learn/optimizer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REPEATS = 20, MOST_FLOATS = 1 << 20, READ_VALUES = 1 << 22, INPUTS = TREE_FUSED };
static const double ENOUGH_S = 0.3;

double measure_own_memory(void) {
  long pages = 0, files = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (!f) return 0;
  if (fscanf(f, "%*s %ld %ld", &pages, &files) != 2) pages = files = 0;
  fclose(f);
  return (double)(pages - files) * (double)sysconf(_SC_PAGESIZE);
}

/* The least of several times: what the work takes when nothing else disturbs it. */
static status least_time(status (*work)(void *), void *data, double *out) {
  status st = STATUS_OK;
  double started = clock_seconds();
  TRY(work(data)); /* the first one touches memory and makes kernels */
  *out = clock_seconds() - started;
  for (int i = 0; i < REPEATS && clock_seconds() - started < ENOUGH_S; i++) {
    double at = clock_seconds();
    TRY(work(data));
    double took = clock_seconds() - at;
    if (took < *out) *out = took;
  }
done:
  return st;
}

/* Rows spread over the split, as a batch of shuffled rows is. */
static status read_some(const subject *s, dataset *d, int64_t n, int64_t **ids, float **values) {
  status st = STATUS_OK;
  rows *r = NULL;
  TRY(rows_open(&r, d, s->sp, s->input, 1));
  TRY(mem_new(ids, (size_t)n, sizeof **ids));
  TRY(mem_new(values, (size_t)(n * rows_values(r)), sizeof **values));
  for (int64_t i = 0; i < n; i++) (*ids)[i] = i * s->sp->n / n;
  TRY(rows_floats(r, *ids, n, *values));
done:
  rows_close(&r);
  return st;
}

/* The same rows into all inputs of a plan. */
static status fill_inputs(const subject *s, dataset *d, const int64_t *ids, int64_t n, const plan *p) {
  status st = STATUS_OK;
  feed f = {.augment = NULL};
  for (int i = 0; i < s->k.n_inputs; i++) TRY(rows_open(&f.rows[i], d, s->sp, s->k.arrays[i], 1));
  TRY(feed_read(&f, &s->k, ids, n, p));
done:
  feed_close(&f);
  return st;
}

typedef struct pass {
  const classifier *k;
  plan *p;
  run_context run;
  bool training;
} pass;

static status run_pass(void *data) {
  pass *w = data;
  if (!w->training) return plan_forward(w->p, &w->run);
  plan_touch_parameters(w->p);
  status st = plan_forward(w->p, &w->run);
  if (st) return st;
  for (int o = 0; o < w->k->g->n_outputs; o++) {
    tensor *end = plan_output_gradient(w->p, o);
    if (end) memset(end->data, 0, (size_t)shape_count(&end->shape) * sizeof(float));
  }
  for (int h = 0; h < w->k->n_heads; h++) {
    tensor *gradient = plan_tap_gradient(w->p, h);
    float *to = gradient->data;
    for (int64_t i = 0; i < shape_count(&gradient->shape); i++) to[i] = i % 2 ? 1e-3f : -1e-3f;
  }
  return plan_backward(w->p, &w->run);
}

static status measure_passes(const subject *s, dataset *d, int64_t n, bool training, double *seconds,
                             double *bytes) {
  status st = STATUS_OK;
  arena *memory = NULL;
  plan *p = NULL;
  int64_t *ids = NULL;
  float *gradients = NULL;
  TRY(mem_new(&ids, (size_t)n, sizeof *ids));
  for (int64_t i = 0; i < n; i++) ids[i] = i * s->sp->n / n;
  if (training) TRY(mem_new(&gradients, (size_t)s->k.g->n_block, sizeof *gradients));
  double before = measure_own_memory();
  TRY(arena_new(&memory));
  TRY(classifier_plan(&p, &s->k, n, training, memory));
  for (int h = 0; training && h < s->k.n_heads; h++)
    if (!plan_tap_gradient(p, h))
      THROW(STATUS_BAD_INPUT, "%s: no parameter can be trained: no float initializer reaches the output",
            s->k.path);
  plan_set_parameters(p, s->block);
  if (training) plan_set_gradients(p, gradients);
  TRY(fill_inputs(s, d, ids, n, p));
  pass w = {.k = &s->k, .p = p, .training = training};
  w.run = (run_context){.training = training, .rows = ids, .row_share = 1.0f};
  TRY(least_time(run_pass, &w, seconds));
  *bytes = measure_own_memory() - before;
  double least = (double)plan_memory_bytes(p);
  if (*bytes < least) *bytes = least; /* memory that was freed before is used again */
done:
  plan_free(&p);
  arena_free(&memory);
  mem_free(ids);
  mem_free(gradients);
  return st;
}

status measure_forward(const subject *s, dataset *d, int64_t n, measured *out) {
  status st = STATUS_OK;
  double ignored;
  *out = (measured){.rows = n};
  TRY(measure_passes(s, d, n, false, &out->batch_s, &out->worker_bytes));
  TRY(measure_passes(s, d, 1, false, &out->row_s, &ignored));
done:
  return st;
}

/* Which gradients can be late. */
static status count_late(const subject *s, int64_t n, measured *out) {
  status st = STATUS_OK;
  plan *p = NULL;
  bool *all = NULL;
  TRY(mem_new(&all, (size_t)s->k.g->n_values, sizeof *all));
  memset(all, true, (size_t)s->k.g->n_values * sizeof *all);
  TRY(classifier_plan_late(&p, &s->k, n, all, NULL));
  out->late_copies = plan_late_floats(p);
done:
  plan_free(&p);
  mem_free(all);
  return st;
}

status measure_training(const subject *s, dataset *d, int64_t n, measured *out) {
  *out = (measured){.rows = n};
  status st = measure_passes(s, d, n, true, &out->batch_s, &out->worker_bytes);
  return st ? st : count_late(s, n, out);
}

/* ---- memory ---- */

typedef struct vectors {
  const optimizer_kind *kind;
  const mpistill_optimizer *options;
  size_t n;
  float *of[INPUTS + 1]; /* [n]: inputs and output of a sum; or parameters, gradient, states */
  float *scratch;
  tree *sum;
} vectors;

static status run_sum(void *data) {
  vectors *v = data;
  tree_vector in[INPUTS], out[1] = {{v->of[INPUTS], 0}};
  for (int i = 0; i < INPUTS; i++) in[i] = (tree_vector){v->of[i], 0};
  tree_run(v->sum, in, out, 0, v->n, 1, v->scratch);
  return STATUS_OK;
}

static status run_update(void *data) {
  vectors *v = data;
  v->kind->update(v->options, 1e-6, 1, 1, v->n, v->of[0], v->of[1], &v->of[2]);
  return STATUS_OK;
}

static status measure_vectors(const mpistill_optimizer *o, size_t n, measured_memory *out) {
  status st = STATUS_OK;
  vectors v = {.kind = optimizer_find(o->kind), .options = o, .n = n < MOST_FLOATS ? n : MOST_FLOATS};
  for (int i = 0; i <= INPUTS; i++) TRY(mem_new(&v.of[i], v.n, sizeof(float)));
  TRY(mem_new(&v.scratch, (size_t)TREE_DEPTH * TREE_CHUNK, sizeof(float)));
  TRY(tree_new(&v.sum, INPUTS));
  tree_start(v.sum, INPUTS);
  for (int i = 0; i < INPUTS; i++) tree_push(v.sum, (tree_node){0, i});
  tree_end(v.sum);
  TRY(least_time(run_sum, &v, &out->sum_s));
  TRY(least_time(run_update, &v, &out->update_s));
  out->sum_s /= (double)v.n * (INPUTS - 1);
  out->update_s /= (double)v.n;
done:
  tree_free(&v.sum);
  mem_free(v.scratch);
  for (int i = 0; i <= INPUTS; i++) mem_free(v.of[i]);
  return st;
}

status measure_memory(const subject *s, dataset *d, const mpistill_optimizer *o, measured_memory *out) {
  status st = STATUS_OK;
  int64_t *ids = NULL;
  float *values = NULL;
  int64_t width = s->input->row_values > 0 ? s->input->row_values : 1, n = READ_VALUES / width;
  if (n < 1) n = 1;
  if (n > s->sp->n) n = s->sp->n;
  TRY(measure_vectors(o, (size_t)s->k.g->n_block, out));
  double at = clock_seconds();
  TRY(read_some(s, d, n, &ids, &values));
  out->read_s = (clock_seconds() - at) / ((double)n * (double)width);
done:
  mem_free(ids);
  mem_free(values);
  return st;
}
