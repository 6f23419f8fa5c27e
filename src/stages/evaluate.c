#include "stages/evaluate.h"

#include "base/log.h"
#include "base/mem.h"
#include "stages/common.h"
#include "stages/compare.h"
#include "stages/stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

status labels_open(rows **out, dataset *d, const split *sp) {
  *out = NULL;
  for (int i = 0; i < sp->n_labels; i++) {
    if (strcmp(sp->labels[i].name, "label")) continue;
    if (sp->labels[i].rank == 1) return rows_open(out, d, sp, &sp->labels[i], 0);
    return status_set(STATUS_BAD_INPUT, "%s: /%s/label has %d dimensions, expected [rows]", dataset_path(d),
                      sp->name, sp->labels[i].rank);
  }
  return STATUS_OK;
}

status labels_read(rows *labels, int64_t from, int64_t n, int64_t classes, const dataset *d, const split *sp,
                   int32_t *out) {
  status st = STATUS_OK;
  int64_t *ids = NULL;
  if (!labels) {
    for (int64_t i = 0; i < n; i++) out[i] = -1;
    return st;
  }
  TRY(mem_new(&ids, (size_t)n, sizeof *ids));
  for (int64_t i = 0; i < n; i++) ids[i] = (from + i) % rows_count(labels);
  TRY(rows_ints(labels, ids, n, out));
  for (int64_t i = 0; i < n; i++)
    if (out[i] < -1 || out[i] >= classes)
      THROW(STATUS_BAD_INPUT,
            "%s: /%s/label row %lld is %d, but there are %lld classes (0 to %lld, -1: not labelled)",
            dataset_path(d), sp->name, (long long)ids[i], out[i], (long long)classes, (long long)classes - 1);
done:
  mem_free(ids);
  return st;
}

typedef struct work { /* one rank's blocks */
  const classifier *k;
  predictor *p;
  feed input;
  rows *labels;
  const dataset *d;
  const split *sp;
  int64_t n, block_rows;
  float *logits;
  int32_t *y;
  metric_sums *sums; /* [blocks] */
} work;

static status evaluate_block(work *w, int64_t b) {
  int64_t from = b * w->block_rows, n = w->n - from < w->block_rows ? w->n - from : w->block_rows;
  status st = predictor_run(w->p, &w->input, from, n, w->logits, NULL, NULL);
  if (!st) st = labels_read(w->labels, from, n, w->k->classes, w->d, w->sp, w->y);
  if (!st) metric_add(&w->sums[b], w->logits, w->y, n, w->k->classes);
  return st;
}

/* Rows in front of a block: the last one may be short. */
static int64_t block_begin(const work *w, int64_t b) {
  return b * w->block_rows < w->n ? b * w->block_rows : w->n;
}

