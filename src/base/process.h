/* What /proc tells of processes. */
#ifndef MPISTILL_BASE_PROCESS_H
#define MPISTILL_BASE_PROCESS_H

/* Local. When a process of this host began, in clock ticks after the host's start; 0: there is none, or it
 * cannot be known. No other process has both its number and its beginning. */
unsigned long long process_started(long pid);

/* Local. Seconds since a process began; negative: not known. */
double process_age(long pid);

/* Local. The process that started it; 0: not known. */
long process_parent(long pid);

#endif
