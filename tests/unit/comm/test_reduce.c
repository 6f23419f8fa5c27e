/* The tree all-reduce: ranges of shards, and the bits of the sums on every layout, against a plain recursive
 * sum. */
/* ranks: 1 2 3 4 8 */
#include "world.h"

#include "comm/reduce.h"

#include <math.h>

/* ---- ranges ---- */

static int load(int n_shards, int size, int rank) {
  int from, to;
  reduce_range(n_shards, size, rank, &from, &to);
  return to - from;
}

static void test_ranges(void **state) {
  (void)state;
  for (int n = 1; n <= 128; n++) {
    for (int size = 1; size <= 130; size++) {
      int end = 0, from, to, most = 0;
      for (int rank = 0; rank < size; rank++) {
        reduce_range(n, size, rank, &from, &to);
        assert_int_equal(from, end);
        assert_true(rank < n ? to > from : to == from);
        if (to - from > most) most = to - from;
        end = to;
      }
      assert_int_equal(end, n);
      assert_int_equal(most, (n + size - 1) / size);
    }
  }
}

/* The number of largest whole subtrees in a range: the partial sums that a rank hands on. */
static int n_subtrees(int n_shards, int from, int to) {
  int n = 0;
  while (from < to) {
    int span = 1;
    while (from % (2 * span) == 0 && (from + 2 * span <= to || to == n_shards) && span < n_shards) span *= 2;
    from += span;
    n++;
  }
  return n;
}

