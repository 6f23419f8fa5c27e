/* For LD_PRELOAD: something happens at the N-th call that changes a file below the working folder.
 *
 *     MPISTILL_FAULT=CALLS:N:ACTION[:RANK]
 *
 * CALLS: names of calls separated by commas ("write" stands for write, pwrite, writev and pwritev), or "any".
 * N: counts from 1; "N+" means that one and all that follow. ACTION: kill (SIGKILL for this process, before
 * the call), stop (SIGSTOP), or the name of the error that the call returns: ENOSPC, EIO, EDQUOT. RANK: 0 if
 * not given. MPISTILL_FAULT_COUNT=FILE: the number of calls is written there at the end. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char calls[256], action[16], here[PATH_MAX];
static long wanted;
static bool onwards, active;
static pid_t me;
static atomic_long n_calls;

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("MPISTILL_FAULT"), *rank = getenv("OMPI_COMM_WORLD_RANK");
  if (!rank) rank = getenv("PMI_RANK");
  char number[32] = "";
  int on = 0;
  if (!text || sscanf(text, "%255[^:]:%31[^:]:%15[^:]:%d", calls, number, action, &on) < 3) return;
  if (on != (rank ? atoi(rank) : 0) || !getcwd(here, sizeof here)) return;
  wanted = atol(number);
  onwards = strchr(number, '+') != NULL;
  active = true;
  me = getpid();
}

__attribute__((destructor)) static void end(void) {
  const char *path = getenv("MPISTILL_FAULT_COUNT");
  if (!active || !path || getpid() != me) return;
  active = false;
  FILE *f = fopen(path, "w");
  if (f) fprintf(f, "%ld\n", atomic_load(&n_calls));
  if (f) fclose(f);
}

static bool is_below(const char *path) {
  size_t n = strlen(here);
  return path[0] != '/' || (!strncmp(path, here, n) && (path[n] == '/' || !path[n]));
}

static bool is_ours(int fd) {
  char link[64], path[PATH_MAX];
  struct stat info;
  if (fstat(fd, &info) || (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))) return false;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n > 0 ? n : 0] = '\0';
  return n > 0 && is_below(path);
}

/* Whether this call fails; errno is set then. */
static bool fails(const char *name) {
  char list[260], word[64];
  snprintf(list, sizeof list, ",%s,", calls);
  snprintf(word, sizeof word, ",%s,", name);
  if (!active || getpid() != me || (strcmp(calls, "any") && !strstr(list, word))) return false;
  long n = atomic_fetch_add(&n_calls, 1) + 1;
  if (n != wanted && !(onwards && n > wanted)) return false;
  if (!strcmp(action, "kill")) kill(me, SIGKILL);
  if (!strcmp(action, "stop")) kill(me, SIGSTOP);
  errno = !strcmp(action, "ENOSPC") ? ENOSPC : !strcmp(action, "EDQUOT") ? EDQUOT : EIO;
  return action[0] == 'E';
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(kind, type, name, arguments, values)                                                         \
  type name arguments {                                                                                      \
    return is_ours(fd) && fails(kind) ? -1 : NEXT(name) values;                                              \
  }
#define ON_PATH(kind, type, name, arguments, values)                                                         \
  type name arguments {                                                                                      \
    return is_below(path) && fails(kind) ? -1 : NEXT(name) values;                                           \
  }

ON_FILE("write", ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
ON_FILE("write", ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
ON_FILE("write", ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FILE("write", ssize_t, writev, (int fd, const struct iovec *data, int n), (fd, data, n))
ON_FILE("write", ssize_t, pwritev, (int fd, const struct iovec *data, int n, off_t at), (fd, data, n, at))
ON_FILE("write", ssize_t, pwritev64, (int fd, const struct iovec *data, int n, off64_t at), (fd, data, n, at))
ON_FILE("fsync", int, fsync, (int fd), (fd))
ON_FILE("fsync", int, fdatasync, (int fd), (fd))
ON_FILE("ftruncate", int, ftruncate, (int fd, off_t n), (fd, n))
ON_FILE("ftruncate", int, ftruncate64, (int fd, off64_t n), (fd, n))
ON_FILE("fallocate", int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
ON_PATH("rename", int, rename, (const char *path, const char *to), (path, to))
ON_PATH("unlink", int, unlink, (const char *path), (path))
ON_PATH("rmdir", int, rmdir, (const char *path), (path))
ON_PATH("mkdir", int, mkdir, (const char *path, mode_t mode), (path, mode))
