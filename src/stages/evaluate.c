#include "stages/evaluate.h"

#include "base/log.h"
#include "base/mem.h"
#include "stages/common.h"
#include "stages/compare.h"
#include "stages/stages.h"
#include "stages/tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct part { /* one head's */
  const head *h;
  truth known;
  float *matrix; /* of a block */
  int32_t *labels;
  float *targets;
  metric_sums *sums; /* [blocks] */
  int64_t *areas;    /* [3, C], NULL: one position a row */
} part;

typedef struct work { /* one rank's blocks */
  const classifier *k;
  predictor *p;
  feed input;
  part parts[CLASSIFIER_MAX_HEADS];
  float *matrices[CLASSIFIER_MAX_HEADS];
  int64_t n, block_rows, n_blocks;
} work;

static status add_part(part *x, int64_t b, int64_t from, int64_t n) {
  const head *h = x->h;
  const int64_t rows = n * h->positions;
  status st = truth_range(&x->known, from, n, x->labels, x->targets);
  if (st) return st;
  if (h->values) metric_add_values(&x->sums[b], x->matrix, x->targets, rows);
  if (!h->values) metric_add(&x->sums[b], x->matrix, x->labels, rows, h->classes);
  if (x->areas) metric_add_areas(x->areas, x->matrix, x->labels, rows, h->classes);
  return st;
}

static status evaluate_block(work *w, int64_t b) {
  int64_t from = b * w->block_rows, n = w->n - from < w->block_rows ? w->n - from : w->block_rows;
  status st = predictor_run(w->p, &w->input, from, n, w->matrices, NULL, NULL, NULL);
  for (int i = 0; !st && i < w->k->n_heads; i++) st = add_part(&w->parts[i], b, from, n);
  return st;
}

/* Rows in front of a block: the last one may be short. */
static int64_t block_begin(const work *w, int64_t b) {
  return b * w->block_rows < w->n ? b * w->block_rows : w->n;
}

static status make_part(work *w, int i) {
  status st = STATUS_OK;
  part *x = &w->parts[i];
  const head *h = x->h;
  TRY(mem_new(&x->matrix, (size_t)(w->block_rows * head_row_values(h)), sizeof *x->matrix));
  w->matrices[i] = x->matrix;
  if (h->values)
    TRY(mem_new(&x->targets, (size_t)(w->block_rows * h->positions), sizeof *x->targets));
  else
    TRY(mem_new(&x->labels, (size_t)(w->block_rows * h->positions), sizeof *x->labels));
done:
  return st;
}

static status evaluate_mine(work *w, comm *c, int64_t batch_rows, const float *block, int threads,
                            bool show) {
  status st = STATUS_OK;
  progress bar = {0};
  int64_t from = w->n_blocks * comm_rank(c) / comm_size(c),
          to = w->n_blocks * (comm_rank(c) + 1) / comm_size(c);
  TRY(predictor_new(&w->p, w->k, block, batch_rows, threads));
  for (int i = 0; i < w->k->n_heads; i++) TRY(make_part(w, i));
  progress_start(&bar, "evaluate", "samples", (double)(block_begin(w, to) - block_begin(w, from)),
                 show && comm_rank(c) == 0);
  for (int64_t b = from; b < to; b++) {
    TRY(evaluate_block(w, b));
    progress_update(&bar, (double)(block_begin(w, b + 1) - block_begin(w, from)));
  }
done:
  progress_end(&bar);
  return st;
}

static status open_part(part *x, comm *c, const work *w, int i, dataset *d, const split *sp) {
  status st = STATUS_OK;
  const head *h = x->h = &w->k->heads[i];
  const form f = head_form(h);
  TRY(truth_open(&x->known, d, sp, truth_array(sp, h->labels), &f, w->k->arrays, w->k->n_inputs));
  st = mem_new(&x->sums, (size_t)w->n_blocks, sizeof *x->sums);
  if (!st && !h->values && h->positions > 1)
    st = mem_new(&x->areas, 3, (size_t)h->classes * sizeof *x->areas);
  TRY(comm_agree(c, st));
done:
  return st;
}

