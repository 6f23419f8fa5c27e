/* Losses between a student's logits and what it learns from: one struct a loss, one row in losses.c. */
#ifndef MPISTILL_LEARN_LOSS_H
#define MPISTILL_LEARN_LOSS_H

#include "mpistill/mpistill.h"

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* One shard of a batch. All arrays row-major, borrowed. */
typedef struct loss_batch {
  int64_t rows;           /* of this shard */
  int64_t classes;        /* C */
  const float *logits;    /* [rows, C] the student's */
  const int32_t *labels;  /* [rows], -1: none; NULL when no loss reads labels */
  const float *soft;      /* [rows, C] the teachers' logits; NULL when no loss reads them */
  int64_t batch_rows;     /* rows of the global batch: what a mean divides by */
  int64_t batch_labelled; /* labelled rows of the global batch */
  float *scratch;         /* [4 * C] */
} loss_batch;

typedef struct loss_kind {
  const char *name;    /* "kd" */
  const char *formula; /* with reductions and source, for --help-losses */
  bool needs_labels, needs_soft;
  /* Adds weight * d(loss)/d(logits) to gradient[rows, C] and returns this shard's part of the loss (not
   * weighted), such that the parts of all shards add up to the loss of the global batch. No allocation. */
  double (*evaluate)(const mpistill_loss *options, const loss_batch *b, float *gradient);
  status (*check)(const mpistill_loss *options); /* NULL: nothing to check */
} loss_kind;

const loss_kind *const *loss_kinds(void);     /* NULL-ended */
const loss_kind *loss_find(const char *name); /* NULL if unknown */

#endif
