#include "ops/conv_after.h"

#include "ops/ops.h"
#include "ops/support.h"

#include <float.h>
#include <math.h>

extern const op op_Add, op_BatchNormalization, op_Relu, op_LeakyRelu, op_HardSwish, op_Clip_6, op_Clip_11;

static int own_inputs(const step *s) {
  int n = s->n_in;
  for (int i = 0; i < s->n_followers; i++) n -= s->followers[i].n_in - 1;
  return n;
}

bool conv_has_bias(const step *s) {
  return own_inputs(s) > 2 && s->in[2];
}

bool conv_is_fixed(const step *s, int i) {
  const value_kind kind = s->graph->values[s->node->inputs[i]].kind;
  return s->constant[i] || (kind != VALUE_COMPUTED && kind != VALUE_INPUT);
}

/* A bound of Clip: an attribute, or an input that is fixed data. */
static bool bound(const step *clip, int input, const char *attribute, float fallback, float *out) {
  *out = clip->op == &op_Clip_6 ? node_float(clip->node, attribute, fallback) : fallback;
  if (!step_has(clip, input)) return true;
  if (!clip->constant[input]) return false;
  *out = (float)tensor_real(clip->in[input], 0);
  return true;
}

static bool read_activation(const step *next, finish *f) {
  *f = (finish){.sum = f->sum};
  if (next->op == &op_Relu) {
    f->after = ACTIVATION_RELU;
  } else if (next->op == &op_LeakyRelu) {
    f->after = ACTIVATION_RELU;
    f->a = node_float(next->node, "alpha", 0.01f);
  } else if (next->op == &op_HardSwish) {
    f->after = ACTIVATION_HARD_SWISH;
  } else if (next->op == &op_Clip_6 || next->op == &op_Clip_11) {
    f->after = ACTIVATION_CLIP;
    return bound(next, 1, "min", -FLT_MAX, &f->a) && bound(next, 2, "max", FLT_MAX, &f->b) && f->a <= f->b;
  }
  return f->after != ACTIVATION_NONE;
}

/* Statistics of the running kind, and parameters that no batch changes. A weight out of DequantizeLinear
 * stays as it is: in such models results are rounded to levels, and more of them would come out on the other
 * side.
 */
static bool is_foldable(const step *s, const step *norm) {
  if (norm->op != &op_BatchNormalization || norm->n_out > 1 || node_int(norm->node, "training_mode", 0))
    return false;
  for (int i = 1; i < norm->n_in; i++)
    if (!conv_is_fixed(norm, i)) return false;
  return s->graph->values[s->node->inputs[1]].kind != VALUE_COMPUTED && conv_is_fixed(s, 1) &&
         (!conv_has_bias(s) || conv_is_fixed(s, 2));
}

static bool is_sum(const step *s, const step *next, int input) {
  const tensor *other = next->op == &op_Add ? next->in[!input] : NULL;
  return other && other->type == DTYPE_FLOAT && shape_equal(&other->shape, &s->out[0]->shape);
}

bool conv_can_follow(const step *s, const step *next, int input) {
  conv_after so_far;
  conv_after_read(s, &so_far);
  finish f = so_far.finish;
  if (f.after) return false;
  if (read_activation(next, &f)) return input == 0;
  if (f.sum) return false;
  return is_sum(s, next, input) || (!so_far.norm && input == 0 && is_foldable(s, next));
}

void conv_after_read(const step *s, conv_after *a) {
  int at = own_inputs(s);
  *a = (conv_after){0};
  for (int i = 0; i < s->n_followers; i++) {
    const step *next = &s->followers[i];
    if (next->op == &op_BatchNormalization) {
      a->norm = next;
    } else if (next->op == &op_Add) {
      a->sum = at;
      a->finish.sum = true;
    } else {
      read_activation(next, &a->finish);
    }
    at += next->n_in - 1;
  }
}

void conv_fold_norm(const step *norm, int64_t filters, int64_t length, const float *weight, const float *bias,
                    float *to_weight, float *to_bias) {
  const float *scale = norm->in[1]->data, *shift = norm->in[2]->data, *mean = norm->in[3]->data,
              *variance = norm->in[4]->data, epsilon = node_float(norm->node, "epsilon", 1e-5f);
  for (int64_t f = 0; f < filters; f++, weight += length, to_weight += length) {
    const double gain = scale[f] / sqrt((double)variance[f] + epsilon);
    for (int64_t i = 0; i < length; i++) to_weight[i] = (float)(weight[i] * gain);
    to_bias[f] = (float)(((bias ? bias[f] : 0) - (double)mean[f]) * gain + shift[f]);
  }
}

FOR_EACH_PROCESSOR bool conv_is_finite(const float *x, int64_t n) {
  int bad = 0;
  for (int64_t i = 0; i < n; i++) bad |= !(fabsf(x[i]) <= FLT_MAX);
  return !bad;
}
