/* What a convolution does besides (op.absorb), in this order: the batch norm that follows, an addition, an
 * activation. */
#ifndef MPISTILL_OPS_CONV_AFTER_H
#define MPISTILL_OPS_CONV_AFTER_H

#include "ops/dnnl.h"

typedef struct conv_after {
  const step *norm; /* NULL: none */
  int sum;          /* which of the convolution's inputs is added, where finish says so */
  finish finish;
} conv_after;

/* Local. Whether `next`, which reads the output of the convolution s as its input `input`, can follow what s
 * does already. */
bool conv_can_follow(const step *s, const step *next, int input);
/* Local. What follows the step. */
void conv_after_read(const step *s, conv_after *a);
/* Local. Whether the convolution has a bias of its own: input 2. */
bool conv_has_bias(const step *s);
/* Local. Whether input i changes only when parameters do. */
bool conv_is_fixed(const step *s, int i);

/* to_weight, to_bias: the convolution that alone does what weight [filters, length] and bias (NULL: none) did
 * with the batch norm behind. */
void conv_fold_norm(const step *norm, int64_t filters, int64_t length, const float *weight, const float *bias,
                    float *to_weight, float *to_bias);

bool conv_is_finite(const float *x, int64_t n);

#endif
