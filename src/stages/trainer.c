#include "stages/trainer.h"

#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "comm/reduce.h"
#include "learn/optimizer.h"
#include "ops/ops.h"
#include "stages/study.h"
#include "stages/update.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZES = 4, MAX_ROLLBACKS = 3 };

typedef struct worker { /* what one thread works with */
  arena *memory;
  plan *plans[MAX_SIZES]; /* by number of rows */
  int64_t *ids;
  study_desk desks[TASKS_MAX];
  float *inner;  /* the teachers' inner tensors */
  int64_t *seen; /* rows in the epoch's view */
  float *view;   /* to make them */
  double *inner_scratch;
  double read_s, forward_s, backward_s;
} worker;

struct trainer {
  comm *c;
  const mpistill_train_options *o;
  const classifier *k;
  feed inputs;
  int64_t n;
  int n_studies;
  study studies[TASKS_MAX];
  const features *inner;
  int n_losses;
  char *names[TRAINER_MAX_LOSSES];
  const views *seen;
  live *teachers; /* NULL: none is asked */
  tasks *work;
  adaptive *fit;
  int shards, threads;
  int64_t sizes[MAX_SIZES]; /* numbers of rows a shard may have */
  int n_sizes;
  worker *workers;
  reducer *sums;
  updater *update;
  const schedule_kind *schedule;
  int64_t *order;
  double rate_scale; /* halved by each rollback */
  int rollbacks;
  int64_t epoch, batch;   /* done: epochs, and batches of the next */
  int64_t ordered;        /* the epoch that `order` is of, -1: none */
  epoch_result now, last; /* of the epoch under way, of the last one */
  const trainer_watch *watch;
};

/* ---- construction ---- */

int trainer_default_shards(int64_t batch) {
  int shards = 1;
  while (shards < 64 && 2 * shards <= batch / 32) shards *= 2;
  return shards;
}

static void add_size(trainer *t, int64_t size) {
  for (int i = 0; i < t->n_sizes; i++)
    if (t->sizes[i] == size) return;
  if (size > 0) t->sizes[t->n_sizes++] = size;
}

/* A batch of m rows is cut at s * m / shards: its shards differ by one row at most. */
static void find_sizes(trainer *t) {
  int64_t whole = t->o->batch < t->n ? t->o->batch : t->n, last = t->n % whole ? t->n % whole : whole;
  int64_t m[2] = {whole, last};
  for (int i = 0; i < 2; i++) {
    add_size(t, (m[i] + t->shards - 1) / t->shards);
    add_size(t, m[i] / t->shards);
  }
}

static status worker_new(worker *w, const trainer *t) {
  status st = STATUS_OK;
  int64_t largest = 0;
  for (int i = 0; i < t->n_sizes; i++) largest = t->sizes[i] > largest ? t->sizes[i] : largest;
  TRY(arena_new(&w->memory));
  for (int i = 0; i < t->n_sizes; i++) {
    TRY(classifier_plan(&w->plans[i], t->k, t->sizes[i], true, w->memory));
    for (int h = 0; h < t->n_studies; h++)
      if (!plan_tap_gradient(w->plans[i], h))
        THROW(STATUS_BAD_INPUT,
              "%s: no parameter can be trained: no float initializer reaches the output%s%s", t->k->path,
              t->n_studies > 1 ? " of task " : "", t->n_studies > 1 ? t->studies[h].t->name : "");
    TRY(features_check_plan(t->inner, w->plans[i], t->k));
    plan_set_parameters(w->plans[i], reducer_parameters(t->sums));
  }
  TRY(mem_new(&w->ids, (size_t)largest, sizeof *w->ids));
  for (int i = 0; i < t->n_studies; i++) TRY(study_desk_new(&w->desks[i], &t->studies[i], largest));
  TRY(mem_new(&w->inner, (size_t)(largest * features_row_values(t->inner)), sizeof(float)));
  TRY(mem_new(&w->inner_scratch, features_scratch(t->inner, largest), sizeof(double)));
  TRY(mem_new(&w->seen, (size_t)largest, sizeof *w->seen));
  TRY(mem_new(&w->view, augmenter_scratch(&t->seen->augment), sizeof *w->view));
done:
  return st;
}

