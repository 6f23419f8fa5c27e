/* With several shards a rank the gradients of large matrices are made when they are summed: a shard's own
 * would only be written to memory to be read once. */
#include "stages/trainer_private.h"

#include "base/mem.h"

#include <string.h>

status trainer_late_new(trainer *t) {
  const int n = t->k->g->n_values;
  if (t->shards <= comm_size(t->c) || reducer_overlaps(t->sums)) return STATUS_OK;
  const status st = mem_new(&t->late.mask, (size_t)n, sizeof *t->late.mask);
  if (!st) memset(t->late.mask, true, (size_t)n * sizeof *t->late.mask);
  return st;
}

void trainer_late_mask(trainer *t, const plan *p) {
  const int n = t->k->g->n_values;
  if (!t->late.mask) return;
  memset(t->late.mask, false, (size_t)n * sizeof *t->late.mask);
  for (int i = 0; i < plan_n_late(p); i++) t->late.mask[plan_late(p, i).value] = true;
}

static void make(void *data, int shard, int i, int64_t from, int64_t to, bool add, float *y) {
  const trainer_late *l = data;
  const int place = shard % l->n_places;
  const int64_t n = (to - from) * l->matrices[i].columns;
  if (l->ran[place])
    plan_make_late(l->ran[place], i, l->copies + (size_t)place * l->n_floats, from, to, add, y);
  else if (add)
    for (int64_t j = 0; j < n; j++) y[j] += 0; /* as any gradient: -0 becomes 0 */
  else
    memset(y, 0, (size_t)n * sizeof *y);
}

static int longest_wave(const trainer *t) {
  int longest = 0, from, to;
  for (int w = 0; w < reducer_waves(t->sums); w++) {
    reducer_wave(t->sums, w, &from, &to);
    if (to - from > longest) longest = to - from;
  }
  return longest;
}

status trainer_late_begin(trainer *t) {
  status st = STATUS_OK;
  trainer_late *l = &t->late;
  const plan *p = t->workers[0].plans[0];
  const int n = l->mask ? plan_n_late(p) : 0;
  if (!n) {
    mem_free(l->mask);
    l->mask = NULL;
    return STATUS_OK;
  }
  l->n_places = longest_wave(t);
  l->n_floats = (size_t)plan_late_floats(p);
  TRY(mem_new(&l->matrices, (size_t)n, sizeof *l->matrices));
  TRY(mem_new(&l->ran, (size_t)l->n_places, sizeof *l->ran));
  TRY(mem_new(&l->copies, (size_t)l->n_places * l->n_floats, sizeof *l->copies));
  for (int i = 0; i < n; i++) {
    const late_range r = plan_late(p, i);
    l->matrices[i] = (reduce_matrix){(size_t)r.first, r.rows, r.columns};
  }
  l->sums = (reduce_late){.matrices = l->matrices, .n = n, .make = make, .data = l};
  TRY(reducer_make_late(t->sums, &l->sums));
done:
  return st;
}

void trainer_late_free(trainer *t) {
  mem_free(t->late.mask);
  mem_free(t->late.matrices);
  mem_free(t->late.ran);
  mem_free(t->late.copies);
}

void trainer_late_shard(const trainer *t, int shard, plan *p) {
  const trainer_late *l = &t->late;
  if (!l->mask) return;
  const int place = shard % l->n_places;
  l->ran[place] = p;
  if (p) plan_set_copies(p, l->copies + (size_t)place * l->n_floats);
}
