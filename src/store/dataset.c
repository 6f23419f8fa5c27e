#include "store/dataset_private.h"

#include "base/file.h"
#include "base/mem.h"
#include "store/h5.h"
#include "store/wire.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const text_names[DATASET_TEXTS] = {
    [DATASET_NAME] = "name", [DATASET_SOURCE] = "source", [DATASET_LICENCE] = "licence"};

/* ---- what an array of a split is for: its name says it ---- */

typedef struct role {
  unsigned types; /* bits of element */
  const char *type_names;
  size_t n, list; /* where in split its number and its arrays are */
} role;

#define BIT(e) (1u << (e))
enum { INPUT, LABEL, TARGET, LENGTH };
static const role roles[] = {
    [INPUT] = {.types = BIT(ELEMENT_UINT8) | BIT(ELEMENT_INT32) | BIT(ELEMENT_INT64) | BIT(ELEMENT_FLOAT16) |
                        BIT(ELEMENT_FLOAT32),
               .type_names = "uint8, int32, int64, float16 or float32",
               .n = offsetof(split, n_inputs),
               .list = offsetof(split, inputs)},
    [LABEL] = {.types = BIT(ELEMENT_UINT8) | BIT(ELEMENT_INT32) | BIT(ELEMENT_INT64),
               .type_names = "int32, int64 or uint8",
               .n = offsetof(split, n_labels),
               .list = offsetof(split, labels)},
    [TARGET] = {.types = BIT(ELEMENT_FLOAT16) | BIT(ELEMENT_FLOAT32),
                .type_names = "float32 or float16",
                .n = offsetof(split, n_targets),
                .list = offsetof(split, targets)},
    [LENGTH] = {.types = BIT(ELEMENT_UINT8) | BIT(ELEMENT_INT32) | BIT(ELEMENT_INT64),
                .type_names = "int32, int64 or uint8",
                .n = offsetof(split, n_lengths),
                .list = offsetof(split, lengths)},
};
enum { N_ROLES = sizeof roles / sizeof *roles };

static int *role_n(split *s, int i) {
  return (int *)((char *)s + roles[i].n);
}

static array **role_list(split *s, int i) {
  return (array **)((char *)s + roles[i].list);
}

static bool is_family(const char *name, const char *family) {
  size_t n = strlen(family);
  return !strncmp(name, family, n) && (!name[n] || name[n] == '.');
}

static int role_of(const char *name) {
  const char *suffix = ".length";
  size_t n = strlen(name), end = strlen(suffix);
  if (is_family(name, "label")) return LABEL;
  if (is_family(name, "target")) return TARGET;
  return n > end && !strcmp(name + n - end, suffix) ? LENGTH : INPUT;
}

bool array_is_scaled(const array *a) {
  for (int64_t i = 0; i < a->n_scale; i++)
    if (a->scale[i] != 1 || a->offset[i] != 0) return true;
  return false;
}

/* ---- reading the headers, in the child process of wire_fetch ---- */

/* An attribute of one number or one per channel, spread over n. */
static status spread(const array *a, const char *label, const char *what, const double *values, int64_t n,
                     float fill, float *out) {
  for (int64_t i = 0; i < a->n_scale; i++) out[i] = n ? (float)values[n == 1 ? 0 : i] : fill;
  for (int64_t i = 0; i < a->n_scale; i++)
    if (!isfinite(out[i])) return status_set(STATUS_BAD_INPUT, "%s: %s is not a finite number", label, what);
  return STATUS_OK;
}

