/* What a student is made from, as the file beside it and its checkpoints say it. */
#ifndef MPISTILL_STAGES_TRAIN_INPUTS_H
#define MPISTILL_STAGES_TRAIN_INPUTS_H

#include "stages/tasks.h"
#include "stages/tutors.h"

#include <jansson.h>

/* Local. Whether there is anyone to learn from but the labels. */
bool train_has_teachers(const mpistill_train_options *o);

typedef struct train_origin {
  const char *model; /* its hash */
  dataset *d;
  const split *rows, *prior, *adaptive; /* NULL: none */
  const char *input;                    /* name of the array */
  const tutor_hash *live;               /* tutors_hash */
  bool live_inner;                      /* live teachers' inner tensors are read */
} train_origin;

/* Collective. All that decides the student's bytes, in the order in which a difference is best named;
 * json_decref. */
status train_inputs(json_t **out, comm *c, const mpistill_train_options *o, const tasks *work,
                    const train_origin *from);

#endif
