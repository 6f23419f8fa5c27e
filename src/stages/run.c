/* run: a recipe from end to end. Each stage knows by itself whether its output is already there; run only
 * puts them in order. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/stop.h"
#include "models/models.h"
#include "stages/aggregate.h"
#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/recipe.h"
#include "stages/reduced.h"
#include "stages/run_taps.h"
#include "stages/sources.h"
#include "stages/stages.h"
#include "stages/train.h"
#include "store/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct row { /* of the table at the end */
  const char *name;
  const char *kind; /* "teacher", "ensemble", "baseline", "student" */
  bool measured, has_model;
  metric_sums sums;
  int64_t parameters, bytes;
  double latency_s;
} row;

typedef struct job {
  comm *c;
  const mpistill_run_options *o;
  mpistill_recipe r;
  char *soft, *soft_test, *soft_fit, *ensemble, *student, *baseline, *checkpoints_in, *checkpoints[2],
      *log_path, *state_path;
  unsigned char *student_bytes;
  size_t n_student_bytes;
  model_source student_source;
  dataset *d;
  lock *lock;
  bool has_test;
  int n_rows;
  row *rows;
} job;

static mpistill_output_options stage_output(const job *j) {
  return (mpistill_output_options){.quiet = j->o->out.quiet,
                                   .log = j->log_path,
                                   .force = j->o->out.force,
                                   .no_result = true,
                                   .stop_before = j->o->out.stop_before};
}

static status put_state(const job *j, const char *state, const char *stage) {
  status st = STATUS_OK;
  json_t *all = json_pack("{s:s, s:s}", "state", state, "stage", stage);
  char *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
  st = text ? file_write(j->state_path, text, strlen(text))
            : status_set(STATUS_FAILED, "out of memory: state of the run");
  free(text);
  json_decref(all);
  return st;
}

/* Rank 0's word on where the run stands, for scripts and people: running, done, stopped or failed. */
static status write_state(const job *j, const char *state, const char *stage) {
  return comm_rank(j->c) == 0 ? put_state(j, state, stage) : STATUS_OK;
}

/* When another rank hangs: any rank's, on a thread of its own. */
static void write_stall(void *data, const char *message) {
  put_state(data, "stopped", message);
}

static status begin(job *j, const char *stage) {
  pulse_phase("%s", stage);
  say(comm_rank(j->c) == 0 && !j->o->out.quiet, "%s", stage);
  return comm_agree(j->c, write_state(j, "running", stage));
}

/* ---- preparing ---- */

static status make_paths(job *j) {
  status st = STATUS_OK;
  TRY(file_join(&j->soft, j->r.output, "soft"));
  TRY(file_join(&j->soft_test, j->r.output, "soft/test"));
  TRY(file_join(&j->soft_fit, j->r.output, "soft/fit"));
  TRY(file_join(&j->ensemble, j->r.output, "ensemble.h5"));
  TRY(file_join(&j->student, j->r.output, "student.onnx"));
  TRY(file_join(&j->baseline, j->r.output, "baseline.onnx"));
  TRY(file_join(&j->checkpoints_in, j->r.output, "checkpoint"));
  TRY(file_join(&j->checkpoints[0], j->r.output, "checkpoint/student"));
  TRY(file_join(&j->checkpoints[1], j->r.output, "checkpoint/baseline"));
  TRY(file_join(&j->log_path, j->r.output, "run.jsonl"));
  TRY(file_join(&j->state_path, j->r.output, "state.json"));
done:
  return st;
}

/* OUTPUT/recipe.yaml, one rank: the recipe of what lies there. One that is there already is replaced at the
 * end only, so that a recipe that is refused leaves it as it was. */
static status write_recipe(const job *j, bool at_end) {
  status st = STATUS_OK;
  char *copy = NULL;
  unsigned char *text = NULL, *old = NULL;
  size_t n, n_old = 0;
  TRY(file_join(&copy, j->r.output, "recipe.yaml"));
  bool there = file_exists(copy);
  if (there && !at_end) goto done;
  TRY(file_read(j->o->recipe, &text, &n));
  if (there) TRY(file_read(copy, &old, &n_old));
  if (!there || n != n_old || memcmp(text, old, n)) TRY(file_write(copy, text, n));
done:
  mem_free(copy);
  mem_free(text);
  mem_free(old);
  return st;
}

