#include "store/h5.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 1 << 16, TEXTS_MAX = 1 << 20, TEXTS_MAX_BYTES = 1 << 26 };

/* Strings stand in attributes and in datasets: the same calls under two names. */
typedef struct holder {
  hid_t id;
  bool attribute;
  const char *path, *name;
} holder;

static status bad(const holder *h, const char *what) {
  return h5_fail(STATUS_BAD_INPUT, h->path, h->name, what);
}

static hid_t holder_type(const holder *h) {
  return h->attribute ? H5Aget_type(h->id) : H5Dget_type(h->id);
}

static hid_t holder_space(const holder *h) {
  return h->attribute ? H5Aget_space(h->id) : H5Dget_space(h->id);
}

static herr_t holder_read(const holder *h, hid_t type, void *out) {
  return h->attribute ? H5Aread(h->id, type, out) : H5Dread(h->id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
}

/* Scalar or one-dimensional: the number of entries. */
static status count_entries(const holder *h, hid_t space, int64_t max, int64_t *n) {
  int rank = H5Sget_simple_extent_ndims(space);
  hssize_t points = H5Sget_simple_extent_npoints(space);
  if (rank < 0 || rank > 1 || points < 1)
    return bad(h, "holds no value, or a table; one value or a list is expected");
  if (points > max) return bad(h, "has too many entries");
  *n = points;
  return STATUS_OK;
}

static status read_fixed(const holder *h, hid_t type, int64_t n, char **out) {
  status st = STATUS_OK;
  char *bytes = NULL;
  size_t size = H5Tget_size(type);
  bool spaces = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
  if (!size || size > TEXT_MAX_BYTES || (size_t)n > TEXTS_MAX_BYTES / size)
    return bad(h, "has strings that are too long");
  TRY(mem_new(&bytes, (size_t)n, size));
  if (holder_read(h, type, bytes) < 0) TRY(bad(h, "cannot be read"));
  for (int64_t i = 0; i < n; i++) {
    size_t length = strnlen(bytes + (size_t)i * size, size);
    while (spaces && length && bytes[(size_t)i * size + length - 1] == ' ') length--;
    TRY(mem_string_n(&out[i], bytes + (size_t)i * size, length));
  }
done:
  mem_free(bytes);
  return st;
}

static status read_variable(const holder *h, hid_t type, hid_t space, int64_t n, char **out) {
  status st = STATUS_OK;
  char **texts = NULL;
  bool read = false;
  hid_t memory = H5Tcopy(type);
  TRY(mem_new(&texts, (size_t)n, sizeof *texts));
  if (memory < 0 || holder_read(h, memory, texts) < 0) TRY(bad(h, "cannot be read"));
  read = true;
  for (int64_t i = 0; i < n; i++) {
    size_t length = texts[i] ? strnlen(texts[i], TEXT_MAX_BYTES + 1) : 0;
    if (length > TEXT_MAX_BYTES) TRY(bad(h, "has strings that are too long"));
    TRY(mem_string_n(&out[i], texts[i] ? texts[i] : "", length));
  }
done:
  if (read) H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts);
  mem_free(texts);
  h5_close(&memory);
  return st;
}

static status read_texts(const holder *h, char ***out, int *n) {
  status st = STATUS_OK;
  int64_t count = 0;
  hid_t type = holder_type(h), space = holder_space(h);
  if (type < 0 || space < 0) TRY(bad(h, "cannot be read"));
  if (H5Tget_class(type) != H5T_STRING) TRY(bad(h, "is not text; text is expected"));
  TRY(count_entries(h, space, TEXTS_MAX, &count));
  TRY(mem_new(out, (size_t)count, sizeof **out));
  *n = (int)count;
  if (H5Tis_variable_str(type) > 0)
    TRY(read_variable(h, type, space, count, *out));
  else
    TRY(read_fixed(h, type, count, *out));
done:
  h5_close(&space);
  h5_close(&type);
  return st;
}

void h5_texts_free(char ***texts, int *n) {
  for (int i = 0; *texts && i < *n; i++) mem_free((*texts)[i]);
  mem_free(*texts);
  *texts = NULL;
  *n = 0;
}

