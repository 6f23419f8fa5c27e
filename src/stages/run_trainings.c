/* The trainings of a run, begun as they will be but for their teachers' labels, which are yet to be made:
 * what a student or the baseline cannot learn is refused before the first stage. */
#include "base/mem.h"
#include "stages/adaptive.h"
#include "stages/run_job.h"
#include "stages/study.h"
#include "stages/trainer.h"

#include <string.h>

/* What a training learns from. */
typedef struct lessons {
  int teachers[TASKS_MAX]; /* of each task: its soft-label files, or teachers that are asked; 0: none */
  bool together;           /* the recipe's teachers, combined as the student learns */
} lessons;

/* As many as will be there, without files. Which classes each knows only the files of a union tell. */
static status foresee_teachers(const run_job *j, const lessons *from, int i, const form *f, task *t) {
  status st = STATUS_OK;
  int *asked = NULL;
  const char *method = from->together && j->r.teachers.n > 1 ? j->r.aggregate.method : NULL;
  const combine_kind *rule = method ? combine_find(method) : NULL;
  if (rule && rule->unites) method = NULL;
  const sources_options o = {.weights = &(mpistill_reals){0}, .method = method, .of_logits = true};
  if (!from->teachers[i]) return st;
  TRY(mem_new(&asked, (size_t)from->teachers[i], sizeof *asked));
  TRY(sources_open_live(&t->soft, asked, from->teachers[i], f, &o, NULL));
done:
  mem_free(asked);
  return st;
}

static status foresee(const run_job *j, const mpistill_train_options *o, const lessons *from,
                      const classifier *k, tasks *work) {
  status st = STATUS_OK;
  TRY(tasks_describe(work, &o->tasks, &o->losses, j->d));
  for (int i = 0; i < work->n; i++) {
    const form f = head_form(&k->heads[i]);
    TRY(foresee_teachers(j, from, i, &f, &work->items[i]));
  }
  if (o->adaptive_split) TRY(adaptive_check(o, work));
done:
  return st;
}

static status check_training(const run_job *j, const mpistill_train_options *o, const lessons *from,
                             const classifier *k) {
  status st = STATUS_OK;
  tasks work = {0};
  views seen;
  study s = {0};
  const split *sp;
  int64_t sizes[TRAINER_MAX_SIZES];
  bool taught = false;
  for (int i = 0; i < j->work.n; i++) taught = taught || from->teachers[i];
  TRY(dataset_split(j->d, o->split, &sp));
  TRY(comm_agree(j->c, foresee(j, o, from, k, &work)));
  TRY(comm_agree(
      j->c, views_foresee(&seen, o, k, sp->n, taught ? j->r.teach.views : 0, taught && o->fixed_labels)));
  if (!sp->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", j->r.dataset, sp->name);
  const int n_sizes = trainer_sizes(o, sp->n, sizes);
  for (int i = 0; i < work.n; i++) {
    TRY(study_open(&s, j->c, o, &work.items[i], k, i, j->d, sp, &seen));
    TRY(objective_check_shards(&s.goal, sizes, n_sizes));
    study_close(&s);
  }
  TRY(features_check_shards(&o->features, sizes, n_sizes));
done:
  study_close(&s);
  tasks_close(&work);
  return st;
}

static status check_hard(const run_job *j, const classifier *k) {
  hard_labels room;
  mpistill_train_options o = run_training_options(j);
  run_learn_from_labels(j, &o, &room);
  return check_training(j, &o, &(lessons){.together = false}, k);
}

/* The teachers of the recipe, or the student before. */
static lessons lessons_of(const run_job *j, int step) {
  lessons out = {.together = step == 0 && run_combines_in_training(j)};
  for (int i = 0; !step && i < j->work.n; i++) {
    const int n = run_n_teachers(j, i);
    out.teachers[i] = out.together || n < 1 ? n : 1;
  }
  for (int i = 0; step && i < j->students.steps[step - 1].n_lessons; i++)
    out.teachers[j->students.steps[step - 1].lessons[i].task] = 1;
  return out;
}

/* Of a step of the chain, whose model is k. */
static status check_step(const run_job *j, int step, const classifier *k) {
  const lessons from = lessons_of(j, step);
  const chain_step *its = &j->students.steps[step];
  mpistill_train_options o = run_training_options(j);
  if (step == 0 && run_begins_with_labels(j)) return check_hard(j, k);
  if (step > 0) o.adaptive_split = NULL;
  if (!strcmp(its->kind, "assistant")) o.features = (mpistill_features){0};
  return check_training(j, &o, &from, k);
}

status run_check_trainings(run_job *j) {
  status st = STATUS_OK;
  subject s = {0};
  for (int i = 0; i < j->students.n; i++) {
    TRY(run_open_student(j, &j->students.steps[i], j->r.distill.split, &s));
    TRY(check_step(j, i, &s.k));
    if (j->r.baseline && i == (int)j->r.assistants.n) TRY(check_hard(j, &s.k));
    subject_close(&s);
  }
done:
  subject_close(&s);
  return st;
}
