/* Softmax: y = exp(x) / sum(exp(x)); dx = y (g - sum(g y)).
 * LogSoftmax: y = x - log(sum(exp(x))); dx = g - exp(y) sum(g).
 * From opset 13 along one axis; before that along all from `axis` on, taken together. The greatest x is taken
 * away first, so that nothing overflows. An array is [outer][axis][inner]; rows with inner 1 lie next to each
 * other. */
#include "ops/softmax.h"

#include "base/mem.h"
#include "ops/curve.h"
#include "ops/support.h"

#include <math.h>

typedef struct extent {
  int64_t outer, axis, inner;
} extent;

static bool together(const step *s) {
  return s->op->until != 0;
}

static extent read_extent(const step *s) {
  const shape *x = &s->in[0]->shape;
  int64_t given = node_int(s->node, "axis", together(s) ? 1 : -1);
  int axis = (int)(given < 0 ? given + x->rank : given);
  int end = together(s) ? x->rank : axis + 1;
  return (extent){shape_span(x, 0, axis), shape_span(x, axis, end), shape_span(x, end, x->rank)};
}

static status softmax_infer(step *s) {
  int axis, rank = s->in[0]->shape.rank;
  int64_t given = node_int(s->node, "axis", together(s) ? 1 : -1);
  bool behind_the_last = together(s) && given == rank; /* rows of no elements left: each is one */
  if (!behind_the_last) {
    status st = axis_from_front(s, given, rank, &axis);
    if (st != STATUS_OK) return st;
  }
  return infer_like_float_input(s);
}

/* Two rows of `inner` numbers. */
static status softmax_prepare(step *s) {
  extent *e;
  status st = mem_new(&e, 1, sizeof *e);
  if (st != STATUS_OK) return st;
  *e = read_extent(s);
  s->state = e;
  s->scratch_bytes = 2 * (size_t)e->inner * sizeof(float);
  return STATUS_OK;
}

static void softmax_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

FOR_EACH_PROCESSOR static float greatest(const float *x, int64_t n) {
  enum { LANES = 16 };
  float lane[LANES], top = x[0];
  int64_t i = 0;
  if (n >= LANES) {
    for (int l = 0; l < LANES; l++) lane[l] = x[l];
    for (i = LANES; i + LANES <= n; i += LANES) {
      for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    }
    for (int l = 0; l < LANES; l++) top = lane[l] > top ? lane[l] : top;
  }
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  return top;
}

FOR_EACH_PROCESSOR static void exp_row(float *y, const float *x, int64_t n) {
  const float top = greatest(x, n);
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] = curve_exp(x[i] - top);
  const float scale = 1 / floats_sum(y, n);
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

void softmax_row(float *y, const float *x, int64_t n) {
  exp_row(y, x, n);
}

FOR_EACH_PROCESSOR static float exponential_sum(const float *x, float top, int64_t n) {
  enum { PIECE = 256 };
  float piece[PIECE];
  double sum = 0;
  for (int64_t at = 0; at < n; at += PIECE) {
    int64_t m = n - at < PIECE ? n - at : PIECE;
    for (int64_t i = 0; i < m; i++) piece[i] = curve_exp(x[at + i] - top);
    sum += floats_sum(piece, m);
  }
  return (float)sum;
}

FOR_EACH_PROCESSOR static void log_softmax_row(float *y, const float *x, int64_t n) {
  const float top = greatest(x, n), rest = logf(exponential_sum(x, top, n));
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) y[i] = x[i] - top - rest;
}

/* The same for `inner` rows at once that lie crosswise: [axis][inner]. top and sum are rows of scratch. */
FOR_EACH_PROCESSOR static void softmax_plane(float *y, const float *x, int64_t axis, int64_t inner,
                                             float *top, float *sum, bool logarithm) {
  for (int64_t i = 0; i < inner; i++) top[i] = x[i], sum[i] = 0;
  for (int64_t k = 1; k < axis; k++) {
    for (int64_t i = 0; i < inner; i++) top[i] = x[k * inner + i] > top[i] ? x[k * inner + i] : top[i];
  }
  for (int64_t k = 0; k < axis; k++) {
    for (int64_t i = 0; i < inner; i++) {
      float above = x[k * inner + i] - top[i], e = curve_exp(above);
      sum[i] += e;
      y[k * inner + i] = logarithm ? above : e;
    }
  }
  for (int64_t i = 0; i < inner; i++) sum[i] = logarithm ? logf(sum[i]) : 1 / sum[i];
  for (int64_t k = 0; k < axis; k++) {
    float *row = y + k * inner;
    for (int64_t i = 0; i < inner; i++) row[i] = logarithm ? row[i] - sum[i] : row[i] * sum[i];
  }
}

