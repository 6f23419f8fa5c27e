#include "ops/reference.h"

#include <math.h>

/* One window: its output place and the taps of it that lie inside the input. */
typedef struct spot {
  int64_t o[WINDOW_RANK], from[WINDOW_RANK], to[WINDOW_RANK];
} spot;

static spot spot_of(const window *w, int64_t output) {
  spot p;
  p.o[2] = output % w->out[2];
  p.o[1] = output / w->out[2] % w->out[1];
  p.o[0] = output / w->out[2] / w->out[1];
  for (int axis = 0; axis < WINDOW_RANK; axis++)
    window_inside(w, axis, p.o[axis], &p.from[axis], &p.to[axis]);
  return p;
}

static int64_t input_of(const window *w, const spot *p, int64_t k0, int64_t k1, int64_t k2) {
  int64_t i0 = p->o[0] * w->stride[0] + k0 * w->dilation[0] - w->begin[0];
  int64_t i1 = p->o[1] * w->stride[1] + k1 * w->dilation[1] - w->begin[1];
  int64_t i2 = p->o[2] * w->stride[2] + k2 * w->dilation[2] - w->begin[2];
  return (i0 * w->in[1] + i1) * w->in[2] + i2;
}

#define EACH_TAP(p)                                                                                          \
  for (int64_t k0 = (p)->from[0]; k0 < (p)->to[0]; k0++)                                                     \
    for (int64_t k1 = (p)->from[1]; k1 < (p)->to[1]; k1++)                                                   \
      for (int64_t k2 = (p)->from[2]; k2 < (p)->to[2]; k2++)

/* The first of equal maxima wins; a NaN wins over all. A window that sees no input gives the type's least
 * value. */
#define MAXIMA(name, type, least)                                                                            \
  static void name(const window *w, int64_t planes, const type *x, type *y, int64_t *index) {                \
    int64_t inputs = window_inputs(w), outputs = window_outputs(w);                                          \
    for (int64_t plane = 0; plane < planes; plane++) {                                                       \
      for (int64_t output = 0; output < outputs; output++) {                                                 \
        spot p = spot_of(w, output);                                                                         \
        type best = least;                                                                                   \
        int64_t at = -1;                                                                                     \
        EACH_TAP(&p) {                                                                                       \
          int64_t i = input_of(w, &p, k0, k1, k2);                                                           \
          type v = x[plane * inputs + i];                                                                    \
          if (at >= 0 && !(v > best) && v == v) continue;                                                    \
          best = v;                                                                                          \
          at = i;                                                                                            \
        }                                                                                                    \
        y[plane * outputs + output] = best;                                                                  \
        if (index) index[plane * outputs + output] = at;                                                     \
      }                                                                                                      \
    }                                                                                                        \
  }

MAXIMA(maxima_float, float, (float)-INFINITY)
MAXIMA(maxima_double, double, -INFINITY)
MAXIMA(maxima_int8, int8_t, INT8_MIN)
MAXIMA(maxima_uint8, uint8_t, 0)

void pool_reference_max(dtype type, const window *w, int64_t planes, const void *x, void *y, int64_t *index) {
  switch (type) {
  case DTYPE_DOUBLE:
    maxima_double(w, planes, x, y, index);
    break;
  case DTYPE_INT8:
    maxima_int8(w, planes, x, y, index);
    break;
  case DTYPE_UINT8:
    maxima_uint8(w, planes, x, y, index);
    break;
  default:
    maxima_float(w, planes, x, y, index);
    break;
  }
}

void pool_reference_max_backward(const window *w, int64_t planes, const float *dy, const int64_t *index,
                                 float *dx, bool accumulate) {
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t i = 0; i < planes * inputs && !accumulate; i++) dx[i] = 0;
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t o = plane * outputs; o < (plane + 1) * outputs; o++) {
      if (index[o] >= 0) dx[plane * inputs + index[o]] += dy[o];
    }
  }
}

/* Taps that count: those inside the input, or inside the input with its padding. */
static double divisor(const window *w, const spot *p, bool padding) {
  double n = 1;
  for (int axis = 0; axis < WINDOW_RANK; axis++) {
    int64_t count = p->to[axis] - p->from[axis];
    if (padding) {
      int64_t start = p->o[axis] * w->stride[axis], behind = w->in[axis] + w->begin[axis] + w->end[axis];
      count = 0;
      for (int64_t k = 0; k < w->kernel[axis]; k++) count += start + k * w->dilation[axis] < behind;
    }
    n *= (double)count;
  }
  return n > 0 ? n : 1;
}

void pool_reference_average(const window *w, int64_t planes, bool padding, const float *x, float *y) {
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t output = 0; output < outputs; output++) {
      spot p = spot_of(w, output);
      double sum = 0;
      EACH_TAP(&p) sum += x[plane * inputs + input_of(w, &p, k0, k1, k2)];
      y[plane * outputs + output] = (float)(sum / divisor(w, &p, padding));
    }
  }
}

void pool_reference_average_backward(const window *w, int64_t planes, bool padding, const float *dy,
                                     float *dx, bool accumulate) {
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t i = 0; i < planes * inputs && !accumulate; i++) dx[i] = 0;
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t output = 0; output < outputs; output++) {
      spot p = spot_of(w, output);
      float part = (float)(dy[plane * outputs + output] / divisor(w, &p, padding));
      EACH_TAP(&p) dx[plane * inputs + input_of(w, &p, k0, k1, k2)] += part;
    }
  }
}

void pool_reference_lp(const window *w, int64_t planes, double p, const float *x, float *y) {
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t output = 0; output < outputs; output++) {
      spot at = spot_of(w, output);
      double sum = 0;
      EACH_TAP(&at) sum += pow(fabs((double)x[plane * inputs + input_of(w, &at, k0, k1, k2)]), p);
      y[plane * outputs + output] = (float)pow(sum, 1 / p);
    }
  }
}

void pool_reference_lp_backward(const window *w, int64_t planes, double p, const float *x, const float *y,
                                const float *dy, float *dx) {
  int64_t inputs = window_inputs(w), outputs = window_outputs(w);
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t output = 0; output < outputs; output++) {
      spot at = spot_of(w, output);
      const int64_t o = plane * outputs + output;
      EACH_TAP(&at) {
        const int64_t i = plane * inputs + input_of(w, &at, k0, k1, k2);
        if (y[o] > 0)
          dx[i] +=
              (float)((double)dy[o] * copysign(pow(fabs((double)x[i]) / (double)y[o], p - 1), (double)x[i]));
      }
    }
  }
}
