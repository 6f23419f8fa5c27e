/* What the kinds of models share: layers of several nodes, and checks of options. Private to src/models. */
#ifndef MPISTILL_MODELS_PARTS_H
#define MPISTILL_MODELS_PARTS_H

#include "models/models.h"

#include <stdbool.h>

enum { NAME_BYTES = 64 }; /* of "stage3.block200.conv2.weight" and the like */
typedef char part_name[NAME_BYTES];

typedef struct activation {
  const char *name; /* of the option */
  const char *op;   /* of ONNX */
  build_init init;  /* of the weights before it */
} activation;

/* Local. NULL is "relu". STATUS_BAD_INPUT with the valid names. */
status activation_find(const char *name, const activation **out);

/* A name made by printf, cut to fit. */
const char *part_named(part_name out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local, all of them: append a node `name` with parameters name.weight, ... that reads the value `at`. Its
 * output has its name, and `at` becomes it. */

/* y = x Wt + b; weight [outputs, inputs]. */
void part_linear(builder *b, part_name at, const char *name, int64_t inputs, int64_t outputs,
                 build_init init);
/* Square kernel, padding kernel / 2 (none for a patch, whose stride is its kernel); weight [outputs, inputs
 * or 1, kernel, kernel]. */
typedef struct convolution {
  int64_t inputs, outputs, kernel, stride;
  bool bias;
  build_init init;
  bool depthwise; /* outputs = inputs, each from one */
  bool patch;
} convolution;
void part_conv(builder *b, part_name at, const char *name, const convolution *c);
void part_batch_norm(builder *b, part_name at, const char *name, int64_t channels);
void part_dropout(builder *b, part_name at, const char *name, double ratio);
/* y = x W + b over the last axis of any rank; weight [inputs, outputs]. */
void part_dense(builder *b, part_name at, const char *name, int64_t inputs, int64_t outputs);
void part_layer_norm(builder *b, part_name at, const char *name, int64_t width);
/* Rows name.weight[tokens, width] of the integers `at`. */
void part_embedding(builder *b, part_name at, const char *name, int64_t tokens, int64_t width);
/* `at` becomes op(at, other). */
void part_binary(builder *b, part_name at, const char *name, const char *op, const char *other);
/* The same with one number. */
void part_scalar(builder *b, part_name at, const char *name, const char *op, float value);
void part_transpose(builder *b, part_name at, const char *name, const int64_t *order, int rank);
void part_reshape(builder *b, part_name at, const char *name, const int64_t *dims, int rank);
/* A node without parameters. */
void part_plain(builder *b, part_name at, const char *name, const char *op);

/* Local. The model's end: linear layers from [N, inputs] at `at` to "logits" [N, classes], or to an output
 * for each of the tasks. STATUS_BAD_INPUT for a task with the name of something else. */
status part_outputs(builder *b, const part_name at, int64_t inputs, int64_t classes,
                    const mpistill_create_options *o);

/* Local. STATUS_BAD_INPUT naming the option and what is allowed. */
status check_range(const char *option, int64_t value, int64_t min, int64_t max);
status check_dropout(double ratio);
status check_image(const mpistill_ints *input); /* --input CxHxW */
status check_classes(int64_t classes);
/* --classes, or --task in its place */
status check_outputs(const mpistill_create_options *o);
/* What must be given: STATUS_BAD_INPUT with the help's words when it is 0. */
status check_given(const char *option, const char *what, int64_t value, int64_t min, int64_t max);

#endif
