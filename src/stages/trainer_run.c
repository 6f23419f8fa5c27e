/* Steps and epochs. */
#include "stages/trainer_private.h"

#include "base/mem.h"
#include "base/profile.h"
#include "base/progress.h"
#include "base/rng.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

/* A step is in doubt when its loss is more than FACTOR times what it was at first and, on the same rows, more
 * than FACTOR times that of the last good student. The second part is there for healthy runs: rows differ
 * (rare targets that are large, a first batch with none), and so do temperatures and weights of steps. A loss
 * below 1 for each weight counts as 1: a student that begins next to its teacher may leave it for a while.
 * The loss explodes when DOUBTS steps in a row are in doubt, or the last one is, or one makes the mean of its
 * epoch FACTOR times what the loss was at first: the first steps of a high rate may be too long, and are
 * taken back within a few. An epoch is good whose mean loss and last one are at most GOOD times what it was
 * at first: beside a state in between, the next epoch would seem better than it is. */
enum { MAX_ROLLBACKS = 3, FACTOR = 100, DOUBTS = 8, GOOD = 2 };

/* ---- one shard ---- */

typedef struct batch { /* a global batch */
  const int64_t *ids;
  int64_t rows;
  int64_t positions[TASKS_MAX], labelled[TASKS_MAX]; /* study_count */
  int64_t step;                                      /* from 0 */
} batch;

static status read_shard(const trainer *t, trainer_worker *w, plan *p, int64_t n) {
  const int64_t *seen = views_rows(t->seen, t->epoch, w->ids, n, w->seen);
  const int64_t *stored = views_labels(t->seen, w->ids, seen);
  const profile_phase before = profile_enter(PROFILE_READ);
  status st = feed_read_views(&t->inputs, t->k, seen, n, p, w->view);
  for (int i = 0; !st && i < t->n_studies; i++)
    st = study_read(&t->studies[i], &w->desks[i], t->epoch, w->ids, stored, n);
  if (!st) st = features_rows(t->inner, w->ids, stored, n, w->inner);
  profile_enter(before);
  return st;
}

double trainer_progress(const trainer *t, int64_t step) {
  int64_t last = trainer_steps(t) - 1;
  return last > 0 ? fmin((double)step / (double)last, 1) : 0;
}

/* A model that ends with a Softmax goes on behind its logits, and may have outputs of no task: no loss reads
 * those. To inner tensors losses add. */
static void clear_gradients(const trainer *t, const plan *p) {
  for (int i = 0; i < t->k->g->n_outputs; i++) {
    tensor *end = plan_output_gradient(p, i);
    if (end) memset(end->data, 0, (size_t)shape_count(&end->shape) * sizeof(float));
  }
  for (int i = 0; i < t->k->n_inner; i++) {
    tensor *inner = plan_tap_gradient(p, t->k->n_heads + i);
    if (inner) memset(inner->data, 0, (size_t)shape_count(&inner->shape) * sizeof(float));
  }
}

static status evaluate_losses(const trainer *t, trainer_worker *w, plan *p, const batch *b, int64_t n,
                              float *leaf, double *stats) {
  status st = STATUS_OK;
  float *parameters = reducer_parameters(t->sums);
  const profile_phase before = profile_enter(PROFILE_BACKWARD);
  const double at = profile_clock();
  clear_gradients(t, p);
  for (int i = 0; i < t->n_studies; i++) {
    const study *s = &t->studies[i];
    const study_shard shard = {.ids = w->ids,
                               .n = n,
                               .batch_rows = b->positions[i],
                               .batch_labelled = b->labelled[i],
                               .progress = trainer_progress(t, b->step),
                               .seed = t->o->seed,
                               .step = (uint64_t)b->step,
                               .learned = trainer_learned(t, s, parameters),
                               .learned_gradient = trainer_learned(t, s, leaf)};
    TRY(study_evaluate(s, &w->desks[i], &shard, p, stats));
    stats += s->goal.n;
  }
  features_evaluate(t->inner, p, n, b->rows, w->inner, parameters + t->k->g->n_block, leaf + t->k->g->n_block,
                    w->inner_scratch, stats);
done:
  profile_operator("losses", true, at);
  profile_enter(before);
  return st;
}

