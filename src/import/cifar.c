/* The binary version of CIFAR-10 and CIFAR-100: records of one or two labels and 3072 bytes, three planes of
 * 32 x 32. */
#include "import/importers.h"
#include "import/input.h"

#include "base/mem.h"

#include <string.h>

enum { IMAGE_BYTES = 3 * 32 * 32, ROWS_MAX = IMPORT_PIECE_BYTES / IMAGE_BYTES };

typedef struct cifar_kind {
  const char *name;
  int n_labels; /* bytes before an image */
  struct {
    const char *name;
    int classes;
  } labels[2]; /* in the order of the bytes */
} cifar_kind;

static const cifar_kind cifar10 = {.name = "CIFAR-10", .n_labels = 1, .labels = {{"label", 10}}};
static const cifar_kind cifar100 = {
    .name = "CIFAR-100", .n_labels = 2, .labels = {{"label.coarse", 20}, {"label", 100}}};

typedef struct cifar_rows { /* a piece of a file, taken apart */
  unsigned char *records, *images;
  int32_t *labels[2];
} cifar_rows;

static status rows_new(cifar_rows *r) {
  status st = STATUS_OK;
  TRY(mem_new(&r->records, ROWS_MAX, IMAGE_BYTES + 2));
  TRY(mem_new(&r->images, ROWS_MAX, IMAGE_BYTES));
  for (int k = 0; k < 2; k++) TRY(mem_new(&r->labels[k], ROWS_MAX, sizeof(int32_t)));
done:
  return st;
}

static void rows_free(cifar_rows *r) {
  mem_free(r->records);
  mem_free(r->images);
  for (int k = 0; k < 2; k++) mem_free(r->labels[k]);
}

/* The content's length; a compressed file has to be read for it. */
static status content_bytes(const char *path, cifar_rows *r, int64_t *out) {
  status st = STATUS_OK;
  input *in = NULL;
  size_t got, room = (size_t)ROWS_MAX * IMAGE_BYTES;
  TRY(input_open(&in, path, NULL));
  *out = input_size(in);
  if (*out >= 0) goto done;
  do TRY(input_read(in, r->records, room, &got));
  while (got == room);
  *out = input_offset(in);
done:
  input_close(&in);
  return st;
}

/* Nothing in the files says which of the two they are but their length. */
static status detect(const char *path, cifar_rows *r, const cifar_kind **kind) {
  status st = STATUS_OK;
  int64_t n;
  TRY(content_bytes(path, r, &n));
  bool ten = n % (IMAGE_BYTES + 1) == 0, hundred = n % (IMAGE_BYTES + 2) == 0;
  if (!n || ten == hundred)
    THROW(STATUS_BAD_INPUT,
          "%s: has %lld bytes, expected a multiple of 3073 (CIFAR-10) or 3074 (CIFAR-100): it is truncated "
          "or not the binary "
          "version",
          path, (long long)n);
  const cifar_kind *this = ten ? &cifar10 : &cifar100;
  if (*kind && *kind != this)
    THROW(STATUS_BAD_INPUT, "%s: is of %s, the files before it of %s", path, this->name, (*kind)->name);
  *kind = this;
done:
  return st;
}

static status add_arrays(const import_job *job, const char *split, const cifar_kind *kind) {
  status st = STATUS_OK;
  const float scale = 1.0f / 255, offset = 0;
  TRY(dataset_writer_array(job->writer, split,
                           &(array_spec){.name = "image",
                                         .type = ELEMENT_UINT8,
                                         .rank = 4,
                                         .dims = {-1, 3, 32, 32},
                                         .n_scale = 1,
                                         .scale = &scale,
                                         .offset = &offset}));
  for (int k = 0; k < kind->n_labels; k++)
    TRY(dataset_writer_array(
        job->writer, split,
        &(array_spec){.name = kind->labels[k].name, .type = ELEMENT_INT32, .rank = 1, .dims = {-1}}));
done:
  return st;
}

static status take_apart(cifar_rows *r, const cifar_kind *kind, int64_t rows, const char *path,
                         int64_t first) {
  const unsigned char *record = r->records;
  for (int64_t i = 0; i < rows; i++) {
    for (int k = 0; k < kind->n_labels; k++) {
      r->labels[k][i] = *record++;
      if (r->labels[k][i] >= kind->labels[k].classes)
        return status_set(STATUS_BAD_INPUT,
                          "%s: row %lld (from 0): %s is %d, %s has %d classes: the file is damaged", path,
                          (long long)(first + i), kind->labels[k].name, r->labels[k][i], kind->name,
                          kind->labels[k].classes);
    }
    memcpy(r->images + i * IMAGE_BYTES, record, IMAGE_BYTES);
    record += IMAGE_BYTES;
  }
  return STATUS_OK;
}

static status copy_file(const import_job *job, const char *split, const char *path, const cifar_kind *kind,
                        cifar_rows *r) {
  status st = STATUS_OK;
  input *in = NULL;
  const size_t row_bytes = IMAGE_BYTES + (size_t)kind->n_labels;
  size_t got = 0;
  TRY(input_open(&in, path, job->meter));
  for (int64_t row = 0;; row += ROWS_MAX) {
    TRY(input_read(in, r->records, ROWS_MAX * row_bytes, &got));
    int64_t rows = (int64_t)(got / row_bytes);
    if (got % row_bytes) THROW(STATUS_BAD_INPUT, "%s: ends in the middle of a row: it has changed", path);
    if (!rows) break;
    TRY(take_apart(r, kind, rows, path, row));
    TRY(dataset_writer_append(job->writer, split, "image", r->images, rows));
    for (int k = 0; k < kind->n_labels; k++)
      TRY(dataset_writer_append(job->writer, split, kind->labels[k].name, r->labels[k], rows));
  }
done:
  input_close(&in);
  return st;
}

static status run(const import_job *job) {
  status st = STATUS_OK;
  cifar_rows r = {0};
  const cifar_kind *kind = NULL;
  TRY(rows_new(&r));
  for (int i = 0; i < job->n_sources; i++)
    for (int k = 0; k < job->sources[i].n_files; k++) TRY(detect(job->sources[i].files[k], &r, &kind));
  for (int i = 0; i < job->n_sources; i++) {
    const import_source *s = &job->sources[i];
    TRY(add_arrays(job, s->split, kind));
    for (int k = 0; k < s->n_files; k++) TRY(copy_file(job, s->split, s->files[k], kind, &r));
  }
done:
  rows_free(&r);
  return st;
}

const importer importer_cifar = {
    .name = "cifar",
    .help = "CIFAR-10 and CIFAR-100, binary version: SPLIT=FILE[,FILE...]; image [n, 3, 32, 32] with the "
            "scale 1/255, label (the fine one), "
            "label.coarse",
    .run = run,
};
