/* What a run costs on a number of ranks, by arithmetic from what was measured on one. Local, pure functions.
 *
 * Time of a training step, the slowest rank's:
 *
 *     compute   shards of a rank, a thread at a time, times the time of one shard
 *     sums      adding all shards of a node, and the optimizer, over this rank's part of the parameters
 *     network   what a node sends at the levels of the reducer (comm/layout.h) over the link, sums on the way
 *               there and parameters on the way back, and a latency for each round of messages. The sums go
 *               while the last shard's backward pass does, but for the last bucket of them.
 *
 * teach: the teachers' batches dealt evenly over ranks and threads, but no less than one block. */
#ifndef MPISTILL_STAGES_COST_H
#define MPISTILL_STAGES_COST_H

#include "comm/reduce.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cluster {
  int64_t ranks, ranks_per_node, threads;
  double link_bytes_per_s; /* out of a node; 0: not known, taken as unlimited */
  double message_s;        /* of a round of messages; 0: what it takes over TCP */
} cluster;

int64_t cluster_nodes(const cluster *k);
int64_t cluster_node_ranks(const cluster *k); /* of the fullest node */

typedef struct cost_step { /* of training, on the slowest rank */
  double compute_s, sums_s, network_s;
  /* Sent by the first node, of sums and parameters. */
  int64_t messages;
  double bytes;
} cost_step;

typedef struct cost_training {
  int64_t shards, steps;
  reduce_dtype dtype;         /* of the sums */
  int64_t n_floats, n_states; /* of the parameter block; of the optimizer, per parameter */
  int64_t late_floats,
      late_copies; /* of the block, made when they are summed; of what a shard's are made of */
  double shard_s, worker_bytes;
  double sum_s, update_s; /* per float and thread */
} cost_training;

/* STATUS_FAILED without memory. */
status cost_of_step(const cost_training *t, const cluster *k, cost_step *out);
double cost_step_seconds(const cost_step *s);

/* Vectors of parameters in a node's memory: leaves of the shards in work, sums that are held, parameters. */
status cost_node_vectors(const cost_training *t, const cluster *k, int64_t *out);
/* Bytes of a rank's own memory for sums, optimizer, copies for late gradients, and partial sums of other
 * nodes. */
status cost_rank_vectors(const cost_training *t, const cluster *k, double *out);

/* Work over rows: n_items units of item_s each, handed out one by one. */
double cost_of_items(double n_items, double item_s, int64_t ranks, int64_t threads);

/* The part of the ranks' time in which they have a shard: 1 is no waste. */
double cost_efficiency(int64_t shards, int64_t ranks, int64_t threads);

#endif
