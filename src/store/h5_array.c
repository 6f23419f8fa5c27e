#include "store/h5.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 19, CHUNK_MAX_BYTES = 1 << 30 };

/* Debian's HDF5 is not built thread-safe; only reading on demand happens in several threads. */
static pthread_mutex_t hdf5_lock = PTHREAD_MUTEX_INITIALIZER;

size_t element_bytes(element e) {
  return h5_type_bytes((int)e);
}

const char *element_name(element e) {
  static const char *const names[] = {
      [ELEMENT_UINT8] = "uint8",     [ELEMENT_INT32] = "int32",     [ELEMENT_INT64] = "int64",
      [ELEMENT_FLOAT16] = "float16", [ELEMENT_FLOAT32] = "float32", [ELEMENT_FLOAT64] = "float64",
  };
  return names[e];
}

size_t h5_type_bytes(int type) {
  static const size_t bytes[] = {
      [ELEMENT_UINT8] = 1,   [ELEMENT_INT32] = 4,   [ELEMENT_INT64] = 8, [ELEMENT_FLOAT16] = 2,
      [ELEMENT_FLOAT32] = 4, [ELEMENT_FLOAT64] = 8, [H5_UINT64] = 8,
  };
  return bytes[type];
}

/* The file's type of an array: little-endian everywhere, as all processors this runs on. Closed by the
 * caller. */
static hid_t type_new(int type) {
  switch (type) {
  case ELEMENT_UINT8:
    return H5Tcopy(H5T_STD_U8LE);
  case ELEMENT_INT32:
    return H5Tcopy(H5T_STD_I32LE);
  case ELEMENT_INT64:
    return H5Tcopy(H5T_STD_I64LE);
  case ELEMENT_FLOAT32:
    return H5Tcopy(H5T_IEEE_F32LE);
  case ELEMENT_FLOAT64:
    return H5Tcopy(H5T_IEEE_F64LE);
  case H5_UINT64:
    return H5Tcopy(H5T_STD_U64LE);
  }
  hid_t half = H5Tcopy(H5T_IEEE_F32LE); /* sign 1 bit at 15, exponent 5 at 10, mantissa 10 at 0 */
  if (half >= 0 &&
      (H5Tset_fields(half, 15, 10, 5, 0, 10) < 0 || H5Tset_size(half, 2) < 0 || H5Tset_ebias(half, 15) < 0))
    h5_close(&half);
  return half;
}

static status find_type(h5_array *a) {
  status st = STATUS_OK;
  bool found = false;
  hid_t type = H5Dget_type(a->set);
  if (type < 0) THROW(STATUS_BAD_INPUT, "%s: its type cannot be read", a->label);
  for (int t = ELEMENT_UINT8; t <= H5_UINT64 && !found; t++) {
    hid_t known = type_new(t);
    found = H5Tequal(type, known) > 0;
    if (found) a->type = t;
    h5_close(&known);
  }
  if (!found)
    st = status_set(
        STATUS_BAD_INPUT,
        "%s: has a type that is not understood; uint8, int32, int64, float16, float32 (little-endian) are",
        a->label);
done:
  H5Eclear2(H5E_DEFAULT);
  h5_close(&type);
  return st;
}

static status find_shape(h5_array *a) {
  status st = STATUS_OK;
  hsize_t dims[H5S_MAX_RANK];
  hid_t space = H5Dget_space(a->set);
  a->rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
  if (a->rank < 0) THROW(STATUS_BAD_INPUT, "%s: its shape cannot be read", a->label);
  if (a->rank < 1 || a->rank > ARRAY_MAX_RANK)
    THROW(STATUS_BAD_INPUT, "%s: has %d dimensions; 1 to %d are possible", a->label, a->rank, ARRAY_MAX_RANK);
  if (H5Sget_simple_extent_dims(space, dims, NULL) != a->rank)
    THROW(STATUS_BAD_INPUT, "%s: its shape cannot be read", a->label);
  int64_t bytes = (int64_t)h5_type_bytes(a->type), total = bytes;
  a->row_values = 1;
  for (int i = 0; i < a->rank; i++) {
    if (!dims[i]) THROW(STATUS_BAD_INPUT, "%s: dimension %d is 0, there is nothing in it", a->label, i);
    if (dims[i] > (hsize_t)INT64_MAX || __builtin_mul_overflow(total, (int64_t)dims[i], &total))
      THROW(STATUS_BAD_INPUT, "%s: has more values than can be counted", a->label);
    a->dims[i] = (int64_t)dims[i];
    if (i) a->row_values *= a->dims[i];
  }
  a->row_bytes = (size_t)(a->row_values * bytes);
done:
  h5_close(&space);
  return st;
}

