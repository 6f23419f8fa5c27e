/* The chains that are attention. */
#include "ops/attention.h"

#include "ops/pattern.h"

#include <string.h>

extern const op op_MatMul, op_Softmax_1, op_Softmax_13, op_Add, op_Mul, op_Div, op_Transpose;

/* A matrix of each row and head, looked at through what only scales and turns it. */
typedef struct operand {
  int value;
  int axes[N_AXES];
  double scale;
} operand;

int64_t axes_pack(const int axes[N_AXES]) {
  int64_t packed = 0;
  for (int i = 0; i < N_AXES; i++) packed = packed * 8 + axes[i];
  return packed;
}

void axes_unpack(int64_t packed, int axes[N_AXES]) {
  for (int i = N_AXES; i-- > 0; packed /= 8) axes[i] = (int)(packed % 8);
}

/* Axes of an array of that rank in their order; the last two may be exchanged. */
static void set_axes(int axes[N_AXES], int rank, bool turned) {
  axes[AXIS_ROW] = rank == 4 ? 0 : ABSENT;
  axes[AXIS_HEAD] = rank - 3;
  axes[AXIS_TOKEN] = rank - (turned ? 1 : 2);
  axes[AXIS_DEPTH] = rank - (turned ? 2 : 1);
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

/* perm[i]: the axis of the input that becomes axis i. */
static bool read_perm(const step *s, int perm[SHAPE_MAX_RANK]) {
  const attribute *a = node_attribute(s->node, "perm");
  const int rank = s->in[0]->shape.rank;
  for (int i = 0; i < rank; i++) perm[i] = a ? (int)a->ints[i] : rank - 1 - i;
  return !a || a->n == rank;
}

static void look_through(const reader *r, operand *o) {
  const step *s;
  int perm[SHAPE_MAX_RANK];
  while ((s = r->maker(r->plan, o->value))) {
    if (is_scaling(s, &o->scale, &o->value)) continue;
    if (s->op != &op_Transpose || !read_perm(s, perm)) return;
    for (int i = 0; i < N_AXES; i++)
      if (o->axes[i] != ABSENT) o->axes[i] = perm[o->axes[i]];
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
  const step *s = r->maker(r->plan, value);
  while (s && is_scaling(s, scale, &value)) s = r->maker(r->plan, value);
  return s && s->op == &op_MatMul ? s : NULL;
}

/* The same, where a mask may have been added: *mask, else -1. */
static const step *find_scores(const reader *r, int value, double *scale, int *mask) {
  const step *s = r->maker(r->plan, value);
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

/* Rows of numbers that lie beside each other. */
static bool ends_in(const operand *o, int axis, int rank) {
  return o->axes[axis] == rank - 1;
}

static attribute number(const char *name, int64_t i) {
  return (attribute){.name = (char *)(uintptr_t)name, .type = ATTRIBUTE_INT, .i = i};
}

bool attention_shorten(const step *s, step_maker maker, const void *plan, short_form *out) {
  const reader r = {maker, plan};
  const int rank = s->out[0]->shape.rank;
  int mask, y[N_AXES];
  double scale = 1;
  if ((rank != 3 && rank != 4) || !is_product(s, rank)) return false;
  const step *softmax = maker(plan, s->node->inputs[0]);
  if (!is_softmax_of_rows(softmax, rank)) return false;
  const step *scores = find_scores(&r, softmax->node->inputs[0], &scale, &mask);
  if (!is_product(scores, rank)) return false;
  operand q = {scores->node->inputs[0], {0}, 1}, k = {scores->node->inputs[1], {0}, 1},
          v = {s->node->inputs[1], {0}, 1};
  set_axes(q.axes, rank, false);
  set_axes(k.axes, rank, true);
  set_axes(v.axes, rank, false);
  set_axes(y, rank, false);
  look_through(&r, &q);
  look_through(&r, &k);
  look_through(&r, &v);
  if (!ends_in(&q, AXIS_DEPTH, rank) || !ends_in(&v, AXIS_DEPTH, rank) ||
      (!ends_in(&k, AXIS_DEPTH, rank) && !ends_in(&k, AXIS_TOKEN, rank)) || q.value == k.value ||
      q.value == v.value || k.value == v.value || mask == q.value || mask == k.value || mask == v.value ||
      v.scale != 1)
    return false;
  *out = (short_form){.op = &op_Attention,
                      .inputs = {q.value, k.value, v.value, mask},
                      .n_inputs = mask < 0 ? 3 : 4,
                      .attributes = {number("q", axes_pack(q.axes)),
                                     number("k", axes_pack(k.axes)),
                                     number("v", axes_pack(v.axes)),
                                     number("y", axes_pack(y)),
                                     {.name = (char *)"scale",
                                      .type = ATTRIBUTE_FLOAT,
                                      .f = (float)(scale * q.scale * k.scale)}},
                      .n_attributes = SHORT_ATTRIBUTES};
  return true;
}

bool attention_turn(const step *s, step_maker maker, const void *plan, short_form *out) {
  const step *before = maker(plan, s->node->inputs[0]);
  int perm[SHAPE_MAX_RANK], axes[N_AXES];
  if (!before || before->op != &op_Attention || !read_perm(s, perm)) return false;
  const int rank = s->in[0]->shape.rank;
  axes_unpack(node_int(before->node, "y", 0), axes);
  for (int i = 0; i < N_AXES; i++) {
    for (int d = 0; d < rank; d++) {
      if (axes[i] != perm[d]) continue;
      axes[i] = d;
      break;
    }
  }
  if (axes[AXIS_DEPTH] != rank - 1) return false;
  *out = (short_form){.op = &op_Attention, .n_inputs = before->n_in, .n_attributes = SHORT_ATTRIBUTES};
  for (int i = 0; i < before->n_in; i++) out->inputs[i] = before->node->inputs[i];
  for (int i = 0; i < SHORT_ATTRIBUTES; i++) {
    out->attributes[i] = before->node->attributes[i];
    if (strcmp(out->attributes[i].name, "y") == 0) out->attributes[i].i = axes_pack(axes);
  }
  return true;
}
