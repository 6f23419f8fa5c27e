#include "ops/nest.h"

#include "ops/support.h"

#include <string.h>

void nest_clear(nest *n, int arrays) {
  *n = (nest){.arrays = arrays};
}

void nest_add(nest *n, int64_t dim, const int64_t *strides) {
  n->dims[n->rank] = dim;
  for (int a = 0; a < n->arrays; a++) n->strides[a][n->rank] = strides[a];
  n->rank++;
}

void nest_broadcast(nest *n, const shape *out, const shape *const *shapes, int arrays) {
  nest_clear(n, arrays);
  n->rank = out->rank;
  for (int d = 0; d < out->rank; d++) n->dims[d] = out->dims[d];
  for (int a = 0; a < arrays; a++) shape_strides(shapes[a], out, n->strides[a]);
  if (n->rank == 0) nest_add(n, 1, (int64_t[NEST_ARRAYS]){0});
}

static bool joins(const nest *n, int outer, int inner) {
  for (int a = 0; a < n->arrays; a++) {
    if (n->strides[a][outer] != n->strides[a][inner] * n->dims[inner]) return false;
  }
  return true;
}

static void move_dimension(nest *n, int to, int from) {
  n->dims[to] = n->dims[from];
  for (int a = 0; a < n->arrays; a++) n->strides[a][to] = n->strides[a][from];
}

void nest_simplify(nest *n) {
  int kept = 0;
  for (int d = 0; d < n->rank; d++) {
    if (n->dims[d] == 1) continue;
    if (kept > 0 && joins(n, kept - 1, d)) {
      int64_t joined = n->dims[kept - 1] * n->dims[d];
      move_dimension(n, kept - 1, d);
      n->dims[kept - 1] = joined;
    } else {
      move_dimension(n, kept++, d);
    }
  }
  n->rank = kept;
  if (kept == 0) nest_add(n, 1, (int64_t[NEST_ARRAYS]){0});
}

bool nest_begin(nest *n) {
  for (int d = 0; d < n->rank; d++) {
    n->index[d] = 0;
    if (n->dims[d] == 0) return false;
  }
  return n->rank > 0;
}

bool nest_next(nest *n) {
  for (int d = n->rank - 2; d >= 0; d--) {
    n->index[d]++;
    for (int a = 0; a < n->arrays; a++) n->offset[a] += n->strides[a][d];
    if (n->index[d] < n->dims[d]) return true;
    for (int a = 0; a < n->arrays; a++) n->offset[a] -= n->strides[a][d] * n->dims[d];
    n->index[d] = 0;
  }
  return false;
}

#define COPY_ROW(name, type)                                                                                 \
  static void name(void *to, const void *from, int64_t length, int64_t st, int64_t sf) {                     \
    type *t = to;                                                                                            \
    const type *f = from;                                                                                    \
    if (sf == 0) {                                                                                           \
      for (int64_t i = 0; i < length; i++) t[i * st] = *f;                                                   \
    } else {                                                                                                 \
      for (int64_t i = 0; i < length; i++) t[i * st] = f[i * sf];                                            \
    }                                                                                                        \
  }
COPY_ROW(copy_row_1, uint8_t)
COPY_ROW(copy_row_2, uint16_t)
COPY_ROW(copy_row_4, uint32_t)
COPY_ROW(copy_row_8, uint64_t)

void nest_copy(nest *n, void *to, const void *from, size_t element_bytes) {
  void (*row)(void *, const void *, int64_t, int64_t, int64_t) = element_bytes == 8   ? copy_row_8
                                                                 : element_bytes == 4 ? copy_row_4
                                                                 : element_bytes == 2 ? copy_row_2
                                                                                      : copy_row_1;
  const int64_t bytes = (int64_t)element_bytes;
  nest_simplify(n);
  for (bool more = nest_begin(n); more; more = nest_next(n)) {
    char *t = (char *)to + n->offset[0] * bytes;
    const char *f = (const char *)from + n->offset[1] * bytes;
    int64_t length = nest_length(n), st = nest_stride(n, 0), sf = nest_stride(n, 1);
    if (st == 1 && sf == 1) {
      memcpy(t, f, (size_t)(length * bytes));
    } else {
      row(t, f, length, st, sf);
    }
  }
}

void nest_sum(nest *n, float *to, const float *from) {
  nest_simplify(n);
  for (bool more = nest_begin(n); more; more = nest_next(n)) {
    float *t = to + n->offset[0];
    const float *f = from + n->offset[1];
    int64_t length = nest_length(n), st = nest_stride(n, 0), sf = nest_stride(n, 1);
    if (st == 0 && sf == 1) {
      *t += floats_sum(f, length);
    } else if (st == 1 && sf == 1) {
      gradient_write(t, f, length, true);
    } else {
      for (int64_t i = 0; i < length; i++) t[i * st] += f[i * sf];
    }
  }
}
