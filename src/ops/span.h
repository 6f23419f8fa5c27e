/* Passes over contiguous floats that normalisation makes. Sums run in 16 lanes whatever the vector width of
 * the processor, so that their bits depend on n alone. */
#ifndef MPISTILL_OPS_SPAN_H
#define MPISTILL_OPS_SPAN_H

#include <stdbool.h>
#include <stdint.h>

float span_sum(const float *x, int64_t n);
float span_squares(const float *x, float center, int64_t n); /* of (x - center)^2 */

/* y = (x - center) scale + bias. x and y may be the same array. */
void span_affine(const float *x, float center, float scale, float bias, float *y, int64_t n);

/* *plain = the sum of dy, *centered = the sum of dy (x - center). */
void span_moments(const float *x, const float *dy, float center, int64_t n, float *plain, float *centered);

/* dx (+)= scale (dy - plain - (x - center) centered). dx may be dy. */
void span_gradient(const float *x, const float *dy, float center, float scale, float plain, float centered,
                   bool add, float *dx, int64_t n);

#endif
