/* What a student is trained on: a weighted sum of losses, each with the teachers combined for its own
 * temperature. */
#ifndef MPISTILL_STAGES_OBJECTIVE_H
#define MPISTILL_STAGES_OBJECTIVE_H

#include "learn/loss.h"
#include "stages/sources.h"

enum { OBJECTIVE_MAX_LOSSES = 15 };

typedef struct objective {
  int n;
  mpistill_loss losses[OBJECTIVE_MAX_LOSSES];
  const loss_kind *kinds[OBJECTIVE_MAX_LOSSES];
  bool needs_labels, needs_soft;
  const char *needs_both; /* a loss that learns only from labelled rows with soft labels, NULL: none */
} objective;

/* Local. From the losses of o, or its kd_weight and temperature. STATUS_BAD_INPUT for losses that cannot be
 * had from these soft labels. Strings are borrowed. */
status objective_make(objective *out, const mpistill_train_options *o, const sources *soft);

/* Local. STATUS_BAD_INPUT when a loss compares the rows of a shard and shards of one of these sizes have one
 * row. */
status objective_check_shards(const objective *o, const int64_t *sizes, int n_sizes);

/* Floats of scratch for a shard. */
size_t objective_scratch(const objective *o, int64_t rows, int64_t classes);

/* Local. parts[n] of a shard, and the gradient of the weighted sum added to gradient[rows, C]. b: all but
 * `soft`, which is set. teachers: [soft->n, rows, C]; combined: [rows, C] for use; ids: the rows' places in
 * the dataset; seed: for rules that draw. */
void objective_evaluate(const objective *o, const sources *soft, const float *teachers, float *combined,
                        const int64_t *ids, uint64_t seed, loss_batch *b, float *gradient, double *parts);

#endif
