/* Columns picked, joined and coded: ArrayFeatureExtractor, FeatureVectorizer, OneHotEncoder, LabelEncoder,
 * ZipMap. */
#include "base/mem.h"
#include "ops/ml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- ArrayFeatureExtractor: x[..., indices] ---- */

static status extractor_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  if (s->in[1]->type != DTYPE_INT64 && s->in[1]->type != DTYPE_INT32) return input_want(s, 1, DTYPE_INT64);
  if (x->rank < 1) return step_error(s, "its input has no axis to pick from");
  shape y = *x;
  if (y.rank == 1) y = (shape){.rank = 2, .dims = {1, 0}};
  y.dims[y.rank - 1] = tensor_count(s->in[1]);
  step_set_output(s, 0, s->in[0]->type, &y);
  return STATUS_OK;
}

static status extractor_forward(step *s) {
  const shape *x = &s->in[0]->shape;
  const int64_t d = x->dims[x->rank - 1], n = tensor_count(s->in[1]), rows = shape_span(x, 0, x->rank - 1);
  const size_t item = dtype_bytes(s->in[0]->type);
  const char *from = s->in[0]->data;
  char *to = s->out[0]->data;
  for (int64_t k = 0; k < n; k++) {
    int64_t at = tensor_int(s->in[1], k);
    if (at < 0 || at >= d)
      return step_error(s, "index %lld is outside [0, %lld)", (long long)at, (long long)d);
    for (int64_t i = 0; i < rows; i++)
      memcpy(to + (size_t)(i * n + k) * item, from + (size_t)(i * d + at) * item, item);
  }
  return STATUS_OK;
}

const op op_ArrayFeatureExtractor = {.name = "ArrayFeatureExtractor",
                                     .domain = ML_DOMAIN,
                                     .since = 1,
                                     .min_inputs = 2,
                                     .max_inputs = 2,
                                     .max_outputs = 1,
                                     .attributes = (const char *const[]){NULL},
                                     .infer = extractor_infer,
                                     .forward = extractor_forward};

/* ---- FeatureVectorizer: inputs side by side ---- */

/* A vector holds one feature of every row. */
static int64_t width_of(const tensor *x) {
  return x->shape.rank == 1 ? 1 : x->shape.dims[1];
}

static status vectorizer_infer(step *s) {
  status st = STATUS_OK;
  int64_t rows, d, width = 0;
  TRY(input_want_all(s));
  for (int i = 0; i < s->n_in; i++) {
    TRY(ml_rows(s, i, &rows, &d));
    if (s->in[i]->shape.dims[0] != s->in[0]->shape.dims[0])
      return step_error(s, "its inputs have %lld and %lld rows", (long long)s->in[0]->shape.dims[0],
                        (long long)s->in[i]->shape.dims[0]);
    width += width_of(s->in[i]);
  }
  step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {s->in[0]->shape.dims[0], width}});
done:
  return st;
}

static status vectorizer_forward(step *s) {
  const int64_t rows = s->out[0]->shape.dims[0], width = s->out[0]->shape.dims[1];
  float *y = s->out[0]->data;
  for (int i = 0, at = 0; i < s->n_in; at += (int)width_of(s->in[i++])) {
    const int64_t d = width_of(s->in[i]);
    for (int64_t row = 0; row < rows; row++)
      for (int64_t k = 0; k < d; k++) y[row * width + at + k] = (float)tensor_real(s->in[i], row * d + k);
  }
  return STATUS_OK;
}

const op op_FeatureVectorizer = {.name = "FeatureVectorizer",
                                 .domain = ML_DOMAIN,
                                 .since = 1,
                                 .min_inputs = 1,
                                 .max_inputs = -1,
                                 .max_outputs = 1,
                                 .attributes = (const char *const[]){"inputdimensions", NULL},
                                 .infer = vectorizer_infer,
                                 .forward = vectorizer_forward};

/* ---- OneHotEncoder: a 1 at the place of the category, cut to an integer ---- */

typedef struct categories {
  const int64_t *values;
  int64_t n;
  bool zeros; /* a row of zeros for what is no category, else an error */
} categories;

static void state_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status one_hot_infer(step *s) {
  status st = STATUS_OK;
  categories c;
  TRY(input_want_number(s, 0));
  TRY(ml_ints(s, "cats_int64s", &c.values, &c.n));
  if (!c.n) return step_error(s, "has no integer categories (cats_int64s); strings are not supported");
  shape y = s->in[0]->shape;
  if (y.rank == SHAPE_MAX_RANK) return step_error(s, "its input has too many dimensions");
  y.dims[y.rank++] = c.n;
  step_set_output(s, 0, DTYPE_FLOAT, &y);
done:
  return st;
}

static status one_hot_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(categories)));
  categories *c = s->state;
  TRY(ml_ints(s, "cats_int64s", &c->values, &c->n));
  c->zeros = node_int(s->node, "zeros", 1) != 0;
done:
  return st;
}

static status one_hot_forward(step *s) {
  const categories *c = s->state;
  const int64_t n = tensor_count(s->in[0]);
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < n; i++) {
    int64_t x = tensor_int(s->in[0], i);
    bool found = false;
    for (int64_t k = 0; k < c->n; k++) {
      *y = x == c->values[k];
      found |= *y++ != 0;
    }
    if (!found && !c->zeros) return step_error(s, "%lld is none of the categories", (long long)x);
  }
  return STATUS_OK;
}

const op op_OneHotEncoder = {.name = "OneHotEncoder",
                             .domain = ML_DOMAIN,
                             .since = 1,
                             .min_inputs = 1,
                             .max_inputs = 1,
                             .max_outputs = 1,
                             .attributes =
                                 (const char *const[]){"cats_int64s", "cats_strings", "zeros", NULL},
                             .infer = one_hot_infer,
                             .prepare = one_hot_prepare,
                             .forward = one_hot_forward,
                             .release = state_release};

