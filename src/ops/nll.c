/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss of a model that brings its loss along. x is
 * [rows][classes] [inner] of log-probabilities l, or of scores of which l is the LogSoftmax (output 1); at
 * every place with class t loss = -w[t] l[t],   0 where t is ignore_index;   mean: the sum over the places
 * divided by that of their w dl[t] = -w[t] g;     for scores dx = dl - exp(l) sum(dl) */
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

typedef enum reduction { NONE, SUM, MEAN } reduction;

typedef struct nll {
  int64_t rows, classes, inner;
  reduction reduction;
  bool ignores;
  int64_t ignored;
} nll;

static status read_nll(const step *s, nll *l) {
  const shape *x = &s->in[0]->shape;
  const char *name = node_string(s->node, "reduction", "mean");
  const attribute *ignored = node_attribute(s->node, "ignore_index");
  if (x->rank < 2) return step_error(s, "needs an input [rows, classes, ...]");
  if (strcmp(name, "mean") != 0 && strcmp(name, "sum") != 0 && strcmp(name, "none") != 0)
    return step_error(s, "reduction is '%s', expected none, sum or mean", name);
  *l = (nll){.rows = x->dims[0],
             .classes = x->dims[1],
             .inner = shape_span(x, 2, x->rank),
             .reduction = *name == 'm'   ? MEAN
                          : *name == 's' ? SUM
                                         : NONE,
             .ignores = ignored != NULL,
             .ignored = ignored ? ignored->i : 0};
  return STATUS_OK;
}

static status nll_infer(step *s) {
  shape places = s->in[0]->shape;
  nll l = {0};
  status st = STATUS_OK;
  TRY(read_nll(s, &l));
  TRY(input_want(s, 0, DTYPE_FLOAT));
  TRY(input_want_index(s, 1));
  places.rank--;
  for (int d = 1; d < places.rank; d++) places.dims[d] = s->in[0]->shape.dims[d + 1];
  if (!shape_equal(&places, &s->in[1]->shape))
    return step_error(s, "needs one class for every place of its input");
  if (step_has(s, 2)) TRY(input_want(s, 2, DTYPE_FLOAT));
  if (step_has(s, 2) && tensor_count(s->in[2]) != l.classes)
    return step_error(s, "needs one weight for each of %lld classes", (long long)l.classes);
  step_set_output(s, 0, DTYPE_FLOAT, l.reduction == NONE ? &places : &(shape){.rank = 0});
  step_set_output(s, 1, DTYPE_FLOAT, &s->in[0]->shape);
done:
  return st;
}

static status nll_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(nll));
  return st == STATUS_OK ? read_nll(s, s->state) : st;
}

/* saved: log-probabilities; scratch: their gradients. */
static status cross_entropy_prepare(step *s) {
  status st = nll_prepare(s);
  s->saved_bytes = s->scratch_bytes = (size_t)tensor_count(s->in[0]) * sizeof(float);
  return st;
}

static void nll_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* The weight of place k and, in *at, where its class stands in x; 0 for an ignored place. */
static float place_of(const step *s, const nll *l, int64_t k, int64_t *at) {
  const int64_t t = tensor_int(s->in[1], k);
  if (l->ignores && t == l->ignored) return 0;
  *at = (k / l->inner * l->classes + t) * l->inner + k % l->inner;
  return step_has(s, 2) ? ((const float *)s->in[2]->data)[t] : 1;
}

static double total_weight(const step *s, const nll *l) {
  double total = 0;
  int64_t unused;
  for (int64_t k = 0; k < l->rows * l->inner; k++) total += place_of(s, l, k, &unused);
  return total;
}

static status check_classes(const step *s, const nll *l) {
  for (int64_t k = 0; k < l->rows * l->inner; k++) {
    const int64_t t = tensor_int(s->in[1], k);
    if ((t < 0 || t >= l->classes) && !(l->ignores && t == l->ignored))
      return step_error(s, "class %lld is outside [0, %lld)", (long long)t, (long long)l->classes);
  }
  return STATUS_OK;
}

static status write_loss(const step *s, const float *x) {
  const nll *l = s->state;
  float *loss = s->out[0]->data;
  double sum = 0;
  status st = check_classes(s, l);
  if (st != STATUS_OK) return st;
  for (int64_t k = 0; k < l->rows * l->inner; k++) {
    int64_t at = 0;
    const float weight = place_of(s, l, k, &at), now = weight == 0 ? 0 : -weight * x[at];
    sum += now;
    if (l->reduction == NONE) loss[k] = now;
  }
  if (l->reduction != NONE) loss[0] = (float)(l->reduction == MEAN ? sum / total_weight(s, l) : sum);
  return STATUS_OK;
}

