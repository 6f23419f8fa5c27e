#include "ops/attention.h"

#include "base/mem.h"
#include "ops/softmax.h"
#include "ops/support.h"
#include "ops/tiles.h"

#include <string.h>

/* Rows of scores that are in work at once: a multiple of every tile's. */
enum { ROWS = 96, LINE = 16 };

/* An array by steps along the axes. */
typedef struct view {
  int64_t step[N_AXES];
} view;

typedef struct attention {
  int64_t rows, heads, tokens, others, depth, width; /* T, S, D, E */
  view q, k, v, y, mask;                             /* of mask the last two are token and other token */
  float scale;
  bool k_turned;          /* tokens of k lie beside each other */
  int64_t turned, packed; /* floats of scratch for a matrix turned round, for one without gaps */
} attention;

static int64_t dim(const tensor *t, int axis) {
  return axis == ABSENT ? 1 : t->shape.dims[axis];
}

static view view_of(const step *s, const char *name, const tensor *t) {
  int axes[N_AXES];
  view v = {{0}};
  axes_unpack(node_int(s->node, name, 0), axes);
  for (int i = 0; i < N_AXES; i++)
    if (axes[i] != ABSENT) v.step[i] = shape_span(&t->shape, axes[i] + 1, t->shape.rank);
  return v;
}

/* Steps of an array that broadcasts to `whole`. */
static view mask_view(const tensor *mask, const shape *whole) {
  view v = {{0}};
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
  int q[N_AXES], k[N_AXES], v[N_AXES];
  TRY(mem_new(&s->state, 1, sizeof *a));
  a = s->state;
  axes_unpack(node_int(s->node, "q", 0), q);
  axes_unpack(node_int(s->node, "k", 0), k);
  axes_unpack(node_int(s->node, "v", 0), v);
  *a = (attention){.rows = dim(s->in[0], q[AXIS_ROW]),
                   .heads = dim(s->in[0], q[AXIS_HEAD]),
                   .tokens = dim(s->in[0], q[AXIS_TOKEN]),
                   .others = dim(s->in[1], k[AXIS_TOKEN]),
                   .depth = dim(s->in[0], q[AXIS_DEPTH]),
                   .width = dim(s->in[2], v[AXIS_DEPTH]),
                   .q = view_of(s, "q", s->in[0]),
                   .k = view_of(s, "k", s->in[1]),
                   .v = view_of(s, "v", s->in[2]),
                   .y = view_of(s, "y", s->out[0]),
                   .scale = node_float(s->node, "scale", 1),
                   .k_turned = k[AXIS_DEPTH] != s->in[1]->shape.rank - 1};
  if (s->n_in > 3) {
    const bool row = q[AXIS_ROW] != ABSENT;
    const shape whole = {.rank = row ? 4 : 3,
                         .dims = {row ? a->rows : a->heads, row ? a->heads : a->tokens,
                                  row ? a->tokens : a->others, a->others}};
    a->mask = mask_view(s->in[3], &whole);
  }
  const int64_t plane = padded(a->tokens * a->others), deepest = most(a->depth, a->width);
  a->turned = most(padded(a->others) * deepest, padded(a->depth) * a->others);
  a->packed = most(a->tokens, a->others) * padded(deepest);
  s->scratch_bytes =
      (size_t)(a->turned + a->packed + (s->training ? plane : ROWS * padded(a->others))) * sizeof(float);
  if (s->training) s->saved_bytes = (size_t)(a->rows * a->heads * plane) * sizeof(float);
done:
  return st;
}

