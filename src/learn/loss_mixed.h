/* Losses of rows that were mixed of two. */
#ifndef MPISTILL_LEARN_LOSS_MIXED_H
#define MPISTILL_LEARN_LOSS_MIXED_H

#include "learn/loss.h"

/* What a shard's rows were mixed with. */
typedef struct loss_mix {
  const double *shares;  /* [rows] of the row itself; 1: it was not mixed */
  const int32_t *labels; /* [rows] the partners'; NULL when no loss reads labels */
  const float *soft;     /* [rows, C] the partners'; NULL: those of the batch are of the mixed rows already */
  float *gradient;       /* [C] for use */
} loss_mix;

/* Local. As k->evaluate: row by row s loss(its label) + (1 - s) loss(its partner's), label or soft label or
 * both. k is of classes, and must not relate rows where m->soft is given. */
double loss_mixed(const loss_kind *k, const mpistill_loss *options, const loss_batch *b, const loss_mix *m,
                  float *gradient);

#endif
