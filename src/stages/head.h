/* One output of a model, as a matrix: for each row of a batch `positions` vectors of C numbers. Losses, rules
 * and metrics see the matrix alone; what lies how in the model's tensor is known here.
 *
 *     [n, C]              one position a row
 *     [n, C, H, W]        H * W positions: an image's pixels, a sequence's places ([n, C, L])
 *     [n, T, C]           the classes are the last dimension: `last`
 *     [n, ...], values    numbers that are no logits: as many positions as there are numbers, C = 1 */
#ifndef MPISTILL_STAGES_HEAD_H
#define MPISTILL_STAGES_HEAD_H

#include "graph/plan.h"
#include "stages/logits.h"
#include "store/dataset.h"

/* Which output, and what it is. */
typedef struct head_options {
  const char *output; /* its name; NULL: that of the task where the model has one of that name, else the only
                         one */
  const char *task;   /* NULL: none */
  const char *labels; /* the array of its labels or targets; NULL: "label", of values "target" */
  bool last;
  bool values;
} head_options;

typedef struct head {
  const char *labels; /* name of the array of its labels or targets; borrowed */
  bool by_task;       /* the options name that array */
  int output;         /* value of the graph */
  int value;          /* that output, or what goes into its final Softmax */
  shape shape;        /* of one batch: dims[0] = -1 */
  int64_t classes, positions;
  bool last, values;
  bool probabilities;     /* `value` holds probabilities: their logarithms are the logits (logits.h) */
  const attribute *names; /* of the classes as the model says them, NULL: it does not; borrowed */
  int64_t *order;         /* [C] the dataset's class of each of the model's, owned; NULL: the same */
} head;

/* Local. The output and the value; p: a plan of the graph for one row. */
status head_choose(head *h, const head_options *o, const graph *g, const plan *p, const char *path,
                   logits_place *place);
/* Local. The shape, from that of the value for one row. STATUS_BAD_INPUT when it is not one of those above.
 */
status head_measure(head *h, const graph *g, const tensor *y, const logits_place *place, const char *path);

/* Local. Sets h->order where the model names its classes, as scikit-learn's exports do: by the dataset's
 * names of classes, or by their numbers where it has no names (d NULL: by their numbers). STATUS_BAD_INPUT
 * unless the model's classes are those of the dataset in some order. */
status head_order(head *h, const dataset *d, const char *path);
void head_clear(head *h);

/* Whether the tensor's numbers lie as the matrix's. */
bool head_is_matrix(const head *h);
int64_t head_row_values(const head *h); /* positions * C */
/* [n, C, positions] to [n * positions, C], and back; from and to are different arrays. */
void head_positions_first(const float *from, int64_t n, int64_t classes, int64_t positions, float *to);
void head_classes_first(const float *from, int64_t n, int64_t classes, int64_t positions, float *to);

#endif
