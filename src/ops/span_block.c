#include "ops/span_block.h"

#include "ops/support.h"

/* Elements of a plane whose channels are added up beside each other: keeps the adders busy. So many are added
 * up as floats before they go into the sums, which are double. */
enum { BESIDE = 4, PIECE = 64 };

static int64_t piece_length(int64_t n) {
  return n < PIECE ? n : PIECE;
}

typedef float lanes[BESIDE][SPAN_BLOCK_MAX];

/* The loops below are written for one block and compiled for each. */
#define FOR_BLOCK(call)                                                                                      \
  do {                                                                                                       \
    if (block == 16) {                                                                                       \
      enum { B = 16 };                                                                                       \
      call;                                                                                                  \
    } else {                                                                                                 \
      enum { B = 8 };                                                                                        \
      call;                                                                                                  \
    }                                                                                                        \
  } while (0)

#define EACH_CHANNEL _Pragma("omp simd") for (int c = 0; c < B; c++)

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void add_lanes(const lanes sum, int64_t block, double *sums) {
  for (int c = 0; c < block; c++) sums[c] += (sum[0][c] + sum[2][c]) + (sum[1][c] + sum[3][c]);
}

ALWAYS_INLINE void sum_lanes(const float *x, int64_t n, const int B, lanes sum) {
  int64_t i = 0;
  for (; i + BESIDE <= n; i += BESIDE, x += BESIDE * B)
    for (int k = 0; k < BESIDE; k++) EACH_CHANNEL sum[k][c] += x[k * B + c];
  for (; i < n; i++, x += B) EACH_CHANNEL sum[0][c] += x[c];
}

FOR_EACH_PROCESSOR void span_block_sum(const float *x, int64_t n, int64_t block, double *sums) {
  for (int64_t m; n > 0; n -= m, x += m * block) {
    lanes sum = {{0}};
    m = piece_length(n);
    FOR_BLOCK(sum_lanes(x, m, B, sum));
    add_lanes(sum, block, sums);
  }
}

ALWAYS_INLINE void square_lanes(const float *x, const float *center, int64_t n, const int B, lanes sum) {
  int64_t i = 0;
  for (; i + BESIDE <= n; i += BESIDE, x += BESIDE * B)
    for (int k = 0; k < BESIDE; k++) EACH_CHANNEL {
        const float d = x[k * B + c] - center[c];
        sum[k][c] += d * d;
      }
  for (; i < n; i++, x += B) EACH_CHANNEL sum[0][c] += (x[c] - center[c]) * (x[c] - center[c]);
}

FOR_EACH_PROCESSOR void span_block_squares(const float *x, const float *center, int64_t n, int64_t block,
                                           double *sums) {
  for (int64_t m; n > 0; n -= m, x += m * block) {
    lanes sum = {{0}};
    m = piece_length(n);
    FOR_BLOCK(square_lanes(x, center, m, B, sum));
    add_lanes(sum, block, sums);
  }
}

ALWAYS_INLINE void affine(const float *x, const float *center, const float *scale, const float *bias,
                          float *y, int64_t n, const int B) {
  for (int64_t i = 0; i < n; i++, x += B, y += B) EACH_CHANNEL y[c] = (x[c] - center[c]) * scale[c] + bias[c];
}

FOR_EACH_PROCESSOR void span_block_affine(const float *x, const float *center, const float *scale,
                                          const float *bias, float *y, int64_t n, int64_t block) {
  FOR_BLOCK(affine(x, center, scale, bias, y, n, B));
}

ALWAYS_INLINE void moment_lanes(const float *x, const float *dy, const float *center, int64_t n, const int B,
                                lanes a, lanes b) {
  int64_t i = 0;
  for (; i + BESIDE <= n; i += BESIDE, x += BESIDE * B, dy += BESIDE * B)
    for (int k = 0; k < BESIDE; k++) EACH_CHANNEL {
        a[k][c] += dy[k * B + c];
        b[k][c] += dy[k * B + c] * (x[k * B + c] - center[c]);
      }
  for (; i < n; i++, x += B, dy += B) EACH_CHANNEL {
      a[0][c] += dy[c];
      b[0][c] += dy[c] * (x[c] - center[c]);
    }
}

FOR_EACH_PROCESSOR void span_block_moments(const float *x, const float *dy, const float *center, int64_t n,
                                           int64_t block, double *plain, double *centered) {
  for (int64_t m; n > 0; n -= m, x += m * block, dy += m * block) {
    lanes a = {{0}}, b = {{0}};
    m = piece_length(n);
    FOR_BLOCK(moment_lanes(x, dy, center, m, B, a, b));
    add_lanes(a, block, plain);
    add_lanes(b, block, centered);
  }
}

ALWAYS_INLINE void gradient(const float *x, const float *dy, const float *center, const float *scale,
                            const float *plain, const float *centered, bool add, float *dx, int64_t n,
                            const int B) {
  for (int64_t i = 0; i < n; i++, x += B, dy += B, dx += B) EACH_CHANNEL {
      const float part = scale[c] * (dy[c] - plain[c] - (x[c] - center[c]) * centered[c]);
      dx[c] = add ? dx[c] + part : part;
    }
}

FOR_EACH_PROCESSOR void span_block_gradient(const float *x, const float *dy, const float *center,
                                            const float *scale, const float *plain, const float *centered,
                                            bool add, float *dx, int64_t n, int64_t block) {
  if (add) {
    FOR_BLOCK(gradient(x, dy, center, scale, plain, centered, true, dx, n, B));
  } else {
    FOR_BLOCK(gradient(x, dy, center, scale, plain, centered, false, dx, n, B));
  }
}
