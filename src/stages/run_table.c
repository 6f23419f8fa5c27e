/* What a run ends with: all of its models on the test rows, in result.json and as a table. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "learn/combine.h"
#include "stages/aggregate.h"
#include "stages/evaluate.h"
#include "stages/fit.h"
#include "stages/reduced.h"
#include "stages/run_job.h"
#include "stages/stages.h"
#include "store/softlabels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static run_row *add_row(run_job *j, const char *kind, const char *name) {
  run_row *r = &j->rows[j->n_rows++];
  *r = (run_row){.name = name, .kind = kind, .task = -1};
  return r;
}

static const char *measured_split(const run_job *j) {
  return j->has_test ? j->r.distill.test_split : j->r.distill.split;
}

static status measure_size(run_job *j, run_row *r, subject *s) {
  r->size = (run_size){.known = true, .parameters = model_parameters(s->m), .bytes = model_bytes(s->m)};
  return evaluate_latency(j->c, &s->k, s->block, &r->size.latency_s);
}

static status measure_student(run_job *j, run_row *r, const char *path) {
  status st = STATUS_OK;
  subject s = {0};
  const model_source from = {.path = path, .heads = j->work.heads, .n_heads = j->work.n};
  TRY(subject_open_any(&s, j->c, &from, j->d, measured_split(j), j->r.distill.input));
  TRY(measure_size(j, r, &s));
  TRY(subject_order(&s, j->c, j->d));
  TRY(evaluate_rows(j->c, &s.k, s.block, j->d, s.sp, stage_threads(j->r.threads), false, r->scores));
  TRY(evaluate_check(r->scores, j->work.n, path, s.sp->name));
  for (int i = 0; i < j->work.n; i++) r->measured[i] = r->scores[i].sums.rows > 0;
done:
  subject_close(&s);
  return st;
}

static status measure_teacher(run_job *j, run_row *r, const mpistill_teacher *t) {
  status st = STATUS_OK;
  subject s = {0};
  const mpistill_teacher whole = tasks_teacher(&j->work, t);
  const head_options head = teacher_head(&whole);
  const model_source from = {
      .path = t->model, .pre = teach_preprocess(&j->r.teach, t), .heads = &head, .n_heads = 1};
  if (t->is_private) return st;
  TRY(subject_open_any(&s, j->c, &from, j->d, measured_split(j), t->input));
  TRY(measure_size(j, r, &s));
done:
  subject_close(&s);
  return st;
}

/* members[n + 1]: the teachers as they are, then their combination, with what was found for the ensemble. */
static status score_members(run_job *j, int task, const mpistill_aggregate_options *a, bool has_ensemble,
                            score *members) {
  status st = STATUS_OK;
  score *fitted = NULL;
  const combine_kind *rule = combine_find(a->method ? a->method : "probability-mean");
  TRY(aggregate_measure(j->c, a, NULL, members));
  if (!has_ensemble || !fit_needed(a, rule)) goto done;
  TRY(comm_agree(j->c, mem_new(&fitted, a->inputs.n + 1, sizeof *fitted)));
  TRY(aggregate_measure(j->c, a, j->ensembles[task], fitted));
  members[a->inputs.n] = fitted[a->inputs.n];
done:
  mem_free(fitted);
  return st;
}

/* A task's teachers, rows[n], and their ensemble on the test split, from their logits there; those made
 * elsewhere have none. */
static status score_teachers(run_job *j, int task, run_row *const *rows, int n, run_row *ensemble) {
  status st = STATUS_OK;
  double weights[j->r.teachers.n + 1];
  mpistill_aggregate_options a = run_combination(j, task, weights);
  mpistill_strings paths = {0};
  score *members = NULL;
  TRY(run_soft_paths(j, task, j->soft_test, false, &paths));
  const bool all_live = (int)paths.n == n;
  const bool together = run_combines_in_training(j), has_ensemble = all_live && !together;
  if (!j->has_test || !paths.n) goto done;
  TRY(comm_agree(j->c, mem_new(&members, paths.n + 1, sizeof *members)));
  a.inputs = paths;
  if (together) a.method = NULL; /* for the teachers' own figures */
  if (!all_live) a.weights = (mpistill_reals){0};
  TRY(score_members(j, task, &a, has_ensemble, members));
  int live = 0;
  for (int i = 0; i < n; i++) {
    if (!rows[i]) continue;
    rows[i]->scores[task] = members[live++];
    rows[i]->measured[task] = rows[i]->scores[task].sums.rows > 0;
  }
  ensemble->scores[task] = members[live];
  ensemble->measured[task] = has_ensemble && members[live].sums.rows > 0;
done:
  strings_free(&paths);
  mem_free(members);
  return st;
}

