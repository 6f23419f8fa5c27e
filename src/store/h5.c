#include "store/h5.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINK_NAME_MAX = 255, CAUSE_BYTES = 512 };

static herr_t innermost(unsigned n, const H5E_error2_t *error, void *out) {
  if (!n && error->desc) *(const char **)out = error->desc;
  return 0;
}

/* Of "file write failed: time = ..., errno = 28, error message = 'No space left on device', buf = ...": the
 * system's message; else all of it, on one line. */
static void plain_cause(const char *cause, char text[CAUSE_BYTES]) {
  const char *mark = "error message = '", *at = strstr(cause, mark);
  snprintf(text, CAUSE_BYTES, "%s", at ? at + strlen(mark) : cause);
  if (at) text[strcspn(text, "'")] = '\0';
  for (char *c = text; *c; c++)
    if (*c == '\n') *c = ' ';
}

static bool unwritten;

bool h5_has_unwritten(void) {
  return unwritten;
}

status h5_fail(status code, const char *path, const char *object, const char *what) {
  const char *cause = "";
  char text[CAUSE_BYTES];
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &cause);
  plain_cause(cause, text);
  bool full = !strcmp(text, strerror(ENOSPC)) || !strcmp(text, strerror(EDQUOT)); /* no fault of the input */
  code = status_set(full ? STATUS_FAILED : code, "%s:%s%s %s%s%s", path, *object ? " " : "",
                    *object ? object : "", what, *text ? ": " : "", text);
  H5Eclear2(H5E_DEFAULT);
  unwritten = unwritten || code == STATUS_FAILED;
  return code;
}

status h5_fail_write(const char *path, const char *object, const char *what, int reason) {
  static const int told[] = {ENOSPC, EDQUOT, EIO, EFBIG, ENOENT, ESTALE, EROFS};
  char text[256];
  h5_fail(STATUS_FAILED, path, object, what);
  for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
    if (reason != told[i] || strstr(status_message(), strerror(reason))) continue;
    snprintf(text, sizeof text, "%s: %s", what, strerror(reason));
    h5_fail(STATUS_FAILED, path, object, text);
  }
  return STATUS_FAILED;
}

void h5_close(hid_t *id) {
  if (*id > 0) H5Idec_ref(*id);
  *id = 0;
}

/* The file access list of every open and create. */
static hid_t access_list(MPI_Comm comm) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  if (list < 0) return list;
  bool ok = H5Pset_file_locking(list, 0, 1) >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0;
  /* The sieve buffer reads and writes back whole stretches of a file: rows that another rank wrote meanwhile
   * would be lost. */
  ok = ok && H5Pset_sieve_buf_size(list, 0) >= 0;
  if (ok && comm != MPI_COMM_NULL) ok = H5Pset_fapl_mpio(list, comm, MPI_INFO_NULL) >= 0;
  if (!ok) h5_close(&list);
  return ok ? list : -1;
}

/* What HDF5's own messages say badly. */
static status check_file(const char *path) {
  struct stat s;
  if (stat(path, &s)) return status_set(STATUS_BAD_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
  if (S_ISDIR(s.st_mode))
    return status_set(STATUS_BAD_INPUT, "%s: is a folder; an HDF5 file is expected", path);
  htri_t is = H5Fis_hdf5(path);
  if (is < 0) return h5_fail(STATUS_BAD_INPUT, path, "", "cannot be opened");
  if (!is) return status_set(STATUS_BAD_INPUT, "%s: is not an HDF5 file", path);
  return STATUS_OK;
}

status h5_open(hid_t *file, const char *path) {
  status st = STATUS_OK;
  *file = 0;
  hid_t list = access_list(MPI_COMM_NULL);
  if (list < 0) THROW(STATUS_FAILED, "%s: HDF5 cannot make an access list", path);
  TRY(check_file(path));
  *file = H5Fopen(path, H5F_ACC_RDONLY, list);
  if (*file < 0) {
    *file = 0;
    st = h5_fail(STATUS_BAD_INPUT, path, "", "cannot be read as an HDF5 file, it is damaged or cut short");
  }
done:
  h5_close(&list);
  return st;
}

status h5_create(hid_t *file, const char *path) {
  status st = STATUS_OK;
  int fd;
  *file = 0;
  hid_t access = access_list(MPI_COMM_NULL), create = H5Pcreate(H5P_FILE_CREATE);
  if (access < 0 || create < 0 || H5Pset_obj_track_times(create, 0) < 0)
    THROW(STATUS_FAILED, "%s: HDF5 cannot make a creation list", path);
  TRY(file_create_part(path, &fd)); /* HDF5 would follow a link */
  close(fd);
  errno = 0;
  *file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
  if (*file < 0) {
    *file = 0;
    st = h5_fail_write(path, "", "cannot be created", errno);
  }
done:
  h5_close(&create);
  h5_close(&access);
  return st;
}

/* The name for MPI: ROMIO takes what stands before a colon for a kind of file system. */
static status name_for_mpi(char **out, const char *path, MPI_Comm comm) {
#ifdef ROMIO_VERSION
  if (comm != MPI_COMM_NULL && strchr(path, ':')) return mem_format(out, "ufs:%s", path);
#else
  (void)comm;
#endif
  return mem_string(out, path);
}

status h5_open_raw(hid_t *file, const char *path, MPI_Comm alone) {
  status st = STATUS_OK;
  char *name = NULL;
  *file = 0;
  hid_t list = access_list(alone);
  if (list < 0) THROW(STATUS_FAILED, "%s: HDF5 cannot make an access list", path);
  TRY(name_for_mpi(&name, path, alone));
  *file = H5Fopen(name, H5F_ACC_RDWR, list);
  if (*file < 0) {
    *file = 0;
    st = h5_fail(STATUS_FAILED, path, "", "cannot be opened for writing");
  }
done:
  mem_free(name);
  h5_close(&list);
  return st;
}

status h5_flush(hid_t file, const char *path) {
  errno = 0;
  return H5Fflush(file, H5F_SCOPE_LOCAL) < 0 ? h5_fail_write(path, "", "cannot be written to disk", errno)
                                             : STATUS_OK;
}

status h5_finish(hid_t *file, const char *path) {
  status st = h5_flush(*file, path);
  errno = 0;
  if (H5Fclose(*file) < 0 && !st) st = h5_fail_write(path, "", "cannot be written to disk", errno);
  *file = 0;
  return st;
}

status h5_check_here(hid_t at, hid_t object, const char *path, const char *name) {
  H5O_info_t here, its;
  if (H5Oget_info2(at, &here, H5O_INFO_BASIC) < 0 || H5Oget_info2(object, &its, H5O_INFO_BASIC) < 0)
    return h5_fail(STATUS_BAD_INPUT, path, name, "cannot be read");
  if (here.fileno == its.fileno) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: %s is a link to another file; copy the data into this one", path,
                    name);
}