static status add_up(const part *x, comm *c, int64_t n_blocks, score *out) {
  status st = STATUS_OK;
  *out = (score){.values = x->h->values, .dense = x->areas != NULL};
  TRY(comm_combine(c, (double *)x->sums, (size_t)n_blocks * (sizeof *x->sums / sizeof(double))));
  for (int64_t b = 0; b < n_blocks; b++) metric_merge(&out->sums, &x->sums[b]);
  if (!x->areas) goto done;
  TRY(comm_combine_counts(c, x->areas, 3 * (size_t)x->h->classes));
  out->mean_iou = metric_mean_iou(x->areas, x->h->classes);
done:
  return st;
}

status evaluate_rows(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                     int threads, bool show, score *out) {
  status st = STATUS_OK;
  work w = {.k = k, .n = sp->n};
  int64_t batch_rows = predict_batch_rows(k);
  w.block_rows = batch_rows * PREDICT_BLOCK_BATCHES;
  w.n_blocks = (sp->n + w.block_rows - 1) / w.block_rows;
  TRY(feed_open(&w.input, k, d, sp));
  for (int i = 0; i < k->n_heads; i++) TRY(open_part(&w.parts[i], c, &w, i, d, sp));
  TRY(comm_agree(c, evaluate_mine(&w, c, batch_rows, block, threads, show)));
  for (int i = 0; i < k->n_heads; i++) TRY(add_up(&w.parts[i], c, w.n_blocks, &out[i]));
done:
  predictor_free(&w.p);
  for (int i = 0; i < k->n_heads; i++) {
    truth_close(&w.parts[i].known);
    mem_free(w.parts[i].matrix);
    mem_free(w.parts[i].labels);
    mem_free(w.parts[i].targets);
    mem_free(w.parts[i].sums);
    mem_free(w.parts[i].areas);
  }
  feed_close(&w.input);
  return st;
}