/* The descriptor of a file that the serial driver has open, else -1. */
static int plain_descriptor(hid_t file) {
  void *descriptor = NULL;
  hid_t list = H5Fget_access_plist(file);
  bool serial = list >= 0 && H5Pget_driver(list) == H5FD_SEC2;
  h5_close(&list);
  return serial && H5Fget_vfd_handle(file, H5P_DEFAULT, &descriptor) >= 0 && descriptor ? *(int *)descriptor
                                                                                        : -1;
}

/* Where the rows are: plain in this file, in pieces of it that HDF5 has to put together, or elsewhere. */
static status find_place(h5_array *a) {
  status st = STATUS_OK;
  hsize_t size = 0;
  hid_t list = H5Dget_create_plist(a->set), file = H5Iget_file_id(a->set);
  if (list < 0 || file < 0) THROW(STATUS_BAD_INPUT, "%s: its layout cannot be read", a->label);
  H5D_layout_t layout = H5Pget_layout(list);
  if (layout == H5D_VIRTUAL || H5Pget_external_count(list) > 0)
    THROW(STATUS_BAD_INPUT, "%s: its data is in other files; copy it into this one", a->label);
  if (layout != H5D_CONTIGUOUS) goto done;
  haddr_t address = H5Dget_offset(a->set);
  if (address == HADDR_UNDEF) goto done; /* never written: HDF5 gives the fill value */
  uint64_t end = (uint64_t)address + (uint64_t)a->dims[0] * a->row_bytes;
  if (H5Fget_filesize(file, &size) < 0 || end > size || end < address ||
      H5Dget_storage_size(a->set) < end - address)
    THROW(STATUS_BAD_INPUT, "%s: its data ends behind the end of the file, the file is cut short or damaged",
          a->label);
  a->descriptor = plain_descriptor(file);
  a->address = (int64_t)address;
done:
  H5Eclear2(H5E_DEFAULT);
  h5_close(&file);
  h5_close(&list);
  return st;
}

status h5_array_open(h5_array *a, hid_t at, const char *path, const char *name) {
  status st = STATUS_OK;
  *a = (h5_array){.descriptor = -1, .address = -1};
  TRY(mem_format(&a->label, "%s: %s", path, name));
  a->set = H5Dopen2(at, name, H5P_DEFAULT);
  if (a->set < 0) {
    a->set = 0;
    TRY(h5_fail(STATUS_BAD_INPUT, path, name, "cannot be read"));
  }
  TRY(h5_check_here(at, a->set, path, name));
  TRY(find_type(a));
  TRY(find_shape(a));
  TRY(find_place(a));
done:
  if (st) h5_array_close(a);
  return st;
}

void h5_array_close(h5_array *a) {
  h5_close(&a->set);
  mem_free(a->label);
  *a = (h5_array){.descriptor = -1, .address = -1};
}

/* Contiguous space is allotted at once and not filled: raw writes find their place, and nothing is written
 * twice. Chunks are filled, so that the unused end of the last one is the same each time. */
static hid_t creation_list(const h5_array *a, bool grows) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  if (list < 0 || H5Pset_obj_track_times(list, 0) < 0) return list;
  if (!grows) {
    H5Pset_layout(list, H5D_CONTIGUOUS);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    return list;
  }
  hsize_t chunk[ARRAY_MAX_RANK];
  chunk[0] = a->row_bytes < CHUNK_BYTES ? CHUNK_BYTES / a->row_bytes : 1;
  for (int i = 1; i < a->rank; i++) chunk[i] = (hsize_t)a->dims[i];
  H5Pset_chunk(list, a->rank, chunk);
  H5Pset_fill_time(list, H5D_FILL_TIME_ALLOC);
  return list;
}

