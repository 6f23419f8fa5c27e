#include "ops/ml.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

status ml_rows(const step *s, int i, int64_t *n, int64_t *d) {
  char text[128];
  const shape *x = &s->in[i]->shape;
  if (x->rank != 1 && x->rank != 2)
    return step_error(s, "expected an input [rows, features], got %s", shape_text(x, text, sizeof text));
  *n = x->rank == 2 ? x->dims[0] : 1;
  *d = x->dims[x->rank - 1];
  return input_want_number(s, i);
}

int64_t ml_space(const step *s, int i) {
  return s->in[i]->type == DTYPE_FLOAT ? 0 : tensor_count(s->in[i]);
}

const float *ml_floats(const step *s, int i, float *space) {
  const tensor *x = s->in[i];
  if (x->type == DTYPE_FLOAT) return x->data;
  const int64_t n = tensor_count(x);
  for (int64_t k = 0; k < n; k++) space[k] = (float)tensor_real(x, k);
  return space;
}

static status wrong_type(const step *s, const char *name, const char *expected) {
  return step_error(s, "attribute '%s' is no list of %s", name, expected);
}

status ml_ints(const step *s, const char *name, const int64_t **values, int64_t *n) {
  const attribute *a = node_attribute(s->node, name);
  *values = NULL;
  *n = 0;
  if (!a) return STATUS_OK;
  if (a->type != ATTRIBUTE_INTS) return wrong_type(s, name, "integers");
  *values = a->ints;
  *n = a->n;
  return STATUS_OK;
}

status ml_reals(const step *s, const char *name, const float **values, int64_t *n) {
  char as_tensor[64];
  const attribute *a = node_attribute(s->node, name);
  *values = NULL;
  *n = 0;
  if (a && a->type != ATTRIBUTE_FLOATS) return wrong_type(s, name, "floats");
  if (a && a->n) {
    *values = a->floats;
    *n = a->n;
    return STATUS_OK;
  }
  snprintf(as_tensor, sizeof as_tensor, "%s_as_tensor", name);
  a = node_attribute(s->node, as_tensor);
  if (!a) return STATUS_OK;
  if (a->type != ATTRIBUTE_TENSOR || a->t->type != DTYPE_FLOAT) return wrong_type(s, as_tensor, "floats");
  *values = a->t->data;
  *n = tensor_count(a->t);
  return STATUS_OK;
}

status ml_labels_read(const step *s, const char *ints, const char *strings, ml_labels *l) {
  const attribute *texts = node_attribute(s->node, strings);
  status st = ml_ints(s, ints, &l->ints, &l->n);
  if (st) return st;
  if (l->n) return STATUS_OK;
  l->ints = NULL;
  if (texts && texts->type == ATTRIBUTE_STRINGS) l->n = texts->n;
  if (l->n) return STATUS_OK;
  return step_error(s, "has no class labels (%s or %s)", ints, strings);
}

void ml_classifier_outputs(step *s, int64_t n, int64_t classes) {
  step_set_output(s, 0, DTYPE_INT64, &(shape){.rank = 1, .dims = {n}});
  step_set_output(s, 1, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {n, classes}});
}

void ml_classify(step *s, const ml_labels *l, const float *scores, int64_t n) {
  if (!s->out[0]) return;
  int64_t *to = s->out[0]->data;
  for (int64_t i = 0; i < n; i++, scores += l->n) {
    int64_t best = 0;
    for (int64_t c = 1; c < l->n; c++) best = scores[c] > scores[best] ? c : best;
    to[i] = ml_label(l, best);
  }
}

status ml_transform_read(const step *s, ml_transform *t) {
  static const char *const names[] = {[ML_NONE] = "NONE",
                                      [ML_SOFTMAX] = "SOFTMAX",
                                      [ML_LOGISTIC] = "LOGISTIC",
                                      [ML_SOFTMAX_ZERO] = "SOFTMAX_ZERO",
                                      [ML_PROBIT] = "PROBIT"};
  const char *name = node_string(s->node, "post_transform", "NONE");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    *t = (ml_transform)i;
    if (strcmp(name, names[i]) == 0) return STATUS_OK;
  }
  return step_error(s, "post_transform '%s' is none of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT", name);
}

float ml_logistic(double x) {
  return (float)(1 / (1 + exp(-x)));
}

static bool counts(bool zero_too, float x) {
  return zero_too || fabsf(x) > 1e-7f;
}

static void softmax(float *x, int64_t c, bool zero_too) {
  double sum = 0;
  float most = x[0];
  for (int64_t k = 1; k < c; k++) most = x[k] > most ? x[k] : most;
  for (int64_t k = 0; k < c; k++) sum += counts(zero_too, x[k]) ? exp((double)x[k] - most) : 0;
  for (int64_t k = 0; k < c; k++) x[k] = counts(zero_too, x[k]) ? (float)(exp((double)x[k] - most) / sum) : 0;
}

/* By halving, as it is hardly ever used. float's least positive number is the quantile of
 * -14.2. */
static float probit(float p) {
  if (!(p > 0 && p < 1)) return p == 0 ? -INFINITY : p == 1 ? INFINITY : NAN;
  double low = -16, high = 16;
  for (int i = 0; i < 60; i++) {
    double middle = (low + high) / 2;
    bool below = 0.5 * erfc(-middle * M_SQRT1_2) < p;
    low = below ? middle : low;
    high = below ? high : middle;
  }
  return (float)low;
}

void ml_transform_apply(ml_transform t, float *scores, int64_t n, int64_t c) {
  for (int64_t i = 0; i < n && c > 0; i++, scores += c) {
    if (t == ML_SOFTMAX || t == ML_SOFTMAX_ZERO) softmax(scores, c, t == ML_SOFTMAX);
    for (int64_t k = 0; k < c && t == ML_LOGISTIC; k++) scores[k] = ml_logistic(scores[k]);
    for (int64_t k = 0; k < c && t == ML_PROBIT; k++) scores[k] = probit(scores[k]);
  }
}
