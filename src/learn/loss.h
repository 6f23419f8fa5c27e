/* Losses between a student's logits and what it learns from: one struct a loss, one row in losses.c.
 *
 * z: the student's logits, t: the teachers'; p = softmax(t/T), q = softmax(z/T). Each formula states its
 * reduction and its T^2, since systems differ there: the losses on softened rows carry T^2, so that their
 * gradients keep their size as T changes; hard labels do not. */
#ifndef MPISTILL_LEARN_LOSS_H
#define MPISTILL_LEARN_LOSS_H

#include "mpistill/mpistill.h"

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One shard of a batch. All arrays row-major, borrowed. A row is one position of a sample where outputs have
 * several (pixels, frames), and of outputs that are numbers each number, with C = 1. */
typedef struct loss_batch {
  int64_t rows;           /* of this shard */
  int64_t classes;        /* C */
  const float *logits;    /* [rows, C] the student's */
  const int32_t *labels;  /* [rows], -1: none; NULL when no loss reads labels */
  const float *targets;   /* [rows] of numbers, NaN: none; NULL when no loss reads them */
  const float *soft;      /* [rows, C] the teachers' logits; NULL when no loss reads them. A row that begins
                             with NaN was not answered by them (combine.h): it has no loss on soft labels */
  int64_t batch_rows;     /* rows of the global batch: what a mean divides by */
  int64_t batch_labelled; /* labelled rows of the global batch, or those with a target */
  double progress;    /* of training, from 0 at the first step to 1 at the last: for scheduled temperatures */
  double temperature; /* of this step where it is learned; 0: as the options say */
  double *temperature_slope; /* added to: weight * d(loss)/dT; NULL: not asked for */
  float *scratch;            /* [loss_scratch(kind, rows, C)], aligned for doubles */
} loss_batch;

typedef struct loss_kind {
  const char *name;    /* "kd" */
  const char *formula; /* with reductions and source, for --help-losses */
  bool needs_labels, needs_soft;
  bool of_values;          /* of numbers, with targets for labels, not of logits */
  bool learns_temperature; /* writes temperature_slope */
  bool relates_rows;       /* compares the rows of a shard: a shard of one row has nothing to compare */
  int scratch_rows; /* scratch: vectors of C floats, beside three [rows, C] of doubles where rows are compared
                     */
  const char *const *options; /* keys of mpistill_loss that it reads beside kind and weight, NULL-ended */
  /* Adds weight * d(loss)/d(logits) to gradient[rows, C] and returns this shard's part of the loss (not
   * weighted), such that the parts of all shards add up to the loss of the global batch. No allocation. */
  double (*evaluate)(const mpistill_loss *options, const loss_batch *b, float *gradient);
  status (*check)(const mpistill_loss *options); /* NULL: nothing to check */
} loss_kind;

const loss_kind *const *loss_kinds(void);     /* NULL-ended */
const loss_kind *loss_find(const char *name); /* NULL if unknown */
/* Whether the kind reads that key of mpistill_loss. */
bool loss_reads(const loss_kind *k, const char *key);
/* Floats of scratch for a shard. */
size_t loss_scratch(const loss_kind *k, int64_t rows, int64_t classes);
/* The temperature at that progress of training: fixed, or moving from `temperature` to `temperature_end`. 1
 * for kinds that have none. */
double loss_temperature(const mpistill_loss *options, double progress);
/* Whether the temperature is not the same in all steps. */
bool loss_is_scheduled(const mpistill_loss *options);

/* A temperature between 1 and 21 that is learned with the student's optimizer as a number x: against the
 * student, to make the loss larger, from not at all at the first step to fully at the last (Li et al. 2023).
 */
double loss_learned_temperature(float x);
float loss_temperature_start(double temperature); /* x */
/* By x, from d(loss)/dT. */
float loss_temperature_gradient(float x, double slope, double progress);
status loss_check_learned(const mpistill_loss *options);

#endif
