/* What the parts of `run` share. */
#ifndef MPISTILL_STAGES_RUN_JOB_H
#define MPISTILL_STAGES_RUN_JOB_H

#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/run_chain.h"
#include "stages/tasks.h"

typedef struct run_size { /* of a model, or of several that are run together */
  bool known;             /* not where one of them was made elsewhere */
  int64_t parameters, bytes;
  double latency_s;
} run_size;

typedef struct run_row { /* of the table at the end */
  const char *name;
  const char *kind; /* "teacher", "ensemble", "baseline", "assistant", "generation", "student" */
  int task;         /* that it is of alone; -1: of all */
  bool measured[TASKS_MAX];
  score scores[TASKS_MAX];
  double epsilon[TASKS_MAX],
      delta[TASKS_MAX];            /* what an ensemble reveals of its teachers' data; 0: not known */
  run_size size, parts[TASKS_MAX]; /* parts: an ensemble's teachers of each task */
} run_row;

typedef struct run_job {
  comm *c;
  const mpistill_run_options *o;
  mpistill_recipe r;
  char *soft, *soft_test, *soft_fit, *soft_adaptive, *baseline, *baseline_checkpoint, *checkpoints_in,
      *log_path, *state_path;
  char *ensembles[TASKS_MAX]; /* OUTPUT/ensemble.h5, or OUTPUT/ensemble.<task>.h5 */
  tasks work;                 /* without their soft-label files */
  chain students;
  dataset *d;
  lock *lock;
  bool has_test;
  int n_rows;
  run_row *rows;
} run_job;

/* Local. For a stage of this run. */
mpistill_output_options run_output(const run_job *j);
/* Collective. Tells people and state.json that a stage begins. */
status run_begin(run_job *j, const char *stage);

/* Local. Whether teachers are combined as the student learns, not before. */
bool run_combines_in_training(const run_job *j);
/* Local. The soft-label files of a task's teachers (task -1: of all) in the recipe's order, those made
 * elsewhere only when `foreign`; strings_free. */
status run_soft_paths(const run_job *j, int task, const char *folder, bool foreign, mpistill_strings *paths);
/* Local. What a task's teachers are combined with; weights for use, [teachers]. Inputs are the caller's. */
mpistill_aggregate_options run_combination(const run_job *j, int task, double *weights);
/* Local. How many teachers a task has. */
int run_n_teachers(const run_job *j, int task);

/* As a training on hard labels alone, with all else alike. */
typedef struct hard_labels {
  mpistill_loss losses[TASKS_MAX];
  mpistill_task tasks[TASKS_MAX];
} hard_labels;

/* Local. What all students are trained with, but for what they learn from; those that learn from labels
 * alone, with losses in `room`; whether the first one does, for want of teachers. */
mpistill_train_options run_training_options(const run_job *j);
void run_learn_from_labels(const run_job *j, mpistill_train_options *t, hard_labels *room);
bool run_begins_with_labels(const run_job *j);

/* Collective. Everything the recipe names is opened once before the first rank computes; run_close in any
 * case. */
status run_check_all(run_job *j);
/* Local. STATUS_BAD_INPUT where the recipe asks for more ranks than those. */
status run_check_ranks(const run_job *j, int ranks);
void run_close(run_job *j); /* collective; what run_check_all has opened */
/* Local. STATUS_BAD_INPUT for what a recipe asks of teachers and splits that are not such; of the training of
 * a student. */
status run_check_rules(const run_job *j);
status run_check_training(const run_job *j, classifier *k);
/* Collective. STATUS_BAD_INPUT for labels that are not of what the students give, and for none where some are
 * needed; for students, and a baseline, that cannot learn from what will be there. */
status run_check_labels(run_job *j);
status run_check_trainings(run_job *j);
/* Collective. A student of the chain on the rows of a split; subject_close in any case. */
status run_open_student(run_job *j, chain_step *k, const char *split, subject *s);

/* Collective. The recipe's student from hard labels alone; all students of the chain, each labelled for the
 * next. */
status run_baseline(run_job *j);
status run_students(run_job *j);

/* Collective. Fills j->rows; writes result.json and prints them. */
status run_measure(run_job *j);
status run_report(run_job *j);

#endif
