/* Conv: the sliding product of 1-D, 2-D or 3-D planes with filters, in groups. */
#include "ops/conv_after.h"
#include "ops/support.h"

#include "base/mem.h"

#include <string.h>

typedef struct conv {
  convolution shape;
  conv_kernel *kernel; /* NULL: the reference path */
  bool fixed;          /* the weight changes only when load says so, not between batches */
  bool loaded;
  bool poisoned;       /* a parameter is no finite number, and what follows might hide that */
  size_t kernel_bytes; /* scratch of the kernel, in front of a gradient that is to be added to another */
  conv_after after;
  float *weight, *bias; /* with a batch norm folded in; NULL where there is none */
} conv;

static status conv_read(const step *s, convolution *c) {
  const tensor *x = s->in[0], *weight = s->in[1];
  char text_x[128], text_w[128];
  if (x->type != DTYPE_FLOAT || weight->type != DTYPE_FLOAT) {
    return step_error(s, "takes float input and weight, got %s and %s", dtype_name(x->type),
                      dtype_name(weight->type));
  }
  if (weight->shape.rank != x->shape.rank || x->shape.rank < 3 || shape_count(&weight->shape) < 1) {
    return step_error(
        s, "expected input [rows, channels, ...] and weight [filters, channels / group, ...], got %s and %s",
        shape_text(&x->shape, text_x, sizeof text_x), shape_text(&weight->shape, text_w, sizeof text_w));
  }
  int64_t groups = node_int(s->node, "group", 1), filters = weight->shape.dims[0];
  *c = (convolution){.rows = x->shape.dims[0], .groups = groups, .channels = weight->shape.dims[1]};
  if (groups < 1 || filters % groups) {
    return step_error(s, "group %lld does not divide the weight's %lld filters", (long long)groups,
                      (long long)filters);
  }
  c->filters = filters / groups;
  if (x->shape.dims[1] % groups || x->shape.dims[1] / groups != c->channels) {
    return step_error(s, "weight expects %lld input channels, its input has %lld",
                      (long long)(c->channels * groups), (long long)x->shape.dims[1]);
  }
  if (conv_has_bias(s) && (s->in[2]->type != DTYPE_FLOAT || tensor_count(s->in[2]) != filters)) {
    return step_error(s, "expected a bias of %lld floats, got %s %s", (long long)filters,
                      dtype_name(s->in[2]->type), shape_text(&s->in[2]->shape, text_x, sizeof text_x));
  }
  return window_read(s, &x->shape, weight->shape.dims + 2, &c->window);
}

static status conv_infer(step *s) {
  convolution c;
  shape y;
  status st = conv_read(s, &c);
  if (st) return st;
  window_shape(&c.window, c.rows, c.groups * c.filters, &y);
  step_set_output(s, 0, DTYPE_FLOAT, &y);
  return STATUS_OK;
}

/* What the library is to do for this step. */
static conv_options options_of(const step *s, const conv_after *after) {
  return (conv_options){.bias = conv_has_bias(s) || after->norm, .finish = after->finish};
}

/* Both arrays, or the one that the library takes while the other is converted: the first layer's output. */
static status conv_blocks(const step *s, block_use *use) {
  status st = STATUS_OK;
  convolution c;
  conv_after after;
  TRY(conv_read(s, &c));
  conv_after_read(s, &after);
  for (int way = 3; way > 0 && !use->may; way--) {
    conv_options o = options_of(s, &after);
    bool exists = false;
    o.weight = s->training;
    o.data = s->training && s->graph->values[s->node->inputs[0]].kind != VALUE_INPUT;
    o.block_x = way & 2 ? dnnl_block() : 0;
    o.block_y = way & 1 ? dnnl_block() : 0;
    TRY(conv_kernel_exists(&c, &o, &exists));
    if (exists) use->may = (way & 2 ? 1 : 0) | (way & 1 ? BLOCKS_OUT : 0);
  }
  use->size = use->may ? dnnl_block() : 0;
  use->keeps_zero = true;
  if (!after.finish.sum || !(use->may & BLOCKS_OUT)) goto done;
  use->may |= 1u << after.sum;
  use->alike = 1u << after.sum | BLOCKS_OUT;
done:
  return st;
}

/* Not where the library has no kernel: the reference path does one thing at a time. */
static bool conv_absorb(const step *s, const step *next, int input) {
  convolution c;
  conv_after after;
  bool exists = false;
  if (s->in[0]->type != DTYPE_FLOAT || !conv_can_follow(s, next, input) || conv_read(s, &c) || c.rows < 1)
    return false;
  conv_after_read(s, &after);
  const conv_options o = options_of(s, &after);
  return !conv_kernel_exists(&c, &o, &exists) && exists;
}

static bool wants(const step *s, int i) {
  return i < s->n_in && s->din[i];
}

/* Space for a gradient that the kernel writes whole before it is added, or that only the kernel wants. */
static size_t spare_bytes(const step *s) {
  size_t bytes = 0;
  for (int i = 0; i < s->n_in; i++) {
    if (!s->in[i]) continue;
    size_t own = (size_t)tensor_count(s->in[i]) * sizeof(float);
    if (wants(s, i) || (i > 0 && (wants(s, 1) || wants(s, 2)))) bytes += own + 64;
  }
  return bytes;
}

static void conv_release(step *s) {
  conv *c = s->state;
  if (!c) return;
  conv_kernel_free(&c->kernel);
  mem_free(c->weight);
  mem_free(c->bias);
  mem_free(c);
  s->state = NULL;
}

