/* Sums along the tree: any range of shards, pushed in pieces of any shape, gives the bits of the recursive
 * sum. */
#include "comm/tree.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 1100, MOST = 70 }; /* more than a chunk */

static float leaves[MOST][N] __attribute__((aligned(64)));

static int fill(void **state) {
  (void)state;
  uint32_t x = 1;
  for (int s = 0; s < MOST; s++)
    for (int i = 0; i < N; i++) {
      x = x * 1664525u + 1013904223u;
      leaves[s][i] = (float)(int32_t)x / (float)(1u << (x >> 27));
    }
  return 0;
}

static float reference(int n_shards, int level, int index, size_t i) {
  if (level == 0) return leaves[index][i];
  float left = reference(n_shards, level - 1, 2 * index, i);
  if ((2 * index + 1) << (level - 1) >= n_shards) return left;
  return left + reference(n_shards, level - 1, 2 * index + 1, i);
}

static float *memory(size_t n) {
  float *p;
  assert_int_equal(mem_new(&p, n, sizeof(float)), STATUS_OK);
  return p;
}

/* Shards from..to: the outputs are whole nodes, cover the range from left to right, and hold the right sums.
 */
static void check_range(tree *t, int n_shards, int from, int to, int threads, float *scratch, float *out) {
  tree_vector inputs[MOST], outputs[TREE_DEPTH];
  tree_start(t, n_shards);
  for (int s = from; s < to; s++) {
    tree_push(t, (tree_node){0, s});
    inputs[s - from] = (tree_vector){leaves[s], 0};
  }
  tree_end(t);
  for (int j = 0; j < t->n_left; j++) outputs[j] = (tree_vector){out + (size_t)j * 2 * N / 64 * 64, 64};
  tree_run(t, inputs, outputs, 64, N, threads, scratch);
  int end = from;
  size_t wrong = 0;
  for (int j = 0; j < t->n_left; j++) {
    tree_node node = t->left[j];
    assert_int_equal(node.index << node.level, end);
    end = (node.index + 1) << node.level < n_shards ? (node.index + 1) << node.level : n_shards;
    for (size_t i = 64; i < N; i++) {
      float expected = reference(n_shards, node.level, node.index, i);
      wrong += memcmp(&outputs[j].data[i - 64], &expected, sizeof expected) != 0;
    }
  }
  assert_int_equal(end, to);
  assert_int_equal(wrong, 0);
}

static void test_ranges(void **state) {
  (void)state;
  tree *t;
  float *scratch = memory(3 * TREE_DEPTH * TREE_CHUNK), *out = memory(TREE_DEPTH * 2 * N);
  assert_int_equal(tree_new(&t, MOST), STATUS_OK);
  for (int n_shards = 1; n_shards <= MOST; n_shards += n_shards < 18 ? 1 : 13)
    for (int from = 0; from < n_shards; from += 1 + n_shards / 8)
      for (int to = n_shards; to > from; to -= 1 + n_shards / 8)
        check_range(t, n_shards, from, to, 1, scratch, out);
  check_range(t, 64, 0, 64, 3, scratch, out);
  check_range(t, 64, 5, 61, 2, scratch, out);
  tree_free(&t);
  mem_free(scratch);
  mem_free(out);
}

/* Eight shards are one pass over memory. */
static void test_neighbours_are_summed_in_one_pass(void **state) {
  (void)state;
  static const int passes[][2] = {{1, 1}, {2, 1}, {3, 2}, {4, 1}, {8, 1}, {16, 3}, {64, 15}};
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
    tree *t;
    assert_int_equal(tree_new(&t, passes[i][0]), STATUS_OK);
    tree_start(t, passes[i][0]);
    for (int s = 0; s < passes[i][0]; s++) tree_push(t, (tree_node){0, s});
    tree_end(t);
    assert_int_equal(t->n_left, 1);
    assert_int_equal(t->n_adds, passes[i][1]);
    tree_free(&t);
  }
}

static void test_in_place(void **state) {
  (void)state;
  enum { K = 11 };
  tree *t;
  float *scratch = memory(TREE_DEPTH * TREE_CHUNK), *copy = memory((size_t)K * 1152);
  tree_vector inputs[K];
  assert_int_equal(tree_new(&t, K), STATUS_OK);
  tree_start(t, K);
  for (int s = 0; s < K; s++) {
    inputs[s] = (tree_vector){copy + (size_t)s * 1152, 0};
    memcpy(inputs[s].data, leaves[s], sizeof leaves[s]);
    tree_push(t, (tree_node){0, s});
  }
  tree_end(t);
  tree_run(t, inputs, inputs, 0, N, 1, scratch);
  for (size_t i = 0; i < N; i++) assert_true(inputs[0].data[i] == reference(K, 4, 0, i));
  tree_free(&t);
  mem_free(scratch);
  mem_free(copy);
}

static void test_rows(void **state) {
  (void)state;
  double rows[13 * 2];
  for (int i = 0; i < 13; i++) {
    rows[2 * i] = i;
    rows[2 * i + 1] = 1;
  }
  tree_rows(rows, 13, 2);
  assert_true(rows[0] == 78);
  assert_true(rows[1] == 13);
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ranges),
      cmocka_unit_test(test_neighbours_are_summed_in_one_pass),
      cmocka_unit_test(test_in_place),
      cmocka_unit_test(test_rows),
  };
  return cmocka_run_group_tests(tests, fill, NULL);
}
