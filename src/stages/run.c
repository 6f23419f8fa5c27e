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
                                   .mixed_processors = j->o->out.mixed_processors,
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

/* The recipe, after a comment for each setting that replaced something in it. */
static status recipe_text(const run_job *j, char **out) {
  status st = STATUS_OK;
  unsigned char *recipe = NULL;
  char *text = NULL;
  size_t n;
  for (size_t i = 0; i < j->o->set.n; i++) {
    char *before = text;
    text = NULL;
    st = mem_format(&text, "%s# --set %s\n", before ? before : "", j->o->set.items[i]);
    mem_free(before);
    TRY(st);
    for (char *c = text; *c; c++) /* one line each */
      if (*c == '\n' && c[1] && c[1] != '#') *c = ' ';
  }
  TRY(file_read(j->o->recipe, &recipe, &n));
  TRY(mem_format(out, "%s%.*s", text ? text : "", (int)n, (char *)recipe));
done:
  mem_free(recipe);
  mem_free(text);
  return st;
}

/* OUTPUT/recipe.yaml, one rank: the recipe of what lies there. One that is there already is replaced at the
 * end only, so that a recipe that is refused leaves it as it was. */
static status write_recipe(const run_job *j, bool at_end) {
  status st = STATUS_OK;
  char *copy = NULL, *text = NULL;
  unsigned char *old = NULL;
  size_t n_old = 0;
  TRY(file_join(&copy, j->r.output, "recipe.yaml"));
  bool there = file_exists(copy);
  if (there && !at_end) goto done;
  TRY(recipe_text(j, &text));
  if (there) TRY(file_read(copy, &old, &n_old));
  if (!there || strlen(text) != n_old || memcmp(text, old, n_old)) TRY(file_write(copy, text, strlen(text)));
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
  TRY(comm_agree(j->c, run_teachers(&j->r, &j->work, folder == j->soft, &teachers)));
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

static status aggregate(run_job *j, int task) {
  status st = STATUS_OK;
  double weights[j->r.teachers.n + 1];
  mpistill_aggregate_options a = run_combination(j, task, weights);
  mpistill_strings paths = {0}, fit = {0};
  TRY(run_soft_paths(j, task, j->soft, true, &paths));
  if (j->r.fit_split) TRY(run_soft_paths(j, task, j->soft_fit, false, &fit));
  if (j->r.fit_split) a.fit = fit;
  a.inputs = paths;
  a.output = j->ensembles[task];
  TRY(stage_aggregate(j->c, &a));
done:
  strings_free(&paths);
  strings_free(&fit);
  return st;
}

/* Whether teachers are combined as the student learns, not before. */
bool run_combines_in_training(const run_job *j) {
  const combine_kind *rule = j->r.aggregate.method ? combine_find(j->r.aggregate.method) : NULL;
  return j->r.teachers.n > 0 && (j->r.live || j->r.distill.adaptive_split || (rule && rule->in_training));
}

/* ---- all of it ---- */

static status dry_run(run_job *j) {
  if (comm_rank(j->c) != 0) return STATUS_OK;
  int step = 1;
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    if (t->model && !j->r.live) printf("%d. teach      %s -> %s/%s.h5\n", step++, t->model, j->soft, t->name);
    if (j->r.fit_split)
      printf("%d. teach      %s, split %s -> %s/%s.h5\n", step++, t->model, j->r.fit_split, j->soft_fit,
             t->name);
    if (j->r.distill.adaptive_split)
      printf("%d. teach      %s, split %s -> %s/%s.h5\n", step++, t->model, j->r.distill.adaptive_split,
             j->soft_adaptive, t->name);
  }
  for (int i = 0; i < j->work.n && !run_combines_in_training(j); i++)
    if (run_n_teachers(j, i))
      printf("%d. aggregate  %d soft-label files -> %s\n", step++, run_n_teachers(j, i), j->ensembles[i]);
  if (j->r.baseline)
    printf("%d. train      %s on hard labels -> %s\n", step++, chain_last(&j->students)->source.path,
           j->baseline);
  for (int i = 0; i < j->students.n; i++) {
    const chain_step *k = &j->students.steps[i];
    printf("%d. distill    %s, %lld epochs -> %s\n", step++, k->source.path, (long long)k->epochs, k->output);
    for (int t = 0; t < k->n_lessons && !j->r.live; t++)
      printf("%d. teach      %s -> %s\n", step++, k->output, k->lessons[t].labels);
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
  if (!j->r.live) TRY(teach(j, j->r.teach.split, j->soft));
  if (j->has_test) TRY(teach(j, j->r.distill.test_split, j->soft_test));
  if (j->r.fit_split) TRY(teach(j, j->r.fit_split, j->soft_fit));
  if (j->r.distill.adaptive_split) TRY(teach(j, j->r.distill.adaptive_split, j->soft_adaptive));
  if (j->r.teachers.n && !run_combines_in_training(j)) {
    TRY(run_begin(j, "aggregate"));
    for (int i = 0; i < j->work.n; i++)
      if (run_n_teachers(j, i)) TRY(aggregate(j, i));
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
  run_close(j);
  mem_free(j->rows);
  recipe_free(&j->r);
  lock_release(&j->lock);
}

status stage_run(comm *c, const mpistill_run_options *o) {
  status st = STATUS_OK;
  run_job j = {.c = c, .o = o};
  stage_listen(c, &o->out); /* a stage that does not look at it ends first */
  TRY(stage_begin(c, &o->out));
  TRY(recipe_read(c, o->recipe, &o->set, &j.r));
  TRY(run_check_all(&j));
  if (o->dry_run) {
    st = dry_run(&j);
    goto done;
  }
  TRY(comm_agree(c, run_check_ranks(&j, comm_size(c))));
  st = run_stages(&j);
  if (st) write_failure(&j, st);
done:
  free_all(&j);
  return st;
}
