/* Where a training stands, saved and restored. */
#include "stages/trainer_private.h"

#include "base/mem.h"
#include "ops/ops.h"

#include <string.h>

/* What is kept is the state itself at the start of an epoch that follows a good one. */
static int vectors_to_save(const trainer *t) {
  return t->batch || t->kept_epoch != t->epoch ? updater_n_vectors(t->update)
                                               : updater_n_vectors(t->update) / 2;
}

/* What is kept of the epoch under way and of the last one, and what losses are judged by. Returns how many
 * they are. */
static int sums_of(trainer *t, double *kept_epoch, double *at[CHECKPOINT_MAX_SUMS]) {
  epoch_result *both[] = {&t->now, &t->last};
  int n = 0;
  at[n++] = &t->usual;
  at[n++] = &t->doubts;
  at[n++] = kept_epoch;
  for (int e = 0; e < 2; e++) {
    at[n++] = &both[e]->loss;
    at[n++] = &both[e]->by_step;
  }
  for (int i = 0; i < trainer_n_losses(t); i++)
    for (int e = 0; e < 2; e++) {
      at[n++] = &both[e]->parts[i];
      at[n++] = &both[e]->rows[i];
    }
  for (int i = 0; i < trainer_n_losses(t); i++)
    for (int e = 0; e < 2 && trainer_temperature(t, i) > 0; e++) {
      span *s = &both[e]->temperatures[i];
      at[n++] = &s->least;
      at[n++] = &s->mean;
      at[n++] = &s->most;
    }
  if (t->fit->on) at[n++] = &t->fit->student;
  return n;
}

static checkpoint_position position(trainer *t) {
  double *sums[CHECKPOINT_MAX_SUMS], kept_epoch = (double)t->kept_epoch;
  checkpoint_position at = {.epoch = t->epoch,
                            .batch = t->batch,
                            .rollbacks = t->rollbacks,
                            .rate_scale = t->rate_scale,
                            .n_sums = sums_of(t, &kept_epoch, sums)};
  for (int i = 0; i < at.n_sums; i++) at.sums[i] = *sums[i];
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
  double *sums[CHECKPOINT_MAX_SUMS], kept_epoch;
  const int n_sums = sums_of(t, &kept_epoch, sums);
  if (at->n_sums != n_sums)
    THROW(STATUS_BAD_INPUT, "%s: has other losses, or is of another version; --restart begins anew",
          checkpoint_path(k));
  const int64_t steps = trainer_steps_per_epoch(t);
  if (at->epoch > t->o->epochs || at->batch >= steps || (at->epoch == t->o->epochs && at->batch))
    THROW(STATUS_BAD_INPUT,
          "%s: stands in epoch %lld, batch %lld, of a training of %lld epochs of %lld batches; --restart "
          "begins anew",
          checkpoint_path(k), (long long)at->epoch + 1, (long long)at->batch + 1, (long long)t->o->epochs,
          (long long)steps);
  t->epoch = at->epoch;
  t->batch = at->batch;
  t->rollbacks = (int)at->rollbacks;
  t->rate_scale = at->rate_scale;
  t->now = t->last = (epoch_result){0};
  for (int i = 0; i < n_sums; i++) *sums[i] = at->sums[i];
  t->kept_epoch = (int64_t)kept_epoch;
  trainer_adapt(t);
  TRY(comm_agree(t->c, read_vectors(t, k)));
  TRY(reducer_share(t->sums));
done:
  return st;
}
