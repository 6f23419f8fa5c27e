/* MatMul: numpy's matmul. Leading axes are a batch and broadcast; a vector on the left is a row, on the right
 * a column, and the axis it lacked is left out of the result. */
#include "ops/attention.h"
#include "ops/blas.h"
#include "ops/dnnl.h"
#include "ops/follow.h"
#include "ops/multiply.h"
#include "ops/reference.h"
#include "ops/thin.h"

#include "base/mem.h"

enum { FORWARD, TO_A, TO_B, WAYS };

typedef struct matmul {
  bool plain;
  int64_t m, n, k, batch;
  int64_t n_a, n_b;       /* matrices that A and B hold: fewer than batch where they are repeated */
  int64_t *at_a, *at_b;   /* [batch] which of them */
  product_kernel *kernel; /* not for training: of all, or of one after the other; NULL: none */
  bool whole;
  multiply ways[WAYS]; /* then, of one */
} matmul;

/* A vector becomes the matrix it stands for. */
static void as_matrices(const step *s, shape *a, shape *b) {
  *a = s->in[0]->shape;
  *b = s->in[1]->shape;
  if (a->rank == 1) *a = (shape){.rank = 2, .dims = {1, a->dims[0]}};
  if (b->rank == 1) *b = (shape){.rank = 2, .dims = {b->dims[0], 1}};
}

static shape batch_of(const shape *matrices) {
  shape batch = *matrices;
  batch.rank -= 2;
  return batch;
}

static status matmul_infer(step *s) {
  const tensor *ta = s->in[0], *tb = s->in[1];
  char text_a[128], text_b[128];
  dtype t = ta->type;
  if ((t != DTYPE_FLOAT && t != DTYPE_DOUBLE && t != DTYPE_INT32 && t != DTYPE_INT64) || tb->type != t) {
    return step_error(s, "takes float, double, int32 or int64 for both inputs, got %s and %s", dtype_name(t),
                      dtype_name(tb->type));
  }
  shape a, b, y;
  as_matrices(s, &a, &b);
  shape batch_a = batch_of(&a), batch_b = batch_of(&b);
  if (a.rank < 2 || b.rank < 2 || a.dims[a.rank - 1] != b.dims[b.rank - 2] ||
      !shape_broadcast(&batch_a, &batch_b, &y)) {
    return step_error(s, "shapes %s and %s cannot be multiplied",
                      shape_text(&ta->shape, text_a, sizeof text_a),
                      shape_text(&tb->shape, text_b, sizeof text_b));
  }
  if (ta->shape.rank > 1) y.dims[y.rank++] = a.dims[a.rank - 2];
  if (tb->shape.rank > 1) y.dims[y.rank++] = b.dims[b.rank - 1];
  step_set_output(s, 0, t, &y);
  return STATUS_OK;
}

/* Which matrix of `one` stands at each place of the batch. */
static void places(const shape *one, const shape *batch, int64_t n, int64_t *at) {
  int64_t steps[SHAPE_MAX_RANK];
  shape_strides(one, batch, steps);
  for (int64_t i = 0; i < n; i++) {
    int64_t rest = i;
    at[i] = 0;
    for (int axis = batch->rank - 1; axis >= 0; axis--) {
      at[i] += rest % batch->dims[axis] * steps[axis];
      rest /= batch->dims[axis];
    }
  }
}

static void matmul_release(step *s) {
  matmul *m = s->state;
  if (!m) return;
  product_kernel_free(&m->kernel);
  for (int i = 0; i < WAYS; i++) multiply_close(&m->ways[i]);
  mem_free(m->at_a);
  mem_free(m->at_b);
  mem_free(m);
  s->state = NULL;
}

/* Every matrix of the batch stands at its own place in A and in B. */
static bool in_order(const matmul *m) {
  return m->n_a == m->batch && m->n_b == m->batch;
}

static status make_kernel(step *s, matmul *m) {
  status st = STATUS_OK;
  m->whole = in_order(m);
  product_shape p = {.batch = m->whole ? m->batch : 1, .m = m->m, .n = m->n, .k = m->k};
  follow_read(s, &p.bias, &p.after);
  TRY(product_kernel_new(&m->kernel, &p));
  if (m->kernel) s->scratch_bytes = product_kernel_scratch_bytes(m->kernel);
  if (!m->kernel && s->n_followers) return step_error(s, "the library has no kernel for a product like this");
done:
  return st;
}

