/* What several families of operators share: types, axes, elements of any type, views, gradients. */
#ifndef MPISTILL_OPS_SUPPORT_H
#define MPISTILL_OPS_SUPPORT_H

#include "base/processor.h"
#include "graph/op.h"

/* Before a loop whose iterations do not depend on each other, although its arrays may be the same one (in
 * place). */
#define EACH_ALONE _Pragma("omp simd")
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* a loop that calls the C library stays as it is */
#endif

/* Local. The axis counted from the front; STATUS_BAD_INPUT unless -rank <= axis < rank. */
status axis_from_front(const step *s, int64_t axis, int rank, int *out);
/* Local. The axes of input `input` or attribute "axes" as a bit mask; *n = how many, -1 when there are none
 * given. */
status axes_read(const step *s, int input, int rank, unsigned *mask, int *n);

/* Local. STATUS_BAD_INPUT unless input i is of that type, or of any type this engine computes with. */
status input_want(const step *s, int i, dtype type);
status input_want_number(const step *s, int i);
/* Local. STATUS_BAD_INPUT unless input i is fixed data, whose values infer may read. */
status input_want_constant(const step *s, int i);
bool dtype_is_integer(dtype type); /* and bool */
/* The numbers of TensorProto.DataType, as attributes name types; DTYPE_NONE for those without counterpart.
 * Halves and doubles of a file are floats in the engine, so these are, too; bfloat16 is kept as a float. */
dtype dtype_of_onnx(int64_t number);
/* Local. STATUS_BAD_INPUT unless input i is int64 or int32. */
status input_want_index(const step *s, int i);

/* Local. STATUS_BAD_INPUT unless all inputs are there (those past op.min_inputs may be left out in a file).
 */
status input_want_all(const step *s);

/* Local. infer of operators whose output 0 is like input 0; float: of float alone. */
status infer_like_input(step *s);
status infer_like_float_input(step *s);

/* Element i of any tensor from a number, cut as C does; beyond the type's range: the nearest of its range. */
void element_set_int(tensor *t, int64_t i, int64_t value);
void element_set_real(tensor *t, int64_t i, double value);

/* op.blocks of operators that work element by element on input 0; other inputs, if any, are single numbers.
 */
status blocks_by_element(const step *s, block_use *use);

/* forward and backward of operators of flag OP_VIEW. */
status view_forward(step *s);
status view_backward(step *s);

/* d = part, or d += part. The arrays may be the same. */
void gradient_write(float *d, const float *part, int64_t n, bool add);
/* Zeroes din[i] unless it holds a part already; returns its data. */
float *gradient_begin(step *s, int i);

/* The sum, in an order that depends on n alone. */
float floats_sum(const float *x, int64_t n);

/* Of what lies in memory: with channels in blocks also the places past the last one. */
static inline int64_t tensor_count(const tensor *t) {
  return tensor_places(t);
}

/* An input that is there. */
static inline bool step_has(const step *s, int i) {
  return i < s->n_in && s->in[i];
}

#endif
