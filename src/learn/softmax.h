/* Rows of logits as probabilities: what losses, rules and metrics share.
 *
 * Exponentials are our own series, so that a loop over classes is vectorised, and are the same bits for an
 * element wherever it stands in memory. Sums run over eight lanes (class j goes to lane j mod 8) added in
 * order, for the same reason. */
#ifndef MPISTILL_LEARN_SOFTMAX_H
#define MPISTILL_LEARN_SOFTMAX_H

#include <stdint.h>

enum { SOFTMAX_LANES = 8 };

/* x[j] becomes exp(x[j]), x[j] <= 0: relative error below 1e-12; what is below -708 counts as -708 (3e-308);
 * NaN stays NaN. */
void softmax_exp(double *x, int64_t n);

/* e[j] = exp((z[j] - max z) * scale), *sum = sum of them in double. Returns log sum_j exp(z[j] * scale).
 * n >= 1; e may be NULL. A logit that is NaN or +infinity makes the result NaN. */
double softmax_terms(const float *z, int64_t n, double scale, float *e, double *sum);

/* The lanes' sum, in order. */
double softmax_add_lanes(const double lanes[SOFTMAX_LANES]);

#endif
