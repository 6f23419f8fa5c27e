/* Products of rows with gaps between them, in all the ways a matrix can lie, by either library. */
#include "one_op.h"

#include "ops/blas.h"
#include "ops/dnnl.h"
#include "ops/reference.h"

enum { M = 37, N = 29, SHORT = 300, LONG = 2 * PRODUCT_K_MAX + 9, GAP = 5, ROOM = (LONG + GAP) * (M + GAP) };

static float a[ROOM], b[ROOM], y[ROOM], wanted[ROOM];

/* In one piece or several. */
static void one_product(bool ta, bool tb, float beta, bool onednn, int64_t k) {
  const int64_t a_row = (ta ? M : k) + GAP, b_row = (tb ? k : N) + GAP, y_row = N + GAP;
  const float bound = k == SHORT ? 1e-5f : 1e-4f;
  const product p = {.m = M,
                     .n = N,
                     .k = k,
                     .a_row = ta ? 1 : a_row,
                     .a_column = ta ? a_row : 1,
                     .b_row = tb ? 1 : b_row,
                     .b_column = tb ? b_row : 1,
                     .y_row = y_row,
                     .y_column = 1,
                     .alpha = 0.5,
                     .accumulate = beta != 0};
  fill_random(y, ROOM, 3);
  memcpy(wanted, y, sizeof y);
  product_reference(DTYPE_FLOAT, &p, a, b, wanted);
  if (!onednn)
    blas_product_rows(ta, tb, M, N, k, 0.5f, a, a_row, b, b_row, beta, y, y_row);
  else if (!dnnl_product(ta, tb, M, N, k, 0.5f, a, a_row, b, b_row, beta, y, y_row))
    return;
  for (int i = 0; i < ROOM; i++)
    if (!(fabsf(y[i] - wanted[i]) <= bound))
      fail_msg("ta %d tb %d k %d: number %d is %g, expected %g", ta, tb, (int)k, i, y[i], wanted[i]);
}

static void test_all_ways(void **state) {
  (void)state;
  fill_random(a, ROOM, 1);
  fill_random(b, ROOM, 2);
  for (int way = 0; way < 32; way++)
    one_product(way & 1, way & 2, way & 4 ? 1 : 0, way & 8, way & 16 ? LONG : SHORT);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_ways)};
  must(ops_init());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
