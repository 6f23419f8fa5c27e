#include "import/number_kinds.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

/* Whole numbers of one width into another, within limits. memcpy-free: buffers come from mem_new and are
 * aligned. */
#define WHOLE(function, from_type, to_type, low, high)                                                       \
  static int64_t function(const void *from, void *to, int64_t n) {                                           \
    const from_type *x = from;                                                                               \
    to_type *y = to;                                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      if ((low) || (high)) return i;                                                                         \
      y[i] = (to_type)x[i];                                                                                  \
    }                                                                                                        \
    return -1;                                                                                               \
  }
#define NEVER false

WHOLE(u1_input, uint8_t, uint8_t, NEVER, NEVER)
WHOLE(b1_input, uint8_t, uint8_t, NEVER, x[i] > 1)
WHOLE(i1_input, int8_t, int32_t, NEVER, NEVER)
WHOLE(u2_input, uint16_t, int32_t, NEVER, NEVER)
WHOLE(i2_input, int16_t, int32_t, NEVER, NEVER)
WHOLE(u4_input, uint32_t, int64_t, NEVER, NEVER)
WHOLE(i4_input, int32_t, int32_t, NEVER, NEVER)
WHOLE(u8_input, uint64_t, int64_t, NEVER, x[i] > INT64_MAX)
WHOLE(i8_input, int64_t, int64_t, NEVER, NEVER)

WHOLE(u1_label, uint8_t, int32_t, NEVER, NEVER)
WHOLE(b1_label, uint8_t, int32_t, NEVER, x[i] > 1)
WHOLE(i1_label, int8_t, int32_t, x[i] < -1, NEVER)
WHOLE(u2_label, uint16_t, int32_t, NEVER, NEVER)
WHOLE(i2_label, int16_t, int32_t, x[i] < -1, NEVER)
WHOLE(u4_label, uint32_t, int32_t, NEVER, x[i] > INT32_MAX)
WHOLE(i4_label, int32_t, int32_t, x[i] < -1, NEVER)
WHOLE(u8_label, uint64_t, int32_t, NEVER, x[i] > INT32_MAX)
WHOLE(i8_label, int64_t, int32_t, x[i]<-1, x[i]> INT32_MAX)

/* A half whose exponent is all ones is infinite or NaN. */
static int64_t f2_input(const void *from, void *to, int64_t n) {
  const uint16_t *x = from;
  for (int64_t i = 0; i < n; i++)
    if ((x[i] & 0x7c00) == 0x7c00) return i;
  memcpy(to, from, (size_t)n * sizeof *x);
  return -1;
}

static int64_t first_not_finite(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return i;
  return -1;
}

static int64_t f2_target(const void *from, void *to, int64_t n) {
  half_to_float(from, to, (size_t)n);
  return first_not_finite(to, n);
}

static int64_t f4_any(const void *from, void *to, int64_t n) {
  memcpy(to, from, (size_t)n * sizeof(float));
  return first_not_finite(to, n);
}

/* What rounds to a float's infinity cannot be stored either. */
static int64_t f8_any(const void *from, void *to, int64_t n) {
  const double *x = from;
  float *y = to;
  for (int64_t i = 0; i < n; i++) y[i] = fabs(x[i]) < 0x1.ffffffp127 ? (float)x[i] : INFINITY;
  return first_not_finite(to, n);
}

static const number_kind kinds[] = {
    {.name = "u1", .bytes = 1, .input = ELEMENT_UINT8, .to_input = u1_input, .to_label = u1_label},
    {.name = "b1", .bytes = 1, .input = ELEMENT_UINT8, .to_input = b1_input, .to_label = b1_label},
    {.name = "i1", .bytes = 1, .input = ELEMENT_INT32, .to_input = i1_input, .to_label = i1_label},
    {.name = "u2", .bytes = 2, .input = ELEMENT_INT32, .to_input = u2_input, .to_label = u2_label},
    {.name = "i2", .bytes = 2, .input = ELEMENT_INT32, .to_input = i2_input, .to_label = i2_label},
    {.name = "u4", .bytes = 4, .input = ELEMENT_INT64, .to_input = u4_input, .to_label = u4_label},
    {.name = "i4", .bytes = 4, .input = ELEMENT_INT32, .to_input = i4_input, .to_label = i4_label},
    {.name = "u8", .bytes = 8, .input = ELEMENT_INT64, .to_input = u8_input, .to_label = u8_label},
    {.name = "i8", .bytes = 8, .input = ELEMENT_INT64, .to_input = i8_input, .to_label = i8_label},
    {.name = "f2", .bytes = 2, .input = ELEMENT_FLOAT16, .to_input = f2_input, .to_target = f2_target},
    {.name = "f4", .bytes = 4, .input = ELEMENT_FLOAT32, .to_input = f4_any, .to_target = f4_any},
    {.name = "f8", .bytes = 8, .input = ELEMENT_FLOAT32, .to_input = f8_any, .to_target = f8_any},
};

const number_kind *number_find(const char *name) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (!strcmp(kinds[i].name, name)) return &kinds[i];
  return NULL;
}

void number_swap(void *data, size_t bytes, int64_t n) {
  unsigned char *p = data;
  for (int64_t i = 0; i < n; i++, p += bytes)
    for (size_t a = 0, b = bytes - 1; a < b; a++, b--) {
      unsigned char t = p[a];
      p[a] = p[b];
      p[b] = t;
    }
}

bool number_machine_is_big_endian(void) {
  const uint16_t one = 1;
  unsigned char first;
  memcpy(&first, &one, 1);
  return first == 0;
}
