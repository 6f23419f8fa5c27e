/* Gradients that are made when they are summed: the backward pass copies what they are made of. */
#include "base/mem.h"
#include "base/profile.h"
#include "graph/plan_private.h"

#include <string.h>

enum { LINE_FLOATS = 16 };

static int64_t padded(int64_t n) {
  return (n + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

/* A parameter whose gradient this step alone writes. */
static bool may_be_late(const plan *p, const step *s, int input, const int *writers) {
  const int v = s->node->inputs[input];
  return s->din[input] && p->options.late[v] && plan_kind(p, v) == VALUE_PARAMETER && writers[v] == 1 &&
         !p->values[v].held && p->graph->values[v].offset % LINE_FLOATS == 0;
}

/* In the order of the block. */
static void insert(plan *p, const late_copy *x) {
  int at = p->n_late++;
  for (; at > 0 && p->late[at - 1].first > x->first; at--) p->late[at] = p->late[at - 1];
  p->late[at] = *x;
}

static status count_writers(const plan *p, int **writers) {
  status st = mem_new(writers, (size_t)p->graph->n_values, sizeof **writers);
  for (int i = 0; !st && i < p->n_steps; i++)
    for (int j = 0; j < p->steps[i].n_in; j++)
      if (p->steps[i].din[j]) (*writers)[p->steps[i].node->inputs[j]]++;
  return st;
}

static void find_late(plan *p, const int *writers) {
  for (int i = 0; i < p->n_reverse; i++) {
    step *s = p->reverse[i];
    for (int j = 0; s->op->late && j < s->n_in; j++) {
      late_copy x = {.value = s->node->inputs[j], .of = s};
      if (!may_be_late(p, s, j, writers) || !s->op->late(s, j, &x.gradient)) continue;
      x.first = p->graph->values[x.value].offset;
      s->din[j] = NULL;
      insert(p, &x);
    }
  }
}

static void place_copies(plan *p) {
  for (int i = 0; i < p->n_late; i++) {
    late_copy *x = &p->late[i];
    const late_gradient *g = &x->gradient;
    x->left_at = p->late_floats;
    x->right_at = x->left_at + padded(g->k * g->rows);
    p->late_floats = x->right_at + padded(g->k * g->columns);
    for (int j = 0; j < p->n_reverse; j++)
      if (p->reverse[j] == x->of) p->copied[j] = x;
  }
}

status plan_find_late(plan *p) {
  status st = STATUS_OK;
  int *writers = NULL;
  if (!p->options.training || !p->options.late) return STATUS_OK;
  TRY(count_writers(p, &writers));
  TRY(mem_new(&p->late, (size_t)p->graph->n_values, sizeof *p->late));
  TRY(mem_new(&p->copied, (size_t)p->n_reverse, sizeof *p->copied));
  find_late(p, writers);
  place_copies(p);
done:
  mem_free(writers);
  return st;
}

void plan_copy_late(const plan *p, const late_copy *x) {
  const late_gradient *g = &x->gradient;
  memcpy(p->copies + x->left_at, g->left->data, (size_t)(g->k * g->rows) * sizeof(float));
  memcpy(p->copies + x->right_at, g->right->data, (size_t)(g->k * g->columns) * sizeof(float));
}

int plan_n_late(const plan *p) {
  return p->n_late;
}

late_range plan_late(const plan *p, int i) {
  const late_copy *x = &p->late[i];
  return (late_range){x->value, x->first, x->gradient.rows, x->gradient.columns};
}

int64_t plan_late_floats(const plan *p) {
  return p->late_floats;
}

void plan_set_copies(plan *p, float *copies) {
  p->copies = copies;
}

void plan_make_late(const plan *p, int i, const float *copies, int64_t from, int64_t to, bool add, float *y) {
  const late_copy *x = &p->late[i];
  const double at = profile_clock();
  x->gradient.make(&x->gradient, copies + x->left_at, copies + x->right_at, from, to, add, y);
  profile_operator(x->of->op->name, true, at);
}
