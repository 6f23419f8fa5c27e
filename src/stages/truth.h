/* The labels or targets of a split for one output: what students learn from and are measured by. Positions
 * are those of the output (head.h); a label of -1, a target that is NaN and what lies past a row's length
 * count nowhere. */
#ifndef MPISTILL_STAGES_TRUTH_H
#define MPISTILL_STAGES_TRUTH_H

#include "stages/head.h"

/* The output's form. */
typedef struct form {
  int64_t classes, positions;
  int64_t steps; /* the first dimension of positions, which lengths count; 1: there is none */
  bool values;
} form;
form head_form(const head *h);

typedef struct truth {
  dataset *d;
  const split *sp;
  form f;
  const array *a; /* NULL: there are none */
  rows *rows, *lengths;
  rows *mask;        /* NULL: none */
  bool mask_of_last; /* it has the last dimensions of the positions, and holds for each of the others */
  int64_t *known;    /* [n] positions with a label, once counted */
  int64_t *counted;  /* [n] positions within the row's length and the mask; NULL: all of them */
} truth;

/* Collective. a: the labels or targets, NULL: none. inputs[n_inputs]: the arrays that the model reads, the
 * first of them with lengths gives those; NULL: the split's, where it has one array of them. STATUS_BAD_INPUT
 * when the shape is not that of the output. truth_close in any case. */
status truth_open(truth *t, dataset *d, const split *sp, const array *a, const form *f,
                  const array *const *inputs, int n_inputs);
void truth_close(truth *t); /* collective */

/* Collective. Soft labels count where that array of labels is above 0: the foreground. It has a number for
 * each position, or for as many that follow each other: boxes [n, anchors, 4] under [n, anchors]. */
status truth_mask_by(truth *t, const char *name);

/* Collective. Fills known and counted; reads and checks everything. */
status truth_count(truth *t, comm *c);

/* Local, any thread. Of rows ids[0..n): labels[n * positions], of rows of values targets. STATUS_BAD_INPUT
 * naming the row for a label that is no class. */
status truth_read(const truth *t, const int64_t *ids, int64_t n, int32_t *labels, float *targets);
/* The same of rows [from, from + n), counted through all views (learn/augment.h). */
status truth_range(const truth *t, int64_t from, int64_t n, int32_t *labels, float *targets);
/* Local, any thread. Makes the first number of a row of matrix[n * positions, classes] NaN, what says that
 * the teachers gave no answer, where the position lies past the length or outside the mask. room:
 * [positions]. */
status truth_mask(const truth *t, const int64_t *ids, int64_t n, int32_t *room, float *matrix);

/* Local. Whether the dataset's names of classes are those of that array of labels (NULL: of a split's only
 * classes, whatever they are called): of other tasks' classes nothing but their numbers is known. */
bool truth_is_named(const split *sp, const char *labels);
/* Local. The array of that name among labels and targets, NULL if there is none. */
const array *truth_array(const split *sp, const char *name);
bool truth_is_values(const array *a);

#endif
