/* MaxPool of windows that do not overlap, over channels in blocks (tensor.block): every input is read once,
 * and which tap was the largest is kept in a byte. */
#ifndef MPISTILL_OPS_POOL_BLOCKS_H
#define MPISTILL_OPS_POOL_BLOCKS_H

#include "ops/window.h"

/* Local. Whether the windows are such, without padding, and the blocks of input and output alike. */
bool pool_blocks_suit(const window *w, int64_t block_x, int64_t block_y);

/* Local. x[planes, inputs, block], y and index [planes, outputs, block]: planes of `block` channels. index:
 * the largest tap's number. The first of equal maxima wins; a NaN wins over all. */
void pool_blocks_max(const window *w, int64_t planes, int64_t block, const float *x, float *y,
                     uint8_t *index);
/* Local. dx = or += what flows back to it. */
void pool_blocks_max_backward(const window *w, int64_t planes, int64_t block, const float *dy,
                              const uint8_t *index, float *dx, bool add);

#endif
