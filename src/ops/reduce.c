/* Reductions over some axes. y = finish(fold of term(x)):
 *     Sum x | Mean x/n | SumSquare x^2 | L1 |x| | L2 sqrt(sum x^2) | LogSum log(sum x) | LogSumExp log(sum
 * e^x) Prod, Max, Min */
#include "base/mem.h"
#include "ops/curve.h"
#include "ops/nest.h"
#include "ops/support.h"

#include <math.h>

typedef struct reduction {
  double start;
  double (*fold)(double so_far, double x);
  double (*finish)(double folded, double n);                /* NULL: as it is */
  void (*row)(float *folded, const float *x, int64_t n);    /* *folded = fold over the row; NULL: elements */
  void (*column)(float *folded, const float *x, int64_t n); /* folded[i] = fold(folded[i], x[i]) */
  float (*slope)(float x, float y, float n);                /* dy/dx; NULL: a backward of its own */
} reduction;

typedef struct reduce_state {
  unsigned mask; /* of the axes that go */
  shape kept;    /* the input's shape with 1 in their place */
  double n;      /* elements behind each result */
} reduce_state;

static status find_axes(const step *s, reduce_state *state) {
  const shape *x = &s->in[0]->shape;
  int n;
  status st = axes_read(s, 1, x->rank, &state->mask, &n);
  if (st != STATUS_OK) return st;
  if (n <= 0 && !node_int(s->node, "noop_with_empty_axes", 0)) state->mask = (1u << x->rank) - 1;
  state->kept = *x;
  state->n = 1;
  for (int d = 0; d < x->rank; d++) {
    if (!(state->mask >> d & 1)) continue;
    state->n *= (double)x->dims[d];
    state->kept.dims[d] = 1;
  }
  return STATUS_OK;
}

static status reduce_infer(step *s) {
  status st = STATUS_OK;
  reduce_state state;
  TRY(input_want_number(s, 0));
  TRY(find_axes(s, &state));
  shape out = state.kept;
  if (!node_int(s->node, "keepdims", 1)) {
    out.rank = 0;
    for (int d = 0; d < state.kept.rank; d++) {
      if (!(state.mask >> d & 1)) out.dims[out.rank++] = state.kept.dims[d];
    }
  }
  step_set_output(s, 0, s->in[0]->type, &out);
done:
  return st;
}

static status reduce_prepare(step *s) {
  reduce_state *state;
  status st = mem_new(&state, 1, sizeof *state);
  if (st != STATUS_OK) return st;
  s->state = state;
  return find_axes(s, state);
}

static void reduce_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* Results (stride 0 along the axes that go) and inputs over the input's shape. */
static void nest_of_all(const step *s, nest *n) {
  const reduce_state *state = s->state;
  const shape *x = &s->in[0]->shape;
  nest_broadcast(n, x, (const shape *[]){&state->kept, x}, 2);
  nest_simplify(n);
}

static void forward_floats(step *s, const reduction *r) {
  float *y = s->out[0]->data;
  const float *x = s->in[0]->data;
  const int64_t count = tensor_count(s->out[0]);
  nest n;
  for (int64_t i = 0; i < count; i++) y[i] = (float)r->start;
  nest_of_all(s, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    float *folded = y + n.offset[0];
    (nest_stride(&n, 0) == 0 ? r->row : r->column)(folded, x + n.offset[1], nest_length(&n));
  }
  if (!r->finish) return;
  const double behind = ((const reduce_state *)s->state)->n;
  for (int64_t i = 0; i < count; i++) y[i] = (float)r->finish(y[i], behind);
}

/* One nest over the results, with the offset of each one's first input; another over the inputs behind a
 * result. */
static void split_nests(const step *s, nest *results, nest *inputs) {
  const reduce_state *state = s->state;
  const shape *x = &s->in[0]->shape;
  int64_t strides[SHAPE_MAX_RANK];
  shape_strides(x, x, strides);
  nest_clear(results, 1);
  nest_clear(inputs, 1);
  for (int d = 0; d < x->rank; d++)
    nest_add(state->mask >> d & 1 ? inputs : results, x->dims[d], &strides[d]);
  nest_add(results, 1, (int64_t[]){0}); /* rows of one result */
  if (inputs->rank == 0) nest_add(inputs, 1, (int64_t[]){0});
}

