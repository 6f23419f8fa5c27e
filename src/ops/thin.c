#include "ops/thin.h"

#include "ops/dnnl.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

enum { LINE = 16, MOST = 64, LEAST = 16 };

typedef struct tile {
  int64_t k;
  const float *a; /* a[i, k] at a[i * a_row + k * a_column] */
  int64_t a_row, a_column;
  const float *b; /* rows of contiguous columns */
  int64_t b_row;
  bool add;
  float *y; /* likewise */
  int64_t y_row;
} tile;

/* The kernels of one kind of processor. */
typedef struct tiling {
  int rows, columns; /* of a tile, at most */
  void (*whole)(const tile *t, int rows);
  void (*some)(const tile *t, int rows, int columns);
} tiling;

#define NAME(x) avx2_##x
#define TARGET __attribute__((target("avx2,fma")))
#define ROWS 6
#define VECTOR 8
#define vector __m256
#define mask __m256i
#define ZERO _mm256_setzero_ps
#define ALL _mm256_set1_ps
#define FMA _mm256_fmadd_ps
#define ADD _mm256_add_ps
#define LOAD _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define LOAD_SOME _mm256_maskload_ps
#define STORE_SOME _mm256_maskstore_ps
#define FIRST(n) _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#include "ops/thin_tile.h"
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

#define NAME(x) avx512_##x
#define TARGET __attribute__((target("avx512f")))
#define ROWS 12
#define VECTOR 16
#define vector __m512
#define mask __mmask16
#define ZERO _mm512_setzero_ps
#define ALL _mm512_set1_ps
#define FMA _mm512_fmadd_ps
#define ADD _mm512_add_ps
#define LOAD _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define LOAD_SOME(p, m) _mm512_maskz_loadu_ps(m, p)
#define STORE_SOME _mm512_mask_storeu_ps
#define FIRST(n) (mask)((n) >= 16 ? 0xffff : (n) > 0 ? (1 << (n)) - 1 : 0)
#include "ops/thin_tile.h"

/* The widest that this processor has and that oneDNN is not told to leave (ONEDNN_MAX_CPU_ISA); NULL: none.
 */
static const tiling *find_tiling(void) {
  const int floats = dnnl_vector_floats();
  return floats == 16 ? &avx512_tiles : floats == 8 ? &avx2_tiles : NULL;
}

/* All tiles of y[m, n], whose first is `from`: either all of a few rows first or all of a few columns. */
static void tiles_run(const tile *from, int64_t m, int64_t n, bool by_rows) {
  const tiling *kind = find_tiling();
  int64_t high = (m + kind->rows - 1) / kind->rows, wide = (n + kind->columns - 1) / kind->columns;
  for (int64_t at = 0; at < high * wide; at++) {
    int64_t i = by_rows ? at / wide : at % high, j = kind->columns * (by_rows ? at % wide : at / high);
    int64_t begin = i * m / high, rows = (i + 1) * m / high - begin;
    tile t = *from;
    t.a += begin * t.a_row;
    t.b += j;
    t.y += begin * t.y_row + j;
    if (n - j >= kind->columns)
      kind->whole(&t, (int)rows);
    else
      kind->some(&t, (int)rows, (int)(n - j));
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
  if (!find_tiling() || (ta && tb) || m < 1 || n < 1 || k < 1 || m > INT32_MAX || n > INT32_MAX ||
      k > INT32_MAX)
    return false;
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
