/* AttributeProto -> attribute. Private to src/onnx. */
#ifndef MPISTILL_ONNX_ATTRIBUTES_H
#define MPISTILL_ONNX_ATTRIBUTES_H

#include "graph/graph.h"
#include "onnx/proto.h"

/* Local. Copies into `out`, which attribute_clear frees, also after a failure. STATUS_BAD_INPUT beginning
 * with `what`
 * ("m.onnx: node 'a' (Conv)") for attributes that hold graphs, types, sparse or several tensors. */
status attribute_from_proto(attribute *out, const Onnx__AttributeProto *a, const char *what);

#endif
