/* What the operators on 8-bit integers share. A tensor q stands for the real numbers (q - zero) scale, with
 * one zero and scale for all of it or one for each index of an axis (a "channel"). */
#ifndef MPISTILL_OPS_QUANTIZE_H
#define MPISTILL_OPS_QUANTIZE_H

#include "ops/support.h"

typedef struct levels {
  int64_t outer, channels, inner; /* the tensor as [outer][channels][inner]; all of it in inner if there is
                                     one zero and scale */
  const tensor *scale, *zero;     /* [channels], NULL where absent */
  dtype type;                     /* of zero; DTYPE_NONE if absent */
} levels;

/* Local. The levels of input `of` by the inputs `scale` and `zero` (-1: the operator has none); with several
 * of them, one for each index of `axis`. STATUS_BAD_INPUT when types or counts do not fit. */
status levels_read(const step *s, int of, int scale, int zero, int64_t axis, levels *l);

static inline float levels_scale(const levels *l, int64_t channel) {
  const float *scale = l->scale->data;
  return scale[tensor_count(l->scale) == 1 ? 0 : channel];
}
static inline int32_t levels_zero(const levels *l, int64_t channel) {
  if (!l->zero) return 0;
  return (int32_t)tensor_int(l->zero, tensor_count(l->zero) == 1 ? 0 : channel);
}

/* to = q - zero for elements [first, first + n) of q, whose channel is `channel`. q: uint8 or int8. */
void levels_center(const tensor *q, int64_t first, int64_t n, int32_t zero, float *to);
/* The same for a whole tensor. */
void levels_center_all(const levels *l, const tensor *q, float *to);
void levels_center_ints(const levels *l, const tensor *q, int32_t *to);

/* q = round(x / scale) + zero, halves to even, limited to the range of `type` (uint8 or int8); NaN becomes
 * the least number. */
void levels_quantize(dtype type, const float *x, float scale, int32_t zero, int64_t n, void *q);
/* q = round((sum + bias) scale) + zero, likewise. */
void levels_requantize(dtype type, const int32_t *sums, int32_t bias, float scale, int32_t zero, int64_t n,
                       void *q);

/* sums[m, n] = a[m, k] b[k, n] of integers from -255 to 255 that are stored as floats: exact, whatever the
 * order of additions, as a float product covers no more than EXACT_TERMS of k. part: space for m n floats. */
enum { EXACT_TERMS = 256 };
void integer_product(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *part,
                     int32_t *sums);

#endif
