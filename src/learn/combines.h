/* The rules there are, and what several of them share. */
#ifndef MPISTILL_LEARN_COMBINES_H
#define MPISTILL_LEARN_COMBINES_H

#include "learn/combine.h"

extern const combine_kind combine_probability_mean;
extern const combine_kind combine_logit_mean;
extern const combine_kind combine_learned;
extern const combine_kind combine_entropy;
extern const combine_kind combine_confidence;
extern const combine_kind combine_vote;
extern const combine_kind combine_random;
extern const combine_kind combine_random_batch;
extern const combine_kind combine_aekd;
extern const combine_kind combine_amtml;
extern const combine_kind combine_union;
extern const combine_kind combine_pate_lnmax;
extern const combine_kind combine_pate_gnmax;

/* One row: out[C] = T log sum_k w_k softmax(z_k/T), with weights[K] of this row. */
void combine_mix_row(const combine_batch *b, int64_t row, const double *weights, float *out);

/* Streams of RNG_COMBINE; the index is the row, or the row and class. */
enum {
  COMBINE_DRAW_TEACHER,
  COMBINE_DRAW_ANSWER,
  COMBINE_DRAW_THRESHOLD,
  COMBINE_DRAW_HELD_OUT,
  COMBINE_DRAW_BATCH,  /* the index is the step */
  COMBINE_DRAW_INITIAL /* the index is the parameter */
};

/* The teacher whose share of [0, 1) holds u, by their weights. */
int combine_pick(const combine_batch *b, double u);

/* Probabilities become logits, none below this. */
#define COMBINE_FLOOR 1e-7

#endif