static void attention_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static float *at(const tensor *t, const view *v, int64_t row, int64_t head, int64_t token) {
  return (float *)t->data + row * v->step[AXIS_ROW] + head * v->step[AXIS_HEAD] + token * v->step[AXIS_TOKEN];
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
  const float *k = at(s->in[1], &a->k, row, head, 0);
  *apart = a->k_turned ? a->k.step[AXIS_DEPTH] : padded(a->others);
  if (a->k_turned) return k;
  tiles_turn(a->others, a->depth, k, a->k.step[AXIS_TOKEN], false, turned_room(s), *apart);
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

/* p[rows of it, others] from token `from` on. */
static void probabilities(const step *s, const attention *a, int64_t row, int64_t head, int64_t from,
                          int64_t n, const float *keys, int64_t apart, float *p) {
  const tile scores = {.k = a->depth,
                       .a = at(s->in[0], &a->q, row, head, from),
                       .a_row = a->q.step[AXIS_TOKEN],
                       .a_column = 1,
                       .b = keys,
                       .b_row = apart,
                       .y = p,
                       .y_row = a->others};
  tiles_run(&scores, n, a->others, true);
  for (int64_t i = 0; i < n; i++) {
    float *x = p + i * a->others;
    scale_row(x, a->others, a->scale, s->n_in > 3 ? at(s->in[3], &a->mask, row, head, from + i) : NULL,
              a->mask.step[AXIS_DEPTH]);
    softmax_row(x, x, a->others);
  }
}

static void forward_head(const step *s, const attention *a, int64_t row, int64_t head) {
  float *kept =
      s->training ? (float *)s->saved + (row * a->heads + head) * padded(a->tokens * a->others) : NULL;
  int64_t keys_apart, values_apart = a->v.step[AXIS_TOKEN];
  const float *keys = turned_keys(s, a, row, head, &keys_apart),
              *values = packed(s, a, at(s->in[2], &a->v, row, head, 0), a->others, a->width, &values_apart);
  for (int64_t from = 0; from < a->tokens; from += ROWS) {
    const int64_t n = a->tokens - from < ROWS ? a->tokens - from : ROWS;
    float *p = kept ? kept + from * a->others : scores_room(s, a);
    probabilities(s, a, row, head, from, n, keys, keys_apart, p);
    const tile sums = {.k = a->others,
                       .a = p,
                       .a_row = a->others,
                       .a_column = 1,
                       .b = values,
                       .b_row = values_apart,
                       .y = at(s->out[0], &a->y, row, head, from),
                       .y_row = a->y.step[AXIS_TOKEN]};
    tiles_run(&sums, n, a->width, true);
  }
}

static status attention_forward(step *s) {
  const attention *a = s->state;
  for (int64_t row = 0; row < a->rows; row++)
    for (int64_t head = 0; head < a->heads; head++) forward_head(s, a, row, head);
  return STATUS_OK;
}

/* ds[tokens, others], before the scaling. */
static void score_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *p,
                            float *ds) {
  float *values = turned_room(s);
  tiles_turn(a->others, a->width, at(s->in[2], &a->v, row, head, 0), a->v.step[AXIS_TOKEN], false, values,
             padded(a->others));
  const tile dp = {.k = a->width,
                   .a = at(s->dout[0], &a->y, row, head, 0),
                   .a_row = a->y.step[AXIS_TOKEN],
                   .a_column = 1,
                   .b = values,
                   .b_row = padded(a->others),
                   .y = ds,
                   .y_row = a->others};
  tiles_run(&dp, a->tokens, a->others, true);
  for (int64_t i = 0; i < a->tokens; i++)
    softmax_row_gradient(ds + i * a->others, ds + i * a->others, p + i * a->others, a->others);
}

static void add_to_mask(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  const int64_t apart = a->mask.step[AXIS_DEPTH];
  for (int64_t i = 0; i < a->tokens; i++, ds += a->others) {
    float *d = at(s->din[3], &a->mask, row, head, i);
    for (int64_t j = 0; j < a->others; j++) d[j * apart] += ds[j];
  }
}

static void value_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *p) {
  int64_t apart = a->y.step[AXIS_TOKEN];
  const float *dy = packed(s, a, at(s->dout[0], &a->y, row, head, 0), a->tokens, a->width, &apart);
  const tile dv = {.k = a->tokens,
                   .a = p,
                   .a_row = 1,
                   .a_column = a->others,
                   .b = dy,
                   .b_row = apart,
                   .add = s->accumulate[2],
                   .y = at(s->din[2], &a->v, row, head, 0),
                   .y_row = a->v.step[AXIS_TOKEN]};
  tiles_run(&dv, a->others, a->width, true);
}

