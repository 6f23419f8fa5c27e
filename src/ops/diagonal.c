/* EyeLike: ones on a diagonal, k above the main one. Trilu: what lies on and above (upper) or on and below a
 * diagonal of the last two axes, else 0. Det: the determinants of the matrices of the last two axes. */
#include "base/mem.h"
#include "ops/support.h"

#include <math.h>
#include <string.h>

/* Known as soon as the shape is. */
static status eye_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  const attribute *given = node_attribute(s->node, "dtype");
  const int64_t k = node_int(s->node, "k", 0);
  status st = STATUS_OK;
  tensor *eye = NULL;
  dtype type = given ? dtype_of_onnx(given->i) : s->in[0]->type;
  if (type == DTYPE_NONE) return step_error(s, "dtype %lld is not supported", (long long)given->i);
  if (x->rank != 2) return step_error(s, "needs a matrix, not %d dimensions", x->rank);
  TRY(tensor_new(&eye, type, x));
  for (int64_t i = 0; i < x->dims[0]; i++) {
    int64_t j = i + k;
    if (j >= 0 && j < x->dims[1]) element_set_int(eye, i * x->dims[1] + j, 1);
  }
  step_set_output(s, 0, type, x);
  TRY(step_constant_output(s, 0, eye->data));
done:
  mem_free(eye);
  return st;
}

static status trilu_infer(step *s) {
  if (s->in[0]->shape.rank < 2) return step_error(s, "needs at least 2 dimensions");
  if (step_has(s, 1) && (s->in[1]->type != DTYPE_INT64 || tensor_count(s->in[1]) != 1))
    return step_error(s, "k must be one int64");
  return infer_like_input(s);
}

/* to (+)= what of `from` is kept. */
static void keep_part(const step *s, const char *from, char *to, size_t bytes, bool add) {
  const shape *x = &s->in[0]->shape;
  const int64_t rows = x->dims[x->rank - 2], columns = x->dims[x->rank - 1],
                n = shape_span(x, 0, x->rank - 1);
  const int64_t k = step_has(s, 1) ? *(const int64_t *)s->in[1]->data : 0;
  const bool upper = node_int(s->node, "upper", 1) != 0;
  for (int64_t r = 0; r < n; r++) {
    int64_t edge = r % rows + k + !upper; /* the first column kept, or the first not kept */
    edge = edge < 0 ? 0 : edge > columns ? columns : edge;
    const int64_t first = upper ? edge : 0, end = upper ? columns : edge;
    char *row = to + (size_t)(r * columns) * bytes;
    const size_t before = (size_t)first * bytes, kept = (size_t)(end - first) * bytes;
    if (add) {
      gradient_write((float *)row + first, (const float *)from + r * columns + first, end - first, true);
      continue;
    }
    memmove(row + before, from + (size_t)(r * columns) * bytes + before, kept);
    memset(row, 0, before);
    memset(row + before + kept, 0, (size_t)(columns - end) * bytes);
  }
}

static status trilu_forward(step *s) {
  keep_part(s, s->in[0]->data, s->out[0]->data, dtype_bytes(s->in[0]->type), false);
  return STATUS_OK;
}

static status trilu_backward(step *s) {
  if (s->din[0]) keep_part(s, s->dout[0]->data, s->din[0]->data, sizeof(float), s->accumulate[0]);
  return STATUS_OK;
}

static status det_infer(step *s) {
  shape out = s->in[0]->shape;
  if (out.rank < 2 || out.dims[out.rank - 1] != out.dims[out.rank - 2])
    return step_error(s, "needs square matrices");
  out.rank -= 2;
  status st = input_want(s, 0, DTYPE_FLOAT);
  if (st == STATUS_OK) step_set_output(s, 0, DTYPE_FLOAT, &out);
  return st;
}

static status det_prepare(step *s) {
  const shape *x = &s->in[0]->shape;
  s->scratch_bytes = (size_t)(x->dims[x->rank - 1] * x->dims[x->rank - 1]) * sizeof(double);
  return STATUS_OK;
}

/* Elimination with the largest element of a column as its pivot. a is destroyed. */
static double determinant(double *a, int64_t n) {
  double product = 1;
  for (int64_t k = 0; k < n; k++) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; i++)
      if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
    product *= pivot == k ? a[pivot * n + k] : -a[pivot * n + k];
    if (product == 0) return 0;
    for (int64_t j = k; pivot != k && j < n; j++) {
      double kept = a[k * n + j];
      a[k * n + j] = a[pivot * n + j];
      a[pivot * n + j] = kept;
    }
    for (int64_t i = k + 1; i < n; i++) {
      const double factor = a[i * n + k] / a[k * n + k];
      for (int64_t j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
    }
  }
  return product;
}

static status det_forward(step *s) {
  const shape *x = &s->in[0]->shape;
  const int64_t n = x->dims[x->rank - 1], count = tensor_count(s->out[0]);
  const float *from = s->in[0]->data;
  double *a = s->scratch;
  for (int64_t m = 0; m < count; m++, from += n * n) {
    for (int64_t i = 0; i < n * n; i++) a[i] = (double)from[i];
    ((float *)s->out[0]->data)[m] = (float)determinant(a, n);
  }
  return STATUS_OK;
}

const op op_Det = {.name = "Det",
                   .domain = "",
                   .since = 11,
                   .min_inputs = 1,
                   .max_inputs = 1,
                   .max_outputs = 1,
                   .attributes = (const char *const[]){NULL},
                   .infer = det_infer,
                   .prepare = det_prepare,
                   .forward = det_forward};

const op op_EyeLike = {.name = "EyeLike",
                       .domain = "",
                       .since = 9,
                       .min_inputs = 1,
                       .max_inputs = 1,
                       .max_outputs = 1,
                       .attributes = (const char *const[]){"dtype", "k", NULL},
                       .infer = eye_infer};

const op op_Trilu = {.name = "Trilu",
                     .domain = "",
                     .since = 14,
                     .min_inputs = 1,
                     .max_inputs = 2,
                     .max_outputs = 1,
                     .attributes = (const char *const[]){"upper", NULL},
                     .flags = OP_IN_PLACE,
                     .keeps = KEEP_IN1,
                     .differentiable = 1,
                     .infer = trilu_infer,
                     .forward = trilu_forward,
                     .backward = trilu_backward};
