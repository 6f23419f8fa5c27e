#include "ops/attention.h"

#include "base/mem.h"
#include "ops/softmax.h"
#include "ops/support.h"
#include "ops/tiles.h"

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
  bool k_turned; /* tokens of k lie beside each other */
  int64_t room;  /* floats of scratch for turned matrices */
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
  const int64_t plane = padded(a->tokens * a->others), turned = padded(a->others);
  a->room = turned * (a->depth + a->width);
  if (a->room < padded(a->depth) * a->others) a->room = padded(a->depth) * a->others;
  s->scratch_bytes = (size_t)(a->room + (s->training ? plane : ROWS * turned)) * sizeof(float);
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

/* k' of a head, [depth, others]. *row: how far its rows are apart. */
static const float *turned_keys(const step *s, const attention *a, int64_t row, int64_t head, float *room,
                                int64_t *apart) {
  const float *k = at(s->in[1], &a->k, row, head, 0);
  *apart = a->k_turned ? a->k.step[AXIS_DEPTH] : padded(a->others);
  if (a->k_turned) return k;
  tiles_turn(a->others, a->depth, k, a->k.step[AXIS_TOKEN], false, room, *apart);
  return room;
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
  float *room = s->scratch, *scores = room + a->room;
  float *kept =
      s->training ? (float *)s->saved + (row * a->heads + head) * padded(a->tokens * a->others) : NULL;
  int64_t apart;
  const float *keys = turned_keys(s, a, row, head, room, &apart);
  for (int64_t from = 0; from < a->tokens; from += ROWS) {
    const int64_t n = a->tokens - from < ROWS ? a->tokens - from : ROWS;
    float *p = kept ? kept + from * a->others : scores;
    probabilities(s, a, row, head, from, n, keys, apart, p);
    const tile sums = {.k = a->others,
                       .a = p,
                       .a_row = a->others,
                       .a_column = 1,
                       .b = at(s->in[2], &a->v, row, head, 0),
                       .b_row = a->v.step[AXIS_TOKEN],
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
  float *values = (float *)s->scratch + padded(a->others) * a->depth;
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
  const tile dv = {.k = a->tokens,
                   .a = p,
                   .a_row = 1,
                   .a_column = a->others,
                   .b = at(s->dout[0], &a->y, row, head, 0),
                   .b_row = a->y.step[AXIS_TOKEN],
                   .add = s->accumulate[2],
                   .y = at(s->din[2], &a->v, row, head, 0),
                   .y_row = a->v.step[AXIS_TOKEN]};
  tiles_run(&dv, a->others, a->width, true);
}

static void query_gradients(const step *s, const attention *a, int64_t row, int64_t head, const float *ds) {
  const float *keys = at(s->in[1], &a->k, row, head, 0);
  int64_t apart = a->k.step[AXIS_TOKEN];
  if (a->k_turned) {
    tiles_turn(a->depth, a->others, keys, a->k.step[AXIS_DEPTH], false, s->scratch, padded(a->depth));
    keys = s->scratch;
    apart = padded(a->depth);
  }
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
  const int64_t q_row = a->q.step[AXIS_TOKEN];
  tile dk = {.k = a->tokens, .a_row = 1, .add = s->accumulate[1], .y = at(s->din[1], &a->k, row, head, 0)};
  dk.a = a->k_turned ? q : ds;
  dk.a_column = a->k_turned ? q_row : a->others;
  dk.b = a->k_turned ? ds : q;
  dk.b_row = a->k_turned ? a->others : q_row;
  dk.y_row = a->k.step[a->k_turned ? AXIS_DEPTH : AXIS_TOKEN];
  tiles_run(&dk, a->k_turned ? a->depth : a->others, a->k_turned ? a->others : a->depth, true);
}

static void backward_head(const step *s, const attention *a, int64_t row, int64_t head) {
  const int64_t plane = padded(a->tokens * a->others);
  const float *p = (const float *)s->saved + (row * a->heads + head) * plane;
  float *ds = (float *)s->scratch + a->room;
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