/* A shard of the last wave on its way back. */
typedef struct passing {
  const trainer *t;
  _Atomic size_t *mark;
} passing;

static void passed(void *data, int64_t from) {
  const passing *x = data;
  size_t all = 0;
  atomic_store_explicit(x->mark, (size_t)from, memory_order_release);
  if (omp_get_thread_num() > 0) return; /* the main thread alone has to do with messages */
  for (int i = 0; i < x->t->n_marks; i++) {
    size_t mark = atomic_load_explicit(&x->t->marks[i], memory_order_acquire);
    if (mark > all) all = mark;
  }
  reducer_ready(x->t->sums, all);
}

/* mark: NULL where others need not know how far it is. */
static status run_shard(const trainer *t, trainer_worker *w, const batch *b, int shard,
                        _Atomic size_t *mark) {
  int64_t from = shard * b->rows / t->shards, n = (shard + 1) * b->rows / t->shards - from;
  float *leaf = reducer_leaf(t->sums, shard);
  double *stats = reducer_stats(t->sums, shard);
  const int n_losses = trainer_n_losses(t);
  memset(stats, 0, (size_t)n_losses * sizeof *stats);
  stats[n_losses] = shard == 0 && t->watch->ask ? t->watch->ask(t->watch->data)
                                                : 0; /* rides on the sum: everyone will know */
  if (!n) {
    memset(leaf, 0, trainer_n_trained(t) * sizeof *leaf);
    trainer_late_shard(t, shard, NULL);
    return STATUS_OK;
  }
  plan *p = NULL;
  for (int i = 0; i < t->n_sizes; i++)
    if (t->sizes[i] == n) p = w->plans[i];
  memcpy(w->ids, b->ids + from, (size_t)n * sizeof *w->ids);
  run_context run = {.training = true,
                     .seed = t->o->seed,
                     .step = (uint64_t)b->step,
                     .rows = w->ids,
                     .row_share = (float)((double)n / (double)b->rows)};
  passing way = {t, mark};
  plan_touch_parameters(p);
  plan_set_gradients(p, leaf);
  trainer_late_shard(t, shard, p);
  plan_set_watcher(p, mark ? passed : NULL, &way);
  double at[4] = {clock_seconds()};
  status st = read_shard(t, w, p, n);
  at[1] = clock_seconds();
  if (!st) st = classifier_name(t->k, plan_forward(p, &run));
  at[2] = clock_seconds();
  if (!st) st = evaluate_losses(t, w, p, b, n, leaf, stats);
  if (!st) st = plan_backward(p, &run);
  at[3] = clock_seconds();
  w->read_s += at[1] - at[0];
  w->forward_s += at[2] - at[1];
  w->backward_s += at[3] - at[2];
  return st;
}

/* ---- one batch ---- */

static status run_wave(trainer *t, const batch *b, int wave) {
  status worst = STATUS_OK;
  char *message = NULL;
  int from, to;
  bool marked = t->marks && wave == reducer_waves(t->sums) - 1;
  reducer_wave(t->sums, wave, &from, &to);
  for (int i = 0; marked && i < t->n_marks; i++) atomic_init(&t->marks[i], SIZE_MAX);
#pragma omp parallel for num_threads(t->threads) schedule(static, 1)
  for (int s = from; s < to; s++) {
    _Atomic size_t *mark = marked ? &t->marks[s - from] : NULL;
    status mine = run_shard(t, &t->workers[omp_get_thread_num()], b, s, mark);
    if (mark) atomic_store_explicit(mark, 0, memory_order_release); /* all of it, however it ended */
    if (!mine) continue;
#pragma omp critical
    if (!worst) {
      worst = mine;
      if (mem_string(&message, status_message())) message = NULL;
    }
  }
  if (worst) status_set(worst, "%s", message ? message : "out of memory");
  mem_free(message);
  return worst;
}

