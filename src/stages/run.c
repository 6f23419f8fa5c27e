/* run: a recipe from end to end. Each stage knows by itself whether its output is already there; run only
 * puts them in order. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/stop.h"
#include "stages/recipe.h"
#include "stages/run_job.h"
#include "stages/run_taps.h"
#include "stages/sources.h"
#include "stages/stages.h"
#include "store/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

mpistill_output_options run_output(const run_job *j) {
  return (mpistill_output_options){.quiet = j->o->out.quiet,
                                   .log = j->log_path,
                                   .force = j->o->out.force,
                                   .no_result = true,
                                   .stop_before = j->o->out.stop_before};
}

static status put_state(const run_job *j, const char *state, const char *stage) {
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
static status write_state(const run_job *j, const char *state, const char *stage) {
  return comm_rank(j->c) == 0 ? put_state(j, state, stage) : STATUS_OK;
}

/* When another rank hangs: any rank's, on a thread of its own. */
static void write_stall(void *data, const char *message) {
  put_state(data, "stopped", message);
}

status run_begin(run_job *j, const char *stage) {
  pulse_phase("%s", stage);
  say(comm_rank(j->c) == 0 && !j->o->out.quiet, "%s", stage);
  return comm_agree(j->c, write_state(j, "running", stage));
}

/* ---- preparing ---- */

static status make_paths(run_job *j) {
  status st = STATUS_OK;
  TRY(file_join(&j->soft, j->r.output, "soft"));
  TRY(file_join(&j->soft_test, j->r.output, "soft/test"));
  TRY(file_join(&j->soft_fit, j->r.output, "soft/fit"));
  TRY(file_join(&j->ensemble, j->r.output, "ensemble.h5"));
  TRY(file_join(&j->baseline, j->r.output, "baseline.onnx"));
  TRY(file_join(&j->checkpoints_in, j->r.output, "checkpoint"));
  TRY(file_join(&j->baseline_checkpoint, j->r.output, "checkpoint/baseline"));
  TRY(file_join(&j->log_path, j->r.output, "run.jsonl"));
  TRY(file_join(&j->state_path, j->r.output, "state.json"));
done:
  return st;
}

/* OUTPUT/recipe.yaml, one rank: the recipe of what lies there. One that is there already is replaced at the
 * end only, so that a recipe that is refused leaves it as it was. */
