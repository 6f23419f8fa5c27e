/* Asking a run to stop: SIGUSR1 and SIGUSR2 (mpirun passes both on to all ranks and waits) end it at the next
 * step with a checkpoint and status 75. */
#ifndef MPISTILL_BASE_STOP_H
#define MPISTILL_BASE_STOP_H

#include <stdbool.h>

/* Local. From now on the two signals set a mark instead of ending the process. */
void stop_listen(void);
/* Local. Whether one has come. */
bool stop_asked(void);

#endif
