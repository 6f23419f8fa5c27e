/* Who owns what in a reducer: the same on every rank, computed once.
 *
 * Ranks stand in the order (node, rank): their positions. Shards and slices are dealt by position, so that
 * the shards of a node are one range. A team is the ranks that share memory: those of a node that has a
 * window, else a rank alone. For each slice owned elsewhere one member of the team speaks for it: it sums the
 * team's shards of that slice, sends them to the owner, and receives the owner's parameters. */
#ifndef MPISTILL_COMM_LAYOUT_H
#define MPISTILL_COMM_LAYOUT_H

#include "comm/internal.h"
#include "comm/tree.h"

typedef struct member {
  int rank, leader; /* leader: of its node */
  int team;
  int from, to; /* shards */
  int n_waves;
  int n_leaves, n_slots; /* vectors in the team's memory; slots hold partial sums of finished waves */
  int n_inputs;          /* of the tree: the leaves of a single wave, else what its waves come down to */
  int first_vector;      /* its leaves, then its slots */
} member;

typedef struct team {
  int first, n; /* positions */
  int from, to; /* shards */
  int n_vectors, n_inputs;
  int n_left; /* what its shards come down to */
  tree_node left[TREE_DEPTH];
} team;

typedef struct layout {
  int n_shards, size, position;
  int wave;                /* shards of a full wave: a power of two */
  int most_shards;         /* of one rank */
  size_t n_floats, stride; /* stride: of a vector, a multiple of 16 floats */
  int n_teams;
  member *members; /* [size] by position */
  team *teams;
  tree *work; /* for any program over the shards of a team */
} layout;

/* Collective. Teams are the nodes. */
status layout_new(layout **out, comm *c, int n_shards, size_t n_floats, int threads);
void layout_free(layout **l);
/* Collective. Nodes whose ranks say that they have no window become teams of one rank. */
status layout_split(layout *l, comm *c, bool has_window);

const member *layout_me(const layout *l);
const team *layout_my_team(const layout *l);
/* The slice of a position. */
void layout_slice(const layout *l, int position, size_t *begin, size_t *end);
/* The position of the member of `t` that speaks for the slice of `position`: its owner in the owner's own
 * team. */
int layout_speaker(const team *t, int position);
/* Wave `wave` of a member: shards from..to. */
void layout_wave(const layout *l, const member *m, int wave, int *from, int *to);
/* Pushes the inputs of a member, of a team. */
void layout_push_member(layout *l, tree *t, const member *m);
void layout_push_team(layout *l, tree *t, const team *who);
/* The vector of a member's i-th input in its team's memory. */
int layout_input(const member *m, int i);

#endif
