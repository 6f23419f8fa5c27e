#include "ops/norm.h"

#include "ops/span.h"
#include "ops/span_block.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

/* Planes of one element, a dense layer's rows, are walked across the channels instead of along them. */
static bool is_flat(const planes *p) {
  return p->extent == 1 && !p->block;
}

static const float *plane_of(const planes *p, const float *x, int64_t row, int64_t channel) {
  return x + (row * p->channels + channel) * p->extent;
}

static void flat_statistics(const planes *p, const float *x, float *mean, float *variance) {
  int64_t channels = p->channels;
  float n = (float)p->rows;
  memset(mean, 0, (size_t)channels * sizeof *mean);
  memset(variance, 0, (size_t)channels * sizeof *variance);
  for (int64_t r = 0; r < p->rows; r++) {
    for (int64_t c = 0; c < channels; c++) mean[c] += x[r * channels + c];
  }
  for (int64_t c = 0; c < channels; c++) mean[c] /= n;
  for (int64_t r = 0; r < p->rows; r++) {
    for (int64_t c = 0; c < channels; c++) {
      float d = x[r * channels + c] - mean[c];
      variance[c] += d * d;
    }
  }
  for (int64_t c = 0; c < channels; c++) variance[c] /= n;
}

/* The block of channels from `channel` on. */
static const float *block_of(const planes *p, const float *x, int64_t row, int64_t channel) {
  const int64_t blocks = (p->channels + p->block - 1) / p->block;
  return x + (row * blocks + channel / p->block) * p->extent * p->block;
}

/* Numbers of the channels of a block; 0 past the last. */
typedef struct block_values {
  float at[SPAN_BLOCK_MAX];
} block_values;

static int64_t block_length(const planes *p, int64_t channel) {
  return p->channels - channel < p->block ? p->channels - channel : p->block;
}

static block_values values_of(const planes *p, const float *of, int64_t channel) {
  block_values v = {{0}};
  memcpy(v.at, of + channel, (size_t)block_length(p, channel) * sizeof *of);
  return v;
}

static void block_statistics(const planes *p, const float *x, float *mean, float *variance) {
  const double n = (double)(p->rows * p->extent);
  for (int64_t c = 0; c < p->channels; c += p->block) {
    double sums[SPAN_BLOCK_MAX] = {0}, squares[SPAN_BLOCK_MAX] = {0};
    const int64_t length = block_length(p, c);
    for (int64_t r = 0; r < p->rows; r++) span_block_sum(block_of(p, x, r, c), p->extent, p->block, sums);
    for (int64_t i = 0; i < length; i++) mean[c + i] = (float)(sums[i] / n);
    const block_values center = values_of(p, mean, c);
    for (int64_t r = 0; r < p->rows; r++)
      span_block_squares(block_of(p, x, r, c), center.at, p->extent, p->block, squares);
    for (int64_t i = 0; i < length; i++) variance[c + i] = (float)(squares[i] / n);
  }
}

void norm_statistics(const planes *p, const float *x, float *mean, float *variance) {
  if (p->block) {
    block_statistics(p, x, mean, variance);
    return;
  }
  if (is_flat(p)) {
    flat_statistics(p, x, mean, variance);
    return;
  }
  double n = (double)(p->rows * p->extent);
  for (int64_t c = 0; c < p->channels; c++) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < p->rows; r++) sum += span_sum(plane_of(p, x, r, c), p->extent);
    mean[c] = (float)(sum / n);
    for (int64_t r = 0; r < p->rows; r++) squares += span_squares(plane_of(p, x, r, c), mean[c], p->extent);
    variance[c] = (float)(squares / n);
  }
}

/* gain = scale / sqrt(variance + epsilon) */
static void gains(int64_t channels, const float *variance, float epsilon, const float *scale, float *gain) {
  for (int64_t c = 0; c < channels; c++) gain[c] = scale[c] / sqrtf(variance[c] + epsilon);
}

static void block_forward(const planes *p, const float *x, const float *mean, const float *gain,
                          const float *bias, float *y) {
  for (int64_t c = 0; c < p->channels; c += p->block) {
    const block_values center = values_of(p, mean, c), scale = values_of(p, gain, c),
                       shift = values_of(p, bias, c);
    for (int64_t r = 0; r < p->rows; r++) {
      const float *from = block_of(p, x, r, c);
      span_block_affine(from, center.at, scale.at, shift.at, y + (from - x), p->extent, p->block);
    }
  }
}

void norm_forward(const planes *p, const float *x, const float *mean, const float *variance, float epsilon,
                  const float *scale, const float *bias, float *y, float *scratch) {
  float *gain = scratch;
  gains(p->channels, variance, epsilon, scale, gain);
  if (p->block) {
    block_forward(p, x, mean, gain, bias, y);
    return;
  }
  for (int64_t r = 0; r < p->rows; r++) {
    if (is_flat(p)) {
      const float *row = x + r * p->channels;
      float *to = y + r * p->channels;
      EACH_ALONE
      for (int64_t c = 0; c < p->channels; c++) to[c] = (row[c] - mean[c]) * gain[c] + bias[c];
      continue;
    }
    for (int64_t c = 0; c < p->channels; c++) {
      const float *plane = plane_of(p, x, r, c);
      span_affine(plane, mean[c], gain[c], bias[c], y + (plane - x), p->extent);
    }
  }
}

