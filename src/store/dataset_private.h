/* What the files of dataset_*.c share. */
#ifndef MPISTILL_STORE_DATASET_PRIVATE_H
#define MPISTILL_STORE_DATASET_PRIVATE_H

#include "store/column.h"
#include "store/dataset.h"

enum { DATASET_NAME, DATASET_SOURCE, DATASET_LICENCE, DATASET_TEXTS };

struct dataset {
  comm *c; /* borrowed */
  char *path;
  char *texts[DATASET_TEXTS];
  int n_splits;
  split *splits;
  int n_classes;
  char **classes;
  char (*hashes)[HASH_TEXT_BYTES]; /* [n_splits], "" until asked for */
  bool distrusts_kept;             /* hashes in PATH.hash */
  rows *open;                      /* dataset_rows.c */
};

/* dataset_rows.c */
column *rows_column(rows *r);

#endif