static status make_folder(job *j) {
  status st = STATUS_OK;
  bool first = comm_rank(j->c) == 0;
  TRY(comm_agree(j->c, first ? file_make_folder(j->r.output) : STATUS_OK));
  TRY(stage_lock(j->c, &j->lock, j->r.output, &j->o->out));
  TRY(comm_agree(j->c, first ? write_recipe(j, false) : STATUS_OK));
done:
  return st;
}

static status make_student(job *j) {
  if (j->r.student.model) {
    j->student_source = (model_source){.path = j->r.student.model};
    return STATUS_OK;
  }
  status st = model_create_bytes(&j->r.student.create, &j->student_bytes, &j->n_student_bytes);
  j->student_source = (model_source){.path = "student", .bytes = j->student_bytes, .n = j->n_student_bytes};
  return st;
}

/* What the student can learn from one teacher, and that it can. */
static status check_teacher(job *j, const mpistill_teacher *t, int64_t classes) {
  status st = STATUS_OK;
  subject s = {0};
  sources in = {0};
  mpistill_strings taps = {0};
  const mpistill_aggregate_options *a = &j->r.aggregate;
  const combine_kind *rule = combine_find(a->method ? a->method : "probability-mean");
  const bool united = rule && rule->unites;
  if (!t->model && united) goto done; /* aggregate compares it with the others */
  if (t->model) {
    TRY(subject_open_any(&s, j->c, &(model_source){.path = t->model, .pre = teach_preprocess(&j->r.teach, t)},
                         j->d, j->r.teach.split, t->input));
    if (!t->classes.n) TRY(stage_check_classes(&s.k, j->d));
    stage_tell_mode(comm_rank(j->c) == 0, s.m, false);
  } else {
    mpistill_strings one = {.n = 1, .items = (char **)(uintptr_t)&t->soft_labels};
    const split *sp;
    TRY(dataset_split(j->d, j->r.teach.split, &sp));
    TRY(sources_open(&in, j->c, &one, a->method, &(mpistill_reals){0}, j->d, sp, a->trust_rows));
    if (!in.rule->linear) TRY(sources_check_temperature(&in, a->temperature));
  }
  if (t->model) TRY(comm_agree(j->c, run_taps(&j->r, t, &taps)));
  for (size_t i = 0; i < taps.n; i++) TRY(comm_agree(j->c, run_check_tap(&s.k, taps.items[i])));
  int64_t its = t->model ? s.k.classes : in.classes;
  if (its != classes && !(united && t->classes.n))
    THROW(STATUS_BAD_INPUT, "%s: teacher '%s' gives %lld classes, but the student %lld",
          t->model ? t->model : t->soft_labels, t->name, (long long)its, (long long)classes);
done:
  strings_free(&taps);
  sources_close(&in);
  subject_close(&s);
  return st;
}

/* Everything the recipe names is opened once before the first rank computes. */
static status check_all(job *j) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(dataset_open(&j->d, j->c, j->r.dataset));
  for (int i = 0; i < dataset_n_splits(j->d); i++)
    j->has_test = j->has_test || !strcmp(dataset_split_at(j->d, i)->name, j->r.distill.test_split);
  TRY(comm_agree(j->c, make_student(j)));
  TRY(subject_open(&s, j->c, &j->student_source, j->d, j->r.distill.split, j->r.distill.input));
  TRY(subject_check_student(&s, j->c, j->d));
  stage_tell_mode(comm_rank(j->c) == 0, s.m, true);
  TRY(comm_agree(j->c, run_check_student(&j->r, &s.k)));
  for (size_t i = 0; i < j->r.teachers.n; i++) TRY(check_teacher(j, &j->r.teachers.items[i], s.k.classes));
  const split *fit;
  if (j->r.fit_split) TRY(dataset_split(j->d, j->r.fit_split, &fit));
done:
  subject_close(&s);
  return st;
}

/* ---- stages ---- */

static bool any_live_teacher(const job *j) {
  for (size_t i = 0; i < j->r.teachers.n; i++)
    if (j->r.teachers.items[i].model) return true;
  return false;
}

static status teach(job *j, const char *split, const char *folder) {
  status st = STATUS_OK;
  mpistill_teachers teachers = {0};
  mpistill_teach_options t = j->r.teach;
  if (!any_live_teacher(j)) goto done;
  TRY(comm_agree(j->c, run_teachers(&j->r, folder == j->soft, &teachers)));
  t.dataset = j->r.dataset;
  t.split = (char *)(uintptr_t)split;
  t.teachers = teachers;
  t.threads = j->r.threads;
  t.output = (char *)(uintptr_t)folder;
  t.restart = j->o->restart;
  t.out = stage_output(j);
  TRY(stage_teach(j->c, &t));
done:
  run_teachers_free(&teachers);
  return st;
}

