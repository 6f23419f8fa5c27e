/* InstanceNormalization: every plane of every row by its own mean and population variance,
 *     y = scale (x - mean) / sqrt(variance + epsilon) + bias      scale, bias: per channel
 * which is the batch normalisation of one row of rows * channels channels. */
#include "ops/blas.h"
#include "ops/norm.h"
#include "ops/reference.h"
#include "ops/support.h"

#include "base/mem.h"

typedef struct instance_norm {
  int64_t rows, channels;
  planes planes;
  float epsilon;
} instance_norm;

static status instance_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  char text[128];
  if (x->rank < 3) {
    return step_error(s, "expected an input [rows, channels, ...] with spatial axes, got %s",
                      shape_text(x, text, sizeof text));
  }
  for (int i = 0; i < 3; i++) {
    status st = input_want(s, i, DTYPE_FLOAT);
    if (st) return st;
    if (i && tensor_count(s->in[i]) != x->dims[1]) {
      return step_error(s, "input %d has shape %s where the data has %lld channels", i,
                        shape_text(&s->in[i]->shape, text, sizeof text), (long long)x->dims[1]);
    }
  }
  step_set_output(s, 0, DTYPE_FLOAT, x);
  return STATUS_OK;
}

/* saved: mean, variance; scratch: scale, bias (forward) or their gradients (backward) of every plane, and 3
 * rows more. */
static status instance_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(instance_norm));
  if (st) return st;
  instance_norm *n = s->state;
  const shape *x = &s->in[0]->shape;
  n->rows = x->dims[0];
  n->channels = x->dims[1];
  n->planes = (planes){1, n->rows * n->channels, shape_span(x, 2, x->rank), 0};
  n->epsilon = node_float(s->node, "epsilon", 1e-5f);
  s->saved_bytes = (size_t)(2 * n->planes.channels) * sizeof(float);
  s->scratch_bytes = (size_t)(6 * n->planes.channels) * sizeof(float);
  return STATUS_OK;
}

static void instance_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* The numbers of the channels once for every row. */
static void repeat(const instance_norm *n, const float *from, float *to) {
  for (int64_t r = 0; r < n->rows; r++) memcpy(to + r * n->channels, from, (size_t)n->channels * sizeof *to);
}

static status instance_forward(step *s) {
  const instance_norm *n = s->state;
  const planes *p = &n->planes;
  const float *x = s->in[0]->data;
  float *mean = s->saved, *variance = mean + p->channels;
  float *scale = s->scratch, *bias = scale + p->channels, *rest = bias + p->channels, *y = s->out[0]->data;
  repeat(n, s->in[1]->data, scale);
  repeat(n, s->in[2]->data, bias);
  if (s->reference) {
    norm_reference_statistics(1, p->channels, p->extent, x, mean, variance);
    norm_reference_forward(1, p->channels, p->extent, x, mean, variance, n->epsilon, scale, bias, y);
  } else {
    norm_statistics(p, x, mean, variance);
    norm_forward(p, x, mean, variance, n->epsilon, scale, bias, y, rest);
  }
  return STATUS_OK;
}

static status instance_backward(step *s) {
  const instance_norm *n = s->state;
  const planes *p = &n->planes;
  const float *x = s->in[0]->data, *dy = s->dout[0]->data, *mean = s->saved, *variance = mean + p->channels;
  float *scale = s->scratch, *dscale = scale + p->channels, *dbias = dscale + p->channels,
        *rest = dbias + p->channels;
  float *dx = s->din[0] ? s->din[0]->data : NULL;
  const bool accumulate[] = {s->accumulate[0], false, false};
  repeat(n, s->in[1]->data, scale);
  if (s->reference) {
    norm_reference_backward(1, p->channels, p->extent, x, dy, mean, variance, n->epsilon, true, scale, dx,
                            dscale, dbias, accumulate);
  } else {
    norm_backward(p, x, dy, mean, variance, n->epsilon, true, scale, dx, dscale, dbias, accumulate, rest);
  }
  if (s->din[1]) rows_sum(n->rows, n->channels, 1, dscale, s->accumulate[1], s->din[1]->data);
  if (s->din[2]) rows_sum(n->rows, n->channels, 1, dbias, s->accumulate[2], s->din[2]->data);
  return STATUS_OK;
}

const op op_InstanceNormalization = {.name = "InstanceNormalization",
                                     .domain = "",
                                     .since = 6,
                                     .min_inputs = 3,
                                     .max_inputs = 3,
                                     .max_outputs = 1,
                                     .attributes = (const char *const[]){"epsilon", NULL},
                                     .keeps = KEEP_IN0 | KEEP_IN1,
                                     .differentiable = 7,
                                     .infer = instance_infer,
                                     .prepare = instance_prepare,
                                     .forward = instance_forward,
                                     .backward = instance_backward,
                                     .release = instance_release};
