#include "import/pairs.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { ROW_BYTES_MAX = 1 << 30 };
static const int64_t TRUSTED_BYTES = (int64_t)4 << 30;
#define LARGEST_ROW ((size_t)256 << 20) /* in a compressed file, where nothing tells whether it is there */

static const float BYTE_SCALE = 1.0f / 255, NO_OFFSET = 0;

typedef struct pair_file {
  input *in;
  pair_array array;
  array_spec spec; /* what it becomes */
  number_convert *convert;
  size_t row_bytes; /* in the file */
  int64_t row_values;
} pair_file;

/* Sizes a hostile header cannot overflow: the product is bounded at every step. */
static status measure_rows(pair_file *f) {
  const char *path = input_path(f->in);
  const pair_array *a = &f->array;
  if (a->dims[0] < 1) return status_set(STATUS_BAD_INPUT, "%s: has no rows", path);
  f->row_values = 1;
  for (int i = 1; i < a->rank; i++) {
    if (a->dims[i] < 1)
      return status_set(STATUS_BAD_INPUT, "%s: dimension %d is %lld, expected at least 1", path, i,
                        (long long)a->dims[i]);
    if (a->dims[i] > ROW_BYTES_MAX / (int64_t)a->kind->bytes / f->row_values)
      return status_set(STATUS_BAD_INPUT,
                        "%s: a row is larger than 1 GiB by its header: the file is damaged, or its first "
                        "dimension is not the rows",
                        path);
    f->row_values *= a->dims[i];
  }
  f->row_bytes = (size_t)f->row_values * a->kind->bytes;
  if (a->dims[0] > INT64_MAX / 2 / (int64_t)f->row_bytes)
    return status_set(STATUS_BAD_INPUT, "%s: its header says %lld rows: the file is damaged", path,
                      (long long)a->dims[0]);
  return STATUS_OK;
}

static status check_size(const pair_file *f) {
  int64_t size = input_size(f->in), needed = input_offset(f->in) + f->array.dims[0] * (int64_t)f->row_bytes;
  if (size < 0 || size == needed) return STATUS_OK;
  return status_set(
      STATUS_BAD_INPUT,
      "%s: has %lld bytes, by its header (%lld rows of %zu bytes) it should have %lld: the file is %s",
      input_path(f->in), (long long)size, (long long)f->array.dims[0], f->row_bytes, (long long)needed,
      size < needed ? "truncated" : "damaged");
}

static status open_file(pair_file *f, const import_job *job, const pair_format *format, const char *path) {
  status st = STATUS_OK;
  TRY(input_open(&f->in, path, job->meter));
  TRY(format->header(f->in, &f->array));
  TRY(measure_rows(f));
  TRY(check_size(f));
done:
  return st;
}

static void describe_inputs(pair_file *f, const pair_format *format) {
  const pair_array *a = &f->array;
  array_spec *s = &f->spec;
  int added = a->rank == 1 || (format->images && a->rank == 3); /* [n] -> [n, 1], [n, H, W] -> [n, 1, H, W] */
  *s = (array_spec){.type = a->kind->input, .rank = a->rank + added};
  s->dims[0] = a->dims[0];
  s->dims[1] = 1;
  for (int i = 1; i < a->rank; i++) s->dims[i + added] = a->dims[i];
  s->name = s->rank == 2 ? "features" : s->rank == 4 ? "image" : "input";
  if (format->images && s->rank == 4 && s->type == ELEMENT_UINT8) {
    s->n_scale = 1;
    s->scale = &BYTE_SCALE;
    s->offset = &NO_OFFSET;
  }
  f->convert = a->kind->to_input;
}

/* Columns of labels, [n, 1], are [n]. */
static void describe_labels(pair_file *f) {
  const pair_array *a = &f->array;
  bool whole = a->kind->to_label;
  f->spec = (array_spec){.name = whole ? "label" : "target",
                         .type = whole ? ELEMENT_INT32 : ELEMENT_FLOAT32,
                         .rank = f->row_values == 1 ? 1 : a->rank};
  for (int i = 0; i < f->spec.rank; i++) f->spec.dims[i] = a->dims[i];
  f->convert = whole ? a->kind->to_label : a->kind->to_target;
}

static void shape_text(const array_spec *s, char text[160]) {
  snprintf(text, 160, "%s of %s", s->name, element_name(s->type));
  for (int i = 1; i < s->rank; i++)
    snprintf(text + strlen(text), 160 - strlen(text), "%s%lld", i == 1 ? " " : "x", (long long)s->dims[i]);
}

