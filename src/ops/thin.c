#include "ops/thin.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* A tile of the result is up to 6 rows by two vectors of 8 columns: 12 sums, two vectors of b and an element
 * of a fill the 16 registers. */
enum { ROWS = 6, VECTOR = 8, COLUMNS = 2 * VECTOR, LINE = 16, MOST = 64, LEAST = 16 };

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) static inline

typedef struct tile {
  int64_t k;
  const float *a; /* a[i, k] at a[i * a_row + k * a_column] */
  int64_t a_row, a_column;
  const float *b; /* rows of contiguous columns */
  int64_t b_row;
  bool add;
  float *y; /* likewise */
  int64_t y_row;
  __m256i some[2]; /* the columns that there are */
} tile;

/* rows and a_row are known where this is inlined. The row streams of a begin anew with every tile, too late
 * for the processor's own prefetching: while one is read, the next one's rows are fetched. The result's lines
 * are needed once the sums are done. */
AVX2_INLINE void tile_run(const tile *t, int rows, int64_t a_row, bool whole) {
  __m256 sum[ROWS][2];
  const float *a = t->a, *b = t->b;
  for (int i = 0; i < rows; i++) {
    sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    __builtin_prefetch(t->y + i * t->y_row, 1);
  }
  for (int64_t k = 0; k < t->k; k++, a += t->a_column, b += t->b_row) {
    if (a_row != 1 && k % LINE == 0)
      for (int i = 0; i < rows; i++) __builtin_prefetch(a + (rows + i) * a_row);
    __m256 left = whole ? _mm256_loadu_ps(b) : _mm256_maskload_ps(b, t->some[0]);
    __m256 right = whole ? _mm256_loadu_ps(b + VECTOR) : _mm256_maskload_ps(b + VECTOR, t->some[1]);
    for (int i = 0; i < rows; i++) {
      __m256 x = _mm256_set1_ps(a[i * a_row]);
      sum[i][0] = _mm256_fmadd_ps(x, left, sum[i][0]);
      sum[i][1] = _mm256_fmadd_ps(x, right, sum[i][1]);
    }
  }
  for (int i = 0; i < rows; i++) {
    for (int j = 0; j < 2; j++) {
      float *y = t->y + i * t->y_row + j * VECTOR;
      __m256 s = sum[i][j];
      if (t->add) s = _mm256_add_ps(s, whole ? _mm256_loadu_ps(y) : _mm256_maskload_ps(y, t->some[j]));
      if (whole)
        _mm256_storeu_ps(y, s);
      else
        _mm256_maskstore_ps(y, t->some[j], s);
    }
  }
}

AVX2_INLINE void tile_width(const tile *t, int rows, bool whole) {
  if (t->a_row == 1)
    tile_run(t, rows, 1, whole);
  else
    tile_run(t, rows, t->a_row, whole);
}

AVX2_INLINE void tile_height(const tile *t, int rows, bool whole) {
  switch (rows) {
  case 1:
    tile_width(t, 1, whole);
    break;
  case 2:
    tile_width(t, 2, whole);
    break;
  case 3:
    tile_width(t, 3, whole);
    break;
  case 4:
    tile_width(t, 4, whole);
    break;
  case 5:
    tile_width(t, 5, whole);
    break;
  default:
    tile_width(t, ROWS, whole);
    break;
  }
}

AVX2 static void tile_some(tile *t, int rows, int columns) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  t->some[0] = _mm256_cmpgt_epi32(_mm256_set1_epi32(columns), lane);
  t->some[1] = _mm256_cmpgt_epi32(_mm256_set1_epi32(columns - VECTOR), lane);
  tile_height(t, rows, false);
}

AVX2 static void tile_whole(const tile *t, int rows) {
  tile_height(t, rows, true);
}

/* All tiles of y[m, n], whose first is `from`: either all of a few rows first or all of a few columns. */
static void tiles_run(const tile *from, int64_t m, int64_t n, bool by_rows) {
  int64_t high = (m + ROWS - 1) / ROWS, wide = (n + COLUMNS - 1) / COLUMNS;
  for (int64_t at = 0; at < high * wide; at++) {
    int64_t i = by_rows ? at / wide : at % high, j = COLUMNS * (by_rows ? at % wide : at / high);
    int64_t begin = i * m / high, rows = (i + 1) * m / high - begin;
    tile t = *from;
    t.a += begin * t.a_row;
    t.b += j;
    t.y += begin * t.y_row + j;
    if (n - j >= COLUMNS)
      tile_whole(&t, (int)rows);
    else
      tile_some(&t, (int)rows, (int)(n - j));
  }
}

/* to[j, i] (+)= from[i, j] of `rows` rows, in strips that stay in the first cache. */
static void transpose(int64_t rows, int64_t columns, const float *restrict from, int64_t from_row, bool add,
                      float *restrict to, int64_t to_row) {
  for (int64_t strip = 0; strip < rows; strip += LINE) {
    int64_t end = strip + LINE < rows ? strip + LINE : rows;
    for (int64_t j = 0; j < columns; j++) {
      float *restrict out = to + j * to_row;
      if (add)
        for (int64_t i = strip; i < end; i++) out[i] += from[i * from_row + j];
      else
        for (int64_t i = strip; i < end; i++) out[i] = from[i * from_row + j];
    }
  }
}

static int64_t padded(int64_t n) {
  return (n + LINE - 1) / LINE * LINE;
}

/* y = a b' as y' = b a': the rows of b are read as they stand, a[m, k] and y change sides. */
static void product_of_rows(int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add,
                            float *y, float *scratch) {
  int64_t width = padded(m);
  float *a_turned = scratch, *y_turned = scratch + k * width;
  transpose(m, k, a, k, false, a_turned, width);
  tile t = {.k = k,
            .a = b,
            .a_row = k,
            .a_column = 1,
            .b = a_turned,
            .b_row = width,
            .y = y_turned,
            .y_row = width};
  tiles_run(&t, n, m, true);
  transpose(n, m, y_turned, width, add, y, n);
}

bool thin_suits(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  if ((ta && tb) || m < 1 || n < 1 || k < 1 || m > INT32_MAX || n > INT32_MAX || k > INT32_MAX) return false;
  if (tb) return m >= LEAST && m <= MOST && n * k >= MOST * MOST * 4;
  if (ta) return k >= LEAST && k <= MOST && m * n >= MOST * MOST * 4;
  return m <= MOST && n * k >= MOST * MOST * 4;
}

size_t thin_scratch_bytes(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  return tb && thin_suits(ta, tb, m, n, k) ? (size_t)(n + k) * (size_t)padded(m) * sizeof(float) : 0;
}

void thin_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add,
                  float *y, void *scratch) {
  if (tb) {
    product_of_rows(m, n, k, a, b, add, y, scratch);
    return;
  }
  tile t = {.k = k,
            .a = a,
            .a_row = ta ? 1 : k,
            .a_column = ta ? m : 1,
            .b = b,
            .b_row = n,
            .add = add,
            .y = y,
            .y_row = n};
  tiles_run(&t, m, n, ta);
}

#else

bool thin_suits(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  (void)ta, (void)tb, (void)m, (void)n, (void)k;
  return false;
}

size_t thin_scratch_bytes(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  (void)ta, (void)tb, (void)m, (void)n, (void)k;
  return 0;
}

void thin_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add,
                  float *y, void *scratch) {
  (void)ta, (void)tb, (void)m, (void)n, (void)k, (void)a, (void)b, (void)add, (void)y, (void)scratch;
}

#endif
