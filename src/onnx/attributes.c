#include "onnx/attributes.h"

#include "base/mem.h"
#include "onnx/tensor_proto.h"

#include <string.h>

typedef Onnx__AttributeProto proto;

static status read_int(attribute *out, const proto *a, const char *what) {
  (void)what;
  out->i = a->i;
  return STATUS_OK;
}

static status read_float(attribute *out, const proto *a, const char *what) {
  (void)what;
  out->f = a->f;
  return STATUS_OK;
}

/* protobuf-c gives an empty string no bytes at all. */
static status copy_bytes(char **out, const ProtobufCBinaryData *from) {
  return mem_string_n(out, from->data ? (const char *)from->data : "", from->len);
}

static status read_string(attribute *out, const proto *a, const char *what) {
  (void)what;
  return copy_bytes(&out->s, &a->s);
}

static status read_ints(attribute *out, const proto *a, const char *what) {
  (void)what;
  status st = mem_new(&out->ints, a->n_ints, sizeof *out->ints);
  if (st) return st;
  if (a->n_ints) memcpy(out->ints, a->ints, a->n_ints * sizeof *out->ints);
  out->n = (int64_t)a->n_ints;
  return STATUS_OK;
}

static status read_floats(attribute *out, const proto *a, const char *what) {
  (void)what;
  status st = mem_new(&out->floats, a->n_floats, sizeof *out->floats);
  if (st) return st;
  if (a->n_floats) memcpy(out->floats, a->floats, a->n_floats * sizeof *out->floats);
  out->n = (int64_t)a->n_floats;
  return STATUS_OK;
}

static status read_strings(attribute *out, const proto *a, const char *what) {
  (void)what;
  status st = STATUS_OK;
  TRY(mem_new(&out->strings, a->n_strings, sizeof *out->strings));
  for (size_t i = 0; i < a->n_strings; i++) {
    TRY(copy_bytes(&out->strings[i], &a->strings[i]));
    out->n = (int64_t)i + 1;
  }
done:
  return st;
}

static status read_tensor(attribute *out, const proto *a, const char *what) {
  status st = STATUS_OK;
  char *place = NULL;
  TRY(mem_format(&place, "%s: attribute '%s'", what, proto_text(a->name)));
  if (!a->t) THROW(STATUS_BAD_INPUT, "%s holds no tensor", place);
  TRY(tensor_from_proto(&out->t, a->t, place));
done:
  mem_free(place);
  return st;
}

typedef struct reader {
  attribute_type type;
  status (*read)(attribute *out, const proto *a, const char *what);
} reader;

static const reader readers[] = {
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT] = {ATTRIBUTE_INT, read_int},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT] = {ATTRIBUTE_FLOAT, read_float},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING] = {ATTRIBUTE_STRING, read_string},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS] = {ATTRIBUTE_INTS, read_ints},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS] = {ATTRIBUTE_FLOATS, read_floats},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS] = {ATTRIBUTE_STRINGS, read_strings},
    [ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR] = {ATTRIBUTE_TENSOR, read_tensor},
};

/* Files of the first ONNX versions do not say the type: it is that of the field which is set. */
static int attribute_kind(const proto *a) {
  if (a->type) return (int)a->type;
  if (a->has_i) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
  if (a->has_f) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  if (a->has_s) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
  if (a->n_ints) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
  if (a->n_floats) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
  if (a->n_strings) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS;
  if (a->t) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
  return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED;
}

status attribute_from_proto(attribute *out, const proto *a, const char *what) {
  status st = STATUS_OK;
  int kind = attribute_kind(a);
  *out = (attribute){0};
  if (kind < 0 || kind >= (int)(sizeof readers / sizeof *readers) || !readers[kind].read)
    THROW(STATUS_BAD_INPUT, "%s: attribute '%s' is neither numbers, strings nor a tensor", what,
          proto_text(a->name));
  out->type = readers[kind].type;
  TRY(mem_string(&out->name, proto_text(a->name)));
  TRY(readers[kind].read(out, a, what));
done:
  return st;
}
