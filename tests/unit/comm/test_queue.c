/* The work queue: every item once, on ranks of any speed; done items skipped; stopping early. */
/* ranks: 1 2 4 8 */
#include "world.h"

#include "comm/queue.h"

#include <unistd.h>

enum { MOST_GROUPS = 12, MOST_ITEMS = 40 };

typedef struct tally {
  int64_t taken[MOST_GROUPS * MOST_ITEMS]; /* how often, over all ranks */
  int64_t n_switches;
} tally;

/* Takes items until there are none; a piece of work lasts `us`. */
static void work(queue *q, comm *c, unsigned us, tally *t) {
  int group, last = -1;
  int64_t item;
  for (;;) {
    assert_int_equal(queue_next(q, &group, &item), STATUS_OK);
    if (group < 0) break;
    t->taken[group * MOST_ITEMS + item]++;
    t->n_switches += last >= 0 && group != last;
    last = group;
    for (int part = 0; us && part < 4; part++) {
      usleep(us / 4);
      assert_int_equal(queue_serve(q), STATUS_OK);
    }
  }
  assert_int_equal(queue_next(q, &group, &item), STATUS_OK);
  assert_int_equal(group, -1);
  assert_int_equal(queue_finish(q), STATUS_OK);
  assert_int_equal(comm_combine_counts(c, (int64_t *)t, sizeof *t / sizeof(int64_t)), STATUS_OK);
}

static void assert_each_once(const tally *t, int n_groups, const int64_t *n_items,
                             const unsigned char *const *done) {
  for (int g = 0; g < MOST_GROUPS; g++)
    for (int64_t i = 0; i < MOST_ITEMS; i++) {
      bool wanted = g < n_groups && i < n_items[g] && !(done && done[g] && done[g][i]);
      assert_int_equal(t->taken[g * MOST_ITEMS + i], wanted);
    }
}

static void test_each_item_once(void **state) {
  (void)state;
  static const int64_t n_items[] = {17, 40, 3};
  static const double costs[] = {1, 2.5, 40};
  for (int turn = 0; turn < 10; turn++) {
    tally t = {0};
    queue *q;
    assert_int_equal(queue_new(&q, world, 3, n_items, costs, NULL, NULL), STATUS_OK);
    work(q, world, 0, &t);
    assert_each_once(&t, 3, n_items, NULL);
    queue_free(&q);
    assert_null(q);
  }
}

/* Rank r is r + 1 times slower than rank 0, and the first group alone lasts longer than all others. */
static void test_unequal_speeds(void **state) {
  (void)state;
  static const int64_t n_items[] = {30, 10};
  static const double costs[] = {1, 1};
  int64_t mine = 0, *all = calloc((size_t)comm_size(world), sizeof *all), most = 0;
  tally t = {0};
  queue *q;
  assert_int_equal(queue_new(&q, world, 2, n_items, costs, NULL, NULL), STATUS_OK);
  int group;
  int64_t item;
  while (!queue_next(q, &group, &item) && group >= 0) {
    t.taken[group * MOST_ITEMS + item]++;
    mine++;
    for (int part = 0; part < 10; part++) {
      usleep((unsigned)(200 * (comm_rank(world) == comm_size(world) - 1 ? 8 : 1)));
      assert_int_equal(queue_serve(q), STATUS_OK);
    }
  }
  assert_int_equal(queue_finish(q), STATUS_OK);
  assert_int_equal(comm_combine_counts(world, (int64_t *)&t, sizeof t / sizeof(int64_t)), STATUS_OK);
  assert_each_once(&t, 2, n_items, NULL);
  assert_int_equal(comm_gather_all(world, &mine, all, sizeof mine), STATUS_OK);
  for (int i = 0; i < comm_size(world); i++)
    if (all[i] > most) most = all[i];
  if (comm_size(world) > 1) assert_true(all[comm_size(world) - 1] < most); /* the slow rank has done less */
  free(all);
  queue_free(&q);
}

static void test_done_items_are_skipped(void **state) {
  (void)state;
  static const int64_t n_items[] = {5, 6, 4};
  static const double costs[] = {1, 1, 1};
  static const unsigned char first[] = {1, 0, 1, 0, 1}, last[] = {1, 1, 1, 1};
  const unsigned char *const done[] = {first, NULL, last};
  tally t = {0};
  queue *q;
  assert_int_equal(queue_new(&q, world, 3, n_items, costs, done, NULL), STATUS_OK);
  work(q, world, 100, &t);
  assert_each_once(&t, 3, n_items, done);
  queue_free(&q);
}

/* The last two ranks alone take the items of group 1, however slow, and no others. */
static void test_bound_ranks(void **state) {
  (void)state;
  static const int64_t n_items[] = {20, 12, 8};
  static const double costs[] = {1, 50, 1};
  const int size = comm_size(world), rank = comm_rank(world);
  int *bound = calloc((size_t)size, sizeof *bound), group;
  int64_t item;
  tally t = {0};
  queue *q;
  for (int r = 0; r < size; r++) bound[r] = size > 1 && r < size - 2 + (size == 2) ? -1 : 1;
  const bool mine = bound[rank] == 1;
  assert_int_equal(queue_new(&q, world, 3, n_items, costs, NULL, bound), STATUS_OK);
  while (!queue_next(q, &group, &item) && group >= 0) {
    assert_int_equal(group == 1, mine);
    t.taken[group * MOST_ITEMS + item]++;
    if (mine) usleep(300);
  }
  assert_int_equal(queue_finish(q), STATUS_OK);
  assert_int_equal(comm_combine_counts(world, (int64_t *)&t, sizeof t / sizeof(int64_t)), STATUS_OK);
  static const int64_t alone[] = {0, 12, 0};
  assert_each_once(&t, 3, size > 1 ? n_items : alone, NULL);
  free(bound);
  queue_free(&q);
}

