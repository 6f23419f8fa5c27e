/* Features made ready, value by value or row by row: Scaler, Binarizer, Imputer, Normalizer. */
#include "base/mem.h"
#include "ops/ml.h"

#include <math.h>
#include <string.h>

/* One number for every feature, or one for all of them. */
typedef struct per_feature {
  const float *values;
  int64_t n; /* 0: none */
} per_feature;

typedef struct features {
  int64_t rows, n; /* n: features */
  per_feature a, b;
  int kind; /* of a norm */
} features;

static void features_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static float value_of(const per_feature *p, int64_t feature, float otherwise) {
  return p->n == 0 ? otherwise : p->values[p->n == 1 ? 0 : feature];
}

static status read_values(const step *s, const char *name, int64_t features, per_feature *p) {
  status st = ml_reals(s, name, &p->values, &p->n);
  if (st || p->n <= 1 || p->n == features) return st;
  return step_error(s, "%s has %lld numbers for %lld features", name, (long long)p->n, (long long)features);
}

static status features_infer(step *s) {
  int64_t n, d;
  status st = ml_rows(s, 0, &n, &d);
  if (!st) step_set_output(s, 0, DTYPE_FLOAT, &s->in[0]->shape);
  return st;
}

static status features_prepare(step *s, const char *a, const char *b) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(features)));
  features *f = s->state;
  TRY(ml_rows(s, 0, &f->rows, &f->n));
  if (a) TRY(read_values(s, a, f->n, &f->a));
  if (b) TRY(read_values(s, b, f->n, &f->b));
  s->scratch_bytes = (size_t)ml_space(s, 0) * sizeof(float);
done:
  return st;
}

/* ---- Scaler: (x - offset) scale ---- */

static status scaler_prepare(step *s) {
  return features_prepare(s, "offset", "scale");
}

static status scaler_forward(step *s) {
  const features *f = s->state;
  const float *x = ml_floats(s, 0, s->scratch);
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < f->rows; i++)
    for (int64_t k = 0; k < f->n; k++) *y++ = (*x++ - value_of(&f->a, k, 0)) * value_of(&f->b, k, 1);
  return STATUS_OK;
}

/* ---- Binarizer: x > threshold ---- */

typedef struct threshold {
  float value;
} threshold;

static status binarizer_infer(step *s) {
  status st = input_want_number(s, 0);
  if (!st) step_set_output(s, 0, s->in[0]->type, &s->in[0]->shape);
  return st;
}

static status binarizer_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(threshold));
  if (!st) ((threshold *)s->state)->value = node_float(s->node, "threshold", 0);
  return st;
}

static status binarizer_forward(step *s) {
  const threshold *t = s->state;
  const int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) element_set_int(s->out[0], i, tensor_real(s->in[0], i) > t->value);
  return STATUS_OK;
}

/* ---- Imputer: a certain value, or NaN, by another ---- */

typedef struct imputer {
  int64_t features, n; /* n: numbers in `by`, 1 or as many as features */
  const int64_t *ints; /* NULL: reals */
  const float *reals;
  int64_t replaced_int;
  float replaced_real;
} imputer;

static status imputer_infer(step *s) {
  int64_t n, d;
  status st = ml_rows(s, 0, &n, &d);
  if (!st && s->in[0]->type != DTYPE_FLOAT && s->in[0]->type != DTYPE_INT64)
    st = input_want(s, 0, DTYPE_FLOAT);
  if (!st) step_set_output(s, 0, s->in[0]->type, &s->in[0]->shape);
  return st;
}

static status imputer_prepare(step *s) {
  status st = STATUS_OK;
  int64_t rows;
  TRY(mem_new(&s->state, 1, sizeof(imputer)));
  imputer *m = s->state;
  TRY(ml_rows(s, 0, &rows, &m->features));
  if (s->in[0]->type == DTYPE_INT64) {
    TRY(ml_ints(s, "imputed_value_int64s", &m->ints, &m->n));
  } else {
    TRY(ml_reals(s, "imputed_value_floats", &m->reals, &m->n));
  }
  m->replaced_int = node_int(s->node, "replaced_value_int64", 0);
  m->replaced_real = node_float(s->node, "replaced_value_float", 0);
  if (m->n != 1 && m->n != m->features)
    return step_error(s, "has %lld values of the input's type for %lld features", (long long)m->n,
                      (long long)m->features);
done:
  return st;
}

