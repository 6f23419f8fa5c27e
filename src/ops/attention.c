#include "ops/attention.h"

#include "base/mem.h"
#include "ops/softmax.h"
#include "ops/support.h"
#include "ops/tiles.h"

#include <string.h>

/* Rows of scores that are in work at once: a multiple of every tile's. */
enum { ROWS = 96, LINE = 16 };

enum { IN_MASK = 3, IN_FACTORS, N_INPUTS = 6 };

typedef struct attention {
  attention_layout l;
  view mask; /* its last two axes are token and other token */
  float scale;
  bool k_turned;          /* tokens of k lie beside each other */
  int64_t turned, packed; /* floats of scratch for a matrix turned round, for one without gaps */
} attention;

/* Steps of an array that broadcasts to `whole`. */
static view mask_view(const tensor *mask, const shape *whole) {
  view v = {0};
  int64_t steps[SHAPE_MAX_RANK];
  shape_strides(&mask->shape, whole, steps);
  for (int i = 0; i < whole->rank; i++) v.step[i + N_AXES - whole->rank] = steps[i];
  return v;
}

static int64_t padded(int64_t n) {
  return (n + LINE - 1) / LINE * LINE;
}

static int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static status attention_prepare(step *s) {
  status st = STATUS_OK;
  attention *a;
  TRY(mem_new(&s->state, 1, sizeof *a));
  a = s->state;
  memcpy(&a->l, node_attribute(s->node, "layout")->ints, sizeof a->l);
  a->scale = node_float(s->node, "scale", 1);
  a->k_turned = a->l.depth > 1 && a->l.k.step[AXIS_DEPTH] != 1;
  if (s->in[IN_MASK])
    a->mask = mask_view(s->in[IN_MASK],
                        &(shape){.rank = N_AXES, .dims = {a->l.rows, a->l.heads, a->l.tokens, a->l.others}});
  const int64_t plane = padded(a->l.tokens * a->l.others), deepest = most(a->l.depth, a->l.width);
  a->turned = most(padded(a->l.others) * deepest, padded(a->l.depth) * a->l.others);
  a->packed = most(a->l.tokens, a->l.others) * padded(deepest);
  s->scratch_bytes =
      (size_t)(a->turned + a->packed + (s->training ? plane : ROWS * padded(a->l.others))) * sizeof(float);
  if (s->training) s->saved_bytes = (size_t)(a->l.rows * a->l.heads * plane) * sizeof(float);
done:
  return st;
}

static void attention_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static float *at(const tensor *t, const view *v, int64_t row, int64_t head, int64_t token) {
  return (float *)t->data + v->first + row * v->step[AXIS_ROW] + head * v->step[AXIS_HEAD] +
         token * v->step[AXIS_TOKEN];
}

static float *turned_room(const step *s) {
  return s->scratch;
}

static float *scores_room(const step *s, const attention *a) {
  return (float *)s->scratch + a->turned + a->packed;
}

/* Rows of n numbers without the gaps between them, *apart from one to the next: rows that lie whole lines
 * apart would push each other out of the first cache. */
static const float *packed(const step *s, const attention *a, const float *from, int64_t rows, int64_t n,
                           int64_t *apart) {
  float *to = turned_room(s) + a->turned;
  for (int64_t i = 0; i < rows; i++) memcpy(to + i * padded(n), from + i * *apart, (size_t)n * sizeof *to);
  *apart = padded(n);
  return to;
}

/* k' of a head, [depth, others]. */
static const float *turned_keys(const step *s, const attention *a, int64_t row, int64_t head,
                                int64_t *apart) {
  const float *k = at(s->in[1], &a->l.k, row, head, 0);
  *apart = a->k_turned ? a->l.k.step[AXIS_DEPTH] : padded(a->l.others);
  if (a->k_turned) return k;
  tiles_turn(a->l.others, a->l.depth, k, a->l.k.step[AXIS_TOKEN], false, turned_room(s), *apart);
  return turned_room(s);
}

FOR_EACH_PROCESSOR static void scale_row(float *x, int64_t n, float scale, const float *mask, int64_t apart) {
  if (!mask) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) x[i] *= scale;
  } else if (apart) {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) x[i] = x[i] * scale + mask[i];
  } else {
    EACH_ALONE
    for (int64_t i = 0; i < n; i++) x[i] = x[i] * scale + mask[0];
  }
}

