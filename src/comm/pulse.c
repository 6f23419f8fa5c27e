#include "comm/pulse.h"

#include "comm/internal.h"

#include "base/mem.h"
#include "base/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BEATS = 20, PHASE_BYTES = 96, HOST_BYTES = 64, PATH_BYTES = 4096 };

/* A rank's place in the file. beat 0: nothing is known of it. */
typedef struct record {
  uint64_t beat, moves; /* of its thread; of its work */
  int64_t pid;
  int32_t waits;
  char host[HOST_BYTES], phase[PHASE_BYTES];
} record;

/* What one rank has seen of another. */
typedef struct seen {
  uint64_t beat, moves;
  int silent, idle; /* for how many of our beats */
} seen;

typedef struct pulse {
  int rank, size, fd;
  char path[PATH_BYTES]; /* "": the nameless file behind fd */
  pulse_leave *leave;
  long beat_ns;
  record mine, *all;
  seen *others;
  double cpu_s;
  /* Written by the main thread: */
  atomic_int waits;
  atomic_ulong moves;
  int depth;
  /* Under the mutex: */
  pthread_mutex_t mutex;
  pthread_cond_t stop;
  bool stopping;
  char phase[PHASE_BYTES];
  void (*last)(void *data, const char *message);
  void *last_data;
  pthread_t thread;
} pulse;

static pulse *now; /* of this process; set and cleared while no thread of ours runs */

/* ---- what the main thread tells ---- */

void pulse_wait(bool begins) {
  static profile_phase before;
  static int depth;
  pulse *p = now;
  if (begins && !depth++) before = profile_enter(PROFILE_WAIT);
  if (!begins && !--depth) profile_enter(before);
  if (!p) return;
  if (begins) {
    if (!p->depth++) atomic_store_explicit(&p->waits, 1, memory_order_relaxed);
  } else if (!--p->depth) {
    atomic_fetch_add_explicit(&p->moves, 1, memory_order_relaxed);
    atomic_store_explicit(&p->waits, 0, memory_order_relaxed);
  }
}

void pulse_phase(const char *format, ...) {
  if (!now) return;
  va_list arguments;
  pthread_mutex_lock(&now->mutex);
  va_start(arguments, format);
  vsnprintf(now->phase, PHASE_BYTES, format, arguments);
  va_end(arguments);
  pthread_mutex_unlock(&now->mutex);
  atomic_fetch_add_explicit(&now->moves, 1, memory_order_relaxed);
}

void pulse_last(void (*last)(void *data, const char *message), void *data) {
  if (!now) return;
  pthread_mutex_lock(&now->mutex);
  now->last = last;
  now->last_data = data;
  pthread_mutex_unlock(&now->mutex);
}

/* ---- the file ---- */

/* Several nodes: opened anew each time, which is what makes network file systems look again. */
static int open_records(const pulse *p, int flags) {
  return *p->path ? open(p->path, flags | O_CLOEXEC, 0666) : p->fd;
}

static void close_records(const pulse *p, int fd) {
  if (*p->path && fd >= 0) close(fd);
}

static void write_record(pulse *p) {
  int fd = open_records(p, O_WRONLY);
  if (fd < 0) return;
  ssize_t put = pwrite(fd, &p->mine, sizeof p->mine, (off_t)(sizeof p->mine * (size_t)p->rank));
  if (put == (ssize_t)sizeof p->mine && *p->path) put = fdatasync(fd);
  close_records(p, fd);
}

static bool read_records(pulse *p) {
  size_t bytes = sizeof *p->all * (size_t)p->size;
  int fd = open_records(p, O_RDONLY);
  if (fd < 0) return false;
  memset(p->all, 0, bytes);
  ssize_t got = pread(fd, p->all, bytes, 0);
  close_records(p, fd);
  return got > 0;
}

/* ---- the thread ---- */

