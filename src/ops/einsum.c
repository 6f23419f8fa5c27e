/* Einsum: products of tensors summed over the labels that the output does not have, as "bqhd,bkhd->bhqk".
 *
 * The inputs are folded from the left: what has come of the first ones times the next. Each such product is a
 * batch of matrix products: of the labels of both sides those that both have and that are needed later count
 * the batch, those that both have and nobody needs later are summed: columns of the left, rows of the right,
 *     those of one side alone are its rows or columns, or are summed while it is packed, if nobody needs
 * them. Packing brings a side to that order; repeated labels (the diagonal) and broadcast axes are a matter
 * of its strides. A side that lies so already is taken as it is. */
#include "ops/blas.h"
#include "ops/nest.h"
#include "ops/reference.h"
#include "ops/support.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

/* A to Z, a to z, and the axes of an ellipsis, the last one last. */
enum { LETTERS = 52, LABELS = LETTERS + SHAPE_MAX_RANK, TERMS_MAX = 16 };

/* The labels of an input or output, and what it means to go one further along each. */
typedef struct term {
  int rank;
  int labels[LABELS];
  bool has[LABELS];
  int64_t strides[LABELS];
} term;

typedef struct equation {
  int n_terms, ellipsis; /* axes of the longest ellipsis */
  int64_t extents[LABELS];
  term terms[TERMS_MAX], out;
} equation;

/* One packed side: its elements in order, from a source by its strides. */
typedef struct side {
  nest nest;     /* packed (array 0), source (array 1) */
  bool in_place; /* the source lies so */
  bool sums;
  int64_t at, n; /* floats of the memory that is kept */
} side;

/* y [batch, m, n] = a [batch, m, k] b [batch, k, n] */
typedef struct stage {
  int64_t batch, m, n, k, at;
  side a, b;
} stage;

typedef struct einsum {
  int n_stages;
  stage *stages;
  side result;          /* the output (array 0) from what has come of all (array 1) */
  int64_t most, packed; /* floats of the largest product and of the largest packed side */
} einsum;

static int letter(char c) {
  return isupper((unsigned char)c) ? c - 'A' : c - 'a' + 26;
}

static void add_label(term *t, int label) {
  t->labels[t->rank++] = label;
  t->has[label] = true;
}

/* One side of a comma, or of the arrow. axes: dimensions of the input, -1 for the output. */
static status read_term(const step *s, const char **text, int axes, int longest, term *t) {
  const char *at = *text;
  int letters = 0;
  for (const char *c = at; *c && *c != ',' && *c != '-'; c++) letters += isalpha((unsigned char)*c) != 0;
  const int spread = axes < 0 ? longest : axes - letters;
  for (; *at && *at != ',' && *at != '-'; at++) {
    if (isspace((unsigned char)*at)) continue;
    if (strncmp(at, "...", 3) == 0 && spread >= 0) {
      for (int k = 0; k < spread && t->rank < LABELS; k++) add_label(t, LABELS - spread + k);
      at += 2;
    } else if (isalpha((unsigned char)*at) && t->rank < LABELS) {
      add_label(t, letter(*at));
    } else {
      return step_error(s, "'%c' in the equation is not understood", *at);
    }
  }
  *text = at;
  if (axes < 0 || t->rank == axes) return STATUS_OK;
  return step_error(s, "the equation has %d labels for an input of %d dimensions", t->rank, axes);
}

/* An output that is not given: the ellipsis, then every letter that stands once, in alphabetical order. */
static void imply_output(equation *e) {
  int count[LABELS] = {0};
  for (int i = 0; i < e->n_terms; i++)
    for (int k = 0; k < e->terms[i].rank; k++) count[e->terms[i].labels[k]]++;
  for (int k = 0; k < e->ellipsis; k++) add_label(&e->out, LABELS - e->ellipsis + k);
  for (int l = 0; l < LETTERS; l++)
    if (count[l] == 1) add_label(&e->out, l);
}

/* Extents of all labels; dimensions of 1 are broadcast. */
static status find_extents(const step *s, equation *e) {
  for (int l = 0; l < LABELS; l++) e->extents[l] = 1;
  for (int i = 0; i < e->n_terms; i++) {
    for (int k = 0; k < e->terms[i].rank; k++) {
      int64_t dim = s->in[i]->shape.dims[k], *extent = &e->extents[e->terms[i].labels[k]];
      if (*extent != 1 && dim != 1 && *extent != dim)
        return step_error(s, "one label stands for axes of %lld and of %lld elements", (long long)*extent,
                          (long long)dim);
      if (dim != 1) *extent = dim;
    }
  }
  return STATUS_OK;
}

