/* A tile of a product, for one width of vectors: tiles.c includes this for each. It defines, and this
 * takes back,
 *
 *     NAME(x)                              x with the width's own ending
 *     TARGET, ROWS                         processors it is for; the most rows of a tile
 *     VECTOR, vector, mask                 numbers of a vector, its type, that of a choice of them
 *     ZERO(), ALL(x), FMA(x, y, z), ADD(x, y), LOAD(p), STORE(p, x), LOAD_SOME(p, m), STORE_SOME(p, m, x)
 *     FIRST(n)                             the choice of the first n, where n <= 0 none, and all from VECTOR
 * on
 *
 * ROWS times two sums, two vectors of b and an element of a fill the registers. */
#define INLINE TARGET __attribute__((always_inline)) static inline

/* rows and a_row are known where this is inlined. The row streams of a begin anew with every tile, too late
 * for the processor's own prefetching: while one is read, the next one's rows are fetched. So are lines of b,
 * whose rows lie too far apart for it. The result's lines are needed once the sums are done. */
INLINE void NAME(run)(const tile *t, int rows, int64_t a_row, const mask *some) {
  vector sum[ROWS][2];
  const float *a = t->a, *b = t->b, *line = t->y;
  ALL_OF(i, rows) sum[i][0] = sum[i][1] = ZERO();
  for (int64_t k = 0; k < t->k; k++, a += t->a_column, b += t->b_row) {
    if (a_row != 1 && k % LINE == 0) ALL_OF(i, rows) __builtin_prefetch(a + (rows + i) * a_row);
    for (int j = 0; j < 2 * VECTOR; j += LINE) __builtin_prefetch(b + ROWS_AHEAD * t->b_row + j);
    if (k < rows) {
      for (int j = 0; j < 2 * VECTOR; j += LINE) __builtin_prefetch(line + j, 1);
      line += t->y_row;
    }
    const vector left = some ? LOAD_SOME(b, some[0]) : LOAD(b);
    const vector right = some ? LOAD_SOME(b + VECTOR, some[1]) : LOAD(b + VECTOR);
    ALL_OF(i, rows) {
      const vector x = ALL(a[i * a_row]);
      sum[i][0] = FMA(x, left, sum[i][0]);
      sum[i][1] = FMA(x, right, sum[i][1]);
    }
  }
  ALL_OF(i, rows) {
    ALL_OF(j, 2) {
      float *y = t->y + i * t->y_row + j * VECTOR;
      vector s = sum[i][j];
      if (t->add) s = ADD(s, some ? LOAD_SOME(y, some[j]) : LOAD(y));
      if (some)
        STORE_SOME(y, some[j], s);
      else
        STORE(y, s);
    }
  }
}

#define CASE(n)                                                                                              \
  case n:                                                                                                    \
    if (t->a_row == 1)                                                                                       \
      NAME(run)(t, n, 1, some);                                                                              \
    else                                                                                                     \
      NAME(run)(t, n, t->a_row, some);                                                                       \
    break

INLINE void NAME(height)(const tile *t, int rows, const mask *some) {
  switch (rows) {
    CASE(1);
    CASE(2);
    CASE(3);
    CASE(4);
    CASE(5);
    CASE(6);
#if ROWS > 6
    CASE(7);
    CASE(8);
    CASE(9);
    CASE(10);
    CASE(11);
    CASE(12);
#endif
  }
}

TARGET static void NAME(some)(const tile *t, int rows, int columns) {
  const mask some[2] = {FIRST(columns), FIRST(columns - VECTOR)};
  NAME(height)(t, rows, some);
}

TARGET static void NAME(whole)(const tile *t, int rows) {
  NAME(height)(t, rows, NULL);
}

static const tiling NAME(tiles) = {ROWS, 2 * VECTOR, NAME(whole), NAME(some)};

#undef CASE
#undef INLINE
#undef NAME
#undef TARGET
#undef ROWS
#undef VECTOR
#undef vector
#undef mask
#undef ZERO
#undef ALL
#undef FMA
#undef ADD
#undef LOAD
#undef STORE
#undef LOAD_SOME
#undef STORE_SOME
#undef FIRST
