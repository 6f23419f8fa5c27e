/* The labels or targets of a split for the rows of a soft-label file: where these are of views (views.h),
 * those of pixels as they lie in each view. A row that a view mixes with another one has two labels, so none
 * of its own. */
#ifndef MPISTILL_STAGES_VIEW_LABELS_H
#define MPISTILL_STAGES_VIEW_LABELS_H

#include "stages/views.h"

typedef struct view_labels {
  truth known;
  views seen;             /* augment.n 0: the rows as they are */
  mpistill_augments list; /* what seen.augment is made of */
  augment_shape planes;   /* of a row's labels, where they move; values 0: they do not */
  const char *lost;       /* in words, why no row has a label in these views; NULL: rows may have */
} view_labels;

/* Collective. As truth_open, for the rows of s. STATUS_BAD_INPUT for views of a kind that is not known.
 * view_labels_close in any case. */
status view_labels_open(view_labels *v, comm *c, dataset *d, const split *sp, const array *a, const form *f,
                        const softlabels *s);
void view_labels_close(view_labels *v); /* collective */

/* Local, any thread. As truth_range. */
status view_labels_range(const view_labels *v, int64_t from, int64_t n, int32_t *labels, float *targets);

#endif
