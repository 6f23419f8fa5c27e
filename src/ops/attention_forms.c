/* The chains that are attention. */
#include "ops/attention.h"

#include "ops/pattern.h"

#include <string.h>

extern const op op_MatMul, op_Softmax_1, op_Softmax_13, op_Add, op_Mul, op_Div, op_Transpose, op_Gather;

/* Matrices of each row and head, looked at through what only scales, turns, cuts out or gives other shapes:
 * where they lie in a value. */
typedef struct operand {
  int value;
  view at;
  double scale;
  int factor; /* a value of one number that it is to be multiplied by, -1: none */
} operand;

/* Matrices [.., row, head, token, depth] of an array without gaps; the last two may be exchanged. */
static view whole(const int64_t size[N_AXES], bool turned) {
  const int64_t inner = size[AXIS_TOKEN] * size[AXIS_DEPTH];
  view v = {0, {size[AXIS_HEAD] * inner, inner, size[AXIS_DEPTH], 1}};
  if (turned) v.step[AXIS_TOKEN] = 1, v.step[AXIS_DEPTH] = size[AXIS_TOKEN];
  return v;
}

static bool keeps_shape(const step *s, int input) {
  return shape_equal(&s->in[input]->shape, &s->out[0]->shape);
}

/* Where s only multiplies by a known number: by which, and the value it multiplies. */
static bool is_scaling(const step *s, double *scale, int *value) {
  double c = 1;
  const int at = s->op == &op_Mul ? number_of(s, &c) : s->op == &op_Div && known_number(s, 1, &c) ? 1 : -1;
  if (at < 0 || !keeps_shape(s, !at)) return false;
  *scale *= s->op == &op_Mul ? c : 1 / c;
  *value = s->node->inputs[!at];
  return true;
}

/* Where s multiplies by one number that is not known yet, as are all of the model's float initializers: that
 * one, and the value it multiplies. */
static bool is_factor(const step *s, int *factor, int *value) {
  if (s->op != &op_Mul) return false;
  for (int i = 0; i < 2; i++) {
    if (s->in[i]->type != DTYPE_FLOAT || tensor_count(s->in[i]) != 1 || !keeps_shape(s, !i)) continue;
    *factor = s->node->inputs[i];
    *value = s->node->inputs[!i];
    return true;
  }
  return false;
}

/* perm[i]: the axis of the input that becomes axis i. */
static bool read_perm(const step *s, int perm[SHAPE_MAX_RANK]) {
  const attribute *a = node_attribute(s->node, "perm");
  const int rank = s->in[0]->shape.rank;
  for (int i = 0; i < rank; i++) perm[i] = a ? (int)a->ints[i] : rank - 1 - i;
  return !a || a->n == rank;
}

/* Which dimension of an array without gaps such a step goes along; -1: several at once. */
static int dimension_of(const shape *s, int64_t step) {
  for (int d = 0; d < s->rank; d++) {
    const int64_t span = shape_span(s, d + 1, s->rank);
    if (s->dims[d] == 1 || step < span) continue;
    return step % span == 0 && step < span * s->dims[d] ? d : -1;
  }
  return -1;
}

/* Where elements of an array of shape `from` lie when its dimension d has spans[d] elements between its
 * entries. False, *v undefined, when an axis of the view is not within one dimension. */
static bool move(view *v, const int64_t size[N_AXES], const shape *from,
                 const int64_t spans[SHAPE_MAX_RANK]) {
  int64_t at[SHAPE_MAX_RANK], first = 0;
  for (int d = 0; d < from->rank; d++)
    at[d] = v->first / shape_span(from, d + 1, from->rank) % from->dims[d], first += at[d] * spans[d];
  for (int i = 0; i < N_AXES; i++) {
    if (size[i] == 1) continue;
    const int d = dimension_of(from, v->step[i]);
    if (d < 0) return false;
    const int64_t steps = v->step[i] / shape_span(from, d + 1, from->rank);
    if ((at[d] += steps * (size[i] - 1)) >= from->dims[d]) return false;
    v->step[i] = steps * spans[d];
  }
  v->first = first;
  return true;
}

