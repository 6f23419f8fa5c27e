/* Teachers that are asked as the student learns: held in memory, for rows in the view that the student sees,
 * their logits and inner tensors rounded to the type that soft-label files have. */
#ifndef MPISTILL_STAGES_TUTORS_H
#define MPISTILL_STAGES_TUTORS_H

#include "stages/common.h"
#include "stages/tasks.h"

typedef struct tutor {
  mpistill_teacher t; /* with what its task says of it; strings borrowed */
  int task;
  int64_t row_values;                /* of its matrix */
  subject s;                         /* closed (s.m NULL) where it is asked for nothing */
  shape inner[CLASSIFIER_MAX_INNER]; /* of its tensors that losses read, the classifier's; dims[0] = -1 */
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
  int n_inner;         /* inner tensors of all of them */
  bool half;           /* rounded to float16 */
} tutors;

/* Those whose labels the student learns from; those whose inner tensors it learns from. */
typedef enum tutors_for { TUTORS_LABEL, TUTORS_INNER } tutors_for;

/* Collective over c. Reads the teachers of o. Those that label are checked: they must be able to teach the
 * student its tasks. Of those for their inner tensors none stays open that has no tensor a loss could read.
 * Teachers of both kinds are computed in one way on every rank: what follows a tensor that is read is done in
 * a step of its own, and their logits are those of such a step wherever they come from. tutors_close in any
 * case; strings of o and work are borrowed. */
status tutors_open(tutors *t, comm *c, const mpistill_train_options *o, tutors_for what, dataset *d,
                   const tasks *work, const classifier *student);
void tutors_close(tutors *t); /* collective, where tutors_prepare was called */
/* Collective, before tutors_prepare. Closes those that are not wanted[n]. */
void tutors_drop(tutors *t, const bool *wanted);

/* Local. The place of a teacher's inner tensor among those that are read; -1: none has that name. */
int tutors_find_inner(const tutor *t, const char *name);
/* Local. Numbers of a row of it. */
int64_t tutors_inner_values(const tutor *t, int place);

/* Collective over c. Makes ready for work; `held`, NULL: all: [n] those that this rank is asked about. */
status tutors_prepare(tutors *t, comm *c, const mpistill_train_options *o, dataset *d, const bool *held);

/* Local. The matrices of rows seen[n] (feed_read_views) of teacher i: out[n * its row_values], as the type of
 * a soft-label file gives them back; and its inner tensors, inner[s.k.n_inner] (NULL: none), likewise.
 * STATUS_BAD_INPUT naming the teacher and the row for what is not finite or too large for float16. */
status tutors_label(tutors *t, int i, const int64_t *seen, int64_t n, float *out, float *const *inner);

typedef char tutor_hash[HASH_TEXT_BYTES];

/* Collective. Hashes of the models of o's live teachers, then of those with inner tensors; reads each, so
 * call it before tutors_open fills the memory. mem_free. */
status tutors_hash(comm *c, const mpistill_train_options *o, tutor_hash **hashes);

/* Collective. Adds to the list what decides the labels, for the file beside the student; hashes of
 * tutors_hash. */
status tutors_json(comm *c, const mpistill_train_options *o, const tutor_hash *hashes, json_t *list);
/* Collective. The same for inner tensors: who has them, by name, as losses choose by it. */
status tutors_inner_json(comm *c, const mpistill_train_options *o, const tutor_hash *hashes, json_t *list);

#endif
