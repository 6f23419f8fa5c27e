#include "base/lock.h"

#include "base/mem.h"
#include "base/process.h"
#include "base/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const double WAIT_S = 10, SAY_AFTER_S = 1, STALE_S = 60;
enum { BEAT_S = 10, TEXT_BYTES = 512 };

struct lock {
  char *path; /* of the lock file */
  int fd;     /* -1: not held */
  char text[TEXT_BYTES];
  bool beats;
  pthread_t heart;
  pthread_mutex_t mutex;
  pthread_cond_t stop;
  bool stopping;
};

typedef enum outcome { TAKEN, HELD, NO_LOCKS, BROKEN } outcome;

/* Who holds a lock: enough to know on the same host that the process is gone, whatever has its number now. */
typedef struct holder {
  char host[128], boot[64], space[64]; /* space: of process numbers; containers have their own */
  long pid;
  unsigned long long started; /* process_started */
} holder;

/* ---- processes ---- */

static void read_word(const char *path, char *text, size_t room) {
  FILE *f = fopen(path, "r");
  char format[16];
  snprintf(format, sizeof format, "%%%zus", room - 1);
  if (!f || fscanf(f, format, text) != 1) snprintf(text, room, "?");
  if (f) fclose(f);
}

static holder myself(void) {
  holder h = {.pid = (long)getpid()};
  if (gethostname(h.host, sizeof h.host - 1)) snprintf(h.host, sizeof h.host, "?");
  read_word("/proc/sys/kernel/random/boot_id", h.boot, sizeof h.boot);
  ssize_t n = readlink("/proc/self/ns/pid", h.space, sizeof h.space - 1);
  h.space[n > 0 ? n : 0] = '\0';
  if (n <= 0) snprintf(h.space, sizeof h.space, "?");
  h.started = process_started(h.pid);
  return h;
}

/* False when it cannot be known. */
static bool is_gone(const holder *h) {
  holder me = myself();
  if (strcmp(h->host, me.host)) return false;
  if (strcmp(h->boot, me.boot)) return true;
  if (strcmp(h->space, me.space) || !me.started) return false;
  return process_started(h->pid) != h->started;
}

/* ---- the file ---- */

static bool read_holder(const char *path, holder *h) {
  FILE *f = fopen(path, "r");
  if (!f) return false;
  int n = fscanf(f, "%127s %ld %llu %63s %63s", h->host, &h->pid, &h->started, h->boot, h->space);
  fclose(f);
  return n == 5;
}

static bool write_text(int fd, const char *text) {
  ssize_t n = (ssize_t)strlen(text);
  return pwrite(fd, text, (size_t)n, 0) == n;
}

static bool is_same_file(int fd, const char *path) {
  struct stat a, b;
  return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* How long ago the file was written, by the clock of the file system: that of a file written now. */
static double age(const char *path) {
  struct stat old, now;
  char *probe = NULL;
  double seconds = 0;
  if (mem_format(&probe, "%s.%ld", path, (long)getpid())) return 0;
  int fd = open(probe, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd >= 0 && write_text(fd, "?") && !fsync(fd) && !fstat(fd, &now) && !stat(path, &old))
    seconds = difftime(now.st_mtime, old.st_mtime);
  if (fd >= 0) close(fd);
  unlink(probe);
  mem_free(probe);
  return seconds;
}

/* ---- with the system's locks ---- */

static outcome try_system(lock *l) {
  struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  for (;;) {
    l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (l->fd < 0) return BROKEN;
    int failed = fcntl(l->fd, F_SETLK, &all), reason = errno;
    if (!failed && is_same_file(l->fd, l->path)) break;
    close(l->fd);
    l->fd = -1;
    if (failed) return reason == EACCES || reason == EAGAIN ? HELD : NO_LOCKS;
    /* Its holder has removed the file between the two calls: once more. */
  }
  /* Only for the message of others: a full disk does not matter here. */
  if (ftruncate(l->fd, 0) || !write_text(l->fd, l->text)) errno = 0;
  return TAKEN;
}

/* ---- with a heartbeat ---- */

static void *beat(void *data) {
  lock *l = data;
  pthread_mutex_lock(&l->mutex);
  while (!l->stopping) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += BEAT_S;
    if (pthread_cond_timedwait(&l->stop, &l->mutex, &until) == ETIMEDOUT && !write_text(l->fd, l->text))
      errno = 0;
  }
  pthread_mutex_unlock(&l->mutex);
  return NULL;
}

