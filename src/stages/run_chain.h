/* The students that a recipe trains one after another: assistants, generations of the student, the student.
 * The first learns from the teachers, or from hard labels without any; each of the others from the one before
 * it, whose labels on the same rows are stored like a teacher's, or asked for where teachers are live. */
#ifndef MPISTILL_STAGES_RUN_CHAIN_H
#define MPISTILL_STAGES_RUN_CHAIN_H

#include "stages/common.h"
#include "stages/tasks.h"

/* A task that a student teaches the next one. */
typedef struct chain_lesson {
  int task;
  char *name;   /* that of the student, where there are several tasks with the task's behind a dot */
  char *labels; /* OUTPUT/soft/<name>.h5, where they are stored */
} chain_lesson;

typedef struct chain_step {
  const char *kind; /* "assistant", "generation", "student" */
  char *name;       /* "student" for the last */
  char *output;     /* OUTPUT/<name>.onnx */
  char *checkpoint; /* OUTPUT/checkpoint/<name> */
  int n_lessons;    /* 0 for the last, whom nobody asks */
  chain_lesson lessons[TASKS_MAX];
  unsigned char *bytes;
  model_source source;
  int64_t epochs;
  uint64_t seed;
} chain_step;

typedef struct chain {
  int n;
  chain_step *steps;
} chain;

/* Local. STATUS_BAD_INPUT for a student that cannot be created. Strings of r are borrowed. Students hand on
 * the tasks of `work` that the teachers teach, all of them without teachers; not those whose losses read no
 * soft labels. */
status chain_make(chain *out, const mpistill_recipe *r, const tasks *work);
void chain_free(chain *k);

static inline const chain_step *chain_last(const chain *k) {
  return &k->steps[k->n - 1];
}

#endif
