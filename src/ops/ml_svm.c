/* SVMClassifier and SVMRegressor, as libsvm computes them: sums over support vectors of a kernel of the row
 * and the vector; classes by votes of all pairs of them, probabilities by coupling the pairs'.
 *
 *     LINEAR   x·v                    POLY     (gamma x·v + coef0)^degree
 *     RBF      exp(-gamma |x - v|^2)  SIGMOID  tanh(gamma x·v + coef0) */
#include "base/mem.h"
#include "ops/ml.h"

#include <math.h>
#include <string.h>

typedef enum kernel { KERNEL_LINEAR, KERNEL_POLY, KERNEL_RBF, KERNEL_SIGMOID } kernel;

typedef struct svm {
  int64_t rows, features, vectors; /* vectors 0: the coefficients are a plane each */
  kernel kernel;
  double gamma, coef0, degree;
  float *columns; /* [features][vectors]: the support vectors turned, so that the loop over them is inside */
  const float *coefficients, *rho, *prob_a, *prob_b;
  int64_t n_coefficients, n_rho, n_prob;
  const int64_t *per_class;
  int64_t n_per_class;
  ml_labels labels;
  ml_transform transform;
  bool one_class;
  int64_t scores; /* a row */
} svm;

static void svm_release(step *s) {
  svm *v = s->state;
  if (v) mem_free(v->columns);
  mem_free(v);
  s->state = NULL;
}

static status read_kernel(const step *s, svm *v) {
  static const char *const names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
  const char *name = node_string(s->node, "kernel_type", "LINEAR");
  const float *p;
  int64_t n;
  status st = ml_reals(s, "kernel_params", &p, &n);
  if (st) return st;
  if (n != 0 && n != 3)
    return step_error(s, "kernel_params has %lld numbers, not gamma, coef0, degree", (long long)n);
  if (n) v->gamma = p[0], v->coef0 = p[1], v->degree = p[2];
  for (int i = 0; i < 4; i++) {
    v->kernel = (kernel)i;
    if (strcmp(name, names[i]) == 0) return STATUS_OK;
  }
  return step_error(s, "kernel_type '%s' is none of LINEAR, POLY, RBF, SIGMOID", name);
}

static status read_common(const step *s, svm *v) {
  status st = STATUS_OK;
  TRY(ml_rows(s, 0, &v->rows, &v->features));
  if (v->features < 1) return step_error(s, "its input has no features");
  TRY(ml_transform_read(s, &v->transform));
  TRY(read_kernel(s, v));
  TRY(ml_reals(s, "coefficients", &v->coefficients, &v->n_coefficients));
  TRY(ml_reals(s, "rho", &v->rho, &v->n_rho));
done:
  return st;
}

/* [vectors][features] turned into [features][vectors]. */
static status turn_vectors(const step *s, svm *v) {
  const float *given;
  int64_t n;
  status st = ml_reals(s, "support_vectors", &given, &n);
  if (st) return st;
  if (n % v->features || n / v->features != v->vectors)
    return step_error(s, "has %lld numbers for %lld support vectors of %lld features", (long long)n,
                      (long long)v->vectors, (long long)v->features);
  st = mem_new(&v->columns, (size_t)n, sizeof *v->columns);
  for (int64_t i = 0; !st && i < n; i++)
    v->columns[i % v->features * v->vectors + i / v->features] = given[i];
  return st;
}

FOR_EACH_PROCESSOR static void add_products(double *k, const float *column, double x, int64_t n) {
  for (int64_t j = 0; j < n; j++) k[j] += x * column[j];
}

FOR_EACH_PROCESSOR static void add_squares(double *k, const float *column, double x, int64_t n) {
  for (int64_t j = 0; j < n; j++) k[j] += (x - column[j]) * (x - column[j]);
}

static double kernel_of(const svm *v, double sum) {
  switch (v->kernel) {
  case KERNEL_POLY:
    return pow(v->gamma * sum + v->coef0, v->degree);
  case KERNEL_RBF:
    return exp(-v->gamma * sum);
  case KERNEL_SIGMOID:
    return tanh(v->gamma * sum + v->coef0);
  default:
    return sum;
  }
}

