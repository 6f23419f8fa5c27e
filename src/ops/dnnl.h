/* Convolution, pooling and products on oneDNN. Only dnnl*.c include the library's header.
 *
 * A kernel is made once for one shape and used by one thread at a time. What it needs while running (its
 * arrays in the library's own formats, the library's workspace) lies in `scratch`, which the caller gives to
 * every call: aligned to 64 bytes, not zeroed, nothing in it outlives a call. Arrays are row-major or
 * have their channels in blocks, as asked for; conversion to what the library wants happens inside. */
#ifndef MPISTILL_OPS_DNNL_H
#define MPISTILL_OPS_DNNL_H

#include "ops/reference.h"

/* "oneDNN 2.6.0 AVX2" */
const char *dnnl_description(void);

/* The channels of a block that its convolutions like on this processor (tensor.block). */
int64_t dnnl_block(void);

typedef enum activation {
  ACTIVATION_NONE,
  ACTIVATION_GELU,
  ACTIVATION_GELU_TANH,
  ACTIVATION_RELU, /* x < 0 ? a x : x */
  ACTIVATION_CLIP, /* to [a, b] */
  ACTIVATION_HARD_SWISH
} activation;

/* What a kernel does with its results before it writes them: adds what y holds, then the activation. Those
 * but GELU may lose a NaN. */
typedef struct finish {
  bool sum;
  activation after;
  float a, b;
} finish;

typedef struct conv_kernel conv_kernel;

typedef struct conv_options {
  bool bias;
  bool data, weight;        /* backward will be asked for these gradients; weight: those of weight and bias */
  int64_t block_x, block_y; /* of the arrays, and of their gradients (tensor.block) */
  finish finish;            /* not with gradients */
} conv_options;

/* *out becomes NULL (and the status OK) when the library has no kernel for this shape. Free with
 * conv_kernel_free. */
status conv_kernel_new(conv_kernel **out, const convolution *c, const conv_options *o);
/* Local. Whether the library has one; where an array is in blocks: one that takes it as it is, and is fast.
 */
status conv_kernel_exists(const convolution *c, const conv_options *o, bool *out);
void conv_kernel_free(conv_kernel **k);
size_t conv_kernel_scratch_bytes(const conv_kernel *k);

/* Converts the weight once, for all calls until the next load. */
status conv_kernel_load(conv_kernel *k, const float *weight);
status conv_kernel_forward(conv_kernel *k, const float *x, const float *bias, float *y, void *scratch);
/* Overwrites dx, dw and db; those may be NULL that were not asked for. dw and db are only made together (db:
 * with bias). */
status conv_kernel_backward(conv_kernel *k, const float *x, const float *dy, float *dx, float *dw, float *db,
                            void *scratch);

typedef struct product_shape {
  int64_t batch, m, n, k;
  bool turned, transposed, bias, add;
  activation after; /* without numbers of its own */
  bool fast;        /* only by kernels for AVX-512, which do not pack whole matrices as OpenBLAS does */
} product_shape;

/* The k up to which products are for these kernels and in one piece for dnnl_product: they add up a long row
 * in one go, which is less exact than OpenBLAS's sums of pieces (VGG's 25,088: twice its distance from
 * double). */
enum { PRODUCT_K_MAX = 4096 };

typedef struct product_kernel product_kernel;

/* batch times y[m, n] = after(x[m, k] w + bias[n]), or of y + x w with `add`; x is [k, m] with `turned`; w is
 * [k, n] or, with `transposed`, [n, k], which stands as it is: no rank or thread has a copy of its own. *out
 * becomes NULL when the library has no kernel for this. */
status product_kernel_new(product_kernel **out, const product_shape *p);
void product_kernel_free(product_kernel **k);
size_t product_kernel_scratch_bytes(const product_kernel *k);
/* bias: NULL where there is none in the shape. */
status product_kernel_run(product_kernel *k, const float *x, const float *w, const float *bias, float *y,
                          void *scratch);

/* Local. Floats of the widest vectors that this processor has and ONEDNN_MAX_CPU_ISA allows: 16 AVX-512, 8
 * AVX2 with fused multiply-adds, 4 less. */
int dnnl_vector_floats(void);

/* Local. blas_product_rows. False when nothing was done: the library has no kernel of its own for this
 * processor, or no memory. */
bool dnnl_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t a_row, const float *b, int64_t b_row, float beta, float *y, int64_t y_row);

typedef enum pool_kind {
  POOL_MAX,
  POOL_AVERAGE,       /* over the taps inside the input */
  POOL_AVERAGE_PADDED /* over all taps */
} pool_kind;

typedef struct pool_kernel pool_kernel;

/* block_x, block_y: of the arrays and their gradients; pooling is done in x's format. */
status pool_kernel_new(pool_kernel **out, pool_kind kind, const window *w, int64_t rows, int64_t channels,
                       int64_t block_x, int64_t block_y, bool backward);
void pool_kernel_free(pool_kernel **k);
size_t pool_kernel_scratch_bytes(const pool_kernel *k);
size_t pool_kernel_saved_bytes(const pool_kernel *k);

/* saved: what backward needs from forward (the place of each maximum). */
status pool_kernel_forward(pool_kernel *k, const float *x, float *y, void *saved, void *scratch);
status pool_kernel_backward(pool_kernel *k, const float *dy, float *dx, const void *saved, void *scratch);

#endif
