/* One array of a file as raw rows: in memory shared by a node's ranks, or read on demand. */
#ifndef MPISTILL_STORE_COLUMN_H
#define MPISTILL_STORE_COLUMN_H

#include "store/h5.h"

/* Two ranges of rows in memory that the ranks of a node share (ahead.h). */
typedef struct column_windows {
  shared *memory;
  int64_t most;              /* rows that each has room for */
  int64_t first[2], rows[2]; /* what may be read there; 0 rows: nothing */
} column_windows;

typedef struct column {
  comm *c; /* borrowed */
  hid_t file;
  h5_array a;
  shared *memory;
  const unsigned char *rows; /* all of them, NULL: on demand */
  column_windows *ahead;     /* of what is on demand; NULL: none */
} column;

/* Collective. STATUS_BAD_INPUT unless the array still has the type and shape that the header had. */
status column_open(column *q, comm *c, const char *path, const char *object, int type, int rank,
                   const int64_t *dims);
void column_close(column *q); /* collective */
size_t column_bytes(const column *q);
/* Collective. Into memory if it takes at most `limit` bytes of each node (0: half of what is free), else it
 * stays as it is. */
status column_load(column *q, size_t limit);

/* Collective. Room for two windows of `most` rows each, unless the column is in memory. */
status column_make_windows(column *q, int64_t most);
/* Local, any thread. Reads this rank's share of rows [first, first + n) into a window that nobody reads. */
status column_fill_window(column *q, int slot, int64_t first, int64_t n);

/* Rows picked by ids. Row i of the view is column_row(v, i); nothing is copied or allocated when the column
 * is in memory. */
typedef struct column_view {
  const unsigned char *rows;
  const int64_t *slots;
  size_t row_bytes;
  void *scratch, *order;
} column_view;

/* Local, any thread. ids are borrowed until column_unview. */
status column_view_rows(const column *q, const int64_t *ids, int64_t n, column_view *v);
void column_unview(column_view *v);

static inline const void *column_row(const column_view *v, int64_t i) {
  return v->rows + (size_t)v->slots[i] * v->row_bytes;
}

#endif
