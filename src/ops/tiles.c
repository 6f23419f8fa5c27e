#include "ops/tiles.h"

#include "ops/dnnl.h"

#include <string.h>

static void plain_run(const tile *t, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; i++) {
    float *restrict y = t->y + i * t->y_row;
    if (!t->add) memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t k = 0; k < t->k; k++) {
      const float x = t->a[i * t->a_row + k * t->a_column], *restrict b = t->b + k * t->b_row;
      for (int64_t j = 0; j < n; j++) y[j] += x * b[j];
    }
  }
}

enum { STRIP = 16 };

void tiles_turn(int64_t rows, int64_t columns, const float *restrict from, int64_t from_row, bool add,
                float *restrict to, int64_t to_row) {
  for (int64_t strip = 0; strip < rows; strip += STRIP) {
    int64_t end = strip + STRIP < rows ? strip + STRIP : rows;
    for (int64_t j = 0; j < columns; j++) {
      float *restrict out = to + j * to_row;
      if (add)
        for (int64_t i = strip; i < end; i++) out[i] += from[i * from_row + j];
      else
        for (int64_t i = strip; i < end; i++) out[i] = from[i * from_row + j];
    }
  }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

enum { LINE = 16, ROWS_AHEAD = 8 };

/* Unrolled early: GCC keeps the sums in memory else, clang does not know the word. */
#ifdef __clang__
#define ALL_OF(i, n) for (int i = 0; i < (n); i++)
#else
#define ALL_OF(i, n) _Pragma("GCC unroll 12") for (int i = 0; i < (n); i++)
#endif

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
#include "ops/tile_kernel.h"

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
#include "ops/tile_kernel.h"

/* The widest that this processor has and that oneDNN is not told to leave (ONEDNN_MAX_CPU_ISA); NULL: none.
 */
static const tiling *find_tiling(void) {
  const int floats = dnnl_vector_floats();
  return floats == 16 ? &avx512_tiles : floats == 8 ? &avx2_tiles : NULL;
}

bool tiles_exist(void) {
  return find_tiling() != NULL;
}

void tiles_run(const tile *from, int64_t m, int64_t n, bool by_rows) {
  const tiling *kind = find_tiling();
  if (!kind) {
    plain_run(from, m, n);
    return;
  }
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

#else

bool tiles_exist(void) {
  return false;
}

void tiles_run(const tile *from, int64_t m, int64_t n, bool by_rows) {
  (void)by_rows;
  plain_run(from, m, n);
}

#endif