/* id 0: there is no such attribute. */
static status attribute_open(holder *h, hid_t at, const char *path, const char *name) {
  *h = (holder){.attribute = true, .path = path, .name = name};
  htri_t there = H5Aexists(at, name);
  if (!there) return STATUS_OK;
  if (there > 0) h->id = H5Aopen(at, name, H5P_DEFAULT);
  if (there < 0 || h->id < 0) {
    h->id = 0;
    return bad(h, "cannot be read");
  }
  return STATUS_OK;
}

status h5_get_texts(hid_t at, const char *path, const char *name, char ***out, int *n) {
  status st = STATUS_OK;
  holder h = {0};
  *out = NULL;
  *n = 0;
  TRY(attribute_open(&h, at, path, name));
  if (h.id) TRY(read_texts(&h, out, n));
done:
  h5_close(&h.id);
  if (st) h5_texts_free(out, n);
  return st;
}

status h5_get_text(hid_t at, const char *path, const char *name, char **out) {
  status st = STATUS_OK;
  char **texts = NULL;
  int n = 0;
  *out = NULL;
  TRY(h5_get_texts(at, path, name, &texts, &n));
  if (n > 1) THROW(STATUS_BAD_INPUT, "%s: %s has %d entries; one is expected", path, name, n);
  if (n) *out = texts[0];
  if (n) texts[0] = NULL;
done:
  h5_texts_free(&texts, &n);
  return st;
}

status h5_get_numbers(hid_t at, const char *path, const char *name, double **out, int64_t *n) {
  enum { NUMBERS_MAX = 1 << 20 };
  status st = STATUS_OK;
  holder h = {0};
  hid_t type = 0, space = 0;
  *out = NULL;
  *n = 0;
  TRY(attribute_open(&h, at, path, name));
  if (!h.id) goto done;
  type = holder_type(&h);
  space = holder_space(&h);
  if (type < 0 || space < 0) TRY(bad(&h, "cannot be read"));
  H5T_class_t class = H5Tget_class(type);
  if (class != H5T_INTEGER && class != H5T_FLOAT) TRY(bad(&h, "is not a number; a number is expected"));
  TRY(count_entries(&h, space, NUMBERS_MAX, n));
  TRY(mem_new(out, (size_t)*n, sizeof **out));
  if (holder_read(&h, H5T_NATIVE_DOUBLE, *out) < 0) TRY(bad(&h, "cannot be read"));
done:
  h5_close(&space);
  h5_close(&type);
  h5_close(&h.id);
  return st;
}

status h5_get_int(hid_t at, const char *path, const char *name, int64_t min, int64_t max, int64_t absent,
                  int64_t *out) {
  status st = STATUS_OK;
  double *values = NULL;
  int64_t n;
  *out = absent;
  TRY(h5_get_numbers(at, path, name, &values, &n));
  if (!n) goto done;
  if (n != 1 || values[0] != floor(values[0]) || values[0] < (double)min || values[0] > (double)max)
    THROW(STATUS_BAD_INPUT, "%s: %s is %g%s; one whole number from %" PRId64 " to %" PRId64 " is expected",
          path, name, values[0], n > 1 ? ", ..." : "", min, max);
  *out = (int64_t)values[0];
done:
  mem_free(values);
  return st;
}

static status put(hid_t at, const char *path, const char *name, hid_t type, hid_t memory, int64_t n,
                  bool list, const void *values) {
  status st = STATUS_OK;
  hsize_t count = (hsize_t)n;
  hid_t space = list ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR), attribute = 0;
  if (H5Aexists(at, name) > 0) H5Adelete(at, name);
  if (space >= 0) attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute <= 0 || H5Awrite(attribute, memory, values) < 0)
    st = h5_fail(STATUS_FAILED, path, name, "cannot be written");
  h5_close(&attribute);
  h5_close(&space);
  return st;
}

