#include "base/problems.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void problems_add(problems *p, const char *format, ...) {
  char line[1024], *joined;
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  p->n++;
  if (p->memory) return;
  p->memory = p->lines ? mem_format(&joined, "%s\n%s", p->lines, line) : mem_string(&joined, line);
  if (p->memory) return;
  mem_free(p->lines);
  p->lines = joined;
}

status problems_end(problems *p, const char *headline) {
  status st = p->memory;
  if (!st && p->n)
    st = headline ? status_set(STATUS_BAD_INPUT, "%s\n%s", headline, p->lines)
                  : status_set(STATUS_BAD_INPUT, "%s", p->lines);
  mem_free(p->lines);
  *p = (problems){0};
  return st;
}