static void find_strides(const shape *x, const equation *e, term *t) {
  int64_t step = 1;
  for (int k = t->rank - 1; k >= 0; k--) {
    if (x->dims[k] == e->extents[t->labels[k]]) t->strides[t->labels[k]] += step;
    step *= x->dims[k];
  }
}

/* What the output's labels say of its shape. */
static status output_shape(const step *s, const equation *e, shape *out) {
  bool seen[LABELS] = {false}, known[LABELS] = {false};
  for (int i = 0; i < e->n_terms; i++)
    for (int k = 0; k < e->terms[i].rank; k++) known[e->terms[i].labels[k]] = true;
  *out = (shape){0};
  for (int k = 0; k < e->out.rank; k++) {
    const int l = e->out.labels[k];
    if (!known[l] || seen[l]) return step_error(s, "a label of the output stands in no input, or twice");
    if (k == SHAPE_MAX_RANK)
      return step_error(s, "more than %d dimensions are not supported", SHAPE_MAX_RANK);
    seen[l] = true;
    out->dims[out->rank++] = e->extents[l];
  }
  return STATUS_OK;
}

static status read_equation(const step *s, equation *e, shape *out) {
  const char *text = node_string(s->node, "equation", ""), *at = text;
  status st = STATUS_OK;
  if (s->n_in > TERMS_MAX)
    return step_error(s, "has %d inputs, at most %d are supported", s->n_in, TERMS_MAX);
  for (; e->n_terms < s->n_in; e->n_terms++) {
    term *t = &e->terms[e->n_terms];
    TRY(input_want(s, e->n_terms, DTYPE_FLOAT));
    TRY(read_term(s, &at, s->in[e->n_terms]->shape.rank, 0, t));
    for (int k = 0; k < SHAPE_MAX_RANK; k++)
      if (t->has[LABELS - 1 - k] && k >= e->ellipsis) e->ellipsis = k + 1;
    if (e->n_terms + 1 < s->n_in && *at++ != ',')
      return step_error(s, "equation '%s' has too few terms", text);
  }
  TRY(find_extents(s, e));
  if (strncmp(at, "->", 2) == 0) {
    at += 2;
    TRY(read_term(s, &at, -1, e->ellipsis, &e->out));
  } else {
    imply_output(e);
  }
  if (*at) return step_error(s, "equation '%s' has too many terms", text);
  TRY(output_shape(s, e, out));
  for (int i = 0; i < e->n_terms; i++) find_strides(&s->in[i]->shape, e, &e->terms[i]);
  find_strides(out, e, &e->out);
done:
  return st;
}

static status einsum_infer(step *s) {
  equation *e;
  shape out;
  status st = mem_new(&e, 1, sizeof *e);
  if (st != STATUS_OK) return st;
  st = read_equation(s, e, &out);
  if (st == STATUS_OK) step_set_output(s, 0, DTYPE_FLOAT, &out);
  mem_free(e);
  return st;
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* Labels in a row, and how many elements they count. */
typedef struct group {
  int n;
  int labels[LABELS];
  int64_t count;
} group;

/* What is too large for any memory stays at COUNT_MAX. */
static const int64_t COUNT_MAX = INT64_C(1) << 40;

static int64_t times(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) || product > COUNT_MAX ? COUNT_MAX : product;
}

static void put_in(group *g, int label, int64_t extent) {
  g->labels[g->n++] = label;
  g->count = times(g->count, extent);
}

/* The packed side runs through first, second and third; `dropped` is summed away. */
static status plan_side(const step *s, const equation *e, const term *from, const group *first,
                        const group *second, const group *third, const group *dropped, side *out) {
  const group *const groups[] = {first, second, third, dropped};
  int64_t step = first->count * second->count * third->count;
  out->n = step;
  out->sums = dropped->count != 1;
  nest_clear(&out->nest, 2);
  for (int g = 0; g < 4; g++) {
    for (int k = 0; k < groups[g]->n; k++) {
      const int l = groups[g]->labels[k];
      if (e->extents[l] == 1) continue;
      if (out->nest.rank == NEST_RANK)
        return step_error(s, "more than %d labels are not supported", NEST_RANK);
      if (g < 3) step = e->extents[l] ? step / e->extents[l] : 0;
      nest_add(&out->nest, e->extents[l], (int64_t[]){g < 3 ? step : 0, from->strides[l]});
    }
  }
  if (out->nest.rank == 0) nest_add(&out->nest, 1, (int64_t[]){1, 1});
  nest_simplify(&out->nest);
  out->in_place = out->nest.rank == 1 && nest_stride(&out->nest, 0) == nest_stride(&out->nest, 1);
  return STATUS_OK;
}