static void block_moments(const planes *p, const float *x, const float *dy, const float *mean, float *plain,
                          float *centered) {
  for (int64_t c = 0; c < p->channels; c += p->block) {
    double a[SPAN_BLOCK_MAX] = {0}, b[SPAN_BLOCK_MAX] = {0};
    const block_values center = values_of(p, mean, c);
    for (int64_t r = 0; r < p->rows; r++)
      span_block_moments(block_of(p, x, r, c), block_of(p, dy, r, c), center.at, p->extent, p->block, a, b);
    for (int64_t i = 0, n = block_length(p, c); i < n; i++) {
      plain[c + i] = (float)a[i];
      centered[c + i] = (float)b[i];
    }
  }
}

/* The sums of dy and of dy (x - mean) in every channel. */
static void moments(const planes *p, const float *x, const float *dy, const float *mean, float *plain,
                    float *centered) {
  if (p->block) {
    block_moments(p, x, dy, mean, plain, centered);
    return;
  }
  if (is_flat(p)) {
    memset(plain, 0, (size_t)p->channels * sizeof *plain);
    memset(centered, 0, (size_t)p->channels * sizeof *centered);
    for (int64_t r = 0; r < p->rows; r++, x += p->channels, dy += p->channels) {
      EACH_ALONE
      for (int64_t c = 0; c < p->channels; c++) {
        plain[c] += dy[c];
        centered[c] += dy[c] * (x[c] - mean[c]);
      }
    }
    return;
  }
  for (int64_t c = 0; c < p->channels; c++) {
    double a = 0, b = 0;
    for (int64_t r = 0; r < p->rows; r++) {
      float part_a, part_b;
      span_moments(plane_of(p, x, r, c), plane_of(p, dy, r, c), mean[c], p->extent, &part_a, &part_b);
      a += part_a;
      b += part_b;
    }
    plain[c] = (float)a;
    centered[c] = (float)b;
  }
}

static void block_gradient(const planes *p, const float *x, const float *dy, const float *mean,
                           const float *gain, const float *plain, const float *centered, bool add,
                           float *dx) {
  for (int64_t c = 0; c < p->channels; c += p->block) {
    const block_values center = values_of(p, mean, c), scale = values_of(p, gain, c),
                       off = values_of(p, plain, c), tilt = values_of(p, centered, c);
    for (int64_t r = 0; r < p->rows; r++) {
      const float *from = block_of(p, x, r, c);
      const int64_t at = from - x;
      span_block_gradient(from, dy + at, center.at, scale.at, off.at, tilt.at, add, dx + at, p->extent,
                          p->block);
    }
  }
}

/* plain and centered: what dx takes off dy, per channel. */
static void input_gradient(const planes *p, const float *x, const float *dy, const float *mean,
                           const float *gain, const float *plain, const float *centered, bool add,
                           float *dx) {
  if (p->block) {
    block_gradient(p, x, dy, mean, gain, plain, centered, add, dx);
    return;
  }
  for (int64_t r = 0; r < p->rows; r++) {
    if (is_flat(p)) {
      int64_t at = r * p->channels;
      EACH_ALONE
      for (int64_t c = 0; c < p->channels; c++) {
        float part = gain[c] * (dy[at + c] - plain[c] - (x[at + c] - mean[c]) * centered[c]);
        dx[at + c] = add ? dx[at + c] + part : part;
      }
      continue;
    }
    for (int64_t c = 0; c < p->channels; c++) {
      const float *plane = plane_of(p, x, r, c);
      int64_t at = plane - x;
      span_gradient(plane, dy + at, mean[c], gain[c], plain[c], centered[c], add, dx + at, p->extent);
    }
  }
}

void norm_backward(const planes *p, const float *x, const float *dy, const float *mean, const float *variance,
                   float epsilon, bool batch, const float *scale, float *dx, float *dscale, float *dbias,
                   const bool *accumulate, float *scratch) {
  float *plain = scratch, *centered = plain + p->channels, *gain = centered + p->channels;
  float n = (float)(p->rows * p->extent);
  if (batch || dscale || dbias) moments(p, x, dy, mean, plain, centered);
  for (int64_t c = 0; dbias && c < p->channels; c++)
    dbias[c] = accumulate[2] ? dbias[c] + plain[c] : plain[c];
  for (int64_t c = 0; dscale && c < p->channels; c++) {
    float part = centered[c] / sqrtf(variance[c] + epsilon);
    dscale[c] = accumulate[1] ? dscale[c] + part : part;
  }
  if (!dx) return;
  gains(p->channels, variance, epsilon, scale, gain);
  for (int64_t c = 0; c < p->channels; c++) {
    plain[c] = batch ? plain[c] / n : 0;
    centered[c] = batch ? centered[c] / (n * (variance[c] + epsilon)) : 0;
  }
  input_gradient(p, x, dy, mean, gain, plain, centered, accumulate[0], dx);
}
