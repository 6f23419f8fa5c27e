#include "ops/thin.h"

#include "ops/tiles.h"

enum { LINE = 16, MOST = 64, LEAST = 16, MOST_LATE_COLUMNS = 4096 };

static int64_t padded(int64_t n) {
  return (n + LINE - 1) / LINE * LINE;
}

/* y = a b' as y' = b a': the rows of b are read as they stand, a[m, k] and y change sides. */
static void product_of_rows(int64_t m, int64_t n, int64_t k, const float *a, const float *b, bool add,
                            float *y, float *scratch) {
  int64_t width = padded(m);
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

static void make_rows(const late_gradient *l, const float *left, const float *right, int64_t from, int64_t to,
                      bool add, float *y) {
  const tile t = {.k = l->k,
                  .a = left + from,
                  .a_row = 1,
                  .a_column = l->rows,
                  .b = right,
                  .b_row = l->columns,
                  .add = add,
                  .y = y,
                  .y_row = l->columns};
  tiles_run(&t, to - from, l->columns, true);
}

bool thin_late(const tensor *left, const tensor *right, int64_t k, int64_t rows, int64_t columns,
               late_gradient *out) {
  if (!thin_suits(true, false, rows, columns, k) || columns > MOST_LATE_COLUMNS) return false;
  *out = (late_gradient){left, right, k, rows, columns, make_rows};
  return true;
}
