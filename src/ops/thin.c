#include "ops/thin.h"

#include "ops/tiles.h"

/* LATE_ROWS: whole tiles of any processor. */
enum { LINE = 16, MOST = 64, LEAST = 16, LATE_ROWS = 24 };

static int64_t rounded(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

/* y = a b' as y' = b a': the rows of b are read as they stand, a[m, k] and y change sides. */
static void product_of_rows(int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add,
                            float *y, float *scratch) {
  int64_t width = rounded(m, LINE);
  float *a_turned = scratch, *y_turned = scratch + k * width;
  tiles_turn(m, k, a, k, false, a_turned, width);
  tile t = {.k = k,
            .a = b,
            .a_row = k,
            .a_column = 1,
            .b = a_turned,
            .b_row = width,
            .y = y_turned,
            .y_row = width};
  tiles_run(&t, n, m, true);
  tiles_turn(n, m, y_turned, width, add, y, n);
}

bool thin_suits(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  if (!tiles_exist() || (ta && tb) || m < 1 || n < 1 || k < 1 || m > INT32_MAX || n > INT32_MAX ||
      k > INT32_MAX)
    return false;
  if (tb) return m >= LEAST && m <= MOST && n * k >= MOST * MOST * 4;
  if (ta) return k <= MOST && m * n >= MOST * MOST * 4;
  return m <= MOST && n * k >= MOST * MOST * 4;
}

size_t thin_scratch_bytes(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
  return tb && thin_suits(ta, tb, m, n, k) ? (size_t)(n + k) * (size_t)rounded(m, LINE) * sizeof(float) : 0;
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

/* x[k, n] as blocks of `wide` columns, the last of which may not be full. */
static void pack(int64_t k, int64_t n, const float *restrict x, int64_t wide, float *restrict to) {
  for (int64_t i = 0; i < k; i++, x += n) {
    for (int64_t j = 0; j < n; j += wide) {
      const int64_t columns = n - j < wide ? n - j : wide;
      float *restrict out = to + j * k + i * wide;
      for (int64_t c = 0; c < columns; c++) out[c] = x[j + c];
    }
  }
}

static void copy_late(const late_gradient *l, float *left, float *right) {
  pack(l->k, l->rows, l->left->data, l->high, left);
  pack(l->k, l->columns, l->right->data, l->wide, right);
}

static void make_late(const late_gradient *l, const float *left, const float *right, int64_t row,
                      int64_t column, float *y) {
  const int64_t rows = l->rows - row < l->high ? l->rows - row : l->high;
  const int64_t columns = l->columns - column < l->wide ? l->columns - column : l->wide;
  const tile t = {.k = l->k,
                  .a = left + row * l->k,
                  .a_row = 1,
                  .a_column = l->high,
                  .b = right + column * l->k,
                  .b_row = l->wide,
                  .y = y,
                  .y_row = columns};
  tiles_run(&t, rows, columns, true);
}

bool thin_late(const tensor *left, const tensor *right, int64_t k, int64_t rows, int64_t columns,
               late_gradient *out) {
  const int wide = tiles_columns();
  if (!thin_suits(true, false, rows, columns, k)) return false;
  *out = (late_gradient){.left = left,
                         .right = right,
                         .k = k,
                         .rows = rows,
                         .columns = columns,
                         .high = LATE_ROWS,
                         .wide = wide,
                         .left_floats = k * rounded(rows, LATE_ROWS),
                         .right_floats = k * rounded(columns, wide),
                         .copy = copy_late,
                         .make = make_late};
  return true;
}