/* The files of all teachers in the recipe's order; those made elsewhere only when `foreign`. Freed with
 * free_paths. */
static status soft_paths(const job *j, const char *folder, bool foreign, mpistill_strings *paths) {
  status st = STATUS_OK;
  TRY(mem_new(&paths->items, j->r.teachers.n + 1, sizeof *paths->items));
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    if (t->model)
      TRY(mem_format(&paths->items[paths->n++], "%s/%s.h5", folder, t->name));
    else if (foreign)
      TRY(mem_string(&paths->items[paths->n++], t->soft_labels));
  }
done:
  return st;
}

static void free_paths(mpistill_strings *paths) {
  for (size_t i = 0; i < paths->n; i++) mem_free(paths->items[i]);
  mem_free(paths->items);
  *paths = (mpistill_strings){0};
}

static status aggregate(job *j) {
  status st = STATUS_OK;
  mpistill_aggregate_options a = j->r.aggregate;
  mpistill_strings paths = {0}, fit = {0};
  TRY(soft_paths(j, j->soft, true, &paths));
  if (j->r.fit_split) TRY(soft_paths(j, j->soft_fit, false, &fit));
  if (j->r.fit_split) a.fit = fit;
  a.inputs = paths;
  a.dataset = j->r.dataset;
  a.output = j->ensemble;
  a.out = stage_output(j);
  TRY(stage_aggregate(j->c, &a));
done:
  free_paths(&paths);
  free_paths(&fit);
  return st;
}

/* Whether teachers are combined as the student learns, not before. */
static bool combines_in_training(const job *j) {
  const combine_kind *rule = j->r.aggregate.method ? combine_find(j->r.aggregate.method) : NULL;
  return j->r.teachers.n > 0 && rule && rule->in_training;
}

/* The student, from the ensemble, the teachers together or (baseline) from hard labels alone with all else
 * alike. */
static status distill(job *j, bool baseline) {
  status st = STATUS_OK;
  mpistill_strings files = {0};
  mpistill_train_options t = j->r.distill;
  mpistill_loss hard = {.kind = (char *)(uintptr_t) "cross-entropy", .weight = 1, .temperature = 1};
  t.dataset = j->r.dataset;
  t.threads = j->r.threads;
  t.restart = j->o->restart;
  t.out = stage_output(j);
  t.output = baseline ? j->baseline : j->student;
  t.checkpoint = j->checkpoints[baseline];
  t.soft_labels = (mpistill_strings){.n = baseline || !j->r.teachers.n ? 0 : 1, .items = &j->ensemble};
  t.weights = (mpistill_reals){0};
  t.method = NULL;
  const bool together = !baseline && combines_in_training(j);
  if (t.features.n || together) TRY(comm_agree(j->c, soft_paths(j, j->soft, true, &files)));
  if (together) {
    t.soft_labels = files;
    t.weights = j->r.aggregate.weights;
    t.method = files.n > 1 ? j->r.aggregate.method : NULL;
  }
  for (size_t i = 0; baseline && i < t.losses.n; i++)
    if (!strcmp(t.losses.items[i].kind, "cross-entropy"))
      hard.label_smoothing = t.losses.items[i].label_smoothing;
  if (baseline) t.precision = NULL;
  if (baseline) t.losses = (mpistill_losses){.n = 1, .items = &hard};
  if (baseline) t.features = (mpistill_features){0};
  if (t.features.n && !together) t.feature_files = files;
  TRY(train_student(j->c, &t, &j->student_source));
done:
  free_paths(&files);
  return st;
}

/* ---- the table ---- */

static row *add_row(job *j, const char *kind, const char *name) {
  row *r = &j->rows[j->n_rows++];
  *r = (row){.name = name, .kind = kind};
  return r;
}

