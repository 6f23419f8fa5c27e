#include "onnx/tensor_proto.h"

#include "base/bfloat16.h"
#include "base/half.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little endian and taken as it is");

typedef struct element {
  const char *name;
  dtype type;       /* inside the engine; DTYPE_NONE: refused */
  size_t bytes;     /* of one element in raw_data */
  int64_t min, max; /* what an int32_data entry may hold, for the types that are narrower */
} element;

static const element elements[] = {
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT] = {.name = "float", .type = DTYPE_FLOAT, .bytes = 4},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT8] = {.name = "uint8",
                                              .type = DTYPE_UINT8,
                                              .bytes = 1,
                                              .max = UINT8_MAX},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT8] =
        {.name = "int8", .type = DTYPE_INT8, .bytes = 1, .min = INT8_MIN, .max = INT8_MAX},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT16] = {.name = "uint16"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT16] = {.name = "int16"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT32] =
        {.name = "int32", .type = DTYPE_INT32, .bytes = 4, .min = INT32_MIN, .max = INT32_MAX},
    [ONNX__TENSOR_PROTO__DATA_TYPE__INT64] = {.name = "int64", .type = DTYPE_INT64, .bytes = 8},
    [ONNX__TENSOR_PROTO__DATA_TYPE__STRING] = {.name = "string"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BOOL] = {.name = "bool", .type = DTYPE_BOOL, .bytes = 1, .max = 1},
    [ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16] = {.name = "float16",
                                                .type = DTYPE_FLOAT,
                                                .bytes = 2,
                                                .max = UINT16_MAX},
    [ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE] = {.name = "double", .type = DTYPE_FLOAT, .bytes = 8},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT32] = {.name = "uint32"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__UINT64] = {.name = "uint64"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64] = {.name = "complex64"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128] = {.name = "complex128"},
    [ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16] = {.name = "bfloat16",
                                                 .type = DTYPE_FLOAT,
                                                 .bytes = 2,
                                                 .max = UINT16_MAX},
};

static const element *onnx_type_find(int onnx_type) {
  static const element unknown = {.name = "unknown"};
  if (onnx_type < 0 || onnx_type >= (int)(sizeof elements / sizeof *elements)) return &unknown;
  return elements[onnx_type].name ? &elements[onnx_type] : &unknown;
}

dtype onnx_type_dtype(int onnx_type) {
  return onnx_type_find(onnx_type)->type;
}

const char *onnx_type_name(int onnx_type) {
  return onnx_type_find(onnx_type)->name;
}

static status read_shape(const Onnx__TensorProto *t, const char *what, shape *out, int64_t *count) {
  if (t->n_dims > SHAPE_MAX_RANK)
    return status_set(STATUS_BAD_INPUT, "%s has %zu dimensions, at most %d are understood", what, t->n_dims,
                      SHAPE_MAX_RANK);
  out->rank = (int)t->n_dims;
  for (int i = 0; i < out->rank; i++) {
    out->dims[i] = t->dims[i];
    if (t->dims[i] < 0)
      return status_set(STATUS_BAD_INPUT, "%s has a negative dimension (%" PRId64 ")", what, t->dims[i]);
  }
  *count = shape_count(out);
  if (*count < 0 || *count > INT64_MAX / 16)
    return status_set(STATUS_BAD_INPUT, "%s has dimensions whose product is too large", what);
  return STATUS_OK;
}

static status check_type(const Onnx__TensorProto *t, const element *e, const char *what) {
  if (e->type) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s has elements of type %s (%d), which are not supported", what,
                    e->name, t->data_type);
}

status tensor_proto_bytes(const Onnx__TensorProto *t, const char *what, int64_t *bytes) {
  const element *e = onnx_type_find(t->data_type);
  shape s = {0};
  int64_t count = 0;
  status st = check_type(t, e, what);
  if (!st) st = read_shape(t, what, &s, &count);
  *bytes = count * (int64_t)e->bytes;
  return st;
}

/* int32_data holds narrower types one a number; packs them as raw_data would. */
static status narrow(const Onnx__TensorProto *t, const element *e, const char *what, unsigned char **out) {
  status st = mem_new(out, t->n_int32_data, e->bytes);
  for (size_t i = 0; !st && i < t->n_int32_data; i++) {
    int32_t x = t->int32_data[i];
    if (x < e->min || x > e->max)
      return status_set(STATUS_BAD_INPUT, "%s: element %zu is %" PRId32 ", which is no %s", what, i, x,
                        e->name);
    memcpy(*out + i * e->bytes, &x, e->bytes);
  }
  return st;
}

