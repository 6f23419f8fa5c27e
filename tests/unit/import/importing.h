/* What the tests of importers share: a fresh working folder, files of given bytes, one call of import_run. */
#ifndef TESTS_IMPORT_IMPORTING_H
#define TESTS_IMPORT_IMPORTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "import/import.h"

static char folder[64], script[4096];

/* A group setup: makes and enters a folder. */
static inline int enter_folder(void **state) {
  (void)state;
  char source[3072];
  if (!realpath(__FILE__, source)) return -1;
  *strrchr(source, '/') = '\0';
  snprintf(script, sizeof script, "%s/reference.py", source);
  strcpy(folder, "/tmp/mpistill-import-XXXXXX");
  return mkdtemp(folder) && !chdir(folder) ? 0 : -1;
}

static inline int leave_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return chdir("/") || system(command) ? -1 : 0;
}

static inline void put_file(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *path, const char *text) {
  put_file(path, text, strlen(text));
}

/* "csv --categorical --label-column=y train=a.csv test=b.csv" into `output`. */
static inline status import_line(const char *line, const char *output) {
  char text[1024], *words[16], *place;
  size_t n = 0;
  snprintf(text, sizeof text, "%s", line);
  mpistill_import_options o = {.output = (char *)output, .out = {.quiet = true}};
  for (char *w = strtok_r(text, " ", &place); w; w = strtok_r(NULL, " ", &place)) {
    if (!o.format)
      o.format = w;
    else if (!strcmp(w, "--categorical"))
      o.categorical = true;
    else if (!strcmp(w, "--standardize"))
      o.standardize = true;
    else if (!strcmp(w, "--force"))
      o.out.force = true;
    else if (!strncmp(w, "--label-column=", 15))
      o.label_column = w + 15;
    else
      words[n++] = w;
  }
  o.sources.n = n;
  o.sources.items = words;
  status_clear();
  return import_run(&o);
}

/* The import is refused with a message that holds each of the texts, and leaves nothing behind. */
static inline void assert_refused_n(const char *line, const char *const *texts) {
  status st = import_line(line, "out.h5");
  if (st != STATUS_BAD_INPUT) fail_msg("'%s': status %d, message '%s'", line, st, status_message());
  for (; *texts; texts++)
    if (!strstr(status_message(), *texts)) fail_msg("'%s': no '%s' in '%s'", line, *texts, status_message());
  assert_false(file_exists("out.h5"));
  assert_false(file_exists("out.h5.part"));
}
#define assert_refused(line, ...) assert_refused_n(line, (const char *const[]){__VA_ARGS__, NULL})

#endif
