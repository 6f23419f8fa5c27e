/* Where a training stands, saved and restored. */
#include "stages/trainer_private.h"

#include "base/mem.h"
#include "ops/ops.h"

#include <string.h>

/* What was kept at the epoch's start is the state itself when no batch of it is done. */
static int vectors_to_save(const trainer *t) {
  return t->batch ? updater_n_vectors(t->update) : updater_n_vectors(t->update) / 2;
}

static checkpoint_position position(const trainer *t) {
  checkpoint_position at = {.epoch = t->epoch,
                            .batch = t->batch,
                            .rollbacks = t->rollbacks,
                            .rate_scale = t->rate_scale,
                            .n_sums = 2 * (trainer_n_losses(t) + 1) + t->fit->on};
  at.sums[0] = t->now.loss;
  at.sums[1] = t->last.loss;
  for (int i = 0; i < trainer_n_losses(t); i++) {
    at.sums[2 + 2 * i] = t->now.parts[i];
    at.sums[3 + 2 * i] = t->last.parts[i];
  }
  if (t->fit->on) at.sums[at.n_sums - 1] = t->fit->student;
  return at;
}

status trainer_save(trainer *t, const char *folder, const char *inputs) {
  status st = STATUS_OK;
  checkpoint_vector vectors[CHECKPOINT_MAX_VECTORS] = {{0}};
  checkpoint_position at = position(t);
  int n = vectors_to_save(t);
  ahead_rest(t->ahead); /* HDF5 does not like to be called by two threads */
  int64_t n_block = (int64_t)trainer_n_trained(t);
  for (int i = 0; i < n && comm_rank(t->c) == 0 && !st; i++)
    st = mem_new(&vectors[i].data, (size_t)n_block, sizeof(float));
  TRY(comm_agree(t->c, st));
  for (int i = 0; i < n; i++) {
    float *owned;
    vectors[i].name = updater_vector(t->update, i, &owned);
    if (owned)
      TRY(reducer_collect(t->sums, owned, vectors[i].data));
    else if (vectors[i].data)
      memcpy(vectors[i].data, reducer_parameters(t->sums), (size_t)n_block * sizeof(float));
  }
  if (comm_rank(t->c) == 0) st = checkpoint_write(folder, inputs, ops_libraries(), &at, vectors, n, n_block);
  TRY(comm_agree(t->c, st));
done:
  for (int i = 0; i < n; i++) mem_free(vectors[i].data);
  return st;
}

static status read_vectors(trainer *t, const checkpoint *k) {
  status st = STATUS_OK;
  size_t begin, end;
  for (int i = 0; i < vectors_to_save(t); i++) {
    float *owned;
    const char *name = updater_vector(t->update, i, &owned);
    for (int p = 0; p < reducer_n_parts(t->sums); p++) {
      reducer_part(t->sums, p, &begin, &end);
      TRY(checkpoint_read(k, name, (int64_t)begin, (int64_t)(end - begin),
                          owned ? owned : reducer_parameters(t->sums) + begin));
      if (owned) owned += end - begin;
    }
  }
done:
  return st;
}

status trainer_restore(trainer *t, const checkpoint *k) {
  status st = STATUS_OK;
  const checkpoint_position *at = checkpoint_at(k);
  if (at->n_sums != 2 * (trainer_n_losses(t) + 1) + t->fit->on)
    THROW(STATUS_BAD_INPUT, "the checkpoint has other losses; give --restart");
  t->epoch = at->epoch;
  t->batch = at->batch;
  t->rollbacks = (int)at->rollbacks;
  t->rate_scale = at->rate_scale;
  t->now = (epoch_result){.loss = at->sums[0]};
  t->last = (epoch_result){.loss = at->sums[1]};
  for (int i = 0; i < trainer_n_losses(t); i++) {
    t->now.parts[i] = at->sums[2 + 2 * i];
    t->last.parts[i] = at->sums[3 + 2 * i];
  }
  if (t->fit->on) t->fit->student = at->sums[at->n_sums - 1];
  trainer_adapt(t);
  TRY(comm_agree(t->c, read_vectors(t, k)));
  TRY(reducer_share(t->sums));
done:
  return st;
}
