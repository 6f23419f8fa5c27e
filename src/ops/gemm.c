/* Gemm: y = alpha A B + beta C, A and B possibly given transposed, C broadcast to [m, n]. */
#include "ops/blas.h"
#include "ops/dnnl.h"
#include "ops/follow.h"
#include "ops/multiply.h"
#include "ops/reference.h"
#include "ops/thin.h"

#include "base/mem.h"

enum { FORWARD, TO_A, TO_B, WAYS };

typedef struct gemm {
  bool ta, tb, plain;
  int64_t m, n, k;
  float alpha, beta;
  int64_t c_row, c_column; /* steps of C seen as [m, n]: 0 where it is repeated */
  product_kernel *kernel;  /* not for training: with the bias and what follows; NULL: none */
  multiply ways[WAYS];     /* then */
} gemm;

static bool known_type(dtype type) {
  return type == DTYPE_FLOAT || type == DTYPE_DOUBLE || type == DTYPE_INT32 || type == DTYPE_INT64;
}

static void gemm_read(const step *s, gemm *g) {
  const shape *a = &s->in[0]->shape, *b = &s->in[1]->shape;
  *g = (gemm){.ta = node_int(s->node, "transA", 0) != 0,
              .tb = node_int(s->node, "transB", 0) != 0,
              .alpha = node_float(s->node, "alpha", 1),
              .beta = node_float(s->node, "beta", 1)};
  g->m = a->dims[g->ta];
  g->k = a->dims[!g->ta];
  g->n = b->dims[!g->tb];
}

static status gemm_infer(step *s) {
  const tensor *a = s->in[0], *b = s->in[1], *c = s->n_in > 2 ? s->in[2] : NULL;
  char ta[128], tb[128];
  if (!known_type(a->type) || b->type != a->type || (c && c->type != a->type)) {
    return step_error(s, "takes float, double, int32 or int64 for all inputs, got %s and %s",
                      dtype_name(a->type), dtype_name(b->type));
  }
  if (a->shape.rank != 2 || b->shape.rank != 2) {
    return step_error(s, "expected two matrices, got %s and %s", shape_text(&a->shape, ta, sizeof ta),
                      shape_text(&b->shape, tb, sizeof tb));
  }
  gemm g;
  gemm_read(s, &g);
  if (g.k != b->shape.dims[g.tb]) {
    return step_error(s, "the weight expects %lld features, its input %s has %lld",
                      (long long)b->shape.dims[g.tb], shape_text(&a->shape, ta, sizeof ta), (long long)g.k);
  }
  shape y = {.rank = 2, .dims = {g.m, g.n}}, both;
  if (c && (!shape_broadcast(&c->shape, &y, &both) || !shape_equal(&both, &y))) {
    return step_error(s, "C of shape %s cannot be broadcast to %s", shape_text(&c->shape, ta, sizeof ta),
                      shape_text(&y, tb, sizeof tb));
  }
  step_set_output(s, 0, a->type, &y);
  return STATUS_OK;
}

/* dA = alpha dy B' and dB = alpha A' dy, or the transposes of that where the input is one. */
static status open_ways(step *s, gemm *g, bool adds) {
  status st = STATUS_OK;
  const int64_t m = g->m, n = g->n, k = g->k;
  const bool ta = g->ta, tb = g->tb, *add = s->accumulate;
  g->ways[FORWARD] = (multiply){ta, tb, adds, m, n, k, .alpha = g->alpha};
  TRY(multiply_open(s, &g->ways[FORWARD]));
  if (s->din[0]) {
    g->ways[TO_A] = ta ? (multiply){tb, true, add[0], k, m, n, .alpha = g->alpha}
                       : (multiply){false, !tb, add[0], m, k, n, .alpha = g->alpha};
    TRY(multiply_open(s, &g->ways[TO_A]));
  }
  if (s->din[1]) {
    g->ways[TO_B] = tb ? (multiply){true, ta, add[1], n, k, m, .alpha = g->alpha}
                       : (multiply){!ta, false, add[1], k, n, m, .alpha = g->alpha};
    TRY(multiply_open(s, &g->ways[TO_B]));
  }
done:
  return st;
}

/* Products of more than a few rows that are not for training: a C that is a bias, nothing scaled. */
static bool suits_kernel(const step *s, const gemm *g) {
  const tensor *c = s->n_in > 2 ? s->in[2] : NULL;
  const bool bias =
      !c || (g->beta == 1 && tensor_count(c) == g->n && c->shape.dims[c->shape.rank - 1] == g->n);
  return !s->training && !s->reference && s->in[0]->type == DTYPE_FLOAT && blas_fits(g->m, g->n, g->k) &&
         bias && !g->ta && g->alpha == 1 && g->k <= PRODUCT_K_MAX &&
         !thin_suits(false, g->tb, g->m, g->n, g->k);
}

