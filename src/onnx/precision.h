/* A trained model with smaller numbers, for where it is put to use: the same names, metadata, opset and open
 * dimensions. */
#ifndef MPISTILL_ONNX_PRECISION_H
#define MPISTILL_ONNX_PRECISION_H

#include "base/status.h"

#include <stddef.h>

/* A tensor that int8 quantises, and the smallest and largest number it holds in use. */
typedef struct precision_range {
  char *name;
  float low, high;
} precision_range;

/* All of them local; bytes[n] is an ONNX file, `name` begins messages, *out is the caller's (mem_free). */

/* Computes in float16: all weights and constants are of that type; inputs and outputs stay float, with a Cast
 * behind and before. STATUS_BAD_INPUT naming the node for operators that ONNX does not define on float16;
 * STATUS_FAILED for weights too large for it. */
status precision_float16(const char *name, const unsigned char *bytes, size_t n, unsigned char **out,
                         size_t *n_out);

/* The tensors whose ranges precision_int8 needs, in (*ranges)[*n_ranges], freed with precision_ranges_free.
 */
status precision_tensors(const char *name, const unsigned char *bytes, size_t n, precision_range **ranges,
                         int *n_ranges);
void precision_ranges_free(precision_range **ranges, int n_ranges);

/* QuantizeLinear and DequantizeLinear around what Conv, ConvTranspose, Gemm and MatMul read: weights int8,
 * symmetric, a scale for each output channel; activations uint8 with a zero point; biases int32. Weights of
 * Gather (a scale for each row) and of LSTM, GRU and RNN (a scale for each gate's row) are stored as int8
 * too. STATUS_BAD_INPUT below opset 13, which has no scales per channel, and where there is nothing to
 * quantise. */
status precision_int8(const char *name, const unsigned char *bytes, size_t n, const precision_range *ranges,
                      int n_ranges, unsigned char **out, size_t *n_out);

#endif
