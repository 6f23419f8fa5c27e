/* The order of rows: without a window that of rng_permutation; with one, windows of neighbours. */
#include "base/mem.h"
#include "base/rng.h"
#include "stages/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 1037, BATCH = 32 };

static void whole(void **state) {
  (void)state;
  order *o;
  int64_t expected[N];
  assert_int_equal(order_new(&o, 7, N, 0, BATCH), STATUS_OK);
  assert_int_equal(order_n_windows(o), 1);
  for (int64_t epoch = 0; epoch < 3; epoch++) {
    rng_permutation(7, RNG_ORDER, (uint64_t)epoch, N, expected);
    for (int64_t at = 0; at < N; at += BATCH) {
      const int64_t n = N - at < BATCH ? N - at : BATCH;
      assert_memory_equal(order_rows(o, epoch, at, n), expected + at, (size_t)n * sizeof *expected);
    }
  }
  order_free(&o);
}

/* Each row once an epoch; window by window; batches that lie in two windows too. */
static void windows(void **state) {
  (void)state;
  order *o;
  int64_t last = -1;
  int moved = 0;
  assert_int_equal(order_new(&o, 7, N, 100, BATCH), STATUS_OK);
  assert_int_equal(order_n_windows(o), 10);
  assert_int_equal(order_longest(o), 104);
  for (int64_t epoch = 0; epoch < 2; epoch++) {
    bool seen[N] = {false};
    for (int64_t at = 0; at < N; at += BATCH) {
      const int64_t n = N - at < BATCH ? N - at : BATCH;
      const int64_t *ids = order_rows(o, epoch, at, n);
      for (int64_t i = 0; i < n; i++) {
        int64_t first, rows, g = order_window_at(o, epoch, at + i);
        order_window(o, g, &first, &rows);
        assert_true(rows >= 100 && rows <= 104);
        assert_true(ids[i] >= first && ids[i] < first + rows);
        assert_true(g == last || g == last + 1);
        assert_false(seen[ids[i]]);
        seen[ids[i]] = true;
        moved += ids[i] != at + i;
        last = g;
      }
    }
  }
  assert_int_equal(last, 19);
  assert_true(moved > 2 * N - 40);
  order_free(&o);
}

/* A pure function: who asks in another sequence gets the same. */
static void any_time(void **state) {
  (void)state;
  order *a, *b;
  int64_t kept[BATCH];
  assert_int_equal(order_new(&a, 3, N, 100, BATCH), STATUS_OK);
  assert_int_equal(order_new(&b, 3, N, 100, BATCH), STATUS_OK);
  for (int64_t at = 0; at + BATCH <= N; at += BATCH) order_rows(a, 0, at, BATCH);
  memcpy(kept, order_rows(a, 4, 320, BATCH), sizeof kept);
  assert_memory_equal(order_rows(b, 4, 320, BATCH), kept, sizeof kept);
  order_free(&a);
  order_free(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(windows),
                                     cmocka_unit_test(any_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