static status evaluate_mine(work *w, comm *c, int64_t n_blocks, int64_t batch_rows, const float *block,
                            int threads, bool show) {
  status st = STATUS_OK;
  progress bar = {0};
  int64_t from = n_blocks * comm_rank(c) / comm_size(c), to = n_blocks * (comm_rank(c) + 1) / comm_size(c);
  TRY(predictor_new(&w->p, w->k, block, batch_rows, w->n, threads));
  TRY(mem_new(&w->logits, (size_t)(w->block_rows * w->k->classes), sizeof *w->logits));
  TRY(mem_new(&w->y, (size_t)w->block_rows, sizeof *w->y));
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

status evaluate_rows(comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                     int threads, bool show, metric_sums *out) {
  status st = STATUS_OK;
  work w = {.k = k, .d = d, .sp = sp, .n = sp->n};
  int64_t batch_rows = predict_batch_rows(k, sp->n);
  w.block_rows = batch_rows * PREDICT_BLOCK_BATCHES;
  int64_t n_blocks = (sp->n + w.block_rows - 1) / w.block_rows;
  *out = (metric_sums){0};
  TRY(feed_open(&w.input, k, d, sp));
  TRY(labels_open(&w.labels, d, sp));
  TRY(comm_agree(c, mem_new(&w.sums, (size_t)n_blocks, sizeof *w.sums)));
  TRY(comm_agree(c, evaluate_mine(&w, c, n_blocks, batch_rows, block, threads, show)));
  TRY(comm_combine(c, (double *)w.sums, (size_t)n_blocks * (sizeof *w.sums / sizeof(double))));
  for (int64_t b = 0; b < n_blocks; b++) metric_merge(out, &w.sums[b]);
done:
  predictor_free(&w.p);
  rows_close(&w.labels);
  feed_close(&w.input);
  mem_free(w.logits);
  mem_free(w.y);
  mem_free(w.sums);
  return st;
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

json_t *metrics_json(const metric_sums *m) {
  return json_pack("{s:I, s:I, s:o, s:o, s:o}", "samples", (json_int_t)m->rows, "errors",
                   (json_int_t)m->errors, "accuracy", json_number(metric_accuracy(m)), "nll",
                   json_number(metric_nll(m)), "ece", json_number(metric_ece(m)));
}

static json_t *comparison_json(const mpistill_evaluate_options *o, const comparison *x) {
  json_t *j = metrics_json(&x->other);
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
  if (x->other.rows > 0)
    printf("lost        accuracy %.4f, nll %.4f (its accuracy %.4f, nll %.4f)\n",
           metric_accuracy(&x->other) - e->accuracy, e->nll - metric_nll(&x->other),
           metric_accuracy(&x->other), metric_nll(&x->other));
}

static void print(const comm *c, const mpistill_evaluate_options *o, const mpistill_evaluation *e,
                  const comparison *x) {
  if (o->out.json) {
    json_t *all = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:o}", "model", o->model, "split",
                            o->split, "samples", (json_int_t)e->samples, "errors", (json_int_t)e->errors,
                            "accuracy", json_number(e->accuracy), "nll", json_number(e->nll), "ece",
                            json_number(e->ece), "parameters", (json_int_t)e->parameters, "bytes",
                            (json_int_t)e->bytes, "latency_s", json_number(e->latency_s));
    if (x) json_object_set_new(all, "against", comparison_json(o, x));
    stage_print_json(c, all);
    return;
  }
  if (comm_rank(c) != 0) return;
  printf("samples     %lld\nerrors      %lld\naccuracy    %.4f\nnll         %.4f\nece         "
         "%.4f\nparameters  %lld\n"
         "bytes       %lld\nlatency_s   %.3g\n",
         (long long)e->samples, (long long)e->errors, e->accuracy, e->nll, e->ece, (long long)e->parameters,
         (long long)e->bytes, e->latency_s);
  if (x) print_comparison(o, e, x);
  fflush(stdout);
}

status stage_evaluate(comm *c, const mpistill_evaluate_options *o, mpistill_evaluation *result) {
  status st = STATUS_OK;
  dataset *d = NULL;
  subject s = {0};
  metric_sums sums;
  mpistill_evaluation e = {0};
  comparison x;
  TRY(stage_begin(c));
  TRY(dataset_open(&d, c, o->dataset));
  TRY(subject_open(&s, c, &(model_source){.path = o->model}, d, o->split, o->input));
  TRY(subject_order(&s, c, d));
  stage_tell_mode(comm_rank(c) == 0, s.m, false);
  TRY(evaluate_rows(c, &s.k, s.block, d, s.sp, stage_threads(o->threads), !o->out.quiet, &sums));
  if (o->against) TRY(compare_models(c, &s.k, s.block, d, s.sp, o, &x));
  TRY(evaluate_latency(c, &s.k, s.block, &e.latency_s));
  e.samples = (int64_t)sums.rows;
  e.errors = (int64_t)sums.errors;
  e.accuracy = metric_accuracy(&sums);
  e.nll = metric_nll(&sums);
  e.ece = metric_ece(&sums);
  e.parameters = model_parameters(s.m);
  e.bytes = model_bytes(s.m);
  if (result)
    *result = e;
  else
    print(c, o, &e, o->against ? &x : NULL);
done:
  subject_close(&s);
  dataset_close(&d);
  return st;
}