static float scale_of(const step *s, const attention *a) {
  float scale = a->scale;
  for (int i = IN_FACTORS; i < N_INPUTS; i++)
    if (s->in[i]) scale *= *(const float *)s->in[i]->data;
  return scale;
}

/* p[rows of it, others] from token `from` on. */
static void probabilities(const step *s, const attention *a, int64_t row, int64_t head, int64_t from,
                          int64_t n, const float *keys, int64_t apart, float *p) {
  const tile scores = {.k = a->l.depth,
                       .a = at(s->in[0], &a->l.q, row, head, from),
                       .a_row = a->l.q.step[AXIS_TOKEN],
                       .a_column = 1,
                       .b = keys,
                       .b_row = apart,
                       .y = p,
                       .y_row = a->l.others};
  tiles_run(&scores, n, a->l.others, true);
  const float scale = scale_of(s, a);
  for (int64_t i = 0; i < n; i++) {
    float *x = p + i * a->l.others;
    scale_row(x, a->l.others, scale,
              s->in[IN_MASK] ? at(s->in[IN_MASK], &a->mask, row, head, from + i) : NULL,
              a->mask.step[AXIS_DEPTH]);
    softmax_row(x, x, a->l.others);
  }
}

static void forward_head(const step *s, const attention *a, int64_t row, int64_t head) {
  float *kept =
      s->training ? (float *)s->saved + (row * a->l.heads + head) * padded(a->l.tokens * a->l.others) : NULL;
  int64_t keys_apart, values_apart = a->l.v.step[AXIS_TOKEN];
  const float *keys = turned_keys(s, a, row, head, &keys_apart),
              *values =
                  packed(s, a, at(s->in[2], &a->l.v, row, head, 0), a->l.others, a->l.width, &values_apart);
  for (int64_t from = 0; from < a->l.tokens; from += ROWS) {
    const int64_t n = a->l.tokens - from < ROWS ? a->l.tokens - from : ROWS;
    float *p = kept ? kept + from * a->l.others : scores_room(s, a);
    probabilities(s, a, row, head, from, n, keys, keys_apart, p);
    const tile sums = {.k = a->l.others,
                       .a = p,
                       .a_row = a->l.others,
                       .a_column = 1,
                       .b = values,
                       .b_row = values_apart,
                       .y = at(s->out[0], &a->l.y, row, head, from),
                       .y_row = a->l.y.step[AXIS_TOKEN]};
    tiles_run(&sums, n, a->l.width, true);
  }
}

static status attention_forward(step *s) {
  const attention *a = s->state;
  for (int64_t row = 0; row < a->l.rows; row++)
    for (int64_t head = 0; head < a->l.heads; head++) forward_head(s, a, row, head);
  return STATUS_OK;
}

/* ds[tokens, others], before the scaling. */
static void score_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *p,
                            float *ds) {
  float *values = turned_room(s);
  tiles_turn(a->l.others, a->l.width, at(s->in[2], &a->l.v, row, head, 0), a->l.v.step[AXIS_TOKEN], false,
             values, padded(a->l.others));
  const tile dp = {.k = a->l.width,
                   .a = at(s->dout[0], &a->l.y, row, head, 0),
                   .a_row = a->l.y.step[AXIS_TOKEN],
                   .a_column = 1,
                   .b = values,
                   .b_row = padded(a->l.others),
                   .y = ds,
                   .y_row = a->l.others};
  tiles_run(&dp, a->l.tokens, a->l.others, true);
  for (int64_t i = 0; i < a->l.tokens; i++)
    softmax_row_gradient(ds + i * a->l.others, ds + i * a->l.others, p + i * a->l.others, a->l.others);
}

static void add_to_mask(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  const int64_t apart = a->mask.step[AXIS_DEPTH];
  for (int64_t i = 0; i < a->l.tokens; i++, ds += a->l.others) {
    float *d = at(s->din[IN_MASK], &a->mask, row, head, i);
    for (int64_t j = 0; j < a->l.others; j++) d[j * apart] += ds[j];
  }
}

