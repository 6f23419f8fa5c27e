#include "ops/quantize.h"

#include "ops/blas.h"

#include <math.h>

_Static_assert((int64_t)EXACT_TERMS * 255 * 255 <= 1 << 24, "floats count to 2^24 without a gap");

static status check_pair(const step *s, const levels *l, int of, int64_t dim) {
  int64_t scales = l->scale ? tensor_count(l->scale) : 1, zeros = l->zero ? tensor_count(l->zero) : 1;
  if (l->scale && l->scale->type != DTYPE_FLOAT)
    return step_error(s, "the scale of input %d is %s, expected float", of, dtype_name(l->scale->type));
  if ((scales != 1 && scales != dim) || (zeros != 1 && zeros != dim))
    return step_error(s, "input %d has %lld scales and %lld zero points; 1 or %lld of each are expected", of,
                      (long long)scales, (long long)zeros, (long long)dim);
  return STATUS_OK;
}

status levels_read(const step *s, int of, int scale, int zero, int64_t axis, levels *l) {
  status st = STATUS_OK;
  const shape *x = &s->in[of]->shape;
  int at = 0;
  *l = (levels){.outer = 1, .channels = 1, .inner = shape_count(x)};
  if (scale >= 0 && step_has(s, scale)) l->scale = s->in[scale];
  if (zero >= 0 && step_has(s, zero)) l->zero = s->in[zero];
  if (l->zero) l->type = l->zero->type;
  bool one = (!l->scale || tensor_count(l->scale) == 1) && (!l->zero || tensor_count(l->zero) == 1);
  if (!one) {
    TRY(axis_from_front(s, axis, x->rank, &at));
    l->outer = shape_span(x, 0, at);
    l->channels = x->dims[at];
    l->inner = shape_span(x, at + 1, x->rank);
  }
  TRY(check_pair(s, l, of, l->channels));
done:
  return st;
}

#define CENTER(name, from, number)                                                                           \
  FOR_EACH_PROCESSOR static void name(const from *q, int32_t zero, int64_t n, number *to) {                  \
    for (int64_t i = 0; i < n; i++) to[i] = (number)(q[i] - zero);                                           \
  }
CENTER(center_uint8, uint8_t, float)
CENTER(center_int8, int8_t, float)

void levels_center(const tensor *q, int64_t first, int64_t n, int32_t zero, float *to) {
  if (q->type == DTYPE_UINT8) {
    center_uint8((const uint8_t *)q->data + first, zero, n, to);
  } else {
    center_int8((const int8_t *)q->data + first, zero, n, to);
  }
}

void levels_center_all(const levels *l, const tensor *q, float *to) {
  for (int64_t i = 0; i < l->outer * l->channels; i++)
    levels_center(q, i * l->inner, l->inner, levels_zero(l, i % l->channels), to + i * l->inner);
}

void levels_center_ints(const levels *l, const tensor *q, int32_t *to) {
  for (int64_t i = 0; i < l->outer * l->channels; i++) {
    int32_t zero = levels_zero(l, i % l->channels);
    for (int64_t k = i * l->inner; k < (i + 1) * l->inner; k++) to[k] = (int32_t)tensor_int(q, k) - zero;
  }
}

/* Comparisons that NaN fails: it must not reach the conversion to an integer. */
static inline float limited(float x, float low, float high) {
  return x >= low ? x <= high ? x : high : low;
}

#define QUANTIZE(name, type, low, high)                                                                      \
  FOR_EACH_PROCESSOR static void quantize_##name(const float *x, float scale, float zero, int64_t n,         \
                                                 type *q) {                                                  \
    for (int64_t i = 0; i < n; i++) q[i] = (type)limited(rintf(x[i] / scale) + zero, low, high);             \
  }                                                                                                          \
  FOR_EACH_PROCESSOR static void requantize_##name(const int32_t *sums, int32_t bias, float scale,           \
                                                   float zero, int64_t n, type *q) {                         \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      int32_t sum = (int32_t)((uint32_t)sums[i] + (uint32_t)bias);                                           \
      q[i] = (type)limited(rintf((float)sum * scale) + zero, low, high);                                     \
    }                                                                                                        \
  }
QUANTIZE(uint8, uint8_t, 0, UINT8_MAX)
QUANTIZE(int8, int8_t, INT8_MIN, INT8_MAX)

void levels_quantize(dtype type, const float *x, float scale, int32_t zero, int64_t n, void *q) {
  if (type == DTYPE_UINT8) {
    quantize_uint8(x, scale, (float)zero, n, q);
  } else {
    quantize_int8(x, scale, (float)zero, n, q);
  }
}

void levels_requantize(dtype type, const int32_t *sums, int32_t bias, float scale, int32_t zero, int64_t n,
                       void *q) {
  if (type == DTYPE_UINT8) {
    requantize_uint8(sums, bias, scale, (float)zero, n, q);
  } else {
    requantize_int8(sums, bias, scale, (float)zero, n, q);
  }
}

FOR_EACH_PROCESSOR static void add_part(int32_t *sums, const float *part, int64_t n) {
  for (int64_t i = 0; i < n; i++) sums[i] = (int32_t)((uint32_t)sums[i] + (uint32_t)(int32_t)part[i]);
}

void integer_product(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *part,
                     int32_t *sums) {
  memset(sums, 0, (size_t)(m * n) * sizeof *sums);
  for (int64_t first = 0; first < k; first += EXACT_TERMS) {
    int64_t terms = k - first < EXACT_TERMS ? k - first : EXACT_TERMS;
    blas_product_rows(false, false, m, n, terms, 1, a + first, k, b + first * n, n, 0, part, n);
    add_part(sums, part, m * n);
  }
}
