/* Formats of one array a file: a split is a file of inputs and, where there are any, one of labels or
 * targets. */
#ifndef MPISTILL_IMPORT_PAIRS_H
#define MPISTILL_IMPORT_PAIRS_H

#include "import/input.h"
#include "import/number_kinds.h"

typedef struct pair_array { /* what a file's header says */
  const number_kind *kind;
  bool big_endian;
  int rank;
  int64_t dims[ARRAY_MAX_RANK]; /* row-major, dims[0] the rows */
} pair_array;

typedef struct pair_format {
  /* Reads the header, so that the next byte is the first number's. Dimensions need only be >= 0. */
  status (*header)(input *in, pair_array *a);
  bool images; /* [n, H, W] are images of one channel, and those of bytes get the scale 1/255 */
} pair_format;

/* Imports all sources. Arrays get the names "features" [n, D], "image" [n, C, H, W], else "input"; "label"
 * for whole numbers, "target" for others. */
status pairs_import(const import_job *job, const pair_format *format);

#endif