/* A fixed-length type that holds the longest of n strings, and the strings one behind the other in it. */
static status pack(const char *const *texts, int n, hid_t *type, char **bytes) {
  status st = STATUS_OK;
  size_t size = 1;
  *type = 0;
  *bytes = NULL;
  for (int i = 0; i < n; i++) size = strlen(texts[i]) > size ? strlen(texts[i]) : size;
  TRY(mem_new(bytes, (size_t)n, size));
  for (int i = 0; i < n; i++) memcpy(*bytes + (size_t)i * size, texts[i], strlen(texts[i]));
  *type = H5Tcopy(H5T_C_S1);
  if (*type < 0 || H5Tset_size(*type, size) < 0 || H5Tset_strpad(*type, H5T_STR_NULLPAD) < 0 ||
      H5Tset_cset(*type, H5T_CSET_UTF8) < 0)
    st = status_set(STATUS_FAILED, "HDF5 cannot make a type of %zu bytes for strings", size);
done:
  return st;
}

static status put_texts(hid_t at, const char *path, const char *name, const char *const *texts, int n,
                        bool list) {
  status st = STATUS_OK;
  char *bytes = NULL;
  hid_t type = 0;
  TRY(pack(texts, n, &type, &bytes));
  TRY(put(at, path, name, type, type, n, list, bytes));
done:
  h5_close(&type);
  mem_free(bytes);
  return st;
}

status h5_put_text(hid_t at, const char *path, const char *name, const char *text) {
  return put_texts(at, path, name, &text, 1, false);
}

status h5_put_texts(hid_t at, const char *path, const char *name, const char *const *texts, int n) {
  return put_texts(at, path, name, texts, n, true);
}

status h5_put_int(hid_t at, const char *path, const char *name, int64_t value) {
  return put(at, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 1, false, &value);
}

status h5_put_doubles(hid_t at, const char *path, const char *name, const double *values, int64_t n) {
  return put(at, path, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, n, n != 1, values);
}

status h5_put_floats(hid_t at, const char *path, const char *name, const float *values, int64_t n) {
  return put(at, path, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, n, n != 1, values);
}

status h5_read_texts(hid_t at, const char *path, const char *name, char ***out, int *n) {
  status st = STATUS_OK;
  holder h = {.path = path, .name = name};
  *out = NULL;
  *n = 0;
  h.id = H5Dopen2(at, name, H5P_DEFAULT);
  if (h.id < 0) TRY(bad(&h, "cannot be read"));
  TRY(h5_check_here(at, h.id, path, name));
  TRY(read_texts(&h, out, n));
done:
  h5_close(&h.id);
  if (st) h5_texts_free(out, n);
  return st;
}

status h5_write_texts(hid_t at, const char *path, const char *name, const char *const *texts, int n) {
  status st = STATUS_OK;
  char *bytes = NULL;
  hsize_t count = (hsize_t)n;
  hid_t type = 0, space = 0, list = 0, set = 0;
  TRY(pack(texts, n, &type, &bytes));
  space = H5Screate_simple(1, &count, NULL);
  list = H5Pcreate(H5P_DATASET_CREATE);
  if (space >= 0 && list >= 0 && H5Pset_obj_track_times(list, 0) >= 0)
    set = H5Dcreate2(at, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  if (set <= 0 || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) < 0)
    st = h5_fail(STATUS_FAILED, path, name, "cannot be written");
done:
  h5_close(&set);
  h5_close(&list);
  h5_close(&space);
  h5_close(&type);
  mem_free(bytes);
  return st;
}

status h5_check_format(hid_t file, const char *path, const char *format) {
  status st = STATUS_OK;
  char *found = NULL;
  int64_t version;
  TRY(h5_get_text(file, path, "format", &found));
  if (!found || strcmp(found, format))
    THROW(STATUS_BAD_INPUT, "%s: its attribute format is %s%s%s; '%s' is expected", path, found ? "'" : "",
          found ? found : "missing", found ? "'" : "", format);
  TRY(h5_get_int(file, path, "version", 1, INT32_MAX, 0, &version));
  if (!version) THROW(STATUS_BAD_INPUT, "%s: its attribute version is missing; 1 is expected", path);
  if (version != 1)
    THROW(STATUS_BAD_INPUT, "%s: is of version %" PRId64 " of this format; this program reads version 1",
          path, version);
done:
  mem_free(found);
  return st;
}
