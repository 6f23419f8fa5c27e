/* Sums of what is made as it is summed: piece by piece, of all shards of a wave, in the cache. */
#include "comm/reduce_private.h"

#include "base/mem.h"
#include "base/profile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* Rows of a piece: what the kernels of products like, whole lines of the vector, and a share of the cache. */
enum { LIKED_ROWS = 12, LINE_ROWS = 16, PIECE_FLOATS = 12288 };

static int64_t piece_rows(const reduce_matrix *m) {
  const int64_t unit = m->columns % (LINE / (int64_t)sizeof(float)) ? LINE_ROWS : LIKED_ROWS;
  const int64_t n = PIECE_FLOATS / (unit * m->columns);
  return n > 1 ? n * unit : unit;
}

static size_t piece_room(const reduce_late *late) {
  size_t room = 0;
  for (int i = 0; i < late->n; i++) {
    const size_t n = reduce_rounded((size_t)(piece_rows(&late->matrices[i]) * late->matrices[i].columns));
    if (n > room) room = n;
  }
  return room;
}

status reducer_make_late(reducer *r, const reduce_late *late) {
  status st = STATUS_OK;
  r->late = late;
  r->late_room = piece_room(late);
  r->late_stride = (size_t)r->l->wave * r->late_room + (size_t)TREE_DEPTH * TREE_CHUNK;
  TRY(mem_new(&r->late_inputs, (size_t)r->threads * (size_t)(r->l->wave + TREE_DEPTH), sizeof(tree_vector)));
  TRY(mem_new(&r->late_scratch, (size_t)r->threads * r->late_stride, sizeof(float)));
  TRY(reduce_tree(r, &r->late_fold, r->l->wave + TREE_DEPTH));
  layout_fold(r->l);
  exchange_free(r);
  TRY(exchange_new(r));
done:
  return st;
}

/* How many leaves are made in one place from that shard on: the sum of two siblings, unless each is to be
 * rounded first. */
static int made_at_once(const reducer *r, int shard) {
  return r->dtype == REDUCE_FLOAT32 && shard % 2 == 0 && shard + 1 < r->fold_to ? 2 : 1;
}

void reduce_prepare_late(reducer *r) {
  tree_start(r->late_fold, r->l->n_shards);
  for (int i = 0; i < r->n_folded; i++) tree_push(r->late_fold, r->held[i]);
  for (int s = r->fold_from, n; s < r->fold_to; s += n) {
    n = made_at_once(r, s);
    tree_push(r->late_fold, n == 2 ? (tree_node){1, s / 2} : (tree_node){0, s});
  }
  tree_end(r->late_fold);
}

/* Rows from..to of matrix i. */
static void sum_piece(reducer *r, int i, int64_t from, int64_t to, tree_vector *inputs, float *scratch) {
  const reduce_matrix *m = &r->late->matrices[i];
  const size_t begin = m->begin + (size_t)(from * m->columns), end = m->begin + (size_t)(to * m->columns);
  for (int k = 0; k < r->n_folded; k++) inputs[k] = r->fold_inputs[k];
  float *place = scratch;
  for (int k = r->n_folded, s = r->fold_from; s < r->fold_to; k++, place += r->late_room) {
    inputs[k] = (tree_vector){place, begin};
    const int next = s + made_at_once(r, s);
    for (int first = s; s < next; s++) r->late->make(r->late->data, s, i, from, to, s > first, place);
  }
  tree_run(r->late_fold, inputs, r->slots, begin, end, 1, scratch + (size_t)r->l->wave * r->late_room);
}

static void sum_matrices(reducer *r) {
#pragma omp parallel num_threads(r->threads) if (r->threads > 1)
  {
    int thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    float *scratch = r->late_scratch + (size_t)thread * r->late_stride;
    tree_vector *inputs = r->late_inputs + (size_t)thread * (size_t)(r->l->wave + TREE_DEPTH);
    const profile_phase before = profile_enter(PROFILE_BACKWARD);
    for (int i = 0; i < r->late->n; i++) {
      const int64_t rows = r->late->matrices[i].rows, step = piece_rows(&r->late->matrices[i]);
#pragma omp for schedule(static) nowait
      for (int64_t from = 0; from < rows; from += step)
        sum_piece(r, i, from, from + step < rows ? from + step : rows, inputs, scratch);
    }
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
