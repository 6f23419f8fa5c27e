/* Products of matrices that lie in any order, tile by tile in registers, with nothing copied: for those that
 * are too small or too thin for a library, which packs them first.
 *
 * Every element is one chain of fused multiply-adds over k = 0, 1, ... (without AVX2: of multiplications and
 * additions): its bits depend on its row of a and its column of b, not on where they stand or how many there
 * are. */
#ifndef MPISTILL_OPS_TILES_H
#define MPISTILL_OPS_TILES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tile {
  int64_t k;
  const float *a; /* a[i, k] at a[i * a_row + k * a_column] */
  int64_t a_row, a_column;
  const float *b; /* b[k, j] at b[k * b_row + j] */
  int64_t b_row;
  bool add; /* to what is in y */
  float *y; /* y[i, j] at y[i * y_row + j] */
  int64_t y_row;
} tile;

/* Local. Whether there are kernels for this processor. */
bool tiles_exist(void);

/* Local. y[m, n] = a b, or y += a b. by_rows: all tiles of a few rows first, else all of a few columns. */
void tiles_run(const tile *from, int64_t m, int64_t n, bool by_rows);

/* Local. to[j, i] = from[i, j], or +=, of `rows` rows, in strips that stay in the first cache. */
void tiles_turn(int64_t rows, int64_t columns, const float *from, int64_t from_row, bool add, float *to,
                int64_t to_row);

#endif
