/* Two inputs with numpy's broadcasting. A row of the table at the end is an operator: its value for floats,
 * its value for integers and doubles, and its slopes. */
#include "ops/binary.h"

#include "ops/nest.h"
#include "ops/support.h"

#include <math.h>

enum { CHUNK = 512 };

status binary_infer(step *s, dtype result) {
  status st = STATUS_OK;
  shape out;
  char a[96], b[96];
  TRY(input_want_number(s, 0));
  TRY(input_want_number(s, 1));
  if (!shape_broadcast(&s->in[0]->shape, &s->in[1]->shape, &out)) {
    return step_error(s, "inputs of shapes %s and %s do not broadcast",
                      shape_text(&s->in[0]->shape, a, sizeof a), shape_text(&s->in[1]->shape, b, sizeof b));
  }
  step_set_output(s, 0, result, &out);
done:
  return st;
}

/* Inputs with the rows and channels of the output, of the same rank, or single numbers. */
status binary_blocks(const step *s, block_use *use) {
  const shape *out = &s->out[0]->shape;
  block_use mine = {.may = BLOCKS_OUT, .keeps_zero = true};
  if (s->out[0]->type != DTYPE_FLOAT || out->rank < 3) return STATUS_OK;
  for (int i = 0; i < 2; i++) {
    const tensor *x = s->in[i];
    const bool single = shape_count(&x->shape) == 1;
    const bool planes =
        x->shape.rank == out->rank && x->shape.dims[0] == out->dims[0] && x->shape.dims[1] == out->dims[1];
    if (x->type != DTYPE_FLOAT || (!single && !planes)) return STATUS_OK;
    if (!single) mine.may |= 1u << i;
    mine.keeps_zero &= !single;
  }
  mine.alike = mine.may;
  *use = mine;
  return STATUS_OK;
}

/* Out, a, b over the output's shape. */
static void binary_nest(const step *s, nest *n) {
  const shape out = tensor_layout(s->out[0]), a = tensor_layout(s->in[0]), b = tensor_layout(s->in[1]);
  nest_broadcast(n, &out, (const shape *[]){&out, &a, &b}, 3);
  nest_simplify(n);
}

static void forward_floats(const step *s, const binary_kernel *k) {
  float *y = s->out[0]->data;
  const float *a = s->in[0]->data, *b = s->in[1]->data;
  nest n;
  binary_nest(s, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    k->value(y + n.offset[0], a + n.offset[1], nest_stride(&n, 1), b + n.offset[2], nest_stride(&n, 2),
             nest_length(&n));
  }
}

/* Any types, and the reference for floats: element by element. */
static void forward_elements(const step *s, const binary_kernel *k) {
  const tensor *a = s->in[0], *b = s->in[1];
  const bool whole = k->whole && dtype_is_integer(a->type) && dtype_is_integer(b->type);
  nest n;
  binary_nest(s, &n);
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    for (int64_t i = 0; i < nest_length(&n); i++) {
      int64_t io = n.offset[0] + i, ia = n.offset[1] + i * nest_stride(&n, 1),
              ib = n.offset[2] + i * nest_stride(&n, 2);
      if (whole) {
        element_set_int(s->out[0], io, k->whole(tensor_int(a, ia), tensor_int(b, ib)));
      } else {
        element_set_real(s->out[0], io, k->real(tensor_real(a, ia), tensor_real(b, ib)));
      }
    }
  }
}

status binary_forward(step *s, const binary_kernel *k) {
  bool floats =
      s->in[0]->type == DTYPE_FLOAT && s->in[1]->type == DTYPE_FLOAT && s->out[0]->type == DTYPE_FLOAT;
  if (floats && k->value && !s->reference) {
    forward_floats(s, k);
  } else {
    forward_elements(s, k);
  }
  return STATUS_OK;
}

/* One row of the gradient: g * slope in pieces that stay in the first cache, then written or summed. */
static void backward_row(float *d, int64_t sd, const float *g, const float *a, int64_t sa, const float *b,
                         int64_t sb, int64_t length, binary_slope *slope, bool add) {
  float piece[CHUNK];
  for (int64_t i = 0; i < length; i += CHUNK) {
    int64_t n = length - i < CHUNK ? length - i : CHUNK;
    const float *part = g + i;
    if (slope) {
      slope(piece, g + i, a + i * sa, sa, b + i * sb, sb, n);
      part = piece;
    }
    if (sd == 1) {
      gradient_write(d + i, part, n, add);
    } else {
      *d += floats_sum(part, n);
    }
  }
}

static void backward_one(step *s, int which, binary_slope *slope) {
  const tensor *out = s->dout[0], *a = s->in[0], *b = s->in[1], *d = s->din[which];
  nest n;
  const shape shapes[] = {tensor_layout(d), tensor_layout(a), tensor_layout(b), tensor_layout(out)};
  nest_broadcast(&n, &shapes[3], (const shape *[]){&shapes[0], &shapes[1], &shapes[2], &shapes[3]}, 4);
  nest_simplify(&n);
  bool repeated = tensor_count(d) != tensor_count(out);
  float *to = repeated ? gradient_begin(s, which) : d->data;
  for (bool more = nest_begin(&n); more; more = nest_next(&n)) {
    backward_row(to + n.offset[0], nest_stride(&n, 0), (const float *)out->data + n.offset[3],
                 (const float *)a->data + n.offset[1], nest_stride(&n, 1),
                 (const float *)b->data + n.offset[2], nest_stride(&n, 2), nest_length(&n), slope,
                 repeated || s->accumulate[which]);
  }
}

/* The one that lies in dout's memory comes last; unless both are one tensor, when the first call overwrites
 * and the second adds. */
status binary_backward(step *s, const binary_kernel *k) {
  const bool second_last = s->din[1] && s->din[1]->data == s->dout[0]->data;
  const int first = s->din[0] == s->din[1] || second_last ? 0 : 1;
  if (s->din[first]) backward_one(s, first, k->slope[first]);
  if (s->din[1 - first]) backward_one(s, 1 - first, k->slope[1 - first]);
  return STATUS_OK;
}
