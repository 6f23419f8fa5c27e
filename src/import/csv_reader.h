/* Records of a CSV file (RFC 4180): fields separated by commas, lines ended by LF or CRLF, fields in quotes
 * may hold both and doubled quotes. A byte order mark is passed over, as are empty lines. */
#ifndef MPISTILL_IMPORT_CSV_READER_H
#define MPISTILL_IMPORT_CSV_READER_H

#include "import/input.h"

typedef struct csv_record {
  int64_t line;  /* where it begins, from 1 */
  int64_t n;     /* fields; 0 at the end of the file */
  char **fields; /* NUL-ended; valid until the next record is read */
} csv_record;

typedef struct csv_reader csv_reader;

enum { CSV_RECORD_BYTES = 64 << 20 }; /* the longest record */

/* Local. `path` and `meter` are borrowed until csv_close. */
status csv_open(csv_reader **out, const char *path, import_meter *meter);
void csv_close(csv_reader **r);

/* Local. The next record. STATUS_BAD_INPUT with file and line for what is not CSV. */
status csv_next(csv_reader *r, csv_record *out);

#endif