/* k[vectors] = the kernel of row x and every support vector. */
static void kernels(const svm *v, const float *x, double *k) {
  memset(k, 0, (size_t)v->vectors * sizeof *k);
  for (int64_t f = 0; f < v->features; f++) {
    const float *column = v->columns + f * v->vectors;
    if (v->kernel == KERNEL_RBF) {
      add_squares(k, column, x[f], v->vectors);
    } else {
      add_products(k, column, x[f], v->vectors);
    }
  }
  for (int64_t j = 0; j < v->vectors; j++) k[j] = kernel_of(v, k[j]);
}

static double weighted(const float *coefficients, const double *k, int64_t n) {
  double sum = 0;
  for (int64_t j = 0; j < n; j++) sum += coefficients[j] * k[j];
  return sum;
}

/* The plane of coefficients[features]. */
static double plane(const svm *v, const float *coefficients, const float *x) {
  double sum = 0;
  for (int64_t f = 0; f < v->features; f++) sum += (double)coefficients[f] * x[f];
  return kernel_of(v, sum);
}

/* ---- classifier ---- */

static status check_pairs(const step *s, svm *v) {
  const int64_t c = v->labels.n, pairs = c * (c - 1) / 2;
  v->vectors = 0;
  for (int64_t i = 0; i < v->n_per_class; i++) {
    if (v->per_class[i] < 0 || v->per_class[i] > INT32_MAX - v->vectors)
      return step_error(s, "vectors_per_class: %lld is out of range", (long long)v->per_class[i]);
    v->vectors += v->per_class[i];
  }
  if (v->n_per_class != c || c < 2 || v->n_coefficients != (c - 1) * v->vectors || v->n_rho != pairs ||
      (v->n_prob && v->n_prob != pairs))
    return step_error(s,
                      "the numbers of vectors_per_class (%lld), coefficients (%lld), rho (%lld) and prob_a "
                      "(%lld) do not fit %lld classes and %lld support vectors",
                      (long long)v->n_per_class, (long long)v->n_coefficients, (long long)v->n_rho,
                      (long long)v->n_prob, (long long)c, (long long)v->vectors);
  v->scores = v->n_prob || c == 2 ? c : pairs;
  return STATUS_OK;
}

/* A plane for every class, without support vectors. */
static status check_planes(const step *s, svm *v) {
  const int64_t c = v->labels.n;
  v->vectors = 0;
  v->scores = c;
  if (v->n_coefficients % c == 0 && v->n_coefficients / c == v->features && v->n_rho >= 1 && !v->n_prob &&
      v->kernel != KERNEL_RBF)
    return STATUS_OK;
  return step_error(s, "has %lld coefficients for %lld classes of %lld features",
                    (long long)v->n_coefficients, (long long)c, (long long)v->features);
}

static status classifier_read(const step *s, svm *v) {
  status st = STATUS_OK;
  int64_t n_b;
  TRY(read_common(s, v));
  TRY(ml_labels_read(s, "classlabels_ints", "classlabels_strings", &v->labels));
  TRY(ml_reals(s, "prob_a", &v->prob_a, &v->n_prob));
  TRY(ml_reals(s, "prob_b", &v->prob_b, &n_b));
  TRY(ml_ints(s, "vectors_per_class", &v->per_class, &v->n_per_class));
  if (n_b != v->n_prob)
    return step_error(s, "has %lld numbers in prob_a and %lld in prob_b", (long long)v->n_prob,
                      (long long)n_b);
  TRY(v->n_per_class ? check_pairs(s, v) : check_planes(s, v));
  if (v->scores != v->labels.n && v->transform != ML_NONE)
    return step_error(s, "post_transform of the scores of pairs is not supported");
done:
  return st;
}

static status classifier_infer(step *s) {
  svm v = {0};
  status st = classifier_read(s, &v);
  if (!st) ml_classifier_outputs(s, v.rows, v.scores);
  return st;
}

/* Space of a row, in doubles: kernels, scores of pairs, probabilities of pairs, and what coupling needs. */
static int64_t classifier_space(const svm *v) {
  const int64_t c = v->labels.n;
  return v->vectors + c * c + 2 * c * c + 3 * c;
}

static status classifier_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(svm)));
  svm *v = s->state;
  TRY(classifier_read(s, v));
  TRY(turn_vectors(s, v));
  s->scratch_bytes =
      (size_t)classifier_space(v) * sizeof(double) + (size_t)(ml_space(s, 0) + v->scores) * sizeof(float);
done:
  return st;
}

