/* What the fuzz targets share. A target is one file: a LibFuzzer entry that feeds a reader with any bytes.
 *
 * A reader passes when it ends without a finding of the sanitizers, in bounded time and memory, and either
 * takes the input or refuses it with a message and STATUS_BAD_INPUT: bytes from outside are never a failure
 * of ours. */
#ifndef MPISTILL_TESTS_FUZZ_H
#define MPISTILL_TESTS_FUZZ_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A file in this process's folder below TMPDIR: its path, valid until the next call with that name. */
static inline const char *fuzz_path(const char *name) {
  static char folder[256], paths[4][320];
  static int next;
  if (!*folder) {
    snprintf(folder, sizeof folder, "%s/mpistill-fuzz-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(folder)) abort();
  }
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static inline const char *fuzz_file(const char *name, const uint8_t *data, size_t n) {
  const char *path = fuzz_path(name);
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
  return path;
}

/* Ends the process, which is a finding, where a reader answers in another way than it promises. */
static inline status fuzz_answer(status st) {
  const char *message = status_message();
  bool no_memory = strstr(message, "memory") != NULL; /* refused where a size is absurd */
  if (st && (!*message || (st != STATUS_BAD_INPUT && !no_memory))) {
    fprintf(stderr, "status %d with message '%s'\n", (int)st, message);
    abort();
  }
  return st;
}

#endif
