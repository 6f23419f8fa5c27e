/* ConvTranspose: a convolution turned around. That convolution goes from y to x with the same weight
 * [channels of x, channels of y / group, kernel...]: forward is its gradient of the input, the gradient of x
 * is its forward, and that of the weight is its own with x and dy in each other's place. */
#include "ops/dnnl.h"
#include "ops/span.h"
#include "ops/support.h"

#include "base/mem.h"

typedef struct transposed {
  convolution around;
  conv_kernel *kernel; /* NULL: the reference path */
  bool fixed, loaded;  /* of the weight, as in conv.c */
  size_t kernel_bytes; /* scratch of the kernel, in front of a gradient that is to be added to another */
} transposed;

static int64_t channels_of(const convolution *c) {
  return c->groups * c->channels;
}

static status transposed_read(const step *s, convolution *c) {
  const tensor *x = s->in[0], *weight = s->in[1];
  char text_x[128], text_w[128];
  for (int i = 0; i < s->n_in; i++) {
    status st = s->in[i] ? input_want(s, i, DTYPE_FLOAT) : STATUS_OK;
    if (st) return st;
  }
  int64_t groups = node_int(s->node, "group", 1);
  if (weight->shape.rank != x->shape.rank || x->shape.rank < 3 || tensor_count(weight) < 1 || groups < 1 ||
      x->shape.dims[1] % groups || weight->shape.dims[0] != x->shape.dims[1]) {
    return step_error(
        s,
        "expected input [rows, channels, ...] and weight [channels, filters / group, ...] with channels "
        "in %lld equal groups, got %s and %s",
        (long long)groups, shape_text(&x->shape, text_x, sizeof text_x),
        shape_text(&weight->shape, text_w, sizeof text_w));
  }
  *c = (convolution){.rows = x->shape.dims[0],
                     .groups = groups,
                     .channels = weight->shape.dims[1],
                     .filters = x->shape.dims[1] / groups};
  if (step_has(s, 2) && tensor_count(s->in[2]) != channels_of(c)) {
    return step_error(s, "expected a bias of %lld floats, got %s", (long long)channels_of(c),
                      shape_text(&s->in[2]->shape, text_x, sizeof text_x));
  }
  return window_read_transposed(s, &x->shape, weight->shape.dims + 2, &c->window);
}

static status transposed_infer(step *s) {
  convolution c;
  status st = transposed_read(s, &c);
  if (st) return st;
  const window *w = &c.window;
  shape y = {.rank = 2 + w->rank, .dims = {c.rows, channels_of(&c)}};
  for (int i = 0; i < w->rank; i++) y.dims[2 + i] = w->in[WINDOW_RANK - w->rank + i];
  step_set_output(s, 0, DTYPE_FLOAT, &y);
  return STATUS_OK;
}

static void transposed_release(step *s) {
  transposed *t = s->state;
  if (!t) return;
  conv_kernel_free(&t->kernel);
  mem_free(t);
  s->state = NULL;
}

static status transposed_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(transposed)));
  transposed *t = s->state;
  TRY(transposed_read(s, &t->around));
  value_kind kind = s->graph->values[s->node->inputs[1]].kind;
  t->fixed = s->constant[1] || (kind != VALUE_COMPUTED && kind != VALUE_INPUT);
  if (s->reference || t->around.rows < 1) return STATUS_OK;
  TRY(conv_kernel_new(&t->kernel, &t->around, &(conv_options){.data = true, .weight = s->din[1] != NULL}));
  if (!t->kernel) return STATUS_OK;
  t->kernel_bytes = (conv_kernel_scratch_bytes(t->kernel) + 63) / 64 * 64;
  int64_t spare = 0;
  for (int i = 0; i < 2; i++) {
    int64_t n = s->din[i] && s->accumulate[i] ? tensor_count(s->in[i]) : 0;
    if (n > spare) spare = n;
  }
  s->scratch_bytes = t->kernel_bytes + (size_t)spare * sizeof(float);
done:
  if (st) transposed_release(s);
  return st;
}