bool h5_exists(hid_t at, const char *name) {
  bool is = H5Lexists(at, name, H5P_DEFAULT) > 0;
  if (!is) H5Eclear2(H5E_DEFAULT);
  return is;
}

/* The n-th link by name: its name, and whether it leads to a group. */
static status list_one(hid_t group, const char *path, const char *object, hsize_t i, char **name,
                       bool *is_group) {
  status st = STATUS_OK;
  char text[LINK_NAME_MAX + 1];
  H5L_info_t link;
  H5O_info_t info;
  ssize_t length =
      H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, text, sizeof text, H5P_DEFAULT);
  if (length < 0) return h5_fail(STATUS_BAD_INPUT, path, object, "cannot be listed");
  if (length > LINK_NAME_MAX)
    return status_set(STATUS_BAD_INPUT, "%s: %s holds a name of %zd bytes; the longest is %d", path, object,
                      length, LINK_NAME_MAX);
  if (H5Lget_info(group, text, &link, H5P_DEFAULT) < 0)
    return h5_fail(STATUS_BAD_INPUT, path, text, "cannot be read");
  if (link.type != H5L_TYPE_HARD && link.type != H5L_TYPE_SOFT)
    return status_set(STATUS_BAD_INPUT, "%s: %s/%s is a link to another file; copy the data into this one",
                      path, object, text);
  if (H5Oget_info_by_name2(group, text, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
    return h5_fail(STATUS_BAD_INPUT, path, text, "cannot be read");
  if (info.type != H5O_TYPE_GROUP && info.type != H5O_TYPE_DATASET)
    return status_set(STATUS_BAD_INPUT, "%s: %s/%s is neither a group nor an array", path, object, text);
  *is_group = info.type == H5O_TYPE_GROUP;
  TRY(mem_string(name, text));
done:
  return st;
}

status h5_list(hid_t group, const char *path, const char *object, char ***names, bool **is_group, int *n) {
  enum { MANY = 100000 };
  status st = STATUS_OK;
  H5G_info_t info;
  *n = 0;
  *names = NULL;
  *is_group = NULL;
  if (H5Gget_info(group, &info) < 0) return h5_fail(STATUS_BAD_INPUT, path, object, "cannot be listed");
  if (info.nlinks > MANY)
    return status_set(STATUS_BAD_INPUT, "%s: %s holds %llu objects; the most is %d", path,
                      *object ? object : "/", (unsigned long long)info.nlinks, MANY);
  TRY(mem_new(names, (size_t)info.nlinks, sizeof **names));
  TRY(mem_new(is_group, (size_t)info.nlinks, sizeof **is_group));
  for (; *n < (int)info.nlinks; ++*n)
    TRY(list_one(group, path, object, (hsize_t)*n, &(*names)[*n], &(*is_group)[*n]));
done:
  return st;
}

status h5_group(hid_t *group, hid_t at, const char *path, const char *name) {
  *group = H5Gcreate2(at, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (*group >= 0) return STATUS_OK;
  *group = 0;
  return h5_fail(STATUS_FAILED, path, name, "cannot be created");
}
