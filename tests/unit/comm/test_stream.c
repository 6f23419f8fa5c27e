/* Questions and answers between ranks, and communicators of some of the ranks. */
#include "world.h"

#include "comm/stream.h"

enum { ITEMS = 30, AHEAD = 3, WORDS = 64 };

static int64_t value_of(int64_t item, int client, int word) {
  return item * 1000003 + client * 101 + word;
}

/* Answers with what only the question, this server and the client tell. */
static int serve(stream *s, int clients, int mine) {
  int64_t question[STREAM_WORDS], (*greetings)[STREAM_WORDS] = calloc((size_t)clients, sizeof *greetings);
  bool more;
  int n = 0;
  for (;; n++) {
    assert_int_equal(stream_hear(s, question, &more), STATUS_OK);
    if (!more) break;
    if (!n) assert_int_equal(stream_greetings(s, greetings), STATUS_OK);
    assert_int_equal(question[1], question[0] + 7);
    void *buffer;
    assert_int_equal(stream_buffer(s, &buffer), STATUS_OK);
    int64_t *at = buffer;
    for (int c = 0; c < clients; c++, at += WORDS) {
      if (greetings[c][0] != c) fail_msg("client %d was not greeted", c);
      for (int w = 0; w < WORDS; w++) at[w] = value_of(question[0], c, w) + mine;
      assert_int_equal(stream_send(s, c, at, WORDS * sizeof *at), STATUS_OK);
    }
  }
  free(greetings);
  return n;
}

static void take(stream *s, int64_t item, int servers, int client) {
  int64_t piece[WORDS];
  const int server = (int)(item % servers);
  assert_int_equal(stream_take(s, server, piece, sizeof piece), STATUS_OK);
  for (int w = 0; w < WORDS; w++) assert_int_equal(piece[w], value_of(item, client, w) + server);
}

/* servers of the ranks answer `items` questions, asked some ahead. */
static void ask_all(int servers, int64_t items) {
  const int size = comm_size(world), rank = comm_rank(world), clients = size - servers;
  stream *s;
  assert_int_equal(stream_new(&s, world, servers, (size_t)clients * WORDS * sizeof(int64_t)), STATUS_OK);
  if (rank >= clients) {
    const int mine = rank - clients, wanted = (int)((items - mine + servers - 1) / servers);
    assert_int_equal(serve(s, clients, mine), items > mine ? wanted : 0);
  } else {
    assert_int_equal(stream_greet(s, (int64_t[STREAM_WORDS]){rank}), STATUS_OK);
    for (int64_t i = 0, asked = 0; i < items; i++) {
      for (; asked < items && asked < i + AHEAD; asked++)
        assert_int_equal(stream_ask(s, (int)(asked % servers), (int64_t[STREAM_WORDS]){asked, asked + 7}),
                         STATUS_OK);
      take(s, i, servers, rank);
    }
    assert_int_equal(stream_dismiss(s), STATUS_OK);
    assert_int_equal(stream_dismiss(s), STATUS_OK); /* once is enough */
  }
  stream_free(&s);
  assert_null(s);
}

static void test_answers_are_those_asked_for(void **state) {
  (void)state;
  for (int servers = 1; servers < comm_size(world); servers++) ask_all(servers, ITEMS);
}

static void test_servers_that_nobody_asks_go_home(void **state) {
  (void)state;
  if (comm_size(world) > 1) ask_all(1, 0);
}

static void test_what_no_message_holds_is_refused(void **state) {
  (void)state;
  stream *s;
  assert_int_equal(stream_new(&s, world, 0, (size_t)1 << 33), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "smaller --batch"));
  assert_null(s);
}

/* Odd and even ranks, each in their order, agree among themselves alone. */
static void test_parts_of_the_ranks(void **state) {
  (void)state;
  const int rank = comm_rank(world), odd = rank % 2;
  comm *part;
  assert_int_equal(comm_split(&part, world, odd), STATUS_OK);
  assert_int_equal(comm_rank(part), rank / 2);
  assert_int_equal(comm_size(part), (comm_size(world) + !odd) / 2);
  const status mine = odd ? status_set(STATUS_BAD_INPUT, "odd") : STATUS_OK;
  assert_int_equal(comm_agree(part, mine), odd ? STATUS_BAD_INPUT : STATUS_OK);
  int64_t sum = rank == odd;
  assert_int_equal(comm_combine_counts(part, &sum, 1), STATUS_OK);
  assert_int_equal(sum, 1);
  comm_end(&part);
  assert_null(part);
  assert_int_equal(comm_alone(&part), STATUS_OK);
  comm *same;
  assert_int_equal(comm_split(&same, part, 3), STATUS_OK);
  assert_int_equal(comm_size(same), 1);
  comm_end(&same);
  comm_end(&part);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_answers_are_those_asked_for),
    cmocka_unit_test(test_servers_that_nobody_asks_go_home),
    cmocka_unit_test(test_what_no_message_holds_is_refused),
    cmocka_unit_test(test_parts_of_the_ranks),
};

RUN_WORLD(tests)
