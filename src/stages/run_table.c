/* What a run ends with: all of its models on the test rows, in result.json and as a table. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "learn/combine.h"
#include "stages/aggregate.h"
#include "stages/evaluate.h"
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
  r->parameters = model_parameters(s->m);
  r->bytes = model_bytes(s->m);
  r->has_model = true;
  return evaluate_latency(j->c, &s->k, s->block, &r->latency_s);
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
  TRY(aggregate_measure(j->c, &a, has_ensemble ? j->ensembles[task] : NULL, members));
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
  ensemble->has_model = true;
  for (int task = 0; task < j->work.n; task++) {
    int n = 0;
    for (size_t i = 0; i < all->n; i++)
      if (first[i].task == task) live[n++] = all->items[i].model ? &first[i] : NULL;
    if (n) TRY(score_teachers(j, task, live, n, ensemble));
    if (n) TRY(take_epsilon(j, task, ensemble));
  }
  for (size_t i = 0; i < all->n; i++) {
    ensemble->parameters += first[i].parameters;
    ensemble->bytes += first[i].bytes;
    ensemble->latency_s += first[i].latency_s;
    ensemble->has_model = ensemble->has_model && first[i].has_model;
  }
done:
  return st;
}

/* Of a run of one task its metrics stand beside the name; those of named tasks by name under "tasks". */
static json_t *row_json(const run_job *j, const run_row *r) {
  json_t *o = json_pack("{s:s, s:s}", "name", r->name, "kind", r->kind), *by_task = json_object();
  for (int i = 0; i < j->work.n; i++) {
    if (!r->measured[i] && r->epsilon[i] == 0) continue;
    json_t *m = r->measured[i] ? score_json(&r->scores[i]) : json_object();
    if (r->epsilon[i] > 0)
      json_object_update_new(m, json_pack("{s:f, s:f}", "epsilon", r->epsilon[i], "delta", r->delta[i]));
    if (j->work.n == 1) json_object_update(o, m);
    if (j->work.items[i].name) json_object_set(by_task, j->work.items[i].name, m);
    json_decref(m);
  }
  if (json_object_size(by_task)) json_object_set(o, "tasks", by_task);
  json_decref(by_task);
  if (r->has_model) {
    json_object_set_new(o, "parameters", json_integer(r->parameters));
    json_object_set_new(o, "bytes", json_integer(r->bytes));
    json_object_set_new(o, "latency_s", json_number(r->latency_s));
  }
  return o;
}

static void print_row(const run_row *r, int task) {
  const score *x = &r->scores[task];
  const metric_sums *m = &x->sums;
  char name[64];
  snprintf(name, sizeof name, "%s%s%s", strcmp(r->kind, "teacher") ? "" : "teacher ", r->name,
           strcmp(r->kind, "baseline") ? "" : " (hard labels)");
  printf("%-24.24s", name);
  if (r->has_model)
    printf(" %12lld %12lld", (long long)r->parameters, (long long)r->bytes);
  else
    printf(" %12s %12s", "-", "-");
  if (!r->measured[task])
    printf(" %9s %9s", "-", "-");
  else if (x->values)
    printf(" %9.4g %9.4f", metric_mse(m), metric_r2(m));
  else
    printf(" %9.4f %9.4f", metric_accuracy(m), metric_nll(m));
  if (x->dense) printf(" %9.4f", x->mean_iou);
  if (r->has_model)
    printf(" %8.1f us\n", 1e6 * r->latency_s);
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
      if (j->rows[i].task < 0 || j->rows[i].task == task) print_row(&j->rows[i], task);
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
