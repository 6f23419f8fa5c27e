/* MatMulInteger and QLinearMatMul: numpy's matmul of 8-bit integers, into int32 or rounded to 8 bits again.
 */
#include "base/mem.h"
#include "ops/blas.h"
#include "ops/nest.h"
#include "ops/quantize.h"
#include "ops/reference.h"

/* Which inputs of an operator are what; -1: it has none. */
typedef struct roles {
  int a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero;
} roles;

static const roles integer_roles = {0, -1, 2, 1, -1, 3, -1, -1};
static const roles linear_roles = {0, 1, 2, 3, 4, 5, 6, 7};

typedef struct quantized_matmul {
  const roles *r;
  levels a, b;
  int64_t m, n, k, n_a, n_b; /* n_a, n_b: matrices that A and B hold */
  nest batch;                /* over the matrices of y, A and B */
  float *b_floats;           /* B without its zero points */
  bool fixed;                /* they are the same in every batch */
} quantized_matmul;

static status want_bytes(const step *s, int i) {
  dtype type = s->in[i]->type;
  if (type == DTYPE_UINT8 || type == DTYPE_INT8) return STATUS_OK;
  return step_error(s, "input %d is %s; uint8 and int8 are supported", i, dtype_name(type));
}

/* Vectors become the matrices they stand for; *batch is what their leading axes are broadcast to. */
static status match(const step *s, const roles *r, shape *a, shape *b, shape *batch) {
  char text_a[128], text_b[128];
  *a = s->in[r->a]->shape;
  *b = s->in[r->b]->shape;
  if (a->rank == 1) *a = (shape){.rank = 2, .dims = {1, a->dims[0]}};
  if (b->rank == 1) *b = (shape){.rank = 2, .dims = {b->dims[0], 1}};
  shape batch_a = *a, batch_b = *b;
  batch_a.rank -= 2;
  batch_b.rank -= 2;
  if (a->rank >= 2 && b->rank >= 2 && a->dims[a->rank - 1] == b->dims[b->rank - 2] &&
      shape_broadcast(&batch_a, &batch_b, batch))
    return STATUS_OK;
  return step_error(s, "shapes %s and %s cannot be multiplied",
                    shape_text(&s->in[r->a]->shape, text_a, sizeof text_a),
                    shape_text(&s->in[r->b]->shape, text_b, sizeof text_b));
}

/* One for all of a matrix, or one for each row of A and each column of B. */
static status read_levels(const step *s, const roles *r, levels *a, levels *b) {
  status st = STATUS_OK;
  int rank_a = s->in[r->a]->shape.rank, rank_b = s->in[r->b]->shape.rank;
  TRY(levels_read(s, r->a, r->a_scale, r->a_zero, rank_a > 1 ? rank_a - 2 : 0, a));
  TRY(levels_read(s, r->b, r->b_scale, r->b_zero, rank_b - 1, b));
  if ((a->type && a->type != s->in[r->a]->type) || (b->type && b->type != s->in[r->b]->type))
    st = step_error(s, "a zero point has another type than what it belongs to");
done:
  return st;
}

static status infer(step *s, const roles *r, dtype type) {
  status st = STATUS_OK;
  shape a, b, y;
  levels of_a, of_b;
  TRY(want_bytes(s, r->a));
  TRY(want_bytes(s, r->b));
  TRY(match(s, r, &a, &b, &y));
  TRY(read_levels(s, r, &of_a, &of_b));
  if (s->in[r->a]->shape.rank > 1) y.dims[y.rank++] = a.dims[a.rank - 2];
  if (s->in[r->b]->shape.rank > 1) y.dims[y.rank++] = b.dims[b.rank - 1];
  step_set_output(s, 0, type, &y);
done:
  return st;
}

static status integer_infer(step *s) {
  return infer(s, &integer_roles, DTYPE_INT32);
}

static status linear_infer(step *s) {
  status st = STATUS_OK;
  TRY(input_want_all(s));
  TRY(want_bytes(s, linear_roles.y_zero));
  TRY(input_want(s, linear_roles.y_scale, DTYPE_FLOAT));
  if (tensor_count(s->in[linear_roles.y_scale]) != 1 || tensor_count(s->in[linear_roles.y_zero]) != 1) {
    st = step_error(s, "only one scale and zero point for the whole output is supported");
    goto done;
  }
  TRY(infer(s, &linear_roles, s->in[linear_roles.y_zero]->type));
done:
  return st;
}

static void release(step *s) {
  quantized_matmul *q = s->state;
  if (q) mem_free(q->b_floats);
  mem_free(q);
  s->state = NULL;
}

