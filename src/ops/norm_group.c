/* GroupNormalization: x [rows, channels, ...]; the channels of a row in num_groups equal parts, each of n
 * numbers normalised together,
 *     h = (x - mean) / sqrt(variance + epsilon),  y = scale h + bias
 *     dscale = sum dy h,  dbias = sum dy,  g = scale dy,
 *     dx = (g - mean(g) - h mean(g h)) / sqrt(variance + epsilon)
 * scale, bias: per channel; in opsets 18 to 20 per group. */
#include "ops/span.h"
#include "ops/support.h"

#include "base/mem.h"

#include <math.h>

enum { PER_CHANNEL_SINCE = 21 };

typedef struct group_norm {
  int64_t parts, groups; /* parts: rows * groups */
  int64_t each, extent;  /* channels of a group, numbers of a channel in a row */
  int64_t step;          /* from one channel's place in scale to the next: 0 where a group has one place */
  float epsilon;
} group_norm;

static status group_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  const int64_t groups = node_int(s->node, "num_groups", 0);
  char text[128];
  status st = STATUS_OK;
  for (int i = 0; i < 3; i++) TRY(input_want(s, i, DTYPE_FLOAT));
  if (x->rank < 2 || groups < 1 || x->dims[1] % groups)
    return step_error(s, "an input %s has no channels for num_groups=%lld", shape_text(x, text, sizeof text),
                      (long long)groups);
  const int64_t places = s->node->opset < PER_CHANNEL_SINCE ? groups : x->dims[1];
  for (int i = 1; i < 3; i++) {
    if (tensor_count(s->in[i]) != places)
      return step_error(s, "input %d has shape %s, expected %lld numbers (opset %d)", i,
                        shape_text(&s->in[i]->shape, text, sizeof text), (long long)places, s->node->opset);
  }
  step_set_output(s, 0, DTYPE_FLOAT, x);
done:
  return st;
}

/* saved: mean and 1 / sqrt(variance + epsilon) of every part; scratch: sums of the channels of a group. */
static status group_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  group_norm *n;
  status st = mem_new(&n, 1, sizeof *n);
  if (st) return st;
  s->state = n;
  n->groups = node_int(s->node, "num_groups", 1);
  n->parts = x->dims[0] * n->groups;
  n->each = x->dims[1] / n->groups;
  n->extent = shape_span(x, 2, x->rank);
  n->step = s->node->opset >= PER_CHANNEL_SINCE;
  n->epsilon = node_float(s->node, "epsilon", 1e-5f);
  s->saved_bytes = (size_t)(2 * n->parts) * sizeof(float);
  s->scratch_bytes = (size_t)(2 * n->each) * sizeof(float);
  return STATUS_OK;
}

static void group_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* The place of scale and bias that belongs to channel c of a part. */
static int64_t place_of(const group_norm *n, int64_t part, int64_t c) {
  const int64_t group = part % n->groups;
  return n->step ? group * n->each + c : group;
}

static status group_forward(step *s) {
  const group_norm *n = s->state;
  const float *x = s->in[0]->data, *scale = s->in[1]->data, *bias = s->in[2]->data;
  float *y = s->out[0]->data, *mean = s->saved, *inverse = mean + n->parts;
  const int64_t count = n->each * n->extent;
  for (int64_t p = 0; n->extent && p < n->parts; p++) {
    mean[p] = span_sum(x, count) / (float)count;
    inverse[p] = 1 / sqrtf(span_squares(x, mean[p], count) / (float)count + n->epsilon);
    for (int64_t c = 0; c < n->each; c++, x += n->extent, y += n->extent) {
      const int64_t k = place_of(n, p, c);
      span_affine(x, mean[p], inverse[p] * scale[k], bias[k], y, n->extent);
    }
  }
  return STATUS_OK;
}

/* dx (+)= factor dy - plain - (x - mean) centered */
FOR_EACH_PROCESSOR static void write_dx(const float *x, const float *dy, float mean, float factor,
                                        float plain, float centered, bool add, float *dx, int64_t n) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] += factor * dy[i] - plain - (x[i] - mean) * centered;
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) dx[i] = factor * dy[i] - plain - (x[i] - mean) * centered;
  }
}

static void part_dx(const step *s, int64_t p, const float *sums) {
  const group_norm *n = s->state;
  const int64_t count = n->each * n->extent, at = p * count;
  const float *scale = s->in[1]->data, *mean = s->saved, *inverse = mean + n->parts;
  float plain = 0, centered = 0, one = inverse[p];
  for (int64_t c = 0; c < n->each; c++) {
    plain += scale[place_of(n, p, c)] * sums[2 * c];
    centered += scale[place_of(n, p, c)] * sums[2 * c + 1];
  }
  for (int64_t c = 0; c < n->each; c++) {
    const int64_t from = at + c * n->extent;
    write_dx((const float *)s->in[0]->data + from, (const float *)s->dout[0]->data + from, mean[p],
             one * scale[place_of(n, p, c)], one * plain / (float)count,
             one * one * one * centered / (float)count, s->accumulate[0], (float *)s->din[0]->data + from,
             n->extent);
  }
}

static status group_backward(step *s) {
  const group_norm *n = s->state;
  const float *x = s->in[0]->data, *dy = s->dout[0]->data, *mean = s->saved, *inverse = mean + n->parts;
  float *dscale = s->din[1] ? gradient_begin(s, 1) : NULL, *dbias = s->din[2] ? gradient_begin(s, 2) : NULL;
  float *sums = s->scratch;
  for (int64_t p = 0; n->extent && p < n->parts; p++) {
    for (int64_t c = 0; c < n->each; c++) {
      const int64_t k = place_of(n, p, c), from = (p * n->each + c) * n->extent;
      span_moments(x + from, dy + from, mean[p], n->extent, &sums[2 * c], &sums[2 * c + 1]);
      if (dbias) dbias[k] += sums[2 * c];
      if (dscale) dscale[k] += sums[2 * c + 1] * inverse[p];
    }
    if (s->din[0]) part_dx(s, p, sums);
  }
  return STATUS_OK;
}

const op op_GroupNormalization = {.name = "GroupNormalization",
                                  .domain = "",
                                  .since = 18,
                                  .min_inputs = 3,
                                  .max_inputs = 3,
                                  .max_outputs = 1,
                                  .attributes =
                                      (const char *const[]){"epsilon", "num_groups", "stash_type", NULL},
                                  .keeps = KEEP_IN0 | KEEP_IN1,
                                  .differentiable = 7,
                                  .infer = group_infer,
                                  .prepare = group_prepare,
                                  .forward = group_forward,
                                  .backward = group_backward,
                                  .release = group_release};
