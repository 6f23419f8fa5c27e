#include "learn/features.h"

#include <math.h>
#include <string.h>

/* A tensor [tokens, width] or [heads, tokens, width / heads] of a row. */
typedef struct layout {
  int64_t tokens, width, own_heads;
} layout;

static layout layout_of(const feature_map *m) {
  const int64_t *d = m->shape.dims;
  if (m->shape.rank == 3) return (layout){d[1], d[2], 1};
  return (layout){d[2], d[1] * d[3], d[1]};
}

static int64_t heads_of(const mpistill_feature *o, const feature_map *m) {
  return o->heads ? o->heads : layout_of(m).own_heads;
}

static status check_map(const mpistill_feature *o, const feature_map *m, int64_t heads) {
  if (m->shape.rank != 3 && m->shape.rank != 4)
    return status_set(
        STATUS_BAD_INPUT,
        "'relation' takes queries, keys or values [rows, tokens, D] or [rows, heads, tokens, d]");
  const layout l = layout_of(m);
  if (heads_of(o, m) != heads)
    return status_set(STATUS_BAD_INPUT, "'relation' compares head by head: %lld with %lld; give heads",
                      (long long)heads, (long long)heads_of(o, m));
  if (l.width % heads == 0) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "'relation' cannot cut %lld numbers of a token into %lld heads",
                    (long long)l.width, (long long)heads);
}

static status check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  const int64_t heads = heads_of(o, &student[0]);
  const feature_map *all[] = {&student[0], &student[1], &teacher[0], &teacher[1]};
  for (int i = 0; i < 4; i++) {
    status st = check_map(o, all[i], heads);
    if (st) return st;
  }
  for (int i = 1; i < 4; i++)
    if (layout_of(all[i]).tokens != layout_of(all[0]).tokens)
      return status_set(STATUS_BAD_INPUT, "'relation' compares token by token: %lld with %lld",
                        (long long)layout_of(all[0]).tokens, (long long)layout_of(all[i]).tokens);
  if (layout_of(all[0]).width == layout_of(all[1]).width &&
      layout_of(all[2]).width == layout_of(all[3]).width)
    return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "'relation': the two tensors of one model differ in width");
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)rows;
  const layout s = layout_of(&student[0]), t = layout_of(&teacher[0]);
  return (size_t)(s.tokens * (4 * s.width + 2 * t.width + 2));
}

/* Place of a number of a token in its row: `feature` counts over the heads. */
static int64_t place(const layout *l, int64_t token, int64_t feature) {
  const int64_t width = l->width / l->own_heads;
  return l->own_heads == 1 ? token * l->width + feature
                           : (feature / width * l->tokens + token) * width + feature % width;
}

/* [tokens, width] of a row. */
static void gather(const feature_map *m, int64_t row, double *out) {
  const layout l = layout_of(m);
  for (int64_t t = 0; t < l.tokens; t++)
    for (int64_t f = 0; f < l.width; f++) *out++ = m->values[row * m->row_values + place(&l, t, f)];
}

static void scatter(const feature_map *m, int64_t row, const double *from, float *gradient) {
  const layout l = layout_of(m);
  for (int64_t t = 0; t < l.tokens; t++)
    for (int64_t f = 0; f < l.width; f++) gradient[row * m->row_values + place(&l, t, f)] += (float)*from++;
}

/* out[tokens]: log softmax over the keys of q.k / sqrt(d), of one head. q: the query's token; k: all tokens.
 */
static void log_shares(const double *q, const double *k, int64_t tokens, int64_t width, int64_t d,
                       double *out) {
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < tokens; j++, k += width) {
    out[j] = 0;
    for (int64_t f = 0; f < d; f++) out[j] += q[f] * k[f];
    out[j] /= sqrt((double)d);
    most = fmax(most, out[j]);
  }
  for (int64_t j = 0; j < tokens; j++) sum += exp(out[j] - most);
  for (int64_t j = 0; j < tokens; j++) out[j] -= most + log(sum);
}

