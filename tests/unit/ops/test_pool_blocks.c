/* MaxPool over channels in blocks, beside the plain loop over each channel: bit for bit, ties and NaN
 * included. */
#include "ops/pool_blocks.h"
#include "ops/reference.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { PLANES = 3 };

/* Kernels of 2, 4, 8 and 9 taps, over inputs that they cover and that they do not. */
static const window windows[] = {{.rank = 1, .in = {1, 1, 8}, .out = {1, 1, 4}, .kernel = {1, 1, 2}},
                                 {.rank = 1, .in = {1, 1, 9}, .out = {1, 1, 4}, .kernel = {1, 1, 2}},
                                 {.rank = 2, .in = {1, 6, 4}, .out = {1, 3, 2}, .kernel = {1, 2, 2}},
                                 {.rank = 2, .in = {1, 7, 5}, .out = {1, 3, 2}, .kernel = {1, 2, 2}},
                                 {.rank = 2, .in = {1, 5, 9}, .out = {1, 5, 2}, .kernel = {1, 1, 4}},
                                 {.rank = 2, .in = {1, 7, 9}, .out = {1, 2, 3}, .kernel = {1, 3, 3}},
                                 {.rank = 3, .in = {4, 5, 6}, .out = {2, 2, 3}, .kernel = {2, 2, 2}}};

static window complete(window w) {
  for (int i = 0; i < WINDOW_RANK; i++) {
    w.stride[i] = w.kernel[i];
    w.dilation[i] = 1;
  }
  return w;
}

static float *floats(int64_t n) {
  float *x;
  assert_int_equal(mem_new(&x, (size_t)n, sizeof *x), STATUS_OK);
  return x;
}

/* Few different numbers, so that there are ties; now and then none. */
static void fill(float *x, int64_t n, uint64_t stream) {
  for (int64_t i = 0; i < n; i++) {
    const float u = rng_uniform(1, RNG_NOISE, stream, (uint64_t)i);
    x[i] = u < 0.02f ? NAN : u < 0.1f ? -INFINITY : floorf(u * 6) - 3;
  }
}

static void copy_channel(const float *from, int64_t n, int64_t block, int64_t lane, float *to) {
  for (int64_t p = 0; p < PLANES; p++)
    for (int64_t i = 0; i < n; i++) to[p * n + i] = from[(p * n + i) * block + lane];
}

static void assert_bits(const float *a, const float *b, int64_t n) {
  for (int64_t i = 0; i < n; i++) assert_true(a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]));
}

static void compare(const window *w, int64_t block) {
  const int64_t in = window_inputs(w), out = window_outputs(w);
  float *x = floats(PLANES * in * block), *y = floats(PLANES * out * block),
        *dy = floats(PLANES * out * block), *dx = floats(PLANES * in * block),
        *sum = floats(PLANES * in * block), *x1 = floats(PLANES * in), *y1 = floats(PLANES * out),
        *dy1 = floats(PLANES * out), *dx1 = floats(PLANES * in), *got = floats(PLANES * in);
  uint8_t *index;
  int64_t *index1;
  assert_int_equal(mem_new(&index, (size_t)(PLANES * out * block), 1), STATUS_OK);
  assert_int_equal(mem_new(&index1, (size_t)(PLANES * out), sizeof *index1), STATUS_OK);
  fill(x, PLANES * in * block, 1);
  for (int64_t i = 0; i < PLANES * out * block; i++) dy[i] = rng_normal(2, RNG_NOISE, 2, (uint64_t)i);
  for (int64_t i = 0; i < PLANES * in * block; i++) dx[i] = sum[i] = (float)(i % 7);
  pool_blocks_max(w, PLANES, block, x, y, index);
  pool_blocks_max_backward(w, PLANES, block, dy, index, dx, false);
  pool_blocks_max_backward(w, PLANES, block, dy, index, sum, true);
  for (int64_t lane = 0; lane < block; lane++) {
    copy_channel(x, in, block, lane, x1);
    copy_channel(dy, out, block, lane, dy1);
    pool_reference_max(DTYPE_FLOAT, w, PLANES, x1, y1, index1);
    copy_channel(y, out, block, lane, got);
    assert_bits(got, y1, PLANES * out);
    pool_reference_max_backward(w, PLANES, dy1, index1, dx1, false);
    copy_channel(dx, in, block, lane, got);
    for (int64_t i = 0; i < PLANES * in; i++) assert_true(got[i] == dx1[i]);
    copy_channel(sum, in, block, lane, got);
    for (int64_t i = 0; i < PLANES * in; i++) assert_true(got[i] == dx1[i] + (float)((i * block + lane) % 7));
  }
  void *const all[] = {x, y, dy, dx, sum, x1, y1, dy1, dx1, got, index, index1};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

static void test_values(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
    const window w = complete(windows[i]);
    for (int64_t block = 8; block <= 16; block += 8) {
      assert_true(pool_blocks_suit(&w, block, block));
      compare(&w, block);
    }
  }
}

static void test_what_suits(void **state) {
  (void)state;
  window w = complete(windows[2]);
  assert_false(pool_blocks_suit(&w, 8, 16));
  assert_false(pool_blocks_suit(&w, 0, 0));
  w.stride[2] = 1;
  assert_false(pool_blocks_suit(&w, 8, 8)); /* they overlap */
  w = complete(windows[2]);
  w.begin[1] = 1;
  assert_false(pool_blocks_suit(&w, 8, 8));
  w = complete(windows[2]);
  w.out[1] = 4; /* with ceil_mode */
  assert_false(pool_blocks_suit(&w, 8, 8));
  w = complete(windows[2]);
  w.dilation[1] = 2;
  assert_false(pool_blocks_suit(&w, 8, 8));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_what_suits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