static status make_kernel(step *s, gemm *g) {
  status st = STATUS_OK;
  product_shape p = {.batch = 1, .m = g->m, .n = g->n, .k = g->k, .transposed = g->tb};
  follow_read(s, &p.bias, &p.after);
  p.bias = s->n_in > 2 && s->in[2];
  TRY(product_kernel_new(&g->kernel, &p));
  if (g->kernel) s->scratch_bytes = product_kernel_scratch_bytes(g->kernel);
  if (!g->kernel && s->n_followers) return step_error(s, "the library has no kernel for a product like this");
done:
  return st;
}

static bool gemm_absorb(const step *s, const step *next, int input) {
  (void)input;
  gemm g;
  gemm_read(s, &g);
  return suits_kernel(s, &g) && follow_is_activation(s, next);
}

static status gemm_prepare(step *s) {
  status st = mem_new(&s->state, 1, sizeof(gemm));
  if (st) return st;
  gemm *g = s->state;
  gemm_read(s, g);
  if (suits_kernel(s, g)) {
    st = make_kernel(s, g);
    if (st || g->kernel) return st;
  }
  g->plain = s->reference || s->in[0]->type != DTYPE_FLOAT || !blas_fits(g->m, g->n, g->k);
  if (!g->plain) st = open_ways(s, g, s->n_in > 2 && s->in[2] && g->beta != 0);
  if (!st && s->n_in > 2 && s->in[2]) {
    int64_t steps[SHAPE_MAX_RANK];
    shape y = {.rank = 2, .dims = {g->m, g->n}};
    shape_strides(&s->in[2]->shape, &y, steps);
    g->c_row = steps[0];
    g->c_column = steps[1];
  }
  return st;
}

/* Writing beta C first and letting the product add to it costs no more than the zeros OpenBLAS would write
 * there. */
static void fill(const gemm *g, const float *c, float *y) {
  for (int64_t i = 0; i < g->m; i++, y += g->n) {
    const float *row = c + i * g->c_row;
    if (g->c_column && g->beta == 1) {
      memcpy(y, row, (size_t)g->n * sizeof *y);
    } else if (g->c_column) {
      for (int64_t j = 0; j < g->n; j++) y[j] = g->beta * row[j];
    } else {
      for (int64_t j = 0; j < g->n; j++) y[j] = g->beta * row[0];
    }
  }
}

static product plain_product(const gemm *g) {
  return (product){.m = g->m,
                   .n = g->n,
                   .k = g->k,
                   .a_row = g->ta ? 1 : g->k,
                   .a_column = g->ta ? g->m : 1,
                   .b_row = g->tb ? 1 : g->n,
                   .b_column = g->tb ? g->k : 1,
                   .y_row = g->n,
                   .y_column = 1,
                   .alpha = g->alpha};
}

/* beta C as the product of C's broadcast view [m * n, 1] and the one-element matrix 1. */
static void plain_fill(const gemm *g, const tensor *c, void *y) {
  static const union {
    float f;
    double d;
    int32_t i;
    int64_t l;
  } ones[] = {[DTYPE_FLOAT] = {.f = 1},
              [DTYPE_INT32] = {.i = 1},
              [DTYPE_INT64] = {.l = 1},
              [DTYPE_DOUBLE] = {.d = 1}};
  size_t row = (size_t)g->n * dtype_bytes(c->type);
  for (int64_t i = 0; i < g->m; i++) {
    product p = {.m = g->n, .n = 1, .k = 1, .a_row = g->c_column, .y_row = 1, .alpha = g->beta};
    const char *from = (const char *)c->data + (size_t)(i * g->c_row) * dtype_bytes(c->type);
    product_reference(c->type, &p, from, &ones[c->type], (char *)y + (size_t)i * row);
  }
}

static status gemm_forward(step *s) {
  const gemm *g = s->state;
  const tensor *a = s->in[0], *b = s->in[1], *c = s->n_in > 2 ? s->in[2] : NULL;
  bool add = c && g->beta != 0;
  if (g->kernel)
    return product_kernel_run(g->kernel, a->data, b->data, c ? c->data : NULL, s->out[0]->data, s->scratch);
  if (g->plain) {
    product p = plain_product(g);
    if (add) plain_fill(g, c, s->out[0]->data);
    p.accumulate = add;
    product_reference(a->type, &p, a->data, b->data, s->out[0]->data);
    return STATUS_OK;
  }
  if (add) fill(g, c->data, s->out[0]->data);
  return multiply_run(&g->ways[FORWARD], a->data, b->data, s->out[0]->data, s->scratch);
}

