/* What a recipe may ask for only of some models and datasets: refused before the first stage, not by the one
 * that comes to it. */
#include "learn/combine.h"
#include "stages/fit.h"
#include "stages/freeze.h"
#include "stages/prior.h"
#include "stages/private.h"
#include "stages/run_job.h"
#include "stages/views.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

/* Whether teachers teach a task of classes, or one of numbers. */
static bool any_taught(const run_job *j, bool values) {
  bool any = false;
  for (int i = 0; i < j->work.n; i++)
    any = any || (j->work.items[i].values == values && run_n_teachers(j, i));
  return any;
}

/* Beside classes numbers have their mean; a rule of classes for numbers alone would do nothing. */
static status check_method(const run_job *j) {
  const mpistill_aggregate_options *a = &j->r.aggregate;
  if (any_taught(j, false) || !any_taught(j, true)) return STATUS_OK;
  if (a->method && strcmp(a->method, "logit-mean"))
    return status_set(STATUS_BAD_INPUT,
                      "%s: aggregate.method: '%s' is for classes, and the teachers give numbers, which are "
                      "combined by their weighted mean (logit-mean)",
                      j->o->recipe, a->method);
  if (a->calibrate)
    return status_set(STATUS_BAD_INPUT,
                      "%s: aggregate.calibrate: is for logits, and the teachers give numbers", j->o->recipe);
  return STATUS_OK;
}

/* Rows of stored views that are mixed have no label of their own (view_labels.h). */
static status check_mixed(const run_job *j) {
  const mpistill_aggregate_options *a = &j->r.aggregate;
  const combine_kind *rule = combine_find(a->method ? a->method : "probability-mean");
  const char *kind = views_mixing(&j->r.distill.augment, true);
  if (!kind || !j->r.teach.views || !rule || !any_taught(j, false)) return STATUS_OK;
  if (rule->needs_labels)
    return status_set(
        STATUS_BAD_INPUT,
        "%s: aggregate.method: '%s' needs the label of each row, and augment '%s' mixes rows of "
        "two; choose a method that needs none",
        j->o->recipe, rule->name, kind);
  if (fit_needed(a, rule) && !a->fit.n && !j->r.fit_split)
    return status_set(
        STATUS_BAD_INPUT,
        "%s: aggregate.%s: is found from labelled rows, and augment '%s' mixes rows of two; give "
        "aggregate.fit_split",
        j->o->recipe, rule->learned ? "method" : "calibrate", kind);
  return STATUS_OK;
}

/* Without teachers a student teaches the next one. */
static status check_confidence(const run_job *j) {
  bool taught[TASKS_MAX];
  for (int i = 0; i < j->work.n; i++) taught[i] = run_n_teachers(j, i) || !j->r.teachers.n;
  return tasks_check_confidence(&j->work, j->r.distill.confidence, taught);
}

/* A file that the run writes is none that the recipe names: only the stage that comes to it would say so, or
 * none, where it is only read before. */
static status refuse_output(const run_job *j, const char *output) {
  bool is = file_same(j->r.dataset, output);
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    is = is || file_same(t->model ? t->model : t->soft_labels, output) ||
         (t->data && file_same(t->data, output));
  }
  for (int i = 0; i < j->students.n; i++)
    is = is || (!j->students.steps[i].bytes && file_same(j->students.steps[i].source.path, output));
  return is ? status_set(STATUS_BAD_INPUT, "%s: the run would write it, and %s reads it; use another output",
                         output, j->o->recipe)
            : STATUS_OK;
}

static status check_outputs(const run_job *j) {
  status st = STATUS_OK;
  mpistill_strings labels = {0};
  TRY(run_soft_paths(j, -1, j->soft, false, &labels));
  for (size_t i = 0; i < labels.n; i++) TRY(refuse_output(j, labels.items[i]));
  for (int i = 0; i < j->work.n; i++) TRY(refuse_output(j, j->ensembles[i]));
  if (j->r.baseline) TRY(refuse_output(j, j->baseline));
  for (int i = 0; i < j->students.n; i++) {
    const chain_step *k = &j->students.steps[i];
    TRY(refuse_output(j, k->output));
    for (int t = 0; t < k->n_lessons; t++) TRY(refuse_output(j, k->lessons[t].labels));
  }
done:
  strings_free(&labels);
  return st;
}

status run_check_rules(const run_job *j) {
  status st = STATUS_OK;
  const split *sp;
  TRY(check_outputs(j));
  TRY(check_confidence(j));
  TRY(check_method(j));
  TRY(check_mixed(j));
  if (j->r.fit_split) TRY(dataset_split(j->d, j->r.fit_split, &sp));
  if (j->r.distill.adaptive_split) TRY(dataset_split(j->d, j->r.distill.adaptive_split, &sp));
done:
  return st;
}

status run_check_ranks(const run_job *j, int ranks) {
  if (j->r.live && ranks > 1 && j->r.distill.teaching_ranks >= ranks)
    return status_set(STATUS_BAD_INPUT,
                      "%s: teach.ranks: %lld, but there are %d ranks, and one or more must train",
                      j->o->recipe, (long long)j->r.distill.teaching_ranks, ranks);
  return private_check(ranks, &j->r.teachers);
}

status run_check_training(const run_job *j, classifier *k) {
  status st = STATUS_OK;
  const mpistill_train_options *o = &j->r.distill;
  bool *frozen = NULL;
  const split *sp;
  TRY(freeze_find(&frozen, k->g, &o->freeze, k->path));
  k->frozen = frozen;
  if (o->prior_split) {
    TRY(dataset_split(j->d, o->prior_split, &sp));
    TRY(prior_check(k, j->d, sp, &o->priors));
  }
done:
  k->frozen = NULL;
  mem_free(frozen);
  return st;
}
