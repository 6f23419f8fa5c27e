/* A rank that hangs, noticed without its help and without a message.
 *
 * Each rank has a thread that only looks at clocks and writes a record into a small file: that it lives,
 * whether its rank waits for others in a message, and whether it has got on. The file is nameless, in shared
 * memory, where all ranks are on one node; else the stage names one in a folder that all nodes see. The job
 * hangs when no rank has got on for the time given: one is stopped, or waits for a disk, and the others wait
 * for it. A rank that computes gets on as long as it uses its processor, however long that takes. Time is
 * counted in beats of the thread itself: a job that is suspended as a whole and goes on hours later does not
 * hang. */
#ifndef MPISTILL_COMM_PULSE_H
#define MPISTILL_COMM_PULSE_H

#include "comm/comm.h"

/* Called once, on the thread of its own, when the job hangs. The lowest rank that lives gets the message:
 * which rank it is and where it was last. The others get NULL, a little later. It does not return. */
typedef void pulse_leave(const char *message);

/* Collective. From now on a job that hangs for `seconds` is left. 0 or one rank: nothing. At most one at a
 * time in a process. `phase` is what the ranks are at first. */
status pulse_start(comm *c, const char *phase, double seconds, pulse_leave *leave);
/* Collective, and before comm_end. */
void pulse_stop(comm *c);

/* Collective. Where ranks are on several nodes: PATH.pulse is their file from now on (NULL: removed). Nothing
 * happens when it cannot be made: hanging is then not noticed. */
void pulse_share(comm *c, const char *path);

/* Local. What this rank is at, for the message: "train, epoch 3". */
void pulse_phase(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Local. `last` is called before the job is left, on the rank that gets the message (NULL: nothing). */
void pulse_last(void (*last)(void *data, const char *message), void *data);

#endif
