#include "ops/reference.h"

/* A walk over every (group, filter, output) of a row, each with the taps that lie inside the input. */
typedef struct spot {
  int64_t row, group, filter; /* filter: counted over all groups */
  int64_t o[WINDOW_RANK], from[WINDOW_RANK], to[WINDOW_RANK];
  int64_t output; /* index in y */
} spot;

static void spot_place(const convolution *c, spot *p, int64_t row, int64_t filter, int64_t output) {
  const window *w = &c->window;
  *p = (spot){.row = row, .group = filter / c->filters, .filter = filter};
  p->output = (row * c->groups * c->filters + filter) * window_outputs(w) + output;
  p->o[2] = output % w->out[2];
  p->o[1] = output / w->out[2] % w->out[1];
  p->o[0] = output / w->out[2] / w->out[1];
  for (int axis = 0; axis < WINDOW_RANK; axis++)
    window_inside(w, axis, p->o[axis], &p->from[axis], &p->to[axis]);
}

/* The first element of x's plane that channel `channel` of the spot's group reads. */
static int64_t plane_of(const convolution *c, const spot *p, int64_t channel) {
  return ((p->row * c->groups + p->group) * c->channels + channel) * window_inputs(&c->window);
}

static int64_t input_of(const window *w, const spot *p, int64_t k0, int64_t k1, int64_t k2) {
  int64_t i0 = p->o[0] * w->stride[0] + k0 * w->dilation[0] - w->begin[0];
  int64_t i1 = p->o[1] * w->stride[1] + k1 * w->dilation[1] - w->begin[1];
  int64_t i2 = p->o[2] * w->stride[2] + k2 * w->dilation[2] - w->begin[2];
  return (i0 * w->in[1] + i1) * w->in[2] + i2;
}

static int64_t tap_of(const convolution *c, const spot *p, int64_t channel, int64_t k0, int64_t k1,
                      int64_t k2) {
  const window *w = &c->window;
  int64_t plane = p->filter * c->channels + channel;
  return ((plane * w->kernel[0] + k0) * w->kernel[1] + k1) * w->kernel[2] + k2;
}

#define EACH_SPOT(c, p)                                                                                      \
  for (int64_t row = 0; row < (c)->rows; row++)                                                              \
    for (int64_t filter = 0; filter < (c)->groups * (c)->filters; filter++)                                  \
      for (int64_t output = 0;                                                                               \
           output < window_outputs(&(c)->window) && (spot_place(c, p, row, filter, output), true); output++)

#define EACH_TAP(c, p)                                                                                       \
  for (int64_t channel = 0; channel < (c)->channels; channel++)                                              \
    for (int64_t k0 = (p)->from[0]; k0 < (p)->to[0]; k0++)                                                   \
      for (int64_t k1 = (p)->from[1]; k1 < (p)->to[1]; k1++)                                                 \
        for (int64_t k2 = (p)->from[2]; k2 < (p)->to[2]; k2++)

void convolution_reference(const convolution *c, const float *x, const float *weight, const float *bias,
                           float *y, bool accumulate) {
  spot p;
  EACH_SPOT(c, &p) {
    double sum = bias ? bias[filter] : 0;
    EACH_TAP(c, &p) {
      sum += (double)x[plane_of(c, &p, channel) + input_of(&c->window, &p, k0, k1, k2)] *
             weight[tap_of(c, &p, channel, k0, k1, k2)];
    }
    y[p.output] = (float)(accumulate ? y[p.output] + sum : sum);
  }
}

void convolution_reference_data(const convolution *c, const float *dy, const float *weight, float *dx,
                                bool accumulate) {
  spot p;
  int64_t n = c->rows * c->groups * c->channels * window_inputs(&c->window);
  for (int64_t i = 0; i < n && !accumulate; i++) dx[i] = 0;
  EACH_SPOT(c, &p) {
    EACH_TAP(c, &p) {
      dx[plane_of(c, &p, channel) + input_of(&c->window, &p, k0, k1, k2)] +=
          dy[p.output] * weight[tap_of(c, &p, channel, k0, k1, k2)];
    }
  }
}

void convolution_reference_weight(const convolution *c, const float *x, const float *dy, float *dw,
                                  bool accumulate) {
  spot p;
  int64_t n = c->groups * c->filters * c->channels * window_taps(&c->window);
  for (int64_t i = 0; i < n && !accumulate; i++) dw[i] = 0;
  EACH_SPOT(c, &p) {
    EACH_TAP(c, &p) {
      dw[tap_of(c, &p, channel, k0, k1, k2)] +=
          dy[p.output] * x[plane_of(c, &p, channel) + input_of(&c->window, &p, k0, k1, k2)];
    }
  }
}

void convolution_reference_bias(const convolution *c, const float *dy, float *db, bool accumulate) {
  int64_t outputs = window_outputs(&c->window), filters = c->groups * c->filters;
  for (int64_t filter = 0; filter < filters; filter++) {
    double sum = accumulate ? db[filter] : 0;
    for (int64_t row = 0; row < c->rows; row++) {
      for (int64_t i = 0; i < outputs; i++) sum += dy[(row * filters + filter) * outputs + i];
    }
    db[filter] = (float)sum;
  }
}
