/* Memory shared by the ranks of a node, with a window and without. */
/* ranks: 1 2 4 */
#include "world.h"

#include "comm/internal.h"

/* Each rank writes its part, sees everybody's of its node after shared_sync, many times over. */
static void exchange(comm *c, bool expect_shared) {
  enum { N = 100, TURNS = 300 };
  shared *s;
  int n = comm_node_size(c), me = comm_node_rank(c);
  assert_int_equal(shared_new(&s, c, sizeof(int) * N * (size_t)n), STATUS_OK);
  assert_int_equal(shared_is_shared(s), expect_shared || n == 1);
  volatile int *data = shared_data(s);
  assert_int_equal((uintptr_t)data % 64, 0);
  for (int i = 0; i < N * n; i++) assert_int_equal(data[i], 0);
  assert_int_equal(shared_sync(s), STATUS_OK);
  int wrong = 0;
  for (int turn = 1; turn <= TURNS; turn++) {
    for (int i = 0; i < N; i++) data[me * N + i] = turn * 1000 + me;
    assert_int_equal(shared_sync(s), STATUS_OK);
    for (int i = 0; i < N * n; i++)
      if (shared_is_shared(s) || i / N == me) wrong += data[i] != turn * 1000 + i / N;
    assert_int_equal(shared_sync(s), STATUS_OK);
  }
  assert_int_equal(wrong, 0);
  shared_free(&s);
  assert_null(s);
}

static void test_layouts(void **state) {
  (void)state;
  for (int i = 0; i < N_LAYOUTS; i++) {
    comm *c = world_in(&layouts[i]);
    exchange(c, !strcmp(layouts[i].shared_memory, "1"));
    comm_end(&c);
  }
}

/* More than the folder can hold: no window on any rank, and no memory either, said by all. */
static void test_no_room(void **state) {
  (void)state;
  comm *c = world_in(&layouts[0]);
  shared *s;
  assert_int_equal(shared_window(&s, c, (size_t)1 << 50), STATUS_OK);
  assert_null(s);
  assert_int_equal(shared_new(&s, c, SIZE_MAX - 10), STATUS_FAILED);
  assert_null(s);
  assert_non_null(strstr(status_message(), "out of memory"));
  assert_int_equal(shared_new(&s, c, 1000), STATUS_OK);
  assert_true(shared_is_shared(s));
  shared_free(&s);
  comm_end(&c);
}

static void test_alone(void **state) {
  (void)state;
  comm *c;
  shared *s;
  assert_int_equal(comm_alone(&c), STATUS_OK);
  assert_int_equal(shared_new(&s, c, 1 << 20), STATUS_OK);
  assert_true(shared_is_shared(s));
  memset(shared_data(s), 1, 1 << 20);
  assert_int_equal(shared_sync(s), STATUS_OK);
  shared_free(&s);
  comm_end(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_layouts),
    cmocka_unit_test(test_no_room),
    cmocka_unit_test(test_alone),
};

RUN_WORLD(tests)
