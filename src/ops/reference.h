/* The plain kernels: one loop an index, sums in double, no library. They decide what is right; the fast paths
 * are compared with them, and shapes and types that no library knows run on them. All arrays are row-major.
 */
#ifndef MPISTILL_OPS_REFERENCE_H
#define MPISTILL_OPS_REFERENCE_H

#include "ops/window.h"

/* y[i, j] = alpha * sum over p of a[i, p] b[p, j], or added to what y holds. Steps are in elements, so that a
 * transposed matrix is the same memory under other steps. */
typedef struct product {
  int64_t m, n, k;
  int64_t a_row, a_column, b_row, b_column, y_row, y_column;
  double alpha;
  bool accumulate;
} product;

/* float, double, int32 and int64; integers wrap as in C's unsigned arithmetic. */
void product_reference(dtype type, const product *p, const void *a, const void *b, void *y);

/* x [rows, groups * channels, in...], weight [groups * filters, channels, kernel...], y [rows, groups *
 * filters, out...]; channels and filters are those of one group. */
typedef struct convolution {
  window window;
  int64_t rows, groups, channels, filters;
} convolution;

/* y[r, f, o] = bias[f] + sum over c, t of x[r, c, place(o, t)] weight[f, c, t]. bias may be NULL. */
void convolution_reference(const convolution *c, const float *x, const float *weight, const float *bias,
                           float *y, bool accumulate);
void convolution_reference_data(const convolution *c, const float *dy, const float *weight, float *dx,
                                bool accumulate);
void convolution_reference_weight(const convolution *c, const float *x, const float *dy, float *dw,
                                  bool accumulate);
void convolution_reference_bias(const convolution *c, const float *dy, float *db, bool accumulate);

/* Pooling over `planes` = rows * channels planes. index: where in its input plane each maximum was found
 * first, or NULL. */
void pool_reference_max(dtype type, const window *w, int64_t planes, const void *x, void *y, int64_t *index);
void pool_reference_max_backward(const window *w, int64_t planes, const float *dy, const int64_t *index,
                                 float *dx, bool accumulate);
/* The divisor of a window is the number of its taps inside the input or, with `padding`, inside the padded
 * input. */
void pool_reference_average(const window *w, int64_t planes, bool padding, const float *x, float *y);
void pool_reference_average_backward(const window *w, int64_t planes, bool padding, const float *dy,
                                     float *dx, bool accumulate);

/* y = (sum of |x|^p)^(1/p) over the taps inside the input; dx += dy sign(x) (|x| / y)^(p - 1). */
void pool_reference_lp(const window *w, int64_t planes, double p, const float *x, float *y);
void pool_reference_lp_backward(const window *w, int64_t planes, double p, const float *x, const float *y,
                                const float *dy, float *dx);

/* x [rows, channels, extent]. Mean and population variance of every channel. */
void norm_reference_statistics(int64_t rows, int64_t channels, int64_t extent, const float *x, float *mean,
                               float *variance);
/* y = scale (x - mean) / sqrt(variance + epsilon) + bias, all four per channel. */
void norm_reference_forward(int64_t rows, int64_t channels, int64_t extent, const float *x, const float *mean,
                            const float *variance, float epsilon, const float *scale, const float *bias,
                            float *y);
/* The gradients of the line above. batch: mean and variance came from x itself, else they are constants. dx,
 * dscale, dbias: NULL where not wanted. */
void norm_reference_backward(int64_t rows, int64_t channels, int64_t extent, const float *x, const float *dy,
                             const float *mean, const float *variance, float epsilon, bool batch,
                             const float *scale, float *dx, float *dscale, float *dbias,
                             const bool *accumulate);

#endif
