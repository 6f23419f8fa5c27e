/* LRN: local response normalisation over neighbouring channels (Krizhevsky et al. 2012). With the sum over
 * the `size` channels c' around c t = bias + alpha / size * sum of x[c']^2,   y = x t^-beta dx[c] = g[c]
 * t[c]^-beta - 2 alpha beta / size * x[c] * sum over the c' whose window holds c of g[c'] x[c'] t[c']^(-beta
 * - 1) x is [rows][channels][inner]. */
#include "ops/support.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

typedef struct lrn {
  int64_t rows, channels, inner;
  int64_t before, behind; /* channels of a window before and behind its own */
  float scale, beta, bias;
} lrn;

static status lrn_infer(step *s) {
  if (s->in[0]->shape.rank < 2) return step_error(s, "needs an input [rows, channels, ...]");
  if (node_int(s->node, "size", 0) < 1) return step_error(s, "size must be at least 1");
  return infer_like_float_input(s);
}

/* saved: t; scratch: a plane of all channels. */
static status lrn_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  const int64_t size = node_int(s->node, "size", 1);
  lrn *l;
  status st = mem_new(&l, 1, sizeof *l);
  if (st != STATUS_OK) return st;
  *l = (lrn){.rows = x->dims[0],
             .channels = x->dims[1],
             .inner = shape_span(x, 2, x->rank),
             .before = (size - 1) / 2,
             .behind = size / 2,
             .scale = node_float(s->node, "alpha", 1e-4f) / (float)size,
             .beta = node_float(s->node, "beta", 0.75f),
             .bias = node_float(s->node, "bias", 1)};
  s->state = l;
  s->saved_bytes = (size_t)shape_count(x) * sizeof(float);
  s->scratch_bytes = (size_t)(l->channels * l->inner) * sizeof(float);
  return STATUS_OK;
}

static void lrn_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* to[c] = base + factor * sum of from[c - before ... c + behind] */
static void window_sums(const lrn *l, const float *from, int64_t before, int64_t behind, float base,
                        float factor, float *to) {
  const int64_t inner = l->inner;
  for (int64_t c = 0; c < l->channels; c++) {
    const int64_t first = c < before ? 0 : c - before;
    const int64_t end = c + behind + 1 < l->channels ? c + behind + 1 : l->channels;
    float *t = to + c * inner;
    for (int64_t i = 0; i < inner; i++) t[i] = base;
    for (int64_t k = first; k < end; k++)
      for (int64_t i = 0; i < inner; i++) t[i] += factor * from[k * inner + i];
  }
}

static status lrn_forward(step *s) {
  const lrn *l = s->state;
  const int64_t block = l->channels * l->inner;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data, *t = s->saved, *square = s->scratch;
  for (int64_t r = 0; block && r < l->rows; r++, x += block, y += block, t += block) {
    for (int64_t i = 0; i < block; i++) square[i] = x[i] * x[i];
    window_sums(l, square, l->before, l->behind, l->bias, l->scale, t);
    for (int64_t i = 0; i < block; i++) y[i] = x[i] * powf(t[i], -l->beta);
  }
  return STATUS_OK;
}

/* t becomes the sums over windows that hold a channel: these reach as far behind as windows reach before. */
static status lrn_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const lrn *l = s->state;
  const int64_t block = l->channels * l->inner;
  const float *x = s->in[0]->data, *g = s->dout[0]->data;
  float *dx = s->din[0]->data, *t = s->saved, *product = s->scratch;
  const bool add = s->accumulate[0];
  for (int64_t r = 0; block && r < l->rows; r++, x += block, g += block, dx += block, t += block) {
    for (int64_t i = 0; i < block; i++) {
      const float power = powf(t[i], -l->beta), part = g[i] * power;
      product[i] = part * x[i] / t[i];
      dx[i] = add ? dx[i] + part : part;
    }
    window_sums(l, product, l->behind, l->before, 0, 2 * l->scale * l->beta, t);
    for (int64_t i = 0; i < block; i++) dx[i] -= x[i] * t[i];
  }
  return STATUS_OK;
}

const op op_LRN = {.name = "LRN",
                   .domain = "",
                   .since = 1,
                   .min_inputs = 1,
                   .max_inputs = 1,
                   .max_outputs = 1,
                   .attributes = (const char *const[]){"alpha", "beta", "bias", "size", NULL},
                   .keeps = KEEP_IN0,
                   .differentiable = 1,
                   .infer = lrn_infer,
                   .prepare = lrn_prepare,
                   .forward = lrn_forward,
                   .backward = lrn_backward,
                   .release = lrn_release};
