#include "onnx/message.h"

#include "base/mem.h"

#include <stdbool.h>
#include <string.h>

status message_new(void *out, const ProtobufCMessageDescriptor *d) {
  ProtobufCMessage *message;
  status st = mem_new(&message, 1, d->sizeof_message);
  if (!st) d->message_init(message);
  memcpy(out, &message, sizeof message);
  return st;
}

/* The array grows to the next power of two whenever its length is one; of a file's own arrays only what they
 * hold is known. */
status message_append(void *array, size_t *n, const void *item) {
  unsigned char *items;
  status st = STATUS_OK;
  memcpy(&items, array, sizeof items);
  size_t room = 1;
  while (room < *n) room *= 2;
  st = mem_resize(&items, *n, room > *n ? room : *n ? 2 * *n : 1, sizeof item);
  memcpy(array, &items, sizeof items);
  if (!st) memcpy(items + (*n)++ * sizeof item, &item, sizeof item);
  return st;
}

status message_add(void *out, void *array, size_t *n, const ProtobufCMessageDescriptor *d) {
  void *message;
  status st = message_new(&message, d);
  if (st) return st;
  st = message_append(array, n, message);
  if (st) {
    proto_free(message);
    message = NULL;
  }
  memcpy(out, &message, sizeof message);
  return st;
}

status message_add_string(char ***array, size_t *n, const char *text) {
  char *copy;
  status st = mem_string(&copy, text);
  if (st) return st;
  st = message_append(array, n, copy);
  if (st) mem_free(copy);
  return st;
}

status message_node(Onnx__NodeProto *n, const char *type, const char *name, const char *const *inputs,
                    const char *output) {
  status st = STATUS_OK;
  TRY(mem_string(&n->op_type, type));
  TRY(mem_string(&n->name, name));
  for (int i = 0; inputs[i]; i++) TRY(message_add_string(&n->input, &n->n_input, inputs[i]));
  TRY(message_add_string(&n->output, &n->n_output, output));
done:
  return st;
}

status message_int(Onnx__NodeProto *n, const char *attribute, int64_t value) {
  status st = STATUS_OK;
  Onnx__AttributeProto *a;
  TRY(message_add(&a, &n->attribute, &n->n_attribute, &onnx__attribute_proto__descriptor));
  TRY(mem_string(&a->name, attribute));
  a->has_type = a->has_i = true;
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
  a->i = value;
done:
  return st;
}

status message_initializer(Onnx__GraphProto *g, const char *name, int type, const int64_t *dims, size_t rank,
                           void *raw, size_t n_bytes) {
  status st = STATUS_OK;
  Onnx__TensorProto *t;
  TRY(message_add(&t, &g->initializer, &g->n_initializer, &onnx__tensor_proto__descriptor));
  t->raw_data.data = raw;
  t->raw_data.len = n_bytes;
  raw = NULL;
  t->has_raw_data = t->has_data_type = true;
  t->data_type = type;
  TRY(mem_string(&t->name, name));
  TRY(mem_new(&t->dims, rank, sizeof *t->dims));
  t->n_dims = rank;
  if (rank) memcpy(t->dims, dims, rank * sizeof *dims);
done:
  mem_free(raw);
  return st;
}
