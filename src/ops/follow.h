/* What a product does besides (op.absorb): adds a bias, then GELU. */
#ifndef MPISTILL_OPS_FOLLOW_H
#define MPISTILL_OPS_FOLLOW_H

#include "ops/dnnl.h"
#include "ops/support.h"

/* Local. Whether `next`, which reads the output of the product s as its input `input`, adds a bias to it, or
 * is an activation that can follow what s does already. */
bool follow_is_bias(const step *s, const step *next, int input);
bool follow_is_activation(const step *s, const step *next);
/* Local. What follows the step. */
void follow_read(const step *s, bool *bias, activation *after);
/* Local. The bias that stands behind the step's own n_own inputs, NULL where there is none. */
const float *follow_bias(const step *s, int n_own);

#endif