/* k of a head, [others, depth]. */
static const float *plain_keys(const step *s, const attention *a, int64_t row, int64_t head, int64_t *apart) {
  const float *k = at(s->in[1], &a->k, row, head, 0);
  *apart = a->k_turned ? padded(a->depth) : a->k.step[AXIS_TOKEN];
  if (!a->k_turned) return packed(s, a, k, a->others, a->depth, apart);
  tiles_turn(a->depth, a->others, k, a->k.step[AXIS_DEPTH], false, turned_room(s), *apart);
  return turned_room(s);
}

static void query_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  int64_t apart;
  const float *keys = plain_keys(s, a, row, head, &apart);
  const tile dq = {.k = a->others,
                   .a = ds,
                   .a_row = a->others,
                   .a_column = 1,
                   .b = keys,
                   .b_row = apart,
                   .add = s->accumulate[0],
                   .y = at(s->din[0], &a->q, row, head, 0),
                   .y_row = a->q.step[AXIS_TOKEN]};
  tiles_run(&dq, a->tokens, a->depth, true);
}

/* dk = ds' q, or as k lies dk' = q' ds. */
static void key_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  const float *q = at(s->in[0], &a->q, row, head, 0);
  int64_t apart = a->q.step[AXIS_TOKEN];
  tile dk = {.k = a->tokens, .a_row = 1, .add = s->accumulate[1], .y = at(s->din[1], &a->k, row, head, 0)};
  if (a->k_turned) {
    dk.a = q;
    dk.a_column = apart;
    dk.b = ds;
    dk.b_row = a->others;
    dk.y_row = a->k.step[AXIS_DEPTH];
    tiles_run(&dk, a->depth, a->others, true);
  } else {
    dk.a = ds;
    dk.a_column = a->others;
    dk.b = packed(s, a, q, a->tokens, a->depth, &apart);
    dk.b_row = apart;
    dk.y_row = a->k.step[AXIS_TOKEN];
    tiles_run(&dk, a->others, a->depth, true);
  }
}

static void backward_head(const step *s, const attention *a, int64_t row, int64_t head) {
  const int64_t plane = padded(a->tokens * a->others);
  const float *p = (const float *)s->saved + (row * a->heads + head) * plane;
  float *ds = scores_room(s, a);
  if (s->din[2]) value_gradients(s, a, row, head, p);
  if (!s->din[0] && !s->din[1] && (s->n_in < 4 || !s->din[3])) return;
  score_gradients(s, a, row, head, p, ds);
  if (s->n_in > 3 && s->din[3]) add_to_mask(s, a, row, head, ds);
  scale_row(ds, a->tokens * a->others, a->scale, NULL, 0);
  if (s->din[0]) query_gradients(s, a, row, head, ds);
  if (s->din[1]) key_gradients(s, a, row, head, ds);
}

static status attention_backward(step *s) {
  const attention *a = s->state;
  if (s->n_in > 3 && s->din[3]) gradient_begin(s, 3);
  for (int64_t row = 0; row < a->rows; row++)
    for (int64_t head = 0; head < a->heads; head++) backward_head(s, a, row, head);
  return STATUS_OK;
}

int64_t attention_macs(const step *s) {
  const attention *a = s->state;
  return a->rows * a->heads * a->tokens * a->others * (a->depth + a->width);
}

const op op_Attention = {.name = "Attention",
                         .domain = "mpistill",
                         .since = 1,
                         .min_inputs = 3,
                         .max_inputs = 4,
                         .max_outputs = 1,
                         .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2,
                         .differentiable = 15,
                         .prepare = attention_prepare,
                         .forward = attention_forward,
                         .backward = attention_backward,
                         .release = attention_release};
