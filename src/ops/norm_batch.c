/* BatchNormalization. In training (run->training on a plan made for it, or a model that says
 * training_mode=1, and not where the statistics are frozen): y = scale (x - mean) / sqrt(var + epsilon) +
 * bias      mean, var: population statistics of this shard's rows else with the running statistics of inputs
 * 3 and 4. In training their gradients are no gradients but what this shard adds to the batch's statistics:
 * run->row_share times the mean, and run->row_share times the unbiased variance var n / (n - 1), n = rows *
 * extent (var itself when n is 1), as PyTorch keeps them. Otherwise run->row_share times the running
 * statistics, so that these stay as they are. Whoever trains then sets running = momentum running + (1 -
 * momentum) (sum over the shards) A model's own outputs 1 and 2 are the same with this shard alone and the
 * population variance, as ONNX defines them. */
#include "ops/norm.h"
#include "ops/reference.h"
#include "ops/support.h"

#include "base/mem.h"

#include <string.h>

enum { X, SCALE, BIAS, MEAN, VARIANCE, N_INPUTS };

typedef struct batch_norm {
  planes planes;
  float epsilon, momentum;
  bool always; /* the model itself says: statistics of the batch */
} batch_norm;

/* Before training_mode came with opset 14, more than one output said so. */
static bool always_training(const step *s) {
  if (s->node->opset < 14) return s->node->n_outputs > 1;
  return node_int(s->node, "training_mode", 0) != 0;
}

static status batch_infer(step *s) {
  const shape *x = &s->in[X]->shape;
  char text[128];
  if (x->rank < 2)
    return step_error(s, "expected an input [rows, channels, ...], got %s", shape_text(x, text, sizeof text));
  for (int i = X; i < N_INPUTS; i++) {
    status st = input_want(s, i, DTYPE_FLOAT);
    if (st) return st;
    if (i > X && tensor_count(s->in[i]) != x->dims[1]) {
      return step_error(s, "input %d has shape %s where the data has %lld channels", i,
                        shape_text(&s->in[i]->shape, text, sizeof text), (long long)x->dims[1]);
    }
  }
  if (node_int(s->node, "spatial", 1) != 1)
    return step_error(s, "spatial=0 is not supported: statistics per channel only");
  for (int i = 1; i < s->n_out; i++) {
    if (!s->out[i]) continue;
    if (!always_training(s) || i > 2) return step_error(s, "output %d is only there in training", i);
    step_set_output(s, i, DTYPE_FLOAT, &s->in[MEAN]->shape);
  }
  step_set_output(s, 0, DTYPE_FLOAT, x);
  return STATUS_OK;
}

static status batch_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(batch_norm));
  if (st) return st;
  batch_norm *b = s->state;
  const shape *x = &s->in[X]->shape;
  *b = (batch_norm){.planes = {x->dims[0], x->dims[1], shape_span(x, 2, x->rank), s->in[X]->block},
                    .epsilon = node_float(s->node, "epsilon", 1e-5f),
                    .momentum = node_float(s->node, "momentum", 0.9f),
                    .always = always_training(s)};
  s->scratch_bytes = (size_t)(3 * b->planes.channels) * sizeof(float);
  s->saved_bytes = (size_t)(2 * b->planes.channels) * sizeof(float);
  return STATUS_OK;
}

static status batch_blocks(const step *s, block_use *use) {
  (void)s;
  *use = (block_use){.may = 1 << X | BLOCKS_OUT, .alike = 1 << X | BLOCKS_OUT, .keeps_zero = true};
  return STATUS_OK;
}

static void batch_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static bool uses_batch(const step *s) {
  const batch_norm *b = s->state;
  return !s->frozen && (b->always || (s->training && s->run->training));
}

/* Outputs 1 and 2 of a model that says training_mode=1. */
static void running_outputs(const step *s, const float *mean, const float *variance) {
  const batch_norm *b = s->state;
  for (int i = 1; i < s->n_out && i <= 2; i++) {
    if (!s->out[i]) continue;
    const float *old = s->in[i == 1 ? MEAN : VARIANCE]->data, *now = i == 1 ? mean : variance;
    float *to = s->out[i]->data;
    for (int64_t c = 0; c < b->planes.channels; c++)
      to[c] = old[c] * b->momentum + now[c] * (1 - b->momentum);
  }
}

static status batch_forward(step *s) {
  const batch_norm *b = s->state;
  const planes *p = &b->planes;
  const float *x = s->in[X]->data, *scale = s->in[SCALE]->data, *bias = s->in[BIAS]->data;
  float *mean = s->saved, *variance = mean + p->channels;
  if (!uses_batch(s)) {
    memcpy(mean, s->in[MEAN]->data, (size_t)p->channels * sizeof *mean);
    memcpy(variance, s->in[VARIANCE]->data, (size_t)p->channels * sizeof *variance);
  } else if (s->reference) {
    norm_reference_statistics(p->rows, p->channels, p->extent, x, mean, variance);
  } else {
    norm_statistics(p, x, mean, variance);
  }
  if (s->reference) {
    norm_reference_forward(p->rows, p->channels, p->extent, x, mean, variance, b->epsilon, scale, bias,
                           s->out[0]->data);
  } else {
    norm_forward(p, x, mean, variance, b->epsilon, scale, bias, s->out[0]->data, s->scratch);
  }
  running_outputs(s, mean, variance);
  return STATUS_OK;
}

static void write_share(const step *s, int input, const float *value, float share) {
  const batch_norm *b = s->state;
  if (!s->din[input]) return;
  float *to = s->din[input]->data;
  for (int64_t c = 0; c < b->planes.channels; c++) to[c] = value[c] * share;
}

static status batch_backward(step *s) {
  const batch_norm *b = s->state;
  const planes *p = &b->planes;
  const float *x = s->in[X]->data, *dy = s->dout[0]->data, *scale = s->in[SCALE]->data;
  const float *mean = s->saved, *variance = mean + p->channels;
  float *d[3];
  for (int i = 0; i < 3; i++) d[i] = s->din[i] ? s->din[i]->data : NULL;
  bool batch = uses_batch(s);
  if (s->reference) {
    norm_reference_backward(p->rows, p->channels, p->extent, x, dy, mean, variance, b->epsilon, batch, scale,
                            d[0], d[1], d[2], s->accumulate);
  } else {
    norm_backward(p, x, dy, mean, variance, b->epsilon, batch, scale, d[0], d[1], d[2], s->accumulate,
                  s->scratch);
  }
  float n = (float)(p->rows * p->extent), unbiased = batch && n > 1 ? n / (n - 1) : 1;
  write_share(s, MEAN, mean, s->run->row_share);
  write_share(s, VARIANCE, variance, s->run->row_share * unbiased);
  return STATUS_OK;
}

const op op_BatchNormalization = {
    .name = "BatchNormalization",
    .domain = "",
    .since = 7,
    .min_inputs = 5,
    .max_inputs = 5,
    .max_outputs = 5,
    .attributes = (const char *const[]){"epsilon", "momentum", "spatial", "training_mode", NULL},
    .keeps = KEEP_IN0 | KEEP_IN1,
    .differentiable = 1 << X | 1 << SCALE | 1 << BIAS,
    .statistics = 1 << MEAN | 1 << VARIANCE,
    .infer = batch_infer,
    .prepare = batch_prepare,
    .forward = batch_forward,
    .backward = batch_backward,
    .release = batch_release,
    .blocks = batch_blocks};