/* Decision value of every pair (a, b), a < b, in the order of libsvm: above 0 it votes for a. */
static void decide_pairs(const svm *v, const double *k, double *pairs) {
  const int64_t c = v->labels.n;
  int64_t begin_a = 0, at = 0;
  for (int64_t a = 0; a < c; begin_a += v->per_class[a++]) {
    int64_t begin_b = begin_a + v->per_class[a];
    for (int64_t b = a + 1; b < c; begin_b += v->per_class[b++], at++) {
      const float *of_a = v->coefficients + (b - 1) * v->vectors + begin_a;
      const float *of_b = v->coefficients + a * v->vectors + begin_b;
      pairs[at] = v->rho[at] + weighted(of_a, k + begin_a, v->per_class[a]) +
                  weighted(of_b, k + begin_b, v->per_class[b]);
    }
  }
}

/* The class with the most votes, the first of equal ones. */
static int64_t count_votes(int64_t c, const double *pairs, double *votes) {
  int64_t best = 0;
  memset(votes, 0, (size_t)c * sizeof *votes);
  for (int64_t a = 0; a < c; a++)
    for (int64_t b = a + 1; b < c; b++) votes[*pairs++ > 0 ? a : b]++;
  for (int64_t a = 1; a < c; a++) best = votes[a] > votes[best] ? a : best;
  return best;
}

/* r[a][b]: the probability of a against b, from the pair's decision value (Platt 1999). */
static void pair_probabilities(const svm *v, const double *pairs, double *r) {
  const int64_t c = v->labels.n;
  int64_t at = 0;
  for (int64_t a = 0; a < c; a++) {
    for (int64_t b = a + 1; b < c; b++, at++) {
      double p = 1 / (1 + exp(pairs[at] * v->prob_a[at] + v->prob_b[at]));
      p = p < 1e-7 ? 1e-7 : p > 1 - 1e-7 ? 1 - 1e-7 : p;
      r[a * c + b] = p;
      r[b * c + a] = 1 - p;
    }
  }
}

/* p[c] from the probabilities of pairs: the second method of Wu, Lin, Weng 2004, with libsvm's stopping rule,
 * which shows in the fourth digit. */
static void couple(int64_t c, const double *r, double *q, double *qp, double *p) {
  const int rounds = c > 100 ? (int)c : 100;
  const double enough = 0.005 / (double)c;
  for (int64_t t = 0; t < c; t++) {
    p[t] = 1.0 / (double)c;
    q[t * c + t] = 0;
    for (int64_t j = 0; j < c; j++) {
      if (j == t) continue;
      q[t * c + t] += r[j * c + t] * r[j * c + t];
      q[t * c + j] = -r[j * c + t] * r[t * c + j];
    }
  }
  for (int round = 0; round < rounds; round++) {
    double pqp = 0, error = 0;
    for (int64_t t = 0; t < c; t++) {
      qp[t] = 0;
      for (int64_t j = 0; j < c; j++) qp[t] += q[t * c + j] * p[j];
      pqp += p[t] * qp[t];
    }
    for (int64_t t = 0; t < c; t++) error = fabs(qp[t] - pqp) > error ? fabs(qp[t] - pqp) : error;
    if (error < enough) break;
    for (int64_t t = 0; t < c; t++) {
      double change = (pqp - qp[t]) / q[t * c + t];
      p[t] += change;
      pqp = (pqp + change * (change * q[t * c + t] + 2 * qp[t])) / (1 + change) / (1 + change);
      for (int64_t j = 0; j < c; j++) {
        qp[j] = (qp[j] + change * q[t * c + j]) / (1 + change);
        p[j] /= 1 + change;
      }
    }
  }
}

/* One row by its support vectors: scores, and the class, which the votes decide whatever the probabilities.
 * Of two classes without probabilities each has its margin, so that the larger one is that of the class. */
static int64_t classify_by_pairs(const svm *v, const float *x, double *space, float *scores) {
  const int64_t c = v->labels.n;
  double *k = space, *pairs = k + v->vectors, *r = pairs + c * c, *q = r + c * c, *p = q + c * c;
  kernels(v, x, k);
  decide_pairs(v, k, pairs);
  int64_t best = count_votes(c, pairs, p);
  if (v->n_prob) {
    pair_probabilities(v, pairs, r);
    couple(c, r, q, p + c, p);
    for (int64_t a = 0; a < c; a++) scores[a] = (float)p[a];
  } else if (c == 2) {
    scores[0] = (float)pairs[0];
    scores[1] = (float)-pairs[0];
  } else {
    for (int64_t i = 0; i < v->scores; i++) scores[i] = (float)pairs[i];
  }
  return best;
}