/* The view of a transposition's output as one of its input, or the other way round. */
static bool turn(view *v, const int64_t size[N_AXES], const step *s, bool to_input) {
  const shape *in = &s->in[0]->shape, *out = &s->out[0]->shape;
  int perm[SHAPE_MAX_RANK];
  int64_t spans[SHAPE_MAX_RANK];
  if (!read_perm(s, perm)) return false;
  for (int d = 0; d < in->rank; d++) {
    if (to_input)
      spans[d] = shape_span(in, perm[d] + 1, in->rank);
    else
      spans[perm[d]] = shape_span(out, d + 1, out->rank);
  }
  return move(v, size, to_input ? out : in, spans);
}

static bool is_view(const step *s) {
  return s->op->flags & OP_VIEW && s->in[0]->type == DTYPE_FLOAT &&
         tensor_count(s->in[0]) == tensor_count(s->out[0]);
}

/* Where s only takes one entry of the first dimension that has several: how many elements come before it. */
static bool is_entry(const step *s, int64_t *before) {
  if (s->op != &op_Gather || !s->constant[1] || tensor_count(s->in[1]) != 1) return false;
  const shape *x = &s->in[0]->shape;
  int64_t axis = node_int(s->node, "axis", 0), at = (int64_t)tensor_real(s->in[1], 0);
  if (axis < 0) axis += x->rank;
  if (at < 0) at += x->dims[axis];
  if (shape_span(x, 0, (int)axis) != 1 || at < 0 || at >= x->dims[axis]) return false;
  *before = at * shape_span(x, (int)axis + 1, x->rank);
  return true;
}

/* In training an operand stays all of an array that nobody else reads, as its gradient is written there. */
static void look_through(const reader *r, operand *o, const int64_t size[N_AXES], bool training) {
  const step *s;
  int64_t before;
  while ((s = r->maker(r->plan, o->value, training))) {
    if (is_scaling(s, &o->scale, &o->value)) continue;
    if (!training && o->factor < 0 && is_factor(s, &o->factor, &o->value)) continue;
    view at = o->at;
    if (s->op == &op_Transpose) {
      if (!turn(&at, size, s, true)) return;
    } else if (!training && is_entry(s, &before)) {
      at.first += before;
    } else if (!is_view(s)) {
      return;
    }
    o->at = at;
    o->value = s->node->inputs[0];
  }
}

/* Of matrices with something in them, of as many on either side. */
static bool is_product(const step *s, int rank) {
  if (!s || s->op != &op_MatMul || s->out[0]->type != DTYPE_FLOAT || !shape_count(&s->out[0]->shape))
    return false;
  for (int i = 0; i < 2; i++) {
    if (s->in[i]->shape.rank != rank || !shape_count(&s->in[i]->shape)) return false;
    for (int d = 0; d < rank - 2; d++)
      if (s->in[i]->shape.dims[d] != s->out[0]->shape.dims[d]) return false;
  }
  return true;
}

/* The product that a value is, but for its scaling. */
static const step *find_product(const reader *r, int value, double *scale) {
  const step *s = made_alone(r, value);
  while (s && is_scaling(s, scale, &value)) s = made_alone(r, value);
  return s && s->op == &op_MatMul ? s : NULL;
}

/* The same, where a mask may have been added: *mask, else -1. */
static const step *find_scores(const reader *r, int value, double *scale, int *mask) {
  const step *s = made_alone(r, value);
  *mask = -1;
  if (!s || s->op != &op_Add) return find_product(r, value, scale);
  for (int i = 0; i < 2; i++) {
    double its = 1;
    const step *product = keeps_shape(s, i) ? find_product(r, s->node->inputs[i], &its) : NULL;
    if (!product) continue;
    *mask = s->node->inputs[!i];
    *scale = its;
    return product;
  }
  return NULL;
}

static bool is_softmax_of_rows(const step *s, int rank) {
  if (!s || (s->op != &op_Softmax_1 && s->op != &op_Softmax_13)) return false;
  const int64_t axis = node_int(s->node, "axis", s->op == &op_Softmax_1 ? 1 : -1);
  return axis == -1 || axis == rank - 1;
}

/* Rows of numbers lie beside each other. */
static bool is_dense(const view *v, const int64_t size[N_AXES], int axis) {
  return size[axis] == 1 || v->step[axis] == 1;
}

