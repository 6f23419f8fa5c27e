/* The tasks of a run: whose teachers are whose, and that everything fits before the first rank computes. */
#include "base/file.h"
#include "base/mem.h"
#include "base/options.h"
#include "learn/combine.h"
#include "stages/features.h"
#include "stages/recipe.h"
#include "stages/reduced.h"
#include "stages/run_job.h"
#include "stages/run_taps.h"
#include "stages/stages.h"
#include "stages/teach_job.h"

#include <string.h>

static int task_of(const run_job *j, const mpistill_teacher *t) {
  return tasks_find(&j->work, t->task);
}

int run_n_teachers(const run_job *j, int task) {
  int n = 0;
  for (size_t i = 0; i < j->r.teachers.n; i++) n += task_of(j, &j->r.teachers.items[i]) == task;
  return n;
}

status run_soft_paths(const run_job *j, int task, const char *folder, bool foreign, mpistill_strings *paths) {
  status st = STATUS_OK;
  TRY(mem_new(&paths->items, j->r.teachers.n + 1, sizeof *paths->items));
  for (size_t i = 0; i < j->r.teachers.n; i++) {
    const mpistill_teacher *t = &j->r.teachers.items[i];
    if (task >= 0 && task_of(j, t) != task) continue;
    if (t->model)
      TRY(mem_format(&paths->items[paths->n++], "%s/%s.h5", folder, t->name));
    else if (foreign)
      TRY(mem_string(&paths->items[paths->n++], t->soft_labels));
  }
done:
  return st;
}

/* Numbers are combined by their weighted mean, whatever the rule for classes is. */
mpistill_aggregate_options run_combination(const run_job *j, int task, double *weights) {
  mpistill_aggregate_options a = j->r.aggregate;
  const struct task *x = &j->work.items[task];
  size_t n = 0;
  for (size_t i = 0; a.weights.n && i < j->r.teachers.n; i++)
    if (task_of(j, &j->r.teachers.items[i]) == task) weights[n++] = a.weights.items[i];
  a.weights = (mpistill_reals){.n = n, .items = weights};
  a.dataset = j->r.dataset;
  a.out = run_output(j);
  if (x->name && *j->work.heads[task].labels) a.labels = (char *)(uintptr_t)j->work.heads[task].labels;
  if (x->values) {
    a.method = NULL;
    a.calibrate = false;
  }
  const combine_kind *rule = a.method ? combine_find(a.method) : NULL;
  if (rule && rule->epsilon)
    a.seed += (uint64_t)task; /* each task's answers hide behind noise of their own */
  if (!(a.temperature > 0)) a.temperature = recipe_temperature(&j->r.distill, x->losses, x->name);
  return a;
}

/* ---- checks ---- */

static status check_form(const form *student, const form *its, const char *path, const char *name) {
  if (student->values != its->values)
    return status_set(STATUS_BAD_INPUT, "%s: teacher '%s' gives %s, but the student %s", path, name,
                      its->values ? "numbers" : "logits", student->values ? "numbers" : "logits");
  if (student->classes != its->classes)
    return status_set(STATUS_BAD_INPUT, "%s: teacher '%s' gives %lld classes, but the student %lld", path,
                      name, (long long)its->classes, (long long)student->classes);
  if (student->positions != its->positions)
    return status_set(STATUS_BAD_INPUT, "%s: teacher '%s' gives %lld positions a row, but the student %lld",
                      path, name, (long long)its->positions, (long long)student->positions);
  return STATUS_OK;
}

