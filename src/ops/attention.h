/* Attention as one operator: y = softmax(scale q k' + mask) v, for every row and head. No file has it: plans
 * put it in the place of the chain of MatMul, Softmax, MatMul that exporters write, with the scaling, the
 * mask and the transpositions around it. The scores of a head are made, used and forgotten in the cache; for
 * training the probabilities are kept.
 *
 * q [T, D], k [S, D], v [S, E], y [T, E] of each row and head lie anywhere in arrays of any shape: the
 * attribute "layout" is an attention_layout. In inference they may be parts of one array. mask: any array
 * that broadcasts to [row, head, T, S]. Inputs 4 and 5, in inference alone: numbers that the
 * scale, an attribute, is multiplied by.
 *
 * Gradients: dv = p' dy, dp = dy v', ds = p (dp - sum(dp p)), dmask = ds, dq = scale ds k, dk = scale ds' q.
 */
#ifndef MPISTILL_OPS_ATTENTION_H
#define MPISTILL_OPS_ATTENTION_H

#include "graph/op.h"

enum { AXIS_ROW, AXIS_HEAD, AXIS_TOKEN, AXIS_DEPTH, N_AXES };

/* Matrices in an array: the number of its first element, the steps from one element to the next along the
 * axes, in elements. */
typedef struct view {
  int64_t first, step[N_AXES];
} view;

typedef struct attention_layout {
  int64_t rows, heads, tokens, others, depth, width; /* T, S, D, E */
  view q, k, v, y;
} attention_layout;

extern const op op_Attention;

/* Local. Multiplications with an addition that a prepared step takes. */
int64_t attention_macs(const step *s);

/* Local. op.shorten of MatMul, of which the last one of such a chain is, and of the Transpose behind it. */
bool attention_shorten(const step *s, step_maker maker, const void *plan, short_form *out);
bool attention_turn(const step *s, step_maker maker, const void *plan, short_form *out);

#endif
