/* One optimisation step on this rank's slice of the parameter block: gradient clipping, optimizer, running
 * statistics. */
#ifndef MPISTILL_STAGES_UPDATE_H
#define MPISTILL_STAGES_UPDATE_H

#include "comm/reduce.h"
#include "graph/graph.h"
#include "learn/optimizer.h"

typedef struct updater updater;

/* Local. g and o are borrowed. The slice is that of `r`. frozen[g->n_values]: what never changes; NULL:
 * nothing. n_more:
 * parameters behind the graph's block that are not the model's. */
status updater_new(updater **out, const graph *g, const bool *frozen, size_t n_more, reducer *r,
                   const mpistill_optimizer *o, double clip_norm);
void updater_free(updater **u);

/* Collective when clipping. gradient[end - begin] is what reducer_sum gave; step counts from 1. Parameters: p
 * -= ...; statistics: running = momentum * running + (1 - momentum) * batch. *norm: the gradient's L2 norm
 * before clipping (0 when not clipping). */
status updater_step(updater *u, comm *c, const float *gradient, double learning_rate, int64_t step,
                    double *norm);

/* Local. Keeps the slice's parameters and optimizer state, and puts them back: for a step that made the loss
 * infinite. */
void updater_keep(updater *u);
void updater_restore(updater *u);

/* Local. This rank's slices of all that decides the rest of the training: parameters and optimizer state,
 * then the same as kept. `begin` and the slice's length are reducer_slice's. */
int updater_n_vectors(const updater *u); /* the first half is the state itself, the second what was kept */
const char *updater_vector(updater *u, int i, float **slice); /* its name */

/* Local. STATUS_FAILED when a parameter of the slice is not finite. */
status updater_check(const updater *u);

#endif
