#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

status file_read(const char *path, unsigned char **bytes, size_t *n) {
  status st = STATUS_OK;
  size_t used = 0, room = 1 << 16;
  struct stat info;
  unsigned char *data = NULL;
  *bytes = NULL;
  *n = 0;
  FILE *f = fopen(path, "rb");
  if (!f) THROW(STATUS_BAD_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
  if (fstat(fileno(f), &info)) THROW(STATUS_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
  if (S_ISDIR(info.st_mode)) THROW(STATUS_BAD_INPUT, "%s: is a folder, a file is needed", path);
  /* The size is a hint only: pipes have none, and a file may grow while it is read. */
  if (info.st_size > 0) room = (size_t)info.st_size + 2;
  TRY(mem_new(&data, room, 1));
  for (size_t got; (got = fread(data + used, 1, room - 1 - used, f)) > 0;) {
    used += got;
    if (used < room - 1) continue;
    TRY(mem_resize(&data, used, 2 * room, 1));
    room *= 2;
  }
  if (ferror(f)) THROW(STATUS_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
  data[used] = '\0';
  *bytes = data;
  *n = used;
  data = NULL;
done:
  mem_free(data);
  if (f) fclose(f);
  return st;
}

/* Makes names in the folder of `path` last. Some file systems refuse to flush a folder (EINVAL): nothing more
 * can be done there. */
static status flush_folder(const char *path) {
  status st = STATUS_OK;
  char *folder = NULL;
  int fd = -1;
  TRY(file_folder(&folder, path));
  fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) THROW(STATUS_FAILED, "%s: cannot be opened: %s", folder, strerror(errno));
  if (fsync(fd) && errno != EINVAL && errno != EROFS)
    THROW(STATUS_FAILED, "%s: cannot be flushed to disk: %s", folder, strerror(errno));
done:
  if (fd >= 0) close(fd);
  mem_free(folder);
  return st;
}

/* What a new file of this process may be: 0666 less its umask, which can only be read by setting it. */
static mode_t usual_mode(void) {
  const mode_t mask = umask(077);
  umask(mask);
  return 0666 & ~mask;
}

static bool is_part(const char *path) {
  const size_t n = strlen(path), suffix = strlen(".part");
  return n > suffix && !strcmp(path + n - suffix, ".part");
}

/* Flushes the open file, renames it and flushes its folder. Closes fd in any case. Under a final name others
 * may read it. */
static status commit(int fd, const char *part, const char *path) {
  status st = STATUS_OK;
  if (!is_part(path) && fchmod(fd, usual_mode()) && errno != EPERM) /* some file systems know no modes */
    THROW(STATUS_FAILED, "%s: its permissions cannot be set: %s", part, strerror(errno));
  if (fsync(fd)) THROW(STATUS_FAILED, "%s: cannot be flushed to disk: %s", part, strerror(errno));
  int failed = close(fd);
  fd = -1;
  if (failed) THROW(STATUS_FAILED, "%s: cannot be written: %s", part, strerror(errno));
  if (rename(part, path))
    THROW(STATUS_FAILED, "%s: cannot be renamed to %s: %s", part, path, strerror(errno));
  TRY(flush_folder(path));
done:
  if (fd >= 0) close(fd);
  return st;
}

static status write_all(int fd, const char *part, const unsigned char *bytes, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t wrote = write(fd, bytes + done, n - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return status_set(STATUS_FAILED, "%s: cannot be written: %s", part, strerror(errno));
    done += (size_t)wrote;
  }
  return STATUS_OK;
}

status file_map(file_view *out, const char *path) {
  struct stat info;
  unsigned char *bytes = NULL;
  *out = (file_view){0};
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
    void *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at != MAP_FAILED) *out = (file_view){at, (size_t)info.st_size, true};
  }
  if (fd >= 0) close(fd);
  if (out->mapped) return STATUS_OK;
  status st = file_read(path, &bytes, &out->n);
  out->bytes = bytes;
  return st;
}

void file_unmap(file_view *v) {
  if (v->mapped)
    munmap((void *)v->bytes, v->n);
  else
    mem_free((void *)v->bytes);
  *v = (file_view){0};
}

status file_create_part(const char *part, int *fd) {
  if (unlink(part) && errno != ENOENT && errno != EPERM)
    return status_set(STATUS_FAILED, "%s: cannot be removed: %s", part, strerror(errno));
  *fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (*fd < 0) return status_set(STATUS_FAILED, "%s: cannot be created: %s", part, strerror(errno));
  return STATUS_OK;
}

