/* Losses between inner tensors of a student and of its teacher: one struct a loss, one row in features.c.
 *
 * s: the student's tensor, t: the teacher's. A tensor is [rows, D], [rows, tokens, D] or [rows, C, H, W];
 * what is called a channel is one of D or of C, a position is a token or a place of H x W. Means over rows
 * are over the rows of the global batch. Losses that compare rows with each other see those of one gradient
 * shard, weighed by their number: `shards` is part of the recipe, so they do not depend on ranks. */
#ifndef MPISTILL_LEARN_FEATURE_H
#define MPISTILL_LEARN_FEATURE_H

#include "mpistill/mpistill.h"

#include "graph/tensor.h"

/* How the values of a tensor lie. */
typedef struct feature_map {
  const float *values; /* [rows, ...], NULL where only shapes are at hand */
  shape shape;         /* dims[0] is not read */
  int64_t channels, positions, row_values;
  int64_t channel_stride, position_stride;
} feature_map;

enum { FEATURE_TENSORS = 2 };

/* One shard of a batch. */
typedef struct feature_batch {
  int64_t rows, batch_rows; /* of this shard, of the global batch */
  /* [1]: the second tensor of losses that take two; the same as [0] where none is named. */
  feature_map student[FEATURE_TENSORS], teacher[FEATURE_TENSORS];
  float *gradient[FEATURE_TENSORS]; /* by the student's tensors; added to. [1] may be [0] */
  const float *parameters;          /* what the loss learns itself; NULL: nothing */
  float *parameter_gradient;        /* added to */
  double *scratch;                  /* [kind->scratch(...)] */
} feature_batch;

typedef struct feature_kind {
  const char *name;    /* "hint" */
  const char *formula; /* with reductions and source, for --help-losses */
  bool relates_rows;   /* a shard of one row has nothing to compare */
  const char *const
      *options; /* keys of mpistill_feature that it reads beside those of all kinds, NULL-ended */
  /* STATUS_BAD_INPUT, with the reason, when such tensors do not go together. NULL: all do. */
  status (*check)(const mpistill_feature *o, const feature_map *student, const feature_map *teacher);
  /* What it learns itself, with the student's optimizer: how many numbers, and where they begin as a function
   * of (seed, stream). NULL: nothing. They are kept in checkpoints and left out of the student. */
  int64_t (*parameters)(const mpistill_feature *o, const feature_map *student, const feature_map *teacher);
  void (*initial)(const mpistill_feature *o, const feature_map *student, const feature_map *teacher,
                  uint64_t seed, uint64_t stream, float *parameters);
  /* Doubles of scratch for a shard. */
  size_t (*scratch)(const mpistill_feature *o, int64_t rows, const feature_map *student,
                    const feature_map *teacher);
  /* Adds weight * d(loss)/d(s) to the gradient and returns this shard's part of the loss (not weighted), such
   * that the parts of all shards add up to the loss of the global batch. No allocation. */
  double (*evaluate)(const mpistill_feature *o, const feature_batch *b);
} feature_kind;

const feature_kind *const *feature_kinds(void);     /* NULL-ended */
const feature_kind *feature_find(const char *name); /* NULL if unknown */
bool feature_reads(const feature_kind *k, const char *key);

/* How a tensor of that shape is looked at. */
feature_map feature_map_of(const shape *s);

#endif
