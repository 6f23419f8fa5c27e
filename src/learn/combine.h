/* Rules that make one set of soft labels out of several teachers': one struct a rule, a row in combine.c. */
#ifndef MPISTILL_LEARN_COMBINE_H
#define MPISTILL_LEARN_COMBINE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { COMBINE_MAX_TEACHERS = 4096 };

typedef struct combine_batch {
  int n_teachers;             /* K, from 1 to COMBINE_MAX_TEACHERS */
  int64_t rows, classes;      /* C */
  const float *const *logits; /* [K] of [rows, C] */
  const double *weights;      /* [K], >= 0, sum 1 */
  double temperature;         /* T */
  const int64_t *ids;         /* [rows] their places in the dataset: what random numbers are drawn by */
  uint64_t seed;
} combine_batch;

typedef struct combine_kind {
  const char *name;    /* "probability-mean" */
  const char *formula; /* with source, for --help-methods */
  bool linear;         /* the result serves every temperature: the file's temperature is 0 ("any") */
  /* out[rows, C]: logits whose softmax at T is the combination. Rows are independent; sums over teachers in
   * order, in double. */
  void (*rows)(const combine_batch *b, float *out);
} combine_kind;

const combine_kind *const *combine_kinds(void);
const combine_kind *combine_find(const char *name);

#endif
