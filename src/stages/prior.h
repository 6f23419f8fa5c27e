/* Biases for classes that the rows of training lack or hold too few of. Where a class is absent from the
 * transfer set, its bias was never pushed up (Hinton et al. 2015, section 3). On other rows, never those of
 * the test, the biases b of the last layer are set so that
 *
 *     mean over the rows of softmax(z + b)_c  =  the share of class c
 *
 * which makes the likelihood of the labels greatest, where the shares are those of the labels. Found by
 * iterative scaling (Darroch, Ratcliff 1972): b_c += log(share_c M / mean_c), M the sum of the means of the
 * classes that have a share. Those without one keep their bias and what probability that leaves them, and
 * the others have their shares of the rest; where all have one, M is 1. */
#ifndef MPISTILL_STAGES_PRIOR_H
#define MPISTILL_STAGES_PRIOR_H

#include "stages/common.h"
#include "stages/predict.h"

/* Local. The parameter that is added to the logits of each class: *value of k->g. STATUS_BAD_INPUT when the
 * last layer has none. */
status prior_bias(const classifier *k, int *value);
/* Local. The same before training, and that there is something to take the shares of the classes from. */
status prior_check(const classifier *k, const dataset *d, const split *sp, const mpistill_reals *shares);

typedef struct prior {
  float *bias;   /* [classes], owned: what the parameter is to be */
  double *shift; /* [classes], owned: what was added to it */
  int rounds;
} prior;

/* Collective. From the rows of sp and their labels, or shares[classes] (any positive factor; NULL: the
 * labels) and block, the student's parameters. Classes without a share keep their bias. The logits of all
 * rows are in memory, shared out over the ranks. STATUS_BAD_INPUT without labelled rows. */
status prior_find(prior *out, comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                  const mpistill_reals *shares, int threads);
void prior_clear(prior *p);

#endif
