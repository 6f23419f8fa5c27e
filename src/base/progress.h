/* What a person sees of long work: a bar with rate and time left on a terminal, plain lines every few seconds
 * in a log file. On stderr. */
#ifndef MPISTILL_BASE_PROGRESS_H
#define MPISTILL_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
  const char *what; /* "train", borrowed */
  const char *unit; /* "samples" */
  double total, done;
  double started_s, shown_s;
  bool active, terminal;
  char note[96]; /* shown behind: "epoch 3/30 loss 0.12" */
} progress;

/* active: this rank shows it (rank 0 and not quiet). */
void progress_start(progress *p, const char *what, const char *unit, double total, bool active);
void progress_update(
    progress *p,
    double done); /* cheap: looks at the clock, prints at most 5 times a second (terminal) or every 5 s */
void progress_note(progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void progress_end(progress *p); /* a last line with the total time and rate, if anything was done */

/* A line on stderr that does not tear a bar: "mpistill: " + text; "mpistill: warning: " + text. */
void say(bool active, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_warning(bool active, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Seconds from a clock that does not jump. */
double clock_seconds(void);

#endif