static status write_recipe(const run_job *j, bool at_end) {
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

static status make_folder(run_job *j) {
  status st = STATUS_OK;
  bool first = comm_rank(j->c) == 0;
  TRY(comm_agree(j->c, first ? file_make_folder(j->r.output) : STATUS_OK));
  TRY(stage_lock(j->c, &j->lock, j->r.output, &j->o->out));
  TRY(comm_agree(j->c, first ? write_recipe(j, false) : STATUS_OK));
done:
  return st;
}

/* What the student can learn from one teacher, and that it can. */
static status check_teacher(run_job *j, const mpistill_teacher *t, int64_t classes) {
  status st = STATUS_OK;
  subject s = {0};
  sources in = {0};
  mpistill_strings taps = {0};
  const mpistill_aggregate_options *a = &j->r.aggregate;
  const combine_kind *rule = combine_find(a->method ? a->method : "probability-mean");
  const bool united = rule && rule->unites;
  if (!t->model && united) goto done; /* aggregate compares it with the others */
  if (t->is_private) goto done;       /* its own ranks look at it, in teach */
  if (t->model) {
    TRY(subject_open_any(&s, j->c, &(model_source){.path = t->model, .pre = teach_preprocess(&j->r.teach, t)},
                         j->d, j->r.teach.split, t->input));
    if (!t->classes.n) TRY(stage_check_classes(&s.k, j->d, s.sp));
    stage_tell_mode(comm_rank(j->c) == 0, s.m, false);
  } else {
    mpistill_strings one = {.n = 1, .items = (char **)(uintptr_t)&t->soft_labels};
    const split *sp;
    TRY(dataset_split(j->d, j->r.teach.split, &sp));
    const sources_options from = {
        .paths = &one, .method = a->method, .weights = &(mpistill_reals){0}, .trust_rows = a->trust_rows};
    TRY(sources_open(&in, j->c, &from, j->d, sp));
    if (!in.rule->linear) TRY(sources_check_temperature(&in, a->temperature));
  }
  if (t->model) TRY(comm_agree(j->c, run_taps(&j->r, t, &taps)));
  for (size_t i = 0; i < taps.n; i++) TRY(comm_agree(j->c, run_check_tap(&s.k, taps.items[i])));
  int64_t its = t->model ? s.k.heads[0].classes : in.f.classes;
  if (its != classes && !(united && t->classes.n))
    THROW(STATUS_BAD_INPUT, "%s: teacher '%s' gives %lld classes, but the student %lld",
          t->model ? t->model : t->soft_labels, t->name, (long long)its, (long long)classes);
done:
  strings_free(&taps);
  sources_close(&in);
  subject_close(&s);
  return st;
}

/* One student, and that it can learn from the others of the chain, which have as many classes as the first.
 */
static status check_student(run_job *j, const chain_step *k, int64_t *classes) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(subject_open(&s, j->c, &k->source, j->d, j->r.distill.split, j->r.distill.input));
  TRY(subject_check_student(&s, j->c, j->d));
  stage_tell_mode(comm_rank(j->c) == 0, s.m, true);
  if (strcmp(k->kind, "assistant")) TRY(comm_agree(j->c, run_check_student(&j->r, &s.k)));
  if (*classes && *classes != s.k.heads[0].classes)
    THROW(STATUS_BAD_INPUT, "%s: gives %lld classes, but the student before it %lld", k->source.path,
          (long long)s.k.heads[0].classes, (long long)*classes);
  *classes = s.k.heads[0].classes;
done:
  subject_close(&s);
  return st;
}

/* Everything the recipe names is opened once before the first rank computes. */
static status check_all(run_job *j) {
  status st = STATUS_OK;
  int64_t classes = 0;
  TRY(dataset_open(&j->d, j->c, j->r.dataset));
  for (int i = 0; i < dataset_n_splits(j->d); i++)
    j->has_test = j->has_test || !strcmp(dataset_split_at(j->d, i)->name, j->r.distill.test_split);
  TRY(comm_agree(j->c, chain_make(&j->students, &j->r)));
  for (int i = 0; i < j->students.n; i++) TRY(check_student(j, &j->students.steps[i], &classes));
  for (size_t i = 0; i < j->r.teachers.n; i++) TRY(check_teacher(j, &j->r.teachers.items[i], classes));
  const split *fit;
  if (j->r.fit_split) TRY(dataset_split(j->d, j->r.fit_split, &fit));
done:
  return st;
}

/* ---- stages ---- */

static bool any_live_teacher(const run_job *j) {
  for (size_t i = 0; i < j->r.teachers.n; i++)
    if (j->r.teachers.items[i].model) return true;
  return false;
}

static status teach(run_job *j, const char *split, const char *folder) {
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
  t.augment = (mpistill_augments){0};
  if (folder == j->soft && t.views) t.augment = j->r.distill.augment;
  if (!t.augment.n) t.views = 0;
  t.restart = j->o->restart;
  t.out = run_output(j);
  TRY(stage_teach(j->c, &t));
done:
  run_teachers_free(&teachers);
  return st;
}

/* The files of all teachers in the recipe's order; those made elsewhere only when `foreign`. Freed with
 * strings_free. */
