/* A work queue over all ranks: who takes which block is decided by speed, what comes out is not.
 * Rank 0 owns it and answers between its own pieces of work (queue_serve): only messages, as one-sided MPI
 * fails or stalls between hosts. */
#ifndef MPISTILL_COMM_QUEUE_H
#define MPISTILL_COMM_QUEUE_H

#include "comm/comm.h"

typedef struct queue queue;

/* Collective. n_groups kinds of work (teachers) of n_items[g] items (blocks) and costs[g] per item (any
 * unit). Ranks are divided over the groups by cost; a rank whose group has nothing left goes to the group
 * with the most cost left per rank. More groups than ranks and more ranks than items both work. done,
 * done[g]: NULL or flags, done[g][i] nonzero: the item is finished already (resume). bound: NULL, or [ranks]
 * the group whose items that rank alone may take, with others of the same group, and no other ones; -1: any
 * group that no rank is bound to. The lists are copied, and rank 0's alone count. */
status queue_new(queue **out, comm *c, int n_groups, const int64_t *n_items, const double *costs,
                 const unsigned char *const *done, const int *bound);
void queue_free(queue **q); /* collective */

/* Waits for rank 0. The next item of this rank, asked for one ahead (what is asked for counts as taken);
 * *group = -1 when nothing is left. A rank stays in its group while that has items. */
status queue_next(queue *q, int *group, int64_t *item);

/* Rank 0: the number of items handed out so far; 0 on other ranks. */
int64_t queue_taken(const queue *q);

/* Local. Rank 0: answers what others have asked, without waiting; call it between micro-batches. Nothing on
 * other ranks. */
status queue_serve(queue *q);

/* Local. This rank has failed: nobody is given any more work, apart from what was handed out ahead. It still
 * has to call queue_finish. */
void queue_stop(queue *q);

/* Collective, after queue_next gave -1 or after queue_stop. Rank 0 answers until everyone has been told that
 * nothing is left, then all go on. */
status queue_finish(queue *q);

#endif
