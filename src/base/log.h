/* --log FILE: one JSON object a line, written by rank 0. */
#ifndef MPISTILL_BASE_LOG_H
#define MPISTILL_BASE_LOG_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct run_log run_log;
/* Local. Appends to `path`, whose last line is dropped if a killed run left it incomplete; NULL path or
 * !active: every call does nothing and succeeds. STATUS_BAD_INPUT where it is another kind of file. */
status log_open(run_log **out, const char *path, bool active);
/* Local. Takes `object` (a reference is stolen), adds "event" and "time_s" (seconds since log_open) in front
 * and writes it at once. */
void log_event(run_log *l, const char *event, json_t *object);
status log_close(run_log **l); /* STATUS_FAILED if anything could not be written */
/* Local. Where it is still open: closes the log of work that ended with st, after an event "stopped" or
 * "failed" with its message, which stays the stored one. */
void log_end(run_log **l, status st);

/* Local. A real that may be NaN or infinite: null then (JSON has neither). */
json_t *json_number(double x);

#endif