/* A repeated matrix gets the sum over its places. */
static bool sums_a(const step *s, const matmul *m) {
  return s->accumulate[0] || m->n_a < m->batch;
}

static bool sums_b(const step *s, const matmul *m) {
  return s->accumulate[1] || m->n_b < m->batch;
}

/* dA = dy B', dB = A' dy */
static status open_ways(step *s, matmul *x) {
  status st = STATUS_OK;
  const int64_t m = x->m, n = x->n, k = x->k;
  x->ways[FORWARD] = (multiply){false, false, false, m, n, k, .alpha = 1};
  TRY(multiply_open(s, &x->ways[FORWARD]));
  if (s->din[0]) {
    x->ways[TO_A] = (multiply){false, true, sums_a(s, x), m, k, n, .alpha = 1};
    TRY(multiply_open(s, &x->ways[TO_A]));
  }
  if (s->din[1]) {
    x->ways[TO_B] = (multiply){true, false, sums_b(s, x), k, n, m, .alpha = 1};
    TRY(multiply_open(s, &x->ways[TO_B]));
  }
done:
  return st;
}

static status matmul_prepare(step *s) {
  status st = STATUS_OK;
  matmul *m = NULL;
  shape a, b, batch;
  TRY(mem_new(&s->state, 1, sizeof *m));
  m = s->state;
  as_matrices(s, &a, &b);
  shape batch_a = batch_of(&a), batch_b = batch_of(&b);
  shape_broadcast(&batch_a, &batch_b, &batch);
  m->m = a.dims[a.rank - 2];
  m->k = a.dims[a.rank - 1];
  m->n = b.dims[b.rank - 1];
  m->batch = shape_count(&batch);
  m->n_a = shape_count(&batch_a);
  m->n_b = shape_count(&batch_b);
  /* One B for all of A's matrices: they are the rows of one larger matrix. */
  if (m->n_b == 1 && m->n_a == m->batch && blas_fits(m->m * m->batch, m->n, m->k)) {
    m->m *= m->batch;
    m->batch = m->n_a = 1;
    batch_a = batch_b = batch = (shape){.rank = 0};
  }
  m->plain = s->reference || s->in[0]->type != DTYPE_FLOAT || !blas_fits(m->m, m->n, m->k);
  TRY(mem_new(&m->at_a, (size_t)m->batch, sizeof *m->at_a));
  TRY(mem_new(&m->at_b, (size_t)m->batch, sizeof *m->at_b));
  places(&batch_a, &batch, m->batch, m->at_a);
  places(&batch_b, &batch, m->batch, m->at_b);
  if (!m->plain && !s->training && m->batch && m->k <= PRODUCT_K_MAX) TRY(make_kernel(s, m));
  if (!m->plain && !m->kernel && m->batch) TRY(open_ways(s, m));
done:
  if (st) matmul_release(s);
  return st;
}

static status run_kernel(const step *s, const matmul *m) {
  status st = STATUS_OK;
  const float *a = s->in[0]->data, *b = s->in[1]->data, *bias = follow_bias(s, 2);
  float *y = s->out[0]->data;
  for (int64_t i = 0; i < (m->whole ? 1 : m->batch); i++) {
    TRY(product_kernel_run(m->kernel, a + m->at_a[i] * m->m * m->k, b + m->at_b[i] * m->k * m->n, bias,
                           y + i * m->m * m->n, s->scratch));
  }
done:
  return st;
}

static status matmul_forward(step *s) {
  status st = STATUS_OK;
  const matmul *m = s->state;
  if (m->kernel) return run_kernel(s, m);
  size_t item = dtype_bytes(s->in[0]->type);
  const product p = {.m = m->m,
                     .n = m->n,
                     .k = m->k,
                     .a_row = m->k,
                     .a_column = 1,
                     .b_row = m->n,
                     .b_column = 1,
                     .y_row = m->n,
                     .y_column = 1,
                     .alpha = 1};
  for (int64_t i = 0; i < m->batch; i++) {
    const char *a = (const char *)s->in[0]->data + (size_t)(m->at_a[i] * m->m * m->k) * item;
    const char *b = (const char *)s->in[1]->data + (size_t)(m->at_b[i] * m->k * m->n) * item;
    char *y = (char *)s->out[0]->data + (size_t)(i * m->m * m->n) * item;
    if (m->plain) {
      product_reference(s->in[0]->type, &p, a, b, y);
    } else {
      TRY(multiply_run(&m->ways[FORWARD], (const float *)a, (const float *)b, (float *)y, s->scratch));
    }
  }
done:
  return st;
}

