#include "graph/tensor.h"

#include "base/half.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static const struct {
  size_t bytes;
  const char *name;
} dtypes[] = {[DTYPE_NONE] = {0, "none"}, [DTYPE_FLOAT] = {4, "float"},   [DTYPE_UINT8] = {1, "uint8"},
              [DTYPE_INT8] = {1, "int8"}, [DTYPE_INT32] = {4, "int32"},   [DTYPE_INT64] = {8, "int64"},
              [DTYPE_BOOL] = {1, "bool"}, [DTYPE_DOUBLE] = {8, "double"}, [DTYPE_FLOAT16] = {2, "float16"}};

size_t dtype_bytes(dtype type) {
  return dtypes[type].bytes;
}

const char *dtype_name(dtype type) {
  return dtypes[type].name;
}

int64_t shape_count(const shape *s) {
  int64_t n = 1;
  bool empty = false, overflow = false;
  for (int i = 0; i < s->rank; i++) {
    if (s->dims[i] < 0) return -1;
    empty |= s->dims[i] == 0;
    overflow |= !empty && __builtin_mul_overflow(n, s->dims[i], &n);
  }
  return empty ? 0 : overflow ? -1 : n;
}

int64_t shape_span(const shape *s, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= s->dims[i];
  return n;
}

bool shape_equal(const shape *a, const shape *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dims[i] != b->dims[i]) return false;
  return true;
}

const char *shape_text(const shape *s, char *text, size_t n) {
  char all[SHAPE_MAX_RANK * 22 + 3];
  size_t used = 0;
  all[used++] = '[';
  for (int i = 0; i < s->rank; i++) {
    const char *comma = i ? ", " : "";
    if (s->dims[i] < 0)
      used += (size_t)sprintf(all + used, "%s?", comma);
    else
      used += (size_t)sprintf(all + used, "%s%lld", comma, (long long)s->dims[i]);
  }
  all[used++] = ']';
  all[used] = '\0';
  snprintf(text, n, "%s", all);
  return text;
}

/* Dimension i of s counted from the right end of a shape of `rank` dimensions; 1 where s has none. */
static int64_t aligned_dim(const shape *s, int rank, int i) {
  int at = i - (rank - s->rank);
  return at < 0 ? 1 : s->dims[at];
}

bool shape_broadcast(const shape *a, const shape *b, shape *out) {
  shape both = {.rank = a->rank > b->rank ? a->rank : b->rank};
  for (int i = 0; i < both.rank; i++) {
    int64_t x = aligned_dim(a, both.rank, i), y = aligned_dim(b, both.rank, i);
    if (x != y && x != 1 && y != 1) return false;
    both.dims[i] = x == 1 ? y : x;
  }
  *out = both;
  return true;
}

void shape_strides(const shape *s, const shape *out, int64_t strides[SHAPE_MAX_RANK]) {
  int64_t stride = 1;
  for (int i = out->rank - 1; i >= 0; i--) {
    int64_t dim = aligned_dim(s, out->rank, i);
    strides[i] = dim == 1 ? 0 : stride;
    stride *= dim;
  }
}

status tensor_new(tensor **out, dtype type, const shape *s) {
  enum { HEADER_BYTES = (sizeof(tensor) + 63) / 64 * 64 }; /* the data behind it stays aligned */
  char text[128];
  *out = NULL;
  int64_t n = shape_count(s);
  if (n < 0 || (uint64_t)n > (SIZE_MAX - HEADER_BYTES) / 8)
    return status_set(STATUS_BAD_INPUT, "a tensor of shape %s cannot be stored",
                      shape_text(s, text, sizeof text));
  status st = mem_new(out, HEADER_BYTES + (size_t)n * dtype_bytes(type), 1);
  if (!st) **out = (tensor){.type = type, .shape = *s, .data = (char *)*out + HEADER_BYTES};
  return st;
}

shape tensor_layout(const tensor *t) {
  shape s = t->shape;
  if (!t->block) return s;
  s.dims[1] = (s.dims[1] + t->block - 1) / t->block;
  s.dims[s.rank++] = t->block;
  return s;
}

int64_t tensor_places(const tensor *t) {
  const shape s = tensor_layout(t);
  return shape_count(&s);
}

int64_t tensor_int(const tensor *t, int64_t i) {
  switch (t->type) {
  case DTYPE_INT64:
    return ((const int64_t *)t->data)[i];
  case DTYPE_INT32:
    return ((const int32_t *)t->data)[i];
  case DTYPE_INT8:
    return ((const int8_t *)t->data)[i];
  case DTYPE_UINT8:
  case DTYPE_BOOL:
    return ((const uint8_t *)t->data)[i];
  default:
    return (int64_t)tensor_real(t, i);
  }
}

double tensor_real(const tensor *t, int64_t i) {
  float half;
  switch (t->type) {
  case DTYPE_FLOAT:
    return ((const float *)t->data)[i];
  case DTYPE_DOUBLE:
    return ((const double *)t->data)[i];
  case DTYPE_FLOAT16:
    half_to_float((const uint16_t *)t->data + i, &half, 1);
    return half;
  case DTYPE_NONE:
    return 0;
  default:
    return (double)tensor_int(t, i);
  }
}
