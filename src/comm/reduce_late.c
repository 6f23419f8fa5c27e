/* Sums of what is made as it is summed: piece by piece, of all shards of a wave, in the cache. */
#include "comm/reduce_private.h"

#include "base/mem.h"
#include "base/profile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

static size_t piece_room(const reduce_late *late) {
  size_t room = 0;
  for (int i = 0; i < late->n; i++) {
    const size_t n = reduce_rounded((size_t)(late->matrices[i].high * late->matrices[i].wide));
    if (n > room) room = n;
  }
  return room;
}

static int most_inputs(const reducer *r) {
  return r->l->wave + TREE_DEPTH;
}

status reducer_make_late(reducer *r, const reduce_late *late) {
  status st = STATUS_OK;
  r->late = late;
  r->late_room = piece_room(late);
  r->late_stride = (size_t)most_inputs(r) * r->late_room + (size_t)TREE_DEPTH * TREE_CHUNK;
  TRY(mem_new(&r->late_inputs, (size_t)r->threads * (size_t)most_inputs(r), sizeof(tree_vector)));
  TRY(mem_new(&r->late_scratch, (size_t)r->threads * r->late_stride, sizeof(float)));
  layout_fold(r->l);
  exchange_free(r);
  TRY(exchange_new(r));
done:
  return st;
}

/* Where a piece lies in a matrix. */
typedef struct piece {
  const reduce_matrix *of;
  int64_t row, column, rows, columns;
} piece;

static piece piece_at(const reduce_matrix *m, int64_t row, int64_t column) {
  return (piece){m, row, column, m->rows - row < m->high ? m->rows - row : m->high,
                 m->columns - column < m->wide ? m->columns - column : m->wide};
}

/* A piece by itself, y[rows, columns], and where it has its place in a vector. */
static void take_out(const piece *p, const float *vector, float *y) {
  const float *x = vector + p->of->begin + (size_t)(p->row * p->of->columns + p->column);
  for (int64_t i = 0; i < p->rows; i++, x += p->of->columns, y += p->columns)
    for (int64_t j = 0; j < p->columns; j++) y[j] = x[j];
}

/* The lines of a place that will be written. */
static void fetch(const piece *p, const float *vector) {
  const float *x = vector + p->of->begin + (size_t)(p->row * p->of->columns + p->column);
  for (int64_t i = 0; i < p->rows; i++, x += p->of->columns)
    for (int64_t j = 0; j < p->columns; j += LINE / (int64_t)sizeof *x) __builtin_prefetch(x + j, 1);
}

static void put_in(const piece *p, const float *y, float *vector) {
  float *x = vector + p->of->begin + (size_t)(p->row * p->of->columns + p->column);
  for (int64_t i = 0; i < p->rows; i++, x += p->of->columns, y += p->columns)
    for (int64_t j = 0; j < p->columns; j++) x[j] = y[j];
}

static void sum_piece(reducer *r, int i, int64_t row, int64_t column, tree_vector *inputs, float *scratch) {
  const piece p = piece_at(&r->late->matrices[i], row, column);
  tree_vector outputs[TREE_DEPTH];
  for (int k = 0; k < r->fold->n_inputs; k++)
    inputs[k] = (tree_vector){scratch + (size_t)k * r->late_room, 0};
  for (int k = 0; k < r->n_folded; k++) take_out(&p, r->fold_inputs[k].data, inputs[k].data);
  for (int k = 0; k < r->fold->n_left; k++) fetch(&p, r->slots[k].data);
  const int n = r->fold->n_inputs - r->n_folded;
  r->late->make(r->late->data, r->fold_from, r->fold_from + n, i, row, column,
                scratch + (size_t)r->n_folded * r->late_room, r->late_room);
  for (int k = 0; k < r->fold->n_left; k++) outputs[k] = inputs[r->fold->first[k]];
  tree_run(r->fold, inputs, outputs, 0, (size_t)(p.rows * p.columns), 1,
           scratch + (size_t)most_inputs(r) * r->late_room);
  for (int k = 0; k < r->fold->n_left; k++) put_in(&p, outputs[k].data, r->slots[k].data);
}

/* Bands of some pieces' height from left to right: what the rows of a band are made of stays in the second
 * cache, what a column of it is made of in the first. */
enum { BAND = 8 };

static void sum_matrix(reducer *r, int i, tree_vector *inputs, float *scratch) {
  const reduce_matrix *m = &r->late->matrices[i];
  const int64_t high = (m->rows + m->high - 1) / m->high, wide = (m->columns + m->wide - 1) / m->wide;
#pragma omp for schedule(static) nowait
  for (int64_t k = 0; k < high * wide; k++) {
    const int64_t top = k / (BAND * wide) * BAND, band = high - top < BAND ? high - top : BAND;
    const int64_t row = top + (k - top * wide) % band, column = (k - top * wide) / band;
    sum_piece(r, i, row * m->high, column * m->wide, inputs, scratch);
  }
}

static void sum_matrices(reducer *r) {
#pragma omp parallel num_threads(r->threads) if (r->threads > 1)
  {
    int thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    float *scratch = r->late_scratch + (size_t)thread * r->late_stride;
    tree_vector *inputs = r->late_inputs + (size_t)thread * (size_t)most_inputs(r);
    const profile_phase before = profile_enter(PROFILE_BACKWARD);
    for (int i = 0; i < r->late->n; i++) sum_matrix(r, i, inputs, scratch);
    profile_enter(before);
  }
}

void reduce_fold_late(reducer *r) {
  size_t at = 0;
  for (int i = 0; i <= r->late->n; i++) {
    const reduce_matrix *m = i < r->late->n ? &r->late->matrices[i] : NULL;
    const size_t end = m ? m->begin : r->l->n_floats;
    if (at < end) tree_run(r->fold, r->fold_inputs, r->slots, at, end, r->threads, r->scratch);
    if (m) at = reduce_rounded(m->begin + (size_t)(m->rows * m->columns));
  }
  sum_matrices(r);
}
