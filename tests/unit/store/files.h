/* For the tests of src/store: one comm for the program, a folder of its own, and h5py's side (reference.py).
 */
#ifndef TESTS_STORE_FILES_H
#define TESTS_STORE_FILES_H

#include "base/file.h"
#include "base/mem.h"
#include "comm/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static comm *world;
static char folder[64];

/* Every status that should be OK: its message is the first thing to see. */
#define OK(call)                                                                                             \
  do {                                                                                                       \
    status status_of_call = (call);                                                                          \
    if (status_of_call) fail_msg("%s: %d: %s", #call, status_of_call, status_message());                     \
  } while (0)

/* The call fails as expected, with a message that holds every word of the list. */
static inline void assert_message(status found, status expected, const char *fragment) {
  if (found != expected)
    fail_msg("status %d (%s), expected %d", found, found ? status_message() : "", expected);
  if (!strstr(status_message(), fragment)) fail_msg("message: %s\nhas no: %s", status_message(), fragment);
}

static inline const char *in_folder(const char *name) {
  static char paths[8][256];
  static int next;
  char *path = paths[next = (next + 1) % 8];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

/* Collective. Rank 0 runs a command of reference.py; what makes files is run once. */
static inline void reference(const char *command) {
  static char made[256];
  int failed = 0;
  if (strstr(made, command)) return;
  if (!strncmp(command, "make", 4)) strncat(made, command, sizeof made - strlen(made) - 1);
  char line[512];
  const char *end = strrchr(__FILE__, '/');
  snprintf(line, sizeof line, "/usr/bin/python3 %.*s/reference.py %s %s", (int)(end - __FILE__), __FILE__,
           command, folder);
  OK(comm_barrier(world));
  if (!comm_rank(world)) failed = system(line);
  OK(comm_broadcast(world, 0, &failed, sizeof failed));
  if (failed) fail_msg("reference.py %s failed", command);
}

/* Collective. A file's bytes; free with mem_free. Not inlined: gcc 12 then takes them for the local pointer.
 */
static __attribute__((noinline, unused)) void *bytes_of(const char *name, size_t *n) {
  unsigned char *bytes;
  size_t length;
  OK(comm_read_file(world, in_folder(name), &bytes, &length));
  if (n) *n = length;
  return bytes;
}

static inline bool same_bytes(const char *a, const char *b) {
  size_t n, m;
  void *x = bytes_of(a, &n), *y = bytes_of(b, &m);
  bool same = n == m && !memcmp(x, y, n);
  mem_free(x);
  mem_free(y);
  return same;
}

/* Rank 0 puts bytes over those of a file at `at` (from the end when negative), or makes it. */
static inline void overwrite(const char *name, long at, const void *bytes, size_t n) {
  OK(comm_barrier(world));
  if (!comm_rank(world)) {
    FILE *f = fopen(in_folder(name), at ? "r+b" : "wb");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
  }
  OK(comm_barrier(world));
}

static inline int folder_make(void) {
  snprintf(folder, sizeof folder, "%s/mpistill-store-XXXXXX",
           getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 30 ? getenv("TMPDIR") : "/tmp");
  if (!comm_rank(world) && !mkdtemp(folder)) return -1;
  return comm_broadcast(world, 0, folder, sizeof folder) ? -1 : 0;
}

static inline void folder_remove(void) {
  char line[128];
  snprintf(line, sizeof line, "rm -rf %s", folder);
  comm_barrier(world);
  if (!comm_rank(world) && system(line)) perror(folder);
}

#define RUN_STORE(tests)                                                                                     \
  int main(void) {                                                                                           \
    if (comm_start(&world) || folder_make()) {                                                               \
      fprintf(stderr, "%s\n", status_message());                                                             \
      return 1;                                                                                              \
    }                                                                                                        \
    int failed = cmocka_run_group_tests_name("store", tests, NULL, NULL);                                    \
    folder_remove();                                                                                         \
    comm_end(&world);                                                                                        \
    return failed ? 1 : 0;                                                                                   \
  }

#endif
