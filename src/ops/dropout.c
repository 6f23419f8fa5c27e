/* Dropout. Training: y = x / (1 - ratio) where a random number of [0, 1) is at least ratio, else 0. The
 * number belongs to the step, the node, the sample's row of the dataset and the element within it: neither to
 * the shard nor the rank. Otherwise: y = x. Whether a batch is for training says run_context, not the file's
 * training_mode, which tells only how the model was exported. */
#include "base/rng.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

/* What backward needs; the mask, a byte an element, lies behind it. */
typedef struct dropout_saved {
  float scale;
} dropout_saved;
enum { MASK_AT = 64 };

static uint8_t *mask_of(const step *s) {
  return (uint8_t *)s->saved + MASK_AT;
}

static float read_ratio(const step *s) {
  if (step_has(s, 1)) return (float)tensor_real(s->in[1], 0);
  return s->node->opset < 12 ? node_float(s->node, "ratio", 0.5f) : 0.5f;
}

static status dropout_infer(step *s) {
  status st = input_want(s, 0, DTYPE_FLOAT);
  if (st != STATUS_OK) return st;
  if (step_has(s, 1) && tensor_count(s->in[1]) != 1) return step_error(s, "ratio must be one number");
  step_set_output(s, 0, DTYPE_FLOAT, &s->in[0]->shape);
  step_set_output(s, 1, s->node->opset < 10 ? DTYPE_FLOAT : DTYPE_BOOL, &s->in[0]->shape);
  return STATUS_OK;
}

static status dropout_prepare(step *s) {
  s->saved_bytes = MASK_AT + (size_t)tensor_count(s->in[0]);
  return STATUS_OK;
}

/* mask[0..n) of one sample. */
static void draw_row(uint8_t *mask, int64_t n, uint32_t threshold, uint64_t seed, uint64_t stream,
                     uint64_t first) {
  for (int64_t i = 0; i < n; i += 4) {
    uint32_t words[4];
    rng_words(seed, RNG_DROPOUT, stream, first + (uint64_t)i / 4, words);
    for (int64_t k = 0; k < 4 && i + k < n; k++) mask[i + k] = words[k] >> 8 >= threshold;
  }
}

/* The stream has 56 bits: 40 of the step, 16 of the node. A row's elements take one index for each four of
 * them. */
static void draw_mask(const step *s, uint8_t *mask, float ratio) {
  const run_context *run = s->run;
  const shape *x = &s->in[0]->shape;
  const int64_t count = shape_count(x);
  int64_t rows = s->rows > 0 && count % s->rows == 0 ? s->rows : x->rank ? x->dims[0] : 1;
  if (rows == 0) return;
  const int64_t each = count / rows;
  const uint64_t stream = (uint64_t)(s->index & 0xffff) << 40 | (run->step & 0xffffffffff);
  const uint32_t threshold = (uint32_t)ceilf(ratio * 0x1p24f);
  for (int64_t r = 0; r < rows; r++) {
    uint64_t row = (uint64_t)(run->rows ? run->rows[r] : r);
    draw_row(mask + r * each, each, threshold, run->seed, stream, row * (uint64_t)((each + 3) / 4));
  }
}

static void write_mask_output(const step *s, const uint8_t *mask) {
  tensor *out = s->n_out > 1 ? s->out[1] : NULL;
  if (!out) return;
  const int64_t n = tensor_count(out);
  for (int64_t i = 0; i < n; i++) element_set_int(out, i, mask[i]);
}

FOR_EACH_PROCESSOR static void apply(float *y, const float *x, const uint8_t *mask, float scale, int64_t n,
                                     bool add) {
  if (add) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) y[i] += mask[i] ? x[i] * scale : 0;
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) y[i] = mask[i] ? x[i] * scale : 0;
  }
}

static status dropout_forward(step *s) {
  const int64_t n = tensor_count(s->in[0]);
  dropout_saved *saved = s->saved;
  uint8_t *mask = mask_of(s);
  const float ratio = s->run->training ? read_ratio(s) : 0;
  if (!(ratio >= 0 && ratio < 1)) return step_error(s, "ratio is %g, expected 0 <= ratio < 1", ratio);
  saved->scale = 1 / (1 - ratio);
  if (ratio > 0) {
    draw_mask(s, mask, ratio);
    apply(s->out[0]->data, s->in[0]->data, mask, saved->scale, n, false);
  } else {
    memset(mask, 1, (size_t)n);
    view_forward(s);
  }
  write_mask_output(s, mask);
  return STATUS_OK;
}

static status dropout_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const dropout_saved *saved = s->saved;
  apply(s->din[0]->data, s->dout[0]->data, mask_of(s), saved->scale, tensor_count(s->in[0]),
        s->accumulate[0]);
  return STATUS_OK;
}

const op op_Dropout = {.name = "Dropout",
                       .domain = "",
                       .since = 7,
                       .min_inputs = 1,
                       .max_inputs = 3,
                       .max_outputs = 2,
                       .attributes = (const char *const[]){"ratio", "seed", NULL},
                       .flags = OP_IN_PLACE | OP_RANDOM,
                       .differentiable = 1,
                       .infer = dropout_infer,
                       .prepare = dropout_prepare,
                       .forward = dropout_forward,
                       .backward = dropout_backward};
