/* What the operators of domain ai.onnx.ml share: rows of features, class labels, and what becomes of scores.
 *
 * Features may be of any number type and are read as floats. Strings are no tensors here: where class labels
 * are strings, a label is given as its position in the list. */
#ifndef MPISTILL_OPS_ML_H
#define MPISTILL_OPS_ML_H

#include "ops/support.h"

#define ML_DOMAIN "ai.onnx.ml"

/* Local. Input i as [n rows, d features] (a vector is one row). STATUS_BAD_INPUT unless it is of rank 1 or 2
 * and of numbers. */
status ml_rows(const step *s, int i, int64_t *n, int64_t *d);
/* Floats of scratch that ml_floats needs for input i. */
int64_t ml_space(const step *s, int i);
/* Input i as floats: its own, or converted into space. */
const float *ml_floats(const step *s, int i, float *space);

/* Local. A list attribute, borrowed from the node; *n = 0 where absent. ml_reals: also from the tensor
 * attribute NAME_as_tensor. */
status ml_ints(const step *s, const char *name, const int64_t **values, int64_t *n);
status ml_reals(const step *s, const char *name, const float **values, int64_t *n);

typedef struct ml_labels {
  int64_t n;
  const int64_t *ints; /* NULL: the labels are strings */
} ml_labels;
/* Local. STATUS_BAD_INPUT when the node has no class labels. */
status ml_labels_read(const step *s, const char *ints, const char *strings, ml_labels *l);
static inline int64_t ml_label(const ml_labels *l, int64_t i) {
  return l->ints ? l->ints[i] : i;
}

/* Sets the outputs of a classifier: labels [n] int64, scores [n, classes] float. */
void ml_classifier_outputs(step *s, int64_t n, int64_t classes);
/* Writes the label of the largest score (the first of equal ones) for every row, where output 0 is wanted. */
void ml_classify(step *s, const ml_labels *l, const float *scores, int64_t n);

typedef enum ml_transform { ML_NONE, ML_SOFTMAX, ML_LOGISTIC, ML_SOFTMAX_ZERO, ML_PROBIT } ml_transform;
/* Local. The attribute post_transform. */
status ml_transform_read(const step *s, ml_transform *t);
/* scores[n, c], row by row:
 *     LOGISTIC      1 / (1 + exp(-x))
 *     SOFTMAX       exp(x) / sum exp(x)
 *     SOFTMAX_ZERO  the same over the scores that are not zero (|x| > 1e-7); the others stay 0
 *     PROBIT        the quantile function of the normal distribution */
void ml_transform_apply(ml_transform t, float *scores, int64_t n, int64_t c);
float ml_logistic(double x);

/* Local. Whether output i of a node holds probabilities of classes by its operator and attributes alone: from
 * post_transform LOGISTIC (of several scores they need not sum to 1), SOFTMAX or SOFTMAX_ZERO, or from a
 * support vector machine with prob_a and prob_b. Votes of trees may be probabilities, too, by their weights.
 */
bool ml_gives_probabilities(const node *n, int i);

/* Local. The list of classes of a classifier or ZipMap, integers or strings; NULL if it has none. */
const attribute *ml_class_names(const node *n);

#endif
