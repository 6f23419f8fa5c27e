/* Asking a run to stop: SIGUSR1 and SIGUSR2 (mpirun passes both on to all ranks and waits), or the end of its
 * batch job coming near, end it at the next step with a checkpoint and status 75. */
#ifndef MPISTILL_BASE_STOP_H
#define MPISTILL_BASE_STOP_H

#include <stdbool.h>

/* Local. From now on the two signals set a mark instead of ending the process; with before_s > 0 it is also
 * set when the batch job ends in less than that. False: nothing tells when it ends. (Slurm:
 * SLURM_JOB_END_TIME. PBS: PBS_WALLTIME after the start of the job, which is that of the oldest process of it
 * that this one comes from. Before both: MPISTILL_END_TIME, in seconds since 1970.) */
bool stop_listen(double before_s);
/* Local. Whether one has come. */
bool stop_asked(void);

#endif