static double learning_rate(const trainer *t, int64_t step) {
  int64_t per_epoch = trainer_steps_per_epoch(t);
  int64_t warmup = (int64_t)llround(t->o->schedule.warmup_epochs * (double)per_epoch);
  return t->rate_scale * t->o->optimizer.learning_rate *
         t->schedule->factor(&t->o->schedule, step, warmup, trainer_steps(t), per_epoch);
}

/* Making what is late is part of the backward pass. */
static void fold(trainer *t, int wave) {
  const profile_phase before = profile_enter(t->late.mask ? PROFILE_BACKWARD : PROFILE_REDUCE);
  const double at = clock_seconds();
  reducer_fold(t->sums, wave);
  if (t->late.mask) t->workers[0].backward_s += (clock_seconds() - at) * t->threads;
  profile_enter(before);
}

/* Gradients and losses of a batch. st: how this rank fared before; totals: the losses' parts, then what was
 * asked for. */
static status compute(trainer *t, const batch *b, status st, double *totals, double *loss) {
  for (int w = 0; w < reducer_waves(t->sums); w++) {
    status mine = run_wave(t, b, w);
    if (!st) st = mine;
    fold(t, w);
  }
  TRY(reducer_sum(t->sums, st, totals));
  *loss = 0;
  for (int i = 0; i < trainer_n_losses(t); i++) *loss += trainer_loss_weight(t, i) * totals[i];
done:
  return st;
}

/* ---- losses that explode ---- */

/* What the loss was at first, at least 1 for each weight. */
static double usual_loss(const trainer *t) {
  double least = 0;
  for (int i = 0; i < trainer_n_losses(t); i++) least += fabs(trainer_loss_weight(t, i));
  return fmax(t->usual, least);
}

/* The loss of the last good student on a batch. */
static status compute_kept(trainer *t, const batch *b, double *loss) {
  status st = STATUS_OK;
  double totals[TRAINER_MAX_LOSSES + 1];
  updater_swap(t->update);
  TRY(reducer_share(t->sums));
  TRY(compute(t, b, st, totals, loss));
  updater_swap(t->update);
  TRY(reducer_share(t->sums));
done:
  return st;
}

/* Whether the step of a batch, whose loss was just computed, is in doubt. To tell may cost its gradients. */
static status doubt(trainer *t, const batch *b, double loss, bool *yes) {
  status st = STATUS_OK;
  double kept;
  *yes = loss > FACTOR * usual_loss(t);
  if (!*yes) goto done;
  TRY(compute_kept(t, b, &kept));
  *yes = !(loss <= FACTOR * fabs(kept));
  if (!*yes) t->usual = fabs(kept); /* there are such rows: they are no longer looked at twice */
done:
  return st;
}

/* Whether the loss of a batch, just computed, has exploded. All of it follows from sums that all ranks have,
 * and that a checkpoint keeps. Where it has not, the batch's gradients are there as before. */
static status judge(trainer *t, const batch *b, double loss, bool *exploded) {
  status st = STATUS_OK;
  double totals[TRAINER_MAX_LOSSES + 1];
  bool yes;
  *exploded = !isfinite(loss);
  if (*exploded) goto done;
  if (t->usual == 0) t->usual = fabs(loss);
  const double before = t->usual;
  const bool last = b->step + 1 == trainer_steps(t);
  TRY(doubt(t, b, loss, &yes));
  t->doubts = yes ? t->doubts + 1 : 0;
  const double mean = t->now.by_step + loss / (double)trainer_steps_per_epoch(t);
  *exploded = yes && (last || t->doubts >= DOUBTS || mean > FACTOR * usual_loss(t));
  if (!*exploded && (yes || t->usual != before)) TRY(compute(t, b, st, totals, &loss));
done:
  return st;
}

