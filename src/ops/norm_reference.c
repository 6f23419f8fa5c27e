#include "ops/reference.h"

#include <math.h>

/* Element `i` of channel `channel` of row `row`. */
static int64_t place(int64_t channels, int64_t extent, int64_t row, int64_t channel, int64_t i) {
  return (row * channels + channel) * extent + i;
}

void norm_reference_statistics(int64_t rows, int64_t channels, int64_t extent, const float *x, float *mean,
                               float *variance) {
  double n = (double)(rows * extent);
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = 0; i < extent; i++) sum += x[place(channels, extent, r, c, i)];
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = 0; i < extent; i++) {
        double d = x[place(channels, extent, r, c, i)] - sum / n;
        squares += d * d;
      }
    }
    mean[c] = (float)(sum / n);
    variance[c] = (float)(squares / n);
  }
}

void norm_reference_forward(int64_t rows, int64_t channels, int64_t extent, const float *x, const float *mean,
                            const float *variance, float epsilon, const float *scale, const float *bias,
                            float *y) {
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < channels; c++) {
      double gain = scale[c] / sqrt((double)variance[c] + epsilon);
      for (int64_t i = 0; i < extent; i++) {
        int64_t at = place(channels, extent, r, c, i);
        y[at] = (float)(gain * ((double)x[at] - mean[c]) + bias[c]);
      }
    }
  }
}

static void write(float *to, double value, bool accumulate) {
  *to = (float)(accumulate ? *to + value : value);
}

void norm_reference_backward(int64_t rows, int64_t channels, int64_t extent, const float *x, const float *dy,
                             const float *mean, const float *variance, float epsilon, bool batch,
                             const float *scale, float *dx, float *dscale, float *dbias,
                             const bool *accumulate) {
  double n = (double)(rows * extent);
  for (int64_t c = 0; c < channels; c++) {
    double inverse = 1 / sqrt((double)variance[c] + epsilon), sum = 0, product = 0;
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = 0; i < extent; i++) {
        int64_t at = place(channels, extent, r, c, i);
        sum += dy[at];
        product += dy[at] * ((double)x[at] - mean[c]) * inverse;
      }
    }
    for (int64_t r = 0; dx && r < rows; r++) {
      for (int64_t i = 0; i < extent; i++) {
        int64_t at = place(channels, extent, r, c, i);
        double normal = ((double)x[at] - mean[c]) * inverse;
        double through = batch ? sum / n + normal * product / n : 0;
        write(&dx[at], scale[c] * inverse * (dy[at] - through), accumulate[0]);
      }
    }
    if (dscale) write(&dscale[c], product, accumulate[1]);
    if (dbias) write(&dbias[c], sum, accumulate[2]);
  }
}
