/* IEEE half precision <-> float, our own because HDF5 1.10.8 converts wrongly (7.9993 becomes 4). */
#ifndef MPISTILL_BASE_HALF_H
#define MPISTILL_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

/* Rounds to nearest even. Returns the index of the first finite value too large for a half (|x| >= 65520),
 * which becomes an infinity, or -1 if there is none. NaN and infinities pass. */
ptrdiff_t half_from_float(const float *from, uint16_t *to, size_t n);

/* Exact. */
void half_to_float(const uint16_t *from, float *to, size_t n);

#endif