static void plain_to_a(const matmul *m, const float *dy, const float *b, bool add, float *da) {
  const product p = {.m = m->m,
                     .n = m->k,
                     .k = m->n,
                     .a_row = m->n,
                     .a_column = 1,
                     .b_row = 1,
                     .b_column = m->n,
                     .y_row = m->k,
                     .y_column = 1,
                     .alpha = 1,
                     .accumulate = add};
  product_reference(DTYPE_FLOAT, &p, dy, b, da);
}

static void plain_to_b(const matmul *m, const float *a, const float *dy, bool add, float *db) {
  const product p = {.m = m->k,
                     .n = m->n,
                     .k = m->m,
                     .a_row = 1,
                     .a_column = m->k,
                     .b_row = m->n,
                     .b_column = 1,
                     .y_row = m->n,
                     .y_column = 1,
                     .alpha = 1,
                     .accumulate = add};
  product_reference(DTYPE_FLOAT, &p, a, dy, db);
}

static status one_backward(const step *s, const matmul *m, const float *a, const float *b, const float *dy,
                           float *da, float *db) {
  status st = STATUS_OK;
  if (m->plain) {
    if (da) plain_to_a(m, dy, b, sums_a(s, m), da);
    if (db) plain_to_b(m, a, dy, sums_b(s, m), db);
    return st;
  }
  if (da) TRY(multiply_run(&m->ways[TO_A], dy, b, da, s->scratch));
  if (db) TRY(multiply_run(&m->ways[TO_B], a, dy, db, s->scratch));
done:
  return st;
}

/* Sums over the places of a repeated matrix are made in their order; an only one is overwritten at its only
 * place. */
static status matmul_backward(step *s) {
  status st = STATUS_OK;
  const matmul *m = s->state;
  const float *a = s->in[0]->data, *b = s->in[1]->data, *dy = s->dout[0]->data;
  float *da = s->din[0] ? s->din[0]->data : NULL, *db = s->din[1] ? s->din[1]->data : NULL;
  if (da && sums_a(s, m) && !s->accumulate[0]) memset(da, 0, (size_t)(m->n_a * m->m * m->k) * sizeof *da);
  if (db && sums_b(s, m) && !s->accumulate[1]) memset(db, 0, (size_t)(m->n_b * m->k * m->n) * sizeof *db);
  for (int64_t i = 0; i < m->batch; i++, dy += m->m * m->n) {
    const int64_t at_a = m->at_a[i] * m->m * m->k, at_b = m->at_b[i] * m->k * m->n;
    TRY(one_backward(s, m, a + at_a, b + at_b, dy, da ? da + at_a : NULL, db ? db + at_b : NULL));
  }
done:
  return st;
}

/* dB = A' dy, where the rows of all of A's matrices are one matrix. */
static bool matmul_late(const step *s, int input, late_gradient *out) {
  const matmul *m = s->state;
  return input == 1 && !m->plain && m->batch == 1 && thin_late(s->in[0], s->dout[0], m->m, m->k, m->n, out);
}

static bool matmul_absorb(const step *s, const step *next, int input) {
  const shape *b = &s->in[1]->shape;
  return s->in[0]->type == DTYPE_FLOAT && b->rank == 2 && s->in[0]->shape.rank > 1 &&
         b->dims[0] <= PRODUCT_K_MAX &&
         blas_fits(tensor_count(s->in[0]) / (b->dims[0] ? b->dims[0] : 1), b->dims[1], b->dims[0]) &&
         (follow_is_bias(s, next, input) || follow_is_activation(s, next));
}

const op op_MatMul = {.name = "MatMul",
                      .domain = "",
                      .since = 1,
                      .min_inputs = 2,
                      .max_inputs = 2,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){NULL},
                      .keeps = KEEP_IN0 | KEEP_IN1,
                      .differentiable = 3,
                      .infer = matmul_infer,
                      .prepare = matmul_prepare,
                      .forward = matmul_forward,
                      .backward = matmul_backward,
                      .release = matmul_release,
                      .shorten = attention_shorten,
                      .absorb = matmul_absorb,
                      .late = matmul_late};
