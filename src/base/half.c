#include "base/half.h"

#include "base/processor.h"

#include <stdbool.h>
#include <string.h>

/* Bit arithmetic, which the compiler vectorises; the same on every processor. */
static uint16_t narrow(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x47800000u) { /* 65536 and more, infinity, NaN */
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    return (uint16_t)(sign | 0x7c00u);
  }
  if (magnitude < 0x38800000u) { /* below 2^-14: a subnormal half is a multiple of 2^-24 */
    float value;
    memcpy(&value, &magnitude, 4);
    value += 0.5f; /* 0.5 has an ulp of 2^-24: the addition rounds to nearest even */
    uint32_t shifted;
    memcpy(&shifted, &value, 4);
    return (uint16_t)(sign | (shifted - 0x3f000000u));
  }
  uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

static float widen(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu, bits;
  if (magnitude >= 0x7c00u) {
    bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
  } else if (magnitude >= 0x400u) {
    bits = sign | ((magnitude << 13) + 0x38000000u);
  } else {
    float value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

FOR_EACH_PROCESSOR static bool narrow_all(const float *restrict from, uint16_t *restrict to, size_t n) {
  uint16_t infinite = 0;
  for (size_t i = 0; i < n; i++) {
    to[i] = narrow(from[i]);
    infinite |= (to[i] & 0x7fffu) == 0x7c00u;
  }
  return infinite;
}

ptrdiff_t half_from_float(const float *from, uint16_t *to, size_t n) {
  if (!narrow_all(from, to, n)) return -1;
  for (size_t i = 0; i < n; i++)
    if ((to[i] & 0x7fffu) == 0x7c00u && from[i] - from[i] == 0.0f) return (ptrdiff_t)i;
  return -1;
}

FOR_EACH_PROCESSOR void half_to_float(const uint16_t *restrict from, float *restrict to, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = widen(from[i]);
}
