/* Concat and Split: parts of one axis, as [outer][part][inner] blocks. */
#include "base/mem.h"
#include "ops/support.h"

#include <string.h>

/* Where part i lies in the whole: bytes from `offset` of every row of `whole` bytes. Sizes in elements. */
typedef struct parts {
  int64_t outer, whole;
  int n;
  int64_t size[];
} parts;

static status keep_parts(step *s, const shape *whole, int axis, int n, tensor *const *pieces) {
  parts *p;
  status st = mem_new(&p, 1, sizeof *p + (size_t)n * sizeof p->size[0]);
  if (st != STATUS_OK) return st;
  p->outer = shape_span(whole, 0, axis);
  p->whole = shape_span(whole, axis, whole->rank);
  p->n = n;
  for (int i = 0; i < n; i++) {
    if (pieces[i]) p->size[i] = shape_span(&pieces[i]->shape, axis, whole->rank);
  }
  s->state = p;
  return STATUS_OK;
}

static void join_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

static void copy_rows(char *to, size_t to_bytes, const char *from, size_t from_bytes, size_t bytes,
                      int64_t rows) {
  for (int64_t r = 0; r < rows && bytes; r++)
    memcpy(to + (size_t)r * to_bytes, from + (size_t)r * from_bytes, bytes);
}

static void write_rows(float *to, int64_t to_size, const float *from, int64_t from_size, int64_t size,
                       int64_t rows, bool add) {
  for (int64_t r = 0; r < rows && size; r++)
    gradient_write(to + r * to_size, from + r * from_size, size, add);
}

static int axis_of(const step *s, int fallback) {
  int64_t axis = node_int(s->node, "axis", fallback);
  return (int)(axis < 0 ? axis + s->in[0]->shape.rank : axis);
}

static status concat_infer(step *s) {
  shape out = s->in[0]->shape;
  int axis = 0;
  status st = input_want_all(s);
  if (st == STATUS_OK) st = axis_from_front(s, node_int(s->node, "axis", 1), out.rank, &axis);
  for (int i = 1; i < s->n_in && st == STATUS_OK; i++) {
    shape other = s->in[i]->shape;
    int64_t size = axis < other.rank ? other.dims[axis] : 0;
    if (axis < other.rank) other.dims[axis] = out.dims[axis];
    if (!shape_equal(&other, &out)) {
      char a[96], b[96];
      return step_error(s, "input %d of shape %s does not continue one of shape %s along axis %d", i,
                        shape_text(&s->in[i]->shape, a, sizeof a), shape_text(&s->in[0]->shape, b, sizeof b),
                        axis);
    }
    if (__builtin_add_overflow(out.dims[axis], size, &out.dims[axis])) {
      return step_error(s, "dimension %d gets too large", axis);
    }
    st = input_want(s, i, s->in[0]->type);
  }
  if (st == STATUS_OK) step_set_output(s, 0, s->in[0]->type, &out);
  return st;
}

static status concat_prepare(step *s) {
  return keep_parts(s, &s->out[0]->shape, axis_of(s, 1), s->n_in, s->in);
}

/* Along the channels, where every part is whole blocks. */
static status concat_blocks(const step *s, block_use *use) {
  if (s->out[0]->type != DTYPE_FLOAT || axis_of(s, 1) != 1 || s->n_in > 16) return STATUS_OK;
  use->may = use->alike = BLOCKS_OUT | ((1u << s->n_in) - 1);
  return STATUS_OK;
}

static status concat_forward(step *s) {
  const parts *p = s->state;
  const size_t bytes = dtype_bytes(s->out[0]->type), row = (size_t)p->whole * bytes;
  char *to = s->out[0]->data;
  for (int i = 0; i < p->n; i++) {
    size_t part = (size_t)p->size[i] * bytes;
    copy_rows(to, row, s->in[i]->data, part, part, p->outer);
    to += part;
  }
  return STATUS_OK;
}

static status concat_backward(step *s) {
  const parts *p = s->state;
  const float *from = s->dout[0]->data;
  for (int i = 0; i < p->n; from += p->size[i++]) {
    if (!s->din[i]) continue;
    write_rows(s->din[i]->data, p->size[i], from, p->whole, p->size[i], p->outer, s->accumulate[i]);
  }
  return STATUS_OK;
}