status file_write(const char *path, const void *bytes, size_t n) {
  status st = STATUS_OK;
  char *part = NULL;
  int fd = -1;
  TRY(file_check_writable(path));
  TRY(mem_format(&part, "%s.part", path));
  TRY(file_create_part(part, &fd));
  st = write_all(fd, part, bytes, n);
  if (st) {
    close(fd);
  } else {
    st = commit(fd, part, path);
  }
  if (st) unlink(part);
done:
  mem_free(part);
  return st;
}

status file_commit(const char *path) {
  status st = STATUS_OK;
  char *part = NULL;
  TRY(mem_format(&part, "%s.part", path));
  int fd = open(part, O_RDWR | O_CLOEXEC);
  if (fd < 0) THROW(STATUS_FAILED, "%s: cannot be opened: %s", part, strerror(errno));
  TRY(commit(fd, part, path));
done:
  mem_free(part);
  return st;
}

bool file_exists(const char *path) {
  return access(path, F_OK) == 0;
}

bool file_same(const char *a, const char *b) {
  struct stat x, y;
  return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int64_t file_size(const char *path) {
  struct stat info;
  return stat(path, &info) ? -1 : (int64_t)info.st_size;
}

/* What permissions say is not all: the folder may be one that takes no files, the name with ".part" too long.
 * The file that tries it has no name, since PATH.part may be made by another process at that moment; where
 * the file system has no such files, it has that name. */
static status probe(const char *path, const char *folder) {
  status st = STATUS_OK;
  struct stat info;
  char *part = NULL;
  TRY(mem_format(&part, "%s.part", path));
  if (!lstat(part, &info)) goto done;
  int fd = errno == ENOENT ? open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600) : -1;
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT)) {
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) unlink(part);
  }
  const int reason = errno;
  if (fd < 0 && reason != EEXIST) {
    bool full = reason == ENOSPC || reason == EDQUOT || reason == EIO;
    THROW(full ? STATUS_FAILED : STATUS_BAD_INPUT, "%s: cannot be written: %s: %s", path, part,
          strerror(reason));
  }
  if (fd >= 0) close(fd);
done:
  mem_free(part);
  return st;
}

status file_check_writable(const char *path) {
  status st = STATUS_OK;
  struct stat info;
  char *folder = NULL;
  if (!*file_name(path)) THROW(STATUS_BAD_INPUT, "'%s': is not the name of a file", path);
  TRY(file_folder(&folder, path));
  if (stat(folder, &info))
    THROW(STATUS_BAD_INPUT, "%s: cannot be written: folder '%s': %s", path, folder, strerror(errno));
  if (!S_ISDIR(info.st_mode))
    THROW(STATUS_BAD_INPUT, "%s: cannot be written: '%s' is not a folder", path, folder);
  if (access(folder, W_OK | X_OK))
    THROW(STATUS_BAD_INPUT, "%s: cannot be written: folder '%s': %s", path, folder, strerror(errno));
  if (!stat(path, &info) && S_ISDIR(info.st_mode))
    THROW(STATUS_BAD_INPUT, "%s: cannot be written: it is a folder", path);
  if (!access(path, F_OK) && access(path, W_OK))
    THROW(STATUS_BAD_INPUT, "%s: cannot be written: %s", path, strerror(errno));
  TRY(probe(path, folder));
done:
  mem_free(folder);
  return st;
}

static status make_one(const char *path) {
  struct stat info;
  if (!mkdir(path, 0777)) return STATUS_OK;
  int reason = errno;
  if (!stat(path, &info)) { /* also when another rank was faster */
    if (S_ISDIR(info.st_mode)) return STATUS_OK;
    return status_set(STATUS_BAD_INPUT, "%s: is a file, a folder is needed", path);
  }
  return status_set(STATUS_BAD_INPUT, "%s: cannot be made: %s", path, strerror(reason));
}

status file_make_folder(const char *path) {
  status st = STATUS_OK;
  char *text = NULL;
  if (!*path) THROW(STATUS_BAD_INPUT, "'': is not the name of a folder");
  TRY(mem_string(&text, path));
  for (char *slash = strchr(text + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    TRY(make_one(text));
    *slash = '/';
  }
  TRY(make_one(text));
  if (access(path, W_OK | X_OK)) THROW(STATUS_BAD_INPUT, "%s: cannot be written: %s", path, strerror(errno));
done:
  mem_free(text);
  return st;
}

status file_join(char **out, const char *folder, const char *name) {
  size_t n = strlen(folder);
  return mem_format(out, "%s%s%s", folder, n && folder[n - 1] != '/' ? "/" : "", name);
}

status file_folder(char **out, const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return mem_string(out, ".");
  return mem_string_n(out, path, slash == path ? 1 : (size_t)(slash - path));
}

const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
