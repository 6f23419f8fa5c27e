/* The tree all-reduce of gradient shards: the same bits on any number of ranks and threads.
 *
 * A global batch has n_shards shards. The sum over them pairs shards (2i, 2i+1), then these sums, and so on;
 * where a right neighbour is missing the left passes through. Ranks own contiguous ranges of shards, cut at
 * tree boundaries where that balances (reduce_range). Each rank owns parts of the vector: it gets their sum,
 * updates these parameters, and all parts are handed to all.
 *
 *     reducer *r;
 *     reducer_new(&r, c, n_shards, n_floats, n_stats, threads, REDUCE_FLOAT32);
 *     reducer_make_late(r, late);                       // optional: matrices that no leaf holds
 *     for each step:
 *       for each wave w < reducer_waves(r):
 *         reducer_wave(r, w, &from, &to);                 // shards from..to of this rank
 *         each thread, for its shards s of from..to:
 *           write reducer_leaf(r, s)[n_floats] and reducer_stats(r, s)[n_stats]
 *           in the last wave, now and then, the main thread: reducer_ready(r, i)     // floats i.. are final
 *         reducer_fold(r, w);
 *       reducer_sum(r, mine, totals);
 *       for each part p < reducer_n_parts(r):
 *         sum = reducer_part(r, p, &begin, &end);
 *         update parameters begin..end with sum[0..end - begin)
 *       reducer_share(r);                                 // now reducer_parameters(r) is whole
 *
 * The ranks of a node work in one shared window without a copy. Nodes, and ranks where no window can be had,
 * exchange sums and parameters by messages, of near ones first, in the same order of additions (layout.h says
 * how). Where reducer_ready is called this goes on while the backward pass does. */
#ifndef MPISTILL_COMM_REDUCE_H
#define MPISTILL_COMM_REDUCE_H

#include "comm/comm.h"

typedef struct reducer reducer;

/* Parts are cut at multiples of this many floats: sums over pieces of this size belong to one rank. */
enum { REDUCE_SLICE = 256 };

/* The range of shards that rank `rank` of `size` owns. Pure function. The largest load is the least there can
 * be, n_shards / size rounded up; from left to right each cut lies as high in the tree as that allows, with
 * no rank left empty: 8 shards on 3 ranks are 2 + 3 + 3, 48 on 3 are 16 each. With more ranks than shards the
 * first n_shards ranks own one each. (A reducer over several nodes counts its ranks node by node: ask
 * reducer_wave.) */
void reduce_range(int n_shards, int size, int rank, int *from, int *to);
/* How nodes exchange: at level i each with radix[i] - 1 others (layout.h). Small factors of n_nodes go
 * together, so that a level is worth its latency. Returns the number of levels, at least 1. Pure. */
enum { REDUCE_LEVELS = 32 };
int reduce_levels(int n_nodes, int *radix);
/* In how many pieces the vector goes from node to node. Pure. */
int reduce_buckets(size_t n_floats, int n_nodes);

/* What sums are rounded to, at every node of the tree: the same on any number of ranks. Of bfloat16 nodes
 * send each other half the bytes, of sums; parameters are sent as they are. */
typedef enum reduce_dtype { REDUCE_FLOAT32, REDUCE_BFLOAT16 } reduce_dtype;

/* Collective. Memory: leaves of one wave (at most max(8, threads rounded up) shards), log2 partial sums, and
 * one vector of parameters a node (or a rank, where no window can be had). */
status reducer_new(reducer **out, comm *c, int n_shards, size_t n_floats, int n_stats, int threads,
                   reduce_dtype dtype);
void reducer_free(reducer **r); /* collective, before comm_end */
/* The same on all ranks. False: a node of several ranks has no shared memory and uses messages; worth a
 * warning, the sums are the same. */
bool reducer_is_shared(const reducer *r);

/* Matrices in the vector that no leaf holds: their rows are made when they are added up, those of all shards
 * of a wave while they are in the cache. They come in the order of the vector; begin is a multiple of 16;
 * what follows the end up to the next one is nobody's. */
typedef struct reduce_matrix {
  size_t begin;
  int64_t rows, columns;
} reduce_matrix;

typedef struct reduce_late {
  const reduce_matrix *matrices;
  int n;
  /* Rows from..to of matrix i of a shard into y[to - from, columns], aligned to 64, or added to what is
   * there; called by any thread, while reducer_fold runs. */
  void (*make)(void *data, int shard, int i, int64_t from, int64_t to, bool add, float *y);
  void *data;
} reduce_late;

/* Local, before the first step, the same on all ranks, and not where reducer_overlaps. Borrowed. */
status reducer_make_late(reducer *r, const reduce_late *late);

int reducer_waves(const reducer *r); /* 0 on a rank without shards */
void reducer_wave(const reducer *r, int wave, int *from, int *to);
float *reducer_leaf(reducer *r, int shard); /* [n_floats], 64-byte aligned; only shards of the current wave */
double *reducer_stats(reducer *r, int shard); /* [n_stats] */
void reducer_fold(reducer *r, int wave);      /* local */

/* Whether reducer_ready does anything of use: there are other nodes, and MPISTILL_OVERLAP is not 0. */
bool reducer_overlaps(const reducer *r);
/* Local, main thread. Floats `from` and beyond of all leaves of this rank's last wave are final: what the
 * other nodes need of them is sent, and what has come is added up. Does not wait. */
void reducer_ready(reducer *r, size_t from);

/* Collective. The sum over all shards of what this rank owns, in reducer_part, and of the stats of all shards
 * (totals[n_stats], the same on all ranks, also summed by the tree). If a rank passed `mine` != STATUS_OK,
 * all ranks return the agreed status with its message, and the next wave may begin; after STATUS_OK
 * reducer_share must come first, also where nothing was updated. */
status reducer_sum(reducer *r, status mine, double *totals);

/* What this rank owns: parts [*begin, *end), which may be empty, reducer_owned floats together. Returned: the
 * part's sum, borrowed between reducer_sum and reducer_share. *begin is a multiple of REDUCE_SLICE, and so is
 * *end but for the last part of all, which ends at n_floats. */
int reducer_n_parts(const reducer *r);
float *reducer_part(const reducer *r, int i, size_t *begin, size_t *end);
size_t reducer_owned(const reducer *r);

/* [n_floats], aligned to 64: what all ranks see after reducer_share; a rank writes only its parts, between
 * reducer_sum and reducer_share. */
float *reducer_parameters(reducer *r);
/* Local. Sets n parameters from `offset` on, where this rank owns them; every rank does, then reducer_share.
 */
void reducer_write(reducer *r, size_t offset, const float *values, size_t n);
status reducer_share(reducer *r); /* collective */

/* Collective. A vector of which each rank holds its parts, one behind the other, whole on rank 0:
 * whole[n_floats] there, ignored elsewhere. For checkpoints. */
status reducer_collect(reducer *r, const float *owned, float *whole);

/* Seconds this rank has spent in reducer_sum and reducer_share since it was made. */
double reducer_seconds(const reducer *r);

#endif
