/* One optimisation step on this rank's parts of the parameter block: gradient clipping, optimizer, running
 * statistics. */
#ifndef MPISTILL_STAGES_UPDATE_H
#define MPISTILL_STAGES_UPDATE_H

#include "comm/reduce.h"
#include "graph/graph.h"
#include "learn/optimizer.h"

typedef struct updater updater;

/* Local. g and o are borrowed. The parts are those of `r`. frozen[g->n_values]: what never changes; NULL:
 * nothing. n_more:
 * parameters behind the graph's block that are not the model's. A step takes `threads` threads. */
status updater_new(updater **out, const graph *g, const bool *frozen, size_t n_more, reducer *r,
                   const mpistill_optimizer *o, double clip_norm, int threads);
void updater_free(updater **u);

/* Collective when clipping. The gradient is what reducer_sum left in `r`; step counts from 1. Parameters: p
 * -= ...; statistics: running = momentum * running + (1 - momentum) * batch. *norm: the gradient's L2 norm
 * before clipping (0 when not clipping). */
status updater_step(updater *u, comm *c, double learning_rate, int64_t step, double *norm);

/* Local. Keeps this rank's parameters and optimizer state, and puts them back: for a step that made the loss
 * explode. Swapped: the parameters alone, until they are again. */
void updater_keep(updater *u);
void updater_restore(updater *u);
void updater_swap(updater *u);

/* Local. All that decides the rest of the training, parameters and optimizer state, then the same as kept:
 * the vector's name, and what this rank owns of it as reducer_collect takes it; NULL: the parameters. */
int updater_n_vectors(const updater *u); /* the first half is the state itself, the second what was kept */
const char *updater_vector(updater *u, int i, float **owned);

/* Local. STATUS_FAILED when a parameter of this rank's is not finite. */
status updater_check(const updater *u);

#endif
