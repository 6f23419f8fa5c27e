/* cmocka with what it wants included before it. */
#ifndef MPISTILL_TESTS_CLI_TESTING_H
#define MPISTILL_TESTS_CLI_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline void assert_contains(const char *text, const char *needle) {
  if (!strstr(text, needle)) fail_msg("'%s' is not in:\n%s", needle, text);
}

#endif
