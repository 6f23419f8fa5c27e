/* The passes of span.h over planes whose channels stand in a block of 8 or 16: x [n, block]; per-channel
 * arrays have SPAN_BLOCK_MAX places. Sums run in lanes and pieces of a fixed size, so that their bits depend
 * on n alone. */
#ifndef MPISTILL_OPS_SPAN_BLOCK_H
#define MPISTILL_OPS_SPAN_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { SPAN_BLOCK_MAX = 16 };

/* sums[c] += the sum. */
void span_block_sum(const float *x, int64_t n, int64_t block, double *sums);
void span_block_squares(const float *x, const float *center, int64_t n, int64_t block, double *sums);
void span_block_affine(const float *x, const float *center, const float *scale, const float *bias, float *y,
                       int64_t n, int64_t block);
/* plain[c] += , centered[c] += */
void span_block_moments(const float *x, const float *dy, const float *center, int64_t n, int64_t block,
                        double *plain, double *centered);
void span_block_gradient(const float *x, const float *dy, const float *center, const float *scale,
                         const float *plain, const float *centered, bool add, float *dx, int64_t n,
                         int64_t block);

#endif