static double fold_one(const tensor *x, nest *inputs, int64_t first, const reduction *r, double shift) {
  double folded = r->start;
  inputs->offset[0] = first;
  for (bool more = nest_begin(inputs); more; more = nest_next(inputs)) {
    for (int64_t i = 0; i < nest_length(inputs); i++) {
      folded = r->fold(folded, tensor_real(x, inputs->offset[0] + i * nest_stride(inputs, 0)) - shift);
    }
  }
  return folded;
}

static double larger(double so_far, double x) {
  return so_far >= x || isnan(so_far) ? so_far : x;
}
static double smaller(double so_far, double x) {
  return so_far <= x || isnan(so_far) ? so_far : x;
}
static const reduction largest = {.start = -INFINITY, .fold = larger};

/* Any type, in double; the reference for floats. `shifted`: the greatest is taken away first and added again.
 */
static void forward_elements(step *s, const reduction *r, bool shifted) {
  const double behind = ((const reduce_state *)s->state)->n;
  const tensor *x = s->in[0];
  nest results, inputs;
  int64_t to = 0;
  split_nests(s, &results, &inputs);
  for (bool more = nest_begin(&results); more; more = nest_next(&results)) {
    double top = shifted ? fold_one(x, &inputs, results.offset[0], &largest, 0) : 0;
    if (!isfinite(top)) top = 0;
    double folded = fold_one(x, &inputs, results.offset[0], r, top);
    element_set_real(s->out[0], to++, top + (r->finish ? r->finish(folded, behind) : folded));
  }
}

static status reduce_forward(step *s, const reduction *r, bool shifted) {
  if (s->in[0]->type == DTYPE_FLOAT && r->row && !s->reference) {
    forward_floats(s, r);
  } else {
    forward_elements(s, r, shifted);
  }
  return STATUS_OK;
}

/* d (+)= g * slope over one row; y and g have stride k, 0 or 1. */
static void backward_row(float *d, const float *g, const float *x, const float *y, int64_t k, int64_t n,
                         const reduction *r, float behind, bool add) {
  for (int64_t i = 0; i < n; i++) {
    float part = g[i * k] * r->slope(x[i], y[i * k], behind);
    d[i] = add ? d[i] + part : part;
  }
}

/* The same where the slope depends on neither x nor y. */
FOR_EACH_PROCESSOR static void backward_flat_row(float *d, const float *g, int64_t k, int64_t n, float slope,
                                                 bool add) {
  EACH_ALONE
  for (int64_t i = 0; i < n; i++) {
    float part = g[i * k] * slope;
    d[i] = add ? d[i] + part : part;
  }
}

static status reduce_backward(step *s, const reduction *r) {
  if (!s->din[0]) return STATUS_OK;
  const float *x = s->in[0]->data, *y = s->out[0]->data, *g = s->dout[0]->data;
  const float behind = (float)((const reduce_state *)s->state)->n;
  const bool add = s->accumulate[0];
  float *d = s->din[0]->data;
  nest n;
  nest_of_all(s, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    const int64_t at = n.offset[1], of = n.offset[0], k = nest_stride(&n, 0);
    if (s->op->keeps == 0) {
      backward_flat_row(d + at, g + of, k, nest_length(&n), r->slope(0, 0, behind), add);
    } else {
      backward_row(d + at, g + of, x + at, y + of, k, nest_length(&n), r, behind, add);
    }
  }
  return STATUS_OK;
}

/* For slopes that depend on all elements behind a result: calls `share` for each result. */
typedef void share_gradient(float *d, const float *x, const nest *inputs, float y, float g);

static status backward_by_result(step *s, share_gradient *share) {
  if (!s->din[0]) return STATUS_OK;
  const float *x = s->in[0]->data, *y = s->out[0]->data, *g = s->dout[0]->data;
  float *d = gradient_begin(s, 0);
  nest results, inputs;
  int64_t from = 0;
  split_nests(s, &results, &inputs);
  for (bool more = nest_begin(&results); more; more = nest_next(&results), from++) {
    inputs.offset[0] = results.offset[0];
    share(d, x, &inputs, y[from], g[from]);
  }
  return STATUS_OK;
}