/* What has come of the product: contiguous, by the labels of the groups. */
static term product_term(const equation *e, const group *const groups[3]) {
  term t = {0};
  int64_t step = 1;
  for (int g = 0; g < 3; g++)
    for (int k = 0; k < groups[g]->n; k++) add_label(&t, groups[g]->labels[k]);
  for (int k = t.rank - 1; k >= 0; k--) {
    t.strides[t.labels[k]] = step;
    step *= e->extents[t.labels[k]];
  }
  return t;
}

static bool is_needed(const equation *e, int label, int after) {
  bool needed = e->out.has[label];
  for (int i = after + 1; i < e->n_terms; i++) needed |= e->terms[i].has[label];
  return needed;
}

/* a times input i; a becomes what has come of it. */
static status plan_stage(const step *s, const equation *e, term *a, int i, stage *g) {
  const term *b = &e->terms[i];
  group batch = {.count = 1}, sum = batch, rows = batch, columns = batch, drop_a = batch, drop_b = batch;
  status st = STATUS_OK;
  for (int l = 0; l < LABELS; l++) {
    if (!a->has[l] && !b->has[l]) continue;
    const bool both = a->has[l] && b->has[l], needed = is_needed(e, l, i);
    group *to = both        ? (needed ? &batch : &sum)
                : a->has[l] ? (needed ? &rows : &drop_a)
                : needed    ? &columns
                            : &drop_b;
    put_in(to, l, e->extents[l]);
  }
  if (times(times(batch.count, rows.count), columns.count) == COUNT_MAX ||
      times(times(batch.count, sum.count), larger(rows.count, columns.count)) == COUNT_MAX)
    return step_error(s, "the product of inputs 0 to %d is too large", i);
  TRY(plan_side(s, e, a, &batch, &rows, &sum, &drop_a, &g->a));
  TRY(plan_side(s, e, b, &batch, &sum, &columns, &drop_b, &g->b));
  g->batch = batch.count;
  g->m = rows.count;
  g->n = columns.count;
  g->k = sum.count;
  *a = product_term(e, (const group *const[]){&batch, &rows, &columns});
done:
  return st;
}

/* The output's labels in its order; the labels of `last` that it lacks are summed. */
static status plan_result(const step *s, const equation *e, const term *last, side *out) {
  group kept = {.count = 1}, none = kept, dropped = kept;
  for (int k = 0; k < e->out.rank; k++) put_in(&kept, e->out.labels[k], e->extents[e->out.labels[k]]);
  for (int l = 0; l < LABELS; l++)
    if (last->has[l] && !e->out.has[l]) put_in(&dropped, l, e->extents[l]);
  return plan_side(s, e, last, &kept, &none, &none, &dropped, out);
}

/* Kept until backward: packed sides and products, one behind the other. */
static int64_t place_stages(einsum *m) {
  int64_t end = 0;
  for (int i = 0; i < m->n_stages; i++) {
    stage *g = &m->stages[i];
    const int64_t product = g->batch * g->m * g->n;
    g->a.at = end;
    end += g->a.in_place ? 0 : g->a.n;
    g->b.at = end;
    end += g->b.in_place ? 0 : g->b.n;
    g->at = end;
    end += product;
    m->most = larger(m->most, product);
    m->packed = larger(m->packed, larger(g->a.n, g->b.n));
  }
  return end;
}

static status einsum_prepare(step *s) {
  status st = STATUS_OK;
  equation *e = NULL;
  shape out;
  TRY(mem_new(&s->state, 1, sizeof(einsum)));
  einsum *m = s->state;
  TRY(mem_new(&e, 1, sizeof *e));
  TRY(read_equation(s, e, &out));
  TRY(mem_new(&m->stages, (size_t)s->n_in, sizeof *m->stages));
  m->n_stages = s->n_in - 1;
  term acc = e->terms[0];
  for (int i = 1; i < s->n_in; i++) TRY(plan_stage(s, e, &acc, i, &m->stages[i - 1]));
  TRY(plan_result(s, e, &acc, &m->result));
  s->saved_bytes = (size_t)place_stages(m) * sizeof(float);
  s->scratch_bytes = (size_t)(2 * m->most + m->packed) * sizeof(float);
done:
  mem_free(e);
  return st;
}

static void einsum_release(step *s) {
  einsum *m = s->state;
  if (!m) return;
  mem_free(m->stages);
  mem_free(m);
  s->state = NULL;
}

static void fill_side(const side *d, const float *from, float *to) {
  nest n = d->nest;
  if (d->sums) {
    memset(to, 0, (size_t)d->n * sizeof *to);
    nest_sum(&n, to, from);
  } else {
    nest_copy(&n, to, from, sizeof *to);
  }
}