/* Where the elements stand, as raw_data would store them, and how many. *owned is to be freed. */
static status locate(const Onnx__TensorProto *t, const element *e, const char *what, const void **from,
                     size_t *n, unsigned char **owned) {
  status st = STATUS_OK;
  if (t->has_raw_data) {
    *from = t->raw_data.data;
    *n = t->raw_data.len / e->bytes;
    if (t->raw_data.len % e->bytes) *n = SIZE_MAX;
  } else if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
    *from = t->float_data;
    *n = t->n_float_data;
  } else if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE) {
    *from = t->double_data;
    *n = t->n_double_data;
  } else if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64) {
    *from = t->int64_data;
    *n = t->n_int64_data;
  } else {
    TRY(narrow(t, e, what, owned));
    *from = *owned;
    *n = t->n_int32_data;
  }
done:
  return st;
}

static void convert(int onnx_type, const element *e, const void *from, size_t n, tensor *to) {
  if (!n) return;
  float *f = to->data;
  const uint16_t *words = from;
  switch (onnx_type) {
  case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    half_to_float(words, f, n);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
    for (size_t i = 0; i < n; i++) f[i] = bfloat16_to_float(words[i]);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    for (size_t i = 0; i < n; i++) f[i] = (float)((const double *)from)[i];
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL:
    for (size_t i = 0; i < n; i++) ((uint8_t *)to->data)[i] = ((const uint8_t *)from)[i] != 0;
    break;
  default:
    memcpy(to->data, from, n * e->bytes);
  }
}

status tensor_from_proto(tensor **out, const Onnx__TensorProto *t, const char *what) {
  status st = STATUS_OK;
  const element *e = onnx_type_find(t->data_type);
  unsigned char *owned = NULL;
  const void *from = NULL;
  shape s = {0};
  int64_t count = 0;
  size_t n = 0;
  *out = NULL;
  TRY(check_type(t, e, what));
  if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL || t->n_external_data)
    THROW(STATUS_BAD_INPUT,
          "%s is kept in another file (external data), which is not read; save the model as one file", what);
  if (t->segment) THROW(STATUS_BAD_INPUT, "%s is stored in segments, which are not supported", what);
  TRY(read_shape(t, what, &s, &count));
  TRY(locate(t, e, what, &from, &n, &owned));
  if ((uint64_t)count != n) {
    char text[128];
    THROW(STATUS_BAD_INPUT, "%s has the shape %s, but its data does not hold %" PRId64 " elements of type %s",
          what, shape_text(&s, text, sizeof text), count, e->name);
  }
  TRY(tensor_new(out, e->type, &s));
  convert(t->data_type, e, from, n, *out);
done:
  mem_free(owned);
  return st;
}

status tensor_hollow_from_proto(tensor **out, const Onnx__TensorProto *t, const char *what) {
  status st = STATUS_OK;
  const element *e = onnx_type_find(t->data_type);
  shape s = {0};
  int64_t count;
  TRY(check_type(t, e, what));
  TRY(read_shape(t, what, &s, &count));
  TRY(mem_new(out, 1, sizeof **out));
  **out = (tensor){.type = e->type, .shape = s};
done:
  return st;
}

bool tensor_proto_has_data(const Onnx__TensorProto *t) {
  return t->has_raw_data || t->n_float_data || t->n_double_data || t->n_int32_data || t->n_int64_data ||
         t->n_uint64_data;
}

static ptrdiff_t bfloats_from_floats(const float *from, uint16_t *to, size_t n) {
  ptrdiff_t too_large = -1;
  for (size_t i = 0; i < n; i++) {
    to[i] = bfloat16_from_float(from[i]);
    if (too_large < 0 && isfinite(from[i]) && (to[i] & 0x7fff) == 0x7f80) too_large = (ptrdiff_t)i;
  }
  return too_large;
}

status tensor_to_raw(const Onnx__TensorProto *t, const float *values, int64_t n, const char *what,
                     unsigned char **bytes, size_t *n_bytes) {
  const element *e = onnx_type_find(t->data_type);
  size_t count = (size_t)n;
  ptrdiff_t too_large = -1;
  status st = mem_new(bytes, count, e->bytes);
  if (st) return st;
  *n_bytes = count * e->bytes;
  switch (t->data_type) {
  case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    too_large = half_from_float(values, (uint16_t *)*bytes, count);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
    too_large = bfloats_from_floats(values, (uint16_t *)*bytes, count);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    for (size_t i = 0; i < count; i++) ((double *)*bytes)[i] = values[i];
    break;
  default:
    memcpy(*bytes, values, *n_bytes);
  }
  if (too_large < 0) return STATUS_OK;
  mem_free(*bytes);
  *bytes = NULL;
  return status_set(STATUS_FAILED, "%s: element %td (%g) is too large for %s, the type it has in the file",
                    what, too_large, (double)values[too_large], e->name);
}

void tensor_proto_drop_data(Onnx__TensorProto *t) {
  mem_free(t->raw_data.data);
  mem_free(t->float_data);
  mem_free(t->double_data);
  mem_free(t->int32_data);
  t->has_raw_data = false;
  t->raw_data = (ProtobufCBinaryData){0};
  t->float_data = NULL;
  t->double_data = NULL;
  t->int32_data = NULL;
  t->n_float_data = t->n_double_data = t->n_int32_data = 0;
}