/* dC: dy summed over what C was repeated along. */
static void backward_c(const gemm *g, const float *dy, bool accumulate, float *dc) {
  if (g->c_column) {
    if (g->c_row) {
      rows_sum(1, g->m * g->n, g->beta, dy, accumulate, dc);
    } else {
      rows_sum(g->m, g->n, g->beta, dy, accumulate, dc);
    }
    return;
  }
  if (!accumulate) memset(dc, 0, (size_t)(g->c_row ? g->m : 1) * sizeof *dc);
  for (int64_t i = 0; i < g->m; i++) {
    double sum = 0;
    for (int64_t j = 0; j < g->n; j++) sum += dy[i * g->n + j];
    dc[i * g->c_row] += (float)(g->beta * sum);
  }
}

/* With y = alpha A B: dA = alpha dy B', dB = alpha A' dy, each as the transpose of that where its input is
 * one. */
static void plain_backward(const gemm *g, step *s) {
  const product y = plain_product(g);
  const float *dy = s->dout[0]->data;
  if (s->din[0]) {
    product p = {.m = g->m, .n = g->k, .k = g->n, .alpha = g->alpha, .accumulate = s->accumulate[0]};
    p.a_row = y.y_row, p.a_column = 1, p.b_row = y.b_column, p.b_column = y.b_row;
    p.y_row = y.a_row, p.y_column = y.a_column;
    product_reference(DTYPE_FLOAT, &p, dy, s->in[1]->data, s->din[0]->data);
  }
  if (s->din[1]) {
    product p = {.m = g->k, .n = g->n, .k = g->m, .alpha = g->alpha, .accumulate = s->accumulate[1]};
    p.a_row = y.a_column, p.a_column = y.a_row, p.b_row = y.y_row, p.b_column = 1;
    p.y_row = y.b_row, p.y_column = y.b_column;
    product_reference(DTYPE_FLOAT, &p, s->in[0]->data, dy, s->din[1]->data);
  }
}

static status fast_backward(const gemm *g, step *s) {
  status st = STATUS_OK;
  const float *a = s->in[0]->data, *b = s->in[1]->data, *dy = s->dout[0]->data;
  if (s->din[0]) {
    const float *first = g->ta ? b : dy, *second = g->ta ? dy : b;
    TRY(multiply_run(&g->ways[TO_A], first, second, s->din[0]->data, s->scratch));
  }
  if (s->din[1]) {
    const float *first = g->tb ? dy : a, *second = g->tb ? a : dy;
    TRY(multiply_run(&g->ways[TO_B], first, second, s->din[1]->data, s->scratch));
  }
done:
  return st;
}

static status gemm_backward(step *s) {
  status st = STATUS_OK;
  const gemm *g = s->state;
  if (g->plain)
    plain_backward(g, s);
  else
    TRY(fast_backward(g, s));
  if (s->n_in > 2 && s->din[2]) backward_c(g, s->dout[0]->data, s->accumulate[2], s->din[2]->data);
done:
  return st;
}

/* dB = alpha A' dy, or its transpose. */
static bool gemm_late(const step *s, int input, late_gradient *out) {
  const gemm *g = s->state;
  const tensor *a = s->in[0], *dy = s->dout[0];
  if (input != 1 || g->plain || g->ta || g->alpha != 1) return false;
  return g->tb ? thin_late(dy, a, g->m, g->n, g->k, out) : thin_late(a, dy, g->m, g->k, g->n, out);
}

static void gemm_release(step *s) {
  gemm *g = s->state;
  if (g) product_kernel_free(&g->kernel);
  for (int i = 0; g && i < WAYS; i++) multiply_close(&g->ways[i]);
  mem_free(s->state);
  s->state = NULL;
}

const op op_Gemm = {.name = "Gemm",
                    .domain = "",
                    .since = 7,
                    .min_inputs = 2,
                    .max_inputs = 3,
                    .max_outputs = 1,
                    .attributes = (const char *const[]){"alpha", "beta", "transA", "transB", NULL},
                    .keeps = KEEP_IN0 | KEEP_IN1,
                    .differentiable = 7,
                    .infer = gemm_infer,
                    .prepare = gemm_prepare,
                    .forward = gemm_forward,
                    .backward = gemm_backward,
                    .release = gemm_release,
                    .absorb = gemm_absorb,
                    .late = gemm_late};
