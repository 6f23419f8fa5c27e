/* Loops over several arrays at once, each with its own strides: broadcasting, reduction, transposition,
 * slicing.
 *
 *     nest n;
 *     nest_broadcast(&n, &out->shape, (const shape *[]){&out->shape, &a->shape, &b->shape}, 3);
 *     nest_simplify(&n);
 *     for (bool more = nest_begin(&n); more; more = nest_next(&n))
 *       row(y + n.offset[0], a + n.offset[1], nest_stride(&n, 1), b + n.offset[2], nest_stride(&n, 2),
 * nest_length(&n));
 *
 * The order of the rows is that of the dimensions, always: sums over it have the same bits every time. */
#ifndef MPISTILL_OPS_NEST_H
#define MPISTILL_OPS_NEST_H

#include "graph/tensor.h"

enum { NEST_RANK = 2 * SHAPE_MAX_RANK, NEST_ARRAYS = 4 };

typedef struct nest {
  int rank; /* at least 1; the last dimension is the row that the caller's inner loop takes whole */
  int arrays;
  int64_t dims[NEST_RANK];
  int64_t strides[NEST_ARRAYS][NEST_RANK]; /* in elements, may be 0 or negative */
  int64_t offset[NEST_ARRAYS];             /* of the present row */
  int64_t index[NEST_RANK];
} nest;

/* No dimension yet, and no offset. */
void nest_clear(nest *n, int arrays);
/* Adds an innermost dimension. */
void nest_add(nest *n, int64_t dim, const int64_t *strides);

/* The dimensions of `out`, every array seen through it (numpy's broadcasting). */
void nest_broadcast(nest *n, const shape *out, const shape *const *shapes, int arrays);

/* Drops dimensions of 1 and joins neighbours that all arrays run through without a jump. The rows get as long
 * as they can be; their order stays. Arrays that are contiguous seen through a broadcast have stride 0 or 1
 * afterwards. */
void nest_simplify(nest *n);

/* Starts at the offsets given; false when there is nothing to visit. nest_next: false after the last row. */
bool nest_begin(nest *n);
bool nest_next(nest *n);

static inline int64_t nest_length(const nest *n) {
  return n->dims[n->rank - 1];
}
static inline int64_t nest_stride(const nest *n, int array) {
  return n->strides[array][n->rank - 1];
}

/* to (array 0) = from (array 1), elements of 1, 2, 4 or 8 bytes. Begins at the offsets given. */
void nest_copy(nest *n, void *to, const void *from, size_t element_bytes);
/* to (array 0) += from (array 1); stride 0 of `to` sums. */
void nest_sum(nest *n, float *to, const float *from);

#endif
