/* TensorProto <-> tensor: all number types of ONNX at the border, those of the engine inside. Private to
 * src/onnx and to tests. */
#ifndef MPISTILL_ONNX_TENSOR_PROTO_H
#define MPISTILL_ONNX_TENSOR_PROTO_H

#include "graph/tensor.h"
#include "onnx/proto.h"

/* The engine's type for an ONNX element type: float16, bfloat16 and double become float. DTYPE_NONE if it has
 * none. */
dtype onnx_type_dtype(int onnx_type);
/* "float16", "uint64", ... as ONNX spells them; "type 99" is "unknown". Never NULL. */
const char *onnx_type_name(int onnx_type);

/* Local. The bytes of a tensor's numbers in raw_data. STATUS_BAD_INPUT beginning with `what` as below. */
status tensor_proto_bytes(const Onnx__TensorProto *t, const char *what, int64_t *bytes);

/* Local. A tensor owned by the caller (mem_free). STATUS_BAD_INPUT beginning with `what` ("m.onnx:
 * initializer 'w'") for data still kept in another file (side.h), negative or more than SHAPE_MAX_RANK
 * dimensions, a size that does not match them, a type without counterpart. */
status tensor_from_proto(tensor **out, const Onnx__TensorProto *t, const char *what);

/* Local. values[n] in t's own element type, one of float, float16, bfloat16, double, as raw_data stores it:
 * rounded to nearest even. *bytes is owned by the caller. STATUS_FAILED beginning with `what` when a value is
 * too large for the type. */
status tensor_to_raw(const Onnx__TensorProto *t, const float *values, int64_t n, const char *what,
                     unsigned char **bytes, size_t *n_bytes);

/* Local. The same without data, whatever t holds of it. */
status tensor_hollow_from_proto(tensor **out, const Onnx__TensorProto *t, const char *what);
/* Local. Whether t holds numbers, in any of the fields that may. */
bool tensor_proto_has_data(const Onnx__TensorProto *t);

/* Frees the numbers of a TensorProto that proto_unpack made, and leaves name, type and dimensions. */
void tensor_proto_drop_data(Onnx__TensorProto *t);

#endif
