/* The feature losses there are, each in a file of its own, and what several of them share. */
#ifndef MPISTILL_LEARN_FEATURES_H
#define MPISTILL_LEARN_FEATURES_H

#include "learn/feature.h"

extern const feature_kind feature_hint;
extern const feature_kind feature_attention;
extern const feature_kind feature_similarity;
extern const feature_kind feature_rkd;
extern const feature_kind feature_pkt;
extern const feature_kind feature_nst;
extern const feature_kind feature_vid;
extern const feature_kind feature_gram;
extern const feature_kind feature_attention_maps;
extern const feature_kind feature_relation;

static inline int64_t feature_at(const feature_map *m, int64_t row, int64_t channel, int64_t position) {
  return row * m->row_values + channel * m->channel_stride + position * m->position_stride;
}

/* STATUS_BAD_INPUT unless both have as many positions (and more than one), or channels. */
status feature_same_positions(const char *kind, const feature_map *student, const feature_map *teacher);
status feature_same_channels(const char *kind, const feature_map *student, const feature_map *teacher);

/* ---- a learned map from the student's tensor to the teacher's ---- */

/* y = W x + b for every item: a row, or a position of a row. */
typedef struct projection {
  int64_t items, n_in, n_out;
  int64_t row_values; /* of y, for each row */
  bool learned;       /* false: y is x */
  float *x, *y, *t;   /* [items, n_in], [items, n_out], [items, n_out] the teacher's, in b->scratch */
} projection;

status projector_check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher);
int64_t projector_parameters(const mpistill_feature *o, const feature_map *student,
                             const feature_map *teacher);
/* W uniform within 1/sqrt(n_in), b zero. */
void projector_initial(const mpistill_feature *o, const feature_map *student, const feature_map *teacher,
                       uint64_t seed, uint64_t stream, float *parameters);
size_t projector_scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                         const feature_map *teacher);
projection projector_apply(const mpistill_feature *o, const feature_batch *b);
/* p->y holds the gradient by y: adds those by W, b and the student's tensor. */
void projector_back(const mpistill_feature *o, const feature_batch *b, const projection *p);

/* ---- rows compared with each other ---- */

/* g[rows, rows] = the scalar products of the tensor's rows. */
void feature_products(const feature_map *m, int64_t rows, double *g);
/* Adds factor * (dg + dg') X to gradient, dg the slope by the products. row: [m->row_values] for use. */
void feature_products_back(const feature_map *m, int64_t rows, const double *dg, double factor, double *row,
                           float *gradient);

#endif
