#include "store/numbers.h"

#include "base/half.h"
#include "base/processor.h"

#include <string.h>

FOR_EACH_PROCESSOR void numbers_to_float(element type, const void *restrict from, float *restrict to,
                                         int64_t n) {
  switch (type) {
  case ELEMENT_UINT8:
    for (int64_t i = 0; i < n; i++) to[i] = ((const uint8_t *)from)[i];
    break;
  case ELEMENT_INT32:
    for (int64_t i = 0; i < n; i++) to[i] = (float)((const int32_t *)from)[i];
    break;
  case ELEMENT_INT64:
    for (int64_t i = 0; i < n; i++) to[i] = (float)((const int64_t *)from)[i];
    break;
  case ELEMENT_FLOAT16:
    half_to_float(from, to, (size_t)n);
    break;
  case ELEMENT_FLOAT32:
    memcpy(to, from, (size_t)n * sizeof *to);
    break;
  case ELEMENT_FLOAT64:
    for (int64_t i = 0; i < n; i++) to[i] = (float)((const double *)from)[i];
    break;
  }
}

bool numbers_are_real(element type) {
  return type == ELEMENT_FLOAT16 || type == ELEMENT_FLOAT32 || type == ELEMENT_FLOAT64;
}

static bool is_finite(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits & 0x7f800000u) != 0x7f800000u;
}

/* Without a branch, so that it runs in vectors. */
FOR_EACH_PROCESSOR static bool all_finite(const float *x, int64_t n) {
  int bad = 0;
  for (int64_t i = 0; i < n; i++) bad |= !is_finite(x[i]);
  return !bad;
}

int64_t numbers_not_finite(const float *x, int64_t n) {
  if (all_finite(x, n)) return -1;
  int64_t i = 0;
  while (is_finite(x[i])) i++;
  return i;
}

int64_t numbers_to_int(element type, const void *from, int32_t *to, int64_t n) {
  if (type == ELEMENT_INT32) memcpy(to, from, (size_t)n * sizeof *to);
  if (type == ELEMENT_UINT8)
    for (int64_t i = 0; i < n; i++) to[i] = ((const uint8_t *)from)[i];
  if (type != ELEMENT_INT64) return -1;
  const int64_t *wide = from;
  for (int64_t i = 0; i < n; i++) {
    if (wide[i] < INT32_MIN || wide[i] > INT32_MAX) return i;
    to[i] = (int32_t)wide[i];
  }
  return -1;
}
