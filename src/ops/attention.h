/* Attention as one operator: y = softmax(scale q k' + mask) v, for every row and head. No file has it: plans
 * put it in the place of the chain of MatMul, Softmax, MatMul that exporters write, with the scaling, the
 * mask and the transpositions around it. The scores of a head are made, used and forgotten in the cache; for
 * training the probabilities are kept.
 *
 * q [T, D], k [S, D], v [S, E], y [T, E] of each row and head lie in arrays of rank 3 or 4. An attribute of
 * each ("q", "k", "v", "y") says which axes are row, head, token, depth: one octal digit each, ABSENT where
 * there is no such axis. mask: any array that broadcasts to [row, head, T, S].
 *
 * Gradients: dv = p' dy, dp = dy v', ds = p (dp - sum(dp p)), dmask = ds, dq = scale ds k, dk = scale ds' q.
 */
#ifndef MPISTILL_OPS_ATTENTION_H
#define MPISTILL_OPS_ATTENTION_H

#include "graph/op.h"

enum { AXIS_ROW, AXIS_HEAD, AXIS_TOKEN, AXIS_DEPTH, N_AXES, ABSENT = 7 };

extern const op op_Attention;

/* Local, pure. */
int64_t axes_pack(const int axes[N_AXES]);
void axes_unpack(int64_t packed, int axes[N_AXES]);

/* Local. Multiplications with an addition that a prepared step takes. */
int64_t attention_macs(const step *s);

/* Local. op.shorten of MatMul, of which the last one of such a chain is, and of the Transpose behind it. */
bool attention_shorten(const step *s, step_maker maker, const void *plan, short_form *out);
bool attention_turn(const step *s, step_maker maker, const void *plan, short_form *out);

#endif
