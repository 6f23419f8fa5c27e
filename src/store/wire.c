#include "store/wire.h"

#include "base/mem.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_SECONDS = 120, WIRE_MAX = 1 << 29 };

static status reserve(wire *w, size_t n) {
  if (n <= w->room - w->n) return STATUS_OK;
  if (n > WIRE_MAX - w->n) return status_set(STATUS_BAD_INPUT, "a header is longer than %d bytes", WIRE_MAX);
  size_t room = 2 * w->room > w->n + n ? 2 * w->room : w->n + n + 4096;
  status st = mem_resize(&w->bytes, w->n, room, 1);
  if (!st) w->room = room;
  return st;
}

status wire_bytes(wire *w, void *data, size_t n) {
  if (!n) return STATUS_OK;
  if (w->reading) {
    if (n > w->n - w->at) return status_set(STATUS_FAILED, "a header arrived incomplete");
    memcpy(data, w->bytes + w->at, n);
    w->at += n;
    return STATUS_OK;
  }
  status st = reserve(w, n);
  if (st) return st;
  memcpy(w->bytes + w->n, data, n);
  w->n += n;
  return STATUS_OK;
}

status wire_int(wire *w, int *x) {
  return wire_bytes(w, x, sizeof *x);
}

status wire_text(wire *w, char **text) {
  status st = STATUS_OK;
  int length = w->reading || !*text ? -1 : (int)strlen(*text);
  TRY(wire_int(w, &length));
  if (w->reading) *text = NULL;
  if (length < 0) goto done;
  if (w->reading && (size_t)length > w->n - w->at) THROW(STATUS_FAILED, "a header arrived incomplete");
  if (w->reading) TRY(mem_new(text, (size_t)length + 1, 1));
  TRY(wire_bytes(w, *text, (size_t)length));
done:
  return st;
}

status wire_list(wire *w, int *n, void *items, size_t size) {
  status st = wire_int(w, n);
  if (st || !w->reading) return st;
  *(void **)items = NULL;
  if (*n < 0 || (size_t)*n > w->n)
    st = status_set(STATUS_FAILED, "a header arrived incomplete");
  else if (*n)
    st = mem_new(items, (size_t)*n, size);
  if (st) *n = 0;
  return st;
}

status wire_texts(wire *w, int *n, char ***texts) {
  status st = wire_list(w, n, texts, sizeof **texts);
  for (int i = 0; i < *n && !st; i++) st = wire_text(w, &(*texts)[i]);
  return st;
}

void wire_free(wire *w) {
  mem_free(w->bytes);
  *w = (wire){0};
}

static bool write_all(int fd, const void *data, size_t n) {
  for (const char *p = data; n;) {
    ssize_t put = write(fd, p, n);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    p += put;
    n -= (size_t)put;
  }
  return true;
}

/* In the child. Signals are the system's again: MPI's handlers print a trace of a crash that is expected
 * here. */
static void child(int fd, const char *path, status (*work)(const char *path, wire *w)) {
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM, SIGTERM, SIGINT};
  struct rlimit none = {0, 0};
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], SIG_DFL);
  setrlimit(RLIMIT_CORE, &none);
  alarm(CHILD_SECONDS);
  wire w = {0};
  status st = work(path, &w);
  bool ok = write_all(fd, &st, sizeof st);
  if (st)
    ok = ok && write_all(fd, status_message(), strlen(status_message()));
  else
    ok = ok && write_all(fd, w.bytes, w.n);
  _exit(!ok);
}

static status read_all(int fd, wire *w) {
  for (;;) {
    status st = reserve(w, 65536);
    if (st) return st;
    ssize_t got = read(fd, w->bytes + w->n, w->room - w->n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return status_set(STATUS_FAILED, "a pipe cannot be read: %s", strerror(errno));
    if (!got) return STATUS_OK;
    w->n += (size_t)got;
  }
}

static status crashed(const char *path, int how) {
  return status_set(STATUS_BAD_INPUT,
                    "%s: is damaged: the HDF5 library %s reading its header\n"
                    "if h5py wrote it, write its strings with a fixed length: numpy.array(names, 'S')",
                    path, WIFSIGNALED(how) && WTERMSIG(how) == SIGALRM ? "did not finish" : "crashed");
}

static status run_child(wire *w, const char *path, status (*work)(const char *path, wire *w)) {
  status st = STATUS_OK;
  int fds[2] = {-1, -1}, how = 0;
  pid_t pid = -1;
  if (pipe(fds)) THROW(STATUS_FAILED, "%s: a pipe cannot be made: %s", path, strerror(errno));
  pid = fork();
  if (pid < 0) THROW(STATUS_FAILED, "%s: a process to read it cannot be started: %s", path, strerror(errno));
  if (!pid) child(fds[1], path, work);
  close(fds[1]);
  fds[1] = -1;
  st = read_all(fds[0], w);
  if (st) kill(pid, SIGKILL);
  while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
  }
  if (st) goto done;
  if (!WIFEXITED(how) || WEXITSTATUS(how) || w->n < sizeof st) TRY(crashed(path, how));
  memcpy(&st, w->bytes, sizeof st);
  if (st) status_set(st, "%.*s", (int)(w->n - sizeof st), (char *)w->bytes + sizeof st);
done:
  if (fds[0] >= 0) close(fds[0]);
  if (fds[1] >= 0) close(fds[1]);
  return st;
}

status wire_fetch(wire *w, comm *c, const char *path, status (*work)(const char *path, wire *w)) {
  status st = STATUS_OK;
  uint64_t n = 0;
  *w = (wire){0};
  if (!comm_rank(c)) st = run_child(w, path, work);
  TRY(comm_agree(c, st));
  n = w->n;
  TRY(comm_broadcast(c, 0, &n, sizeof n));
  if (comm_rank(c)) st = reserve(w, n);
  TRY(comm_agree(c, st));
  TRY(comm_broadcast(c, 0, w->bytes, n));
  *w = (wire){.reading = true, .bytes = w->bytes, .n = n, .room = w->room, .at = sizeof st};
done:
  if (st) wire_free(w);
  return st;
}