static status check_file(run_job *j, const mpistill_teacher *t, form *its) {
  status st = STATUS_OK;
  double weights[j->r.teachers.n + 1];
  const int task = task_of(j, t);
  const mpistill_aggregate_options a = run_combination(j, task, weights);
  mpistill_strings one = {.n = 1, .items = (char **)(uintptr_t)&t->soft_labels};
  sources in = {0};
  const split *sp;
  const sources_options from = {.paths = &one,
                                .method = a.method,
                                .weights = &(mpistill_reals){0},
                                .trust_rows = a.trust_rows,
                                .of_logits = true,
                                .labels = a.labels};
  TRY(dataset_split(j->d, j->r.teach.split, &sp));
  TRY(sources_open(&in, j->c, &from, j->d, sp));
  TRY(sources_check_temperature(&in, a.temperature));
  *its = in.f;
done:
  sources_close(&in);
  return st;
}

static status check_model(run_job *j, const mpistill_teacher *t, classifier *learner, form *its) {
  status st = STATUS_OK;
  subject s = {0};
  mpistill_strings taps = {0};
  const mpistill_teacher whole = tasks_teacher(&j->work, t);
  const head_options head = teacher_head(&whole);
  const model_source from = {
      .path = t->model, .pre = teach_preprocess(&j->r.teach, t), .heads = &head, .n_heads = 1};
  TRY(subject_open_any(&s, j->c, &from, j->d, j->r.teach.split, t->input));
  if (!t->classes.n) TRY(stage_check_classes(&s.k, j->d, s.sp));
  stage_tell_mode(comm_rank(j->c) == 0, s.m, false);
  TRY(comm_agree(j->c, run_taps(&j->r, t, &taps)));
  for (size_t i = 0; i < taps.n; i++) TRY(comm_agree(j->c, run_check_tap(&s.k, taps.items[i])));
  if (learner) TRY(comm_agree(j->c, features_check(&j->r.distill.features, t->name, learner, &s.k)));
  *its = head_form(&s.k.heads[0]);
done:
  strings_free(&taps);
  subject_close(&s);
  return st;
}

/* What the student can learn from one teacher, and that it can. learner: it, where inner tensors are
 * compared.
 */
static status check_teacher(run_job *j, const mpistill_teacher *t, const form *students,
                            classifier *learner) {
  status st = STATUS_OK;
  form its;
  const combine_kind *rule = combine_find(j->r.aggregate.method ? j->r.aggregate.method : "probability-mean");
  const bool united = rule && rule->unites;
  if (!t->model && united) return st; /* aggregate compares it with the others */
  if (t->is_private) return st;       /* its own ranks look at it, in teach */
  st = t->model ? check_model(j, t, learner, &its) : check_file(j, t, &its);
  if (!st && t->model) st = teach_check_top_k(j->r.teach.top_k, t->name, its.values, its.classes);
  if (st || (united && t->classes.n)) return st;
  return check_form(&students[task_of(j, t)], &its, t->model ? t->model : t->soft_labels, t->name);
}

status run_open_student(run_job *j, chain_step *k, const char *split, subject *s) {
  k->source.heads = j->work.heads;
  k->source.n_heads = j->work.n;
  return subject_open_any(s, j->c, &k->source, j->d, split, j->r.distill.input);
}

/* The tensor from which weights of several teachers are learned; they teach the first student alone. */
static status check_method_tensor(const run_job *j, const chain_step *k, classifier *learner) {
  bool several = false;
  for (int i = 0; i < j->work.n; i++) several = several || run_n_teachers(j, i) > 1;
  return several && k == j->students.steps && j->r.aggregate.tensor
             ? run_check_tap(learner, j->r.aggregate.tensor)
             : STATUS_OK;
}

