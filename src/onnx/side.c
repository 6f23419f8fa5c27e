#include "onnx/side.h"

#include "base/file.h"
#include "base/mem.h"
#include "onnx/tensor_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading ---- */

typedef struct place { /* where the bytes of a tensor are */
  const char *location;
  int64_t offset, length; /* length -1: not said */
} place;

static bool leads_out(const char *location) {
  if (!*location || *location == '/') return true;
  for (const char *at = location; at; at = strchr(at, '/')) {
    at += *at == '/';
    if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || !at[2])) return true;
  }
  return false;
}

static bool number(const char *text, int64_t *out) {
  char *end;
  errno = 0;
  *out = strtoll(text, &end, 10);
  return *text >= '0' && *text <= '9' && !*end && !errno;
}

static status read_place(const Onnx__TensorProto *t, const char *what, place *p) {
  *p = (place){.location = "", .length = -1};
  for (size_t i = 0; i < t->n_external_data; i++) {
    const char *key = proto_text(t->external_data[i]->key), *text = proto_text(t->external_data[i]->value);
    int64_t *to = strcmp(key, "offset") == 0 ? &p->offset : strcmp(key, "length") == 0 ? &p->length : NULL;
    if (strcmp(key, "location") == 0) p->location = text;
    if (to && !number(text, to))
      return status_set(STATUS_BAD_INPUT, "%s is kept in another file: its %s, '%s', is no number", what, key,
                        text);
  }
  if (!leads_out(p->location)) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "%s is kept in the file '%s', which is not named by a path inside the model's folder",
                    what, p->location);
}

/* By the paths that are left when all links are followed. */
static status open_inside(const char *model_path, const place *p, const char *what, int *fd) {
  status st = STATUS_OK;
  char *folder = NULL, *joined = NULL;
  char real_folder[PATH_MAX], real[PATH_MAX];
  struct stat info;
  TRY(file_folder(&folder, model_path));
  TRY(file_join(&joined, folder, p->location));
  if (!realpath(folder, real_folder) || !realpath(joined, real))
    THROW(STATUS_BAD_INPUT, "%s is kept in %s, which cannot be read: %s", what, joined, strerror(errno));
  size_t n = strcmp(real_folder, "/") ? strlen(real_folder) : 0;
  if (strncmp(real, real_folder, n) || real[n] != '/')
    THROW(STATUS_BAD_INPUT, "%s is kept in %s, which is a link out of the model's folder (to %s)", what,
          joined, real);
  *fd = open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (*fd < 0 || fstat(*fd, &info))
    THROW(STATUS_BAD_INPUT, "%s is kept in %s, which cannot be read: %s", what, joined, strerror(errno));
  if (!S_ISREG(info.st_mode)) THROW(STATUS_BAD_INPUT, "%s is kept in %s, which is not a file", what, joined);
  if (p->length > info.st_size || p->offset > info.st_size - p->length)
    THROW(STATUS_BAD_INPUT, "%s is kept in %" PRId64 " bytes of %s from byte %" PRId64 " on, which has %lld",
          what, p->length, joined, p->offset, (long long)info.st_size);
done:
  mem_free(folder);
  mem_free(joined);
  return st;
}

