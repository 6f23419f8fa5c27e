/* Unique: the different slices along an axis (without one: the different elements), in ascending order or in
 * that of their first occurrence; and for each the index of its first occurrence and how many there are, for
 * each slice of the input the place of its like. They decide the shapes, so the data must be known when the
 * model is loaded. */
#include "base/mem.h"
#include "ops/support.h"

#include <string.h>

/* The array is [outer][n][inner], slices are along n. */
typedef struct slices {
  const tensor *x;
  int64_t outer, n, inner;
} slices;

/* < 0, 0, > 0 as slice a is less than, equal to, greater than slice b. */
static int compare_slices(const slices *s, int64_t a, int64_t b) {
  const bool whole = dtype_is_integer(s->x->type);
  for (int64_t k = 0; k < s->outer * s->inner; k++) {
    const int64_t from = k / s->inner * s->n * s->inner + k % s->inner;
    const int64_t i = from + a * s->inner, j = from + b * s->inner;
    bool less =
        whole ? tensor_int(s->x, i) < tensor_int(s->x, j) : tensor_real(s->x, i) < tensor_real(s->x, j);
    bool more =
        whole ? tensor_int(s->x, i) > tensor_int(s->x, j) : tensor_real(s->x, i) > tensor_real(s->x, j);
    if (less || more) return less ? -1 : 1;
  }
  return 0;
}

/* Sorts order[n]; equal slices stay as they are. spare: [n]. */
static void sort_slices(const slices *s, int64_t *order, int64_t *spare, int64_t n) {
  if (n < 2) return;
  const int64_t half = n / 2;
  sort_slices(s, order, spare, half);
  sort_slices(s, order + half, spare, n - half);
  memcpy(spare, order, (size_t)n * sizeof *order);
  for (int64_t a = 0, b = half, i = 0; i < n; i++) {
    bool left = b == n || (a < half && compare_slices(s, spare[a], spare[b]) <= 0);
    order[i] = left ? spare[a++] : spare[b++];
  }
}

/* What Unique finds, each [slices.n]: indices and counts of the n_found different ones, places of all. */
typedef struct findings {
  int64_t n_found, *indices, *places, *counts;
} findings;

static void findings_clear(findings *f) {
  mem_free(f->indices);
  mem_free(f->places);
  mem_free(f->counts);
}

/* first[i]: where a slice like slice i occurs first; order[]: a list of all, each before those that follow
 * it. */
static void number_slices(const int64_t *order, const int64_t *first, int64_t n, findings *f) {
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = order[i];
    if (first[at] != at) continue;
    f->places[at] = f->n_found;
    f->indices[f->n_found++] = at;
  }
  for (int64_t i = 0; i < n; i++) {
    f->places[i] = f->places[first[i]];
    f->counts[f->places[i]]++;
  }
}

static status find_unique(const slices *s, bool sorted, findings *f) {
  status st = STATUS_OK;
  int64_t *order = NULL, *first = NULL;
  TRY(mem_new(&order, (size_t)s->n, sizeof *order));
  TRY(mem_new(&first, (size_t)s->n, sizeof *first));
  TRY(mem_new(&f->indices, (size_t)s->n, sizeof *f->indices));
  TRY(mem_new(&f->places, (size_t)s->n, sizeof *f->places));
  TRY(mem_new(&f->counts, (size_t)s->n, sizeof *f->counts));
  for (int64_t i = 0; i < s->n; i++) order[i] = i;
  sort_slices(s, order, first, s->n);
  for (int64_t i = 0; i < s->n; i++) {
    bool same = i && compare_slices(s, order[i - 1], order[i]) == 0;
    first[order[i]] = same ? first[order[i - 1]] : order[i];
  }
  for (int64_t i = 0; !sorted && i < s->n; i++) order[i] = i;
  number_slices(order, first, s->n, f);
done:
  mem_free(order);
  mem_free(first);
  return st;
}

static status give_slices(step *s, const slices *from, const findings *f, const shape *out) {
  const size_t bytes = (size_t)from->inner * dtype_bytes(from->x->type);
  char *data = NULL;
  status st = STATUS_OK;
  TRY(mem_new(&data, (size_t)(from->outer * f->n_found), bytes));
  for (int64_t o = 0; bytes && o < from->outer; o++) {
    for (int64_t k = 0; k < f->n_found; k++)
      memcpy(data + (size_t)(o * f->n_found + k) * bytes,
             (const char *)from->x->data + (size_t)(o * from->n + f->indices[k]) * bytes, bytes);
  }
  step_set_output(s, 0, from->x->type, out);
  TRY(step_constant_output(s, 0, data));
done:
  mem_free(data);
  return st;
}

static status unique_infer(step *s) {
  const shape *x = &s->in[0]->shape;
  const attribute *given = node_attribute(s->node, "axis");
  slices from = {.x = s->in[0], .outer = 1, .n = tensor_count(s->in[0]), .inner = 1};
  shape out = {.rank = 1};
  findings f = {0};
  int axis = 0;
  status st = STATUS_OK;
  TRY(input_want_number(s, 0));
  TRY(input_want_constant(s, 0));
  if (given) {
    TRY(axis_from_front(s, given->i, x->rank, &axis));
    from = (slices){s->in[0], shape_span(x, 0, axis), x->dims[axis], shape_span(x, axis + 1, x->rank)};
    out = *x;
  }
  TRY(find_unique(&from, node_int(s->node, "sorted", 1) != 0, &f));
  out.dims[axis] = f.n_found;
  TRY(give_slices(s, &from, &f, &out));
  const int64_t *rest[] = {NULL, f.indices, f.places, f.counts};
  for (int i = 1; i < s->n_out; i++) {
    step_set_output(s, i, DTYPE_INT64, &(shape){.rank = 1, .dims = {i == 2 ? from.n : f.n_found}});
    TRY(step_constant_output(s, i, rest[i]));
  }
done:
  findings_clear(&f);
  return st;
}

const op op_Unique = {.name = "Unique",
                      .domain = "",
                      .since = 11,
                      .min_inputs = 1,
                      .max_inputs = 1,
                      .max_outputs = 4,
                      .attributes = (const char *const[]){"axis", "sorted", NULL},
                      .infer = unique_infer};
