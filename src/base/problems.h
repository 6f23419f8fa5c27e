/* All problems of one input at once: collected as lines, turned into one status at the end. */
#ifndef MPISTILL_BASE_PROBLEMS_H
#define MPISTILL_BASE_PROBLEMS_H

#include "base/status.h"

#include <stddef.h>

typedef struct problems { /* zero: none yet */
  size_t n;
  char *lines;
  status memory; /* STATUS_FAILED when a line could not be kept */
} problems;

/* Local. Adds a line. */
void problems_add(problems *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local. Frees p. STATUS_OK if there were none; otherwise STATUS_BAD_INPUT with `headline` and a line each,
 * or, with headline NULL, the lines alone. */
status problems_end(problems *p, const char *headline);

#endif
