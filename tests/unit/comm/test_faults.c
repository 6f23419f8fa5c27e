/* The n-th allocation fails on the last rank: all ranks leave with the same status and message, and none
 * waits for another. */
/* ranks: 1 2 4 */
#include "world.h"

#include "base/mem.h"
#include "comm/queue.h"
#include "comm/reduce.h"

enum { MOST_ALLOCATIONS = 100 };

/* One attempt: makes something and frees it. */
typedef status attempt(comm *c);

static status make_reducer(comm *c) {
  reducer *r;
  status st = reducer_new(&r, c, 20, 1000, 2, 2, REDUCE_FLOAT32);
  reducer_free(&r);
  return st;
}

static status make_queue(comm *c) {
  static const int64_t n_items[] = {3, 4};
  static const double costs[] = {1, 2};
  queue *q;
  status st = queue_new(&q, c, 2, n_items, costs, NULL, NULL);
  if (!st) queue_stop(q);
  if (!st) st = queue_finish(q);
  queue_free(&q);
  return st;
}

static status make_shared(comm *c) {
  shared *s;
  status st = shared_new(&s, c, 1000);
  shared_free(&s);
  return st;
}

static status make_comm(comm *c) {
  comm *another;
  status st = comm_from(&another, comm_mpi(c));
  comm_end(&another);
  return st;
}

static status read_file(comm *c) {
  unsigned char *bytes;
  size_t n;
  status st = comm_read_file(c, "/proc/version", &bytes, &n);
  mem_free(bytes);
  return st;
}

/* Until the attempt no longer reaches the allocation that would fail. */
static void fail_each(attempt *try, comm *c) {
  int n_failed = 0, same = 0;
  for (unsigned long n = 1; n < MOST_ALLOCATIONS; n++) {
    bool fails = comm_rank(c) == comm_size(c) - 1;
    unsigned long before = mem_count();
    mem_fail_at(fails ? n : 0);
    status st = try(c);
    bool reached = fails && mem_count() - before >= n;
    mem_fail_at(0);
    int mine[2] = {(int)st, reached}, *all = calloc((size_t)comm_size(c), sizeof mine);
    assert_int_equal(comm_gather_all(c, mine, all, sizeof mine), STATUS_OK);
    for (int i = 0; i < comm_size(c); i++) assert_int_equal(all[2 * i], st);
    same++;
    n_failed += st != STATUS_OK;
    if (st) assert_non_null(strstr(status_message(), "out of memory"));
    bool last_reached = all[2 * comm_size(c) - 1];
    free(all);
    if (!last_reached) break;
  }
  assert_in_range(same, 1, MOST_ALLOCATIONS - 2);
  assert_true(n_failed > 0 || comm_size(c) > 1);
}

static void on_layouts(attempt *try) {
  for (int i = 0; i < N_LAYOUTS - 1; i++) {
    comm *c = world_in(&layouts[i]);
    fail_each(try, c);
    comm_end(&c);
  }
}

static void test_reducer(void **state) {
  (void)state;
  on_layouts(make_reducer);
}

static void test_queue(void **state) {
  (void)state;
  on_layouts(make_queue);
}

static void test_shared(void **state) {
  (void)state;
  on_layouts(make_shared);
}

static void test_comm(void **state) {
  (void)state;
  fail_each(make_comm, world);
}

static void test_read_file(void **state) {
  (void)state;
  fail_each(read_file, world);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_reducer), cmocka_unit_test(test_queue),     cmocka_unit_test(test_shared),
    cmocka_unit_test(test_comm),    cmocka_unit_test(test_read_file),
};

RUN_WORLD(tests)
