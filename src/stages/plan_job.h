/* What the parts of `plan` share. */
#ifndef MPISTILL_STAGES_PLAN_JOB_H
#define MPISTILL_STAGES_PLAN_JOB_H

#include "stages/cost.h"
#include "stages/measure.h"
#include "stages/plan.h"
#include "stages/run_chain.h"
#include "stages/tasks.h"

typedef struct planned_teacher {
  const mpistill_teacher *t;
  measured m;
  const array *input;
  double held_bytes, once_bytes; /* while it is open, of a rank and of a node (subject_open) */
  double weight_bytes;           /* of its parameters */
  double work;                   /* multiply-adds of a row */
  int64_t values, tap_values;    /* a row of its output; of the inner tensors that are stored */
} planned_teacher;

typedef struct planned_student { /* one of the chain */
  measured forward, shard;
  measured_memory memory;
  cost_training training;
  int64_t bytes;
  double held_bytes, once_bytes, work;
} planned_student;

typedef enum plan_stage {
  PLAN_TEACH,
  PLAN_AGGREGATE,
  PLAN_BASELINE,
  PLAN_DISTILL,
  PLAN_EVALUATE,
  PLAN_STAGES
} plan_stage;

typedef struct plan_space {
  double rank_bytes, node_bytes, shared_bytes;
  plan_stage rank_at, node_at; /* where most is needed */
} plan_space;

typedef struct plan_job {
  comm *c;
  const plan_request *o;
  mpistill_recipe r;
  dataset *d;
  const split *train, *test, *fit, *adaptive; /* the last three: NULL without one */
  int n;
  planned_teacher *teachers; /* those with a model */
  tasks work;
  chain students;
  planned_student *learners;      /* [students.n] */
  int64_t values;                 /* a row of all outputs of the student */
  int64_t task_values[TASKS_MAX]; /* of each of them */
  double row_s;                   /* of aggregate, a thread */
  const array *input;             /* of the students */
  cluster k;
} plan_job;

/* Local. Whether there is a stage that combines the teachers; else training does it. */
bool plan_aggregates(const plan_job *j);
/* Local. Rows of a file of soft labels to learn from; 0: there is none. */
double plan_stored_rows(const plan_job *j);
/* Local. Of so many ranks those that only teach, while student i learns from live teachers. */
int plan_teaching_ranks(const plan_job *j, int i, int64_t ranks);
/* Local. Whether the ranks that train student i run live teachers for their inner tensors. */
bool plan_asks_inner(const plan_job *j, int i);

/* What the ranks of a node share of the program itself, counted in plan_space. */
double plan_node_bytes(void);
/* Local. Most memory that is held at one time, by a rank of its own and by a node. */
status plan_measure_space(const plan_job *j, plan_space *out);
/* Local. The files that a run writes, and their bytes together. files: a JSON array that is added to. */
status plan_list_files(const plan_job *j, json_t *files, double *total);

#endif