status evaluate_check(const score *scores, int n, const char *path, const char *split) {
  for (int i = 0; i < n; i++)
    if (!isfinite(scores[i].sums.nll) || !isfinite(scores[i].sums.squares))
      return status_set(
          STATUS_FAILED,
          "%s: the student's outputs on split '%s' are not finite; lower --learning-rate or set "
          "--clip-norm, unless rows of that split are not finite themselves",
          path, split);
  return STATUS_OK;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static status measure(const classifier *k, const float *block, double *seconds) {
  enum { WARM_UP = 5, REPEATS = 101 };
  status st = STATUS_OK;
  plan *p = NULL;
  double times[REPEATS], started = clock_seconds();
  int n = 0;
  TRY(classifier_plan(&p, k, 1, false, NULL));
  plan_set_parameters(p, block);
  for (int i = 0; i < WARM_UP + REPEATS && (n < 3 || clock_seconds() - started < 2); i++) {
    double at = clock_seconds();
    TRY(plan_forward(p, &(run_context){.row_share = 1.0f}));
    if (i >= WARM_UP) times[n++] = clock_seconds() - at;
  }
  qsort(times, (size_t)n, sizeof *times, by_value);
  *seconds = times[n / 2];
done:
  plan_free(&p);
  return st;
}

status evaluate_latency(comm *c, const classifier *k, const float *block, double *seconds) {
  *seconds = 0;
  status st = comm_agree(c, comm_rank(c) == 0 ? measure(k, block, seconds) : STATUS_OK);
  return st ? st : comm_broadcast(c, 0, seconds, sizeof *seconds);
}

json_t *score_json(const score *x) {
  const metric_sums *m = &x->sums;
  if (x->values)
    return json_pack("{s:I, s:o, s:o, s:o}", "samples", (json_int_t)m->rows, "mse",
                     json_number(metric_mse(m)), "mae", json_number(metric_mae(m)), "r2",
                     json_number(metric_r2(m)));
  json_t *all = json_pack("{s:I, s:I, s:o, s:o, s:o}", "samples", (json_int_t)m->rows, "errors",
                          (json_int_t)m->errors, "accuracy", json_number(metric_accuracy(m)), "nll",
                          json_number(metric_nll(m)), "ece", json_number(metric_ece(m)));
  if (x->dense) json_object_set_new(all, "mean_iou", json_number(x->mean_iou));
  return all;
}

void score_text(const score *x, char *out, size_t n) {
  const metric_sums *m = &x->sums;
  if (x->values)
    snprintf(out, n, "mse %.4g, mae %.4g, r2 %.4f (%.0f numbers)", metric_mse(m), metric_mae(m), metric_r2(m),
             m->rows);
  else
    snprintf(out, n, "accuracy %.4f (%.0f errors of %.0f), nll %.4f", metric_accuracy(m), m->errors, m->rows,
             metric_nll(m));
  const size_t used = strlen(out);
  if (x->dense && !x->values) snprintf(out + used, n - used, ", mean IoU %.4f", x->mean_iou);
}

static json_t *comparison_json(const mpistill_evaluate_options *o, const comparison *x) {
  json_t *j = score_json(&x->other);
  json_object_set_new(j, "model", json_string(o->against));
  json_object_set_new(j, "agreement", json_number(x->same / x->rows));
  json_object_set_new(j, "mean_logit_difference", json_number(x->distance / x->rows));
  json_object_set_new(j, "largest_logit_difference", json_number(x->largest));
  return j;
}

static void print_comparison(const mpistill_evaluate_options *o, const mpistill_evaluation *e,
                             const comparison *x) {
  printf("against     %s\nagreement   %.4f of rows, logits differ by %.3g on average, %.3g at most\n",
         o->against, x->same / x->rows, x->distance / x->rows, x->largest);
  const metric_sums *its = &x->other.sums;
  if (its->rows > 0)
    printf("lost        accuracy %.4f, nll %.4f (its accuracy %.4f, nll %.4f)\n",
           metric_accuracy(its) - e->accuracy, e->nll - metric_nll(its), metric_accuracy(its),
           metric_nll(its));
}

/* Of one task alone its metrics stand at the top, else under its name in "tasks". */
static json_t *result_json(const mpistill_evaluate_options *o, const mpistill_evaluation *e, const tasks *t,
                           const score *scores, const comparison *x) {
  json_t *all = json_pack("{s:s, s:s}", "model", o->model, "split", o->split);
  json_t *size = json_pack("{s:I, s:I, s:o}", "parameters", (json_int_t)e->parameters, "bytes",
                           (json_int_t)e->bytes, "latency_s", json_number(e->latency_s));
  json_t *by_task = json_object();
  for (int i = 0; i < t->n; i++) {
    json_t *one = score_json(&scores[i]);
    if (t->n == 1) json_object_update(all, one);
    if (t->items[i].name) json_object_set(by_task, t->items[i].name, one);
    json_decref(one);
  }
  if (json_object_size(by_task)) json_object_set(all, "tasks", by_task);
  json_object_update(all, size);
  json_decref(by_task);
  json_decref(size);
  if (x) json_object_set_new(all, "against", comparison_json(o, x));
  return all;
}

static void print_score(const score *x) {
  const metric_sums *m = &x->sums;
  printf("samples     %lld\n", (long long)m->rows);
  if (!(m->rows > 0)) return;
  if (x->values) {
    printf("mse         %.6g\nmae         %.6g\nr2          %.4f\n", metric_mse(m), metric_mae(m),
           metric_r2(m));
    return;
  }
  printf("errors      %lld\naccuracy    %.4f\nnll         %.4f\nece         %.4f\n", (long long)m->errors,
         metric_accuracy(m), metric_nll(m), metric_ece(m));
  if (x->dense) printf("mean_iou    %.4f\n", x->mean_iou);
}

static void print(const comm *c, const mpistill_evaluate_options *o, const mpistill_evaluation *e,
                  const tasks *t, const score *scores, const comparison *x) {
  if (o->out.json) {
    stage_print_json(c, result_json(o, e, t, scores, x));
    return;
  }
  if (comm_rank(c) != 0) return;
  for (int i = 0; i < t->n; i++) {
    if (t->n > 1) printf("task        %s\n", t->items[i].name);
    print_score(&scores[i]);
  }
  printf("parameters  %lld\nbytes       %lld\nlatency_s   %.3g\n", (long long)e->parameters,
         (long long)e->bytes, e->latency_s);
  if (x) print_comparison(o, e, x);
  fflush(stdout);
}

static void summarise(const score *x, mpistill_evaluation *e) {
  const metric_sums *m = &x->sums;
  e->samples = (int64_t)m->rows;
  e->errors = (int64_t)m->errors;
  e->accuracy = x->values ? NAN : metric_accuracy(m);
  e->nll = x->values ? NAN : metric_nll(m);
  e->ece = x->values ? NAN : metric_ece(m);
  e->mean_iou = x->dense ? x->mean_iou : NAN;
  e->mse = x->values ? metric_mse(m) : NAN;
  e->mae = x->values ? metric_mae(m) : NAN;
  e->r2 = x->values ? metric_r2(m) : NAN;
}

/* Before and after the rows are read, scores NULL: before. Two models are also compared without labels. */
static status check_known(const subject *s, const mpistill_evaluate_options *o, const score *scores) {
  const head *h = s->k.heads;
  bool known = o->against != NULL;
  for (int i = 0; i < s->k.n_heads; i++)
    known = known || (scores ? scores[i].sums.rows > 0 : truth_array(s->sp, h[i].labels) != NULL);
  return known
             ? STATUS_OK
             : status_set(STATUS_BAD_INPUT,
                          "%s: no row of split '%s' has a %s in an array '%s' to evaluate by; choose another "
                          "split (--split), or name the array (--task NAME:labels=ARRAY)",
                          o->dataset, o->split, h->values ? "target" : "label",
                          *h->labels ? h->labels : "label");
}

status stage_evaluate(comm *c, const mpistill_evaluate_options *o, mpistill_evaluation *result) {
  status st = STATUS_OK;
  dataset *d = NULL;
  subject s = {0};
  tasks t;
  score scores[TASKS_MAX];
  mpistill_evaluation e = {0};
  comparison x;
  TRY(stage_begin(c, &o->out));
  TRY(dataset_open(&d, c, o->dataset));
  TRY(tasks_describe(&t, &o->tasks, NULL, d));
  const model_source from = {.path = o->model, .pre = &o->preprocess, .heads = t.heads, .n_heads = t.n};
  TRY(subject_open(&s, c, &from, d, o->split, o->input));
  TRY(subject_order(&s, c, d));
  stage_tell_mode(comm_rank(c) == 0, s.m, false);
  TRY(check_known(&s, o, NULL));
  if (o->against) TRY(compare_models(c, &s.k, s.block, d, s.sp, o, t.heads, &x));
  TRY(evaluate_rows(c, &s.k, s.block, d, s.sp, stage_threads(o->threads), !o->out.quiet, scores));
  TRY(check_known(&s, o, scores));
  TRY(evaluate_latency(c, &s.k, s.block, &e.latency_s));
  summarise(&scores[0], &e);
  e.parameters = model_parameters(s.m);
  e.bytes = model_bytes(s.m);
  if (result)
    *result = e;
  else
    print(c, o, &e, &t, scores, o->against ? &x : NULL);
done:
  subject_close(&s);
  dataset_close(&d);
  return st;
}