/* Work that goes on without messages shows in the processor's time; waiting for a message may use it, too. */
static void take_pulse(pulse *p) {
  struct timespec cpu;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  double cpu_s = (double)cpu.tv_sec + 1e-9 * (double)cpu.tv_nsec, beat_s = 1e-9 * (double)p->beat_ns;
  int waits = atomic_load_explicit(&p->waits, memory_order_relaxed);
  if (!waits && cpu_s - p->cpu_s > 0.002 * beat_s + 0.001)
    atomic_fetch_add_explicit(&p->moves, 1, memory_order_relaxed);
  p->cpu_s = cpu_s;
  p->mine.beat++;
  p->mine.waits = waits;
  p->mine.moves = atomic_load_explicit(&p->moves, memory_order_relaxed);
  memcpy(p->mine.phase, p->phase, PHASE_BYTES);
}

/* For how many beats nobody has got on. */
static int idle_beats(pulse *p) {
  int least = BEATS;
  for (int i = 0; i < p->size; i++) {
    const record *r = &p->all[i];
    seen *s = &p->others[i];
    s->silent = r->beat != s->beat ? 0 : s->silent + 1;
    s->idle = r->moves != s->moves || !r->beat ? 0 : s->idle + 1;
    s->beat = r->beat;
    s->moves = r->moves;
    if (s->idle < least) least = s->idle;
  }
  return least;
}

static bool is_silent(const pulse *p, int rank) {
  return p->others[rank].silent > BEATS / 2;
}

static int add(char *text, size_t room, int n, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int add(char *text, size_t room, int n, const char *format, ...) {
  va_list arguments;
  if ((size_t)n >= room) return n;
  va_start(arguments, format);
  n += vsnprintf(text + n, room - (size_t)n, format, arguments);
  va_end(arguments);
  return n;
}

/* Names the ranks that are not waiting for others: those that give no sign of life, or do nothing. */
static void describe(const pulse *p, char *text, size_t room) {
  enum { MOST = 8 };
  int n = 0, found = 0;
  for (int i = 0; i < p->size; i++) {
    const record *r = &p->all[i];
    bool silent = is_silent(p, i);
    if (!silent && r->waits) continue;
    if (found++ >= MOST) continue;
    n = add(text, room, n, "%srank %d (process %lld on host %.*s) %s, in: %.*s", found > 1 ? "\n" : "", i,
            (long long)r->pid, HOST_BYTES, r->host,
            silent ? "gives no sign of life" : "does not go on, it may wait for a disk", PHASE_BYTES,
            r->phase);
  }
  if (found > MOST) n = add(text, room, n, "\nand %d more ranks", found - MOST);
  if (!found)
    n = add(text, room, n, "all ranks wait for each other's messages, in: %.*s", PHASE_BYTES, p->mine.phase);
  add(text, room, n,
      "\nno rank has got on for %.3g s; the others leave, the same command goes on from what is on disk",
      1e-9 * (double)p->beat_ns * BEATS);
}

static void leave_job(pulse *p) {
  char message[2048];
  struct timespec while_others_speak = {.tv_sec = 5};
  int speaker = 0;
  while (speaker < p->size - 1 && is_silent(p, speaker)) speaker++;
  pthread_mutex_unlock(&p->mutex);
  if (speaker != p->rank) {
    nanosleep(&while_others_speak, NULL);
    p->leave(NULL);
    return;
  }
  describe(p, message, sizeof message);
  if (p->last) p->last(p->last_data, message);
  p->leave(message);
}

static void *watch(void *data) {
  pulse *p = data;
  pthread_mutex_lock(&p->mutex);
  while (!p->stopping) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += p->beat_ns % 1000000000;
    until.tv_sec += p->beat_ns / 1000000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!p->stopping && pthread_cond_timedwait(&p->stop, &p->mutex, &until) != ETIMEDOUT) {
    }
    if (p->stopping) break;
    take_pulse(p);
    write_record(p);
    if (!read_records(p) || idle_beats(p) < BEATS) continue;
    leave_job(p);
    return NULL;
  }
  pthread_mutex_unlock(&p->mutex);
  return NULL;
}

/* ---- starting and ending ---- */

static void pulse_free(pulse *p) {
  if (p->fd >= 0) close(p->fd);
  pthread_cond_destroy(&p->stop);
  pthread_mutex_destroy(&p->mutex);
  mem_free(p->all);
  mem_free(p->others);
  mem_free(p);
}

