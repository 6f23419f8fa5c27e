/* What labelled rows say of the teachers: the temperature that calibrates each, and the weights of their
 * mixture.
 *
 * The sums are made per piece of the rows and added in the pieces' order, so that they do not depend on
 * ranks: every function here adds what one process has of one piece. Then all take the same step. */
#ifndef MPISTILL_LEARN_STACKING_H
#define MPISTILL_LEARN_STACKING_H

#include <stdint.h>

enum {
  STACK_PIECES = 64,
  STACK_CALIBRATION_STEPS = 40, /* halvings of the interval of log(temperature) */
  STACK_STEPS = 500             /* of expectation-maximisation, then of exponentiated gradient */
};
/* Temperatures are looked for from 1/STACK_RANGE to STACK_RANGE. */
#define STACK_RANGE 16.0

typedef struct stack_rows { /* labelled rows in this process */
  int n_teachers;           /* K */
  int64_t rows, classes;    /* C */
  float *const *values;     /* [K] of [rows, C]: logits, or probabilities once stack_soften was called */
  const int32_t *labels;    /* [rows], none of them -1 */
} stack_rows;

/* sums[k] += sum over the rows [from, to) of d(-log softmax(z_k/T)_y)/d(1/T) = sum_j p_j z_j - z_y, at 1/T =
 * inverse_t[k]. It rises with 1/T: its root is the calibration (Guo et al. 2017). */
void stack_slopes(const stack_rows *r, int64_t from, int64_t to, const double *inverse_t, double *sums);

/* All logits become probabilities at their teacher's temperature. */
void stack_soften(const stack_rows *r, const double *inverse_t);

/* sums[k] += sum over rows of w_k p_ky / sum_i w_i p_iy: what each teacher has in the label's probability.
 * The mean over all rows is the next w (expectation-maximisation; the likelihood never falls). Returns the
 * sum of -log sum_k w_k p_ky. */
double stack_shares(const stack_rows *r, int64_t from, int64_t to, const double *weights, double *sums);

/* The same with weights[K, C] of m_j = sum_k w_kj p_kj, normalised to m_j / sum_i m_i: sums[K, C] += minus
 * the gradient, w_kj's pull, and counts[C] += rows with that label. */
double stack_pulls(const stack_rows *r, int64_t from, int64_t to, const double *weights, double *sums,
                   double *counts);
/* Exponentiated gradient: w_kj times exp(pull / (2 rows of class j)), made to sum to 1 over k. A class
 * without rows keeps its weights. */
void stack_step(int n_teachers, int64_t classes, const double *sums, const double *counts, double *weights);

#endif
