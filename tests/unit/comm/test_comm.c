/* Agreement on errors, broadcasts, files, sums, the launcher check. */
/* ranks: 1 2 4 */
#include "world.h"

#include "base/mem.h"
#include "comm/internal.h"

#include <math.h>
#include <unistd.h>

static void test_layout(void **state) {
  (void)state;
  assert_in_range(comm_rank(world), 0, comm_size(world) - 1);
  assert_in_range(comm_node_rank(world), 0, comm_node_size(world) - 1);
  int sum = 0, size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  assert_int_equal(comm_size(world), size);
  comm *c = world_in(&layouts[2]);
  assert_int_equal(comm_nodes(c), (size + 1) / 2);
  assert_int_equal(comm_node_rank(c), comm_rank(c) % 2);
  int mine = comm_node_rank(c) == 0;
  int *all = calloc((size_t)size, sizeof *all);
  assert_int_equal(comm_gather_all(c, &mine, all, sizeof mine), STATUS_OK);
  for (int i = 0; i < size; i++) sum += all[i];
  assert_int_equal(sum, comm_nodes(c));
  free(all);
  comm_end(&c);
  assert_null(c);
}

static void test_agree(void **state) {
  (void)state;
  int rank = comm_rank(world), last = comm_size(world) - 1;
  assert_int_equal(comm_agree(world, STATUS_OK), STATUS_OK);
  status mine = rank == last ? status_set(STATUS_BAD_INPUT, "rank %d: no", rank) : STATUS_OK;
  char text[64];
  snprintf(text, sizeof text, "rank %d: no", last);
  assert_int_equal(comm_agree(world, mine), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), text);
  /* The highest code wins, on a tie the lowest rank. */
  mine = rank == last ? status_set(STATUS_BAD_INPUT, "bad %d", rank)
                      : status_set(STATUS_FAILED, "failed %d", rank);
  snprintf(text, sizeof text, "bad %d", last);
  assert_int_equal(comm_agree(world, mine), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), text);
  assert_int_equal(comm_agree(world, status_set(STATUS_FAILED, "failed %d", rank)), STATUS_FAILED);
  assert_string_equal(status_message(), "failed 0");
  assert_int_equal(comm_agree(world, STATUS_OK), STATUS_OK);
}

static void test_agree_long_message(void **state) {
  (void)state;
  char expected[8192];
  memset(expected, 'x', sizeof expected);
  expected[sizeof expected - 1] = '\0';
  int last = comm_size(world) - 1;
  status mine = comm_rank(world) == last ? status_set(STATUS_FAILED, "%s", expected) : STATUS_OK;
  assert_int_equal(comm_agree(world, mine), STATUS_FAILED);
  assert_int_equal(strlen(status_message()), sizeof expected - 1);
  assert_string_equal(status_message(), expected);
}

static void test_broadcast(void **state) {
  (void)state;
  int root = comm_size(world) - 1;
  unsigned char data[1000];
  memset(data, comm_rank(world) == root ? 7 : 0, sizeof data);
  assert_int_equal(comm_broadcast(world, root, data, sizeof data), STATUS_OK);
  for (size_t i = 0; i < sizeof data; i++) assert_int_equal(data[i], 7);
  assert_int_equal(comm_broadcast(world, 0, NULL, 0), STATUS_OK);
  assert_int_equal(comm_barrier(world), STATUS_OK);
}

static void test_read_file(void **state) {
  (void)state;
  char path[] = "/tmp/test_comm_XXXXXX";
  if (comm_rank(world) == 0) {
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "one\0two", 7), 7);
    close(fd);
  }
  unsigned char *bytes;
  size_t n;
  assert_int_equal(comm_read_file(world, path, &bytes, &n), STATUS_OK);
  assert_int_equal(n, 7);
  assert_memory_equal(bytes, "one\0two", 8);
  mem_free(bytes);
  if (comm_rank(world) == 0) unlink(path);
  assert_int_equal(comm_read_file(world, "/nonexistent/file", &bytes, &n), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "/nonexistent/file"));
  assert_null(bytes);
}

static void test_combine(void **state) {
  (void)state;
  enum { N = 1000 };
  int rank = comm_rank(world), size = comm_size(world);
  double values[N] = {0};
  int64_t counts[N] = {0};
  for (int i = rank; i < N; i += size) {
    values[i] = 1.0 / (i + 3);
    counts[i] = ((int64_t)1 << 40) + i;
  }
  if (rank == 0) values[0] = -0.0;
  assert_int_equal(comm_combine(world, values, N), STATUS_OK);
  assert_int_equal(comm_combine_counts(world, counts, N), STATUS_OK);
  assert_false(signbit(values[0]));
  for (int i = 1; i < N; i++) assert_true(values[i] == 1.0 / (i + 3));
  for (int i = 0; i < N; i++) assert_true(counts[i] == ((int64_t)1 << 40) + i);
}

static void test_gather_all(void **state) {
  (void)state;
  char mine[3] = {(char)comm_rank(world), 5, 9}, *all = calloc((size_t)comm_size(world), 3);
  assert_int_equal(comm_gather_all(world, mine, all, 3), STATUS_OK);
  for (int i = 0; i < comm_size(world); i++) {
    assert_int_equal(all[3 * i], i);
    assert_int_equal(all[3 * i + 2], 9);
  }
  free(all);
}

/* Blocks too large for one message: pieces go between the blocks of the others. */
static void test_gather_in_pieces(void **state) {
  (void)state;
  enum { N = 1000 };
  int rank = comm_rank(world), size = comm_size(world);
  unsigned char mine[N], *all = calloc((size_t)size, N);
  for (int i = 0; i < N; i++) mine[i] = (unsigned char)(i * 31 + i / 251 + rank);
  assert_int_equal(comm_gather_pieces(world, mine, all, N, 300), STATUS_OK);
  for (int r = 0; r < size; r++)
    for (int i = 0; i < N; i++) assert_int_equal(all[r * N + i], (unsigned char)(i * 31 + i / 251 + r));
  free(all);
}

static void test_alone(void **state) {
  (void)state;
  comm *c;
  double value = 2, totals[2] = {1, 2};
  assert_int_equal(comm_alone(&c), STATUS_OK);
  assert_int_equal(comm_size(c), 1);
  assert_int_equal(comm_nodes(c), 1);
  assert_true(comm_mpi(c) == MPI_COMM_NULL);
  assert_int_equal(comm_agree(c, status_set(STATUS_FAILED, "mine")), STATUS_FAILED);
  assert_string_equal(status_message(), "mine");
  assert_int_equal(comm_barrier(c), STATUS_OK);
  assert_int_equal(comm_combine(c, totals, 2), STATUS_OK);
  assert_int_equal(comm_gather_all(c, &value, totals, sizeof value), STATUS_OK);
  assert_true(totals[0] == 2);
  comm_end(&c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_layout),
    cmocka_unit_test(test_agree),
    cmocka_unit_test(test_agree_long_message),
    cmocka_unit_test(test_broadcast),
    cmocka_unit_test(test_read_file),
    cmocka_unit_test(test_combine),
    cmocka_unit_test(test_gather_all),
    cmocka_unit_test(test_gather_in_pieces),
    cmocka_unit_test(test_alone),
};

RUN_WORLD(tests)