static status parse_scale(const h5_array *h, const char *path, array *a) {
  status st = STATUS_OK;
  double *scale = NULL, *offset = NULL;
  int64_t n_scale, n_offset;
  TRY(h5_get_numbers(h->set, path, "scale", &scale, &n_scale));
  TRY(h5_get_numbers(h->set, path, "offset", &offset, &n_offset));
  a->n_scale = n_scale > 1 || n_offset > 1 ? (a->rank > 1 ? a->dims[1] : 0) : 1;
  if ((n_scale > 1 && n_scale != a->n_scale) || (n_offset > 1 && n_offset != a->n_scale))
    THROW(STATUS_BAD_INPUT,
          "%s: scale and offset have %" PRId64 " and %" PRId64 " entries; 1 or one per channel (%" PRId64
          ") is expected",
          h->label, n_scale, n_offset, a->n_scale);
  TRY(mem_new(&a->scale, (size_t)a->n_scale, sizeof *a->scale));
  TRY(mem_new(&a->offset, (size_t)a->n_scale, sizeof *a->offset));
  TRY(spread(a, h->label, "scale", scale, n_scale, 1, a->scale));
  TRY(spread(a, h->label, "offset", offset, n_offset, 0, a->offset));
done:
  mem_free(scale);
  mem_free(offset);
  return st;
}

static status parse_array(hid_t file, const char *path, split *s, const char *name) {
  status st = STATUS_OK;
  h5_array h = {0};
  char *object = NULL;
  int r = role_of(name);
  array *a = &(*role_list(s, r))[*role_n(s, r)];
  TRY(mem_format(&object, "/%s/%s", s->name, name));
  TRY(h5_array_open(&h, file, path, object));
  if (h.type == H5_UINT64 || !(roles[r].types & BIT(h.type)))
    THROW(STATUS_BAD_INPUT, "%s: is %s; %s is expected", h.label,
          h.type == H5_UINT64 ? "uint64" : element_name(h.type), roles[r].type_names);
  if (r == LENGTH && h.rank != 1)
    THROW(STATUS_BAD_INPUT, "%s: has %d dimensions; lengths have one", h.label, h.rank);
  if (s->n && h.dims[0] != s->n)
    THROW(STATUS_BAD_INPUT,
          "%s: has %" PRId64 " rows, another array of this split %" PRId64 "; all need the same number",
          h.label, h.dims[0], s->n);
  ++*role_n(s, r);
  a->type = (element)h.type;
  a->rank = h.rank;
  a->row_values = h.row_values;
  memcpy(a->dims, h.dims, sizeof a->dims);
  s->n = h.dims[0];
  TRY(mem_string(&a->name, name));
  TRY(parse_scale(&h, path, a));
done:
  h5_array_close(&h);
  mem_free(object);
  return st;
}

static status check_lengths(const split *s, const char *path) {
  for (int i = 0; i < s->n_lengths; i++) {
    const char *name = s->lengths[i].name;
    bool found = false;
    for (int j = 0; j < s->n_inputs && !found; j++)
      found = strlen(s->inputs[j].name) + strlen(".length") == strlen(name) &&
              !strncmp(name, s->inputs[j].name, strlen(s->inputs[j].name));
    if (!found)
      return status_set(STATUS_BAD_INPUT, "%s: /%s/%s belongs to no array of this split", path, s->name,
                        name);
  }
  return STATUS_OK;
}

static status parse_split(hid_t file, const char *path, const char *name, split *s) {
  status st = STATUS_OK;
  char **names = NULL;
  bool *is_group = NULL;
  int n = 0;
  hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
  if (group < 0) TRY(h5_fail(STATUS_BAD_INPUT, path, name, "cannot be read"));
  TRY(mem_string(&s->name, name));
  TRY(h5_list(group, path, name, &names, &is_group, &n));
  for (int r = 0; r < N_ROLES; r++) TRY(mem_new(role_list(s, r), (size_t)n, sizeof(array)));
  for (int i = 0; i < n; i++) {
    if (is_group[i])
      THROW(STATUS_BAD_INPUT, "%s: /%s/%s is a group; a split holds arrays only", path, name, names[i]);
    TRY(parse_array(file, path, s, names[i]));
  }
  if (!s->n_inputs) THROW(STATUS_BAD_INPUT, "%s: split '%s' has no array but labels and targets", path, name);
  TRY(check_lengths(s, path));
done:
  h5_texts_free(&names, &n);
  mem_free(is_group);
  h5_close(&group);
  return st;
}

