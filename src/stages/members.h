/* How good the members of an ensemble are on its rows and how alike: each teacher, then their combination. */
#ifndef MPISTILL_STAGES_MEMBERS_H
#define MPISTILL_STAGES_MEMBERS_H

#include "stages/evaluate.h"
#include "stages/sources.h"

/* Sums of this rank's rows until members_combine. A row here is one position of a sample. */
typedef struct members {
  const sources *in; /* borrowed; member in->n is the combination */
  int64_t n_blocks, block_rows;
  metric_sums *sums;  /* [n_blocks, K + 1] */
  int64_t *areas;     /* [K + 1] of [3, C]; NULL: one position a row, or numbers */
  int64_t *agreement; /* [K + 1, K + 1] rows with the same first class */
  int64_t *said;      /* [K + 1, C] rows with each first class; NULL for numbers, as the two below */
  int64_t *there;     /* [C] labelled rows of a class */
  int64_t *found;     /* [C] those of them that at least one teacher has right */
  int64_t *best;      /* [K + 1, block_rows * positions] of one block, -1: no answer */
} members;

/* Local. in stays open as long as m. */
status members_new(members *m, const sources *in, int64_t n_blocks, int64_t block_rows);
void members_free(members *m);

/* Local. Adds block b of n positions: logits[K + 1] of [n, C], labels y[n] (-1: none), or for numbers
 * targets[n] (NaN: none). Rows without an answer (logits NaN) and rows of classes a teacher cannot name are
 * not its. */
void members_add(members *m, int64_t b, float *const *logits, const int32_t *y, const float *targets,
                 int64_t n);

/* Collective. */
status members_combine(members *m, comm *c);

score members_score(const members *m, int i);
/* Of all rows, the share to which two members give the same first class. */
double members_agreement(const members *m, int i, int k);

/* Local. Warnings where the teachers fit the task badly: one that knows less than the classes' frequencies
 * do, two that agree no more often than by chance, classes that no teacher has right in any row. names[K];
 * classes NULL: they have no names. */
void members_warn(const members *m, char *const *names, const char *const *classes);

#endif