status run_soft_paths(const run_job *j, const char *folder, bool foreign, mpistill_strings *paths) {
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

static status aggregate(run_job *j) {
  status st = STATUS_OK;
  mpistill_aggregate_options a = j->r.aggregate;
  mpistill_strings paths = {0}, fit = {0};
  TRY(run_soft_paths(j, j->soft, true, &paths));
  if (j->r.fit_split) TRY(run_soft_paths(j, j->soft_fit, false, &fit));
  if (j->r.fit_split) a.fit = fit;
  a.inputs = paths;
  a.dataset = j->r.dataset;
  a.output = j->ensemble;
  a.out = run_output(j);
  TRY(stage_aggregate(j->c, &a));
done:
  strings_free(&paths);
  strings_free(&fit);
  return st;
}

/* Whether teachers are combined as the student learns, not before. */
bool run_combines_in_training(const run_job *j) {
  const combine_kind *rule = j->r.aggregate.method ? combine_find(j->r.aggregate.method) : NULL;
  return j->r.teachers.n > 0 && rule && rule->in_training;
}

/* ---- all of it ---- */

static status dry_run(run_job *j) {
  if (comm_rank(j->c) != 0) return STATUS_OK;
  int step = 1;
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    if (t->model) printf("%d. teach      %s -> %s/%s.h5\n", step++, t->model, j->soft, t->name);
    if (j->r.fit_split)
      printf("%d. teach      %s, split %s -> %s/%s.h5\n", step++, t->model, j->r.fit_split, j->soft_fit,
             t->name);
  }
  if (j->r.teachers.n && !run_combines_in_training(j))
    printf("%d. aggregate  %zu soft-label files -> %s\n", step++, j->r.teachers.n, j->ensemble);
  if (j->r.baseline)
    printf("%d. train      %s on hard labels -> %s\n", step++, chain_last(&j->students)->source.path,
           j->baseline);
  for (int i = 0; i < j->students.n; i++) {
    const chain_step *k = &j->students.steps[i];
    printf("%d. distill    %s, %lld epochs -> %s\n", step++, k->source.path, (long long)k->epochs, k->output);
    if (k->labels) printf("%d. teach      %s -> %s\n", step++, k->output, k->labels);
  }
  printf("%d. evaluate   all of them -> %s/result.json\n", step, j->r.output);
  fflush(stdout);
  return STATUS_OK;
}

static status run_stages(run_job *j) {
  status st = STATUS_OK;
  TRY(make_folder(j));
  pulse_share(j->c, j->log_path);
  pulse_last(write_stall, j);
  TRY(run_begin(j, "teach"));
  TRY(teach(j, j->r.teach.split, j->soft));
  if (j->has_test) TRY(teach(j, j->r.distill.test_split, j->soft_test));
  if (j->r.fit_split) TRY(teach(j, j->r.fit_split, j->soft_fit));
  if (j->r.teachers.n && !run_combines_in_training(j)) {
    TRY(run_begin(j, "aggregate"));
    TRY(aggregate(j));
  }
  if (j->r.baseline) {
    TRY(run_begin(j, "baseline"));
    TRY(run_baseline(j));
  }
  TRY(run_students(j));
  TRY(run_begin(j, "evaluate"));
  TRY(run_measure(j));
  TRY(run_report(j));
  if (comm_rank(j->c) == 0) checkpoint_remove(j->checkpoints_in);
  TRY(comm_agree(j->c, comm_rank(j->c) == 0 ? write_recipe(j, true) : STATUS_OK));
  TRY(comm_agree(j->c, write_state(j, "done", "evaluate")));
done:
  return st;
}

/* Keeps the message of what went wrong while the state is written. Only where the folder is this run's, which
 * rank 0 knows. */
static void write_failure(run_job *j, status st) {
  char *message = NULL;
  if (!j->lock || mem_string(&message, status_message())) return;
  write_state(j, st == STATUS_STOPPED ? "stopped" : "failed", message);
  status_set(st, "%s", message);
  mem_free(message);
}

static void free_all(run_job *j) {
  pulse_last(NULL, NULL);
  char *paths[] = {j->soft_fit,       j->soft,     j->soft_test,
                   j->ensemble,       j->baseline, j->baseline_checkpoint,
                   j->checkpoints_in, j->log_path, j->state_path};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) mem_free(paths[i]);
  chain_free(&j->students);
  mem_free(j->rows);
  dataset_close(&j->d);
  recipe_free(&j->r);
  lock_release(&j->lock);
}

status stage_run(comm *c, const mpistill_run_options *o) {
  status st = STATUS_OK;
  run_job j = {.c = c, .o = o};
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
