/* LayerNormalization: over the axes from `axis` on, d elements of each of the n rows before them,
 *     h = (x - mean) / sqrt(variance + epsilon),  y = h scale + bias       scale, bias: [d]
 *     dscale = sum over rows of dy h,  dbias = sum over rows of dy,  g = dy scale,
 *     dx = (g - mean(g) - h mean(g h)) / sqrt(variance + epsilon)
 * Outputs 1 and 2 are mean and 1 / sqrt(variance + epsilon) of the rows. */
#include "ops/reference.h"
#include "ops/span.h"
#include "ops/support.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

typedef struct layer_norm {
  int64_t n, d;
  float epsilon;
} layer_norm;

static status layer_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  status st = STATUS_OK;
  int axis;
  char text[128];
  TRY(input_want(s, 0, DTYPE_FLOAT));
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), x->rank, &axis));
  int64_t d = shape_span(x, axis, x->rank);
  for (int i = 1; i < s->n_in; i++) {
    if (!s->in[i]) continue;
    TRY(input_want(s, i, DTYPE_FLOAT));
    if (tensor_count(s->in[i]) != d) {
      return step_error(s, "input %d has shape %s, expected the %lld elements that are normalised together",
                        i, shape_text(&s->in[i]->shape, text, sizeof text), (long long)d);
    }
  }
  step_set_output(s, 0, DTYPE_FLOAT, x);
  shape rows = *x;
  for (int i = axis; i < x->rank; i++) rows.dims[i] = 1;
  step_set_output(s, 1, DTYPE_FLOAT, &rows);
  step_set_output(s, 2, DTYPE_FLOAT, &rows);
done:
  return st;
}

/* saved: mean and 1 / sqrt(variance + epsilon) of every row; scratch: one row. */
static status layer_prepare(step *s) {
  status st = STATUS_OK;
  const shape *x = &s->in[0]->shape;
  int axis;
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), x->rank, &axis));
  TRY(mem_new(&s->state, 1, sizeof(layer_norm)));
  layer_norm *l = s->state;
  *l = (layer_norm){shape_span(x, 0, axis), shape_span(x, axis, x->rank),
                    node_float(s->node, "epsilon", 1e-5f)};
  s->saved_bytes = (size_t)(2 * l->n) * sizeof(float);
  s->scratch_bytes = (size_t)l->d * sizeof(float);
done:
  return st;
}

static void layer_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static void row_statistics(const step *s, const float *x, float *mean, float *variance) {
  const layer_norm *l = s->state;
  if (s->reference) {
    norm_reference_statistics(1, 1, l->d, x, mean, variance);
  } else {
    *mean = span_sum(x, l->d) / (float)l->d;
    *variance = span_squares(x, *mean, l->d) / (float)l->d;
  }
}

static status layer_forward(step *s) {
  const layer_norm *l = s->state;
  const float *x = s->in[0]->data, *scale = s->in[1]->data, *bias = step_has(s, 2) ? s->in[2]->data : NULL;
  float *y = s->out[0]->data, *mean = s->saved, *inverse = mean + l->n;
  for (int64_t r = 0; r < l->n; r++, x += l->d, y += l->d) {
    float variance;
    row_statistics(s, x, &mean[r], &variance);
    inverse[r] = 1 / sqrtf(variance + l->epsilon);
    EACH_ALONE
    for (int64_t i = 0; i < l->d; i++) y[i] = (x[i] - mean[r]) * inverse[r] * scale[i];
    for (int64_t i = 0; bias && i < l->d; i++) y[i] += bias[i];
  }
  for (int i = 1; i < s->n_out && i <= 2; i++) {
    if (s->out[i]) memcpy(s->out[i]->data, i == 1 ? mean : inverse, (size_t)l->n * sizeof *mean);
  }
  return STATUS_OK;
}

/* dscale and dbias, one row after the other. */
static void add_row(const layer_norm *l, const float *x, const float *dy, float mean, float inverse,
                    float *dscale, float *dbias) {
  for (int64_t i = 0; dscale && i < l->d; i++) dscale[i] += dy[i] * (x[i] - mean) * inverse;
  for (int64_t i = 0; dbias && i < l->d; i++) dbias[i] += dy[i];
}

/* The plain loop of the formula above. */
static void plain_row(const layer_norm *l, const float *x, const float *g, float mean, float inverse,
                      bool add, float *dx) {
  double sum = 0, product = 0, d = (double)l->d;
  for (int64_t i = 0; i < l->d; i++) {
    sum += g[i];
    product += g[i] * ((double)x[i] - mean) * inverse;
  }
  for (int64_t i = 0; i < l->d; i++) {
    double part = (g[i] - sum / d - ((double)x[i] - mean) * inverse * product / d) * inverse;
    dx[i] = (float)(add ? dx[i] + part : part);
  }
}

static void fast_row(const layer_norm *l, const float *x, const float *g, float mean, float inverse, bool add,
                     float *dx) {
  float plain, centered, d = (float)l->d;
  span_moments(x, g, mean, l->d, &plain, &centered);
  span_gradient(x, g, mean, inverse, plain / d, centered * inverse * inverse / d, add, dx, l->d);
}

static status layer_backward(step *s) {
  const layer_norm *l = s->state;
  const float *x = s->in[0]->data, *dy = s->dout[0]->data, *scale = s->in[1]->data;
  const float *mean = s->saved, *inverse = mean + l->n;
  float *dx = s->din[0] ? s->din[0]->data : NULL, *g = s->scratch;
  float *dscale = s->din[1] ? gradient_begin(s, 1) : NULL;
  float *dbias = s->n_in > 2 && s->din[2] ? gradient_begin(s, 2) : NULL;
  for (int64_t r = 0; r < l->n; r++, x += l->d, dy += l->d) {
    add_row(l, x, dy, mean[r], inverse[r], dscale, dbias);
    if (!dx) continue;
    EACH_ALONE
    for (int64_t i = 0; i < l->d; i++) g[i] = dy[i] * scale[i];
    if (s->reference) {
      plain_row(l, x, g, mean[r], inverse[r], s->accumulate[0], dx);
    } else {
      fast_row(l, x, g, mean[r], inverse[r], s->accumulate[0], dx);
    }
    dx += l->d;
  }
  return STATUS_OK;
}

const op op_LayerNormalization = {.name = "LayerNormalization",
                                  .domain = "",
                                  .since = 17,
                                  .min_inputs = 2,
                                  .max_inputs = 3,
                                  .max_outputs = 3,
                                  .attributes = (const char *const[]){"axis", "epsilon", "stash_type", NULL},
                                  .keeps = KEEP_IN0 | KEEP_IN1,
                                  .differentiable = 7,
                                  .infer = layer_infer,
                                  .prepare = layer_prepare,
                                  .forward = layer_forward,
                                  .backward = layer_backward,
                                  .release = layer_release};
