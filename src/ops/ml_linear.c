/* LinearClassifier and LinearRegressor: scores = X coefficients' + intercepts. */
#include "base/mem.h"
#include "ops/blas.h"
#include "ops/ml.h"

typedef struct linear {
  int64_t rows, features, targets;
  const float *coefficients, *intercepts; /* [targets][features], [targets] or NULL */
  ml_labels labels;                       /* of a classifier */
  ml_transform transform;
} linear;

static void linear_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static status linear_read(const step *s, linear *l) {
  status st = STATUS_OK;
  int64_t n, n_intercepts;
  TRY(ml_rows(s, 0, &l->rows, &l->features));
  TRY(ml_transform_read(s, &l->transform));
  TRY(ml_reals(s, "coefficients", &l->coefficients, &n));
  TRY(ml_reals(s, "intercepts", &l->intercepts, &n_intercepts));
  l->targets = l->features > 0 ? n / l->features : 0;
  if (l->targets < 1 || n != l->targets * l->features || (n_intercepts && n_intercepts != l->targets))
    return step_error(s, "has %lld coefficients and %lld intercepts for rows of %lld features", (long long)n,
                      (long long)n_intercepts, (long long)l->features);
  if (!n_intercepts) l->intercepts = NULL;
done:
  return st;
}

static void linear_scores(const linear *l, const float *x, float *y) {
  for (int64_t i = 0; i < l->rows * l->targets; i++) y[i] = l->intercepts ? l->intercepts[i % l->targets] : 0;
  if (l->rows > 0) blas_product(false, true, l->rows, l->targets, l->features, 1, x, l->coefficients, 1, y);
}

static status check_size(const step *s, const linear *l) {
  if (l->rows == 0 || blas_fits(l->rows, l->targets, l->features)) return STATUS_OK;
  return step_error(s, "a product of this size is not supported");
}

/* ---- classifier ---- */

static status classifier_read(const step *s, linear *l) {
  status st = STATUS_OK;
  TRY(linear_read(s, l));
  TRY(ml_labels_read(s, "classlabels_ints", "classlabels_strings", &l->labels));
  if (l->targets != l->labels.n && !(l->targets == 1 && l->labels.n == 2))
    return step_error(s, "has %lld scores for %lld classes", (long long)l->targets, (long long)l->labels.n);
  if (l->targets < l->labels.n && l->transform != ML_NONE && l->transform != ML_LOGISTIC)
    return step_error(s, "one score for two classes goes with post_transform NONE or LOGISTIC only");
  TRY(check_size(s, l));
done:
  return st;
}

static status classifier_infer(step *s) {
  linear l = {0};
  status st = classifier_read(s, &l);
  if (!st) ml_classifier_outputs(s, l.rows, l.labels.n);
  return st;
}

static status classifier_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(linear)));
  linear *l = s->state;
  TRY(classifier_read(s, l));
  s->scratch_bytes = (size_t)(ml_space(s, 0) + l->rows * l->labels.n) * sizeof(float);
done:
  return st;
}

/* One score x for two classes: what ONNX Runtime gives is 1 - x and x, and the second class is chosen where x
 * is above 0. From the last row to the first, as the scores become twice as many where they stand. */
static void spread(const step *s, const linear *l, float *scores) {
  int64_t *labels = s->out[0] ? s->out[0]->data : NULL;
  for (int64_t i = l->rows - 1; i >= 0; i--) {
    float x = scores[i];
    if (labels) labels[i] = ml_label(&l->labels, x > 0);
    scores[2 * i] = l->transform == ML_LOGISTIC ? ml_logistic(-(double)x) : 1 - x;
    scores[2 * i + 1] = l->transform == ML_LOGISTIC ? ml_logistic(x) : x;
  }
}

static status classifier_forward(step *s) {
  const linear *l = s->state;
  float *space = s->scratch;
  const float *x = ml_floats(s, 0, space);
  float *scores = s->n_out > 1 && s->out[1] ? s->out[1]->data : space + ml_space(s, 0);
  linear_scores(l, x, scores);
  if (l->targets < l->labels.n) {
    spread(s, l, scores);
  } else {
    ml_transform_apply(l->transform, scores, l->rows, l->labels.n);
    ml_classify(s, &l->labels, scores, l->rows);
  }
  return STATUS_OK;
}

const op op_LinearClassifier = {.name = "LinearClassifier",
                                .domain = ML_DOMAIN,
                                .since = 1,
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .max_outputs = 2,
                                .attributes = (const char *const[]){"classlabels_ints", "classlabels_strings",
                                                                    "coefficients", "intercepts",
                                                                    "multi_class", "post_transform", NULL},
                                .infer = classifier_infer,
                                .prepare = classifier_prepare,
                                .forward = classifier_forward,
                                .release = linear_release};

/* ---- regressor ---- */

static status regressor_read(const step *s, linear *l) {
  status st = STATUS_OK;
  TRY(linear_read(s, l));
  int64_t targets = node_int(s->node, "targets", 1);
  if (l->targets != targets)
    return step_error(s, "has coefficients for %lld targets, not %lld", (long long)l->targets,
                      (long long)targets);
  TRY(check_size(s, l));
done:
  return st;
}

static status regressor_infer(step *s) {
  linear l = {0};
  status st = regressor_read(s, &l);
  if (!st) step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {l.rows, l.targets}});
  return st;
}

static status regressor_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(linear)));
  TRY(regressor_read(s, s->state));
  s->scratch_bytes = (size_t)ml_space(s, 0) * sizeof(float);
done:
  return st;
}

static status regressor_forward(step *s) {
  const linear *l = s->state;
  linear_scores(l, ml_floats(s, 0, s->scratch), s->out[0]->data);
  ml_transform_apply(l->transform, s->out[0]->data, l->rows, l->targets);
  return STATUS_OK;
}

const op op_LinearRegressor = {
    .name = "LinearRegressor",
    .domain = ML_DOMAIN,
    .since = 1,
    .min_inputs = 1,
    .max_inputs = 1,
    .max_outputs = 1,
    .attributes = (const char *const[]){"coefficients", "intercepts", "post_transform", "targets", NULL},
    .infer = regressor_infer,
    .prepare = regressor_prepare,
    .forward = regressor_forward,
    .release = linear_release};
