/* Dataset files.
 *
 *     /                        attributes: format="mpistill-dataset", version=1, name, source, licence
 *     /<split>/<input>         [n, ...] uint8, int32, int64, float16, float32; attributes scale, offset
 *                              (scalar or per channel, dimension 1 of the array): x * scale + offset is what
 *                              a model sees; absent: 1 and 0
 *     /<split>/<input>.length  [n] int32 (optional): positions past it are padding and count in no loss and
 *                              no metric
 *     /<split>/label           [n], or [n, ...] for each position, int32, -1 = not labelled; several tasks:
 *                              label.<task>
 *     /<split>/target          [n, ...] float32, targets that are not classes, NaN = none there; several
 *                              tasks: target.<task>
 *     /classes                 [C] strings (optional)
 *
 * Labels and lengths may be uint8 or int64 too, targets float16: what h5py users have at hand. Strings may
 * have a fixed or a variable length. HDF5 never converts numbers here: what is read has the file's type, and
 * is converted by our own code. */
#ifndef MPISTILL_STORE_DATASET_H
#define MPISTILL_STORE_DATASET_H

#include "base/hash.h"
#include "comm/comm.h"

/* The type of stored numbers. */
typedef enum element {
  ELEMENT_UINT8,
  ELEMENT_INT32,
  ELEMENT_INT64,
  ELEMENT_FLOAT16,
  ELEMENT_FLOAT32,
  ELEMENT_FLOAT64 /* soft-label files made elsewhere only */
} element;
size_t element_bytes(element e);
const char *element_name(element e);

enum { ARRAY_MAX_RANK = 8 };

typedef struct array { /* one array of a split, as its header says */
  char *name;          /* "image", "label", ... */
  element type;
  int rank;
  int64_t dims[ARRAY_MAX_RANK]; /* dims[0] = n */
  int64_t row_values;           /* product of dims[1..] */
  int64_t n_scale;              /* 1, or dims[1]: entries of scale and offset */
  float *scale, *offset;
} array;
bool array_is_scaled(const array *a); /* by other than 1 and 0 */

typedef struct split {
  char *name;
  int64_t n; /* rows */
  int n_inputs, n_labels, n_targets, n_lengths;
  array *inputs; /* sorted by name; without *.length */
  array *labels; /* "label" first */
  array *targets;
  array *lengths; /* "<input>.length" */
} split;

typedef struct dataset dataset;

/* Collective over c, which must outlive it. Reads the headers and checks everything they show: format,
 * version, types, equal row counts. STATUS_BAD_INPUT with file and object. */
status dataset_open(dataset **out, comm *c, const char *path);
void dataset_close(dataset **d);
const char *dataset_path(const dataset *d);
const char *dataset_name(const dataset *d);
const char *dataset_text(const dataset *d, const char *attribute); /* "source", "licence": "" when absent */
int dataset_n_splits(const dataset *d);
const split *dataset_split_at(const dataset *d, int i);
/* STATUS_BAD_INPUT with the names there are. */
status dataset_split(const dataset *d, const char *name, const split **out);
/* The array of a split by name; NULL name: the only one (several: STATUS_BAD_INPUT listing them). */
status dataset_input(const dataset *d, const split *s, const char *name, const array **out);
/* Names of classes, NULL if the file has none. */
int dataset_n_classes(const dataset *d);
const char *const *dataset_classes(const dataset *d);

/* Collective. The hash of a split: over name, type, shape and rows of all its arrays, independent of layout,
 * compression, scale and offset, and of the number of ranks, which share the work. Kept in PATH.hash with the
 * file's size and times of change, its own and its inode's, when the folder can be written. In Python:
 *
 *     text = b""
 *     for name in sorted(f[split], key=str.encode):
 *         a = f[split][name]
 *         text += f"{name}\n{a.dtype}\n{','.join(map(str, a.shape))}\n".encode()
 *         data = a[...].tobytes()                  # rows in order, little-endian
 *         for i in range(0, len(data), 1 << 20):   # pieces of 1 MiB; the last of an array may be shorter
 *             piece = data[i:i + (1 << 20)]
 *             text += struct.pack("<Q", xxhash.xxh3_64_intdigest(piece))
 *     hash = "xxh3:%016x" % xxhash.xxh3_64_intdigest(text) */
status dataset_hash(dataset *d, const split *s, char out[HASH_TEXT_BYTES]);
/* Local. The hash of what turns a split's numbers into what a model sees and calls them: scale and offset of
 * its arrays, and the names of classes; "" where there are neither. */
status dataset_reading(const dataset *d, const split *s, char out[HASH_TEXT_BYTES]);
/* Local, on all ranks, before the first hash: from now on they are computed, whatever PATH.hash says. */
void dataset_hash_anew(dataset *d);

/* ---- rows in memory ---- */

/* The rows of one array: held in memory shared by the node's ranks when they fit, else read from the file on
 * demand. The way of reading never changes what is read. */
typedef struct rows rows;

/* Collective. Reads (or prepares to read) a whole array of a split. memory_limit: bytes a node may use for
 * it, 0: half of what is free; an array that is in memory already is not read again then. */
status rows_open(rows **out, dataset *d, const split *s, const array *a, size_t memory_limit);
void rows_close(rows **r); /* collective */
int64_t rows_count(const rows *r);
int64_t rows_values(const rows *r); /* values a row */
bool rows_in_memory(const rows *r);
/* Local, any thread. Rows ids[0..n) as floats, scale and offset applied, into out[n * row_values].
 * STATUS_BAD_INPUT naming file, array, row and column when a value is NaN or infinite. */
status rows_floats(rows *r, const int64_t *ids, int64_t n, float *out);
/* The same of targets, where a NaN says that there is none. */
status rows_targets(rows *r, const int64_t *ids, int64_t n, float *out);
/* Local, any thread. The same as int32 (labels, tokens); no scale. */
status rows_ints(rows *r, const int64_t *ids, int64_t n, int32_t *out);

/* ---- writing: import and tools, one process, no MPI ---- */

typedef struct dataset_writer dataset_writer;
typedef struct array_spec {
  const char *name; /* "image", "label" */
  element type;
  int rank;                     /* with the row dimension */
  int64_t dims[ARRAY_MAX_RANK]; /* dims[0]: rows, or -1: as many as are appended */
  int64_t n_scale;              /* 0: no scale and offset attributes */
  const float *scale, *offset;
} array_spec;

/* Creates PATH.part, to be renamed by dataset_writer_finish. STATUS_BAD_INPUT if PATH exists and !force. */
status dataset_writer_new(dataset_writer **out, const char *path, bool force, const char *name,
                          const char *source, const char *licence);
status dataset_writer_array(dataset_writer *w, const char *split, const array_spec *a);
/* Appends n rows of an array's own type, in order. */
status dataset_writer_append(dataset_writer *w, const char *split, const char *name, const void *rows,
                             int64_t n);
/* scale and offset known only at the end (standardisation). */
status dataset_writer_scale(dataset_writer *w, const char *split, const char *name, int64_t n,
                            const float *scale, const float *offset);
status dataset_writer_classes(dataset_writer *w, const char *const *names, int n);
status dataset_writer_finish(dataset_writer *w); /* checks equal row counts, flushes to disk, renames */
/* The same without renaming: PATH.part is whole and stays, for the caller to commit (base/file.h). */
status dataset_writer_complete(dataset_writer *w);
void dataset_writer_free(dataset_writer **w); /* unfinished: removes PATH.part */

#endif
