/* What work under way tells of itself, and how a login node reads it: state.json and run.jsonl in the folder
 * of a run. */
#ifndef MPISTILL_STAGES_WATCH_H
#define MPISTILL_STAGES_WATCH_H

#include "comm/comm.h"

#include <jansson.h>
#include <stdbool.h>

/* Collective. {"ranks", "nodes", "threads" (of a rank; 0: left out), "hosts": their names in the order of
 * ranks}; NULL without memory. */
json_t *watch_ranks(comm *c, int threads);

/* When the next line of progress is due: after 5 s at first, later once a minute, so that the log of a week
 * stays small. Zero-initialise. */
typedef struct watch {
  double started_s, told_s;
} watch;
/* Local. Cheap: looks at the clock. */
bool watch_due(watch *w);

/* Local. The folder of a run as an object: state and stage, ranks and hosts, and of the stage that is under
 * way epoch, loss, rate, time left and last checkpoint. STATUS_BAD_INPUT when nothing ran there yet. */
status watch_read(json_t *out, const char *folder);

#endif
