/* Teachers that answer as the student learns (live): no file of soft labels, labels of the view that the
 * student sees. Of the ranks the last ones teach and the others train; or each rank that trains asks the
 * teachers itself. Inner tensors are not sent: they are many times as large as labels, and each rank that
 * trains computes those of its own rows. The student's bytes are the same, and those of stored labels of the
 * same views. */
#ifndef MPISTILL_STAGES_LIVE_H
#define MPISTILL_STAGES_LIVE_H

#include "comm/stream.h"
#include "stages/common.h"
#include "stages/tutors.h"

/* Between the ranks that train and those that teach. */
typedef struct live_link {
  comm *all;
  stream *s; /* NULL: each rank that trains asks the teachers itself */
  int teaching;
  bool met;
} live_link;

/* A training, on the ranks that train. */
typedef status live_trains(comm *c, const mpistill_train_options *o, const model_source *student,
                           const live_link *link);

/* Local, pure. Of `size` ranks those that teach: none of one, as many as o says, else by the multiply-adds
 * that the teachers and the student take for a row; none where ranks that train run teachers all the same,
 * for their inner tensors. */
int live_teaching_ranks(const mpistill_train_options *o, double teachers, double student, bool inner,
                        int size);

/* Collective. Deals out the ranks, as many to teach as o says, by cost where it says -1; runs `train` on
 * those that train and answers them on the others. STATUS_BAD_INPUT for teachers that cannot be asked, before
 * anything begins. */
status live_train(comm *c, const mpistill_train_options *o, const model_source *student, live_trains *train);

/* Collective over link->all, once: both sides are ready, or `mine` went wrong on one of them. */
status live_meet(const live_link *link, status mine);

/* ---- ranks that train ---- */

typedef struct live live;

/* Collective over c. d, link, o, work are borrowed. */
status live_open(live **out, comm *c, const mpistill_train_options *o, dataset *d, const tasks *work,
                 const classifier *student, const live_link *link);
void live_close(live **l); /* collective; what was asked and not taken is taken */

/* Local, before live_begin. The teachers whose inner tensors can be read; NULL: there are none. */
const tutors *live_inner(const live *l);
/* Local, before live_begin, on all ranks alike. The tensors of teacher i will be read. */
void live_want_inner(live *l, int i);

/* Collective over c. Shards from..to of n_shards are this rank's; rows: of the split; steps: in all. */
status live_begin(live *l, int from, int to, int n_shards, int64_t rows, int64_t steps);
/* Local, on all ranks alike. Labels for this rank's rows of a global batch ids, the one of `step`. */
status live_step(live *l, int64_t step, const int64_t *ids);
/* Local, any thread. out[n, its values] of teacher i, for rows of that step. */
void live_rows(const live *l, int i, const int64_t *ids, int64_t n, float *out);
/* Local, any thread. The same of an inner tensor of a teacher of live_inner, at a place among its. */
void live_inner_rows(const live *l, int i, int place, const int64_t *ids, int64_t n, float *out);

#endif
