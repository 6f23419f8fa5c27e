/* Where the time of this process goes: by phase, and by operator. Off unless MPISTILL_PROFILE names a folder;
 * then rank R writes FOLDER/R.json at its end. While it is off a call looks at one variable. `make profile`
 * sums the files up. */
#ifndef MPISTILL_BASE_PROFILE_H
#define MPISTILL_BASE_PROFILE_H

#include "base/progress.h"
#include "base/status.h"

/* Of each thread; it is in one phase at a time, so that phases add up to the whole. A thread that has no work
 * waits. */
typedef enum profile_phase {
  PROFILE_OTHER, /* starting, planning, bookkeeping */
  PROFILE_READ,  /* files, and rows into the inputs of a model */
  PROFILE_FORWARD,
  PROFILE_BACKWARD, /* with the losses */
  PROFILE_REDUCE,   /* sums over shards and ranks */
  PROFILE_UPDATE,
  PROFILE_WRITE,
  PROFILE_WAIT, /* for other ranks or threads */
  PROFILE_PHASES
} profile_phase;

extern bool profile_is_on; /* set by profile_start, before there are threads */

void profile_start(void);       /* at the start of the process */
status profile_check(void);     /* makes the folder; STATUS_BAD_INPUT */
status profile_write(int rank); /* at its end, on the same thread; STATUS_FAILED, STATUS_BAD_INPUT */
profile_phase profile_switch(profile_phase to);
void profile_add(const char *what, bool backward, double seconds);

/* Any thread. Enters a phase; gives the one that it was in, to go back to. */
static inline profile_phase profile_enter(profile_phase to) {
  return profile_is_on ? profile_switch(to) : PROFILE_OTHER;
}

/* Any thread. An operator took the time since `since`, which profile_clock gave. `what` is a name that stays
 * where it is. */
static inline double profile_clock(void) {
  return profile_is_on ? clock_seconds() : 0;
}
static inline void profile_operator(const char *what, bool backward, double since) {
  if (profile_is_on) profile_add(what, backward, clock_seconds() - since);
}

#endif
