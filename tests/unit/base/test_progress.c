/* Progress in a batch log (stderr is no terminal here): few, plain, whole lines. */
#include "base/progress.h"
#include "testing.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char text[4096];

/* What a function writes to stderr, into text. */
static void capture(void (*work)(void)) {
  FILE *f = tmpfile();
  int kept = dup(2);
  dup2(fileno(f), 2);
  work();
  dup2(kept, 2);
  close(kept);
  rewind(f);
  size_t n = fread(text, 1, sizeof text - 1, f);
  text[n] = '\0';
  fclose(f);
}

static int count(const char *needle) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, needle)); at++) n++;
  return n;
}

static void many_updates(void) {
  progress p;
  progress_start(&p, "train", "samples", 1e6, true);
  for (int i = 0; i <= 1000; i++) progress_update(&p, i * 1000.0);
  progress_note(&p, "epoch %d/3", 3);
  progress_end(&p);
}

static void short_work_gives_one_line(void **state) {
  (void)state;
  capture(many_updates);
  assert_int_equal(count("\n"), 1);
  assert_int_equal(count("mpistill: train 1000 k samples in 0:00, "), 1);
  assert_int_equal(count("epoch 3/3"), 1);
  assert_int_equal(count("\r"), 0);
  assert_int_equal(count("\033"), 0);
}

static void slow_work(void) {
  progress p;
  progress_start(&p, "teach", "blocks", 100, true);
  p.started_s -= 10;
  p.shown_s -= 5.1; /* as if the last line were that old */
  progress_update(&p, 50);
  progress_update(&p, 51);
}

static void a_line_after_five_seconds(void **state) {
  (void)state;
  capture(slow_work);
  assert_int_equal(count("\n"), 1);
  assert_int_equal(count("mpistill: teach 50/100 blocks (50 %), 5.0/s, 0:10 left\n"), 1);
}

static void others(void) {
  progress p;
  progress_start(&p, "teach", "blocks", 100, false);
  progress_update(&p, 50);
  progress_end(&p);
  say(false, "nothing");
  say_warning(false, "nothing");
}

static void other_ranks_are_silent(void **state) {
  (void)state;
  capture(others);
  assert_string_equal(text, "");
}

static void speak(void) {
  say(true, "%d teachers", 3);
  say_warning(true, "the disk is %s", "nearly full");
}

static void lines_have_a_prefix(void **state) {
  (void)state;
  capture(speak);
  assert_string_equal(text, "mpistill: 3 teachers\nmpistill: warning: the disk is nearly full\n");
}

/* Ranks share their launcher's stderr: a line in several writes could have another rank's in between. A
 * socket of packets keeps what each write had. */
static void a_line_is_one_write(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  const int kept = dup(2);
  dup2(ends[1], 2);
  speak();
  dup2(kept, 2);
  close(kept);
  close(ends[1]);
  static const char *const lines[] = {"mpistill: 3 teachers\n",
                                      "mpistill: warning: the disk is nearly full\n", ""};
  for (int i = 0; i < 3; i++) {
    const ssize_t n = read(ends[0], text, sizeof text - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, lines[i]);
  }
  close(ends[0]);
}

static void speak_of_names(void) {
  say(true, "%s",
      "a\x1b[2J\rb\x7f: gr\xc3\xb6\xc3\x9f"
      "e \xe2\x82\xac \xf0\x9f\x8e\x93\n\tnext");
  say(true, "%s",
      "\xc3( \xff \xc0\x80 \xc2\x9b"
      "31m \xe2\x82");
}

/* A name from a file cannot steer the terminal. */
static void names_are_shown_harmless(void **state) {
  (void)state;
  capture(speak_of_names);
  assert_string_equal(text, "mpistill: a?[2J?b?: gr\xc3\xb6\xc3\x9f"
                            "e \xe2\x82\xac \xf0\x9f\x8e\x93\n\tnext\n"
                            "mpistill: ?( ? ?? ??31m ??\n");
}

static void the_clock_goes_on(void **state) {
  (void)state;
  double before = clock_seconds();
  nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  double passed = clock_seconds() - before;
  assert_true(passed >= 0.02 && passed < 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(short_work_gives_one_line), cmocka_unit_test(a_line_after_five_seconds),
      cmocka_unit_test(other_ranks_are_silent),    cmocka_unit_test(lines_have_a_prefix),
      cmocka_unit_test(a_line_is_one_write),       cmocka_unit_test(names_are_shown_harmless),
      cmocka_unit_test(the_clock_goes_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
