#include "base/stop.h"

#include "base/options.h"
#include "base/process.h"
#include "base/progress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double deadline_s; /* by clock_seconds; 0: none */

/* Seconds: "3600", or "1:00:00". */
static bool walltime(const char *text, double *seconds) {
  int64_t s;
  int h, m, rest;
  char end;
  if (text_to_int(text, &s)) {
    *seconds = (double)s;
    return true;
  }
  if (sscanf(text, "%d:%d:%d%c", &h, &m, &rest, &end) != 3) return false;
  *seconds = 3600.0 * h + 60.0 * m + rest;
  return true;
}

static bool has_job(long pid, const char *wanted) {
  char path[64], *line = NULL;
  size_t room = 0;
  bool found = false;
  snprintf(path, sizeof path, "/proc/%ld/environ", pid);
  FILE *f = fopen(path, "r");
  while (f && !found && getdelim(&line, &room, '\0', f) > 0) found = !strcmp(line, wanted);
  if (f) fclose(f);
  free(line);
  return found;
}

/* How long the PBS job runs already. */
static double job_age(const char *id) {
  char wanted[256];
  long oldest = (long)getpid();
  snprintf(wanted, sizeof wanted, "PBS_JOBID=%s", id);
  for (long p = process_parent(oldest); p > 1 && has_job(p, wanted); p = process_parent(p)) oldest = p;
  return process_age(oldest);
}

static bool time_left(double *seconds) {
  static const char *const ends[] = {"MPISTILL_END_TIME", "SLURM_JOB_END_TIME"};
  int64_t end;
  for (int i = 0; i < 2; i++) {
    const char *text = getenv(ends[i]);
    if (!text || !text_to_int(text, &end)) continue;
    *seconds = (double)(end - (int64_t)time(NULL));
    return true;
  }
  const char *limit = getenv("PBS_WALLTIME"), *id = getenv("PBS_JOBID");
  if (!limit || !id || !walltime(limit, seconds)) return false;
  double age = job_age(id);
  *seconds -= age;
  return age >= 0;
}

void stop_hold_signals(void) {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
}

bool stop_listen(double before_s) {
  double left;
  stop_hold_signals();
  deadline_s = 0;
  if (before_s <= 0) return true;
  if (!time_left(&left)) return false;
  /* Read once: from here on the clock may jump. */
  deadline_s = clock_seconds() + left - before_s;
  return true;
}

static bool signal_waits(void) {
  sigset_t waiting;
  return !sigpending(&waiting) &&
         (sigismember(&waiting, SIGUSR1) == 1 || sigismember(&waiting, SIGUSR2) == 1);
}

bool stop_asked(void) {
  return signal_waits() || (deadline_s != 0 && clock_seconds() >= deadline_s);
}