static status prepare(step *s, const roles *r) {
  status st = STATUS_OK;
  shape a, b, batch;
  TRY(mem_new(&s->state, 1, sizeof(quantized_matmul)));
  quantized_matmul *q = s->state;
  q->r = r;
  TRY(match(s, r, &a, &b, &batch));
  TRY(read_levels(s, r, &q->a, &q->b));
  shape batch_a = a, batch_b = b;
  batch_a.rank -= 2;
  batch_b.rank -= 2;
  q->m = a.dims[a.rank - 2];
  q->k = a.dims[a.rank - 1];
  q->n = b.dims[b.rank - 1];
  q->n_a = shape_count(&batch_a);
  q->n_b = shape_count(&batch_b);
  nest_broadcast(&q->batch, &batch, (const shape *[]){&batch, &batch_a, &batch_b}, 3);
  if (!blas_fits(q->m, q->n, q->k) && shape_count(&s->out[0]->shape) > 0 && q->k > 0)
    return step_error(s, "matrices of this size are not supported");
  TRY(mem_new(&q->b_floats, (size_t)(q->n_b * q->k * q->n), sizeof(float)));
  q->fixed = s->constant[r->b] && (!q->b.zero || s->constant[r->b_zero]);
  if (q->fixed) levels_center_all(&q->b, s->in[r->b], q->b_floats);
  s->scratch_bytes = (size_t)(q->n_a * q->m * q->k + 2 * q->m * q->n + 32) * sizeof(float);
  if (s->reference) s->scratch_bytes += (size_t)(q->n_b * q->k * q->n) * sizeof(int32_t);
done:
  return st;
}

static status integer_prepare(step *s) {
  return prepare(s, &integer_roles);
}

static status linear_prepare(step *s) {
  return prepare(s, &linear_roles);
}

/* sums[m, n] of matrix i of y into the output. A scale of B's columns makes the factor change along a row. */
static void emit(step *s, const quantized_matmul *q, const int32_t *sums, int64_t i) {
  const int64_t count = q->m * q->n;
  if (q->r == &integer_roles) {
    memcpy((int32_t *)s->out[0]->data + i * count, sums, (size_t)count * sizeof *sums);
    return;
  }
  float y_scale = *(const float *)s->in[q->r->y_scale]->data;
  int32_t zero = (int32_t)tensor_int(s->in[q->r->y_zero], 0);
  char *y = (char *)s->out[0]->data + i * count;
  bool by_column = tensor_count(q->b.scale) != 1;
  for (int64_t row = 0; row < q->m; row++) {
    float a_scale = levels_scale(&q->a, row);
    for (int64_t column = 0; column < q->n; column += by_column ? 1 : q->n) {
      int64_t at = row * q->n + column;
      levels_requantize(s->out[0]->type, sums + at, 0, a_scale * levels_scale(&q->b, column) / y_scale, zero,
                        by_column ? 1 : q->n, y + at);
    }
  }
}

static void multiply_plainly(step *s, quantized_matmul *q) {
  const product p = {.m = q->m,
                     .n = q->n,
                     .k = q->k,
                     .a_row = q->k,
                     .a_column = 1,
                     .b_row = q->n,
                     .b_column = 1,
                     .y_row = q->n,
                     .y_column = 1,
                     .alpha = 1};
  int32_t *a = s->scratch, *b = a + q->n_a * q->m * q->k, *sums = b + q->n_b * q->k * q->n;
  levels_center_ints(&q->a, s->in[q->r->a], a);
  levels_center_ints(&q->b, s->in[q->r->b], b);
  nest n = q->batch;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      product_reference(DTYPE_INT32, &p, a + (n.offset[1] + i * nest_stride(&n, 1)) * q->m * q->k,
                        b + (n.offset[2] + i * nest_stride(&n, 2)) * q->k * q->n, sums);
      emit(s, q, sums, n.offset[0] + i);
    }
  }
}

static status forward(step *s) {
  quantized_matmul *q = s->state;
  if (s->reference) {
    multiply_plainly(s, q);
    return STATUS_OK;
  }
  float *a = s->scratch, *part = a + (q->n_a * q->m * q->k + 15) / 16 * 16;
  int32_t *sums = (int32_t *)(part + (q->m * q->n + 15) / 16 * 16);
  levels_center_all(&q->a, s->in[q->r->a], a);
  if (!q->fixed) levels_center_all(&q->b, s->in[q->r->b], q->b_floats);
  nest n = q->batch;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      integer_product(q->m, q->n, q->k, a + (n.offset[1] + i * nest_stride(&n, 1)) * q->m * q->k,
                      q->b_floats + (n.offset[2] + i * nest_stride(&n, 2)) * q->k * q->n, part, sums);
      emit(s, q, sums, n.offset[0] + i);
    }
  }
  return STATUS_OK;
}

const op op_MatMulInteger = {.name = "MatMulInteger",
                             .domain = "",
                             .since = 10,
                             .min_inputs = 2,
                             .max_inputs = 4,
                             .max_outputs = 1,
                             .attributes = (const char *const[]){NULL},
                             .infer = integer_infer,
                             .prepare = integer_prepare,
                             .forward = forward,
                             .release = release};

const op op_QLinearMatMul = {.name = "QLinearMatMul",
                             .domain = "",
                             .since = 10,
                             .min_inputs = 8,
                             .max_inputs = 8,
                             .max_outputs = 1,
                             .attributes = (const char *const[]){NULL},
                             .infer = linear_infer,
                             .prepare = linear_prepare,
                             .forward = forward,
                             .release = release};
