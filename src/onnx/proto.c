#include "onnx/proto.h"

#include "base/mem.h"

#include <string.h>

static void *allocate(void *out_of_memory, size_t n) {
  void *p;
  if (mem_new(&p, n, 1)) *(bool *)out_of_memory = true;
  return p;
}

static void release(void *out_of_memory, void *p) {
  (void)out_of_memory;
  mem_free(p);
}

status proto_unpack(void *out, const char *name, const ProtobufCMessageDescriptor *d, const void *bytes,
                    size_t n) {
  bool out_of_memory = false;
  ProtobufCAllocator allocator = {allocate, release, &out_of_memory};
  status st = proto_scan(name, d, bytes, n);
  *(void **)out = NULL;
  if (st) return st;
  void *message = protobuf_c_message_unpack(d, &allocator, n, bytes);
  if (!message && out_of_memory) return STATUS_FAILED; /* mem_new has said how much */
  if (!message)
    return status_set(STATUS_BAD_INPUT, "%s: is damaged or not an ONNX file: it cannot be unpacked as a %s",
                      name, d->short_name);
  *(void **)out = message;
  return STATUS_OK;
}

bool proto_is_op(const Onnx__NodeProto *n, const char *type) {
  return strcmp(proto_text(n->op_type), type) == 0 &&
         (!*proto_text(n->domain) || !strcmp(n->domain, "ai.onnx"));
}

void proto_free(void *message) {
  bool unused;
  ProtobufCAllocator allocator = {allocate, release, &unused};
  if (message) protobuf_c_message_free_unpacked(message, &allocator);
}

status proto_pack(const void *message, unsigned char **bytes, size_t *n) {
  size_t size = protobuf_c_message_get_packed_size(message);
  status st = mem_new(bytes, size, 1);
  if (!st) *n = protobuf_c_message_pack(message, *bytes);
  return st;
}