/* Goes back to the last good student. */
static status roll_back(trainer *t, double loss) {
  if (t->rollbacks++ == MAX_ROLLBACKS)
    return status_set(
        STATUS_FAILED,
        "the loss became %g in epoch %lld, after %d restarts of an epoch at half the learning rate; lower "
        "--learning-rate or set --clip-norm",
        loss, (long long)t->epoch + 1, MAX_ROLLBACKS);
  t->rate_scale *= 0.5;
  t->back = (trainer_rollback){.n = t->rollbacks,
                               .epoch = t->epoch,
                               .to = t->kept_epoch,
                               .loss = loss,
                               .learning_rate = t->rate_scale * t->o->optimizer.learning_rate};
  say_warning(comm_rank(t->c) == 0,
              "the loss became %g in epoch %lld; epoch %lld starts again at half the learning rate", loss,
              (long long)t->epoch + 1, (long long)t->kept_epoch + 1);
  t->epoch = t->kept_epoch;
  t->batch = 0;
  t->doubts = 0;
  updater_restore(t->update);
  return reducer_share(t->sums);
}

/* ---- steps and epochs ---- */

/* *exploded: the student is not to go on from, and was left as it is. */
static status train_step(trainer *t, const batch *b, double *totals, double *loss, bool *exploded) {
  status st = t->teachers ? live_step(t->teachers, b->step, b->ids) : STATUS_OK;
  double norm;
  TRY(compute(t, b, st, totals, loss));
  t->now.learning_rate = learning_rate(t, b->step);
  TRY(judge(t, b, *loss, exploded));
  if (*exploded) goto done;
  TRY(updater_step(t->update, t->c, t->now.learning_rate, b->step + 1, &norm));
  TRY(reducer_share(t->sums));
done:
  return st;
}

/* What adapts follows from how the student was before the epoch. */
void trainer_adapt(trainer *t) {
  if (t->fit->on) adaptive_apply(t->fit, &t->studies[0].goal, &t->work->items[0].soft);
}

static status start_epoch(trainer *t) {
  status st = STATUS_OK;
  if (t->batch) return st; /* goes on from a checkpoint in its middle */
  if (t->fit->on) TRY(adaptive_measure(t->fit, reducer_parameters(t->sums)));
  trainer_adapt(t);
  if (t->kept_epoch == t->epoch) updater_keep(t->update);
  t->now = (epoch_result){0};
done:
  return st;
}

static void finish_epoch(trainer *t, double loss) {
  for (int i = 0; i < t->threads; i++) {
    trainer_worker *w = &t->workers[i];
    t->now.read_s += w->read_s;
    t->now.forward_s += w->forward_s;
    t->now.backward_s += w->backward_s;
    w->read_s = w->forward_s = w->backward_s = 0;
  }
  for (int i = 0; i < trainer_n_losses(t); i++) t->now.loss += trainer_loss_weight(t, i) * t->now.parts[i];
  t->last = t->now;
  t->epoch++;
  if (fmax(t->last.by_step, loss) <= GOOD * usual_loss(t)) t->kept_epoch = t->epoch;
  t->batch = 0;
}

/* Labels that move with the image are counted as they lie in this view: each rank counts a part of the batch.
 */
static status count_moved(trainer *t, batch *b) {
  status st = STATUS_OK;
  const int64_t rank = comm_rank(t->c), size = comm_size(t->c), from = b->rows * rank / size,
                n = b->rows * (rank + 1) / size - from;
  for (int i = 0; i < t->n_studies; i++) {
    const study *s = &t->studies[i];
    if (!s->planes.values) continue;
    TRY(comm_agree(t->c, study_count_moved(s, t->epoch, b->ids + from, n, &b->labelled[i])));
    TRY(comm_combine_counts(t->c, &b->labelled[i], 1));
  }
done:
  return st;
}

