/* protobuf-c follows nested messages by recursion without a limit and allocates what a file asks for, so a
 * small hostile file can overflow the stack or fill the memory. This walk reads the same wire format by the
 * same descriptors first. */
#include "onnx/proto.h"

#include <stdbool.h>
#include <stdint.h>

/* While a message is read protobuf-c keeps up to 64 bytes for each of its fields; a number then takes 8. */
enum { NESTING_MAX = 64, FIELD_COST = 128, NUMBER_COST = 72 };

static const uint64_t MEMORY_BASE = 64u << 20;
static const uint64_t MEMORY_PER_BYTE = 40;

typedef struct scanner {
  const char *name;
  const unsigned char *bytes;
  uint64_t memory, memory_max; /* estimate of what unpacking takes */
} scanner;

typedef struct field {
  const ProtobufCFieldDescriptor *known; /* NULL: kept by protobuf-c as it is */
  unsigned wire;
  size_t from, to; /* its content without tag and length */
} field;

static status refuse(const scanner *s, const ProtobufCMessageDescriptor *d, size_t at, const char *what) {
  return status_set(STATUS_BAD_INPUT, "%s: is damaged or not an ONNX file: byte %zu, in %s: %s", s->name, at,
                    d->short_name, what);
}

static bool read_varint(const scanner *s, size_t *at, size_t end, uint64_t *out) {
  uint64_t x = 0;
  for (unsigned shift = 0; shift < 70 && *at < end; shift += 7) {
    unsigned char byte = s->bytes[(*at)++];
    if (shift < 64) x |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *out = x;
      return true;
    }
  }
  return false;
}

static const ProtobufCFieldDescriptor *find(const ProtobufCMessageDescriptor *d, uint64_t number) {
  for (unsigned i = 0; i < d->n_fields; i++)
    if (d->fields[i].id == number) return &d->fields[i];
  return NULL;
}

/* Reads tag and length, and moves *at behind the field. */
static status read_field(const scanner *s, const ProtobufCMessageDescriptor *d, size_t *at, size_t end,
                         field *f) {
  size_t start = *at;
  uint64_t tag, value;
  if (!read_varint(s, at, end, &tag) || tag > UINT32_MAX || tag < 8)
    return refuse(s, d, start, "no field begins here");
  *f = (field){.known = find(d, tag >> 3), .wire = tag & 7, .from = *at};
  switch (f->wire) {
  case PROTOBUF_C_WIRE_TYPE_VARINT:
    if (!read_varint(s, at, end, &value)) return refuse(s, d, start, "a number without end");
    break;
  case PROTOBUF_C_WIRE_TYPE_64BIT:
  case PROTOBUF_C_WIRE_TYPE_32BIT:
    value = f->wire == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4;
    if (value > end - *at) return refuse(s, d, start, "a number is cut off");
    *at += value;
    break;
  case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
    if (!read_varint(s, at, end, &value)) return refuse(s, d, start, "a length without end");
    if (value > end - *at) return refuse(s, d, start, "a field is longer than what holds it");
    f->from = *at;
    *at += value;
    break;
  default:
    return refuse(s, d, start, "no field begins here");
  }
  f->to = *at;
  return STATUS_OK;
}

/* Upper bound of the bytes protobuf-c allocates for a field, its bookkeeping while it reads included. */
static uint64_t field_memory(const field *f) {
  uint64_t length = f->to - f->from;
  if (!f->known) return FIELD_COST + length;
  switch (f->known->type) {
  case PROTOBUF_C_TYPE_MESSAGE:
    return FIELD_COST + ((const ProtobufCMessageDescriptor *)f->known->descriptor)->sizeof_message;
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_BYTES:
    return FIELD_COST + length;
  default: /* packed numbers of one byte become eight */
    return f->wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED ? FIELD_COST + 8 * length : NUMBER_COST;
  }
}

/* Merging a message given twice costs protobuf-c time that grows with the square, and no writer of ONNX does
 * it. */
static bool given_twice(const field *f, const ProtobufCMessageDescriptor *d, uint64_t *seen) {
  bool one_of = f->known && f->known->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
  if (!f->known || f->known->label == PROTOBUF_C_LABEL_REPEATED) return false;
  if (f->known->type != PROTOBUF_C_TYPE_MESSAGE && !one_of) return false;
  uint64_t bit = one_of ? UINT64_C(1) << 63 : UINT64_C(1) << (f->known - d->fields) % 63;
  bool before = *seen & bit;
  *seen |= bit;
  return before;
}

static status scan(scanner *s, const ProtobufCMessageDescriptor *d, size_t at, size_t end, int depth) {
  status st = STATUS_OK;
  uint64_t seen = 0;
  if (depth > NESTING_MAX) return refuse(s, d, at, "messages are nested more than 64 deep");
  while (at < end) {
    size_t start = at;
    field f = {0};
    TRY(read_field(s, d, &at, end, &f));
    s->memory += field_memory(&f);
    if (s->memory > s->memory_max)
      return refuse(s, d, start, "more fields than a file of this size can need");
    if (given_twice(&f, d, &seen)) return refuse(s, d, start, "a field is given twice");
    if (!f.known || f.known->type != PROTOBUF_C_TYPE_MESSAGE) continue;
    if (f.wire != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
      return refuse(s, d, start, "a number where a message belongs");
    TRY(scan(s, f.known->descriptor, f.from, f.to, depth + 1));
  }
done:
  return st;
}

status proto_scan(const char *name, const ProtobufCMessageDescriptor *d, const void *bytes, size_t n) {
  scanner s = {.name = name, .bytes = bytes, .memory_max = MEMORY_BASE + MEMORY_PER_BYTE * n};
  return scan(&s, d, 0, n, 1);
}