/* What the labels that the student learned from reveal. */
static status take_epsilon(run_job *j, int task, run_row *ensemble) {
  status st = STATUS_OK;
  softlabels *s = NULL;
  double weights[j->r.teachers.n + 1];
  const mpistill_aggregate_options a = run_combination(j, task, weights);
  const combine_kind *rule = a.method ? combine_find(a.method) : NULL;
  if (!rule || !rule->epsilon) return st;
  TRY(softlabels_open(&s, j->c, j->ensembles[task]));
  ensemble->epsilon[task] = softlabels_get(s)->epsilon;
  ensemble->delta[task] = softlabels_get(s)->delta;
done:
  softlabels_close(&s);
  return st;
}

/* A model that teaches several tasks is one file. */
static bool is_again(const run_job *j, const run_row *rows, size_t i, int task) {
  const mpistill_teacher *t = j->r.teachers.items;
  for (size_t k = 0; t[i].model && k < i; k++)
    if ((task < 0 || rows[k].task == task) && t[k].model && file_same(t[k].model, t[i].model)) return true;
  return false;
}

/* Of a task's teachers (-1: of all), whose rows these are. */
static run_size ensemble_size(const run_job *j, const run_row *rows, int task) {
  run_size all = {.known = true};
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const run_size *one = &rows[i].size;
    if ((task >= 0 && rows[i].task != task) || is_again(j, rows, i, task)) continue;
    all.known = all.known && one->known;
    all.parameters += one->parameters;
    all.bytes += one->bytes;
    all.latency_s += one->latency_s;
  }
  return all;
}

static status measure_teachers(run_job *j) {
  status st = STATUS_OK;
  const mpistill_teachers *all = &j->r.teachers;
  run_row *first = &j->rows[j->n_rows], *live[all->n];
  for (size_t i = 0; i < all->n; i++) {
    const mpistill_teacher *t = &all->items[i];
    run_row *r = add_row(j, "teacher", t->name);
    r->task = tasks_find(&j->work, t->task);
    if (t->model) TRY(measure_teacher(j, r, t));
  }
  run_row *ensemble = add_row(j, "ensemble", "ensemble");
  ensemble->size = ensemble_size(j, first, -1);
  for (int task = 0; task < j->work.n; task++) {
    int n = 0;
    for (size_t i = 0; i < all->n; i++)
      if (first[i].task == task) live[n++] = all->items[i].model ? &first[i] : NULL;
    if (!n) continue;
    ensemble->parts[task] = ensemble_size(j, first, task);
    TRY(score_teachers(j, task, live, n, ensemble));
    TRY(take_epsilon(j, task, ensemble));
  }
done:
  return st;
}

static bool is_ensemble(const run_row *r) {
  return !strcmp(r->kind, "ensemble");
}

static void put_size(json_t *o, const run_size *size) {
  if (!size->known) return;
  json_object_set_new(o, "parameters", json_integer(size->parameters));
  json_object_set_new(o, "bytes", json_integer(size->bytes));
  json_object_set_new(o, "latency_s", json_number(size->latency_s));
}

/* What is known of a model in one task; empty: nothing. */
static json_t *task_json(const run_job *j, const run_row *r, int task) {
  json_t *m = r->measured[task] ? score_json(&r->scores[task]) : json_object();
  if (r->epsilon[task] > 0)
    json_object_update_new(m, json_pack("{s:f, s:f}", "epsilon", r->epsilon[task], "delta", r->delta[task]));
  if (j->work.n > 1) put_size(m, &r->parts[task]);
  return m;
}

/* Of a run of one task its metrics stand beside the name; those of named tasks by name under "tasks". */
static json_t *row_json(const run_job *j, const run_row *r) {
  json_t *o = json_pack("{s:s, s:s}", "name", r->name, "kind", r->kind), *by_task = json_object();
  for (int i = 0; i < j->work.n; i++) {
    json_t *m = task_json(j, r, i);
    if (j->work.n == 1) json_object_update(o, m);
    if (j->work.items[i].name && json_object_size(m)) json_object_set(by_task, j->work.items[i].name, m);
    json_decref(m);
  }
  if (json_object_size(by_task)) json_object_set(o, "tasks", by_task);
  json_decref(by_task);
  put_size(o, &r->size);
  return o;
}