static void value_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *p) {
  int64_t apart = a->l.y.step[AXIS_TOKEN];
  const float *dy = packed(s, a, at(s->dout[0], &a->l.y, row, head, 0), a->l.tokens, a->l.width, &apart);
  const tile dv = {.k = a->l.tokens,
                   .a = p,
                   .a_row = 1,
                   .a_column = a->l.others,
                   .b = dy,
                   .b_row = apart,
                   .add = s->accumulate[2],
                   .y = at(s->din[2], &a->l.v, row, head, 0),
                   .y_row = a->l.v.step[AXIS_TOKEN]};
  tiles_run(&dv, a->l.others, a->l.width, true);
}

/* k of a head, [others, depth]. */
static const float *plain_keys(const step *s, const attention *a, int64_t row, int64_t head, int64_t *apart) {
  const float *k = at(s->in[1], &a->l.k, row, head, 0);
  *apart = a->k_turned ? padded(a->l.depth) : a->l.k.step[AXIS_TOKEN];
  if (!a->k_turned) return packed(s, a, k, a->l.others, a->l.depth, apart);
  tiles_turn(a->l.depth, a->l.others, k, a->l.k.step[AXIS_DEPTH], false, turned_room(s), *apart);
  return turned_room(s);
}

static void query_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  int64_t apart;
  const float *keys = plain_keys(s, a, row, head, &apart);
  const tile dq = {.k = a->l.others,
                   .a = ds,
                   .a_row = a->l.others,
                   .a_column = 1,
                   .b = keys,
                   .b_row = apart,
                   .add = s->accumulate[0],
                   .y = at(s->din[0], &a->l.q, row, head, 0),
                   .y_row = a->l.q.step[AXIS_TOKEN]};
  tiles_run(&dq, a->l.tokens, a->l.depth, true);
}

/* dk = ds' q, or as k lies dk' = q' ds. */
static void key_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  const float *q = at(s->in[0], &a->l.q, row, head, 0);
  int64_t apart = a->l.q.step[AXIS_TOKEN];
  tile dk = {
      .k = a->l.tokens, .a_row = 1, .add = s->accumulate[1], .y = at(s->din[1], &a->l.k, row, head, 0)};
  if (a->k_turned) {
    dk.a = q;
    dk.a_column = apart;
    dk.b = ds;
    dk.b_row = a->l.others;
    dk.y_row = a->l.k.step[AXIS_DEPTH];
    tiles_run(&dk, a->l.depth, a->l.others, true);
  } else {
    dk.a = ds;
    dk.a_column = a->l.others;
    dk.b = packed(s, a, q, a->l.tokens, a->l.depth, &apart);
    dk.b_row = apart;
    dk.y_row = a->l.k.step[AXIS_TOKEN];
    tiles_run(&dk, a->l.others, a->l.depth, true);
  }
}

static void backward_head(const step *s, const attention *a, int64_t row, int64_t head) {
  const int64_t plane = padded(a->l.tokens * a->l.others);
  const float *p = (const float *)s->saved + (row * a->l.heads + head) * plane;
  float *ds = scores_room(s, a);
  if (s->din[2]) value_gradients(s, a, row, head, p);
  if (!s->din[0] && !s->din[1] && !s->din[IN_MASK]) return;
  score_gradients(s, a, row, head, p, ds);
  if (s->din[IN_MASK]) add_to_mask(s, a, row, head, ds);
  scale_row(ds, a->l.tokens * a->l.others, a->scale, NULL, 0);
  if (s->din[0]) query_gradients(s, a, row, head, ds);
  if (s->din[1]) key_gradients(s, a, row, head, ds);
}

static status attention_backward(step *s) {
  const attention *a = s->state;
  if (s->din[IN_MASK]) gradient_begin(s, IN_MASK);
  for (int64_t row = 0; row < a->l.rows; row++)
    for (int64_t head = 0; head < a->l.heads; head++) backward_head(s, a, row, head);
  return STATUS_OK;
}

int64_t attention_macs(const step *s) {
  const attention *a = s->state;
  return a->l.rows * a->l.heads * a->l.tokens * a->l.others * (a->l.depth + a->l.width);
}

const op op_Attention = {.name = "Attention",
                         .domain = "mpistill",
                         .since = 1,
                         .min_inputs = 3,
                         .max_inputs = N_INPUTS,
                         .max_outputs = 1,
                         .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2,
                         .differentiable = 15,
                         .prepare = attention_prepare,
                         .forward = attention_forward,
                         .backward = attention_backward,
                         .release = attention_release};