/* One student, and that it can learn from the others of the chain, which give what the first gives. */
static status check_student(run_job *j, chain_step *k, form *forms) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(run_open_student(j, k, j->r.distill.split, &s));
  TRY(stage_check_classes(&s.k, j->d, s.sp));
  TRY(subject_check_student(&s, j->c, j->d));
  stage_tell_mode(comm_rank(j->c) == 0, s.m, true);
  if (strcmp(k->kind, "assistant")) TRY(comm_agree(j->c, run_check_student(&j->r, &s.k)));
  TRY(comm_agree(j->c, run_check_training(j, &s.k)));
  TRY(comm_agree(j->c, check_method_tensor(j, k, &s.k)));
  if (k == &j->students.steps[j->students.n - 1]) TRY(reduced_check(j->c, &s, &j->r.distill));
  for (int i = 0; i < j->work.n; i++) {
    const form its = head_form(&s.k.heads[i]);
    if (forms[i].classes && forms[i].classes != its.classes)
      THROW(STATUS_BAD_INPUT, "%s: gives %lld classes, but the student before it %lld", k->source.path,
            (long long)its.classes, (long long)forms[i].classes);
    if (forms[i].classes && forms[i].positions != its.positions)
      THROW(STATUS_BAD_INPUT, "%s: gives %lld positions a row, but the student before it %lld",
            k->source.path, (long long)its.positions, (long long)forms[i].positions);
    forms[i] = its;
  }
done:
  subject_close(&s);
  return st;
}

static status check_teachers(run_job *j, const form *forms) {
  status st = STATUS_OK;
  subject s = {0};
  const bool compared = j->r.distill.features.n > 0;
  if (compared) TRY(run_open_student(j, &j->students.steps[j->students.n - 1], j->r.distill.split, &s));
  for (size_t i = 0; i < j->r.teachers.n; i++)
    TRY(check_teacher(j, &j->r.teachers.items[i], forms, compared ? &s.k : NULL));
done:
  subject_close(&s);
  return st;
}

static status name_paths(run_job *j) {
  status st = STATUS_OK;
  TRY(file_join(&j->soft, j->r.output, "soft"));
  TRY(file_join(&j->soft_test, j->r.output, "soft/test"));
  TRY(file_join(&j->soft_fit, j->r.output, "soft/fit"));
  TRY(file_join(&j->soft_adaptive, j->r.output, "soft/adaptive"));
  TRY(file_join(&j->baseline, j->r.output, "baseline.onnx"));
  TRY(file_join(&j->checkpoints_in, j->r.output, "checkpoint"));
  TRY(file_join(&j->baseline_checkpoint, j->r.output, "checkpoint/baseline"));
  TRY(file_join(&j->log_path, j->r.output, "run.jsonl"));
  TRY(file_join(&j->state_path, j->r.output, "state.json"));
  for (int i = 0; i < j->work.n; i++) {
    const char *name = j->work.items[i].name;
    TRY(mem_format(&j->ensembles[i], "%s/ensemble%s%s.h5", j->r.output, name ? "." : "", name ? name : ""));
  }
done:
  return st;
}

void run_close(run_job *j) {
  char *paths[] = {j->soft,           j->soft_test,           j->soft_fit, j->soft_adaptive, j->baseline,
                   j->checkpoints_in, j->baseline_checkpoint, j->log_path, j->state_path};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) mem_free(paths[i]);
  for (int i = 0; i < TASKS_MAX; i++) mem_free(j->ensembles[i]);
  chain_free(&j->students);
  dataset_close(&j->d);
}

status run_check_all(run_job *j) {
  status st = STATUS_OK;
  form forms[TASKS_MAX] = {{0}};
  const split *test;
  TRY(dataset_open(&j->d, j->c, j->r.dataset));
  TRY(stage_test_split(j->d, j->r.distill.test_split, &test));
  j->has_test = test != NULL;
  TRY(tasks_describe(&j->work, &j->r.distill.tasks, &j->r.distill.losses, j->d));
  TRY(comm_agree(j->c, name_paths(j)));
  TRY(comm_agree(j->c, chain_make(&j->students, &j->r, &j->work)));
  for (int i = 0; i < j->students.n; i++) TRY(check_student(j, &j->students.steps[i], forms));
  TRY(comm_agree(j->c, run_check_rules(j)));
  TRY(check_teachers(j, forms));
  TRY(run_check_labels(j));
  TRY(run_check_trainings(j));
done:
  return st;
}
