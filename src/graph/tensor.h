/* Dense arrays: their type, shape and place in memory. They are row-major, except those within a plan that
 * have their channels in blocks. */
#ifndef MPISTILL_GRAPH_TENSOR_H
#define MPISTILL_GRAPH_TENSOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dtype {
  DTYPE_NONE = 0,
  DTYPE_FLOAT,
  DTYPE_UINT8,
  DTYPE_INT8,
  DTYPE_INT32,
  DTYPE_INT64,
  DTYPE_BOOL,
  DTYPE_DOUBLE,
  DTYPE_FLOAT16 /* at the border only: converted to float when read */
} dtype;

enum { SHAPE_MAX_RANK = 8 };

typedef struct shape {
  int rank;
  int64_t dims[SHAPE_MAX_RANK]; /* -1: not known before the number of rows is */
} shape;

typedef struct tensor {
  dtype type;
  shape shape;
  void *data;    /* NULL: not known yet */
  int64_t block; /* 0: row-major. Else [rows, channels, spatial...] lies in memory as [rows, channels / block
                    (rounded up), spatial..., block], the places past the last channel zero */
} tensor;

size_t dtype_bytes(dtype type);
const char *dtype_name(dtype type); /* "float", "int64", ... as ONNX spells them */

/* The number of elements (1 for rank 0); -1 when a dimension is unknown or the product overflows. */
int64_t shape_count(const shape *s);
/* The product of dims[from..to). */
int64_t shape_span(const shape *s, int from, int to);
bool shape_equal(const shape *a, const shape *b);
/* "[32, 3, ?, 8]" into text, cut to n bytes; returns text. */
const char *shape_text(const shape *s, char *text, size_t n);
/* Numpy's broadcasting of two shapes; false when they do not fit. */
bool shape_broadcast(const shape *a, const shape *b, shape *out);
/* Strides in elements of `s` seen through `out`, 0 where `s` is repeated; out must be a broadcast of s. */
void shape_strides(const shape *s, const shape *out, int64_t strides[SHAPE_MAX_RANK]);

/* An owned tensor: header and data in one allocation, freed with mem_free. Data zeroed. */
status tensor_new(tensor **out, dtype type, const shape *s);

/* The row-major shape of what lies in memory: t->shape, unless its channels are in blocks. */
shape tensor_layout(const tensor *t);
/* The number of elements of that, shape_count of t->shape where it is row-major. */
int64_t tensor_places(const tensor *t);

/* Element i of an integer or bool tensor as int64_t. */
int64_t tensor_int(const tensor *t, int64_t i);
/* Element i of any tensor as double. */
double tensor_real(const tensor *t, int64_t i);

#endif
