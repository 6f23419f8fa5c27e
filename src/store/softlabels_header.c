#include "store/softlabels_private.h"

#include "base/file.h"
#include "base/mem.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- attributes that are one value: read, written, sent and compared by this table ---- */

typedef struct field {
  const char *name;
  enum { TEXT, INT, REAL } kind;
  size_t at;
  bool needed;   /* in any file */
  bool ensemble; /* only in an ensemble's */
  bool rare;     /* left out where it is 0 or empty */
} field;

static const field fields[] = {
    {"teacher", TEXT, offsetof(softlabels_header, teacher), false, false, false},
    {"model_hash", TEXT, offsetof(softlabels_header, model_hash), false, false, false},
    {"dataset_hash", TEXT, offsetof(softlabels_header, dataset_hash), false, false, false},
    {"scale_offset_classes", TEXT, offsetof(softlabels_header, reading), false, false, true},
    {"split", TEXT, offsetof(softlabels_header, split), true, false, false},
    {"block_rows", INT, offsetof(softlabels_header, block_rows), false, false, false},
    {"batch_rows", INT, offsetof(softlabels_header, batch_rows), false, false, false},
    {"values", INT, offsetof(softlabels_header, values), false, false, false},
    {"method", TEXT, offsetof(softlabels_header, method), false, true, false},
    {"temperature", REAL, offsetof(softlabels_header, temperature), false, true, false},
    {"floor", REAL, offsetof(softlabels_header, floor), false, false, true},
    {"epsilon", REAL, offsetof(softlabels_header, epsilon), false, true, true},
    {"delta", REAL, offsetof(softlabels_header, delta), false, true, true},
    {"augment", TEXT, offsetof(softlabels_header, augment), false, false, true},
    {"augment_seed", TEXT, offsetof(softlabels_header, augment_seed), false, false, true},
    {"views", INT, offsetof(softlabels_header, views), false, false, true},
    {"mixed_processors", INT, offsetof(softlabels_header, mixed_processors), false, false, true},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static char **text_of(const softlabels_header *h, const field *f) {
  return (char **)((char *)h + f->at);
}

static int64_t *int_of(const softlabels_header *h, const field *f) {
  return (int64_t *)((char *)h + f->at);
}

static double *real_of(const softlabels_header *h, const field *f) {
  return (double *)((char *)h + f->at);
}

static bool is_empty(const softlabels_header *h, const field *f) {
  return f->kind == TEXT ? !**text_of(h, f) : f->kind == INT ? !*int_of(h, f) : *real_of(h, f) == 0;
}

void softlabels_header_clear(softlabels_header *h) {
  for (int i = 0; i < N_FIELDS; i++)
    if (fields[i].kind == TEXT) mem_free(*text_of(h, &fields[i]));
  h5_texts_free(&h->teachers, &h->n_teachers);
  h5_texts_free(&h->classes, &h->n_classes);
  mem_free(h->weights);
  mem_free(h->calibration);
  mem_free(h->class_weights);
  softlabels_features_clear(h);
  *h = (softlabels_header){0};
}

/* ---- shape ---- */

/* Values behind the first `from` dimensions. */
static int64_t product(const int64_t *dims, int from, int rank) {
  int64_t n = 1;
  for (int i = from; i < rank; i++) n *= dims[i];
  return n;
}

void softlabels_part_add(softlabels *s, const char *object, int type, int rank, const int64_t *dims) {
  part *p = &s->parts[s->n_parts++];
  *p = (part){.object = object, .type = type, .rank = rank};
  memcpy(p->dims, dims, (size_t)rank * sizeof *dims);
  p->row_bytes = (size_t)product(dims, 1, rank) * h5_type_bytes(type);
}

static status set_blocks(softlabels *s) {
  softlabels_header *h = &s->h;
  s->classes = h->dims[1];
  s->positions = product(h->dims, 2, h->rank);
  if (h->block_rows < 1)
    return status_set(STATUS_BAD_INPUT, "%s: block_rows is %" PRId64 "; at least 1 is expected", s->path,
                      h->block_rows);
  int64_t n = (h->dims[0] - 1) / h->block_rows + 1;
  if (n > INT_MAX)
    return status_set(STATUS_BAD_INPUT, "%s: %" PRId64 " blocks are too many; take larger ones", s->path, n);
  s->n_blocks = (int)n;
  return STATUS_OK;
}

static void add_top_parts(softlabels *s) {
  const softlabels_header *h = &s->h;
  int64_t top[ARRAY_MAX_RANK] = {h->dims[0]};
  for (int i = 2; i < h->rank; i++) top[i - 1] = h->dims[i];
  top[h->rank - 1] = h->top_k;
  softlabels_part_add(s, "/topk/index", ELEMENT_INT32, h->rank, top);
  softlabels_part_add(s, "/topk/logit", (int)h->type, h->rank, top);
  softlabels_part_add(s, "/topk/rest", ELEMENT_FLOAT32, h->rank - 1, top);
}

status softlabels_layout(softlabels *s) {
  softlabels_header *h = &s->h;
  int64_t values = 8;
  if (h->rank < 2 || h->rank > ARRAY_MAX_RANK)
    return status_set(STATUS_BAD_INPUT, "%s: logits with %d dimensions; 2 to %d are possible", s->path,
                      h->rank, ARRAY_MAX_RANK);
  for (int i = 0; i < h->rank; i++)
    if (h->dims[i] < 1 || __builtin_mul_overflow(values, h->dims[i], &values))
      return status_set(STATUS_BAD_INPUT, "%s: logits cannot have a dimension of %" PRId64, s->path,
                        h->dims[i]);
  if (h->top_k < 0 || h->top_k > h->dims[1])
    return status_set(STATUS_BAD_INPUT, "%s: the %" PRId64 " largest of %" PRId64 " classes cannot be taken",
                      s->path, h->top_k, h->dims[1]);
  status st = set_blocks(s);
  if (st) return st;
  s->has_blocks = true;
  if (!h->top_k) {
    softlabels_part_add(s, "/logits", (int)h->type, h->rank, h->dims);
    if (h->partial) softlabels_part_add(s, "/answered", ELEMENT_UINT8, 1, h->dims);
  } else {
    add_top_parts(s);
  }
  st = softlabels_features_layout(s);
  return st ? st : mem_new(&s->done, (size_t)s->n_blocks, 1);
}
/* ---- reading, in the child process of wire_fetch ---- */

#define BIT(e) (1u << (e))
static const unsigned reals = BIT(ELEMENT_FLOAT16) | BIT(ELEMENT_FLOAT32) | BIT(ELEMENT_FLOAT64);
static const unsigned indices = BIT(ELEMENT_INT32) | BIT(ELEMENT_INT64);

static status parse_part(softlabels *s, hid_t file, const char *object, unsigned types) {
  status st = STATUS_OK;
  h5_array a = {0};
  TRY(h5_array_open(&a, file, s->path, object));
  if (!(types & BIT(a.type)))
    THROW(STATUS_BAD_INPUT, "%s: %s is expected", a.label,
          types == reals     ? "float16, float32 or float64"
          : types == indices ? "int32 or int64"
                             : "uint8");
  softlabels_part_add(s, object, a.type, a.rank, a.dims);
done:
  h5_array_close(&a);
  return st;
}

static status parse_dense(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  TRY(parse_part(s, file, "/logits", reals));
  part *p = &s->parts[PART_LOGITS];
  if (p->rank < 2)
    THROW(STATUS_BAD_INPUT, "%s: /logits has one dimension; rows and classes are expected", s->path);
  s->h.type = (element)p->type;
  s->h.rank = p->rank;
  memcpy(s->h.dims, p->dims, sizeof p->dims);
  s->h.partial = h5_exists(file, "answered");
  if (!s->h.partial) goto done;
  TRY(parse_part(s, file, "/answered", BIT(ELEMENT_UINT8)));
  if (s->parts[PART_ANSWERED].rank != 1 || s->parts[PART_ANSWERED].dims[0] != s->h.dims[0])
    THROW(STATUS_BAD_INPUT, "%s: /answered is uint8 [n], one for each row of /logits; this one is not",
          s->path);
done:
  return st;
}

static status parse_top(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  int64_t n_classes;
  TRY(parse_part(s, file, "/topk/index", indices));
  TRY(parse_part(s, file, "/topk/logit", reals));
  TRY(parse_part(s, file, "/topk/rest", reals));
  const part *p = s->parts;
  int rank = p[PART_INDEX].rank;
  size_t head = (size_t)(rank - 1) * sizeof *p->dims;
  if (rank < 2 || p[PART_LOGIT].rank != rank || p[PART_REST].rank != rank - 1 ||
      memcmp(p[PART_INDEX].dims, p[PART_LOGIT].dims, head + sizeof *p->dims) ||
      memcmp(p[PART_INDEX].dims, p[PART_REST].dims, head))
    THROW(STATUS_BAD_INPUT,
          "%s: /topk/index, /topk/logit and /topk/rest are [n, ..., K], [n, ..., K] and [n, ...]; theirs do "
          "not go together",
          s->path);
  TRY(h5_get_int(file, s->path, "n_classes", 1, INT32_MAX, s->h.n_classes, &n_classes));
  if (!n_classes)
    THROW(STATUS_BAD_INPUT, "%s: its attribute n_classes is missing; a top-k file needs it (or /classes)",
          s->path);
  s->h.type = (element)p[PART_LOGIT].type;
  s->h.top_k = p[PART_INDEX].dims[rank - 1];
  s->h.rank = rank;
  s->h.dims[0] = p[PART_INDEX].dims[0];
  s->h.dims[1] = n_classes;
  for (int i = 2; i < rank; i++) s->h.dims[i] = p[PART_INDEX].dims[i - 1];
  int64_t bytes = 8;
  for (int i = 0; i < rank; i++)
    if (__builtin_mul_overflow(bytes, s->h.dims[i], &bytes))
      THROW(STATUS_BAD_INPUT, "%s: has more logits than can be counted", s->path);
  if (s->h.top_k > n_classes)
    THROW(STATUS_BAD_INPUT, "%s: holds the %" PRId64 " largest of only %" PRId64 " classes", s->path,
          s->h.top_k, n_classes);
done:
  return st;
}

/* Class ids instead of names become their digits. */
static status parse_ids(softlabels *s, const h5_array *a) {
  status st = STATUS_OK;
  int64_t *ids = NULL, n = a->dims[0];
  int32_t *narrow;
  if (a->rank != 1 || !(indices & BIT(a->type)) || n > INT_MAX / 16)
    THROW(STATUS_BAD_INPUT, "%s: a list of strings, int32 or int64 is expected", a->label);
  TRY(mem_new(&ids, (size_t)n, sizeof *ids));
  TRY(h5_array_read(a, 0, n, ids));
  narrow = (int32_t *)ids;
  TRY(mem_new(&s->h.classes, (size_t)n, sizeof *s->h.classes));
  for (int64_t i = 0; i < n; i++, s->h.n_classes++)
    TRY(mem_format(&s->h.classes[i], "%" PRId64, a->type == ELEMENT_INT64 ? ids[i] : narrow[i]));
done:
  mem_free(ids);
  return st;
}

static status parse_classes(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  h5_array a = {0};
  if (!h5_exists(file, "classes")) return st;
  st = h5_read_texts(file, s->path, "classes", &s->h.classes, &s->h.n_classes);
  if (!st) return st;
  st = STATUS_OK;
  TRY(h5_array_open(&a, file, s->path, "/classes"));
  TRY(parse_ids(s, &a));
done:
  h5_array_close(&a);
  return st;
}

static status parse_blocks(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  h5_array done = {0}, checksum = {0};
  s->has_blocks = h5_exists(file, "blocks");
  if (s->has_blocks && !s->h.block_rows)
    THROW(STATUS_BAD_INPUT, "%s: has /blocks but no attribute block_rows", s->path);
  if (!s->h.block_rows) s->h.block_rows = s->h.dims[0];
  TRY(set_blocks(s));
  if (!s->has_blocks) goto done;
  TRY(h5_array_open(&done, file, s->path, "/blocks/done"));
  TRY(h5_array_open(&checksum, file, s->path, "/blocks/checksum"));
  if (done.type != ELEMENT_UINT8 || done.rank != 1 || done.dims[0] != s->n_blocks ||
      checksum.type != H5_UINT64 || checksum.rank != 1 || checksum.dims[0] != s->n_blocks)
    THROW(STATUS_BAD_INPUT,
          "%s: /blocks/done and /blocks/checksum are uint8 and uint64 [%d] for %" PRId64
          " rows in blocks of %" PRId64 "; theirs are not",
          s->path, s->n_blocks, s->h.dims[0], s->h.block_rows);
  TRY(mem_new(&s->done, (size_t)s->n_blocks, 1));
  TRY(h5_array_read(&done, 0, s->n_blocks, s->done));
done:
  h5_array_close(&done);
  h5_array_close(&checksum);
  return st;
}

static status parse_fields(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  double *values = NULL;
  int64_t n;
  for (int i = 0; i < N_FIELDS; i++) {
    const field *f = &fields[i];
    if (f->kind == TEXT) TRY(h5_get_text(file, s->path, f->name, text_of(&s->h, f)));
    if (f->kind == TEXT && f->needed && !*text_of(&s->h, f))
      THROW(STATUS_BAD_INPUT, "%s: its attribute %s is missing", s->path, f->name);
    if (f->kind == TEXT && !*text_of(&s->h, f))
      TRY(mem_string(text_of(&s->h, f), strcmp(f->name, "teacher") ? "" : file_name(s->path)));
    if (f->kind == INT) TRY(h5_get_int(file, s->path, f->name, 1, INT64_MAX / 2, 0, int_of(&s->h, f)));
    if (f->kind != REAL) continue;
    TRY(h5_get_numbers(file, s->path, f->name, &values, &n));
    if (n > 1 || (n && (!isfinite(values[0]) || values[0] < 0)))
      THROW(STATUS_BAD_INPUT, "%s: %s is not one finite number from 0 on", s->path, f->name);
    if (n) *real_of(&s->h, f) = values[0];
    mem_free(values);
    values = NULL;
  }
done:
  mem_free(values);
  return st;
}

static status parse_ensemble(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  int64_t n_weights;
  TRY(h5_get_texts(file, s->path, "teachers", &s->h.teachers, &s->h.n_teachers));
  TRY(h5_get_numbers(file, s->path, "weights", &s->h.weights, &n_weights));
  if (n_weights && n_weights != s->h.n_teachers)
    THROW(STATUS_BAD_INPUT, "%s: has %" PRId64 " weights for %d teachers", s->path, n_weights,
          s->h.n_teachers);
  if (!n_weights && s->h.n_teachers)
    TRY(mem_new(&s->h.weights, (size_t)s->h.n_teachers, sizeof *s->h.weights));
  for (int i = 0; !n_weights && i < s->h.n_teachers; i++) s->h.weights[i] = 1.0 / s->h.n_teachers;
  TRY(h5_get_numbers(file, s->path, "calibration", &s->h.calibration, &n_weights));
  if (n_weights && n_weights != s->h.n_teachers)
    THROW(STATUS_BAD_INPUT, "%s: has %" PRId64 " temperatures (calibration) for %d teachers", s->path,
          n_weights, s->h.n_teachers);
done:
  return st;
}

static status parse_class_weights(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  h5_array a = {0};
  if (!h5_exists(file, "weights") || !s->h.n_teachers) return st;
  TRY(h5_array_open(&a, file, s->path, "/weights"));
  if (a.type != ELEMENT_FLOAT64 || a.rank != 2 || a.dims[0] != s->h.n_teachers || a.dims[1] != s->h.dims[1])
    THROW(STATUS_BAD_INPUT, "%s: float64 [%d, %" PRId64 "] is expected, a weight for each teacher and class",
          a.label, s->h.n_teachers, s->h.dims[1]);
  TRY(mem_new(&s->h.class_weights, (size_t)(a.dims[0] * a.dims[1]), sizeof *s->h.class_weights));
  TRY(h5_array_read(&a, 0, a.dims[0], s->h.class_weights));
done:
  h5_array_close(&a);
  return st;
}

static status parse_encoding(softlabels *s, hid_t file) {
  status st = STATUS_OK;
  char *encoding = NULL;
  TRY(h5_get_text(file, s->path, "encoding", &encoding));
  if (encoding && !strcmp(encoding, "dense"))
    TRY(parse_dense(s, file));
  else if (encoding && !strcmp(encoding, "topk"))
    TRY(parse_top(s, file));
  else
    THROW(STATUS_BAD_INPUT, "%s: its attribute encoding is %s; dense or topk is expected", s->path,
          encoding ? encoding : "missing");
  if (s->h.n_classes && s->h.n_classes != s->h.dims[1])
    THROW(STATUS_BAD_INPUT, "%s: /classes has %d entries, the logits have %" PRId64 " classes", s->path,
          s->h.n_classes, s->h.dims[1]);
done:
  mem_free(encoding);
  return st;
}

/* ---- on its way ---- */

/* Numbers that may be missing. */
static status optional_wire(wire *w, double **values, int64_t n) {
  status st = STATUS_OK;
  int there = *values != NULL;
  TRY(wire_int(w, &there));
  if (!there) goto done;
  if (w->reading) TRY(mem_new(values, (size_t)n, sizeof **values));
  TRY(wire_bytes(w, *values, (size_t)n * sizeof **values));
done:
  return st;
}

static status header_wire(wire *w, softlabels_header *h) {
  status st = STATUS_OK;
  for (int i = 0; i < N_FIELDS; i++) {
    if (fields[i].kind == TEXT) TRY(wire_text(w, text_of(h, &fields[i])));
    if (fields[i].kind == INT) TRY(wire_bytes(w, int_of(h, &fields[i]), sizeof(int64_t)));
    if (fields[i].kind == REAL) TRY(wire_bytes(w, real_of(h, &fields[i]), sizeof(double)));
  }
  TRY(wire_bytes(w, &h->type, sizeof h->type));
  TRY(wire_int(w, &h->rank));
  TRY(wire_bytes(w, h->dims, sizeof h->dims));
  TRY(wire_bytes(w, &h->top_k, sizeof h->top_k));
  TRY(wire_texts(w, &h->n_teachers, &h->teachers));
  if (w->reading && h->n_teachers) TRY(mem_new(&h->weights, (size_t)h->n_teachers, sizeof *h->weights));
  TRY(wire_bytes(w, h->weights, (size_t)h->n_teachers * sizeof *h->weights));
  TRY(wire_texts(w, &h->n_classes, &h->classes));
  TRY(optional_wire(w, &h->calibration, h->n_teachers));
  TRY(optional_wire(w, &h->class_weights, h->n_teachers * h->dims[1]));
  TRY(wire_bytes(w, &h->partial, sizeof h->partial));
  TRY(softlabels_features_wire(w, h));
done:
  return st;
}

static status softlabels_wire(wire *w, softlabels *s) {
  static const char *const names[2][LOGIT_PARTS_MAX] = {{"/logits", "/answered"},
                                                        {"/topk/index", "/topk/logit", "/topk/rest"}};
  status st = STATUS_OK;
  TRY(header_wire(w, &s->h));
  TRY(wire_bytes(w, &s->classes, sizeof s->classes));
  TRY(wire_bytes(w, &s->positions, sizeof s->positions));
  TRY(wire_int(w, &s->n_parts));
  TRY(wire_bytes(w, s->parts, sizeof s->parts));
  TRY(wire_int(w, &s->n_logit_parts));
  for (int i = 0; i < s->n_logit_parts; i++) s->parts[i].object = names[s->h.top_k > 0][i];
  for (int i = 0; i < s->h.n_features; i++) s->parts[s->n_logit_parts + i].object = s->h.features[i].object;
  TRY(wire_bytes(w, &s->has_blocks, sizeof s->has_blocks));
  TRY(wire_int(w, &s->n_blocks));
  if (!s->has_blocks) goto done;
  if (w->reading) TRY(mem_new(&s->done, (size_t)s->n_blocks, 1));
  TRY(wire_bytes(w, s->done, (size_t)s->n_blocks));
done:
  return st;
}

static void clear(softlabels *s) {
  softlabels_header_clear(&s->h);
  mem_free(s->done);
}

static status parse(const char *path, wire *w) {
  status st = STATUS_OK;
  hid_t file = 0;
  softlabels s = {.path = (char *)path};
  TRY(h5_open(&file, path));
  TRY(h5_check_format(file, path, "mpistill-softlabels"));
  TRY(parse_fields(&s, file));
  TRY(parse_ensemble(&s, file));
  TRY(parse_classes(&s, file));
  TRY(parse_encoding(&s, file));
  TRY(parse_class_weights(&s, file));
  TRY(softlabels_features_parse(&s, file));
  TRY(softlabels_features_layout(&s));
  TRY(parse_blocks(&s, file));
  TRY(softlabels_wire(w, &s));
done:
  clear(&s);
  h5_close(&file);
  return st;
}

static status parse_format(const char *path, wire *w) {
  status st = STATUS_OK;
  hid_t file = 0;
  char *format = NULL;
  int is = 0;
  TRY(h5_open(&file, path));
  TRY(h5_get_text(file, path, "format", &format));
  is = format && !strcmp(format, "mpistill-softlabels");
  TRY(wire_int(w, &is));
done:
  mem_free(format);
  h5_close(&file);
  return st;
}

status softlabels_recognise(comm *c, const char *path, bool *is) {
  status st = STATUS_OK;
  wire w = {0};
  int found = 0;
  TRY(wire_fetch(&w, c, path, parse_format));
  TRY(comm_agree(c, wire_int(&w, &found)));
  *is = found;
done:
  wire_free(&w);
  return st;
}

status softlabels_fetch(softlabels *s, comm *c, const char *path) {
  status st = STATUS_OK;
  wire w = {0};
  TRY(wire_fetch(&w, c, path, parse));
  TRY(comm_agree(c, softlabels_wire(&w, s)));
done:
  wire_free(&w);
  return st;
}

status softlabels_header_copy(softlabels_header *to, const softlabels_header *from) {
  status st = STATUS_OK;
  wire w = {0};
  softlabels_header borrowed = *from;
  TRY(header_wire(&w, &borrowed));
  w.reading = true;
  TRY(header_wire(&w, to));
  for (int i = 0; i < N_FIELDS; i++)
    if (fields[i].kind == TEXT && !*text_of(to, &fields[i])) TRY(mem_string(text_of(to, &fields[i]), ""));
done:
  wire_free(&w);
  return st;
}

/* ---- writing and comparing ---- */

static status write_class_weights(hid_t file, const char *path, const softlabels_header *h) {
  status st = STATUS_OK;
  h5_array a = {0};
  const int64_t dims[] = {h->n_teachers, h->dims[1]};
  TRY(h5_array_create(&a, file, path, "/weights", ELEMENT_FLOAT64, 2, dims));
  TRY(h5_array_write(&a, 0, dims[0], h->class_weights));
done:
  h5_array_close(&a);
  return st;
}

status softlabels_header_write(hid_t file, const char *path, const softlabels *s) {
  status st = STATUS_OK;
  const softlabels_header *h = &s->h;
  TRY(h5_put_text(file, path, "format", "mpistill-softlabels"));
  TRY(h5_put_int(file, path, "version", 1));
  TRY(h5_put_text(file, path, "encoding", h->top_k ? "topk" : "dense"));
  if (h->top_k) TRY(h5_put_int(file, path, "n_classes", h->dims[1]));
  for (int i = 0; i < N_FIELDS; i++) {
    const field *f = &fields[i];
    if ((f->ensemble && !*h->method) || (f->rare && is_empty(h, f))) continue;
    if (f->kind == TEXT) TRY(h5_put_text(file, path, f->name, *text_of(h, f)));
    if (f->kind == INT && *int_of(h, f)) TRY(h5_put_int(file, path, f->name, *int_of(h, f)));
    if (f->kind == REAL) TRY(h5_put_doubles(file, path, f->name, real_of(h, f), 1));
  }
  if (h->n_teachers) {
    TRY(h5_put_texts(file, path, "teachers", (const char *const *)h->teachers, h->n_teachers));
    TRY(h5_put_doubles(file, path, "weights", h->weights, h->n_teachers));
    if (h->calibration) TRY(h5_put_doubles(file, path, "calibration", h->calibration, h->n_teachers));
  }
  if (h->class_weights) TRY(write_class_weights(file, path, h));
  if (h->n_classes) TRY(h5_write_texts(file, path, "classes", (const char *const *)h->classes, h->n_classes));
done:
  return st;
}

static status differs(const char *path, const char *what, const char *was, const char *is) {
  return status_set(STATUS_BAD_INPUT, "%s: was begun with %s %s, now it is %s; --restart begins anew", path,
                    what, was, is);
}

static status differs_list(const char *path, const char *what) {
  return status_set(STATUS_BAD_INPUT, "%s: was begun with other %s; --restart begins anew", path, what);
}

static void field_text(const softlabels_header *h, const field *f, char *out, size_t room) {
  if (f->kind == TEXT) snprintf(out, room, "'%s'", *text_of(h, f));
  if (f->kind == INT) snprintf(out, room, "%" PRId64, *int_of(h, f));
  if (f->kind == REAL) snprintf(out, room, "%.17g", *real_of(h, f));
}

static bool same_texts(char *const *a, int n, char *const *b, int m) {
  if (n != m) return false;
  for (int i = 0; i < n; i++)
    if (strcmp(a[i], b[i])) return false;
  return true;
}

status softlabels_header_same(const char *path, const softlabels_header *begun,
                              const softlabels_header *now) {
  char was[256], is[256];
  for (int i = 0; i < N_FIELDS; i++) {
    field_text(begun, &fields[i], was, sizeof was);
    field_text(now, &fields[i], is, sizeof is);
    if (strcmp(was, is)) return differs(path, fields[i].name, was, is);
  }
  if (begun->type != now->type)
    return differs(path, "type", element_name(begun->type), element_name(now->type));
  snprintf(was, sizeof was, "%" PRId64, begun->top_k);
  snprintf(is, sizeof is, "%" PRId64, now->top_k);
  if (strcmp(was, is)) return differs(path, "top-k", was, is);
  if (begun->rank != now->rank || memcmp(begun->dims, now->dims, (size_t)now->rank * sizeof *now->dims))
    return differs_list(path, "numbers of rows and classes");
  if (!same_texts(begun->teachers, begun->n_teachers, now->teachers, now->n_teachers))
    return differs_list(path, "teachers");
  for (int i = 0; i < now->n_teachers; i++)
    if (begun->weights[i] != now->weights[i]) return differs_list(path, "weights");
  if (begun->partial != now->partial) return differs_list(path, "rows without an answer");
  if (!same_texts(begun->classes, begun->n_classes, now->classes, now->n_classes))
    return differs_list(path, "classes");
  return softlabels_features_same(path, begun, now);
}