static nest turned(const nest *n) {
  nest t = *n;
  memcpy(t.strides[0], n->strides[1], sizeof t.strides[0]);
  memcpy(t.strides[1], n->strides[0], sizeof t.strides[1]);
  return t;
}

/* The packed side, where it lies: in the kept memory or, in place, at its source. */
static float *packed_at(const step *s, const side *d, const float *source) {
  if (d->in_place) return (float *)source;
  return s->saved ? (float *)s->saved + d->at : NULL; /* nothing to pack */
}

/* y [m, n] = a b for every one of the batch; ta, tb: a, b are given transposed. */
static void multiply(const step *s, int64_t batch, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                     const float *a, const float *b, float *y) {
  const bool plain = s->reference || !blas_fits(m, n, k);
  const product p = {.m = m,
                     .n = n,
                     .k = k,
                     .a_row = ta ? 1 : k,
                     .a_column = ta ? m : 1,
                     .b_row = tb ? 1 : n,
                     .b_column = tb ? k : 1,
                     .y_row = n,
                     .y_column = 1,
                     .alpha = 1};
  if (m == 1 && n == 1 && k == 1) { /* element by element */
    for (int64_t i = 0; i < batch; i++) y[i] = a[i] * b[i];
    return;
  }
  for (int64_t i = 0; i < batch; i++, a += m * k, b += k * n, y += m * n) {
    if (plain) {
      product_reference(DTYPE_FLOAT, &p, a, b, y);
    } else {
      blas_product(ta, tb, m, n, k, 1, a, b, 0, y);
    }
  }
}

/* What has come of the inputs before stage i. */
static const float *product_before(const step *s, int i) {
  const einsum *m = s->state;
  return i == 0 ? s->in[0]->data : (const float *)s->saved + m->stages[i - 1].at;
}

static status einsum_forward(step *s) {
  const einsum *m = s->state;
  for (int i = 0; i < m->n_stages; i++) {
    const stage *g = &m->stages[i];
    const float *left = product_before(s, i), *right = s->in[i + 1]->data;
    float *a = packed_at(s, &g->a, left), *b = packed_at(s, &g->b, right);
    if (!g->a.in_place) fill_side(&g->a, left, a);
    if (!g->b.in_place) fill_side(&g->b, right, b);
    multiply(s, g->batch, false, false, g->m, g->n, g->k, a, b, (float *)s->saved + g->at);
  }
  fill_side(&m->result, product_before(s, m->n_stages), s->out[0]->data);
  return STATUS_OK;
}

/* The gradient of a packed side into that of its source. */
static void unpack(const side *d, const float *from, float *to) {
  nest n = turned(&d->nest);
  nest_sum(&n, to, from);
}

static status einsum_backward(step *s) {
  const einsum *m = s->state;
  float *now = s->scratch, *next = now + m->most, *part = next + m->most;
  for (int i = 0; i < s->n_in; i++)
    if (s->din[i]) gradient_begin(s, i);
  if (m->n_stages == 0) {
    if (s->din[0]) unpack(&m->result, s->dout[0]->data, s->din[0]->data);
    return STATUS_OK;
  }
  nest spread = turned(&m->result.nest);
  nest_copy(&spread, now, s->dout[0]->data, sizeof *now);
  for (int i = m->n_stages - 1; i >= 0; i--) {
    const stage *g = &m->stages[i];
    const float *a = packed_at(s, &g->a, product_before(s, i)), *b = packed_at(s, &g->b, s->in[i + 1]->data);
    if (s->din[i + 1]) {
      multiply(s, g->batch, true, false, g->k, g->n, g->m, a, now, part);
      unpack(&g->b, part, s->din[i + 1]->data);
    }
    if (i == 0 && !s->din[0]) break;
    multiply(s, g->batch, false, true, g->m, g->k, g->n, now, b, part);
    if (i == 0) {
      unpack(&g->a, part, s->din[0]->data);
    } else {
      const stage *before = &m->stages[i - 1];
      memset(next, 0, (size_t)(before->batch * before->m * before->n) * sizeof *next);
      unpack(&g->a, part, next);
      float *old = now;
      now = next;
      next = old;
    }
  }
  return STATUS_OK;
}

const op op_Einsum = {.name = "Einsum",
                      .domain = "",
                      .since = 12,
                      .min_inputs = 1,
                      .max_inputs = -1,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"equation", NULL},
                      .keeps = KEEP_IN_ALL,
                      .differentiable = OP_EVERY_INPUT,
                      .infer = einsum_infer,
                      .prepare = einsum_prepare,
                      .forward = einsum_forward,
                      .backward = einsum_backward,
                      .release = einsum_release};
