#include "models/parts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SIDE_MAX = 1 << 20 };

static const activation activations[] = {
    {"relu", "Relu", BUILD_HE},
    {"leaky-relu", "LeakyRelu", BUILD_HE},
    {"tanh", "Tanh", BUILD_GLOROT},
    {"sigmoid", "Sigmoid", BUILD_GLOROT},
};

status activation_find(const char *name, const activation **out) {
  *out = &activations[0];
  if (!name) return STATUS_OK;
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
    *out = &activations[i];
    if (strcmp(name, activations[i].name) == 0) return STATUS_OK;
  }
  return status_set(STATUS_BAD_INPUT, "--activation is '%s'; it can be relu, leaky-relu, tanh or sigmoid",
                    name);
}

const char *part_named(part_name out, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(out, NAME_BYTES, format, args);
  va_end(args);
  return out;
}

static const char *join(part_name out, const char *name, const char *part) {
  return part_named(out, "%s.%s", name, part);
}

static void node(builder *b, part_name at, const char *name, const char *op, const char *const *inputs) {
  builder_node(b, op, name, inputs, name);
  part_named(at, "%s", name);
}

void part_linear(builder *b, part_name at, const char *name, int64_t inputs, int64_t outputs,
                 build_init init) {
  part_name weight, bias;
  builder_parameter(b, join(weight, name, "weight"), (int64_t[]){outputs, inputs}, 2, init, inputs, outputs);
  builder_parameter(b, join(bias, name, "bias"), &outputs, 1, BUILD_ZERO, inputs, outputs);
  node(b, at, name, "Gemm", (const char *[]){at, weight, bias, NULL});
  builder_int(b, "transB", 1);
}

void part_conv(builder *b, part_name at, const char *name, const convolution *c) {
  part_name weight, bias;
  int64_t k = c->kernel, each = c->depthwise ? 1 : c->inputs, pad = c->patch ? 0 : k / 2;
  int64_t fan_in = each * k * k, fan_out = (c->depthwise ? 1 : c->outputs) * k * k;
  builder_parameter(b, join(weight, name, "weight"), (int64_t[]){c->outputs, each, k, k}, 4, c->init, fan_in,
                    fan_out);
  if (c->bias) builder_parameter(b, join(bias, name, "bias"), &c->outputs, 1, BUILD_ZERO, fan_in, fan_out);
  node(b, at, name, "Conv", (const char *[]){at, weight, c->bias ? bias : NULL, NULL});
  builder_ints(b, "kernel_shape", (int64_t[]){k, k}, 2);
  builder_ints(b, "strides", (int64_t[]){c->stride, c->stride}, 2);
  builder_ints(b, "pads", (int64_t[]){pad, pad, pad, pad}, 4);
  if (c->depthwise) builder_int(b, "group", c->inputs);
}

void part_batch_norm(builder *b, part_name at, const char *name, int64_t channels) {
  part_name scale, bias, mean, variance;
  builder_parameter(b, join(scale, name, "scale"), &channels, 1, BUILD_ONE, channels, channels);
  builder_parameter(b, join(bias, name, "bias"), &channels, 1, BUILD_ZERO, channels, channels);
  builder_parameter(b, join(mean, name, "mean"), &channels, 1, BUILD_ZERO, channels, channels);
  builder_parameter(b, join(variance, name, "variance"), &channels, 1, BUILD_ONE, channels, channels);
  node(b, at, name, "BatchNormalization", (const char *[]){at, scale, bias, mean, variance, NULL});
  builder_float(b, "epsilon", 1e-5f);
  builder_float(b, "momentum", 0.9f);
}

void part_dropout(builder *b, part_name at, const char *name, double ratio) {
  part_name text;
  builder_float_constant(b, join(text, name, "ratio"), (float)ratio);
  node(b, at, name, "Dropout", (const char *[]){at, text, NULL});
}

void part_dense(builder *b, part_name at, const char *name, int64_t inputs, int64_t outputs) {
  part_name weight, bias, product;
  builder_parameter(b, join(weight, name, "weight"), (int64_t[]){inputs, outputs}, 2, BUILD_GLOROT, inputs,
                    outputs);
  builder_parameter(b, join(bias, name, "bias"), &outputs, 1, BUILD_ZERO, inputs, outputs);
  join(product, name, "product");
  builder_node(b, "MatMul", product, (const char *[]){at, weight, NULL}, product);
  node(b, at, name, "Add", (const char *[]){product, bias, NULL});
}

void part_layer_norm(builder *b, part_name at, const char *name, int64_t width) {
  part_name weight, bias;
  builder_parameter(b, join(weight, name, "weight"), &width, 1, BUILD_ONE, width, width);
  builder_parameter(b, join(bias, name, "bias"), &width, 1, BUILD_ZERO, width, width);
  node(b, at, name, "LayerNormalization", (const char *[]){at, weight, bias, NULL});
  builder_int(b, "axis", -1);
  builder_float(b, "epsilon", 1e-5f);
}

void part_embedding(builder *b, part_name at, const char *name, int64_t tokens, int64_t width) {
  part_name weight;
  builder_parameter(b, join(weight, name, "weight"), (int64_t[]){tokens, width}, 2, BUILD_SMALL, tokens,
                    width);
  node(b, at, name, "Gather", (const char *[]){weight, at, NULL});
}

void part_binary(builder *b, part_name at, const char *name, const char *op, const char *other) {
  node(b, at, name, op, (const char *[]){at, other, NULL});
}

void part_scalar(builder *b, part_name at, const char *name, const char *op, float value) {
  part_name constant;
  builder_float_constant(b, join(constant, name, "value"), value);
  part_binary(b, at, name, op, constant);
}

void part_transpose(builder *b, part_name at, const char *name, const int64_t *order, int rank) {
  part_plain(b, at, name, "Transpose");
  builder_ints(b, "perm", order, rank);
}

void part_reshape(builder *b, part_name at, const char *name, const int64_t *dims, int rank) {
  part_name shape;
  builder_ints_constant(b, join(shape, name, "shape"), dims, rank);
  part_binary(b, at, name, "Reshape", shape);
}

void part_plain(builder *b, part_name at, const char *name, const char *op) {
  node(b, at, name, op, (const char *[]){at, NULL});
}

status check_range(const char *option, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "--%s has the value %" PRId64 "; it can be %" PRId64 " to %" PRId64,
                    option, value, min, max);
}

status check_given(const char *option, const char *what, int64_t value, int64_t min, int64_t max) {
  if (!value) return status_set(STATUS_BAD_INPUT, "--%s is needed: %s", option, what);
  return check_range(option, value, min, max);
}

status check_dropout(double ratio) {
  if (ratio >= 0 && ratio < 1) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "--dropout is %g; it can be 0 up to, not including, 1", ratio);
}

status check_image(const mpistill_ints *input) {
  status st = STATUS_OK;
  if (input->n != 3)
    return status_set(STATUS_BAD_INPUT,
                      "--input needs three numbers, channels x height x width: 3x32x32; it has %zu",
                      input->n);
  for (size_t i = 0; !st && i < 3; i++) st = check_range("input", input->items[i], 1, SIDE_MAX);
  return st;
}

status check_classes(int64_t classes) {
  if (!classes) return status_set(STATUS_BAD_INPUT, "--classes is needed: the number of classes, 2 or more");
  return check_range("classes", classes, 2, INT32_MAX);
}