static status create_set(h5_array *a, hid_t at, const char *path, const char *name, bool grows) {
  status st = STATUS_OK;
  hsize_t dims[ARRAY_MAX_RANK], most[ARRAY_MAX_RANK];
  for (int i = 0; i < a->rank; i++) dims[i] = most[i] = (hsize_t)a->dims[i];
  if (grows) most[0] = H5S_UNLIMITED;
  hid_t type = type_new(a->type), space = H5Screate_simple(a->rank, dims, most),
        list = creation_list(a, grows);
  if (type >= 0 && space >= 0 && list >= 0)
    a->set = H5Dcreate2(at, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  if (a->set <= 0) {
    a->set = 0;
    st = h5_fail(STATUS_FAILED, path, name, "cannot be created");
  }
  h5_close(&list);
  h5_close(&space);
  h5_close(&type);
  return st;
}

status h5_array_create(h5_array *a, hid_t at, const char *path, const char *name, int type, int rank,
                       const int64_t *dims) {
  status st = STATUS_OK;
  bool grows = dims[0] < 0;
  *a = (h5_array){.descriptor = -1, .address = -1, .type = type, .rank = rank, .row_values = 1};
  TRY(mem_format(&a->label, "%s: %s", path, name));
  if (rank < 1 || rank > ARRAY_MAX_RANK)
    THROW(STATUS_BAD_INPUT, "%s: has %d dimensions; 1 to %d are possible", a->label, rank, ARRAY_MAX_RANK);
  int64_t total = (int64_t)h5_type_bytes(type) * (grows ? 1 : dims[0]);
  for (int i = 0; i < rank; i++) {
    a->dims[i] = i || !grows ? dims[i] : 0;
    if (i && (dims[i] < 1 || __builtin_mul_overflow(total, dims[i], &total)))
      THROW(STATUS_BAD_INPUT, "%s: cannot have a dimension of %" PRId64, a->label, dims[i]);
    if (i) a->row_values *= dims[i];
  }
  a->row_bytes = (size_t)a->row_values * h5_type_bytes(type);
  if (grows && a->row_bytes > CHUNK_MAX_BYTES)
    THROW(STATUS_BAD_INPUT, "%s: a row of %zu bytes is too long", a->label, a->row_bytes);
  TRY(create_set(a, at, path, name, grows));
done:
  if (st) h5_array_close(a);
  return st;
}

static status read_plain(const h5_array *a, int64_t from, int64_t n, char *out) {
  size_t left = (size_t)n * a->row_bytes;
  off_t at = (off_t)(a->address + from * (int64_t)a->row_bytes);
  while (left) {
    ssize_t got = pread(a->descriptor, out, left, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return status_set(STATUS_BAD_INPUT, "%s: rows from %" PRId64 " cannot be read: %s", a->label, from,
                        got ? strerror(errno) : "the file has become shorter");
    out += got;
    at += got;
    left -= (size_t)got;
  }
  return STATUS_OK;
}

/* Reads into out, or writes what is in rows. */
static status transfer(const h5_array *a, int64_t from, int64_t n, void *out, const void *rows) {
  status st = STATUS_OK;
  hsize_t start[ARRAY_MAX_RANK] = {(hsize_t)from}, count[ARRAY_MAX_RANK] = {(hsize_t)n};
  for (int i = 1; i < a->rank; i++) count[i] = (hsize_t)a->dims[i];
  hid_t space = H5Dget_space(a->set), memory = H5Screate_simple(a->rank, count, NULL),
        type = type_new(a->type);
  bool ok = space >= 0 && memory >= 0 && type >= 0 &&
            H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
  if (ok && out) ok = H5Dread(a->set, type, memory, space, H5P_DEFAULT, out) >= 0;
  errno = 0;
  if (ok && rows) ok = H5Dwrite(a->set, type, memory, space, H5P_DEFAULT, rows) >= 0;
  int reason = errno;
  if (!ok && out) st = h5_fail(STATUS_BAD_INPUT, a->label, "", "rows cannot be read");
  if (!ok && rows) st = h5_fail_write(a->label, "", "rows cannot be written", reason);
  h5_close(&type);
  h5_close(&memory);
  h5_close(&space);
  return st;
}

status h5_array_read(const h5_array *a, int64_t from, int64_t n, void *out) {
  if (!n) return STATUS_OK;
  if (a->descriptor >= 0) return read_plain(a, from, n, out);
  pthread_mutex_lock(&hdf5_lock);
  status st = transfer(a, from, n, out, NULL);
  pthread_mutex_unlock(&hdf5_lock);
  return st;
}

status h5_array_write(const h5_array *a, int64_t from, int64_t n, const void *rows) {
  return n ? transfer(a, from, n, NULL, rows) : STATUS_OK;
}

void h5_array_begin_flush(const h5_array *a, int descriptor, int64_t from, int64_t n) {
#ifdef SYNC_FILE_RANGE_WRITE
  if (descriptor > 0 && a->address >= 0)
    sync_file_range(descriptor, a->address + from * (int64_t)a->row_bytes, n * (int64_t)a->row_bytes,
                    SYNC_FILE_RANGE_WRITE);
#endif
}

status h5_array_append(h5_array *a, int64_t n, const void *rows) {
  hsize_t dims[ARRAY_MAX_RANK];
  int64_t from = a->dims[0];
  for (int i = 0; i < a->rank; i++) dims[i] = (hsize_t)a->dims[i];
  dims[0] += (hsize_t)n;
  if (H5Dset_extent(a->set, dims) < 0) return h5_fail(STATUS_FAILED, a->label, "", "cannot grow");
  a->dims[0] += n;
  return h5_array_write(a, from, n, rows);
}
