/* Memory, its fault injection, and how a status and its message travel. */
#include "base/mem.h"
#include "base/problems.h"
#include "testing.h"

static void memory_is_zeroed_and_aligned(void **state) {
  (void)state;
  unsigned char *p;
  assert_int_equal(mem_new(&p, 1000, 1), STATUS_OK);
  assert_int_equal((uintptr_t)p % 64, 0);
  for (int i = 0; i < 1000; i++) assert_int_equal(p[i], 0);
  mem_free(p);
  assert_int_equal(mem_new(&p, 0, 8), STATUS_OK);
  assert_non_null(p);
  mem_free(p);
}

static void overflow_is_refused(void **state) {
  (void)state;
  void *p = &p;
  assert_int_equal(mem_new(&p, SIZE_MAX / 2, 4), STATUS_FAILED);
  assert_null(p);
  assert_contains(status_message(), "out of memory");
}

static void resize_keeps_contents(void **state) {
  (void)state;
  int *p = NULL;
  assert_int_equal(mem_resize(&p, 0, 3, sizeof *p), STATUS_OK);
  for (int i = 0; i < 3; i++) p[i] = i + 1;
  assert_int_equal(mem_resize(&p, 3, 50, sizeof *p), STATUS_OK);
  assert_true(p[0] == 1 && p[2] == 3 && p[3] == 0 && p[49] == 0);
  mem_fail_at(1);
  assert_int_equal(mem_resize(&p, 50, 100, sizeof *p), STATUS_FAILED);
  mem_fail_at(0);
  assert_true(p[0] == 1 && p[2] == 3);
  mem_free(p);
}

static void the_nth_allocation_fails(void **state) {
  (void)state;
  void *p[4] = {NULL};
  unsigned long before = mem_count();
  mem_fail_at(3);
  for (int i = 0; i < 4; i++) assert_int_equal(mem_new(&p[i], 1, 1), i == 2 ? STATUS_FAILED : STATUS_OK);
  mem_fail_at(0);
  assert_int_equal(mem_count() - before, 4);
  for (int i = 0; i < 4; i++) mem_free(p[i]);
}

static void strings_are_made(void **state) {
  (void)state;
  char *text;
  assert_int_equal(mem_format(&text, "%s-%d", "conv", 3), STATUS_OK);
  assert_string_equal(text, "conv-3");
  mem_free(text);
  assert_int_equal(mem_string_n(&text, "logits", 3), STATUS_OK);
  assert_string_equal(text, "log");
  mem_free(text);
}

static status inner(void) {
  return status_set(STATUS_BAD_INPUT, "inner");
}

static status outer(int *freed) {
  status st = STATUS_OK;
  TRY(inner());
  st = status_set(STATUS_FAILED, "never here");
done:
  ++*freed;
  return st;
}

static void messages_nest(void **state) {
  (void)state;
  int freed = 0;
  assert_int_equal(outer(&freed), STATUS_BAD_INPUT);
  assert_int_equal(freed, 1);
  assert_string_equal(status_message(), "inner");
  assert_int_equal(status_set(STATUS_FAILED, "outer: %s", status_message()), STATUS_FAILED);
  assert_string_equal(status_message(), "outer: inner");
  status_add_line("line %d", 2);
  assert_string_equal(status_message(), "outer: inner\nline 2");
  status_clear();
  assert_string_equal(status_message(), "");
  status_add_line("first");
  assert_string_equal(status_message(), "first");
}

static void long_messages_are_cut(void **state) {
  (void)state;
  static char text[20000];
  memset(text, 'x', sizeof text - 1);
  status_set(STATUS_FAILED, "%s", text);
  size_t n = strlen(status_message());
  assert_int_equal(n, 8191);
  assert_string_equal(status_message() + n - 3, "...");
  for (int i = 0; i < 10000; i++) status_add_line("%d", i);
  assert_true(strlen(status_message()) <= 8191);
}

static void problems_become_one_status(void **state) {
  (void)state;
  problems p = {0};
  assert_int_equal(problems_end(&p, "headline"), STATUS_OK);
  problems_add(&p, "one %d", 1);
  problems_add(&p, "two");
  assert_int_equal(p.n, 2);
  assert_int_equal(problems_end(&p, "headline"), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "headline\none 1\ntwo");
  problems_add(&p, "alone");
  assert_int_equal(problems_end(&p, NULL), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "alone");
  mem_fail_at(1);
  problems_add(&p, "lost");
  mem_fail_at(0);
  problems_add(&p, "kept");
  assert_int_equal(problems_end(&p, NULL), STATUS_FAILED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_is_zeroed_and_aligned),
      cmocka_unit_test(overflow_is_refused),
      cmocka_unit_test(resize_keeps_contents),
      cmocka_unit_test(the_nth_allocation_fails),
      cmocka_unit_test(strings_are_made),
      cmocka_unit_test(messages_nest),
      cmocka_unit_test(long_messages_are_cut),
      cmocka_unit_test(problems_become_one_status),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