/* Of several tasks each has the ensemble of its own teachers, if any. */
static bool is_of_task(const run_job *j, const run_row *r, int task) {
  return is_ensemble(r) ? run_n_teachers(j, task) > 0 : r->task < 0 || r->task == task;
}

static void print_row(const run_row *r, int task, bool dense) {
  const score *x = &r->scores[task];
  const metric_sums *m = &x->sums;
  const run_size *size = is_ensemble(r) ? &r->parts[task] : &r->size;
  char name[64];
  snprintf(name, sizeof name, "%s%s%s", strcmp(r->kind, "teacher") ? "" : "teacher ", r->name,
           strcmp(r->kind, "baseline") ? "" : " (hard labels)");
  printf("%-24.24s", name);
  if (size->known)
    printf(" %12lld %12lld", (long long)size->parameters, (long long)size->bytes);
  else
    printf(" %12s %12s", "-", "-");
  if (!r->measured[task])
    printf(" %9s %9s%s", "-", "-", dense ? "         -" : "");
  else if (x->values)
    printf(" %9.4g %9.4f", metric_mse(m), metric_r2(m));
  else
    printf(" %9.4f %9.4f", metric_accuracy(m), metric_nll(m));
  if (r->measured[task] && dense) printf(" %9.4f", x->mean_iou);
  if (size->known)
    printf(" %8.1f us\n", 1e6 * size->latency_s);
  else
    printf(" %11s\n", "-");
}

static void print_table(const run_job *j) {
  const run_row *student = &j->rows[j->n_rows - 1];
  for (int task = 0; task < j->work.n; task++) {
    const char *name = j->work.items[task].name;
    const score *x = &student->scores[task];
    if (task) putchar('\n');
    printf("%-24.24s %12s %12s %9s %9s%s %11s\n", name ? name : "", "parameters", "bytes",
           x->values ? "mse" : "accuracy", x->values ? "r2" : "nll", x->dense ? "  mean iou" : "", "latency");
    for (int i = 0; i < j->n_rows; i++)
      if (is_of_task(j, &j->rows[i], task)) print_row(&j->rows[i], task, x->dense);
    for (int i = 0; i < j->n_rows; i++)
      if (j->rows[i].epsilon[task] > 0)
        printf("%s: epsilon %.4g at delta %g, whatever the teachers' data are\n", j->rows[i].name,
               j->rows[i].epsilon[task], j->rows[i].delta[task]);
  }
  fflush(stdout);
}

status run_report(run_job *j) {
  status st = STATUS_OK;
  char *path = NULL, *text = NULL;
  json_t *list = json_array();
  for (int i = 0; i < j->n_rows; i++) json_array_append_new(list, row_json(j, &j->rows[i]));
  json_t *result =
      json_pack("{s:s, s:s, s:o}", "split", j->has_test ? j->r.distill.test_split : j->r.distill.split,
                "student", "student.onnx", "models", list);
  if (comm_rank(j->c) == 0) {
    text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    if (!text) THROW(STATUS_FAILED, "out of memory: the result could not be written");
    TRY(file_join(&path, j->r.output, "result.json"));
    TRY(file_write(path, text, strlen(text)));
    if (j->o->out.json)
      printf("%s\n", text);
    else
      print_table(j);
    fflush(stdout);
  }
done:
  json_decref(result);
  free(text);
  mem_free(path);
  return comm_agree(j->c, st);
}

status run_measure(run_job *j) {
  status st = STATUS_OK;
  char *full = NULL;
  TRY(comm_agree(j->c, mem_new(&j->rows, j->r.teachers.n + (size_t)j->students.n + 4, sizeof *j->rows)));
  if (j->r.teachers.n) TRY(measure_teachers(j));
  if (j->r.baseline) TRY(measure_student(j, add_row(j, "baseline", "baseline"), j->baseline));
  for (int i = 0; i < j->students.n - 1; i++) {
    const chain_step *k = &j->students.steps[i];
    TRY(measure_student(j, add_row(j, k->kind, k->name), k->output));
  }
  if (reduced_wanted(&j->r.distill)) {
    TRY(comm_agree(j->c, reduced_full_path(&full, chain_last(&j->students)->output)));
    TRY(measure_student(j, add_row(j, "student", "student float32"), full));
  }
  TRY(measure_student(j, add_row(j, "student", "student"), chain_last(&j->students)->output));
done:
  mem_free(full);
  return st;
}
