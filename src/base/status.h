/* How every fallible function reports: a status to the caller, and one message kept for the thread.
 *
 *     status example(const char *path) {
 *       status st = STATUS_OK;
 *       char *text = NULL;
 *       TRY(file_read(path, &text, NULL));                       // on failure: go to done, keep its message
 *       if (!*text) THROW(STATUS_BAD_INPUT, "%s: is empty", path); // the same, with a message of our own
 *     done:
 *       mem_free(text);
 *       return st;
 *     }
 *
 * A message says what, where in the user's terms, what was expected, what to do; it has no prefix and no
 * final newline. Further lines of one error are separated by '\n'. Only main() prints it and turns it into an
 * exit code. */
#ifndef MPISTILL_BASE_STATUS_H
#define MPISTILL_BASE_STATUS_H

typedef enum status {
  STATUS_OK = 0,
  STATUS_FAILED = 1,    /* not the user's doing: no memory, disk full, a broken library */
  STATUS_BAD_INPUT = 2, /* a file, option or recipe that cannot be used as it is */
  STATUS_STOPPED = 75   /* stopped early on purpose; the same command goes on */
} status;

/* Local. Stores the message of the calling thread (up to 8 KiB, cut with "...") and returns `code`. */
status status_set(status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local. Adds a line to the stored message: used where all problems are listed at once. */
void status_add_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Local. The stored message of the calling thread, "" if there is none; valid until the next status_* call.
 */
const char *status_message(void);

/* Local. Forgets the stored message. */
void status_clear(void);

#define TRY(call)                                                                                            \
  do {                                                                                                       \
    if ((st = (call)) != STATUS_OK) goto done;                                                               \
  } while (0)

#define THROW(...)                                                                                           \
  do {                                                                                                       \
    st = status_set(__VA_ARGS__);                                                                            \
    goto done;                                                                                               \
  } while (0)

#endif
