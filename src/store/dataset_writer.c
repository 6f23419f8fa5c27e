#include "store/dataset.h"

#include "base/file.h"
#include "base/mem.h"
#include "store/h5.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

typedef struct slot {
  char *split, *name;
  h5_array a;
  int64_t rows; /* written so far */
  bool grows;
} slot;

struct dataset_writer {
  char *path, *part;
  hid_t file;
  int n;
  slot *slots;
};

status dataset_writer_new(dataset_writer **out, const char *path, bool force, const char *name,
                          const char *source, const char *licence) {
  status st = STATUS_OK;
  *out = NULL;
  TRY(file_check_writable(path));
  if (file_exists(path) && !force) THROW(STATUS_BAD_INPUT, "%s: exists already; --force overwrites it", path);
  TRY(mem_new(out, 1, sizeof **out));
  dataset_writer *w = *out;
  TRY(mem_string(&w->path, path));
  TRY(mem_format(&w->part, "%s.part", path));
  TRY(h5_create(&w->file, w->part));
  TRY(h5_put_text(w->file, path, "format", "mpistill-dataset"));
  TRY(h5_put_int(w->file, path, "version", 1));
  TRY(h5_put_text(w->file, path, "name", name ? name : ""));
  TRY(h5_put_text(w->file, path, "source", source ? source : ""));
  TRY(h5_put_text(w->file, path, "licence", licence ? licence : ""));
done:
  if (st) dataset_writer_free(out);
  return st;
}

static slot *find(dataset_writer *w, const char *split, const char *name) {
  for (int i = 0; i < w->n; i++)
    if (!strcmp(w->slots[i].split, split) && !strcmp(w->slots[i].name, name)) return &w->slots[i];
  return NULL;
}

static bool is_name(const char *name) {
  return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

status dataset_writer_array(dataset_writer *w, const char *split, const array_spec *a) {
  status st = STATUS_OK;
  char *object = NULL;
  hid_t group = 0;
  if (!is_name(split) || !is_name(a->name))
    THROW(STATUS_BAD_INPUT, "%s: '%s/%s' cannot be the name of an array", w->path, split, a->name);
  if (find(w, split, a->name)) THROW(STATUS_BAD_INPUT, "%s: /%s/%s is there twice", w->path, split, a->name);
  TRY(mem_resize(&w->slots, (size_t)w->n, (size_t)w->n + 1, sizeof *w->slots));
  slot *s = &w->slots[w->n++];
  s->grows = a->dims[0] < 0;
  TRY(mem_string(&s->split, split));
  TRY(mem_string(&s->name, a->name));
  TRY(mem_format(&object, "/%s/%s", split, a->name));
  if (!h5_exists(w->file, split)) TRY(h5_group(&group, w->file, w->path, split));
  TRY(h5_array_create(&s->a, w->file, w->path, object, (int)a->type, a->rank, a->dims));
  if (a->n_scale) TRY(dataset_writer_scale(w, split, a->name, a->n_scale, a->scale, a->offset));
done:
  h5_close(&group);
  mem_free(object);
  return st;
}

status dataset_writer_append(dataset_writer *w, const char *split, const char *name, const void *rows,
                             int64_t n) {
  slot *s = find(w, split, name);
  if (!s) return status_set(STATUS_FAILED, "%s: /%s/%s was not begun", w->path, split, name);
  if (!s->grows && n > s->a.dims[0] - s->rows)
    return status_set(STATUS_BAD_INPUT, "%s: more rows come than the %" PRId64 " that were announced",
                      s->a.label, s->a.dims[0]);
  status st = s->grows ? h5_array_append(&s->a, n, rows) : h5_array_write(&s->a, s->rows, n, rows);
  if (!st) s->rows += n;
  return st;
}

status dataset_writer_scale(dataset_writer *w, const char *split, const char *name, int64_t n,
                            const float *scale, const float *offset) {
  slot *s = find(w, split, name);
  if (!s) return status_set(STATUS_FAILED, "%s: /%s/%s was not begun", w->path, split, name);
  status st = h5_put_floats(s->a.set, w->path, "scale", scale, n);
  return st ? st : h5_put_floats(s->a.set, w->path, "offset", offset, n);
}

status dataset_writer_classes(dataset_writer *w, const char *const *names, int n) {
  return h5_write_texts(w->file, w->path, "classes", names, n);
}

/* Every array complete, and as many rows as the others of its split. */
static status check_rows(const dataset_writer *w) {
  for (int i = 0; i < w->n; i++) {
    const slot *s = &w->slots[i];
    if (!s->rows) return status_set(STATUS_BAD_INPUT, "%s: has no rows", s->a.label);
    if (s->rows != s->a.dims[0])
      return status_set(STATUS_BAD_INPUT, "%s: %" PRId64 " rows came of %" PRId64 " that were announced",
                        s->a.label, s->rows, s->a.dims[0]);
    for (int j = 0; j < i; j++)
      if (!strcmp(w->slots[j].split, s->split) && w->slots[j].rows != s->rows)
        return status_set(STATUS_BAD_INPUT, "%s: has %" PRId64 " rows, /%s/%s has %" PRId64, s->a.label,
                          s->rows, s->split, w->slots[j].name, w->slots[j].rows);
  }
  return w->n ? STATUS_OK : status_set(STATUS_BAD_INPUT, "%s: there is nothing to write", w->path);
}

status dataset_writer_complete(dataset_writer *w) {
  status st = STATUS_OK;
  TRY(check_rows(w));
  TRY(h5_flush(w->file, w->path));
  for (int i = 0; i < w->n; i++) h5_array_close(&w->slots[i].a);
  TRY(h5_finish(&w->file, w->path));
  mem_free(w->part);
  w->part = NULL;
done:
  return st;
}

status dataset_writer_finish(dataset_writer *w) {
  status st = dataset_writer_complete(w);
  return st ? st : file_commit(w->path);
}

void dataset_writer_free(dataset_writer **out) {
  dataset_writer *w = *out;
  if (!w) return;
  for (int i = 0; i < w->n; i++) {
    h5_array_close(&w->slots[i].a);
    mem_free(w->slots[i].split);
    mem_free(w->slots[i].name);
  }
  h5_close(&w->file);
  if (w->part) unlink(w->part);
  mem_free(w->slots);
  mem_free(w->part);
  mem_free(w->path);
  mem_free(w);
  *out = NULL;
}
