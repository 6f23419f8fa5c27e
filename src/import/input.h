/* A file read in order, plain or gzip. */
#ifndef MPISTILL_IMPORT_INPUT_H
#define MPISTILL_IMPORT_INPUT_H

#include "import/import.h"

typedef struct input input;

/* Local. STATUS_BAD_INPUT with path and reason. `path` and `meter` (may be NULL) are borrowed until
 * input_close. */
status input_open(input **out, const char *path, import_meter *meter);
void input_close(input **in);
const char *input_path(const input *in);

/* Local. Up to n bytes: *got < n only at the end of the file. Damaged or truncated gzip data is
 * STATUS_BAD_INPUT. */
status input_read(input *in, void *to, size_t n, size_t *got);

/* Local. Exactly n bytes; STATUS_BAD_INPUT "... ends at byte N, in the middle of WHAT" if there are fewer. */
status input_exactly(input *in, void *to, size_t n, const char *what);

/* Local. STATUS_BAD_INPUT unless everything has been read. */
status input_at_end(input *in);

/* Bytes read so far, of the uncompressed content. */
int64_t input_offset(const input *in);

/* The size of the content where it is known without reading it: a plain file. -1: gzip or a pipe. */
int64_t input_size(const input *in);

#endif
