/* Decision trees, flattened: what TreeEnsembleClassifier and TreeEnsembleRegressor share.
 *
 * A row starts at the root of a tree. At a branch it compares one of its features with a value and goes on by
 * `yes` or `no`; a place below zero is the leaf ~place, whose votes are added to the row's sums. */
#ifndef MPISTILL_OPS_FOREST_H
#define MPISTILL_OPS_FOREST_H

#include "graph/op.h"

typedef enum branch_mode {
  BRANCH_LEQ,
  BRANCH_LT,
  BRANCH_GTE,
  BRANCH_GT,
  BRANCH_EQ,
  BRANCH_NEQ,
  BRANCH_LEAF,
  BRANCH_MIXED /* of a forest: not the same at all branches */
} branch_mode;

typedef struct branch {
  float value;
  unsigned feature : 31;
  unsigned missing_yes : 1; /* a NaN goes by yes */
  int32_t yes, no;
} branch;

typedef struct vote {
  int32_t target;
  float weight;
} vote;

typedef struct leaf {
  int32_t first, n; /* its votes */
} leaf;

typedef struct forest {
  int n_trees;
  int32_t *roots;      /* [n_trees] places, in the order of the trees' ids */
  int32_t *leaves_end; /* [n_trees] the first leaf behind the tree's own, which follow each other */
  int32_t n_branches, n_leaves, n_votes;
  branch *branches; /* depth first, yes before no */
  uint8_t *modes;   /* [n_branches] */
  leaf *leaves;
  vote *votes;
  branch_mode mode;
  int64_t features, targets; /* one more than the largest index used */
} forest;

/* Local. Reads nodes_* and PREFIX_treeids, _nodeids, _ids, _weights ("class", "target"). STATUS_BAD_INPUT
 * when the nodes are no trees. */
status forest_new(forest **out, const step *s, const char *prefix);
void forest_free(forest **f);

/* leaves[n] of tree `tree` for rows x[n][d], d >= f->features. */
void forest_walk(const forest *f, int tree, const float *x, int64_t n, int64_t d, int32_t *leaves);

#endif
