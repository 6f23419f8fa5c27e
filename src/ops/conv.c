/* Conv: the sliding product of 1-D, 2-D or 3-D planes with filters, in groups. */
#include "ops/dnnl.h"
#include "ops/support.h"

#include "base/mem.h"

#include <string.h>

typedef struct conv {
  convolution shape;
  conv_kernel *kernel; /* NULL: the reference path */
  bool fixed;          /* the weight changes only when load says so, not between batches */
  bool loaded;
  size_t kernel_bytes; /* scratch of the kernel, in front of a gradient that is to be added to another */
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
  if (step_has(s, 2) && (s->in[2]->type != DTYPE_FLOAT || tensor_count(s->in[2]) != filters)) {
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
  mem_free(c);
  s->state = NULL;
}

static status conv_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(conv)));
  conv *c = s->state;
  TRY(conv_read(s, &c->shape));
  value_kind kind = s->graph->values[s->node->inputs[1]].kind;
  c->fixed = s->constant[1] || (kind != VALUE_COMPUTED && kind != VALUE_INPUT);
  if (s->reference || c->shape.rows < 1) return STATUS_OK;
  TRY(conv_kernel_new(&c->kernel, &c->shape, step_has(s, 2), wants(s, 0), wants(s, 1) || wants(s, 2)));
  if (!c->kernel) return STATUS_OK;
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

static status conv_forward(step *s) {
  status st = STATUS_OK;
  conv *c = s->state;
  const float *x = s->in[0]->data, *weight = s->in[1]->data, *bias = step_has(s, 2) ? s->in[2]->data : NULL;
  if (!c->kernel) {
    convolution_reference(&c->shape, x, weight, bias, s->out[0]->data, false);
    return STATUS_OK;
  }
  if (!c->loaded || !c->fixed) TRY(conv_kernel_load(c->kernel, weight));
  c->loaded = true;
  TRY(conv_kernel_forward(c->kernel, x, bias, s->out[0]->data, s->scratch));
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
                    .release = conv_release};
