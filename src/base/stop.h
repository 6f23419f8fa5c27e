/* Asking a run to stop: SIGUSR1 and SIGUSR2 (mpirun passes both on to all ranks and waits), or the end of its
 * batch job coming near, end it at the next step with a checkpoint and status 75. */
#ifndef MPISTILL_BASE_STOP_H
#define MPISTILL_BASE_STOP_H

#include <stdbool.h>

/* Local, before other threads are started: in this thread and those it starts the two signals wait until
 * stop_asked looks. They have no handler: kernels of oneDNN keep data where the stack pointer points, and the
 * frame of any handler would be written over it (heap corruption, mended in oneDNN 3.11.2, its issue 4845).
 */
void stop_hold_signals(void);
/* Local. From now on the two signals, held, ask to stop; with before_s > 0 so does a batch job that ends in
 * less than that. False: nothing tells when it ends. (Slurm: SLURM_JOB_END_TIME. PBS: PBS_WALLTIME after the
 * start of the job, which is that of the oldest process of it that this one comes from. Before both:
 * MPISTILL_END_TIME, in seconds since 1970.) */
bool stop_listen(double before_s);
/* Local. Whether one has come, or the end is near. */
bool stop_asked(void);

#endif