/* The rows of all splits must be alike; `first` has rank 0 until one was seen. */
static status check_alike(const pair_file *f, array_spec *first, const char *split) {
  const array_spec *s = &f->spec;
  if (!first->rank) {
    *first = *s;
    return STATUS_OK;
  }
  if (s->rank == first->rank && s->type == first->type && !strcmp(s->name, first->name) &&
      !memcmp(s->dims + 1, first->dims + 1, (size_t)(s->rank - 1) * sizeof *s->dims))
    return STATUS_OK;
  char here[160], there[160];
  shape_text(s, here);
  shape_text(first, there);
  return status_set(STATUS_BAD_INPUT, "%s: split '%s' has rows with %s, the first split's have %s",
                    input_path(f->in), split, here, there);
}

static status bad_value(const pair_file *f, int64_t value) {
  bool label = f->spec.type == ELEMENT_INT32 && f->convert == f->array.kind->to_label;
  return status_set(STATUS_BAD_INPUT, "%s: row %lld, value %lld (from 0): %s", input_path(f->in),
                    (long long)(value / f->row_values), (long long)(value % f->row_values),
                    label ? "is not a label, expected -1 (none) or a whole number from 0 to 2147483647"
                          : "is NaN, infinite or too large to be stored");
}

static status copy_piece(const pair_file *f, const import_job *job, const char *split, int64_t row,
                         int64_t rows, void *from, void *to) {
  status st = STATUS_OK;
  const int64_t values = rows * f->row_values;
  TRY(input_exactly(f->in, from, (size_t)rows * f->row_bytes, "its rows"));
  if (f->array.big_endian != number_machine_is_big_endian()) number_swap(from, f->array.kind->bytes, values);
  int64_t bad = f->convert(from, to, values);
  if (bad >= 0) TRY(bad_value(f, row * f->row_values + bad));
  TRY(dataset_writer_append(job->writer, split, f->spec.name, to, rows));
done:
  return st;
}

/* Room is taken for all rows at once, unless a compressed file's header, which nothing has confirmed yet,
 * asks for very much. */
static status copy_rows(const pair_file *f, const import_job *job, const char *split) {
  status st = STATUS_OK;
  void *from = NULL, *to = NULL;
  const int64_t n = f->array.dims[0];
  int64_t piece = IMPORT_PIECE_BYTES / (int64_t)f->row_bytes;
  if (input_size(f->in) < 0 && f->row_bytes > LARGEST_ROW)
    THROW(STATUS_BAD_INPUT,
          "%s: its header tells of rows of %zu bytes each, which cannot be checked in a compressed file; "
          "unpack it first",
          input_path(f->in), f->row_bytes);
  if (piece < 1) piece = 1;
  if (piece > n) piece = n;
  TRY(mem_new(&from, (size_t)piece, f->row_bytes));
  TRY(mem_new(&to, (size_t)(piece * f->row_values), element_bytes(f->spec.type)));
  array_spec spec = f->spec;
  if (input_size(f->in) < 0 && n > TRUSTED_BYTES / (int64_t)f->row_bytes) spec.dims[0] = -1;
  TRY(dataset_writer_array(job->writer, split, &spec));
  for (int64_t row = 0; row < n; row += piece)
    TRY(copy_piece(f, job, split, row, n - row < piece ? n - row : piece, from, to));
  TRY(input_at_end(f->in));
done:
  mem_free(from);
  mem_free(to);
  return st;
}

static status import_split(const import_job *job, const pair_format *format, const import_source *s,
                           array_spec first[2]) {
  status st = STATUS_OK;
  pair_file x = {0}, y = {0};
  if (s->n_files > 2)
    THROW(STATUS_BAD_INPUT,
          "import: split '%s' has %d files, expected its inputs and its labels, or its inputs alone",
          s->split, s->n_files);
  TRY(open_file(&x, job, format, s->files[0]));
  describe_inputs(&x, format);
  TRY(check_alike(&x, &first[0], s->split));
  if (s->n_files == 2) {
    TRY(open_file(&y, job, format, s->files[1]));
    describe_labels(&y);
    TRY(check_alike(&y, &first[1], s->split));
    if (x.array.rank == 1 && y.row_values > 1)
      THROW(STATUS_BAD_INPUT, "%s has one value a row, %s has %lld: the inputs come first, then the labels",
            s->files[0], s->files[1], (long long)y.row_values);
    if (x.array.dims[0] != y.array.dims[0])
      THROW(STATUS_BAD_INPUT,
            "%s has %lld rows, %s has %lld: inputs and labels of split '%s' do not belong together",
            s->files[0], (long long)x.array.dims[0], s->files[1], (long long)y.array.dims[0], s->split);
  }
  TRY(copy_rows(&x, job, s->split));
  if (y.in) TRY(copy_rows(&y, job, s->split));
done:
  input_close(&x.in);
  input_close(&y.in);
  return st;
}

status pairs_import(const import_job *job, const pair_format *format) {
  status st = STATUS_OK;
  array_spec first[2] = {0};
  for (int i = 0; i < job->n_sources; i++) TRY(import_split(job, format, &job->sources[i], first));
done:
  return st;
}
