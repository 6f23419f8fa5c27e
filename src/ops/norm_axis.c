/* Normalisation over axes without weights.
 *
 *     LpNormalization             y = x / |x|_p along one axis, p 1 or 2 (0 where the norm is 0)
 *                                 dx = (g - y' sum(g y)) / |x|_p, y' the sign of x for p = 1, y for p = 2
 *     MeanVarianceNormalization   h = (x - mean) / sqrt(variance), population variance
 *                                 dx = (g - mean(g) - h mean(g h)) / sqrt(variance) */
#include "base/mem.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

/* x (array 0) and the group that each element belongs to (array 1). */
typedef struct groups {
  nest nest;
  int64_t n, size; /* groups, and elements of each */
  int64_t p;
} groups;

static status groups_new(step *s, unsigned mask) {
  const shape *x = &s->in[0]->shape;
  shape kept = *x;
  groups *g;
  status st = mem_new(&g, 1, sizeof *g);
  if (st != STATUS_OK) return st;
  s->state = g;
  for (int d = 0; d < x->rank; d++)
    if (mask >> d & 1) kept.dims[d] = 1;
  nest_broadcast(&g->nest, x, (const shape *[]){x, &kept}, 2);
  nest_simplify(&g->nest);
  g->n = shape_count(&kept);
  g->size = g->n ? shape_count(x) / g->n : 0;
  return STATUS_OK;
}

static void groups_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* For every element: its place i and its group k. */
#define EACH_ELEMENT(g)                                                                                      \
  nest n = (g)->nest;                                                                                        \
  for (bool more = nest_begin(&n); more; more = nest_next(&n))                                               \
    for (int64_t e = 0, i = n.offset[0], k = n.offset[1]; e < nest_length(&n);                               \
         e++, i += nest_stride(&n, 0), k += nest_stride(&n, 1))

static status lp_infer(step *s) {
  const int64_t p = node_int(s->node, "p", 2);
  int axis;
  status st = axis_from_front(s, node_int(s->node, "axis", -1), s->in[0]->shape.rank, &axis);
  if (st != STATUS_OK) return st;
  if (p != 1 && p != 2) return step_error(s, "p is %lld, expected 1 or 2", (long long)p);
  return infer_like_float_input(s);
}

/* saved: the norms; scratch: sums of groups. */
static status lp_prepare(step *s) {
  int axis;
  status st = axis_from_front(s, node_int(s->node, "axis", -1), s->in[0]->shape.rank, &axis);
  if (st == STATUS_OK) st = groups_new(s, 1u << axis);
  if (st != STATUS_OK) return st;
  groups *g = s->state;
  g->p = node_int(s->node, "p", 2);
  s->saved_bytes = s->scratch_bytes = (size_t)g->n * sizeof(double);
  return STATUS_OK;
}

static status lp_forward(step *s) {
  const groups *g = s->state;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  double *norm = s->saved;
  memset(norm, 0, (size_t)g->n * sizeof *norm);
  { EACH_ELEMENT(g) norm[k] += g->p == 1 ? fabs((double)x[i]) : (double)x[i] * (double)x[i]; }
  for (int64_t k = 0; g->p == 2 && k < g->n; k++) norm[k] = sqrt(norm[k]);
  EACH_ELEMENT(g) y[i] = norm[k] == 0 ? 0 : (float)((double)x[i] / norm[k]);
  return STATUS_OK;
}

static status lp_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const groups *g = s->state;
  const float *y = s->out[0]->data, *dy = s->dout[0]->data;
  const double *norm = s->saved;
  float *dx = s->din[0]->data;
  double *sum = s->scratch;
  memset(sum, 0, (size_t)g->n * sizeof *sum);
  { EACH_ELEMENT(g) sum[k] += (double)dy[i] * (double)y[i]; }
  EACH_ELEMENT(g) {
    const double slope = g->p == 2 ? (double)y[i] : (double)((y[i] > 0) - (y[i] < 0));
    const float part = norm[k] == 0 ? 0 : (float)(((double)dy[i] - slope * sum[k]) / norm[k]);
    dx[i] = s->accumulate[0] ? dx[i] + part : part;
  }
  return STATUS_OK;
}

static status mean_variance_axes(const step *s, unsigned *mask) {
  const int rank = s->in[0]->shape.rank;
  int n;
  status st = axes_read(s, -1, rank, mask, &n);
  if (st == STATUS_OK && n < 0) {
    if (rank != 4) return step_error(s, "needs axes for an input of %d dimensions", rank);
    *mask = 1 | 1 << 2 | 1 << 3;
  }
  return st;
}

static status mean_variance_infer(step *s) {
  unsigned mask;
  status st = mean_variance_axes(s, &mask);
  return st == STATUS_OK ? infer_like_float_input(s) : st;
}

/* saved: the standard deviations; scratch: two sums of each group. */
static status mean_variance_prepare(step *s) {
  unsigned mask;
  status st = mean_variance_axes(s, &mask);
  if (st == STATUS_OK) st = groups_new(s, mask);
  if (st != STATUS_OK) return st;
  const groups *g = s->state;
  s->saved_bytes = (size_t)g->n * sizeof(double);
  s->scratch_bytes = 2 * (size_t)g->n * sizeof(double);
  return STATUS_OK;
}

static status mean_variance_forward(step *s) {
  const groups *g = s->state;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data;
  double *deviation = s->saved, *mean = s->scratch, *square = mean + g->n;
  memset(mean, 0, 2 * (size_t)g->n * sizeof *mean);
  { EACH_ELEMENT(g) mean[k] += (double)x[i]; }
  for (int64_t k = 0; k < g->n; k++) mean[k] /= (double)g->size;
  { EACH_ELEMENT(g) square[k] += ((double)x[i] - mean[k]) * ((double)x[i] - mean[k]); }
  for (int64_t k = 0; k < g->n; k++)
    deviation[k] = sqrt(square[k] / (double)g->size) + 1e-9; /* as ONNX does */
  EACH_ELEMENT(g) y[i] = (float)(((double)x[i] - mean[k]) / deviation[k]);
  return STATUS_OK;
}

static status mean_variance_backward(step *s) {
  if (!s->din[0]) return STATUS_OK;
  const groups *g = s->state;
  const float *y = s->out[0]->data, *dy = s->dout[0]->data;
  const double *deviation = s->saved, size = (double)g->size;
  float *dx = s->din[0]->data;
  double *sum = s->scratch, *product = sum + g->n;
  memset(sum, 0, 2 * (size_t)g->n * sizeof *sum);
  {
    EACH_ELEMENT(g) {
      sum[k] += (double)dy[i];
      product[k] += (double)dy[i] * (double)y[i];
    }
  }
  EACH_ELEMENT(g) {
    const float part =
        (float)(((double)dy[i] - sum[k] / size - (double)y[i] * product[k] / size) / deviation[k]);
    dx[i] = s->accumulate[0] ? dx[i] + part : part;
  }
  return STATUS_OK;
}

#define NORM(identifier, first, family, ...)                                                                 \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .flags = OP_IN_PLACE,                                                          \
                              .keeps = KEEP_OUT0,                                                            \
                              .differentiable = 1,                                                           \
                              .infer = family##_infer,                                                       \
                              .prepare = family##_prepare,                                                   \
                              .forward = family##_forward,                                                   \
                              .backward = family##_backward,                                                 \
                              .release = groups_release}

NORM(LpNormalization, 1, lp, "axis", "p", NULL);
NORM(MeanVarianceNormalization, 9, mean_variance, "axes", NULL);
