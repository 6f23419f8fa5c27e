/* Making messages of protobuf-c's structs piece by piece, so that proto_free takes them apart. Private to
 * src/onnx. */
#ifndef MPISTILL_ONNX_MESSAGE_H
#define MPISTILL_ONNX_MESSAGE_H

#include "onnx/proto.h"

/* Local. `out` and `array` are addresses of pointers of any type: they may not be written as void **. */

/* A fresh message. */
status message_new(void *out, const ProtobufCMessageDescriptor *d);
/* Appends a pointer to a repeated field. */
status message_append(void *array, size_t *n, const void *item);
/* A fresh message at the end of a repeated field. */
status message_add(void *out, void *array, size_t *n, const ProtobufCMessageDescriptor *d);
/* A copy of a string at the end of a repeated field. */
status message_add_string(char ***array, size_t *n, const char *text);

/* Local. Fields of a node that is being made. */
status message_node(Onnx__NodeProto *n, const char *type, const char *name, const char *const *inputs,
                    const char *output);
status message_int(Onnx__NodeProto *n, const char *attribute, int64_t value);

/* Local. An initializer of the graph; raw[n_bytes] is taken, also on failure. */
status message_initializer(Onnx__GraphProto *g, const char *name, int type, const int64_t *dims, size_t rank,
                           void *raw, size_t n_bytes);

#endif
