/* Arrays that reference.py prints, found by name. A name may be formatted: reference("loss/%s/%d/value",
 * kind, i). */
#ifndef TESTS_LEARN_REFERENCE_H
#define TESTS_LEARN_REFERENCE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct reference_array {
  char name[64];
  int64_t n;
  double *values;
} reference_array;

enum { REFERENCE_MAX = 2048 };
static reference_array references[REFERENCE_MAX];
static int n_references;

static inline void reference_line(char *line) {
  assert_true(n_references < REFERENCE_MAX);
  reference_array *a = &references[n_references++];
  char *at = strchr(line, ' ');
  assert_non_null(at);
  snprintf(a->name, sizeof a->name, "%.*s", (int)(at - line), line);
  int64_t spaces = 0;
  for (char *c = at; *c; c++) spaces += *c == ' ';
  a->values = calloc((size_t)spaces, sizeof *a->values);
  assert_non_null(a->values);
  for (char *end; a->n < spaces; at = end, a->n++) {
    a->values[a->n] = strtod(at, &end);
    assert_true(end != at);
  }
}

/* A group setup: runs reference.py, which stands beside the test, for one section. */
static inline int reference_run(const char *section) {
  char command[512];
  const char *folder_end = strrchr(__FILE__, '/');
  snprintf(command, sizeof command, "/usr/bin/python3 %.*s/reference.py %s", (int)(folder_end - __FILE__),
           __FILE__, section);
  FILE *pipe = popen(command, "r");
  if (!pipe) return -1;
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, pipe) > 0) reference_line(line);
  free(line);
  return pclose(pipe) || !n_references ? -1 : 0;
}

static inline int reference_free(void **state) {
  (void)state;
  for (int i = 0; i < n_references; i++) free(references[i].values);
  return 0;
}

/* NULL if there is no such array. */
static inline const reference_array *reference_find(const char *format, ...) {
  char name[64];
  va_list list;
  va_start(list, format);
  vsnprintf(name, sizeof name, format, list);
  va_end(list);
  for (int i = 0; i < n_references; i++)
    if (!strcmp(references[i].name, name)) return &references[i];
  return NULL;
}

static inline const double *reference_values(const char *group, const char *kind, int i, const char *what) {
  const reference_array *a = reference_find("%s/%s/%d/%s", group, kind, i, what);
  if (!a) fail_msg("no reference %s/%s/%d/%s", group, kind, i, what);
  return a->values;
}

static inline float *reference_floats(const char *group, const char *kind, int i, const char *what) {
  const reference_array *a = reference_find("%s/%s/%d/%s", group, kind, i, what);
  if (!a) fail_msg("no reference %s/%s/%d/%s", group, kind, i, what);
  float *out = calloc((size_t)a->n, sizeof *out);
  assert_non_null(out);
  for (int64_t j = 0; j < a->n; j++) out[j] = (float)a->values[j];
  return out;
}

/* |a - b| over the values together, relative to |b|: a single element near zero decides nothing. */
static inline double relative_difference(const float *a, const double *b, int64_t n) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < n; i++) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return sqrt(difference / norm);
}

static inline void assert_close(double value, double expected, double relative) {
  if (!(fabs(value - expected) <= relative * fabs(expected)))
    fail_msg("%.17g, expected %.17g within %g", value, expected, relative);
}

#endif
