/* Building a fresh ONNX model: the means of src/models.
 *
 *     builder *b;
 *     builder_new(&b, "mlp", seed);
 *     builder_input(b, "input", (int64_t[]){784}, 1);                    // [N, 784]
 *     builder_parameter(b, "fc1.weight", (int64_t[]){800, 784}, 2, BUILD_HE, 784, 800);
 *     builder_node(b, "Gemm", "fc1", (const char *[]){"input", "fc1.weight", "fc1.bias", NULL}, "fc1.out");
 *     builder_int(b, "transB", 1);                                       // attribute of the node added last
 *     ...
 *     builder_output(b, "logits", (int64_t[]){10}, 1);
 *     builder_write(b, path);
 *
 * The first failure is kept and returned by builder_write / builder_pack: calls in between need no check. */
#ifndef MPISTILL_ONNX_BUILD_H
#define MPISTILL_ONNX_BUILD_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct builder builder;

typedef enum build_init {
  BUILD_ZERO,
  BUILD_ONE,
  BUILD_HE,     /* normal, variance 2 / fan_in (He et al. 2015): before ReLU */
  BUILD_GLOROT, /* uniform +-sqrt(6 / (fan_in + fan_out)) (Glorot, Bengio 2010) */
  BUILD_SMALL   /* normal, deviation 0.02: embeddings */
} build_init;

enum { BUILD_OPSET = 17 };

status builder_new(builder **out, const char *graph_name, uint64_t seed);
void builder_free(builder **b);
void builder_input(builder *b, const char *name, const int64_t *dims,
                   int rank); /* float; "N" is put before dims */
void builder_tokens(builder *b, const char *name, const int64_t *dims, int rank); /* an input of int64 */
/* Whether there is a value of that name: an input, a parameter, what a node gives. */
bool builder_has(const builder *b, const char *name);
void builder_output(builder *b, const char *name, const int64_t *dims, int rank); /* float */
void builder_parameter(builder *b, const char *name, const int64_t *dims, int rank, build_init init,
                       int64_t fan_in, int64_t fan_out); /* random stream: the parameter's position */
void builder_ints_constant(builder *b, const char *name, const int64_t *values,
                           int n); /* int64 initializer */
void builder_float_constant(builder *b, const char *name,
                            float value); /* a node, as initializers are trained */
void builder_node(builder *b, const char *type, const char *name, const char *const *inputs,
                  const char *output);
void builder_node_output(builder *b, const char *output); /* one more of the node added last */
void builder_int(builder *b, const char *attribute, int64_t value);
void builder_float(builder *b, const char *attribute, float value);
void builder_string(builder *b, const char *attribute, const char *value);
void builder_ints(builder *b, const char *attribute, const int64_t *values, int n);
status builder_write(builder *b, const char *path);                /* temporary file, flushed, renamed */
status builder_pack(builder *b, unsigned char **bytes, size_t *n); /* owned by the caller */

#endif