static status parse_objects(hid_t file, const char *path, dataset *d) {
  status st = STATUS_OK;
  char **names = NULL;
  bool *is_group = NULL;
  int n = 0;
  TRY(h5_list(file, path, "", &names, &is_group, &n));
  TRY(mem_new(&d->splits, (size_t)n, sizeof *d->splits));
  for (int i = 0; i < n; i++) {
    if (is_group[i])
      TRY(parse_split(file, path, names[i], &d->splits[d->n_splits++]));
    else if (!strcmp(names[i], "classes"))
      TRY(h5_read_texts(file, path, "classes", &d->classes, &d->n_classes));
    else
      THROW(STATUS_BAD_INPUT,
            "%s: /%s is in no split; arrays are in groups as /train, beside them only /classes", path,
            names[i]);
  }
  if (!d->n_splits) THROW(STATUS_BAD_INPUT, "%s: has no splits; arrays are in groups as /train", path);
done:
  h5_texts_free(&names, &n);
  mem_free(is_group);
  return st;
}

/* ---- on their way to all ranks ---- */

static status array_wire(wire *w, array *a) {
  status st = STATUS_OK;
  TRY(wire_text(w, &a->name));
  TRY(wire_bytes(w, &a->type, sizeof a->type));
  TRY(wire_int(w, &a->rank));
  TRY(wire_bytes(w, a->dims, sizeof a->dims));
  TRY(wire_bytes(w, &a->row_values, sizeof a->row_values));
  TRY(wire_bytes(w, &a->n_scale, sizeof a->n_scale));
  if (w->reading) TRY(mem_new(&a->scale, (size_t)a->n_scale, sizeof *a->scale));
  if (w->reading) TRY(mem_new(&a->offset, (size_t)a->n_scale, sizeof *a->offset));
  TRY(wire_bytes(w, a->scale, (size_t)a->n_scale * sizeof *a->scale));
  TRY(wire_bytes(w, a->offset, (size_t)a->n_scale * sizeof *a->offset));
done:
  return st;
}

static status split_wire(wire *w, split *s) {
  status st = STATUS_OK;
  TRY(wire_text(w, &s->name));
  TRY(wire_bytes(w, &s->n, sizeof s->n));
  for (int r = 0; r < N_ROLES; r++) {
    TRY(wire_list(w, role_n(s, r), role_list(s, r), sizeof(array)));
    for (int i = 0; i < *role_n(s, r); i++) TRY(array_wire(w, &(*role_list(s, r))[i]));
  }
done:
  return st;
}

static status dataset_wire(wire *w, dataset *d) {
  status st = STATUS_OK;
  for (int i = 0; i < DATASET_TEXTS; i++) TRY(wire_text(w, &d->texts[i]));
  TRY(wire_texts(w, &d->n_classes, &d->classes));
  TRY(wire_list(w, &d->n_splits, &d->splits, sizeof *d->splits));
  for (int i = 0; i < d->n_splits; i++) TRY(split_wire(w, &d->splits[i]));
done:
  return st;
}

static void clear(dataset *d) {
  for (int i = 0; i < d->n_splits; i++) {
    split *s = &d->splits[i];
    for (int r = 0; r < N_ROLES; r++) {
      for (int j = 0; *role_list(s, r) && j < *role_n(s, r); j++) {
        array *a = &(*role_list(s, r))[j];
        mem_free(a->name);
        mem_free(a->scale);
        mem_free(a->offset);
      }
      mem_free(*role_list(s, r));
    }
    mem_free(s->name);
  }
  mem_free(d->splits);
  for (int i = 0; i < DATASET_TEXTS; i++) mem_free(d->texts[i]);
  h5_texts_free(&d->classes, &d->n_classes);
}

