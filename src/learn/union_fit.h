/* The distribution that fits several teachers best who know different classes.
 *
 * Classes that the same teachers list keep the ratios of sum_k w_k p_k(c) and count as one: a block. Between
 * the blocks it is
 *
 *     min over v of sum_k w_k KL(p_k || s_k),   log s_k(B) = v_B - log sum_{B of k's list} exp v_B
 *
 * with v_B the logarithm of the mass of block B, and for a teacher with a class for all others s_k(*) the sum
 * over the blocks it does not list, relative to all. */
#ifndef MPISTILL_LEARN_UNION_FIT_H
#define MPISTILL_LEARN_UNION_FIT_H

#include "base/status.h"

#include <stdbool.h>

typedef struct union_fit {
  int n_lists, n_blocks,
      n_pairs;       /* teachers, blocks, and pairs of a teacher and a block it says something of */
  int *first;        /* [n_lists + 1] pairs of each teacher */
  int *list, *block; /* [n_pairs] */
  bool *outside;     /* [n_pairs] a block among its others */
  double *weight;    /* [n_lists] w_k; 0: has no say */
  double *log_p;     /* [n_pairs] that of all others together where outside */
  double *v;         /* [n_blocks] from where to begin, then the result up to a constant */
  struct union_room *room;
} union_fit;

/* Local. Room for so many; first, list, block and outside are then the caller's to fill. */
status union_fit_new(union_fit *f, int n_lists, int n_blocks, int n_pairs);
void union_fit_free(union_fit *f);
/* Local. When the pairs are filled in. */
void union_fit_ready(union_fit *f);
/* Local. Finds v to 1e-10; what log_p holds may be as low as -300. False: not found. */
bool union_fit_solve(union_fit *f);

#endif