/* ---- LabelEncoder: values[i] where the input is keys[i], else the default ---- */

/* Numbers of either type; NaN is a key like any other. */
typedef struct numbers {
  const int64_t *ints;
  const float *reals;
  int64_t n;
} numbers;

typedef struct encoder {
  numbers keys, values;
  int64_t *order; /* [n] of the keys, ascending */
  int64_t default_int;
  float default_real;
} encoder;

static status read_numbers(const step *s, const char *ints, const char *reals, const char *what,
                           numbers *out) {
  status st = STATUS_OK;
  int64_t n;
  TRY(ml_ints(s, ints, &out->ints, &out->n));
  TRY(ml_reals(s, reals, &out->reals, &n));
  if (out->n && n) return step_error(s, "has both integer and float %s", what);
  if (out->n + n == 0) return step_error(s, "has no %s that are numbers; strings are not supported", what);
  if (n) out->n = n;
done:
  return st;
}

static status encoder_read(const step *s, encoder *e) {
  status st = STATUS_OK;
  TRY(read_numbers(s, "keys_int64s", "keys_floats", "keys", &e->keys));
  TRY(read_numbers(s, "values_int64s", "values_floats", "values", &e->values));
  e->default_int = node_int(s->node, "default_int64", -1);
  e->default_real = node_float(s->node, "default_float", -0.0f);
  if (e->keys.n != e->values.n)
    return step_error(s, "has %lld keys and %lld values", (long long)e->keys.n, (long long)e->values.n);
  bool whole = dtype_is_integer(s->in[0]->type);
  if (whole != (e->keys.ints != NULL))
    return step_error(s, "its input is %s, its keys are %s", dtype_name(s->in[0]->type),
                      e->keys.ints ? "integers" : "floats");
done:
  return st;
}

static status encoder_infer(step *s) {
  encoder e = {0};
  status st = input_want_number(s, 0);
  if (!st) st = encoder_read(s, &e);
  if (!st) step_set_output(s, 0, e.values.ints ? DTYPE_INT64 : DTYPE_FLOAT, &s->in[0]->shape);
  return st;
}

/* -1, 0, 1; NaN is above all others. */
static int compare_reals(float a, float b) {
  if (isnan(a) || isnan(b)) return isnan(a) - isnan(b);
  return (a > b) - (a < b);
}

static int compare_keys(const void *a, const void *b, void *data) {
  const numbers *keys = data;
  int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
  int c = keys->ints ? (keys->ints[i] > keys->ints[j]) - (keys->ints[i] < keys->ints[j])
                     : compare_reals(keys->reals[i], keys->reals[j]);
  return c ? c : (i > j) - (i < j); /* the first of equal keys counts */
}

static void encoder_release(step *s) {
  encoder *e = s->state;
  if (e) mem_free(e->order);
  mem_free(e);
  s->state = NULL;
}

static status encoder_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(encoder)));
  encoder *e = s->state;
  TRY(encoder_read(s, e));
  TRY(mem_new(&e->order, (size_t)e->keys.n, sizeof *e->order));
  for (int64_t i = 0; i < e->keys.n; i++) e->order[i] = i;
  qsort_r(e->order, (size_t)e->keys.n, sizeof *e->order, compare_keys, &e->keys);
done:
  return st;
}

/* The first key that equals x, -1 if none does. */
static int64_t find_key(const encoder *e, const tensor *x, int64_t i) {
  int64_t low = 0, high = e->keys.n, whole = e->keys.ints ? tensor_int(x, i) : 0;
  float real = e->keys.ints ? 0 : (float)tensor_real(x, i);
  while (low < high) {
    int64_t middle = (low + high) / 2, key = e->order[middle];
    bool below = e->keys.ints ? e->keys.ints[key] < whole : compare_reals(e->keys.reals[key], real) < 0;
    low = below ? middle + 1 : low;
    high = below ? high : middle;
  }
  if (low == e->keys.n) return -1;
  int64_t key = e->order[low];
  bool equal = e->keys.ints ? e->keys.ints[key] == whole : compare_reals(e->keys.reals[key], real) == 0;
  return equal ? key : -1;
}

static status encoder_forward(step *s) {
  const encoder *e = s->state;
  const int64_t n = tensor_count(s->in[0]);
  for (int64_t i = 0; i < n; i++) {
    int64_t key = find_key(e, s->in[0], i);
    if (e->values.ints) {
      ((int64_t *)s->out[0]->data)[i] = key < 0 ? e->default_int : e->values.ints[key];
    } else {
      ((float *)s->out[0]->data)[i] = key < 0 ? e->default_real : e->values.reals[key];
    }
  }
  return STATUS_OK;
}

const op op_LabelEncoder = {
    .name = "LabelEncoder",
    .domain = ML_DOMAIN,
    .since = 2,
    .min_inputs = 1,
    .max_inputs = 1,
    .max_outputs = 1,
    .attributes = (const char *const[]){"default_float", "default_int64", "default_string", "keys_floats",
                                        "keys_int64s", "keys_strings", "values_floats", "values_int64s",
                                        "values_strings", NULL},
    .infer = encoder_infer,
    .prepare = encoder_prepare,
    .forward = encoder_forward,
    .release = encoder_release};

/* ---- ZipMap: a dictionary for every row, which stays the tensor of scores that it is made from ---- */

const op op_ZipMap = {.name = "ZipMap",
                      .domain = ML_DOMAIN,
                      .since = 1,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"classlabels_int64s", "classlabels_strings", NULL},
                      .flags = OP_VIEW,
                      .infer = infer_like_input,
                      .forward = view_forward};