/* Elements that tie share the gradient evenly. */
static void share_extreme(float *d, const float *x, const nest *inputs, float y, float g) {
  float ties = 0;
  for (int pass = 0; pass < 2; pass++) {
    nest n = *inputs;
    for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
      for (int64_t i = 0; i < nest_length(&n); i++) {
        int64_t at = n.offset[0] + i * nest_stride(&n, 0);
        if (x[at] != y) continue;
        if (pass == 0) ties++;
        if (pass == 1) d[at] += g / ties;
      }
    }
  }
}

/* The product of the others: through the quotient unless an element is 0. */
static void share_product(float *d, const float *x, const nest *inputs, float y, float g) {
  int64_t zeros = 0;
  double others = 1;
  (void)y;
  for (int pass = 0; pass < 2; pass++) {
    nest n = *inputs;
    for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
      for (int64_t i = 0; i < nest_length(&n); i++) {
        int64_t at = n.offset[0] + i * nest_stride(&n, 0);
        if (pass == 0) {
          if (x[at] == 0) zeros++;
          if (x[at] != 0) others *= x[at];
        } else if (zeros == 0) {
          d[at] += (float)(g * others / x[at]);
        } else if (zeros == 1 && x[at] == 0) {
          d[at] += (float)(g * others);
        }
      }
    }
  }
}

static double fold_sum(double so_far, double x) {
  return so_far + x;
}
static double fold_product(double so_far, double x) {
  return so_far * x;
}
static double fold_square(double so_far, double x) {
  return so_far + x * x;
}
static double fold_absolute(double so_far, double x) {
  return so_far + fabs(x);
}
static double fold_exponential(double so_far, double x) {
  return so_far + exp(x);
}
static double finish_mean(double folded, double n) {
  return folded / n;
}
static double finish_root(double folded, double n) {
  (void)n;
  return sqrt(folded);
}
static double finish_log(double folded, double n) {
  (void)n;
  return log(folded);
}

/* Rows fold in lanes of their own: an order that depends on the length alone, and vector code. */
#define FOLDS(name, start, combined, whole)                                                                  \
  FOR_EACH_PROCESSOR static void name##_row(float *folded, const float *in, int64_t n) {                     \
    enum { LANES = 16 };                                                                                     \
    float lane[LANES];                                                                                       \
    int64_t i = 0;                                                                                           \
    for (int l = 0; l < LANES; l++) lane[l] = start;                                                         \
    for (; i + LANES <= n; i += LANES) {                                                                     \
      for (int l = 0; l < LANES; l++) {                                                                      \
        const float so_far = lane[l], x = in[i + l];                                                         \
        lane[l] = combined;                                                                                  \
      }                                                                                                      \
    }                                                                                                        \
    for (int l = 0; i < n; i++, l++) {                                                                       \
      const float so_far = lane[l], x = in[i];                                                               \
      lane[l] = combined;                                                                                    \
    }                                                                                                        \
    double all = *folded;                                                                                    \
    for (int l = 0; l < LANES; l++) all = whole(all, lane[l]);                                               \
    *folded = (float)all;                                                                                    \
  }                                                                                                          \
  FOR_EACH_PROCESSOR static void name##_column(float *folded, const float *in, int64_t n) {                  \
    EACH_ALONE                                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float so_far = folded[i], x = in[i];                                                             \
      folded[i] = combined;                                                                                  \
    }                                                                                                        \
  }
FOLDS(sum, 0, so_far + x, fold_sum)
FOLDS(square, 0, so_far + x * x, fold_sum)
FOLDS(absolute, 0, so_far + fabsf(x), fold_sum)
FOLDS(max, -INFINITY, so_far >= x || so_far != so_far ? so_far : x, larger)
FOLDS(min, INFINITY, so_far <= x || so_far != so_far ? so_far : x, smaller)