static status measure_model(job *j, row *r, const model_source *from, const char *input, bool with_sums) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(subject_open_any(&s, j->c, from, j->d, j->has_test ? j->r.distill.test_split : j->r.distill.split,
                       input));
  r->parameters = model_parameters(s.m);
  r->bytes = model_bytes(s.m);
  r->has_model = true;
  TRY(evaluate_latency(j->c, &s.k, s.block, &r->latency_s));
  if (!with_sums) goto done;
  TRY(subject_order(&s, j->c, j->d));
  TRY(evaluate_rows(j->c, &s.k, s.block, j->d, s.sp, stage_threads(j->r.threads), false, &r->sums));
  r->measured = r->sums.rows > 0;
done:
  subject_close(&s);
  return st;
}

/* Teachers and ensemble on the test split, from their logits there; those made elsewhere have none. */
static status measure_teachers(job *j) {
  status st = STATUS_OK;
  mpistill_aggregate_options a = j->r.aggregate;
  mpistill_strings paths = {0};
  metric_sums *members = NULL;
  TRY(soft_paths(j, j->soft_test, false, &paths));
  bool all_live = paths.n == j->r.teachers.n, measured = j->has_test && paths.n > 0;
  TRY(comm_agree(j->c, mem_new(&members, paths.n + 1, sizeof *members)));
  a.inputs = paths;
  a.dataset = j->r.dataset;
  a.out = stage_output(j);
  const bool together = combines_in_training(j), has_ensemble = all_live && !together;
  if (together) a.method = (char *)(uintptr_t) "probability-mean"; /* for the teachers' own figures */
  if (!all_live) a.weights = (mpistill_reals){0};
  if (measured) TRY(aggregate_measure(j->c, &a, has_ensemble ? j->ensemble : NULL, members));
  size_t live = 0;
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    row *r = add_row(j, "teacher", t->name);
    if (!t->model) continue;
    TRY(measure_model(j, r, &(model_source){.path = t->model, .pre = teach_preprocess(&j->r.teach, t)},
                      t->input, false));
    r->sums = members[live++];
    r->measured = measured && r->sums.rows > 0;
  }
  row *r = add_row(j, "ensemble", "ensemble");
  r->sums = members[live];
  r->measured = measured && has_ensemble && r->sums.rows > 0;
  for (int i = 0; i < j->n_rows - 1; i++) {
    r->parameters += j->rows[i].parameters;
    r->bytes += j->rows[i].bytes;
    r->latency_s += j->rows[i].latency_s;
  }
  r->has_model = all_live;
done:
  free_paths(&paths);
  mem_free(members);
  return st;
}

static json_t *row_json(const row *r) {
  json_t *o = json_pack("{s:s, s:s}", "name", r->name, "kind", r->kind);
  if (r->measured) {
    json_t *m = metrics_json(&r->sums);
    json_object_update(o, m);
    json_decref(m);
  }
  if (r->has_model) {
    json_object_set_new(o, "parameters", json_integer(r->parameters));
    json_object_set_new(o, "bytes", json_integer(r->bytes));
    json_object_set_new(o, "latency_s", json_number(r->latency_s));
  }
  return o;
}

static void print_table(const job *j) {
  printf("%-24s %12s %12s %9s %9s %11s\n", "", "parameters", "bytes", "accuracy", "nll", "latency");
  for (int i = 0; i < j->n_rows; i++) {
    const row *r = &j->rows[i];
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", strcmp(r->kind, "teacher") ? "" : "teacher ", r->name,
             strcmp(r->kind, "baseline") ? "" : " (hard labels)");
    printf("%-24.24s", name);
    if (r->has_model)
      printf(" %12lld %12lld", (long long)r->parameters, (long long)r->bytes);
    else
      printf(" %12s %12s", "-", "-");
    if (r->measured)
      printf(" %9.4f %9.4f", metric_accuracy(&r->sums), metric_nll(&r->sums));
    else
      printf(" %9s %9s", "-", "-");
    if (r->has_model)
      printf(" %8.1f us\n", 1e6 * r->latency_s);
    else
      printf(" %11s\n", "-");
  }
  fflush(stdout);
}

