/* For LD_PRELOAD: a rank of MPICH (device ch4:ucx) gives its core away where it looked for a message in vain.
 * Without, more ranks than cores take five times as long as with Open MPI, which has an option for it. */
#include <dlfcn.h>
#include <sched.h>

unsigned ucp_worker_progress(void *worker) {
  static unsigned (*progress)(void *);
  if (!progress) progress = (unsigned (*)(void *))dlsym(RTLD_NEXT, "ucp_worker_progress");
  unsigned events = progress(worker);
  if (!events) sched_yield();
  return events;
}
