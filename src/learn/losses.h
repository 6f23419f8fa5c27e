/* The losses there are, each in the file of its name, and what those that take a row at a time share. */
#ifndef MPISTILL_LEARN_LOSSES_H
#define MPISTILL_LEARN_LOSSES_H

#include "learn/loss.h"

extern const loss_kind loss_kd;
extern const loss_kind loss_reverse_kl;
extern const loss_kind loss_jsd;
extern const loss_kind loss_dkd;
extern const loss_kind loss_dist;
extern const loss_kind loss_logit_mse;
extern const loss_kind loss_cosine;
extern const loss_kind loss_cross_entropy;
extern const loss_kind loss_mse; /* these four in regression.c */
extern const loss_kind loss_smooth_l1;
extern const loss_kind loss_soft_mse;
extern const loss_kind loss_soft_smooth_l1;

/* A row of the student and of the teachers, standardised where that is asked for. */
typedef struct loss_row {
  int64_t classes;
  const float *student, *teacher; /* [C] logits */
  int32_t label;
  double inverse_t;
  float *terms;     /* [2 * C] for use */
  double *by_scale; /* set to d(value)/d(1/T) by kinds that learn their temperature; NULL: not asked for */
} loss_row;

/* The row's value at temperature T; adds factor * d(value)/d(student/T) to gradient[C]. */
typedef double (*loss_row_function)(const mpistill_loss *options, const loss_row *r, float factor,
                                    float *gradient);

/* T^2 * mean of a function over rows: those of the batch or, `labelled`, those with a label. With
 * options->standardize each row of logits first becomes (x - mean) / (std + 1e-7), std over C - 1 as in
 * Sun et al. 2024. */
double loss_rows(const mpistill_loss *options, const loss_batch *b, bool labelled, loss_row_function value,
                 float *gradient);
enum { LOSS_ROWS_SCRATCH = 5 }; /* what it needs: two terms, two standardised rows, a gradient */

/* Temperatures within 0.001 and 1e6. */
status loss_check_temperature(const mpistill_loss *options);

/* Both rows as probabilities at T, and what their logarithms differ by. */
typedef struct loss_shares {
  const float *student, *teacher; /* [C] exponentials, in r->terms */
  double student_sum, teacher_sum;
  double shift; /* log-sum-exp of the teacher minus that of the student */
} loss_shares;
loss_shares loss_soften(const loss_row *r);
/* log(p_j / q_j): one difference, so that it does not lose what two logarithms would. */
static inline double loss_log_ratio(const loss_row *r, const loss_shares *s, int64_t j) {
  return ((double)r->teacher[j] - r->student[j]) * r->inverse_t - s->shift;
}

#endif
