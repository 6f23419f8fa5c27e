/* NumPy's .npy, versions 1 to 3: magic, version, length of the header (little-endian), the header: a Python
 * dictionary as text. */
#include "import/importers.h"
#include "import/pairs.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

enum { HEADER_MAX = 1 << 16 };

typedef struct npy_text {
  const char *path;
  const char *at;
  bool descr, order, shape; /* seen */
} npy_text;

static status malformed(const npy_text *t) {
  return status_set(STATUS_BAD_INPUT,
                    "%s: its npy header cannot be understood at '%.40s', expected {'descr': '<f4', "
                    "'fortran_order': False, 'shape': (N, ...)}",
                    t->path, t->at);
}

static bool skip(npy_text *t, char c) {
  while (*t->at == ' ' || *t->at == '\n') t->at++;
  if (*t->at != c) return false;
  t->at++;
  return true;
}

/* A quoted word of up to 31 characters. */
static bool word(npy_text *t, char out[32]) {
  while (*t->at == ' ') t->at++;
  char quote = *t->at;
  if (quote != '\'' && quote != '"') return false;
  const char *end = strchr(t->at + 1, quote);
  if (!end || end - t->at > 31) return false;
  size_t n = (size_t)(end - t->at - 1);
  memcpy(out, t->at + 1, n);
  out[n] = '\0';
  t->at = end + 1;
  return true;
}

static status parse_type(npy_text *t, pair_array *a) {
  char text[32];
  if (skip(t, '['))
    return status_set(
        STATUS_BAD_INPUT,
        "%s: holds records with named fields, expected plain numbers: save each field by itself", t->path);
  if (!word(t, text)) return malformed(t);
  const char *kind = text + (*text && strchr("<>|=", *text) ? 1 : 0);
  a->big_endian = *text == '>' || (*text == '=' && number_machine_is_big_endian());
  a->kind = number_find(kind);
  t->descr = true;
  if (a->kind) return STATUS_OK;
  if (*kind == 'O')
    return status_set(STATUS_BAD_INPUT, "%s: holds Python objects, expected numbers: x.astype('f4')",
                      t->path);
  return status_set(
      STATUS_BAD_INPUT,
      "%s: holds numbers of type '%s', expected f2, f4, f8, u1, u2, u4, u8, i1, i2, i4, i8 or b1: "
      "x.astype('f4')",
      t->path, text);
}

static status parse_order(npy_text *t, const pair_array *a) {
  (void)a;
  while (*t->at == ' ') t->at++;
  t->order = true;
  if (!strncmp(t->at, "False", 5)) {
    t->at += 5;
    return STATUS_OK;
  }
  if (strncmp(t->at, "True", 4)) return malformed(t);
  return status_set(
      STATUS_BAD_INPUT,
      "%s: is in Fortran order, expected rows one after another: np.save(file, np.ascontiguousarray(x))",
      t->path);
}

static bool parse_size(npy_text *t, int64_t *out) {
  while (*t->at == ' ') t->at++;
  if (!isdigit((unsigned char)*t->at)) return false;
  for (*out = 0; isdigit((unsigned char)*t->at); t->at++) {
    if (*out > (INT64_MAX - 9) / 10) return false;
    *out = *out * 10 + (*t->at - '0');
  }
  return true;
}

static status parse_shape(npy_text *t, pair_array *a) {
  if (!skip(t, '(')) return malformed(t);
  t->shape = true;
  for (a->rank = 0; !skip(t, ')'); a->rank++) {
    if (a->rank == ARRAY_MAX_RANK)
      return status_set(STATUS_BAD_INPUT, "%s: has more than %d dimensions", t->path, ARRAY_MAX_RANK);
    if (!parse_size(t, &a->dims[a->rank])) return malformed(t);
    if (!skip(t, ',') && *t->at != ')') return malformed(t);
  }
  if (a->rank) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: is a single number, expected an array with rows", t->path);
}

static status parse(npy_text *t, pair_array *a) {
  status st = STATUS_OK;
  char key[32];
  if (!skip(t, '{')) return malformed(t);
  while (!skip(t, '}')) {
    if (!word(t, key) || !skip(t, ':')) return malformed(t);
    if (!strcmp(key, "descr")) {
      TRY(parse_type(t, a));
    } else if (!strcmp(key, "fortran_order")) {
      TRY(parse_order(t, a));
    } else if (!strcmp(key, "shape")) {
      TRY(parse_shape(t, a));
    } else {
      return malformed(t);
    }
    if (!skip(t, ',') && *t->at != '}') return malformed(t);
  }
  if (!t->descr || !t->order || !t->shape) return malformed(t);
done:
  return st;
}

static status header_size(input *in, size_t *size) {
  status st = STATUS_OK;
  unsigned char magic[8], n[4] = {0};
  TRY(input_exactly(in, magic, sizeof magic, "the npy header"));
  if (memcmp(magic, "\x93NUMPY", 6))
    THROW(STATUS_BAD_INPUT,
          "%s: is not an npy file: it does not begin with \\x93NUMPY (.npz archives must be unpacked)",
          input_path(in));
  if (magic[6] < 1 || magic[6] > 3)
    THROW(STATUS_BAD_INPUT, "%s: is npy version %d.%d, expected 1, 2 or 3", input_path(in), magic[6],
          magic[7]);
  TRY(input_exactly(in, n, magic[6] == 1 ? 2 : 4, "the npy header"));
  *size = (size_t)n[0] | (size_t)n[1] << 8 | (size_t)n[2] << 16 | (size_t)n[3] << 24;
  if (*size > HEADER_MAX)
    THROW(STATUS_BAD_INPUT, "%s: its npy header is %zu bytes long, expected at most %d: the file is damaged",
          input_path(in), *size, HEADER_MAX);
done:
  return st;
}

static status header(input *in, pair_array *a) {
  status st = STATUS_OK;
  char *text = NULL;
  size_t n = 0;
  TRY(header_size(in, &n));
  TRY(mem_new(&text, n + 1, 1));
  TRY(input_exactly(in, text, n, "the npy header"));
  *a = (pair_array){0};
  TRY(parse(&(npy_text){.path = input_path(in), .at = text}, a));
done:
  mem_free(text);
  return st;
}

static status run(const import_job *job) {
  return pairs_import(job, &(pair_format){.header = header});
}

const importer importer_npy = {
    .name = "npy",
    .help = "NumPy arrays: SPLIT=X[,Y]; X becomes features [n, D], image [n, C, H, W] or input, Y label "
            "(whole numbers) or target",
    .run = run,
};
