/* Files: whole or not at all under their final name. */
#ifndef MPISTILL_BASE_FILE_H
#define MPISTILL_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local. Reads a whole file, NUL appended (not counted). STATUS_BAD_INPUT if it cannot be read. mem_free. */
status file_read(const char *path, unsigned char **bytes, size_t *n);
/* A file as memory that all readers of a node share; without a NUL behind it. What cannot be mapped (a pipe,
 * an empty file) is read instead. */
typedef struct file_view {
  const unsigned char *bytes;
  size_t n;
  bool mapped;
} file_view;

/* Local. STATUS_BAD_INPUT if it cannot be read. */
status file_map(file_view *out, const char *path);
void file_unmap(file_view *v);
/* Local. Writes PATH.part, flushes it to disk, renames it to PATH and flushes the folder. */
status file_write(const char *path, const void *bytes, size_t n);
/* Local. A new file under a temporary name, open for writing: what was there is removed, never followed or
 * written to, and until file_commit nobody else can read it. The caller closes fd. STATUS_FAILED when it
 * cannot be made. */
status file_create_part(const char *part, int *fd);
/* Local. Flushes PATH.part, renames it to PATH, flushes the folder: for files written by others. */
status file_commit(const char *path);
bool file_exists(const char *path);
int64_t file_size(const char *path);          /* -1 if there is none */
bool file_same(const char *a, const char *b); /* both are there, and are one file by whatever names */
/* Local. STATUS_BAD_INPUT unless PATH can be created: its folder exists and takes a
 * PATH.part (made and removed), PATH is not a folder. STATUS_FAILED on a full disk. */
status file_check_writable(const char *path);
/* Local. The same for a folder that is made (with parents) if missing. */
status file_make_folder(const char *path);
/* Local. "folder/name"; the folder part of a path ("." if none); the last part of a path (borrowed). */
status file_join(char **out, const char *folder, const char *name);
status file_folder(char **out, const char *path);
const char *file_name(const char *path);

#endif
