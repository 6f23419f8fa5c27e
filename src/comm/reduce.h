/* The tree all-reduce of gradient shards: the same bits on any number of ranks and threads.
 *
 * A global batch has n_shards shards. The sum over them pairs shards (2i, 2i+1), then these sums, and so on;
 * where a right neighbour is missing the left passes through. Ranks own contiguous ranges of shards, cut at
 * tree boundaries where that balances (reduce_range). Each rank owns one slice of the vector: it reads every
 * partial sum of that slice, in the tree's order, updates its slice of the parameters, and all slices are
 * handed to all.
 *
 *     reducer *r;
 *     reducer_new(&r, c, n_shards, n_floats, n_stats, threads);
 *     for each step:
 *       for each wave w < reducer_waves(r):
 *         reducer_wave(r, w, &from, &to);                 // shards from..to of this rank
 *         each thread, for its shards s of from..to:
 *           write reducer_leaf(r, s)[n_floats] and reducer_stats(r, s)[n_stats]
 *         reducer_fold(r, w);
 *       reducer_sum(r, mine, &slice, &begin, &end, totals);
 *       update parameters begin..end with slice[0..end - begin)
 *       reducer_share(r);                                 // now reducer_parameters(r) is whole
 *
 * The ranks of a node work in one shared window without a copy. Between nodes, and where no window can be
 * had, a node's sums of a slice go to the slice's owner as one message and its parameters come back as
 * another, in the same order of additions. Ranks beyond n_shards own no shard but do own a slice. */
#ifndef MPISTILL_COMM_REDUCE_H
#define MPISTILL_COMM_REDUCE_H

#include "comm/comm.h"

typedef struct reducer reducer;

/* Slices are cut at multiples of this many floats: sums over pieces of this size belong to one rank. */
enum { REDUCE_SLICE = 256 };

/* The range of shards that rank `rank` of `size` owns. Pure function. The largest load is the least there can
 * be, n_shards / size rounded up; from left to right each cut lies as high in the tree as that allows, with
 * no rank left empty: 8 shards on 3 ranks are 2 + 3 + 3, 48 on 3 are 16 each. With more ranks than shards the
 * first n_shards ranks own one each. (A reducer over several nodes counts its ranks node by node: ask
 * reducer_wave.) */
void reduce_range(int n_shards, int size, int rank, int *from, int *to);

/* Collective. Memory: leaves of one wave (at most max(8, threads rounded up) shards), log2 partial sums, and
 * one vector of parameters a node (or a rank, where no window can be had). */
status reducer_new(reducer **out, comm *c, int n_shards, size_t n_floats, int n_stats, int threads);
void reducer_free(reducer **r); /* collective, before comm_end */
/* The same on all ranks. False: a node of several ranks has no shared memory and uses messages; worth a
 * warning, the sums are the same. */
bool reducer_is_shared(const reducer *r);

int reducer_waves(const reducer *r); /* 0 on a rank without shards */
void reducer_wave(const reducer *r, int wave, int *from, int *to);
float *reducer_leaf(reducer *r, int shard); /* [n_floats], 64-byte aligned; only shards of the current wave */
double *reducer_stats(reducer *r, int shard); /* [n_stats] */
void reducer_fold(reducer *r, int wave);      /* local */

/* Collective. The sum over all shards of this rank's slice [begin, end) (slice borrowed until reducer_share),
 * and of the stats of all shards (totals[n_stats], the same on all ranks, also summed by the tree). begin is
 * a multiple of REDUCE_SLICE, and so is end but for the last slice, which ends at n_floats. If a rank passed
 * `mine` != STATUS_OK, all ranks return the agreed status with its message, and the next wave may begin;
 * after STATUS_OK reducer_share must come first, also where nothing was updated. */
status reducer_sum(reducer *r, status mine, float **slice, size_t *begin, size_t *end, double *totals);

/* [n_floats], aligned to 64: what all ranks see after reducer_share; a rank writes only its slice, between
 * reducer_sum and reducer_share. To set all of it: every rank writes its slice, then reducer_share. */
float *reducer_parameters(reducer *r);
void reducer_slice(const reducer *r, size_t *begin, size_t *end);
status reducer_share(reducer *r); /* collective */

/* Collective. A vector of which each rank holds its slice, whole on rank 0: whole[n_floats] there, ignored
 * elsewhere. For checkpoints. */
status reducer_collect(reducer *r, const float *slice, float *whole);

/* Seconds this rank has spent in reducer_sum and reducer_share since it was made. */
double reducer_seconds(const reducer *r);

#endif
