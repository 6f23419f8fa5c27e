#include "ops/pool_blocks.h"

#include "ops/support.h"

#include <string.h>

enum { MOST_TAPS = 9 };

/* One row of windows, of `block` channels: x[i][l] is the first tap of window i in channel l. */
typedef struct windows {
  int64_t n, step; /* windows; floats from one to the next */
  int64_t taps, offsets[MOST_TAPS];
} windows;

static windows windows_of(const window *w, int64_t block) {
  windows r = {.n = w->out[2], .step = w->stride[2] * block};
  for (int64_t k0 = 0; k0 < w->kernel[0]; k0++)
    for (int64_t k1 = 0; k1 < w->kernel[1]; k1++)
      for (int64_t k2 = 0; k2 < w->kernel[2]; k2++)
        r.offsets[r.taps++] = ((k0 * w->in[1] + k1) * w->in[2] + k2) * block;
  return r;
}

/* The first of equal maxima wins; a NaN wins over all. Lanes and taps are numbers where this is used, so that
 * it becomes vector code without an inner loop. */
#define MAXIMA(lanes, taps)                                                                                  \
  FOR_EACH_PROCESSOR static void maxima_##lanes##_##taps(const windows *r, const float *x, float *y,         \
                                                         uint8_t *restrict index) {                          \
    const int64_t *o = r->offsets;                                                                           \
    for (int64_t i = 0; i < r->n; i++, x += r->step, y += (lanes)) {                                         \
      EACH_ALONE                                                                                             \
      for (int l = 0; l < (lanes); l++) {                                                                    \
        float best = x[l];                                                                                   \
        int32_t at = 0;                                                                                      \
        for (int32_t tap = 1; tap < (taps); tap++) {                                                         \
          const float v = x[o[tap] + l];                                                                     \
          const bool takes = v > best || v != v;                                                             \
          best = takes ? v : best;                                                                           \
          at = takes ? tap : at;                                                                             \
        }                                                                                                    \
        y[l] = best;                                                                                         \
        index[l] = (uint8_t)at;                                                                              \
      }                                                                                                      \
      index += (lanes);                                                                                      \
    }                                                                                                        \
  }

#define SLOPES(lanes, taps)                                                                                  \
  FOR_EACH_PROCESSOR static void slopes_##lanes##_##taps(                                                    \
      const windows *r, const float *dy, const uint8_t *index, float *restrict dx, bool add) {               \
    for (int64_t i = 0; i < r->n; i++, dx += r->step, dy += (lanes), index += (lanes)) {                     \
      for (int32_t tap = 0; tap < (taps); tap++) {                                                           \
        float *d = dx + r->offsets[tap];                                                                     \
        if (add) {                                                                                           \
          EACH_ALONE                                                                                         \
          for (int l = 0; l < (lanes); l++) d[l] += index[l] == tap ? dy[l] : 0;                             \
        } else {                                                                                             \
          EACH_ALONE                                                                                         \
          for (int l = 0; l < (lanes); l++) d[l] = index[l] == tap ? dy[l] : 0;                              \
        }                                                                                                    \
      }                                                                                                      \
    }                                                                                                        \
  }

#define KERNELS(taps)                                                                                        \
  MAXIMA(8, taps)                                                                                            \
  MAXIMA(16, taps)                                                                                           \
  SLOPES(8, taps)                                                                                            \
  SLOPES(16, taps)

KERNELS(2)
KERNELS(4)
KERNELS(8)
KERNELS(9)

typedef struct kernels {
  int64_t taps;
  void (*max[2])(const windows *r, const float *x, float *y, uint8_t *index); /* of blocks of 8, of 16 */
  void (*slope[2])(const windows *r, const float *dy, const uint8_t *index, float *dx, bool add);
} kernels;

static const kernels known[] = {{2, {maxima_8_2, maxima_16_2}, {slopes_8_2, slopes_16_2}},
                                {4, {maxima_8_4, maxima_16_4}, {slopes_8_4, slopes_16_4}},
                                {8, {maxima_8_8, maxima_16_8}, {slopes_8_8, slopes_16_8}},
                                {9, {maxima_8_9, maxima_16_9}, {slopes_8_9, slopes_16_9}}};

static const kernels *find(int64_t taps) {
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].taps == taps) return &known[i];
  return NULL;
}

bool pool_blocks_suit(const window *w, int64_t block_x, int64_t block_y) {
  int64_t taps = 1;
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    taps *= w->kernel[axis];
    if (w->stride[axis] != w->kernel[axis] || w->dilation[axis] != 1 || w->begin[axis]) return false;
    if (w->out[axis] * w->stride[axis] > w->in[axis]) return false;
  }
  return block_x == block_y && (block_x == 8 || block_x == 16) && find(taps);
}

/* Where the first window of row (o0, o1) begins, in a plane. */
static int64_t row_of(const window *w, int64_t o0, int64_t o1, int64_t block) {
  return (o0 * w->stride[0] * w->in[1] + o1 * w->stride[1]) * w->in[2] * block;
}

void pool_blocks_max(const window *w, int64_t planes, int64_t block, const float *x, float *y,
                     uint8_t *index) {
  const windows r = windows_of(w, block);
  void (*const max)(const windows *, const float *, float *, uint8_t *) = find(r.taps)->max[block == 16];
  for (int64_t plane = 0; plane < planes; plane++, x += window_inputs(w) * block) {
    for (int64_t o0 = 0; o0 < w->out[0]; o0++)
      for (int64_t o1 = 0; o1 < w->out[1]; o1++) {
        max(&r, x + row_of(w, o0, o1, block), y, index);
        y += r.n * block;
        index += r.n * block;
      }
  }
}

/* Whether some inputs are in no window. */
static bool leaves_out(const window *w) {
  bool any = false;
  for (int axis = 0; axis < WINDOW_RANK; axis++) any |= w->out[axis] * w->stride[axis] != w->in[axis];
  return any;
}

void pool_blocks_max_backward(const window *w, int64_t planes, int64_t block, const float *dy,
                              const uint8_t *index, float *dx, bool add) {
  const windows r = windows_of(w, block);
  void (*const slope)(const windows *, const float *, const uint8_t *, float *, bool) =
      find(r.taps)->slope[block == 16];
  if (!add && leaves_out(w)) memset(dx, 0, (size_t)(planes * window_inputs(w) * block) * sizeof *dx);
  for (int64_t plane = 0; plane < planes; plane++, dx += window_inputs(w) * block) {
    for (int64_t o0 = 0; o0 < w->out[0]; o0++)
      for (int64_t o1 = 0; o1 < w->out[1]; o1++) {
        slope(&r, dy, index, dx + row_of(w, o0, o1, block), add);
        dy += r.n * block;
        index += r.n * block;
      }
  }
}