const op op_Concat = {.name = "Concat",
                      .domain = "",
                      .since = 4,
                      .min_inputs = 1,
                      .max_inputs = -1,
                      .max_outputs = 1,
                      .attributes = (const char *const[]){"axis", NULL},
                      .differentiable = OP_EVERY_INPUT,
                      .infer = concat_infer,
                      .prepare = concat_prepare,
                      .forward = concat_forward,
                      .backward = concat_backward,
                      .release = join_release,
                      .blocks = concat_blocks};

enum { MAX_PARTS = 1024 };

/* The sizes given, or equal ones; the last of equal ones may be smaller. */
static status read_sizes(const step *s, int64_t dim, int64_t sizes[MAX_PARTS]) {
  const int wanted = s->n_out;
  int n;
  if (wanted < 1 || wanted > MAX_PARTS)
    return step_error(s, "has %d outputs, expected 1 to %d", wanted, MAX_PARTS);
  status st = step_ints(s, 1, "split", sizes, MAX_PARTS, &n);
  if (st != STATUS_OK) return st;
  if (n >= 0 && n != wanted) return step_error(s, "has %d sizes for %d outputs", n, wanted);
  int64_t each = (dim + wanted - 1) / wanted, sum = 0;
  for (int i = 0; i < wanted; i++) {
    if (n < 0) sizes[i] = dim - sum < each ? dim - sum : each;
    if (sizes[i] < 0 || __builtin_add_overflow(sum, sizes[i], &sum)) {
      return step_error(s, "size %d is %lld", i, (long long)sizes[i]);
    }
  }
  if (sum == dim) return STATUS_OK;
  return step_error(s, "sizes add up to %lld, the dimension is %lld", (long long)sum, (long long)dim);
}

static status split_infer(step *s) {
  int64_t sizes[MAX_PARTS];
  shape out = s->in[0]->shape;
  int axis = 0;
  status st = axis_from_front(s, node_int(s->node, "axis", 0), out.rank, &axis);
  if (st == STATUS_OK) st = read_sizes(s, out.dims[axis], sizes);
  if (st != STATUS_OK) return st;
  for (int i = 0; i < s->n_out; i++) {
    out.dims[axis] = sizes[i];
    step_set_output(s, i, s->in[0]->type, &out);
  }
  return STATUS_OK;
}

/* Outputs that nobody uses are absent: their sizes are read again. */
static status split_prepare(step *s) {
  int64_t sizes[MAX_PARTS];
  const shape *x = &s->in[0]->shape;
  const int axis = axis_of(s, 0);
  status st = read_sizes(s, x->dims[axis], sizes);
  if (st == STATUS_OK) st = keep_parts(s, x, axis, s->n_out, s->out);
  if (st != STATUS_OK) return st;
  parts *p = s->state;
  for (int i = 0; i < p->n; i++) p->size[i] = sizes[i] * shape_span(x, axis + 1, x->rank);
  return STATUS_OK;
}

static status split_forward(step *s) {
  const parts *p = s->state;
  const size_t bytes = dtype_bytes(s->in[0]->type), row = (size_t)p->whole * bytes;
  const char *from = s->in[0]->data;
  for (int i = 0; i < p->n; i++) {
    size_t part = (size_t)p->size[i] * bytes;
    if (s->out[i]) copy_rows(s->out[i]->data, part, from, row, part, p->outer);
    from += part;
  }
  return STATUS_OK;
}

static status split_backward(step *s) {
  const parts *p = s->state;
  if (!s->din[0]) return STATUS_OK;
  float *to = gradient_begin(s, 0);
  for (int i = 0; i < p->n; to += p->size[i++]) {
    if (!s->dout[i]) continue;
    write_rows(to, p->whole, s->dout[i]->data, p->size[i], p->size[i], p->outer, true);
  }
  return STATUS_OK;
}

const op op_Split = {.name = "Split",
                     .domain = "",
                     .since = 2,
                     .min_inputs = 1,
                     .max_inputs = 2,
                     .max_outputs = MAX_PARTS,
                     .attributes = (const char *const[]){"axis", "split", "num_outputs", NULL},
                     .differentiable = 1,
                     .infer = split_infer,
                     .prepare = split_prepare,
                     .forward = split_forward,
                     .backward = split_backward,
                     .release = join_release};