static void test_cuts_follow_the_tree(void **state) {
  (void)state;
  static const struct {
    int n_shards, size, partial_sums;
  } cases[] = {{48, 3, 1}, {96, 6, 1},  {8, 2, 1}, {8, 4, 1},
               {8, 8, 1},  {64, 16, 1}, {8, 3, 2}, {100, 100, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (int rank = 0; rank < cases[i].size; rank++) {
      int from, to;
      reduce_range(cases[i].n_shards, cases[i].size, rank, &from, &to);
      assert_in_range(n_subtrees(cases[i].n_shards, from, to), 1, cases[i].partial_sums);
    }
  }
  assert_int_equal(load(8, 3, 0), 2);
  assert_int_equal(load(8, 3, 1), 3);
  assert_int_equal(load(8, 3, 2), 3);
}

/* ---- sums ---- */

enum { N_STATS = 3 };

/* Numbers of many magnitudes, so that the order of additions shows in the bits. */
static float leaf_value(int shard, size_t i, int step) {
  uint32_t x = (uint32_t)shard * 2654435761u ^ (uint32_t)i * 2246822519u ^ (uint32_t)(step + 1) * 3266489917u;
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  return ldexpf((float)(int32_t)x, -31 + (int)(x % 12));
}

static double stat_value(int shard, int k, int step) {
  return (double)leaf_value(shard, (size_t)k + 1000003, step) / 3;
}

/* What leaves and sums are rounded to: 8 bits of which the first is one. */
static reduce_dtype dtype = REDUCE_FLOAT32;

static float kept(float x) {
  int exponent;
  if (dtype == REDUCE_FLOAT32) return x;
  double part = frexp(x, &exponent);
  return (float)ldexp(nearbyint(ldexp(part, 8)), exponent - 8);
}

static float tree_sum(int n_shards, int from, int span, size_t i, int step) {
  if (span == 1) return kept(leaf_value(from, i, step));
  float left = tree_sum(n_shards, from, span / 2, i, step);
  if (from + span / 2 >= n_shards) return left;
  return kept(left + tree_sum(n_shards, from + span / 2, span / 2, i, step));
}

static double tree_stat(int n_shards, int from, int span, int k, int step) {
  if (span == 1) return stat_value(from, k, step);
  double left = tree_stat(n_shards, from, span / 2, k, step);
  if (from + span / 2 >= n_shards) return left;
  return left + tree_stat(n_shards, from + span / 2, span / 2, k, step);
}

static int whole(int n_shards) {
  int span = 1;
  while (span < n_shards) span *= 2;
  return span;
}

/* Matrices that no leaf holds: whole lines a row, a part of a line, many pieces. */
static const reduce_matrix matrices[] = {
    {16, 13, 16}, {240, 8, 38}, {560, 16, 37}, {1152, 4, 500}, {3168, 40, 1600}};
enum { LATE_FLOATS = 3168 + 40 * 1600 + 5 };

static void make_rows(void *data, int shard, int i, int64_t from, int64_t to, bool add, float *y) {
  const size_t begin = matrices[i].begin + (size_t)(from * matrices[i].columns);
  for (size_t k = 0; k < (size_t)((to - from) * matrices[i].columns); k++)
    y[k] = (add ? y[k] : 0) + leaf_value(shard, begin + k, *(const int *)data);
}

static int late_step;
static const reduce_late late = {matrices, sizeof matrices / sizeof *matrices, make_rows, &late_step};
static bool is_late;

/* What a leaf does not hold is NaN there. */
static void spoil(float *leaf) {
  for (int i = 0; is_late && i < late.n; i++)
    for (int64_t k = 0; k < matrices[i].rows * matrices[i].columns; k++)
      leaf[(int64_t)matrices[i].begin + k] = NAN;
}

/* In odd steps the last wave is reported bit by bit, as a backward pass does. */
static void fill_waves(reducer *r, size_t n_floats, int step, int *n_filled) {
  late_step = step;
  for (int w = 0; w < reducer_waves(r); w++) {
    int from, to;
    reducer_wave(r, w, &from, &to);
    for (int s = from; s < to; s++, ++*n_filled) {
      float *leaf = reducer_leaf(r, s);
      assert_int_equal((uintptr_t)leaf % 64, 0);
      for (size_t i = 0; i < n_floats; i++) leaf[i] = leaf_value(s, i, step);
      spoil(leaf);
      for (int k = 0; k < N_STATS; k++) reducer_stats(r, s)[k] = stat_value(s, k, step);
    }
    for (int i = 9; !is_late && w == reducer_waves(r) - 1 && step % 2 && i >= 0; i--)
      reducer_ready(r, n_floats * (size_t)i / 10);
    reducer_fold(r, w);
  }
}

/* Parts that are wrong. Sets the parameters to the sums' negative. */
static size_t check_parts(reducer *r, int n_shards, int step) {
  size_t begin, end, wrong = 0, owned = 0;
  float *parameters = reducer_parameters(r);
  for (int p = 0; p < reducer_n_parts(r); p++) {
    const float *sum = reducer_part(r, p, &begin, &end);
    owned += end - begin;
    for (size_t i = begin; i < end; i++) {
      float expected = tree_sum(n_shards, 0, whole(n_shards), i, step);
      wrong += memcmp(&sum[i - begin], &expected, sizeof expected) != 0;
      parameters[i] = -sum[i - begin];
    }
  }
  assert_int_equal(owned, reducer_owned(r));
  return wrong;
}

static void one_step(reducer *r, comm *c, int n_shards, size_t n_floats, int step) {
  int mine = 0, *filled = calloc((size_t)comm_size(c), sizeof *filled), all = 0, span = whole(n_shards);
  size_t wrong = 0;
  double totals[N_STATS];
  fill_waves(r, n_floats, step, &mine);
  assert_int_equal(comm_gather_all(c, &mine, filled, sizeof mine), STATUS_OK);
  for (int i = 0; i < comm_size(c); i++) all += filled[i];
  assert_int_equal(all, n_shards);
  free(filled);
  assert_int_equal(reducer_sum(r, STATUS_OK, totals), STATUS_OK);
  assert_int_equal(check_parts(r, n_shards, step), 0);
  const float *parameters = reducer_parameters(r);
  for (int k = 0; k < N_STATS; k++) assert_true(totals[k] == tree_stat(n_shards, 0, span, k, step));
  assert_int_equal(reducer_share(r), STATUS_OK);
  for (size_t i = 0; i < n_floats; i += 1 + n_floats / 10000)
    wrong += parameters[i] != -tree_sum(n_shards, 0, span, i, step);
  assert_int_equal(wrong, 0);
}

static void steps(comm *c, int n_shards, size_t n_floats, int threads) {
  reducer *r;
  assert_int_equal(reducer_new(&r, c, n_shards, n_floats, N_STATS, threads, dtype), STATUS_OK);
  if (is_late) assert_int_equal(reducer_make_late(r, &late), STATUS_OK);
  for (int step = 0; step < 2; step++) one_step(r, c, n_shards, n_floats, step);
  assert_true(reducer_seconds(r) > 0);
  reducer_free(&r);
  assert_null(r);
}

static void on_every_layout(void (*run)(comm *c)) {
  for (int i = 0; i < N_LAYOUTS; i++) {
    comm *c = world_in(&layouts[i]);
    run(c);
    comm_end(&c);
  }
}

static void few_shards(comm *c) {
  static const struct {
    int n_shards;
    size_t n_floats;
  } cases[] = {{1, 1},    {2, 17},  {3, 1000}, {4, 256},   {5, 2051}, {7, 700},
               {8, 2049}, {9, 513}, {13, 900}, {16, 2000}, {17, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) steps(c, cases[i].n_shards, cases[i].n_floats, 1);
}

static void test_few_shards(void **state) {
  (void)state;
  on_every_layout(few_shards);
}

static void many_shards(comm *c) {
  steps(c, 48, 3000, 1);
  steps(c, 64, 1025, 1);
  steps(c, 100, 333, 1);
}

static void test_waves(void **state) {
  (void)state;
  on_every_layout(many_shards);
}

/* Some megabytes, which go from node to node in several buckets. */
static void test_buckets(void **state) {
  (void)state;
  for (int i = 1; i < 3; i++) {
    comm *c = world_in(&layouts[i]);
    steps(c, i == 1 ? 5 : 12, 530001, i);
    comm_end(&c);
  }
}

/* ---- what is under way at one time, seen where MPI is called ---- */

static bool none_arrives;
static int64_t n_sent; /* floats */

int MPI_Testall(int n, MPI_Request *requests, int *arrived, MPI_Status *statuses) {
  *arrived = 0;
  return none_arrives ? MPI_SUCCESS : PMPI_Testall(n, requests, arrived, statuses);
}

int MPI_Isend(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm c, MPI_Request *out) {
  if (type == MPI_FLOAT) n_sent += n;
  return PMPI_Isend(data, n, type, to, tag, c, out);
}

/* Nothing arrives while the gradients are reported: then of eight buckets two are sent. */
static void test_two_buckets_a_level(void **state) {
  (void)state;
  enum { FLOATS = 1 << 21 };
  comm *c = world_in(&layouts[1]);
  double stats[N_STATS];
  reducer *r;
  assert_int_equal(reducer_new(&r, c, comm_size(world), FLOATS, N_STATS, 1, REDUCE_FLOAT32), STATUS_OK);
  n_sent = 0;
  none_arrives = true;
  for (int w = 0; w < reducer_waves(r); w++) reducer_fold(r, w);
  reducer_ready(r, 0);
  none_arrives = false;
  if (comm_size(world) > 1) assert_in_range(n_sent, 1, FLOATS / 4);
  assert_int_equal(reducer_sum(r, STATUS_OK, stats), STATUS_OK);
  reducer_free(&r);
  comm_end(&c);
}

static void threaded(comm *c) {
  steps(c, 8, 5003, 2);
  steps(c, 40, 5003, 3);
  steps(c, 40, 1200, 12);
}

static void test_threads(void **state) {
  (void)state;
  on_every_layout(threaded);
}

static void with_late(comm *c) {
  steps(c, 1, LATE_FLOATS, 1);
  steps(c, 5, LATE_FLOATS, 1);
  steps(c, 8, LATE_FLOATS, 3);
  steps(c, 21, LATE_FLOATS, 2);
}

static void test_late(void **state) {
  (void)state;
  is_late = true;
  on_every_layout(with_late);
  dtype = REDUCE_BFLOAT16;
  on_every_layout(with_late);
  dtype = REDUCE_FLOAT32;
  is_late = false;
}

static void test_bfloat16(void **state) {
  (void)state;
  dtype = REDUCE_BFLOAT16;
  on_every_layout(few_shards);
  on_every_layout(threaded);
  test_buckets(state);
  dtype = REDUCE_FLOAT32;
}

/* The reference would be of no use if any order of additions gave its bits. */
static void test_order_shows(void **state) {
  (void)state;
  int different = 0;
  for (size_t i = 0; i < 1000; i++) {
    float serial = 0;
    for (int s = 0; s < 8; s++) serial += leaf_value(s, i, 0);
    different += serial != tree_sum(8, 0, 8, i, 0);
  }
  assert_true(different > 100);
}

/* A window that all nodes have is said to be there, and one that was refused is not. */
static void test_is_shared(void **state) {
  (void)state;
  for (int i = 0; i < N_LAYOUTS; i++) {
    comm *c = world_in(&layouts[i]);
    reducer *r;
    assert_int_equal(reducer_new(&r, c, 4, 100, 0, 1, dtype), STATUS_OK);
    assert_int_equal(reducer_is_shared(r),
                     comm_nodes(c) == comm_size(c) || layouts[i].shared_memory[0] == '1');
    reducer_free(&r);
    comm_end(&c);
  }
}

static void status_rides_along(comm *c) {
  reducer *r;
  double totals[N_STATS];
  char text[64];
  int last = comm_size(c) - 1, n = 0;
  assert_int_equal(reducer_new(&r, c, 9, 100, N_STATS, 1, dtype), STATUS_OK);
  one_step(r, c, 9, 100, 0);
  for (int turn = 0; turn < 20; turn++) {
    fill_waves(r, 100, 1, &n);
    status mine =
        comm_rank(c) == last ? status_set(STATUS_BAD_INPUT, "rank %d, turn %d", last, turn) : STATUS_OK;
    snprintf(text, sizeof text, "rank %d, turn %d", last, turn);
    assert_int_equal(reducer_sum(r, mine, totals), STATUS_BAD_INPUT);
    assert_string_equal(status_message(), text);
  }
  assert_int_equal(reducer_sum(r, status_set(STATUS_FAILED, "rank %d", comm_rank(c)), totals), STATUS_FAILED);
  assert_string_equal(status_message(), "rank 0");
  one_step(r, c, 9, 100, 2);
  reducer_free(&r);
}

static void test_status_rides_along(void **state) {
  (void)state;
  on_every_layout(status_rides_along);
}

static void test_bad_input(void **state) {
  (void)state;
  reducer *r;
  assert_int_equal(reducer_new(&r, world, 0, 100, 1, 1, dtype), STATUS_BAD_INPUT);
  assert_null(r);
}

static void test_alone(void **state) {
  (void)state;
  comm *c;
  assert_int_equal(comm_alone(&c), STATUS_OK);
  steps(c, 5, 777, 1);
  steps(c, 21, 777, 2);
  comm_end(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ranges),
    cmocka_unit_test(test_cuts_follow_the_tree),
    cmocka_unit_test(test_order_shows),
    cmocka_unit_test(test_few_shards),
    cmocka_unit_test(test_waves),
    cmocka_unit_test(test_buckets),
    cmocka_unit_test(test_two_buckets_a_level),
    cmocka_unit_test(test_threads),
    cmocka_unit_test(test_bfloat16),
    cmocka_unit_test(test_late),
    cmocka_unit_test(test_is_shared),
    cmocka_unit_test(test_status_rides_along),
    cmocka_unit_test(test_bad_input),
    cmocka_unit_test(test_alone),
};

RUN_WORLD(tests)
