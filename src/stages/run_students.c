/* The students of a run: what each of them learns from. */
#include "base/mem.h"
#include "base/options.h"
#include "learn/combine.h"
#include "learn/loss.h"
#include "stages/run_job.h"
#include "stages/stages.h"
#include "stages/train.h"

#include <string.h>

/* What a training reads of the run's files. */
typedef struct material {
  mpistill_strings labels, features, compared; /* strings_free */
} material;

/* "TASK=FILE", or the file where the task has no name. */
static status add_label(const run_job *j, int task, const char *file, mpistill_strings *to) {
  const char *name = j->work.items[task].name;
  status st = mem_resize(&to->items, to->n, to->n + 1, sizeof *to->items);
  if (!st) st = mem_format(&to->items[to->n], "%s%s%s", name ? name : "", name ? "=" : "", file);
  if (!st) to->n++;
  return st;
}

/* All teachers, combined as the student learns. */
static status add_teachers(const run_job *j, mpistill_strings *to) {
  status st = STATUS_OK;
  mpistill_strings all = {0};
  TRY(run_soft_paths(j, -1, j->soft, true, &all));
  for (size_t i = 0; i < all.n; i++)
    TRY(add_label(j, tasks_find(&j->work, j->r.teachers.items[i].task), all.items[i], to));
done:
  strings_free(&all);
  return st;
}

/* out->items is the caller's to free. */
static status list_teachers(const run_job *j, mpistill_teachers *out) {
  const size_t n = j->r.teachers.n;
  status st = comm_agree(j->c, mem_new(&out->items, n, sizeof *out->items));
  for (size_t i = 0; !st && i < n; i++) {
    mpistill_teacher *x = &out->items[i];
    *x = tasks_teacher(&j->work, &j->r.teachers.items[i]);
    x->preprocess = *teach_preprocess(&j->r.teach, &j->r.teachers.items[i]);
    out->n = i + 1;
  }
  return st;
}

/* t->live_teachers.items is the caller's to free, here and below. */
static status ask_teachers(const run_job *j, mpistill_train_options *t) {
  const size_t n = j->r.teachers.n;
  t->soft_labels = (mpistill_strings){0};
  status st = list_teachers(j, &t->live_teachers);
  t->live_dtype = j->r.teach.dtype;
  t->weights = j->r.aggregate.weights;
  t->method = n > 1 ? j->r.aggregate.method : NULL;
  return st;
}

/* The teachers' labels: combined before, or all of them where they are combined as the student learns. */
static status learn_from_teachers(run_job *j, mpistill_train_options *t, material *own) {
  status st = STATUS_OK;
  const bool together = run_combines_in_training(j);
  if (j->r.live) return ask_teachers(j, t);
  for (int i = 0; !together && i < j->work.n; i++)
    if (run_n_teachers(j, i)) TRY(comm_agree(j->c, add_label(j, i, j->ensembles[i], &own->labels)));
  if (together) TRY(comm_agree(j->c, add_teachers(j, &own->labels)));
  if (t->features.n && !together) TRY(comm_agree(j->c, run_soft_paths(j, -1, j->soft, true, &own->features)));
  t->soft_labels = own->labels;
  t->feature_files = own->features;
  if (together) {
    t->weights = j->r.aggregate.weights;
    t->trust_rows = j->r.aggregate.trust_rows;
    t->method = own->labels.n > 1 ? j->r.aggregate.method : NULL;
    t->method_tensor = own->labels.n > 1 ? j->r.aggregate.tensor : NULL;
  }
  if (t->adaptive_split)
    TRY(comm_agree(j->c, run_soft_paths(j, -1, j->soft_adaptive, false, &own->compared)));
  t->adaptive_files = own->compared;
done:
  return st;
}

/* A student as a teacher of a task. */
static mpistill_teacher teacher_of(const run_job *j, const chain_step *k, const chain_lesson *lesson) {
  const char *task = j->work.items[lesson->task].name, *output = j->work.heads[lesson->task].output;
  const mpistill_teacher its = {.name = lesson->name,
                                .model = k->output,
                                .input = j->r.distill.input,
                                .task = (char *)(uintptr_t)task,
                                .output = (char *)(uintptr_t)output};
  return tasks_teacher(&j->work, &its);
}

static status ask_student(const run_job *j, const chain_step *before, mpistill_train_options *t) {
  const size_t n = (size_t)before->n_lessons;
  status st = comm_agree(j->c, mem_new(&t->live_teachers.items, n, sizeof *t->live_teachers.items));
  if (st) return st;
  for (size_t i = 0; i < n; i++) t->live_teachers.items[i] = teacher_of(j, before, &before->lessons[i]);
  t->live_teachers.n = n;
  t->live_dtype = j->r.teach.dtype;
  return st;
}

/* Those of the student before; what the teachers have inside is theirs alone. */
static status learn_from_student(run_job *j, const chain_step *before, mpistill_train_options *t,
                                 material *own) {
  status st = STATUS_OK;
  if (j->r.live && t->features.n) TRY(list_teachers(j, &t->feature_teachers));
  if (j->r.live) {
    TRY(ask_student(j, before, t));
    goto done;
  }
  for (int i = 0; i < before->n_lessons; i++)
    TRY(comm_agree(j->c, add_label(j, before->lessons[i].task, before->lessons[i].labels, &own->labels)));
  t->soft_labels = own->labels;
  t->adaptive_split = NULL; /* the teachers alone have labelled those rows */
  if (!t->features.n) goto done;
  TRY(comm_agree(j->c, run_soft_paths(j, -1, j->soft, true, &own->features)));
  t->feature_files = own->features;
done:
  return st;
}

