#include "stages/macs.h"

#include "ops/attention.h"

#include <string.h>

static bool is_any(const step *s, const char *const *names) {
  for (; *names; names++)
    if (strcmp(s->op->name, *names) == 0) return true;
  return false;
}

static int64_t count_of(const step *s, int input) {
  return input < s->n_in && s->in[input] ? shape_count(&s->in[input]->shape) : 0;
}

/* Weight [outputs, inputs / groups, kernel...]: every number of the result takes all but its first dimension.
 */
static int64_t convolution(const step *s, int weight) {
  const shape *w = &s->in[weight]->shape;
  return shape_count(&s->out[0]->shape) * shape_span(w, 1, w->rank);
}

/* Weight [inputs, outputs / groups, kernel...]: every number of the input goes into that many. */
static int64_t transposed(const step *s) {
  const shape *w = &s->in[1]->shape;
  return count_of(s, 0) * shape_span(w, 1, w->rank);
}

static int64_t product(const step *s, int64_t inner) {
  return shape_count(&s->out[0]->shape) * inner;
}

/* X [steps, rows, inputs], W [directions, gates, inputs], R [directions, gates, hidden]. */
static int64_t recurrent(const step *s) {
  const shape *x = &s->in[0]->shape;
  return x->dims[0] * x->dims[1] * (count_of(s, 1) + count_of(s, 2));
}

static int64_t macs_of_step(const step *s) {
  static const char *const convolutions[] = {"Conv", "ConvInteger", NULL},
                           *const products[] = {"MatMul", "MatMulInteger", NULL},
                           *const recurrents[] = {"LSTM", "GRU", "RNN", NULL};
  if (s->n_in < 2 || !s->in[0] || !s->in[1]) return 0;
  const shape *x = &s->in[0]->shape;
  if (is_any(s, recurrents)) return x->rank == 3 ? recurrent(s) : 0;
  if (!s->out[0]) return 0;
  if (is_any(s, convolutions)) return convolution(s, 1);
  if (strcmp(s->op->name, "QLinearConv") == 0 && s->n_in > 3) return convolution(s, 3);
  if (strcmp(s->op->name, "ConvTranspose") == 0) return transposed(s);
  if (strcmp(s->op->name, "Gemm") == 0) return product(s, x->dims[node_int(s->node, "transA", 0) ? 0 : 1]);
  if (s->op == &op_Attention) return attention_macs(s);
  if (is_any(s, products) || strcmp(s->op->name, "QLinearMatMul") == 0)
    return product(s, x->dims[x->rank - 1]);
  return 0;
}

int64_t macs_of_plan(const plan *p) {
  int64_t n = 0;
  for (int i = 0; i < plan_n_steps(p); i++) n += macs_of_step(plan_step(p, i));
  return n;
}