static void transposed_load(step *s) {
  transposed *t = s->state;
  t->loaded = false;
}

static void add_bias(const convolution *c, const float *bias, float *y) {
  int64_t extent = window_inputs(&c->window);
  for (int64_t plane = 0; plane < c->rows * channels_of(c); plane++, y += extent) {
    float b = bias[plane % channels_of(c)];
    for (int64_t i = 0; i < extent; i++) y[i] += b;
  }
}

static status transposed_forward(step *s) {
  status st = STATUS_OK;
  transposed *t = s->state;
  const float *x = s->in[0]->data, *weight = s->in[1]->data;
  float *y = s->out[0]->data;
  if (t->kernel) {
    if (!t->loaded || !t->fixed) TRY(conv_kernel_load(t->kernel, weight));
    t->loaded = true;
    TRY(conv_kernel_backward(t->kernel, NULL, x, y, NULL, NULL, s->scratch));
  } else {
    convolution_reference_data(&t->around, x, weight, y, false);
  }
  if (step_has(s, 2)) add_bias(&t->around, s->in[2]->data, y);
done:
  return st;
}

static void bias_gradient(const convolution *c, const float *dy, bool accumulate, float *db) {
  int64_t extent = window_inputs(&c->window), channels = channels_of(c);
  for (int64_t channel = 0; channel < channels; channel++) {
    double sum = accumulate ? db[channel] : 0;
    for (int64_t r = 0; r < c->rows; r++) sum += span_sum(dy + (r * channels + channel) * extent, extent);
    db[channel] = (float)sum;
  }
}

/* Where the kernel writes the gradient of input i, which it overwrites. */
static float *target(const step *s, int i) {
  const transposed *t = s->state;
  return s->accumulate[i] ? (float *)((char *)s->scratch + t->kernel_bytes) : s->din[i]->data;
}

static status kernel_backward(step *s) {
  status st = STATUS_OK;
  const transposed *t = s->state;
  const float *x = s->in[0]->data, *dy = s->dout[0]->data;
  for (int i = 0; i < 2; i++) {
    if (!s->din[i]) continue;
    float *to = target(s, i);
    if (i == 0) TRY(conv_kernel_forward(t->kernel, dy, NULL, to, s->scratch));
    if (i == 1) TRY(conv_kernel_backward(t->kernel, dy, x, NULL, to, NULL, s->scratch));
    if (s->accumulate[i]) gradient_write(s->din[i]->data, to, tensor_count(s->in[i]), true);
  }
done:
  return st;
}

static void plain_backward(step *s) {
  const transposed *t = s->state;
  const float *x = s->in[0]->data, *dy = s->dout[0]->data;
  if (s->din[0])
    convolution_reference(&t->around, dy, s->in[1]->data, NULL, s->din[0]->data, s->accumulate[0]);
  if (s->din[1]) convolution_reference_weight(&t->around, dy, x, s->din[1]->data, s->accumulate[1]);
}

static status transposed_backward(step *s) {
  status st = STATUS_OK;
  const transposed *t = s->state;
  if (t->kernel) {
    TRY(kernel_backward(s));
  } else {
    plain_backward(s);
  }
  if (s->n_in > 2 && s->din[2])
    bias_gradient(&t->around, s->dout[0]->data, s->accumulate[2], s->din[2]->data);
done:
  return st;
}

const op op_ConvTranspose = {.name = "ConvTranspose",
                             .domain = "",
                             .since = 1,
                             .min_inputs = 2,
                             .max_inputs = 3,
                             .max_outputs = 1,
                             .attributes = (const char *const[]){"auto_pad", "dilations", "group",
                                                                 "kernel_shape", "output_padding",
                                                                 "output_shape", "pads", "strides", NULL},
                             .keeps = KEEP_IN0 | KEEP_IN1,
                             .differentiable = 7,
                             .infer = transposed_infer,
                             .prepare = transposed_prepare,
                             .load = transposed_load,
                             .forward = transposed_forward,
                             .backward = transposed_backward,
                             .release = transposed_release};
