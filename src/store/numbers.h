/* Stored numbers to what is computed with. */
#ifndef MPISTILL_STORE_NUMBERS_H
#define MPISTILL_STORE_NUMBERS_H

#include "store/dataset.h"

/* Local. n numbers of a type as floats; from may be unaligned for its type only if it is uint8. */
void numbers_to_float(element type, const void *from, float *to, int64_t n);
bool numbers_are_real(element type); /* float16, float32, float64 */
/* Local. The index of the first NaN or infinity, -1 if there is none. */
int64_t numbers_not_finite(const float *x, int64_t n);
/* Local. n whole numbers as int32: the index of the first that does not fit, else -1. */
int64_t numbers_to_int(element type, const void *from, int32_t *to, int64_t n);

#endif
