/* Normalisation of planes, used by BatchNormalization and InstanceNormalization: vector loops on row-major
 * arrays. oneDNN's batch normalisation was 4 to 7 times slower on these. */
#ifndef MPISTILL_OPS_NORM_H
#define MPISTILL_OPS_NORM_H

#include <stdbool.h>
#include <stdint.h>

/* x [rows, channels, extent], with its channels in blocks where `block` is not 0 (tensor.block). */
typedef struct planes {
  int64_t rows, channels, extent, block;
} planes;

/* Mean and population variance of every channel. */
void norm_statistics(const planes *p, const float *x, float *mean, float *variance);

/* y = scale (x - mean) / sqrt(variance + epsilon) + bias; scratch: 2 * channels floats. */
void norm_forward(const planes *p, const float *x, const float *mean, const float *variance, float epsilon,
                  const float *scale, const float *bias, float *y, float *scratch);

/* The gradients of that line, with n = rows * extent, h = (x - mean) / sqrt(variance + epsilon):
 *     dbias = sum dy,  dscale = sum dy h,  dx = scale / sqrt(variance + epsilon) * (dy - dbias / n - h dscale
 * / n) and without the two latter terms when mean and variance are constants (batch false). dx, dscale and
 * dbias: NULL where not wanted; accumulate[0..2]: to be added. scratch: 3 * channels floats. */
void norm_backward(const planes *p, const float *x, const float *dy, const float *mean, const float *variance,
                   float epsilon, bool batch, const float *scale, float *dx, float *dscale, float *dbias,
                   const bool *accumulate, float *scratch);

#endif
