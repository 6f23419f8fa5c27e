/* What the columns of CSV files hold: found out in one or two readings, before anything is written. */
#ifndef MPISTILL_IMPORT_CSV_TABLE_H
#define MPISTILL_IMPORT_CSV_TABLE_H

#include "import/csv_reader.h"
#include "import/dictionary.h"

typedef struct csv_column {
  char *name;
  bool is_text; /* --categorical: its values are numbered in order of first appearance in the first split */
  dictionary *codes;
  double mean;    /* of the first split, running, */
  double squares; /* and the sum of squared differences from it (Welford 1962) */
} csv_column;

typedef struct csv_table {
  const import_job *job;
  int64_t n; /* columns */
  csv_column *columns;
  int64_t label; /* the label's column, -1 */
  bool label_is_text;
  dictionary *classes;
  int64_t first_rows; /* rows of the first split */
  int64_t *rows;      /* of each split, as first counted */
  char *label_real;   /* the message about the first label that is a number but not a whole one; NULL: none */
} csv_table;

typedef struct csv_place {
  const char *path;
  int source; /* position of the split */
  const csv_record *record;
} csv_place;

/* Local. Reads all files: names, types, missing values. csv_table_free. */
status csv_table_read(csv_table *t, const import_job *job);
void csv_table_free(csv_table *t);

int64_t csv_table_features(const csv_table *t);

/* Local. Calls `row` for each record below the header of each file of a source. */
typedef status csv_row(void *context, const csv_table *t, const csv_place *p);
status csv_table_scan(csv_table *t, int source, csv_row *row, void *context);

/* Local. One field as what is stored. STATUS_BAD_INPUT with file, line and column. */
status csv_table_feature(const csv_table *t, const csv_place *p, int64_t column, float *out);
status csv_table_label(const csv_table *t, const csv_place *p, int32_t *out);

#endif