static void test_nothing_to_do(void **state) {
  (void)state;
  static const int64_t n_items[] = {0, 0};
  static const double costs[] = {1, 1};
  tally t = {0};
  queue *q;
  assert_int_equal(queue_new(&q, world, 2, n_items, costs, NULL, NULL), STATUS_OK);
  work(q, world, 0, &t);
  assert_each_once(&t, 2, n_items, NULL);
  queue_free(&q);
  assert_int_equal(queue_new(&q, world, 0, NULL, NULL, NULL, NULL), STATUS_OK);
  work(q, world, 0, &t);
  queue_free(&q);
}

/* A rank holds one group as long as that has items: a change is expensive. */
static void test_more_groups_than_ranks(void **state) {
  (void)state;
  int64_t n_items[MOST_GROUPS];
  double costs[MOST_GROUPS];
  for (int g = 0; g < MOST_GROUPS; g++) {
    n_items[g] = 4;
    costs[g] = g + 1;
  }
  tally t = {0};
  queue *q;
  assert_int_equal(queue_new(&q, world, MOST_GROUPS, n_items, costs, NULL, NULL), STATUS_OK);
  work(q, world, 300, &t);
  assert_each_once(&t, MOST_GROUPS, n_items, NULL);
  /* Alone: each group but the first is a change. Together: at worst every rank also helps in the last groups
   * of others. */
  int others = comm_size(world) - 1;
  assert_in_range(t.n_switches, comm_size(world) == 1 ? MOST_GROUPS - 1 : 0, MOST_GROUPS - 1 + 4 * others);
  queue_free(&q);
}

/* Each rank's first group shows how ranks were divided: by cost, and none left out. */
static void test_ranks_are_divided_by_cost(void **state) {
  (void)state;
  int size = comm_size(world), group, mine = -1, *first = calloc((size_t)size, sizeof *first), n[2] = {0, 0};
  int64_t item, n_items[] = {40, 40};
  double costs[] = {3, 1};
  queue *q;
  assert_int_equal(queue_new(&q, world, 2, n_items, costs, NULL, NULL), STATUS_OK);
  while (!queue_next(q, &group, &item) && group >= 0) {
    if (mine < 0) mine = group;
    usleep(1000);
  }
  assert_int_equal(queue_finish(q), STATUS_OK);
  assert_int_equal(comm_gather_all(world, &mine, first, sizeof mine), STATUS_OK);
  for (int i = 0; i < size; i++)
    if (first[i] >= 0) n[first[i]]++;
  if (size <= 2) assert_int_equal(n[0], 1);
  if (size == 2) assert_int_equal(n[1], 1);
  if (size == 4) assert_int_equal(n[0], 3);
  if (size == 8) assert_int_equal(n[0], 6);
  free(first);
  queue_free(&q);
}

static void test_stop(void **state) {
  (void)state;
  static const int64_t n_items[] = {40, 40};
  static const double costs[] = {1, 1};
  int last = comm_size(world) - 1, group;
  int64_t item, taken = 0;
  queue *q;
  assert_int_equal(queue_new(&q, world, 2, n_items, costs, NULL, NULL), STATUS_OK);
  while (!queue_next(q, &group, &item) && group >= 0) {
    taken++;
    if (comm_rank(world) == last) queue_stop(q);
    for (int part = 0; part < 5; part++) {
      usleep(400);
      assert_int_equal(queue_serve(q), STATUS_OK);
    }
  }
  if (comm_rank(world) == last) assert_int_equal(taken, 1);
  assert_int_equal(queue_finish(q), STATUS_OK);
  assert_int_equal(comm_combine_counts(world, &taken, 1), STATUS_OK);
  queue_free(&q);
}

/* What rank 0 runs into after all others are through: their messages must not reach anyone else's. */
static void test_two_queues_do_not_mix(void **state) {
  (void)state;
  static const int64_t n_items[] = {20};
  static const double costs[] = {1};
  queue *a, *b;
  tally ta = {0}, tb = {0};
  assert_int_equal(queue_new(&a, world, 1, n_items, costs, NULL, NULL), STATUS_OK);
  assert_int_equal(queue_new(&b, world, 1, n_items, costs, NULL, NULL), STATUS_OK);
  work(b, world, 100, &tb);
  work(a, world, 100, &ta);
  assert_each_once(&ta, 1, n_items, NULL);
  assert_each_once(&tb, 1, n_items, NULL);
  queue_free(&a);
  queue_free(&b);
}

static void test_alone(void **state) {
  (void)state;
  static const int64_t n_items[] = {3, 2};
  static const double costs[] = {1, 10};
  comm *c;
  queue *q;
  tally t = {0};
  assert_int_equal(comm_alone(&c), STATUS_OK);
  assert_int_equal(queue_new(&q, c, 2, n_items, costs, NULL, NULL), STATUS_OK);
  work(q, c, 0, &t);
  assert_each_once(&t, 2, n_items, NULL);
  assert_int_equal(t.n_switches, 1);
  queue_free(&q);
  comm_end(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_each_item_once),
    cmocka_unit_test(test_unequal_speeds),
    cmocka_unit_test(test_done_items_are_skipped),
    cmocka_unit_test(test_bound_ranks),
    cmocka_unit_test(test_nothing_to_do),
    cmocka_unit_test(test_more_groups_than_ranks),
    cmocka_unit_test(test_ranks_are_divided_by_cost),
    cmocka_unit_test(test_stop),
    cmocka_unit_test(test_two_queues_do_not_mix),
    cmocka_unit_test(test_alone),
};

RUN_WORLD(tests)