static void worker_clear(worker *w) {
  for (int i = 0; i < MAX_SIZES; i++) plan_free(&w->plans[i]);
  arena_free(&w->memory);
  mem_free(w->ids);
  for (int i = 0; i < TASKS_MAX; i++) study_desk_clear(&w->desks[i]);
  mem_free(w->inner);
  mem_free(w->inner_scratch);
  mem_free(w->seen);
  mem_free(w->view);
}

/* Floats that are trained beside the model's block: what the features learn themselves, then temperatures. */
static size_t n_beside(const trainer *t) {
  const study *last = &t->studies[t->n_studies - 1];
  return (size_t)t->inner->n_parameters + (size_t)(last->first_learned + last->goal.n_learned);
}

static size_t n_trained(const trainer *t) {
  return (size_t)t->k->g->n_block + n_beside(t);
}

/* A task's learned temperatures in a vector of that length. */
static float *learned_in(const trainer *t, const study *s, float *whole) {
  return whole + t->k->g->n_block + t->inner->n_parameters + s->first_learned;
}

static status set_initial(trainer *t) {
  status st = STATUS_OK;
  float *block = NULL;
  size_t begin, end;
  TRY(comm_agree(t->c, mem_new(&block, n_trained(t), sizeof *block)));
  graph_initial_block(t->k->g, block);
  features_initial(t->inner, t->o->seed, block + t->k->g->n_block);
  for (int i = 0; i < t->n_studies; i++)
    objective_initial(&t->studies[i].goal, t->studies[i].t, t->o->seed, learned_in(t, &t->studies[i], block));
  reducer_slice(t->sums, &begin, &end);
  memcpy(reducer_parameters(t->sums) + begin, block + begin, (end - begin) * sizeof *block);
  TRY(reducer_share(t->sums));
done:
  mem_free(block);
  return st;
}

static status make_local(trainer *t) {
  status st = STATUS_OK;
  TRY(updater_new(&t->update, t->k->g, t->k->frozen, n_beside(t), t->sums, &t->o->optimizer,
                  t->o->clip_norm));
  TRY(mem_new(&t->workers, (size_t)t->threads, sizeof *t->workers));
  for (int i = 0; i < t->threads; i++) TRY(worker_new(&t->workers[i], t));
done:
  return st;
}

static status name_losses(trainer *t) {
  status st = STATUS_OK;
  int all = t->inner->n;
  for (int i = 0; i < t->n_studies; i++) all += t->studies[i].goal.n;
  if (all > TRAINER_MAX_LOSSES)
    THROW(STATUS_BAD_INPUT, "losses: more than %d, those of all tasks and features together",
          TRAINER_MAX_LOSSES);
  for (int i = 0; i < t->n_studies; i++) {
    const study *s = &t->studies[i];
    for (int j = 0; j < s->goal.n; j++)
      TRY(mem_format(&t->names[t->n_losses++], "%s%s%s", s->t->name ? s->t->name : "", s->t->name ? "/" : "",
                     s->goal.losses[j].kind));
  }
  for (int i = 0; i < t->inner->n; i++) TRY(mem_string(&t->names[t->n_losses++], t->inner->terms[i].name));
done:
  return st;
}

static status open_studies(trainer *t, dataset *d, const split *sp, tasks *work) {
  status st = STATUS_OK;
  int64_t learned = 0;
  for (int i = 0; i < work->n; i++) {
    study *s = &t->studies[t->n_studies++];
    TRY(study_open(s, t->c, t->o, &work->items[i], t->k, i, d, sp, t->seen));
    s->first_learned = learned;
    learned += s->goal.n_learned;
  }
done:
  return st;
}

static int64_t steps_total(const trainer *t) {
  return t->o->epochs * trainer_steps_per_epoch(t);
}

static status begin_teachers(trainer *t) {
  int first = 0, from = 0, to = 0;
  for (int w = 0; w < reducer_waves(t->sums); w++) {
    reducer_wave(t->sums, w, &from, &to);
    if (!w) first = from;
  }
  return live_begin(t->teachers, first, to, t->shards, t->n, steps_total(t));
}