/* Adds one of `steps` to the span of an epoch. */
static void span_add(span *s, double x, int64_t steps) {
  s->least = s->most > 0 ? fmin(s->least, x) : x;
  s->most = fmax(s->most, x);
  s->mean += x / (double)steps;
}

/* Adds a loss of a batch to its mean over the rows of the epoch. */
static void mean_add(trainer *t, int i, double loss, double rows) {
  if (!(rows > 0)) return;
  t->now.rows[i] += rows;
  t->now.parts[i] += (loss - t->now.parts[i]) * rows / t->now.rows[i];
}

static void add_losses(trainer *t, const batch *b, const double *totals) {
  int i = 0;
  for (int s = 0; s < t->n_studies; s++)
    for (int k = 0; k < t->studies[s].goal.n; k++, i++) {
      const bool labelled = t->studies[s].goal.kinds[k]->needs_labels;
      mean_add(t, i, totals[i], (double)(labelled ? b->labelled[s] : b->positions[s]));
    }
  for (; i < trainer_n_losses(t); i++) mean_add(t, i, totals[i], (double)b->rows);
}

static status next_step(trainer *t, unsigned *events) {
  status st = STATUS_OK;
  int64_t steps = trainer_steps_per_epoch(t), from = t->batch * t->o->batch;
  bool exploded = false;
  double totals[TRAINER_MAX_LOSSES + 1], temperatures[TRAINER_MAX_LOSSES], loss,
      started = clock_seconds(), reducing = reducer_seconds(t->sums);
  TRY(start_epoch(t));
  const int64_t rows = t->n - from < t->o->batch ? t->n - from : t->o->batch;
  TRY(trainer_reach(t, from, rows));
  batch b = {
      .ids = order_rows(t->order, t->epoch, from, rows), .rows = rows, .step = t->epoch * steps + t->batch};
  for (int i = 0; i < t->n_studies; i++)
    study_count(&t->studies[i], t->epoch, b.ids, b.rows, &b.positions[i], &b.labelled[i]);
  TRY(count_moved(t, &b));
  for (int i = 0; i < trainer_n_losses(t); i++) temperatures[i] = trainer_temperature(t, i);
  TRY(train_step(t, &b, totals, &loss, &exploded));
  *events |= (unsigned)totals[trainer_n_losses(t)];
  t->now.seconds += clock_seconds() - started;
  t->now.reduce_s += reducer_seconds(t->sums) - reducing;
  if (exploded) {
    TRY(roll_back(t, loss));
    *events |= TRAINER_ROLLBACK;
    goto done;
  }
  t->now.by_step += loss / (double)steps;
  add_losses(t, &b, totals);
  for (int j = 0; j < trainer_n_losses(t); j++) span_add(&t->now.temperatures[j], temperatures[j], steps);
  if (t->watch->step_done) t->watch->step_done(t->watch->data, b.rows);
  if (++t->batch == steps) {
    finish_epoch(t, loss);
    *events |= TRAINER_EPOCH;
  }
done:
  return st;
}

status trainer_run(trainer *t, const trainer_watch *watch, unsigned *events) {
  status st = STATUS_OK;
  t->watch = watch;
  *events = 0;
  while (!st && !*events && !trainer_finished(t)) st = next_step(t, events);
  return st;
}

bool trainer_finished(const trainer *t) {
  return t->epoch >= t->o->epochs;
}

int64_t trainer_epoch(const trainer *t) {
  return t->epoch;
}

int64_t trainer_batch(const trainer *t) {
  return t->batch;
}

const epoch_result *trainer_result(const trainer *t) {
  return &t->last;
}

const trainer_rollback *trainer_last_rollback(const trainer *t) {
  return &t->back;
}

int trainer_rollbacks(const trainer *t) {
  return t->rollbacks;
}
