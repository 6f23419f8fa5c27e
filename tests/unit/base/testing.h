/* cmocka with what it wants included before it, and a few helpers for messages and temporary files. */
#ifndef MPISTILL_TESTS_BASE_TESTING_H
#define MPISTILL_TESTS_BASE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The needle stands in the text; otherwise the test shows both. */
static inline void assert_contains(const char *text, const char *needle) {
  if (!strstr(text, needle)) fail_msg("'%s' is not in:\n%s", needle, text);
}

static inline void assert_lacks(const char *text, const char *needle) {
  if (strstr(text, needle)) fail_msg("'%s' is in:\n%s", needle, text);
}

/* A folder of the test's own, removed by leave_folder with all it holds. */
static inline char *enter_folder(void) {
  static char name[64];
  snprintf(name, sizeof name, "%s", "/tmp/mpistill-test-XXXXXX");
  assert_non_null(mkdtemp(name));
  return name;
}

static inline void leave_folder(const char *folder) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  assert_int_equal(system(command), 0);
}

#endif
