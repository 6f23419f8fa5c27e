/* Two runs into one output: the second is refused.
 *
 * PATH.lock (in a folder: PATH/mpistill.lock) says who holds it, and the system keeps a lock on it (fcntl)
 * that goes with the process: what a crash or a reboot leaves behind is a file, but no lock. Where the file
 * system has no such locks, or with MPISTILL_LOCK=heartbeat (for those that hold on one host only), the
 * holder writes the file anew every 10 s; it counts as left behind when it is older than 60 s by the file
 * system's own clock, and at once when its process is known to be gone. */
#ifndef MPISTILL_BASE_LOCK_H
#define MPISTILL_BASE_LOCK_H

#include "base/status.h"

#include <stdbool.h>

typedef struct lock lock;

/* Local, one process. Waits up to 10 s for a holder that is about to end (a launcher's processes outlive it
 * by a second); `show`: says so. STATUS_BAD_INPUT naming the holder's host and process when it still holds
 * then, and when PATH.lock cannot be made. */
status lock_take(lock **out, const char *path, bool show);
/* Local. Removes PATH.lock. */
void lock_release(lock **l);

#endif
