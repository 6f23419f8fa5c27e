/* Teachers that are asked as the student learns: held in memory, for rows in the view that the student sees,
 * their logits rounded to the type that soft-label files have. */
#ifndef MPISTILL_STAGES_TUTORS_H
#define MPISTILL_STAGES_TUTORS_H

#include "stages/common.h"
#include "stages/tasks.h"

typedef struct tutor {
  mpistill_teacher t; /* with what its task says of it; strings borrowed */
  int task;
  int64_t row_values; /* of its matrix */
  subject s;
  augmenter augment;
  feed input;
  predictor *p; /* NULL: not on this rank */
} tutor;

typedef struct tutors {
  int n;
  tutor *items;
  const char *split;
  int64_t most_values; /* of a row, of any of them */
  int64_t work;        /* of a row, of all of them */
  bool half;           /* rounded to float16 */
} tutors;

/* Collective over c. Reads all teachers of o and checks that they can teach the student its tasks.
 * tutors_close in any case; strings of o and work are borrowed. */
status tutors_open(tutors *t, comm *c, const mpistill_train_options *o, dataset *d, const tasks *work,
                   const classifier *student);
void tutors_close(tutors *t); /* collective, where tutors_prepare was called */

/* Collective over c. Makes ready for work; `held`, NULL: all: [n] those that this rank is asked about. */
status tutors_prepare(tutors *t, comm *c, const mpistill_train_options *o, dataset *d, const bool *held);

/* Local. The matrices of rows seen[n] (feed_read_views) of teacher i: out[n * its row_values], as the type of
 * a soft-label file gives them back. STATUS_BAD_INPUT naming the teacher and the row for what is not finite
 * or too large for float16. */
status tutors_label(tutors *t, int i, const int64_t *seen, int64_t n, float *out);

/* Collective. Adds to the list what decides the labels, for the file beside the student. */
status tutors_json(comm *c, const mpistill_train_options *o, json_t *list);

#endif