static status read_at(int fd, const place *p, const char *what, unsigned char *to) {
  for (int64_t done = 0; done < p->length;) {
    ssize_t n = pread(fd, to + done, (size_t)(p->length - done), (off_t)(p->offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return status_set(STATUS_FAILED, "%s: %s cannot be read: %s", what, p->location,
                        n ? strerror(errno) : "it has become shorter");
    done += n;
  }
  return STATUS_OK;
}

/* The tensor holds `bytes` from now on. */
static void take_inside(Onnx__TensorProto *t, unsigned char *take, size_t n) {
  for (size_t i = 0; i < t->n_external_data; i++) proto_free(t->external_data[i]);
  mem_free(t->external_data);
  t->external_data = NULL;
  t->n_external_data = 0;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT;
  t->has_data_location = false;
  mem_free(t->raw_data.data);
  t->raw_data = (ProtobufCBinaryData){.data = take, .len = n};
  t->has_raw_data = true;
}

typedef struct reader {
  const char *model_path;
  hash_stream *h;
  int64_t *n_bytes;
} reader;

static status load_tensor(const reader *r, Onnx__TensorProto *t, const char *what) {
  status st = STATUS_OK;
  place p;
  int64_t expected;
  unsigned char *bytes = NULL;
  int fd = -1;
  if (t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) return STATUS_OK;
  TRY(tensor_proto_bytes(t, what, &expected));
  TRY(read_place(t, what, &p));
  if (p.length < 0) p.length = expected;
  if (p.length != expected)
    THROW(STATUS_BAD_INPUT, "%s is kept in %" PRId64 " bytes of another file, but takes %" PRId64, what,
          p.length, expected);
  TRY(open_inside(r->model_path, &p, what, &fd));
  TRY(mem_new(&bytes, (size_t)p.length, 1));
  TRY(read_at(fd, &p, what, bytes));
  hash_add(r->h, bytes, (size_t)p.length);
  *r->n_bytes += p.length;
  take_inside(t, bytes, (size_t)p.length);
  bytes = NULL;
done:
  if (fd >= 0) close(fd);
  mem_free(bytes);
  return st;
}

static status load_named(const reader *r, Onnx__TensorProto *t, const char *kind, const char *name) {
  char *what = NULL;
  status st = mem_format(&what, "%s: %s '%s'", r->model_path, kind, name);
  if (!st) st = load_tensor(r, t, what);
  mem_free(what);
  return st;
}

status side_load(Onnx__GraphProto *g, const char *model_path, hash_stream *h, int64_t *n_bytes) {
  status st = STATUS_OK;
  const reader r = {model_path, h, n_bytes};
  for (size_t i = 0; i < g->n_initializer; i++)
    TRY(load_named(&r, g->initializer[i], "initializer", proto_text(g->initializer[i]->name)));
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_attribute; k++)
      if (g->node[i]->attribute[k]->t)
        TRY(load_named(&r, g->node[i]->attribute[k]->t, "an attribute of node",
                       proto_text(g->node[i]->name)));
done:
  return st;
}

/* ---- writing ---- */

enum { ALIGNMENT = 4096 }; /* of a page: readers may map the file */

/* What a tensor says of its place. */
typedef struct entry {
  char offset[24], length[24];
  Onnx__StringStringEntryProto pairs[3];
  Onnx__StringStringEntryProto *list[3];
} entry;

struct side_file {
  char *model, *path, *part; /* part: NULL once it is committed */
  int fd;
  int64_t end;
  entry **entries;
  size_t n;
};

status side_create(side_file **out, const char *model_path) {
  status st = STATUS_OK;
  size_t n = strlen(model_path), suffix = strlen(".part");
  if (n > suffix && strcmp(model_path + n - suffix, ".part") == 0) n -= suffix;
  TRY(mem_new(out, 1, sizeof **out));
  side_file *f = *out;
  f->fd = -1;
  TRY(mem_string_n(&f->model, model_path, n));
  TRY(mem_format(&f->path, "%s.data", f->model));
  TRY(mem_format(&f->part, "%s.part", f->path));
  TRY(file_create_part(f->part, &f->fd));
done:
  return st;
}

static status write_at(const side_file *f, const unsigned char *bytes, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t wrote = pwrite(f->fd, bytes + done, n - done, (off_t)f->end + (off_t)done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0)
      return status_set(STATUS_FAILED, "%s: cannot be written: %s", f->part,
                        wrote ? strerror(errno) : "nothing was taken");
    done += (size_t)wrote;
  }
  return STATUS_OK;
}

static void set_pair(entry *e, int i, char *key, char *value) {
  onnx__string_string_entry_proto__init(&e->pairs[i]);
  e->pairs[i].key = key;
  e->pairs[i].value = value;
  e->list[i] = &e->pairs[i];
}

status side_add(side_file *f, Onnx__TensorProto *t, const void *bytes, size_t n) {
  static char location[] = "location", offset[] = "offset", length[] = "length";
  status st = STATUS_OK;
  entry *e;
  f->end = (f->end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  TRY(write_at(f, bytes, n));
  TRY(mem_resize(&f->entries, f->n, f->n + 1, sizeof *f->entries));
  TRY(mem_new(&f->entries[f->n], 1, sizeof *e));
  e = f->entries[f->n++];
  snprintf(e->offset, sizeof e->offset, "%" PRId64, f->end);
  snprintf(e->length, sizeof e->length, "%zu", n);
  set_pair(e, 0, location, (char *)file_name(f->path));
  set_pair(e, 1, offset, e->offset);
  set_pair(e, 2, length, e->length);
  f->end += (int64_t)n;
  t->has_raw_data = false;
  t->raw_data = (ProtobufCBinaryData){0};
  t->has_data_location = true;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  t->external_data = e->list;
  t->n_external_data = 3;
done:
  return st;
}

status side_commit(side_file *f) {
  if (unlink(f->model) && errno != ENOENT)
    return status_set(STATUS_FAILED, "%s: cannot be replaced: %s", f->model, strerror(errno));
  status st = file_commit(f->path);
  if (st) return st;
  mem_free(f->part);
  f->part = NULL;
  return STATUS_OK;
}

void side_free(side_file **out) {
  side_file *f = *out;
  if (!f) return;
  if (f->fd >= 0) close(f->fd);
  if (f->fd >= 0 && f->part) unlink(f->part);
  for (size_t i = 0; i < f->n; i++) mem_free(f->entries[i]);
  mem_free(f->entries);
  mem_free(f->model);
  mem_free(f->path);
  mem_free(f->part);
  mem_free(f);
  *out = NULL;
}