typedef struct relations { /* of one row: [tokens, width] each */
  int64_t tokens, heads, s_width, t_width;
  double *q, *k, *dq, *dk; /* the student's and their slopes */
  double *t_q, *t_k;       /* the teacher's */
  double *mine, *its;      /* [tokens] */
} relations;

/* KL of one head and query; adds factor * its slopes. */
static double relate(const relations *r, int64_t head, int64_t token, double factor) {
  const int64_t d = r->s_width / r->heads, e = r->t_width / r->heads, at = head * d;
  const double share = factor / sqrt((double)d);
  double value = 0;
  log_shares(r->q + token * r->s_width + at, r->k + at, r->tokens, r->s_width, d, r->mine);
  log_shares(r->t_q + token * r->t_width + head * e, r->t_k + head * e, r->tokens, r->t_width, e, r->its);
  for (int64_t j = 0; j < r->tokens; j++) {
    const double p = exp(r->its[j]), slope = share * (exp(r->mine[j]) - p);
    const double *q = r->q + token * r->s_width + at, *k = r->k + j * r->s_width + at;
    double *dq = r->dq + token * r->s_width + at, *dk = r->dk + j * r->s_width + at;
    value += p * (r->its[j] - r->mine[j]);
    for (int64_t f = 0; f < d; f++) {
      dq[f] += slope * k[f];
      dk[f] += slope * q[f];
    }
  }
  return value;
}

static double row(const feature_batch *b, const relations *r, int64_t i, double factor) {
  const size_t n = (size_t)(r->tokens * r->s_width);
  double sum = 0;
  gather(&b->student[0], i, r->q);
  gather(&b->student[1], i, r->k);
  gather(&b->teacher[0], i, r->t_q);
  gather(&b->teacher[1], i, r->t_k);
  memset(r->dq, 0, 2 * n * sizeof *r->dq);
  for (int64_t head = 0; head < r->heads; head++)
    for (int64_t t = 0; t < r->tokens; t++) sum += relate(r, head, t, factor);
  scatter(&b->student[0], i, r->dq, b->gradient[0]);
  scatter(&b->student[1], i, r->dk, b->gradient[1]);
  return sum;
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const layout s = layout_of(&b->student[0]), t = layout_of(&b->teacher[0]);
  const int64_t n = s.tokens * s.width, m = t.tokens * t.width;
  double *x = b->scratch, sum = 0;
  const relations r = {.tokens = s.tokens,
                       .heads = heads_of(o, &b->student[0]),
                       .s_width = s.width,
                       .t_width = t.width,
                       .q = x,
                       .k = x + n,
                       .dq = x + 2 * n,
                       .dk = x + 3 * n,
                       .t_q = x + 4 * n,
                       .t_k = x + 4 * n + m,
                       .mine = x + 4 * n + 2 * m,
                       .its = x + 4 * n + 2 * m + s.tokens};
  const double mean_of = (double)(r.heads * r.tokens) * (double)b->batch_rows;
  for (int64_t i = 0; i < b->rows; i++) sum += row(b, &r, i, o->weight / mean_of);
  return sum / mean_of;
}

static const char *const keys[] = {"student_to", "teacher_to", "heads", NULL};

const feature_kind feature_relation = {
    .name = "relation",
    .formula =
        "KL(softmax(t t'/sqrt d) || softmax(s s'/sqrt d)), mean over heads, tokens and rows, of queries, "
        "keys or "
        "values [rows, tokens, D], cut into `heads` pieces of d numbers, or [rows, heads, tokens, d]: "
        "MiniLM's "
        "value relation; with queries as student, teacher and keys as student_to, teacher_to its attention "
        "(Wang et al. 2020, 2021)",
    .options = keys,
    .check = check,
    .scratch = scratch,
    .evaluate = evaluate,
};
