/* One row of Softmax and its gradient, for operators that have it within them. Local. */
#ifndef MPISTILL_OPS_SOFTMAX_H
#define MPISTILL_OPS_SOFTMAX_H

#include <stdbool.h>
#include <stdint.h>

/* y[n] = exp(x) / sum(exp(x)), n > 0; y may be x. */
void softmax_row(float *y, const float *x, int64_t n);
/* d[n] = y (g - sum(g y)); d may be g. */
void softmax_row_gradient(float *d, const float *g, const float *y, int64_t n);

#endif