static status report(job *j) {
  status st = STATUS_OK;
  char *path = NULL, *text = NULL;
  json_t *list = json_array();
  for (int i = 0; i < j->n_rows; i++) json_array_append_new(list, row_json(&j->rows[i]));
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

static status measure_all(job *j) {
  status st = STATUS_OK;
  char *full = NULL;
  TRY(comm_agree(j->c, mem_new(&j->rows, j->r.teachers.n + 4, sizeof *j->rows)));
  if (j->r.teachers.n) TRY(measure_teachers(j));
  if (j->r.baseline)
    TRY(measure_model(j, add_row(j, "baseline", "baseline"), &(model_source){.path = j->baseline},
                      j->r.distill.input, true));
  if (reduced_wanted(&j->r.distill)) {
    TRY(comm_agree(j->c, reduced_full_path(&full, j->student)));
    TRY(measure_model(j, add_row(j, "student", "student float32"), &(model_source){.path = full},
                      j->r.distill.input, true));
  }
  TRY(measure_model(j, add_row(j, "student", "student"), &(model_source){.path = j->student},
                    j->r.distill.input, true));
done:
  mem_free(full);
  return st;
}

/* ---- all of it ---- */

static status dry_run(job *j) {
  if (comm_rank(j->c) != 0) return STATUS_OK;
  int step = 1;
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    if (t->model) printf("%d. teach      %s -> %s/%s.h5\n", step++, t->model, j->soft, t->name);
    if (j->r.fit_split)
      printf("%d. teach      %s, split %s -> %s/%s.h5\n", step++, t->model, j->r.fit_split, j->soft_fit,
             t->name);
  }
  if (j->r.teachers.n && !combines_in_training(j))
    printf("%d. aggregate  %zu soft-label files -> %s\n", step++, j->r.teachers.n, j->ensemble);
  if (j->r.baseline)
    printf("%d. train      %s on hard labels -> %s\n", step++, j->student_source.path, j->baseline);
  printf("%d. distill    %s, %lld epochs -> %s\n", step++, j->student_source.path,
         (long long)j->r.distill.epochs, j->student);
  printf("%d. evaluate   all of them -> %s/result.json\n", step, j->r.output);
  fflush(stdout);
  return STATUS_OK;
}

static status run_stages(job *j) {
  status st = STATUS_OK;
  TRY(make_folder(j));
  pulse_share(j->c, j->log_path);
  pulse_last(write_stall, j);
  TRY(begin(j, "teach"));
  TRY(teach(j, j->r.teach.split, j->soft));
  if (j->has_test) TRY(teach(j, j->r.distill.test_split, j->soft_test));
  if (j->r.fit_split) TRY(teach(j, j->r.fit_split, j->soft_fit));
  if (j->r.teachers.n && !combines_in_training(j)) {
    TRY(begin(j, "aggregate"));
    TRY(aggregate(j));
  }
  if (j->r.baseline) {
    TRY(begin(j, "baseline"));
    TRY(distill(j, true));
  }
  TRY(begin(j, "distill"));
  TRY(distill(j, false));
  TRY(begin(j, "evaluate"));
  TRY(measure_all(j));
  TRY(report(j));
  if (comm_rank(j->c) == 0) checkpoint_remove(j->checkpoints_in);
  TRY(comm_agree(j->c, comm_rank(j->c) == 0 ? write_recipe(j, true) : STATUS_OK));
  TRY(comm_agree(j->c, write_state(j, "done", "evaluate")));
done:
  return st;
}

/* Keeps the message of what went wrong while the state is written. Only where the folder is this run's, which
 * rank 0 knows. */
static void write_failure(job *j, status st) {
  char *message = NULL;
  if (!j->lock || mem_string(&message, status_message())) return;
  write_state(j, st == STATUS_STOPPED ? "stopped" : "failed", message);
  status_set(st, "%s", message);
  mem_free(message);
}

static void free_all(job *j) {
  pulse_last(NULL, NULL);
  char *paths[] = {j->soft_fit,       j->soft,     j->soft_test,      j->ensemble,
                   j->student,        j->baseline, j->checkpoints_in, j->checkpoints[0],
                   j->checkpoints[1], j->log_path, j->state_path};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) mem_free(paths[i]);
  mem_free(j->student_bytes);
  mem_free(j->rows);
  dataset_close(&j->d);
  recipe_free(&j->r);
  lock_release(&j->lock);
}

status stage_run(comm *c, const mpistill_run_options *o) {
  status st = STATUS_OK;
  job j = {.c = c, .o = o};
  stage_listen(c, &o->out); /* a stage that does not look at it ends first */
  TRY(stage_begin(c));
  TRY(recipe_read(c, o->recipe, &o->set, &j.r));
  TRY(comm_agree(c, make_paths(&j)));
  TRY(check_all(&j));
  if (o->dry_run) {
    st = dry_run(&j);
    goto done;
  }
  st = run_stages(&j);
  if (st) write_failure(&j, st);
done:
  free_all(&j);
  return st;
}
