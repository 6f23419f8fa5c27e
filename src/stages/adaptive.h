/* Distillation that adapts to the student: before each epoch its negative log-likelihood s on labelled rows
 * that it does not learn from is compared with that of each teacher, t_k, both at T = 1.
 *
 *     r = max(1 - min_k t_k / s, 0.1)                how much there is to learn from the best teacher
 *     weight of kd = kd_weight * r                   cross-entropy has the rest of 1; kd_weight = 1 stays
 *     T = 1 + (temperature - 1) * r                  a large gap is taught softly
 *     teachers: those with t_k < s, at least the best one; their weights made to sum to 1 */
#ifndef MPISTILL_STAGES_ADAPTIVE_H
#define MPISTILL_STAGES_ADAPTIVE_H

#include "stages/objective.h"

typedef struct adaptive {
  bool on;
  comm *c;
  dataset *d;
  const split *sp;
  classifier k;           /* the student's, without inner tensors; borrows from it */
  int n, threads;         /* n: teachers */
  double *nll, *given;    /* [n] t_k; weights as given */
  double weight, highest; /* kd_weight, temperature */
  double student;         /* s before the epoch under way */
  double kd, temperature; /* what follows from it */
} adaptive;

/* Collective. Off without o->adaptive_split. work: of one task; adaptive_close in any case. STATUS_BAD_INPUT
 * when what is adapted is not there to be: losses of one's own, several tasks, a rule without weights, files
 * made for one temperature. */
status adaptive_open(adaptive *a, comm *c, const mpistill_train_options *o, dataset *d, const classifier *k,
                     const tasks *work);
void adaptive_close(adaptive *a);

/* Local. What of that can be said before there are files: of work its number of teachers and their rule. */
status adaptive_check(const mpistill_train_options *o, const tasks *work);

/* Collective. Measures the student, block: its parameters. */
status adaptive_measure(adaptive *a, const float *block);
/* Local. Puts what follows from a->student into the losses and the weights of the teachers. */
void adaptive_apply(adaptive *a, objective *goal, sources *soft);

#endif
