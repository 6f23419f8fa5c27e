/* Inner tensors of the teacher, beside its logits. */
#include "base/mem.h"
#include "store/numbers.h"
#include "store/softlabels_private.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void softlabels_features_clear(softlabels_header *h) {
  for (int i = 0; h->features && i < h->n_features; i++) {
    mem_free(h->features[i].name);
    mem_free(h->features[i].object);
  }
  mem_free(h->features);
  h->features = NULL;
  h->n_features = 0;
}

/* '/' separates groups in HDF5. */
static char stored(char c) {
  return c == '/' ? '|' : c;
}

static status object_of(const char *name, char **out) {
  status st = mem_format(out, "/features/%s", name);
  for (char *c = st ? NULL : *out + strlen("/features/"); c && *c; c++) *c = stored(*c);
  return st;
}

/* ---- reading, in the child process of wire_fetch ---- */

static status parse_one(softlabels *s, hid_t file, const char *link, softlabels_feature *f) {
  status st = STATUS_OK;
  h5_array a = {0};
  TRY(mem_string(&f->name, link));
  for (char *c = f->name; *c; c++)
    if (*c == '|') *c = '/';
  TRY(object_of(f->name, &f->object));
  TRY(h5_array_open(&a, file, s->path, f->object));
  if (!numbers_are_real((element)a.type) || a.rank < 2)
    THROW(STATUS_BAD_INPUT, "%s: float16, float32 or float64 [n, ...] is expected", a.label);
  f->type = (element)a.type;
  f->rank = a.rank;
  memcpy(f->dims, a.dims, (size_t)a.rank * sizeof *a.dims);
done:
  h5_array_close(&a);
  return st;
}

status softlabels_features_parse(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  hid_t group = 0;
  char **names = NULL;
  bool *is_group = NULL;
  int n = 0;
  if (!h5_exists(file, "features")) return st;
  group = H5Gopen2(file, "features", H5P_DEFAULT);
  if (group < 0) {
    group = 0;
    THROW(STATUS_BAD_INPUT, "%s: /features is not a group", s->path);
  }
  TRY(h5_list(group, s->path, "/features", &names, &is_group, &n));
  if (n > SOFTLABELS_MAX_FEATURES)
    THROW(STATUS_BAD_INPUT, "%s: /features has %d arrays; up to %d are possible", s->path, n,
          SOFTLABELS_MAX_FEATURES);
  TRY(mem_new(&s->h.features, (size_t)n, sizeof *s->h.features));
  s->h.n_features = n;
  for (int i = 0; i < n; i++) {
    if (is_group[i])
      THROW(STATUS_BAD_INPUT, "%s: /features/%s: is a group; arrays are expected ('|' for '/' in a name)",
            s->path, names[i]);
    TRY(parse_one(s, file, names[i], &s->h.features[i]));
  }
done:
  h5_texts_free(&names, &n);
  mem_free(is_group);
  h5_close(&group);
  return st;
}

status softlabels_features_wire(wire *w, softlabels_header *h) {
  status st = STATUS_OK;
  int n = h->n_features;
  TRY(wire_int(w, &n));
  if (w->reading && n) TRY(mem_new(&h->features, (size_t)n, sizeof *h->features));
  h->n_features = n;
  for (int i = 0; i < n; i++) {
    softlabels_feature *f = &h->features[i];
    TRY(wire_text(w, &f->name));
    TRY(wire_bytes(w, &f->type, sizeof f->type));
    TRY(wire_int(w, &f->rank));
    TRY(wire_bytes(w, f->dims, sizeof f->dims));
    if (w->reading) TRY(object_of(f->name, &f->object));
  }
done:
  return st;
}

/* ---- shape ---- */

status softlabels_features_layout(softlabels *s) {
  softlabels_header *h = &s->h;
  s->n_logit_parts = s->n_parts;
  for (int i = 0; i < h->n_features; i++) {
    const softlabels_feature *f = &h->features[i];
    int64_t values = 8;
    if (f->rank < 2 || f->rank > ARRAY_MAX_RANK || f->dims[0] != h->dims[0])
      return status_set(STATUS_BAD_INPUT,
                        "%s: %s has %" PRId64 " rows in %d dimensions; the logits have %" PRId64, s->path,
                        f->object, f->dims[0], f->rank, h->dims[0]);
    for (int d = 0; d < f->rank; d++)
      if (f->dims[d] < 1 || __builtin_mul_overflow(values, f->dims[d], &values))
        return status_set(STATUS_BAD_INPUT, "%s: %s cannot have a dimension of %" PRId64, s->path, f->object,
                          f->dims[d]);
    softlabels_part_add(s, f->object, (int)f->type, f->rank, f->dims);
  }
  return STATUS_OK;
}

status softlabels_features_same(const char *path, const softlabels_header *begun,
                                const softlabels_header *now) {
  bool same = begun->n_features == now->n_features;
  for (int i = 0; same && i < now->n_features; i++) {
    const softlabels_feature *a = &begun->features[i], *b = &now->features[i];
    same = !strcmp(a->name, b->name) && a->type == b->type && a->rank == b->rank &&
           !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
  }
  if (same) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: was begun with other features; --restart begins anew", path);
}

/* ---- rows ---- */

int softlabels_feature_order(const char *a, const char *b) {
  while (*a && stored(*a) == stored(*b)) a++, b++;
  return (unsigned char)stored(*a) - (unsigned char)stored(*b);
}

int softlabels_feature_find(const softlabels *s, const char *name) {
  for (int i = 0; i < s->h.n_features; i++)
    if (!softlabels_feature_order(s->h.features[i].name, name)) return i;
  return -1;
}

status softlabels_feature_load(softlabels *s, int feature, size_t memory_limit) {
  return column_load(&s->columns[s->n_logit_parts + feature], memory_limit);
}

status softlabels_feature_rows(softlabels *s, int feature, const int64_t *ids, int64_t n, float *out) {
  status st = STATUS_OK;
  column_view v = {0};
  const part *p = &s->parts[s->n_logit_parts + feature];
  const int64_t row_values = (int64_t)(p->row_bytes / h5_type_bytes(p->type));
  TRY(column_view_rows(&s->columns[s->n_logit_parts + feature], ids, n, &v));
  for (int64_t i = 0; i < n; i++, out += row_values) {
    numbers_to_float((element)p->type, column_row(&v, i), out, row_values);
    int64_t bad = numbers_not_finite(out, row_values);
    if (bad >= 0)
      THROW(STATUS_BAD_INPUT, "%s: row %" PRId64 " of %s holds %g; a finite number is expected", s->path,
            ids[i], p->object, (double)out[bad]);
  }
done:
  column_unview(&v);
  return st;
}