static status imputer_forward(step *s) {
  const imputer *m = s->state;
  const int64_t n = tensor_count(s->in[0]);
  const float *x = s->in[0]->data;
  const int64_t *whole = s->in[0]->data;
  bool nan = isnan(m->replaced_real);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = m->n == 1 ? 0 : i % m->features;
    if (m->ints) {
      ((int64_t *)s->out[0]->data)[i] = whole[i] == m->replaced_int ? m->ints[at] : whole[i];
    } else {
      bool replaced = nan ? isnan(x[i]) : x[i] == m->replaced_real;
      ((float *)s->out[0]->data)[i] = replaced ? m->reals[at] : x[i];
    }
  }
  return STATUS_OK;
}

/* ---- Normalizer: x / norm of its row; a row whose norm is 0 stays ---- */

enum { NORM_MAX, NORM_L1, NORM_L2 };

static status normalizer_prepare(step *s) {
  static const char *const names[] = {[NORM_MAX] = "MAX", [NORM_L1] = "L1", [NORM_L2] = "L2"};
  const char *name = node_string(s->node, "norm", "MAX");
  status st = features_prepare(s, NULL, NULL);
  if (st) return st;
  features *f = s->state;
  while (f->kind <= NORM_L2 && strcmp(names[f->kind], name) != 0) f->kind++;
  if (f->kind <= NORM_L2) return STATUS_OK;
  return step_error(s, "norm '%s' is none of MAX, L1, L2", name);
}

static double norm_of(int kind, const float *x, int64_t n) {
  double norm = kind == NORM_MAX && n > 0 ? x[0] : 0;
  for (int64_t i = 0; i < n; i++) {
    if (kind == NORM_MAX) norm = x[i] > norm ? x[i] : norm;
    if (kind == NORM_L1) norm += fabsf(x[i]);
    if (kind == NORM_L2) norm += (double)x[i] * x[i];
  }
  return kind == NORM_L2 ? sqrt(norm) : norm;
}

static status normalizer_forward(step *s) {
  const features *f = s->state;
  const float *x = ml_floats(s, 0, s->scratch);
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < f->rows; i++, x += f->n, y += f->n) {
    double norm = norm_of(f->kind, x, f->n);
    for (int64_t k = 0; k < f->n; k++) y[k] = norm != 0 ? (float)(x[k] / norm) : x[k];
  }
  return STATUS_OK;
}

const op op_Scaler = {.name = "Scaler",
                      .domain = ML_DOMAIN,
                      .since = 1,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"offset", "scale", NULL},
                      .infer = features_infer,
                      .prepare = scaler_prepare,
                      .forward = scaler_forward,
                      .release = features_release};

const op op_Binarizer = {.name = "Binarizer",
                         .domain = ML_DOMAIN,
                         .since = 1,
                         .min_inputs = 1,
                         .max_inputs = 1,
                         .max_outputs = 1,
                         .attributes = (const char *const[]){"threshold", NULL},
                         .infer = binarizer_infer,
                         .prepare = binarizer_prepare,
                         .forward = binarizer_forward,
                         .release = features_release};

const op op_Imputer = {.name = "Imputer",
                       .domain = ML_DOMAIN,
                       .since = 1,
                       .min_inputs = 1,
                       .max_inputs = 1,
                       .max_outputs = 1,
                       .attributes =
                           (const char *const[]){"imputed_value_floats", "imputed_value_int64s",
                                                 "replaced_value_float", "replaced_value_int64", NULL},
                       .infer = imputer_infer,
                       .prepare = imputer_prepare,
                       .forward = imputer_forward,
                       .release = features_release};

const op op_Normalizer = {.name = "Normalizer",
                          .domain = ML_DOMAIN,
                          .since = 1,
                          .min_inputs = 1,
                          .max_inputs = 1,
                          .max_outputs = 1,
                          .attributes = (const char *const[]){"norm", NULL},
                          .infer = features_infer,
                          .prepare = normalizer_prepare,
                          .forward = normalizer_forward,
                          .release = features_release};