static bool are_apart(const int *values, int n) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < i; j++)
      if (values[i] == values[j]) return false;
  return true;
}

static void set_layout(short_form *f, const attention_layout *l) {
  _Static_assert(sizeof *l <= sizeof f->ints, "the layout has its room");
  memcpy(f->ints, l, sizeof *l);
  f->attributes[0] =
      (attribute){.name = (char *)"layout", .type = ATTRIBUTE_INTS, .n = sizeof *l / sizeof(int64_t)};
}

bool attention_shorten(const step *s, step_maker maker, const void *plan, short_form *out) {
  const reader r = {maker, plan};
  const int rank = s->out[0]->shape.rank;
  int mask;
  double scale = 1;
  if ((rank != 3 && rank != 4) || !is_product(s, rank)) return false;
  const step *softmax = made_alone(&r, s->node->inputs[0]);
  if (!is_softmax_of_rows(softmax, rank)) return false;
  const step *scores = find_scores(&r, softmax->node->inputs[0], &scale, &mask);
  if (!is_product(scores, rank)) return false;
  const int64_t *outer = s->out[0]->shape.dims, *inner = outer + rank - 2;
  attention_layout l = {.rows = rank == 4 ? outer[0] : 1,
                        .heads = outer[rank - 3],
                        .tokens = inner[0],
                        .others = s->in[0]->shape.dims[rank - 1],
                        .depth = scores->in[0]->shape.dims[rank - 1],
                        .width = inner[1]};
  const int64_t q_size[] = {l.rows, l.heads, l.tokens, l.depth},
                k_size[] = {l.rows, l.heads, l.others, l.depth},
                v_size[] = {l.rows, l.heads, l.others, l.width},
                y_size[] = {l.rows, l.heads, l.tokens, l.width};
  operand q = {scores->node->inputs[0], whole(q_size, false), 1, -1},
          k = {scores->node->inputs[1], whole(k_size, true), 1, -1},
          v = {s->node->inputs[1], whole(v_size, false), 1, -1};
  look_through(&r, &q, q_size, s->training);
  look_through(&r, &k, k_size, s->training);
  look_through(&r, &v, v_size, s->training);
  const int values[] = {q.value, k.value, v.value, mask};
  if (!is_dense(&q.at, q_size, AXIS_DEPTH) || !is_dense(&v.at, v_size, AXIS_DEPTH) ||
      (!is_dense(&k.at, k_size, AXIS_DEPTH) && !is_dense(&k.at, k_size, AXIS_TOKEN)) || v.scale != 1 ||
      v.factor >= 0 || (s->training && !are_apart(values, 4)))
    return false;
  l.q = q.at;
  l.k = k.at;
  l.v = v.at;
  l.y = whole(y_size, false);
  *out = (short_form){.op = &op_Attention,
                      .inputs = {q.value, k.value, v.value, mask, q.factor, k.factor},
                      .n_inputs = SHORT_INPUTS,
                      .attributes = {[1] = {.name = (char *)"scale",
                                            .type = ATTRIBUTE_FLOAT,
                                            .f = (float)(scale * q.scale * k.scale)}},
                      .n_attributes = SHORT_ATTRIBUTES};
  set_layout(out, &l);
  return true;
}

bool attention_turn(const step *s, step_maker maker, const void *plan, short_form *out) {
  const reader r = {maker, plan};
  attention_layout l;
  const step *before = made_alone(&r, s->node->inputs[0]);
  while (before && is_view(before)) before = made_alone(&r, before->node->inputs[0]);
  if (!before || before->op != &op_Attention) return false;
  memcpy(&l, node_attribute(before->node, "layout")->ints, sizeof l);
  const int64_t size[] = {l.rows, l.heads, l.tokens, l.width};
  if (!turn(&l.y, size, s, false) || !is_dense(&l.y, size, AXIS_DEPTH)) return false;
  *out = (short_form){.op = &op_Attention, .n_inputs = before->n_in, .n_attributes = SHORT_ATTRIBUTES};
  for (int i = 0; i < before->n_in; i++) out->inputs[i] = before->node->inputs[i];
  out->attributes[1] = before->node->attributes[1];
  set_layout(out, &l);
  return true;
}