static status parse(const char *path, wire *w) {
  status st = STATUS_OK;
  hid_t file = 0;
  dataset d = {0};
  TRY(h5_open(&file, path));
  TRY(h5_check_format(file, path, "mpistill-dataset"));
  for (int i = 0; i < DATASET_TEXTS; i++) TRY(h5_get_text(file, path, text_names[i], &d.texts[i]));
  TRY(parse_objects(file, path, &d));
  TRY(dataset_wire(w, &d));
done:
  clear(&d);
  h5_close(&file);
  return st;
}

/* ---- the interface ---- */

status dataset_open(dataset **out, comm *c, const char *path) {
  status st = STATUS_OK;
  wire w = {0};
  *out = NULL;
  TRY(wire_fetch(&w, c, path, parse));
  st = mem_new(out, 1, sizeof **out);
  if (!st) {
    (*out)->c = c;
    st = mem_string(&(*out)->path, path);
  }
  if (!st) st = dataset_wire(&w, *out);
  if (!st) st = mem_new(&(*out)->hashes, (size_t)(*out)->n_splits, sizeof *(*out)->hashes);
  st = comm_agree(c, st);
done:
  wire_free(&w);
  if (st) dataset_close(out);
  return st;
}

void dataset_close(dataset **d) {
  if (!*d) return;
  clear(*d);
  mem_free((*d)->hashes);
  mem_free((*d)->path);
  mem_free(*d);
  *d = NULL;
}

const char *dataset_path(const dataset *d) {
  return d->path;
}

const char *dataset_name(const dataset *d) {
  return d->texts[DATASET_NAME] && *d->texts[DATASET_NAME] ? d->texts[DATASET_NAME] : file_name(d->path);
}

const char *dataset_text(const dataset *d, const char *attribute) {
  for (int i = 0; i < DATASET_TEXTS; i++)
    if (!strcmp(attribute, text_names[i])) return d->texts[i] ? d->texts[i] : "";
  return "";
}

int dataset_n_splits(const dataset *d) {
  return d->n_splits;
}

const split *dataset_split_at(const dataset *d, int i) {
  return &d->splits[i];
}

int dataset_n_classes(const dataset *d) {
  return d->n_classes;
}

const char *const *dataset_classes(const dataset *d) {
  return (const char *const *)d->classes;
}

/* "a, b, c" of up to what fits. */
static void join(char *text, size_t room, int n, const char *(*name)(const void *of, int i), const void *of) {
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; i < n && used < room; i++) {
    int more = snprintf(text + used, room - used, "%s%s", i ? ", " : "", name(of, i));
    if (more < 0) return;
    used += (size_t)more;
  }
}

static const char *split_name_at(const void *d, int i) {
  return ((const dataset *)d)->splits[i].name;
}

static const char *input_name_at(const void *s, int i) {
  return ((const split *)s)->inputs[i].name;
}

status dataset_split(const dataset *d, const char *name, const split **out) {
  char names[1024];
  for (int i = 0; i < d->n_splits; i++)
    if (!strcmp(d->splits[i].name, name)) {
      *out = &d->splits[i];
      return STATUS_OK;
    }
  join(names, sizeof names, d->n_splits, split_name_at, d);
  return status_set(STATUS_BAD_INPUT, "%s: has no split '%s'; it has: %s", d->path, name, names);
}

status dataset_input(const dataset *d, const split *s, const char *name, const array **out) {
  char names[1024];
  for (int i = 0; i < s->n_inputs; i++)
    if (name ? !strcmp(s->inputs[i].name, name) : s->n_inputs == 1) {
      *out = &s->inputs[i];
      return STATUS_OK;
    }
  join(names, sizeof names, s->n_inputs, input_name_at, s);
  if (name)
    return status_set(STATUS_BAD_INPUT, "%s: split '%s' has no array '%s'; it has: %s", d->path, s->name,
                      name, names);
  return status_set(
      STATUS_BAD_INPUT,
      "%s: split '%s' has several arrays, name one: %s (--input, in a recipe input; or name the model's "
      "input like it)",
      d->path, s->name, names);
}
