/* The one trainer: shards of a global batch through the student, losses, and the tree sum, epoch by epoch. train and distill differ only
 * in the losses they name. */
#ifndef MPISTILL_STAGES_TRAINER_H
#define MPISTILL_STAGES_TRAINER_H

#include "base/log.h"
#include "learn/loss.h"
#include "stages/predict.h"
#include "stages/sources.h"

enum { TRAINER_MAX_LOSSES = 16 };

typedef struct trainer trainer;

typedef struct epoch_result {
  double loss;                        /* mean over the epoch's steps of the weighted sum */
  double parts[TRAINER_MAX_LOSSES];   /* of each loss, not weighted */
  double learning_rate;               /* at the last step */
  double seconds;
  double read_s, forward_s, backward_s, reduce_s; /* of this rank, threads together */
} epoch_result;

/* Collective. Everything is checked here: nothing after it is bad input but values found in the data. o, k, d, sp, soft are borrowed;
 * soft->n == 0: no teachers. */
status trainer_new(trainer **out, comm *c, const mpistill_train_options *o, const classifier *k, dataset *d,
                   const split *sp, const array *input, sources *soft);
void trainer_free(trainer **t); /* collective */

int trainer_n_losses(const trainer *t);
const mpistill_loss *trainer_loss(const trainer *t, int i);
int trainer_shards(const trainer *t);
int64_t trainer_rows(const trainer *t);
int64_t trainer_steps_per_epoch(const trainer *t);

/* Collective. One pass over the rows in the order of (seed, epoch). A loss that is not finite takes the epoch back to its start at half
 * the learning rate; the fourth time STATUS_FAILED. step_done is called on every rank after every step (progress). */
status trainer_epoch(trainer *t, int64_t epoch, epoch_result *result, void (*step_done)(void *, int64_t rows), void *data);

/* Local after trainer_epoch. The parameter block, the same on all ranks. */
const float *trainer_block(const trainer *t);
/* Collective. STATUS_FAILED when the trained parameters are not finite. */
status trainer_check(trainer *t);

#endif