static status forward(step *s, bool logarithm) {
  const extent e = *(const extent *)s->state;
  const int64_t block = e.axis * e.inner;
  const float *x = s->in[0]->data;
  float *y = s->out[0]->data, *scratch = s->scratch;
  if (block == 0) return STATUS_OK;
  for (int64_t o = 0; o < e.outer; o++, x += block, y += block) {
    if (e.inner == 1) {
      (logarithm ? log_softmax_row : softmax_row)(y, x, e.axis);
    } else {
      softmax_plane(y, x, e.axis, e.inner, scratch, scratch + e.inner, logarithm);
    }
  }
  return STATUS_OK;
}

FOR_EACH_PROCESSOR static float dot(const float *a, const float *b, int64_t n) {
  enum { LANES = 16 };
  float lane[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) lane[l] += a[i + l] * b[i + l];
  }
  double sum = 0;
  for (int l = 0; l < LANES; l++) sum += lane[l];
  for (; i < n; i++) sum += a[i] * b[i];
  return (float)sum;
}

/* d may be g: a row is summed before it is written. */
FOR_EACH_PROCESSOR static void backward_row(float *d, const float *g, const float *y, int64_t n,
                                            bool logarithm, bool add) {
  const float sum = logarithm ? floats_sum(g, n) : dot(g, y, n);
  if (logarithm) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) {
      float part = g[i] - curve_exp(y[i]) * sum;
      d[i] = add ? d[i] + part : part;
    }
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) {
      float part = y[i] * (g[i] - sum);
      d[i] = add ? d[i] + part : part;
    }
  }
}

void softmax_row_gradient(float *d, const float *g, const float *y, int64_t n) {
  backward_row(d, g, y, n, false, false);
}

FOR_EACH_PROCESSOR static void backward_plane(float *d, const float *g, const float *y, const extent *e,
                                              float *sum, bool logarithm, bool add) {
  for (int64_t i = 0; i < e->inner; i++) sum[i] = 0;
  for (int64_t k = 0; k < e->axis; k++) {
    const float *gr = g + k * e->inner, *yr = y + k * e->inner;
    for (int64_t i = 0; i < e->inner; i++) sum[i] += logarithm ? gr[i] : gr[i] * yr[i];
  }
  for (int64_t k = 0; k < e->axis; k++) {
    const float *gr = g + k * e->inner, *yr = y + k * e->inner;
    float *dr = d + k * e->inner;
    EACH_ALONE
    for (int64_t i = 0; i < e->inner; i++) {
      float part = logarithm ? gr[i] - curve_exp(yr[i]) * sum[i] : yr[i] * (gr[i] - sum[i]);
      dr[i] = add ? dr[i] + part : part;
    }
  }
}

static status backward(step *s, bool logarithm) {
  if (!s->din[0]) return STATUS_OK;
  const extent e = *(const extent *)s->state;
  const int64_t block = e.axis * e.inner;
  const float *g = s->dout[0]->data, *y = s->out[0]->data;
  float *d = s->din[0]->data;
  for (int64_t o = 0; o < e.outer; o++, g += block, y += block, d += block) {
    if (e.inner == 1) {
      backward_row(d, g, y, e.axis, logarithm, s->accumulate[0]);
    } else {
      backward_plane(d, g, y, &e, s->scratch, logarithm, s->accumulate[0]);
    }
  }
  return STATUS_OK;
}

static status softmax_forward(step *s) {
  return forward(s, false);
}
static status softmax_backward(step *s) {
  return backward(s, false);
}
static status log_softmax_forward(step *s) {
  return forward(s, true);
}
static status log_softmax_backward(step *s) {
  return backward(s, true);
}

#define OPERATOR(identifier, type, first, last, function)                                                    \
  const op op_##identifier = {.name = type,                                                                  \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 1,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = (const char *const[]){"axis", NULL},                             \
                              .flags = OP_IN_PLACE,                                                          \
                              .keeps = KEEP_OUT0,                                                            \
                              .differentiable = 1,                                                           \
                              .infer = softmax_infer,                                                        \
                              .prepare = softmax_prepare,                                                    \
                              .forward = function##_forward,                                                 \
                              .backward = function##_backward,                                               \
                              .release = softmax_release}

OPERATOR(Softmax_1, "Softmax", 1, 12, softmax);
OPERATOR(Softmax_13, "Softmax", 13, 0, softmax);
OPERATOR(LogSoftmax_1, "LogSoftmax", 1, 12, log_softmax);
OPERATOR(LogSoftmax_13, "LogSoftmax", 13, 0, log_softmax);
