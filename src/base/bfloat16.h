/* bfloat16: the upper 16 bits of a float. Local, pure; to the nearest, halves to even, and a NaN stays one.
 */
#ifndef MPISTILL_BASE_BFLOAT16_H
#define MPISTILL_BASE_BFLOAT16_H

#include <stdint.h>
#include <string.h>

static inline uint16_t bfloat16_from_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  return (uint16_t)(((bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : rounded) >> 16);
}

static inline float bfloat16_to_float(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}

/* To the nearest number that is a bfloat16. */
static inline float bfloat16_round(float x) {
  return bfloat16_to_float(bfloat16_from_float(x));
}

#endif