static status nll_forward(step *s) {
  return write_loss(s, s->in[0]->data);
}

static void log_softmax(const nll *l, const float *x, float *y) {
  for (int64_t k = 0; k < l->rows * l->inner; k++) {
    const int64_t first = k / l->inner * l->classes * l->inner + k % l->inner;
    double top = (double)x[first], sum = 0;
    for (int64_t c = 1; c < l->classes; c++) top = fmax(top, (double)x[first + c * l->inner]);
    for (int64_t c = 0; c < l->classes; c++) sum += exp((double)x[first + c * l->inner] - top);
    for (int64_t c = 0; c < l->classes; c++)
      y[first + c * l->inner] = (float)((double)x[first + c * l->inner] - top - log(sum));
  }
}

static status cross_entropy_forward(step *s) {
  const nll *l = s->state;
  log_softmax(l, s->in[0]->data, s->saved);
  if (s->n_out > 1 && s->out[1] && s->saved_bytes) memcpy(s->out[1]->data, s->saved, s->saved_bytes);
  return write_loss(s, s->saved);
}

/* d += the gradient of the loss with respect to log-probabilities. */
static void add_places(const step *s, float *d) {
  const nll *l = s->state;
  const float *g = s->dout[0] ? s->dout[0]->data : NULL;
  const double total = l->reduction == MEAN ? total_weight(s, l) : 1;
  for (int64_t k = 0; g && k < l->rows * l->inner; k++) {
    int64_t at = 0;
    const float weight = place_of(s, l, k, &at);
    if (weight != 0) d[at] -= (float)((double)(weight * g[l->reduction == NONE ? k : 0]) / total);
  }
}

static status nll_backward(step *s) {
  if (s->din[0]) add_places(s, gradient_begin(s, 0));
  return STATUS_OK;
}

/* Class after class of one place: dx (+)= dl - exp(l) sum(dl). dl is in scratch. */
static status cross_entropy_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const nll *l = s->state;
  const int64_t n = tensor_count(s->din[0]);
  const float *log_probability = s->saved;
  float *dl = s->scratch, *dx = s->din[0]->data;
  memset(dl, 0, (size_t)n * sizeof *dl);
  add_places(s, dl);
  if (s->n_out > 1 && s->dout[1]) gradient_write(dl, s->dout[1]->data, n, true);
  for (int64_t k = 0; k < l->rows * l->inner; k++) {
    const int64_t first = k / l->inner * l->classes * l->inner + k % l->inner;
    double sum = 0;
    for (int64_t c = 0; c < l->classes; c++) sum += (double)dl[first + c * l->inner];
    for (int64_t c = 0; c < l->classes; c++) {
      const int64_t at = first + c * l->inner;
      const float part = (float)((double)dl[at] - exp((double)log_probability[at]) * sum);
      dx[at] = s->accumulate[0] ? dx[at] + part : part;
    }
  }
  return STATUS_OK;
}

static const char *const names[] = {"ignore_index", "reduction", NULL};

const op op_NegativeLogLikelihoodLoss = {.name = "NegativeLogLikelihoodLoss",
                                         .domain = "",
                                         .since = 12,
                                         .min_inputs = 2,
                                         .max_inputs = 3,
                                         .max_outputs = 1,
                                         .attributes = names,
                                         .keeps = KEEP_IN1 | KEEP_IN2,
                                         .differentiable = 1,
                                         .infer = nll_infer,
                                         .prepare = nll_prepare,
                                         .forward = nll_forward,
                                         .backward = nll_backward,
                                         .release = nll_release};

const op op_SoftmaxCrossEntropyLoss = {.name = "SoftmaxCrossEntropyLoss",
                                       .domain = "",
                                       .since = 12,
                                       .min_inputs = 2,
                                       .max_inputs = 3,
                                       .max_outputs = 2,
                                       .attributes = names,
                                       .keeps = KEEP_IN1 | KEEP_IN2,
                                       .differentiable = 1,
                                       .infer = nll_infer,
                                       .prepare = cross_entropy_prepare,
                                       .forward = cross_entropy_forward,
                                       .backward = cross_entropy_backward,
                                       .release = nll_release};
