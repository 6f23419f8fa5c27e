/* The fixed binary tree over shards, and sums along it.
 * Node (level, index) covers shards index * 2^level to (index + 1) * 2^level; its children are (level - 1, 2
 * index) and (level - 1, 2 index + 1). Where the right child is missing the node is its left child.
 *
 * A tree sum is a short program: nodes are pushed from left to right, two that have become siblings are added
 * at once, and what is left are the largest nodes that the pushed ones fill.
 *
 *     tree_start(t, n_shards);
 *     tree_push(t, node);                  // input 0
 *     tree_push(t, node);                  // input 1, to the right of it
 *     tree_end(t);                         // output j is t->left[j], j < t->n_left
 *     tree_run(t, inputs, outputs, ...)
 *
 * With bfloat16 set every input and every sum is rounded to it, so that a node is the same numbers whether it
 * was sent as bfloat16 or not. */
#ifndef MPISTILL_COMM_TREE_H
#define MPISTILL_COMM_TREE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* A tree's nodes left over between two pushes are at most one or two a level. */
enum { TREE_DEPTH = 64, TREE_CHUNK = 1024 };

typedef struct tree_node {
  int level, index;
} tree_node;

/* to = the tree sum of n neighbours, 2, 4 or 8 of them in one pass; a copy where n is 1. Places: inputs from
 * 0, n_inputs + j for output j, scratch below 0. */
enum { TREE_FUSED = 8 };
typedef struct tree_add {
  int to, n, from[TREE_FUSED];
} tree_add;

typedef struct tree {
  bool bfloat16;
  int n_shards, n_inputs, n_adds, n_left;
  tree_node left[TREE_DEPTH];
  /* Of left[j]: where it lies; the add that wrote it, -1 for an input; its leftmost input. */
  int place[TREE_DEPTH], maker[TREE_DEPTH], first[TREE_DEPTH];
  tree_add *adds;
  int room;
} tree;

/* Where a vector lies in memory, or the part of it from float `origin` on. */
typedef struct tree_vector {
  float *data;
  size_t origin;
} tree_vector;

/* Local. Room for n_inputs pushes; bfloat16 is false. */
status tree_new(tree **out, int n_inputs);
void tree_free(tree **t);

void tree_start(tree *t, int n_shards);
void tree_push(tree *t, tree_node node);
void tree_end(tree *t);

/* Local. Sums floats begin..end of the inputs into the outputs, chunk by chunk in the first cache, on
 * `threads` threads; the bits do not depend on them. outputs[j] may be the memory of the input that is
 * leftmost in it. scratch: TREE_DEPTH * TREE_CHUNK floats a thread, aligned to 64. begin and all origins are
 * multiples of 16. */
void tree_run(const tree *t, const tree_vector *inputs, const tree_vector *outputs, size_t begin, size_t end,
              int threads, float *scratch);

/* Local. The same sum over rows of doubles, in place: row 0 becomes the sum of n rows of `width`. */
void tree_rows(double *rows, int n, int width);

#endif
