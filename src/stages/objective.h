/* What a student is trained on at one of its outputs: a weighted sum of losses, each with the teachers
 * combined for its own temperature. */
#ifndef MPISTILL_STAGES_OBJECTIVE_H
#define MPISTILL_STAGES_OBJECTIVE_H

#include "learn/loss.h"
#include "learn/loss_mixed.h"
#include "stages/tasks.h"

enum { OBJECTIVE_MAX_LOSSES = 15 };

typedef struct objective {
  int n;
  mpistill_loss losses[OBJECTIVE_MAX_LOSSES];
  const loss_kind *kinds[OBJECTIVE_MAX_LOSSES];
  int n_learned; /* numbers that are learned: temperatures, then what the rule does */
  int first_of_rule;
  int learned[OBJECTIVE_MAX_LOSSES]; /* of each loss, -1: none */
  double confidence;                 /* rows of soft labels below it have no loss; 0: all have */
  bool needs_labels, needs_soft;
  const char *needs_both; /* a loss that learns only from labelled rows with soft labels, NULL: none */
} objective;

/* Local. From the losses of the task, those of o that are meant for it, or o's kd_weight and temperature;
 * each weight times the task's. STATUS_BAD_INPUT for losses that cannot be had from these soft labels, or are
 * not of what the task is of. Strings are borrowed. */
status objective_make(objective *out, const mpistill_train_options *o, const task *t);

/* Local. STATUS_BAD_INPUT when a loss compares the rows of a shard and shards of one of these sizes have one
 * row. */
status objective_check_shards(const objective *o, const int64_t *sizes, int n_sizes);

/* Floats of scratch for a shard. */
size_t objective_scratch(const objective *o, int64_t rows, int64_t classes);

/* Local. Where what is learned beside the student begins: to[n_learned]. */
void objective_initial(const objective *o, const task *t, uint64_t seed, float *to);
/* Local. The temperature of a loss where it is learned, 0 where it is not. */
double objective_temperature(const objective *o, int i, const float *learned);

/* What a shard's losses are computed from. */
typedef struct objective_shard {
  float *teachers;    /* [soft->n, rows, C]; rows that are not sure enough are marked */
  float *combined;    /* [rows, C] for use */
  const int64_t *ids; /* [samples] their places in the dataset */
  int64_t samples;
  const truth *labels;   /* what lies past lengths and outside the mask is marked as not answered */
  int32_t *mask_room;    /* [positions of a sample] for use */
  int64_t *row_ids;      /* [rows] for use, NULL: rows are samples */
  const float *features; /* [samples, t->width], for rules that learn */
  uint64_t seed;         /* for rules that draw */
  uint64_t step;
  const float *learned; /* [n_learned] */
  float *learned_gradient;
  loss_mix *mix;   /* of rows that are mixed, NULL: none is; its soft labels are set */
  float *partners; /* [soft->n, rows, C] what the partners' are combined from; NULL: nothing is */
  float *combined_partners;
} objective_shard;

/* Local. parts[n] of a shard, and the gradient of the weighted sum added to gradient[rows, C];
 * learned_gradient is overwritten. b: all but `soft` and the temperature, which are set. */
status objective_evaluate(const objective *o, const task *t, const objective_shard *s, loss_batch *b,
                          float *gradient, double *parts);

/* Local. Whether the student learns anything from losses on its outputs. */
bool objective_teaches(const mpistill_train_options *o);

#endif
