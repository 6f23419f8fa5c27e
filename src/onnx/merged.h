/* Weights that an exporter has merged because they begin with the same numbers. Private to src/onnx. */
#ifndef MPISTILL_ONNX_MERGED_H
#define MPISTILL_ONNX_MERGED_H

#include "base/status.h"
#include "onnx/proto.h"

/* Local. PyTorch's exporters for inference keep one of several tensors that are equal: of a model that was
 * never trained the scales (1) and shifts (0) of all norms of one width, and their means and variances with
 * them. The other layers read the same initializer, directly or through an Identity with the name that the
 * tensor had. Trained so, they would be one. Here an initializer of float whose numbers are all the same gets
 * a copy for each further place where a layer has such a tensor of its own: norms, PRelu, LSTM, GRU and RNN,
 * biases of Conv and Gemm, and a vector in an Add or a Mul. What the graph computes does not change. Not
 * parted are places that one name stands at where others have an Identity each, biases of layers with one
 * weight, and what branches read.
 *
 * *n counts the copies, *first is the name of the first tensor that was parted, owned by the caller
 * (mem_free); both are given by the caller as 0 and NULL. */
status merged_part(Onnx__GraphProto *g, int *n, char **first);

#endif
