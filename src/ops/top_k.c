/* TopK: the k greatest (or least) elements along an axis and where they stood, best first; of equal ones the
 * first comes first. The gradient of a value goes back to its place. */
#include "base/mem.h"
#include "ops/support.h"

/* x is [outer][n][inner]; scratch is a heap of k candidates, the worst on top. */
typedef struct top_k {
  int64_t outer, n, inner, k;
  bool largest;
} top_k;

typedef struct candidate {
  double value;
  int64_t index;
} candidate;

static status read_top_k(const step *s, top_k *t) {
  const shape *x = &s->in[0]->shape;
  status st = STATUS_OK;
  int axis, n;
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), x->rank, &axis));
  TRY(step_ints(s, 1, "k", &t->k, 1, &n));
  if (n != 1 || t->k < 0 || t->k > x->dims[axis])
    return step_error(s, "k must be one number of 0 to %lld, the extent of axis %d", (long long)x->dims[axis],
                      axis);
  t->outer = shape_span(x, 0, axis);
  t->n = x->dims[axis];
  t->inner = shape_span(x, axis + 1, x->rank);
  t->largest = node_int(s->node, "largest", 1) != 0;
done:
  return st;
}

static status top_k_infer(step *s) {
  top_k t = {0};
  int axis;
  status st = STATUS_OK;
  TRY(input_want_number(s, 0));
  TRY(read_top_k(s, &t));
  TRY(axis_from_front(s, node_int(s->node, "axis", -1), s->in[0]->shape.rank, &axis));
  shape out = s->in[0]->shape;
  out.dims[axis] = t.k;
  step_set_output(s, 0, s->in[0]->type, &out);
  step_set_output(s, 1, DTYPE_INT64, &out);
done:
  return st;
}

/* saved: where in x each value stood. */
static status top_k_prepare(step *s) {
  top_k *t;
  status st = mem_new(&t, 1, sizeof *t);
  if (st != STATUS_OK) return st;
  s->state = t;
  st = read_top_k(s, t);
  s->scratch_bytes = (size_t)t->k * sizeof(candidate);
  s->saved_bytes = (size_t)(t->outer * t->k * t->inner) * sizeof(int64_t);
  return st;
}

static void top_k_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static bool is_better(const top_k *t, candidate a, candidate b) {
  if (a.value != b.value) return t->largest ? a.value > b.value : a.value < b.value;
  return a.index < b.index;
}

/* Puts c into the heap of n at its root, or below candidates that are worse than it. */
static void sink(const top_k *t, candidate *heap, int64_t n, candidate c) {
  int64_t at = 0;
  for (int64_t child; (child = 2 * at + 1) < n; at = child) {
    if (child + 1 < n && is_better(t, heap[child], heap[child + 1])) child++;
    if (!is_better(t, c, heap[child])) break;
    heap[at] = heap[child];
  }
  heap[at] = c;
}

/* The k best of n elements from `first` on, `inner` apart, in order. */
static void choose(const top_k *t, const tensor *x, int64_t first, candidate *heap) {
  const int64_t k = t->k;
  for (int64_t i = 0; i < t->n; i++) {
    const candidate c = {tensor_real(x, first + i * t->inner), i};
    if (i < k) { /* the heap grows from its end: an index from above is better than none */
      int64_t at = i;
      for (; at > 0 && is_better(t, heap[(at - 1) / 2], c); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
      heap[at] = c;
    } else if (k && is_better(t, c, heap[0])) {
      sink(t, heap, k, c);
    }
  }
  for (int64_t n = k - 1; n > 0; n--) { /* the worst goes behind the rest, which stays a heap */
    const candidate worst = heap[0];
    sink(t, heap, n, heap[n]);
    heap[n] = worst;
  }
}

static void put(step *s, int64_t to, int64_t from, int64_t index) {
  if (dtype_is_integer(s->in[0]->type)) {
    element_set_int(s->out[0], to, tensor_int(s->in[0], from));
  } else {
    element_set_real(s->out[0], to, tensor_real(s->in[0], from));
  }
  if (s->n_out > 1 && s->out[1]) ((int64_t *)s->out[1]->data)[to] = index;
  ((int64_t *)s->saved)[to] = from;
}

static status top_k_forward(step *s) {
  const top_k *t = s->state;
  candidate *heap = s->scratch;
  for (int64_t o = 0; o < t->outer; o++) {
    for (int64_t i = 0; i < t->inner; i++) {
      const int64_t first = o * t->n * t->inner + i;
      choose(t, s->in[0], first, heap);
      for (int64_t j = 0; j < t->k; j++) {
        int64_t index = heap[j].index;
        put(s, (o * t->k + j) * t->inner + i, first + index * t->inner, index);
      }
    }
  }
  return STATUS_OK;
}

static status top_k_backward(step *s) {
  if (!s->din[0] || !s->dout[0]) return STATUS_OK;
  const top_k *t = s->state;
  const int64_t *at = s->saved, n = t->outer * t->k * t->inner;
  const float *dy = s->dout[0]->data;
  float *dx = gradient_begin(s, 0);
  for (int64_t i = 0; i < n; i++) dx[at[i]] += dy[i];
  return STATUS_OK;
}

#define TOP_K(identifier, first, last, inputs, ...)                                                          \
  const op op_##identifier = {.name = "TopK",                                                                \
                              .domain = "",                                                                  \
                              .since = first,                                                                \
                              .until = last,                                                                 \
                              .min_inputs = inputs,                                                          \
                              .max_inputs = inputs,                                                          \
                              .max_outputs = 2,                                                              \
                              .attributes = (const char *const[]){__VA_ARGS__},                              \
                              .differentiable = 1,                                                           \
                              .infer = top_k_infer,                                                          \
                              .prepare = top_k_prepare,                                                      \
                              .forward = top_k_forward,                                                      \
                              .backward = top_k_backward,                                                    \
                              .release = top_k_release}

TOP_K(TopK_1, 1, 9, 1, "axis", "k", NULL);
TOP_K(TopK_10, 10, 0, 2, "axis", "largest", "sorted", NULL);