static status conv_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(conv)));
  conv *c = s->state;
  TRY(conv_read(s, &c->shape));
  c->fixed = conv_is_fixed(s, 1);
  if (s->reference || c->shape.rows < 1) return STATUS_OK;
  conv_after_read(s, &c->after);
  conv_options o = options_of(s, &c->after);
  o.data = wants(s, 0);
  o.weight = wants(s, 1) || wants(s, 2);
  o.block_x = s->in[0]->block;
  o.block_y = s->out[0]->block;
  TRY(conv_kernel_new(&c->kernel, &c->shape, &o));
  if (!c->kernel && (s->n_followers || o.block_x || o.block_y))
    THROW(STATUS_FAILED, "node '%s' (Conv): oneDNN has no kernel for what it promised", s->node->name);
  if (!c->kernel) return STATUS_OK;
  if (c->after.finish.sum) s->overwrites = c->after.sum + 1;
  if (c->after.norm) {
    TRY(mem_new(&c->weight, (size_t)tensor_count(s->in[1]), sizeof *c->weight));
    TRY(mem_new(&c->bias, (size_t)(c->shape.groups * c->shape.filters), sizeof *c->bias));
  }
  c->kernel_bytes = (conv_kernel_scratch_bytes(c->kernel) + 63) / 64 * 64;
  s->scratch_bytes = c->kernel_bytes + spare_bytes(s);
done:
  if (st) conv_release(s);
  return st;
}

/* Packing can fail, load cannot: forward does it. */
static void conv_load(step *s) {
  conv *c = s->state;
  c->loaded = false;
}

/* The weight, with the batch norm behind it, goes into the kernel. */
static status pack(step *s, conv *c) {
  const float *weight = s->in[1]->data, *bias = conv_has_bias(s) ? s->in[2]->data : NULL;
  const int64_t n = tensor_count(s->in[1]), filters = c->shape.groups * c->shape.filters;
  if (c->after.norm) {
    conv_fold_norm(c->after.norm, filters, n / filters, weight, bias, c->weight, c->bias);
    weight = c->weight;
    bias = c->bias;
  }
  c->poisoned =
      c->after.finish.after && !(conv_is_finite(weight, n) && (!bias || conv_is_finite(bias, filters)));
  c->loaded = true;
  return conv_kernel_load(c->kernel, weight);
}

static status conv_forward(step *s) {
  status st = STATUS_OK;
  conv *c = s->state;
  const float *x = s->in[0]->data, *weight = s->in[1]->data, *bias = conv_has_bias(s) ? s->in[2]->data : NULL;
  float *y = s->out[0]->data;
  const int64_t n = tensor_count(s->out[0]);
  if (!c->kernel) {
    convolution_reference(&c->shape, x, weight, bias, y, false);
    return STATUS_OK;
  }
  if (!c->loaded || !c->fixed) TRY(pack(s, c));
  if (c->after.finish.sum && s->in[c->after.sum]->data != y)
    memcpy(y, s->in[c->after.sum]->data, (size_t)n * sizeof *y);
  TRY(conv_kernel_forward(c->kernel, x, c->bias ? c->bias : bias, y, s->scratch));
  if (c->poisoned) *s->invalid = true;
done:
  return st;
}

static void reference_backward(const conv *c, step *s) {
  const float *dy = s->dout[0]->data;
  if (wants(s, 0))
    convolution_reference_data(&c->shape, dy, s->in[1]->data, s->din[0]->data, s->accumulate[0]);
  if (wants(s, 1))
    convolution_reference_weight(&c->shape, s->in[0]->data, dy, s->din[1]->data, s->accumulate[1]);
  if (wants(s, 2)) convolution_reference_bias(&c->shape, dy, s->din[2]->data, s->accumulate[2]);
}

/* The kernel overwrites whole gradients: one that is to be added to a part is made in the scratch first. */
static status conv_backward(step *s) {
  conv *c = s->state;
  if (!c->kernel) {
    reference_backward(c, s);
    return STATUS_OK;
  }
  char *spare = (char *)s->scratch + c->kernel_bytes;
  float *to[3] = {NULL};
  for (int i = 0; i < s->n_in; i++) {
    if (!s->in[i] || !(wants(s, i) || (i > 0 && (wants(s, 1) || wants(s, 2))))) continue;
    bool direct = wants(s, i) && !s->accumulate[i];
    to[i] = direct ? s->din[i]->data : (float *)spare;
    if (!direct) spare += (tensor_count(s->in[i]) * (int64_t)sizeof(float) + 63) / 64 * 64;
  }
  status st =
      conv_kernel_backward(c->kernel, s->in[0]->data, s->dout[0]->data, to[0], to[1], to[2], s->scratch);
  for (int i = 0; i < s->n_in && !st; i++) {
    if (wants(s, i) && s->accumulate[i]) gradient_write(s->din[i]->data, to[i], tensor_count(s->in[i]), true);
  }
  return st;
}

const op op_Conv = {.name = "Conv",
                    .domain = "",
                    .since = 1,
                    .min_inputs = 2,
                    .max_inputs = 3,
                    .max_outputs = 1,
                    .attributes = (const char *const[]){"auto_pad", "dilations", "group", "kernel_shape",
                                                        "pads", "strides", NULL},
                    .keeps = KEEP_IN0 | KEEP_IN1,
                    .differentiable = 7,
                    .infer = conv_infer,
                    .prepare = conv_prepare,
                    .load = conv_load,
                    .forward = conv_forward,
                    .backward = conv_backward,
                    .release = conv_release,
                    .absorb = conv_absorb,
                    .blocks = conv_blocks};