static float slope_one(float x, float y, float n) {
  (void)x, (void)y, (void)n;
  return 1;
}
static float slope_mean(float x, float y, float n) {
  (void)x, (void)y;
  return 1 / n;
}
static float slope_square(float x, float y, float n) {
  (void)y, (void)n;
  return 2 * x;
}
static float slope_sign(float x, float y, float n) {
  (void)y, (void)n;
  return (float)((x > 0) - (x < 0));
}
static float slope_root(float x, float y, float n) {
  (void)n;
  return y == 0 ? 0 : x / y;
}
static float slope_log(float x, float y, float n) {
  (void)x, (void)n;
  return curve_exp(-y);
}
static float slope_log_exponential(float x, float y, float n) {
  (void)n;
  return curve_exp(x - y);
}

#define ROWS(name) .row = name##_row, .column = name##_column
static const reduction l1 = {.fold = fold_absolute, ROWS(absolute), .slope = slope_sign};
static const reduction l2 = {.fold = fold_square, .finish = finish_root, ROWS(square), .slope = slope_root};
static const reduction log_sum = {.fold = fold_sum, .finish = finish_log, ROWS(sum), .slope = slope_log};
static const reduction log_sum_exp = {
    .fold = fold_exponential, .finish = finish_log, .slope = slope_log_exponential};
static const reduction maximum = {.start = -INFINITY, .fold = larger, ROWS(max)};
static const reduction mean = {.fold = fold_sum, .finish = finish_mean, ROWS(sum), .slope = slope_mean};
static const reduction minimum = {.start = INFINITY, .fold = smaller, ROWS(min)};
static const reduction product = {.start = 1, .fold = fold_product};
static const reduction plain_sum = {.fold = fold_sum, ROWS(sum), .slope = slope_one};
static const reduction sum_square = {.fold = fold_square, ROWS(square), .slope = slope_square};

#define OPERATOR(identifier, kernel, kept, forward_of, backward_of)                                          \
  static status identifier##_forward(step *s) {                                                              \
    return forward_of;                                                                                       \
  }                                                                                                          \
  static status identifier##_backward(step *s) {                                                             \
    return backward_of;                                                                                      \
  }                                                                                                          \
  const op op_##identifier = {.name = #identifier,                                                           \
                              .domain = "",                                                                  \
                              .since = 1,                                                                    \
                              .min_inputs = 1,                                                               \
                              .max_inputs = 2,                                                               \
                              .max_outputs = 1,                                                              \
                              .attributes = names,                                                           \
                              .keeps = kept,                                                                 \
                              .differentiable = 1,                                                           \
                              .infer = reduce_infer,                                                         \
                              .prepare = reduce_prepare,                                                     \
                              .forward = identifier##_forward,                                               \
                              .backward = identifier##_backward,                                             \
                              .release = reduce_release};
#define SIMPLE(identifier, kernel, kept)                                                                     \
  OPERATOR(identifier, kernel, kept, reduce_forward(s, &kernel, false), reduce_backward(s, &kernel))

static const char *const names[] = {"axes", "keepdims", "noop_with_empty_axes", NULL};

SIMPLE(ReduceL1, l1, KEEP_IN0)
SIMPLE(ReduceL2, l2, KEEP_IN0 | KEEP_OUT0)
SIMPLE(ReduceLogSum, log_sum, KEEP_OUT0)
SIMPLE(ReduceMean, mean, 0)
SIMPLE(ReduceSum, plain_sum, 0)
SIMPLE(ReduceSumSquare, sum_square, KEEP_IN0)
OPERATOR(ReduceLogSumExp, log_sum_exp, KEEP_IN0 | KEEP_OUT0, reduce_forward(s, &log_sum_exp, true),
         reduce_backward(s, &log_sum_exp))
OPERATOR(ReduceMax, maximum, KEEP_IN0 | KEEP_OUT0, reduce_forward(s, &maximum, false),
         backward_by_result(s, share_extreme))
OPERATOR(ReduceMin, minimum, KEEP_IN0 | KEEP_OUT0, reduce_forward(s, &minimum, false),
         backward_by_result(s, share_extreme))
OPERATOR(ReduceProd, product, KEEP_IN0, reduce_forward(s, &product, false),
         backward_by_result(s, share_product))
