#include "import/input.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

struct input {
  const char *path;
  import_meter *meter;
  gzFile file;
  int64_t offset, size;
};

enum { BUFFER_BYTES = 1 << 18, READ_BYTES = 1 << 20 };

static status open_regular(input *in) {
  status st = STATUS_OK;
  struct stat info;
  int fd = open(in->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) THROW(STATUS_BAD_INPUT, "%s: cannot be opened: %s", in->path, strerror(errno));
  if (fstat(fd, &info)) THROW(STATUS_BAD_INPUT, "%s: cannot be read: %s", in->path, strerror(errno));
  if (S_ISDIR(info.st_mode)) THROW(STATUS_BAD_INPUT, "%s: is a folder, a file is needed", in->path);
  if (S_ISREG(info.st_mode)) in->size = info.st_size;
  in->file = gzdopen(fd, "rb");
  if (!in->file) THROW(STATUS_FAILED, "%s: out of memory", in->path);
  fd = -1;
  gzbuffer(in->file, BUFFER_BYTES);
  if (!gzdirect(in->file)) in->size = -1;
done:
  if (fd >= 0) close(fd);
  return st;
}

status input_open(input **out, const char *path, import_meter *meter) {
  status st = STATUS_OK;
  input *in = NULL;
  *out = NULL;
  TRY(mem_new(&in, 1, sizeof *in));
  *in = (input){.path = path, .meter = meter, .size = -1};
  TRY(open_regular(in));
  *out = in;
  in = NULL;
done:
  input_close(&in);
  return st;
}

void input_close(input **in) {
  input *i = *in;
  if (!i) return;
  if (i->file) {
    if (i->meter) i->meter->done += (double)gzoffset(i->file);
    gzclose_r(i->file);
  }
  mem_free(i);
  *in = NULL;
}

const char *input_path(const input *in) {
  return in->path;
}

int64_t input_offset(const input *in) {
  return in->offset;
}

int64_t input_size(const input *in) {
  return in->size;
}

/* zlib reports a stream that stops early only through gzerror, not through gzread. */
static status check(const input *in) {
  int code;
  const char *text = gzerror(in->file, &code);
  if (code == Z_OK || code == Z_STREAM_END) return STATUS_OK;
  if (code == Z_BUF_ERROR)
    return status_set(STATUS_BAD_INPUT,
                      "%s: its gzip data stops early (after %lld bytes of content): the file is truncated",
                      in->path, (long long)in->offset);
  if (code == Z_ERRNO)
    return status_set(STATUS_BAD_INPUT, "%s: cannot be read: %s", in->path, strerror(errno));
  return status_set(STATUS_BAD_INPUT, "%s: its gzip data is damaged (after %lld bytes of content): %s",
                    in->path, (long long)in->offset, text);
}

status input_read(input *in, void *to, size_t n, size_t *got) {
  status st = STATUS_OK;
  size_t sum = 0;
  while (sum < n) {
    unsigned piece = n - sum < READ_BYTES ? (unsigned)(n - sum) : READ_BYTES;
    int read = gzread(in->file, (char *)to + sum, piece);
    if (read > 0) {
      sum += (size_t)read;
      in->offset += read;
    }
    if (read < (int)piece) TRY(check(in));
    if (in->meter) progress_update(&in->meter->progress, in->meter->done + (double)gzoffset(in->file));
    if (read < (int)piece) break;
  }
done:
  *got = sum;
  return st;
}

status input_exactly(input *in, void *to, size_t n, const char *what) {
  status st = STATUS_OK;
  size_t got;
  TRY(input_read(in, to, n, &got));
  if (got < n)
    THROW(STATUS_BAD_INPUT, "%s: ends at byte %lld, in the middle of %s: the file is truncated", in->path,
          (long long)in->offset, what);
done:
  return st;
}

status input_at_end(input *in) {
  status st = STATUS_OK;
  char byte;
  size_t got;
  TRY(input_read(in, &byte, 1, &got));
  if (got)
    THROW(STATUS_BAD_INPUT, "%s: goes on after byte %lld, where its header says that it ends", in->path,
          (long long)in->offset - 1);
done:
  return st;
}
