/* Between bytes and protobuf-c's structs. Private to src/onnx and to tests. */
#ifndef MPISTILL_ONNX_PROTO_H
#define MPISTILL_ONNX_PROTO_H

#include "base/status.h"
#include "onnx.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

/* A string field; "" where the file leaves it out (protobuf-c's NULL). */
static inline const char *proto_text(const char *field) {
  return field ? field : "";
}

/* Local. Whether a node is one of ai.onnx of that type. */
bool proto_is_op(const Onnx__NodeProto *n, const char *type);

/* Local. Checks bytes[n] against the wire format of messages of type `d` without allocating: nesting at most
 * 64, every length inside what holds it, no sub-message given twice where one is allowed, and the memory that
 * unpacking will take bounded by 64 MiB + 40 n. STATUS_BAD_INPUT naming `name`, the message and the byte. */
status proto_scan(const char *name, const ProtobufCMessageDescriptor *d, const void *bytes, size_t n);

/* Local. proto_scan, then unpacks. The message's memory comes from mem_new: free it with proto_free. */
status proto_unpack(void *out, const char *name, const ProtobufCMessageDescriptor *d, const void *bytes,
                    size_t n);
/* NULL is fine. */
void proto_free(void *message);

/* Local. The bytes of a message; owned by the caller (mem_free). The same message always gives the same
 * bytes. */
status proto_pack(const void *message, unsigned char **bytes, size_t *n);

#endif
