#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 8192 };

static _Thread_local char message[MESSAGE_BYTES];

static void append(size_t used, const char *format, va_list args) {
  int n = vsnprintf(message + used, sizeof message - used, format, args);
  if (n >= 0 && (size_t)n >= sizeof message - used) memcpy(message + sizeof message - 4, "...", 4);
}

status status_set(status code, const char *format, ...) {
  /* The arguments may point into the old message, so it is formatted aside. */
  char fresh[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(fresh, sizeof fresh, format, args);
  va_end(args);
  if (n >= 0 && (size_t)n >= sizeof fresh) memcpy(fresh + sizeof fresh - 4, "...", 4);
  memcpy(message, fresh, sizeof message);
  return code;
}

void status_add_line(const char *format, ...) {
  size_t used = strlen(message);
  if (used + 2 >= sizeof message) return;
  if (used) {
    message[used++] = '\n';
    message[used] = '\0';
  }
  va_list args;
  va_start(args, format);
  append(used, format, args);
  va_end(args);
}

const char *status_message(void) {
  return message;
}

void status_clear(void) {
  message[0] = '\0';
}
