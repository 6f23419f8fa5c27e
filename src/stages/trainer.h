/* The one trainer: shards of a global batch through the student, losses, and the tree sum, epoch by epoch.
 * train and distill differ only in the losses they name. */
#ifndef MPISTILL_STAGES_TRAINER_H
#define MPISTILL_STAGES_TRAINER_H

#include "base/log.h"
#include "comm/reduce.h"
#include "stages/adaptive.h"
#include "stages/features.h"
#include "stages/live.h"
#include "stages/tasks.h"
#include "stages/views.h"
#include "store/checkpoint.h"

enum { TRAINER_MAX_LOSSES = CHECKPOINT_MAX_SUMS / 10 - 2 }; /* ten sums each, room for twenty more */

typedef struct trainer trainer;

typedef struct span { /* of a number, over an epoch's steps */
  double least, mean, most;
} span;

typedef struct epoch_result {
  double loss;                           /* weighted sum of the parts */
  double parts[TRAINER_MAX_LOSSES];      /* of each loss, not weighted: mean over the rows it reads */
  double rows[TRAINER_MAX_LOSSES];       /* of the epoch that it reads: those with a label, or all */
  double by_step;                        /* mean over the steps of what each made smaller */
  span temperatures[TRAINER_MAX_LOSSES]; /* of each loss where it moves */
  double learning_rate;                  /* at the last step */
  double seconds;                        /* of this run, where the epoch began in another */
  double read_s, forward_s, backward_s, reduce_s; /* of this rank, threads together */
} epoch_result;

/* Collective. Everything is checked here: nothing after it is bad input but values found in the data. o, k,
 * d, sp, work, inner, seen are borrowed; work->heads are those of k; inner, seen, fit: opened with this k. */
status trainer_new(trainer **out, comm *c, const mpistill_train_options *o, const classifier *k, dataset *d,
                   const split *sp, tasks *work, const features *inner, const views *seen, live *teachers,
                   adaptive *fit);
void trainer_free(trainer **t); /* collective */

/* Local. Where the options say 0: the largest power of two <= batch / 32, from 1 to 64. */
int trainer_default_shards(int64_t batch);
/* The numbers of rows that a shard of n > 0 rows' training may have: sizes[TRAINER_MAX_SIZES]; how many. */
enum { TRAINER_MAX_SIZES = 4 };
int trainer_sizes(const mpistill_train_options *o, int64_t n, int64_t *sizes);
/* Local. Of the options. */
reduce_dtype trainer_reduce_dtype(const mpistill_train_options *o);

int trainer_n_losses(const trainer *t);
const char *trainer_loss_name(const trainer *t,
                              int i);                /* "kd", "TASK/kd", "hint:act1", of two alike "kd.2" */
double trainer_temperature(const trainer *t, int i); /* where it moves: of the next step; else 0 */
int trainer_shards(const trainer *t);
bool trainer_is_shared(const trainer *t); /* see reducer_is_shared */
int64_t trainer_rows(const trainer *t);
int64_t trainer_steps_per_epoch(const trainer *t);

typedef struct trainer_rollback {
  int n;                      /* rollbacks so far */
  int64_t epoch, to;          /* epochs done: when the loss exploded, and in the state it went back to */
  double loss, learning_rate; /* what it became; the highest rate from now on */
} trainer_rollback;

/* What trainer_run came back for; the caller's own bits are above. */
enum { TRAINER_EPOCH = 1, TRAINER_ROLLBACK = 2, TRAINER_CALLER = 4 };

/* What the caller gives to trainer_run. */
typedef struct trainer_watch {
  unsigned (*ask)(void *data); /* after every step, on one rank: 0, or bits from TRAINER_CALLER on to come
                                  back with, on all ranks */
  void (*step_done)(void *data, int64_t rows); /* after every step, on all ranks */
  void *data;
} trainer_watch;

/* Collective. Steps until an epoch is done, the student was rolled back or the caller asked for something;
 * *events says which, the same on all ranks. An epoch is one pass over the rows in the order of (seed,
 * epoch). A loss that is not finite or explodes takes the student back to the last good epoch at half the
 * learning rate; the fourth time STATUS_FAILED. */
status trainer_run(trainer *t, const trainer_watch *watch, unsigned *events);
bool trainer_finished(const trainer *t);
int64_t trainer_epoch(const trainer *t); /* epochs done */
int64_t trainer_batch(const trainer *t); /* batches done of the next */
/* Of the epoch done last. */
const epoch_result *trainer_result(const trainer *t);
/* After TRAINER_ROLLBACK. */
const trainer_rollback *trainer_last_rollback(const trainer *t);
int trainer_rollbacks(const trainer *t); /* so far, those before a checkpoint too */

/* Collective. Writes a checkpoint of this moment; goes on from one. */
status trainer_save(trainer *t, const char *folder, const char *inputs);
status trainer_restore(trainer *t, const checkpoint *k);

/* Local. The parameter block, the same on all ranks. */
const float *trainer_block(const trainer *t);
/* Collective. Sets n floats of it from `offset` on, when the training is over. */
status trainer_replace(trainer *t, int64_t offset, const float *values, int64_t n);
/* Collective. STATUS_FAILED when the trained parameters are not finite. */
status trainer_check(trainer *t);

#endif