static bool start_heart(lock *l) {
  pthread_condattr_t attributes;
  sigset_t all, old;
  pthread_mutex_init(&l->mutex, NULL);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&l->stop, &attributes);
  pthread_condattr_destroy(&attributes);
  sigfillset(&all); /* signals are the other threads' */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  l->beats = !pthread_create(&l->heart, NULL, beat, l);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return l->beats;
}

static void stop_heart(lock *l) {
  pthread_mutex_lock(&l->mutex);
  l->stopping = true;
  pthread_cond_signal(&l->stop);
  pthread_mutex_unlock(&l->mutex);
  pthread_join(l->heart, NULL);
  pthread_cond_destroy(&l->stop);
  pthread_mutex_destroy(&l->mutex);
}

/* Two that find a stale file both remove it and make a new one: the later one wins, the earlier one sees that
 * its file is no longer there. */
static outcome try_heartbeat(lock *l) {
  holder h;
  struct timespec settle = {.tv_nsec = 300000000};
  l->fd = open(l->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (l->fd < 0 && errno != EEXIST) return BROKEN;
  if (l->fd < 0) {
    bool known = read_holder(l->path, &h);
    if (!(known && is_gone(&h)) && age(l->path) <= STALE_S) return HELD;
    unlink(l->path);
    l->fd = open(l->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (l->fd < 0) return errno == EEXIST ? HELD : BROKEN;
  }
  bool written = write_text(l->fd, l->text);
  int reason = errno;
  nanosleep(&settle, NULL);
  bool mine = is_same_file(l->fd, l->path);
  if (mine && written && start_heart(l)) return TAKEN;
  if (mine) unlink(l->path);
  close(l->fd);
  l->fd = -1;
  errno = reason;
  return mine ? BROKEN : HELD;
}

/* ---- both ---- */

static outcome try(lock *l) {
  const char *kind = getenv("MPISTILL_LOCK");
  outcome o = kind && !strcmp(kind, "heartbeat") ? NO_LOCKS : try_system(l);
  return o == NO_LOCKS ? try_heartbeat(l) : o;
}

static status held(const lock *l, const char *path) {
  holder h;
  if (!read_holder(l->path, &h))
    return status_set(STATUS_BAD_INPUT, "%s: another run is writing it (%s says which)", path, l->path);
  return status_set(
      STATUS_BAD_INPUT,
      "%s: another run is writing it: process %ld on host %s; wait for its end or take another output", path,
      h.pid, h.host);
}

static status wait_for(lock *l, const char *path, bool show) {
  double begun = clock_seconds();
  struct timespec pause = {.tv_nsec = 100000000};
  for (bool said = false;; nanosleep(&pause, NULL)) {
    outcome o = try(l);
    if (o == TAKEN) return STATUS_OK;
    if (o == BROKEN)
      return status_set(errno == ENOSPC || errno == EDQUOT || errno == EIO ? STATUS_FAILED : STATUS_BAD_INPUT,
                        "%s: cannot be written: %s: %s", path, l->path, strerror(errno));
    double waited = clock_seconds() - begun;
    if (waited > WAIT_S) return held(l, path);
    if (!said && waited > SAY_AFTER_S) say(show, "%s: waits for another run that is writing it", path);
    said = said || waited > SAY_AFTER_S;
  }
}

status lock_take(lock **out, const char *path, bool show) {
  status st = STATUS_OK;
  lock *l = NULL;
  holder me = myself();
  struct stat info;
  *out = NULL;
  TRY(mem_new(&l, 1, sizeof *l));
  l->fd = -1;
  bool folder = !stat(path, &info) && S_ISDIR(info.st_mode);
  TRY(mem_format(&l->path, folder ? "%s/mpistill.lock" : "%s.lock", path));
  snprintf(l->text, sizeof l->text, "%s %ld %llu %s %s\n", me.host, me.pid, me.started, me.boot, me.space);
  TRY(wait_for(l, path, show));
  *out = l;
  l = NULL;
done:
  lock_release(&l);
  return st;
}

void lock_release(lock **out) {
  lock *l = *out;
  if (!l) return;
  if (l->beats) stop_heart(l);
  if (l->fd >= 0) {
    if (is_same_file(l->fd, l->path)) unlink(l->path); /* before the lock goes: the next one makes its own */
    close(l->fd);
  }
  mem_free(l->path);
  mem_free(l);
  *out = NULL;
}
