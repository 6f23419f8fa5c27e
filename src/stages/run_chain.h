/* The students that a recipe trains one after another: assistants, generations of the student, the student.
 * The first learns from the teachers, or from hard labels without any; each of the others from the one before
 * it, whose labels on the same rows are stored like a teacher's. */
#ifndef MPISTILL_STAGES_RUN_CHAIN_H
#define MPISTILL_STAGES_RUN_CHAIN_H

#include "stages/common.h"

typedef struct chain_step {
  const char *kind; /* "assistant", "generation", "student" */
  char *name;       /* "student" for the last */
  char *output;     /* OUTPUT/<name>.onnx */
  char *checkpoint; /* OUTPUT/checkpoint/<name> */
  char *labels;     /* OUTPUT/soft/<name>.h5; NULL for the last, whom nobody asks */
  unsigned char *bytes;
  model_source source;
  int64_t epochs;
  uint64_t seed;
} chain_step;

typedef struct chain {
  int n;
  chain_step *steps;
} chain;

/* Local. STATUS_BAD_INPUT for a student that cannot be created. Strings of r are borrowed. */
status chain_make(chain *out, const mpistill_recipe *r);
void chain_free(chain *k);

static inline const chain_step *chain_last(const chain *k) {
  return &k->steps[k->n - 1];
}

#endif