static status pulse_new(pulse **out, const comm *c, double seconds, pulse_leave *leave) {
  status st = STATUS_OK;
  pthread_condattr_t attributes;
  TRY(mem_new(out, 1, sizeof **out));
  pulse *p = *out;
  p->rank = c->rank;
  p->size = c->size;
  p->fd = -1;
  p->leave = leave;
  p->beat_ns = (long)(1e9 * seconds / BEATS);
  p->mine.pid = (int64_t)getpid();
  gethostname(p->mine.host, HOST_BYTES - 1);
  pthread_mutex_init(&p->mutex, NULL);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&p->stop, &attributes);
  pthread_condattr_destroy(&attributes);
  TRY(mem_new(&p->all, (size_t)p->size, sizeof *p->all));
  TRY(mem_new(&p->others, (size_t)p->size, sizeof *p->others));
done:
  if (st && *out) {
    pulse_free(*out);
    *out = NULL;
  }
  return st;
}

/* One node: rank 0 makes a file that has no name any more once all have opened it. */
static status open_nameless(pulse *p, comm *c) {
  static const char *const folders[] = {"/dev/shm", NULL, "/tmp"};
  status st = STATUS_OK;
  char path[PATH_BYTES] = "";
  for (int i = 0; i < 3 && c->rank == 0 && p->fd < 0; i++) {
    const char *folder = folders[i] ? folders[i] : getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/mpistill-pulse-XXXXXX", folder ? folder : "/tmp");
    p->fd = mkostemp(path, O_CLOEXEC);
  }
  TRY(comm_broadcast(c, 0, path, sizeof path));
  if (c->rank) p->fd = open(path, O_RDWR | O_CLOEXEC);
  TRY(comm_barrier(c));
  if (c->rank == 0) unlink(path);
done:
  return st;
}

static bool start_thread(pulse *p) {
  sigset_t all, old;
  sigfillset(&all); /* signals are the main thread's */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  bool good = !pthread_create(&p->thread, NULL, watch, p);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return good;
}

status pulse_start(comm *c, const char *phase, double seconds, pulse_leave *leave) {
  status st = STATUS_OK;
  pulse *p = NULL;
  if (c->size == 1 || seconds <= 0 || now) return st;
  TRY(comm_agree(c, pulse_new(&p, c, seconds, leave)));
  if (c->nodes == 1) TRY(open_nameless(p, c));
  snprintf(p->phase, PHASE_BYTES, "%s", phase);
  memcpy(p->mine.phase, p->phase, PHASE_BYTES);
  p->mine.beat = 1; /* known from now on, even if it is stopped before its thread runs */
  write_record(p);
  TRY(comm_agree(c, start_thread(p) ? STATUS_OK : status_set(STATUS_FAILED, "a thread cannot be started")));
  now = p;
  p = NULL;
done:
  if (p) pulse_free(p);
  return st;
}

void pulse_share(comm *c, const char *path) {
  pulse *p = now;
  char text[PATH_BYTES] = "";
  if (!p || c->nodes == 1) return;
  if (path && strlen(path) < PATH_BYTES - 8) snprintf(text, sizeof text, "%s.pulse", path);
  if (c->rank == 0 && *p->path) unlink(p->path);
  if (c->rank == 0 && *text) {
    int fd = open(text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0) close(fd);
  }
  if (comm_barrier(c)) return;
  pthread_mutex_lock(&p->mutex);
  memcpy(p->path, text, sizeof text);
  memset(p->others, 0, sizeof *p->others * (size_t)p->size);
  pthread_mutex_unlock(&p->mutex);
}

void pulse_stop(comm *c) {
  pulse *p = now;
  if (!p) return;
  pulse_share(c, NULL);
  pthread_mutex_lock(&p->mutex);
  p->stopping = true;
  pthread_cond_signal(&p->stop);
  pthread_mutex_unlock(&p->mutex);
  pthread_join(p->thread, NULL);
  now = NULL;
  pulse_free(p);
}
