/* HDF5's rules, all in one place; only this folder includes <hdf5.h>.
 *
 * Reading goes through the serial driver on every rank: threads may read on demand, which MPI-IO under
 * MPI_THREAD_FUNNELED forbids, and independent reads gain nothing from it. A header is parsed by one rank and
 * handed to all (wire.h).
 *
 * A file that many ranks write is made whole by one of them first; each rank then opens it by h5_open_raw on
 * a communicator of its own (MPI-IO) and writes rows into space that is there already, so no metadata changes
 * and nobody waits for anybody.
 *
 * Default library version, no object times, fixed-length strings, attributes in the order of the calls: the
 * same calls write the same bytes. File locking is off: it fails on many parallel file systems.
 *
 * Numbers are never converted: the memory type is the file's (HDF5 1.10.8 converts to float16 wrongly).
 * Attributes are the exception: they are read as double.
 *
 * HDF5's errors are not printed; their innermost cause goes into our message: "file: object what: cause".
 *
 * Ids are 0 when closed. All functions are Local; h5_array_read may be called from any thread. */
#ifndef MPISTILL_STORE_H5_H
#define MPISTILL_STORE_H5_H

#include "store/dataset.h"

#include <hdf5.h>

/* STATUS_BAD_INPUT when there is no such file, it is no HDF5 file, or it is cut short. */
status h5_open(hid_t *file, const char *path);
/* A new file under a temporary name (file_create_part). */
status h5_create(hid_t *file, const char *path);
/* An existing file, for raw writes; MPI_COMM_NULL: without MPI. */
status h5_open_raw(hid_t *file, const char *path, MPI_Comm alone);
/* What HDF5 still holds of arrays that grow goes to the file: closing them shows no failure. */
status h5_flush(hid_t file, const char *path);
/* The end of a file that was written, after everything in it is closed: when this returns well, all of it is
 * on disk (MPI-IO) or with the system (serial). */
status h5_finish(hid_t *file, const char *path);
/* Any id; an id that is 0 is left alone. Failures are not seen: not for a file that was written. */
void h5_close(hid_t *id);
/* "path: object: what: cause" with HDF5's innermost cause; object may be "". Returns code. */
status h5_fail(status code, const char *path, const char *object, const char *what);
/* The same for writing, with the system's reason where HDF5 has none: `reason` is errno, set to 0 before the
 * call. */
status h5_fail_write(const char *path, const char *object, const char *what, int reason);
/* A file could not be written. HDF5 keeps it open, tries again when MPI ends, and crashes. */
bool h5_has_unwritten(void);
/* STATUS_BAD_INPUT when an object that was opened at `at` lies in another file, behind a link. */
status h5_check_here(hid_t at, hid_t object, const char *path, const char *name);
bool h5_exists(hid_t at, const char *name);
/* Names of what a group holds, sorted; is_group[i]: it is a group, else a dataset. Links to other files and
 * named types: STATUS_BAD_INPUT. */
status h5_list(hid_t group, const char *path, const char *object, char ***names, bool **is_group, int *n);
status h5_group(hid_t *group, hid_t at, const char *path, const char *name); /* new */

/* ---- attributes of a group or dataset `at`; `path` is for messages ---- */

/* NULL, or 0 of them, when there is no such attribute. Fixed or variable length. */
status h5_get_text(hid_t at, const char *path, const char *name, char **out);
status h5_get_texts(hid_t at, const char *path, const char *name, char ***out, int *n);
/* A scalar or a list of any type of number. */
status h5_get_numbers(hid_t at, const char *path, const char *name, double **out, int64_t *n);
/* One whole number of [min, max]; `absent` when there is none. */
status h5_get_int(hid_t at, const char *path, const char *name, int64_t min, int64_t max, int64_t absent,
                  int64_t *out);
status h5_put_text(hid_t at, const char *path, const char *name, const char *text);
status h5_put_texts(hid_t at, const char *path, const char *name, const char *const *texts, int n);
status h5_put_int(hid_t at, const char *path, const char *name, int64_t value);
/* n = 1: a scalar. An attribute that is there is replaced. */
status h5_put_doubles(hid_t at, const char *path, const char *name, const double *values, int64_t n);
status h5_put_floats(hid_t at, const char *path, const char *name, const float *values, int64_t n);
/* The attributes format and version = 1 that every file of ours and for us has. */
status h5_check_format(hid_t file, const char *path, const char *format);
void h5_texts_free(char ***texts, int *n);

/* A one-dimensional dataset of strings. */
status h5_read_texts(hid_t at, const char *path, const char *name, char ***out, int *n);
status h5_write_texts(hid_t at, const char *path, const char *name, const char *const *texts, int n);

/* ---- arrays ---- */

enum { H5_UINT64 = ELEMENT_FLOAT64 + 1 }; /* checksums: a type of arrays beside those of `element` */

typedef struct h5_array {
  hid_t set;
  char *label; /* "file: /train/image", for messages */
  int type;    /* element, or H5_UINT64 */
  int rank;
  int64_t dims[ARRAY_MAX_RANK];
  int64_t row_values;
  size_t row_bytes;
  int descriptor; /* of the file, when its rows lie there plain and in order from `address` on; else -1 */
  int64_t address;
} h5_array;

size_t h5_type_bytes(int type);
/* STATUS_BAD_INPUT when it is no array of numbers, has a type not in `element`, no rows, too many dimensions,
 * more values than can be counted, or its data elsewhere. */
status h5_array_open(h5_array *a, hid_t at, const char *path, const char *name);
/* A new one: room for all rows at once, contiguous, never filled; or dims[0] = -1: chunked, grown by
 * h5_array_append. */
status h5_array_create(h5_array *a, hid_t at, const char *path, const char *name, int type, int rank,
                       const int64_t *dims);
void h5_array_close(h5_array *a);
/* Rows [from, from + n), in the file's type. */
status h5_array_read(const h5_array *a, int64_t from, int64_t n, void *out);
status h5_array_write(const h5_array *a, int64_t from, int64_t n, const void *rows);
/* Local. The disk begins with rows that were written to a contiguous array, without a wait; descriptor: of
 * that file. */
void h5_array_begin_flush(const h5_array *a, int descriptor, int64_t from, int64_t n);
status h5_array_append(h5_array *a, int64_t n, const void *rows);

#endif
