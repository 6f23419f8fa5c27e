/* The reducer in two parts: reduce.c has memory, waves, status and the calls; exchange.c adds up the vectors
 * and moves them between teams. */
#ifndef MPISTILL_COMM_REDUCE_PRIVATE_H
#define MPISTILL_COMM_REDUCE_PRIVATE_H

#include "comm/layout.h"
#include "comm/reduce.h"

enum { LINE = 64, TAG_SUM = 1, TAG_SHARE = 2, TAG_COLLECT = 3, TAG_ROWS = 4 };

typedef struct level { /* of layout.h, for this rank's team */
  int digit;
  int n_out;   /* partial sums after it */
  int *n_left; /* [radix] partial sums before it, of each block */
  tree *sum;   /* of them all; of the first level with the team's own inputs as they are */
} level;

/* One lane of one bucket on its way. stage 0: not begun; i: level i is under way, on the way back from the
 * last one; n_levels + 1: done. */
typedef struct parcel {
  int bucket, lane, stage;
  size_t begin, end;     /* what this rank owns of it in the end */
  MPI_Request *requests; /* of the level under way */
  int n_requests, room;  /* done at once when there are none */
  float *sent;           /* partial sums at the first level, where they must be made */
  float **received;      /* [n_levels] */
  tree_vector *partial;  /* [TREE_DEPTH] what it has come down to so far */
} parcel;

struct reducer {
  comm *c;
  layout *l;
  int n_stats, threads;
  double seconds;
  reduce_dtype dtype;
  status failed; /* while the backward pass went on */

  /* The team's memory, a window or this rank's own. Its head: counters of ranks that are through with a
   * bucket, status codes, the verdict on them, stats. Its floats: parameters, vectors. */
  shared *window;
  char *own_head, *head;
  float *own_floats, *floats;
  size_t status_at, verdict_at, stats_at, head_bytes, n_floats;
  unsigned round; /* steps so far */
  int n_ready;    /* buckets that this rank is through with */

  tree *fold;                 /* the program of one wave, made anew for each */
  tree_node held[TREE_DEPTH]; /* what the folded waves came down to: the node in slot i */
  int n_held;
  tree_vector *fold_inputs, *slots;
  int n_folded;           /* of its inputs the first so many are held; */
  int fold_from, fold_to; /* then come the leaves of these shards */
  float *scratch;

  const reduce_late *late;  /* NULL: the leaves hold everything */
  tree *late_fold;          /* of what is held and what reduce_late.c makes of a wave's leaves */
  tree_vector *late_inputs; /* [threads][wave + TREE_DEPTH] */
  float *late_scratch; /* [threads][late_stride]: a piece of late_room floats for each shard of a wave, and
                          for the sums */
  size_t late_room, late_stride;

  level *levels;
  tree *speak;      /* of the team's inputs: what the others get at the first level */
  bool speak_as_is; /* nothing is to be added up for that: the inputs themselves are sent */
  tree_vector *inputs;
  parcel *parcels;
  int n_parcels;
  float *buffers; /* of all parcels */
  tree_vector *partials;
  float **received;
  MPI_Request *requests; /* of all parcels, then those of rows */
  int n_requests;        /* of all parcels */

  double *rows;               /* [n_shards][n_stats] */
  double *message, *messages; /* worst status and rows of a block, from each block */
};

static inline size_t reduce_rounded(size_t n) {
  return (n + LINE / sizeof(float) - 1) / (LINE / sizeof(float)) * (LINE / sizeof(float));
}

/* Vector i of the team's memory. */
float *reduce_vector(reducer *r, int i);
/* How many of the team's ranks are through with a bucket, of all steps. */
_Atomic unsigned *reduce_counter(reducer *r, int bucket);

/* Local. For sums of the reducer's type. */
status reduce_tree(const reducer *r, tree **out, int n_inputs);

/* Local. Levels, parcels and their memory; the layout is final. */
status exchange_new(reducer *r);
void exchange_free(reducer *r);

/* Local, when this rank is through with some buckets: takes every parcel as far as it can go without waiting,
 * adding up on `threads` threads. */
status exchange_push(reducer *r, int threads);
/* Collective, when all ranks of the team are through with all buckets. Then each parcel's begin..end is
 * summed in partial[0]. */
status exchange_finish(reducer *r);
/* Collective. Parameters begin..end of each parcel to everyone. */
status exchange_share(reducer *r);
/* Collective over the first members of the teams: r->rows of all shards from those of the team's, and the
 * worst status. */
status exchange_rows(reducer *r, int *worst, int *who);

/* Local. The program for what is late, of the fold's wave; `held` is still what that begins with. */
void reduce_prepare_late(reducer *r);
/* Adds the leaves of a wave to what is held. */
void reduce_fold_late(reducer *r);

/* Worst so far: highest code, then lowest rank. */
void reduce_take_worse(int code, int rank, int *worst, int *who);

#endif