static int64_t classify_by_planes(const svm *v, const float *x, float *scores) {
  int64_t best = 0;
  for (int64_t c = 0; c < v->labels.n; c++) {
    scores[c] = (float)(plane(v, v->coefficients + c * v->features, x) + v->rho[0]);
    best = scores[c] > scores[best] ? c : best;
  }
  return best;
}

static status classifier_forward(step *s) {
  const svm *v = s->state;
  double *space = s->scratch;
  float *rows = (float *)(space + classifier_space(v)), *spare = rows + ml_space(s, 0);
  const float *x = ml_floats(s, 0, rows);
  float *to = s->n_out > 1 && s->out[1] ? s->out[1]->data : NULL;
  for (int64_t i = 0; i < v->rows; i++, x += v->features) {
    float *scores = to ? to + i * v->scores : spare;
    int64_t best = v->vectors ? classify_by_pairs(v, x, space, scores) : classify_by_planes(v, x, scores);
    if (s->out[0]) ((int64_t *)s->out[0]->data)[i] = ml_label(&v->labels, best);
    ml_transform_apply(v->transform, scores, 1, v->scores);
  }
  return STATUS_OK;
}

const op op_SVMClassifier = {
    .name = "SVMClassifier",
    .domain = ML_DOMAIN,
    .since = 1,
    .min_inputs = 1,
    .max_inputs = 1,
    .max_outputs = 2,
    .attributes = (const char *const[]){"classlabels_ints", "classlabels_strings", "coefficients",
                                        "kernel_params", "kernel_type", "post_transform", "prob_a", "prob_b",
                                        "rho", "support_vectors", "vectors_per_class", NULL},
    .infer = classifier_infer,
    .prepare = classifier_prepare,
    .forward = classifier_forward,
    .release = svm_release};

/* ---- regressor ---- */

static status regressor_read(const step *s, svm *v) {
  status st = STATUS_OK;
  TRY(read_common(s, v));
  v->vectors = node_int(s->node, "n_supports", 0);
  v->one_class = node_int(s->node, "one_class", 0) != 0;
  int64_t expected = v->vectors ? v->vectors : v->features;
  if (v->vectors < 0 || v->vectors > INT32_MAX || v->n_rho < 1 || v->n_coefficients != expected)
    return step_error(s, "has %lld coefficients and %lld numbers in rho for %lld support vectors",
                      (long long)v->n_coefficients, (long long)v->n_rho, (long long)v->vectors);
  if (!v->vectors && v->kernel == KERNEL_RBF) return step_error(s, "has no support vectors");
done:
  return st;
}

static status regressor_infer(step *s) {
  svm v = {0};
  status st = regressor_read(s, &v);
  if (!st) step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {v.rows, 1}});
  return st;
}

static status regressor_prepare(step *s) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(svm)));
  svm *v = s->state;
  TRY(regressor_read(s, v));
  TRY(turn_vectors(s, v));
  s->scratch_bytes = (size_t)v->vectors * sizeof(double) + (size_t)ml_space(s, 0) * sizeof(float);
done:
  return st;
}

static status regressor_forward(step *s) {
  const svm *v = s->state;
  double *k = s->scratch;
  const float *x = ml_floats(s, 0, (float *)(k + v->vectors));
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < v->rows; i++, x += v->features) {
    double sum = v->rho[0];
    if (v->vectors) {
      kernels(v, x, k);
      sum += weighted(v->coefficients, k, v->vectors);
    } else {
      sum += plane(v, v->coefficients, x);
    }
    y[i] = v->one_class ? (sum > 0 ? 1 : -1) : (float)sum;
  }
  ml_transform_apply(v->transform, y, v->rows, 1);
  return STATUS_OK;
}

const op op_SVMRegressor = {
    .name = "SVMRegressor",
    .domain = ML_DOMAIN,
    .since = 1,
    .min_inputs = 1,
    .max_inputs = 1,
    .max_outputs = 1,
    .attributes = (const char *const[]){"coefficients", "kernel_params", "kernel_type", "n_supports",
                                        "one_class", "post_transform", "rho", "support_vectors", NULL},
    .infer = regressor_infer,
    .prepare = regressor_prepare,
    .forward = regressor_forward,
    .release = svm_release};
