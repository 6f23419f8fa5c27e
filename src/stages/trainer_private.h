/* Training in five parts: trainer.c makes it, trainer_run.c computes steps and epochs, trainer_checkpoint.c
 * saves and restores it, trainer_ahead.c has rows read before they are needed, trainer_late.c has gradients
 * made when they are summed. */
#ifndef MPISTILL_STAGES_TRAINER_PRIVATE_H
#define MPISTILL_STAGES_TRAINER_PRIVATE_H

#include "comm/reduce.h"
#include "learn/optimizer.h"
#include "stages/order.h"
#include "stages/study.h"
#include "stages/trainer.h"
#include "stages/update.h"
#include "store/ahead.h"

typedef struct trainer_worker { /* what one thread works with */
  arena *memory;
  plan *plans[TRAINER_MAX_SIZES]; /* by number of rows */
  int64_t *ids;
  study_desk desks[TASKS_MAX];
  float *inner;  /* the teachers' inner tensors */
  int64_t *seen; /* rows in the epoch's view */
  float *view;   /* to make them */
  double *inner_scratch;
  double read_s, forward_s, backward_s;
} trainer_worker;

/* Of matrices whose gradients no leaf holds. */
typedef struct trainer_late {
  bool *mask; /* [n_values]; NULL: there are none */
  reduce_matrix *matrices;
  reduce_late sums;
  int n_places;     /* for the shards of a wave: shard s is in place s % n_places */
  const plan **ran; /* [n_places] NULL: it has no rows */
  float *copies;    /* [n_places][n_floats] */
  size_t n_floats;
} trainer_late;

struct trainer {
  comm *c;
  const mpistill_train_options *o;
  const classifier *k;
  feed inputs;
  int64_t n;
  int n_studies;
  study studies[TASKS_MAX];
  const features *inner;
  int n_losses;
  char *names[TRAINER_MAX_LOSSES];
  const views *seen;
  live *teachers; /* NULL: none is asked */
  tasks *work;
  adaptive *fit;
  int shards, threads;
  int64_t sizes[TRAINER_MAX_SIZES]; /* numbers of rows a shard may have */
  int n_sizes;
  trainer_worker *workers;
  reducer *sums;
  _Atomic size_t *marks; /* of each shard of the last wave: its gradient is final from this float on. NULL:
                            the sum begins when all are */
  int n_marks;
  trainer_late late;
  updater *update;
  const schedule_kind *schedule;
  order *order;
  ahead *ahead;      /* NULL: no window, or all rows are in memory */
  double rate_scale; /* halved by each rollback */
  int rollbacks;
  double usual;       /* loss of the first step, or of a good student on rows of a larger one; 0: none yet */
  double doubts;      /* steps in a row that are in doubt, up to now */
  int64_t kept_epoch; /* epochs done in the state that a rollback goes back to */
  trainer_rollback back;
  int64_t epoch, batch;   /* done: epochs, and batches of the next */
  epoch_result now, last; /* of the epoch under way, of the last one */
  const trainer_watch *watch;
};

/* Floats that are trained: the model's block, what the features learn themselves, what the tasks do. */
size_t trainer_n_trained(const trainer *t);
/* What a task learns beside the student, in a vector of that length. */
float *trainer_learned(const trainer *t, const study *s, float *whole);
double trainer_loss_weight(const trainer *t, int i);
int64_t trainer_steps(const trainer *t);                 /* of the whole training */
double trainer_progress(const trainer *t, int64_t step); /* from 0 to 1, at the last step and behind it */
/* Collective. In windows: what does not fit into memory is read by the window from now on. */
status trainer_read_ahead(trainer *t);
/* Collective. The rows in places [from, from + n) of this epoch are there; the next window is on its way. */
status trainer_reach(trainer *t, int64_t from, int64_t n);
/* Local, before plans are made. Whether gradients are to be late at all. */
status trainer_late_new(trainer *t);
/* Local. Which of them are, by the plan of the most rows; later plans have the same. */
void trainer_late_mask(trainer *t, const plan *p);
/* Local, after plans are made. */
status trainer_late_begin(trainer *t);
void trainer_late_free(trainer *t);
/* Local. The shard is computed by p, NULL: it has no rows. */
void trainer_late_shard(const trainer *t, int shard, plan *p);

/* What adapts follows from how the student was before the epoch. */
void trainer_adapt(trainer *t);

#endif
