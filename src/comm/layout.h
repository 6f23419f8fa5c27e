/* Who owns what in a reducer: the same on every rank, computed once.
 *
 * Ranks stand in the order (node, rank): their positions. Shards are dealt by position, so that the shards of
 * a node are one range. A team is the ranks that share memory: those of a node that has a window, else a rank
 * alone.
 *
 * The vector is cut into buckets, the last floats first, as the backward pass finishes them; each bucket into
 * lanes, one for each rank of the largest team. In each team one member serves a lane: it speaks with the
 * members of the other teams that serve the same one.
 *
 * Teams exchange in levels. Before level i, blocks of span[i] neighbouring teams have their shards added up,
 * each team those of one part of the lane. At the level, radix[i] neighbouring blocks become one: each team
 * cuts its part into radix[i] parts, sends the others', and adds up its own. So far more is sent to near
 * teams than to far ones, sums follow the tree, and at the end each team owns one part of the lane. The
 * parameters go the same way back. */
#ifndef MPISTILL_COMM_LAYOUT_H
#define MPISTILL_COMM_LAYOUT_H

#include "comm/internal.h"
#include "comm/reduce.h"
#include "comm/tree.h"

typedef struct member {
  int rank, leader; /* leader: of its node */
  int team;
  int from, to; /* shards */
  int n_waves;
  int n_leaves, n_slots; /* vectors in the team's memory; slots hold partial sums of finished waves */
  int n_inputs;     /* of the tree: the leaves of a single wave (not after layout_fold), else what its waves
                       come down to */
  int first_vector; /* its leaves, then its slots */
} member;

typedef struct team {
  int first, n; /* positions */
  int from, to; /* shards */
  int n_vectors, n_inputs;
  int n_left; /* what its shards come down to */
  tree_node left[TREE_DEPTH];
} team;

enum { LAYOUT_BUCKETS = 8 };

typedef struct layout {
  int n_shards, size, position;
  int wave;                /* shards of a full wave: a power of two */
  bool folded;             /* a single wave's leaves are added up as those of several are */
  size_t n_floats, stride; /* stride: of a vector, a multiple of 16 floats */
  int n_teams, n_buckets, n_lanes;
  int n_levels, radix[REDUCE_LEVELS];
  int span[REDUCE_LEVELS + 1];
  member *members; /* [size] by position */
  team *teams;
  tree *work; /* for any program over the shards of a team */
} layout;

/* Collective. Teams are the nodes. */
status layout_new(layout **out, comm *c, int n_shards, size_t n_floats, int threads);
void layout_free(layout **l);
/* Collective. Nodes whose ranks say that they have no window become teams of one rank. */
status layout_split(layout *l, comm *c, bool has_window);

/* Local, on all ranks or none. The sums of a member's only wave lie in its leaves: each where its leftmost
 * one was. */
void layout_fold(layout *l);

const member *layout_me(const layout *l);
const team *layout_my_team(const layout *l);
/* Which of the radix[level] blocks a team stands in, and the team in its place in block `digit`. */
int layout_digit(const layout *l, int team, int level);
int layout_peer(const layout *l, int team, int level, int digit);
/* The floats of a bucket and lane that `team` has after `levels` levels: all of the lane's after none. */
void layout_part(const layout *l, int bucket, int lane, int team, int levels, size_t *begin, size_t *end);
/* The first float of a bucket; it ends where the one before begins. */
size_t layout_bucket(const layout *l, int bucket);
/* The position of the member that serves a lane. */
int layout_server(const layout *l, int team, int lane);
/* The lanes that a position serves are first, first + step, ... below n_lanes. */
void layout_lanes(const layout *l, int position, int *first, int *step);
/* The shards of the block of span[level] teams that `team` is in. */
void layout_shards(const layout *l, int team, int level, int *from, int *to);
/* The nodes they come down to, *n_left of them: valid until the next call. */
const tree_node *layout_block(layout *l, int team, int level, int *n_left);
/* Wave `wave` of a member: shards from..to. */
void layout_wave(const layout *l, const member *m, int wave, int *from, int *to);
/* Pushes the inputs of a member, of a team. */
void layout_push_member(layout *l, tree *t, const member *m);
void layout_push_team(layout *l, tree *t, const team *who);
/* The vector of a member's i-th input in its team's memory. */
int layout_input(layout *l, const member *m, int i);

#endif
