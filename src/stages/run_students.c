/* The students of a run: what each of them learns from. */
#include "base/mem.h"
#include "base/options.h"
#include "learn/combine.h"
#include "stages/run_job.h"
#include "stages/stages.h"
#include "stages/train.h"

#include <string.h>

/* The teachers' labels: combined before, or all of them where they are combined as the student learns. */
static status learn_from_teachers(run_job *j, mpistill_train_options *t, mpistill_strings *files) {
  status st = STATUS_OK;
  const bool together = run_combines_in_training(j);
  t->soft_labels = (mpistill_strings){.n = j->r.teachers.n > 0, .items = &j->ensemble};
  if (t->features.n || together) TRY(comm_agree(j->c, run_soft_paths(j, j->soft, true, files)));
  if (together) {
    t->soft_labels = *files;
    t->weights = j->r.aggregate.weights;
    t->method = files->n > 1 ? j->r.aggregate.method : NULL;
    t->method_tensor = files->n > 1 ? j->r.aggregate.tensor : NULL;
  }
  if (t->features.n && !together) t->feature_files = *files;
done:
  return st;
}

/* Those of the student before; what the teachers have inside is theirs alone. */
static status learn_from_student(run_job *j, const chain_step *before, mpistill_train_options *t,
                                 mpistill_strings *files) {
  status st = STATUS_OK;
  t->soft_labels = (mpistill_strings){.n = 1, .items = (char **)(uintptr_t)&before->labels};
  if (!t->features.n) goto done;
  TRY(comm_agree(j->c, run_soft_paths(j, j->soft, true, files)));
  t->feature_files = *files;
done:
  return st;
}

/* As a training on hard labels alone, with all else alike. */
static void learn_from_labels(mpistill_train_options *t, mpistill_loss *hard) {
  *hard = (mpistill_loss){.kind = (char *)(uintptr_t) "cross-entropy", .weight = 1, .temperature = 1};
  for (size_t i = 0; i < t->losses.n; i++)
    if (!strcmp(t->losses.items[i].kind, "cross-entropy"))
      hard->label_smoothing = t->losses.items[i].label_smoothing;
  t->losses = (mpistill_losses){.n = 1, .items = hard};
  t->soft_labels = (mpistill_strings){0};
  t->features = (mpistill_features){0};
  t->confidence = 0;
}

static mpistill_train_options training_options(const run_job *j) {
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
  mpistill_train_options t = training_options(j);
  mpistill_loss hard;
  t.output = j->baseline;
  t.checkpoint = j->baseline_checkpoint;
  t.precision = NULL;
  learn_from_labels(&t, &hard);
  return train_student(j->c, &t, &j->students.steps[j->r.assistants.n].source);
}

static status distill(run_job *j, int step) {
  status st = STATUS_OK;
  const chain_step *k = &j->students.steps[step];
  const bool last = step == j->students.n - 1;
  mpistill_strings files = {0};
  mpistill_train_options t = training_options(j);
  mpistill_loss hard;
  t.output = k->output;
  t.checkpoint = k->checkpoint;
  t.epochs = k->epochs;
  t.seed = k->seed;
  if (!last) t.precision = NULL;
  if (!strcmp(k->kind, "assistant")) t.features = (mpistill_features){0};
  if (step > 0)
    TRY(learn_from_student(j, k - 1, &t, &files));
  else if (!j->r.teachers.n && !last)
    learn_from_labels(&t, &hard);
  else
    TRY(learn_from_teachers(j, &t, &files));
  TRY(train_student(j->c, &t, &k->source));
done:
  strings_free(&files);
  return st;
}

/* A student labels the rows that the next one learns from. */
static status teach_next(run_job *j, const chain_step *k) {
  mpistill_teacher its = {.name = k->name, .model = k->output, .input = j->r.distill.input};
  mpistill_teach_options t = j->r.teach;
  t.dataset = j->r.dataset;
  t.split = j->r.distill.split;
  t.teachers = (mpistill_teachers){.n = 1, .items = &its};
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
                   k->labels ? mem_format(&stage, "distill %s", k->name) : mem_string(&stage, "distill")));
    TRY(run_begin(j, stage));
    TRY(distill(j, i));
    if (k->labels) TRY(teach_next(j, k));
  }
done:
  mem_free(stage);
  return st;
}