static mpistill_loss hard_loss(const mpistill_losses *list, const task *x) {
  const char *usual = x->values ? "mse" : "cross-entropy";
  mpistill_loss out = {.kind = (char *)(uintptr_t)usual, .weight = 1, .temperature = 1};
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_loss *l = &list->items[i];
    const loss_kind *k = loss_find(l->kind);
    if (l->task && x->name && strcmp(l->task, x->name)) continue;
    if (!k || k->needs_soft || k->of_values != x->values) continue;
    out.kind = l->kind;
    out.label_smoothing = l->label_smoothing;
    out.delta = l->delta;
  }
  return out;
}

void run_learn_from_labels(const run_job *j, mpistill_train_options *t, hard_labels *own) {
  for (int i = 0; i < j->work.n; i++) {
    const task *x = &j->work.items[i];
    own->losses[i] = hard_loss(x->losses ? x->losses : &t->losses, x);
    if (!t->tasks.n) continue;
    own->tasks[i] = t->tasks.items[i];
    own->tasks[i].losses = (mpistill_losses){.n = 1, .items = &own->losses[i]};
  }
  t->losses = (mpistill_losses){.n = t->tasks.n ? 0 : 1, .items = own->losses};
  if (t->tasks.n) t->tasks.items = own->tasks;
  t->soft_labels = (mpistill_strings){0};
  t->adaptive_split = NULL;
  t->features = (mpistill_features){0};
  t->confidence = 0;
}

mpistill_train_options run_training_options(const run_job *j) {
  mpistill_train_options t = j->r.distill;
  t.dataset = j->r.dataset;
  t.threads = j->r.threads;
  t.restart = j->o->restart;
  t.out = run_output(j);
  t.weights = (mpistill_reals){0};
  t.method = NULL;
  return t;
}

/* The student of the recipe from hard labels alone. */
status run_baseline(run_job *j) {
  mpistill_train_options t = run_training_options(j);
  hard_labels hard;
  t.output = j->baseline;
  t.checkpoint = j->baseline_checkpoint;
  t.precision = NULL;
  run_learn_from_labels(j, &t, &hard);
  return train_student(j->c, &t, &j->students.steps[j->r.assistants.n].source);
}

bool run_begins_with_labels(const run_job *j) {
  return !j->r.teachers.n && j->students.n > 1;
}

static status distill(run_job *j, int step) {
  status st = STATUS_OK;
  const chain_step *k = &j->students.steps[step];
  const bool last = step == j->students.n - 1;
  material own = {{0}, {0}, {0}};
  mpistill_train_options t = run_training_options(j);
  hard_labels hard;
  t.output = k->output;
  t.checkpoint = k->checkpoint;
  t.epochs = k->epochs;
  t.seed = k->seed;
  if (!last) t.precision = NULL;
  if (!strcmp(k->kind, "assistant")) t.features = (mpistill_features){0};
  if (step > 0)
    TRY(learn_from_student(j, k - 1, &t, &own));
  else if (run_begins_with_labels(j))
    run_learn_from_labels(j, &t, &hard);
  else
    TRY(learn_from_teachers(j, &t, &own));
  TRY(train_student(j->c, &t, &k->source));
done:
  strings_free(&own.labels);
  strings_free(&own.features);
  strings_free(&own.compared);
  mem_free(t.live_teachers.items);
  mem_free(t.feature_teachers.items);
  return st;
}

/* A student labels the rows that the next one learns from. */
static status teach_next(run_job *j, const chain_step *k) {
  mpistill_teacher its[TASKS_MAX];
  mpistill_teach_options t = j->r.teach;
  t.dataset = j->r.dataset;
  t.split = j->r.distill.split;
  for (int i = 0; i < k->n_lessons; i++) its[i] = teacher_of(j, k, &k->lessons[i]);
  t.teachers = (mpistill_teachers){.n = (size_t)k->n_lessons, .items = its};
  t.preprocess = (mpistill_preprocess){0};
  t.top_k = 0;
  if (t.views) t.augment = j->r.distill.augment;
  t.threads = j->r.threads;
  t.output = j->soft;
  t.restart = j->o->restart;
  t.out = run_output(j);
  return stage_teach(j->c, &t);
}

status run_students(run_job *j) {
  status st = STATUS_OK;
  char *stage = NULL;
  for (int i = 0; i < j->students.n; i++) {
    const chain_step *k = &j->students.steps[i];
    mem_free(stage);
    stage = NULL;
    TRY(comm_agree(j->c,
                   k->n_lessons ? mem_format(&stage, "distill %s", k->name) : mem_string(&stage, "distill")));
    TRY(run_begin(j, stage));
    TRY(distill(j, i));
    if (k->n_lessons && !j->r.live) TRY(teach_next(j, k));
  }
done:
  mem_free(stage);
  return st;
}