status trainer_new(trainer **out, comm *c, const mpistill_train_options *o, const classifier *k, dataset *d,
                   const split *sp, tasks *work, const features *inner, const views *seen, live *teachers,
                   adaptive *fit) {
  status st = STATUS_OK;
  trainer *t;
  TRY(comm_agree(c, mem_new(&t, 1, sizeof *t)));
  *t = (trainer){.c = c,
                 .o = o,
                 .k = k,
                 .inner = inner,
                 .seen = seen,
                 .teachers = teachers,
                 .work = work,
                 .fit = fit,
                 .n = sp->n,
                 .rate_scale = 1,
                 .ordered = -1};
  t->shards = o->shards ? (int)o->shards : trainer_default_shards(o->batch);
  t->threads = (int)o->threads;
  t->schedule = schedule_find(o->schedule.kind);
  if (!t->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", dataset_path(d), sp->name);
  TRY(open_studies(t, d, sp, work));
  TRY(comm_agree(c, name_losses(t)));
  TRY(comm_agree(c, mem_new(&t->order, (size_t)t->n, sizeof *t->order)));
  find_sizes(t);
  for (int i = 0; i < t->n_studies; i++)
    TRY(objective_check_shards(&t->studies[i].goal, t->sizes, t->n_sizes));
  TRY(features_check_shards(inner, t->sizes, t->n_sizes));
  TRY(feed_open(&t->inputs, k, d, sp));
  t->inputs.augment = &seen->augment;
  TRY(features_load(inner));
  TRY(reducer_new(&t->sums, c, t->shards, n_trained(t), trainer_n_losses(t) + 1, t->threads));
  TRY(set_initial(t));
  TRY(comm_agree(c, make_local(t)));
  if (teachers) TRY(begin_teachers(t));
done:
  *out = t;
  if (st && t) trainer_free(out);
  return st;
}

void trainer_free(trainer **t) {
  if (!*t) return;
  for (int i = 0; (*t)->workers && i < (*t)->threads; i++) worker_clear(&(*t)->workers[i]);
  mem_free((*t)->workers);
  updater_free(&(*t)->update);
  reducer_free(&(*t)->sums);
  feed_close(&(*t)->inputs);
  for (int i = 0; i < (*t)->n_studies; i++) study_close(&(*t)->studies[i]);
  for (int i = 0; i < (*t)->n_losses; i++) mem_free((*t)->names[i]);
  mem_free((*t)->order);
  mem_free(*t);
  *t = NULL;
}

int trainer_n_losses(const trainer *t) {
  return t->n_losses;
}

const char *trainer_loss_name(const trainer *t, int i) {
  return t->names[i];
}

/* The task that a loss belongs to, and its place there; NULL: it is one between inner tensors, its place
 * among them. */
static const study *study_of(const trainer *t, int i, int *place) {
  *place = i;
  for (int s = 0; s < t->n_studies; s++) {
    if (*place < t->studies[s].goal.n) return &t->studies[s];
    *place -= t->studies[s].goal.n;
  }
  return NULL;
}

double trainer_temperature(const trainer *t, int i) {
  int place;
  const study *s = study_of(t, i, &place);
  return s ? objective_temperature(&s->goal, place, learned_in(t, s, reducer_parameters(t->sums))) : 0;
}

static double loss_weight(const trainer *t, int i) {
  int place;
  const study *s = study_of(t, i, &place);
  return s ? s->goal.losses[place].weight : t->inner->terms[place].options.weight;
}

int trainer_shards(const trainer *t) {
  return t->shards;
}

bool trainer_is_shared(const trainer *t) {
  return reducer_is_shared(t->sums);
}

int64_t trainer_rows(const trainer *t) {
  return t->n;
}

int64_t trainer_steps_per_epoch(const trainer *t) {
  return (t->n + t->o->batch - 1) / t->o->batch;
}

const float *trainer_block(const trainer *t) {
  return reducer_parameters(t->sums);
}

status trainer_replace(trainer *t, int64_t offset, const float *values, int64_t n) {
  size_t begin, end;
  float *parameters = reducer_parameters(t->sums);
  reducer_slice(t->sums, &begin, &end);
  for (size_t i = 0; i < (size_t)n; i++)
    if ((size_t)offset + i >= begin && (size_t)offset + i < end) parameters[(size_t)offset + i] = values[i];
  return reducer_share(t->sums);
}

status trainer_check(trainer *t) {
  return comm_agree(t->c, updater_check(t->update));
}

/* ---- one shard ---- */

typedef struct batch { /* a global batch */
  const int64_t *ids;
  int64_t rows;
  int64_t positions[TASKS_MAX], labelled[TASKS_MAX]; /* study_count */
  int64_t step;                                      /* from 0 */
} batch;

static status read_shard(const trainer *t, worker *w, plan *p, int64_t n) {
  const int64_t *seen = views_rows(t->seen, t->epoch, w->ids, n, w->seen);
  const int64_t *stored = views_labels(t->seen, w->ids, seen);
  status st = feed_read_views(&t->inputs, t->k, seen, n, p, w->view);
  for (int i = 0; !st && i < t->n_studies; i++)
    st = study_read(&t->studies[i], &w->desks[i], t->epoch, w->ids, stored, n);
  if (!st) st = features_rows(t->inner, stored, n, w->inner);
  return st;
}

static double progress_at(const trainer *t, int64_t step) {
  int64_t last = steps_total(t) - 1;
  return last > 0 ? (double)step / (double)last : 0;
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

static status evaluate_losses(const trainer *t, worker *w, plan *p, const batch *b, int64_t n, float *leaf,
                              double *stats) {
  float *parameters = reducer_parameters(t->sums);
  clear_gradients(t, p);
  for (int i = 0; i < t->n_studies; i++) {
    const study *s = &t->studies[i];
    const study_shard shard = {.ids = w->ids,
                               .n = n,
                               .batch_rows = b->positions[i],
                               .batch_labelled = b->labelled[i],
                               .progress = progress_at(t, b->step),
                               .seed = t->o->seed,
                               .step = (uint64_t)b->step,
                               .learned = learned_in(t, s, parameters),
                               .learned_gradient = learned_in(t, s, leaf)};
    status st = study_evaluate(s, &w->desks[i], &shard, p, stats);
    if (st) return st;
    stats += s->goal.n;
  }
  features_evaluate(t->inner, p, n, b->rows, w->inner, parameters + t->k->g->n_block, leaf + t->k->g->n_block,
                    w->inner_scratch, stats);
  return STATUS_OK;
}

static status run_shard(const trainer *t, worker *w, const batch *b, int shard) {
  int64_t from = shard * b->rows / t->shards, n = (shard + 1) * b->rows / t->shards - from;
  float *leaf = reducer_leaf(t->sums, shard);
  double *stats = reducer_stats(t->sums, shard);
  const int n_losses = trainer_n_losses(t);
  memset(stats, 0, (size_t)n_losses * sizeof *stats);
  stats[n_losses] = shard == 0 && t->watch->ask ? t->watch->ask(t->watch->data)
                                                : 0; /* rides on the sum: everyone will know */
  if (!n) {
    memset(leaf, 0, n_trained(t) * sizeof *leaf);
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
  plan_touch_parameters(p);
  plan_set_gradients(p, leaf);
  double at[4] = {clock_seconds()};
  status st = read_shard(t, w, p, n);
  at[1] = clock_seconds();
  if (!st) st = plan_forward(p, &run);
  at[2] = clock_seconds();
  if (!st) st = evaluate_losses(t, w, p, b, n, leaf, stats);
  if (!st) st = plan_backward(p, &run);
  at[3] = clock_seconds();
  w->read_s += at[1] - at[0];
  w->forward_s += at[2] - at[1];
  w->backward_s += at[3] - at[2];
  return st;
}

/* ---- steps and epochs ---- */

static status run_wave(trainer *t, const batch *b, int from, int to) {
  status worst = STATUS_OK;
  char *message = NULL;
#pragma omp parallel for num_threads(t->threads) schedule(static, 1)
  for (int s = from; s < to; s++) {
    status mine = run_shard(t, &t->workers[omp_get_thread_num()], b, s);
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
         t->schedule->factor(&t->o->schedule, step, warmup, steps_total(t), per_epoch);
}

/* *loss is not finite when the step was not taken. totals: the losses' parts, then what was asked for. */
static status train_step(trainer *t, const batch *b, double *totals, double *loss) {
  status st = t->teachers ? live_step(t->teachers, b->step, b->ids) : STATUS_OK;
  float *slice;
  size_t begin, end;
  double norm;
  for (int w = 0; w < reducer_waves(t->sums); w++) {
    int from, to;
    reducer_wave(t->sums, w, &from, &to);
    status mine = run_wave(t, b, from, to);
    if (!st) st = mine;
    reducer_fold(t->sums, w);
  }
  TRY(reducer_sum(t->sums, st, &slice, &begin, &end, totals));
  *loss = 0;
  for (int i = 0; i < trainer_n_losses(t); i++) *loss += loss_weight(t, i) * totals[i];
  t->now.learning_rate = learning_rate(t, b->step);
  if (isfinite(*loss)) TRY(updater_step(t->update, t->c, slice, t->now.learning_rate, b->step + 1, &norm));
  TRY(reducer_share(t->sums));
done:
  return st;
}

static status roll_back(trainer *t, double loss) {
  if (t->rollbacks++ == MAX_ROLLBACKS)
    return status_set(
        STATUS_FAILED,
        "the loss became %g in epoch %lld, after %d restarts of an epoch at half the learning rate; lower "
        "--learning-rate or set --clip-norm",
        loss, (long long)t->epoch + 1, MAX_ROLLBACKS);
  t->rate_scale *= 0.5;
  t->batch = 0;
  say_warning(comm_rank(t->c) == 0,
              "the loss became %g in epoch %lld; the epoch starts again at half the learning rate", loss,
              (long long)t->epoch + 1);
  updater_restore(t->update);
  return reducer_share(t->sums);
}

/* What adapts follows from how the student was before the epoch. */
static void adapt(trainer *t) {
  if (t->fit->on) adaptive_apply(t->fit, &t->studies[0].goal, &t->work->items[0].soft);
}

static status start_epoch(trainer *t) {
  status st = STATUS_OK;
  if (t->ordered != t->epoch) rng_permutation(t->o->seed, RNG_ORDER, (uint64_t)t->epoch, t->n, t->order);
  t->ordered = t->epoch;
  if (t->batch) return st; /* goes on from a checkpoint in its middle */
  if (t->fit->on) TRY(adaptive_measure(t->fit, reducer_parameters(t->sums)));
  adapt(t);
  updater_keep(t->update);
  t->now = (epoch_result){0};
done:
  return st;
}

static void finish_epoch(trainer *t) {
  for (int i = 0; i < t->threads; i++) {
    worker *w = &t->workers[i];
    t->now.read_s += w->read_s;
    t->now.forward_s += w->forward_s;
    t->now.backward_s += w->backward_s;
    w->read_s = w->forward_s = w->backward_s = 0;
  }
  t->last = t->now;
  t->epoch++;
  t->batch = 0;
}

static status next_step(trainer *t, unsigned *events) {
  status st = STATUS_OK;
  int64_t steps = trainer_steps_per_epoch(t), from = t->batch * t->o->batch;
  double totals[TRAINER_MAX_LOSSES + 1], loss, started = clock_seconds(), reducing = reducer_seconds(t->sums);
  TRY(start_epoch(t));
  batch b = {.ids = t->order + from,
             .rows = t->n - from < t->o->batch ? t->n - from : t->o->batch,
             .step = t->epoch * steps + t->batch};
  for (int i = 0; i < t->n_studies; i++)
    study_count(&t->studies[i], t->epoch, b.ids, b.rows, &b.positions[i], &b.labelled[i]);
  TRY(train_step(t, &b, totals, &loss));
  *events |= (unsigned)totals[trainer_n_losses(t)];
  t->now.seconds += clock_seconds() - started;
  t->now.reduce_s += reducer_seconds(t->sums) - reducing;
  if (!isfinite(loss)) {
    TRY(roll_back(t, loss));
    goto done;
  }
  t->now.loss += loss / (double)steps;
  for (int j = 0; j < trainer_n_losses(t); j++) t->now.parts[j] += totals[j] / (double)steps;
  if (t->watch->step_done) t->watch->step_done(t->watch->data, b.rows);
  if (++t->batch == steps) {
    finish_epoch(t);
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

/* ---- checkpoints ---- */

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
  int64_t n_block = (int64_t)n_trained(t);
  for (int i = 0; i < n && comm_rank(t->c) == 0 && !st; i++)
    st = mem_new(&vectors[i].data, (size_t)n_block, sizeof(float));
  TRY(comm_agree(t->c, st));
  for (int i = 0; i < n; i++) {
    float *slice;
    vectors[i].name = updater_vector(t->update, i, &slice);
    TRY(reducer_collect(t->sums, slice, vectors[i].data));
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
  reducer_slice(t->sums, &begin, &end);
  for (int i = 0; i < vectors_to_save(t); i++) {
    float *slice;
    const char *name = updater_vector(t->update, i, &slice);
    TRY(checkpoint_read(k, name, (int64_t)begin, (int64_t)(end - begin), slice));
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
  adapt(t);
  TRY(comm_agree(t->c, read_vectors(t, k)));
  TRY(reducer_share(t->sums));
done:
  return st;
}
