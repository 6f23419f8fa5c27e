#include "stages/trainer_private.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* ---- construction ---- */

reduce_dtype trainer_reduce_dtype(const mpistill_train_options *o) {
  return strcmp(o->reduce_dtype, "bfloat16") == 0 ? REDUCE_BFLOAT16 : REDUCE_FLOAT32;
}

int trainer_default_shards(int64_t batch) {
  int shards = 1;
  while (shards < 64 && 2 * shards <= batch / 32) shards *= 2;
  return shards;
}

static void add_size(int64_t *sizes, int *n, int64_t size) {
  for (int i = 0; i < *n; i++)
    if (sizes[i] == size) return;
  if (size > 0) sizes[(*n)++] = size;
}

/* A batch of m rows is cut at s * m / shards: its shards differ by one row at most. */
int trainer_sizes(const mpistill_train_options *o, int64_t n, int64_t *sizes) {
  const int64_t shards = o->shards ? o->shards : trainer_default_shards(o->batch);
  const int64_t whole = o->batch < n ? o->batch : n, last = n % whole ? n % whole : whole;
  const int64_t m[2] = {whole, last};
  int found = 0;
  for (int i = 0; i < 2; i++) {
    add_size(sizes, &found, (m[i] + shards - 1) / shards);
    add_size(sizes, &found, m[i] / shards);
  }
  return found;
}

static status worker_new(trainer_worker *w, trainer *t) {
  status st = STATUS_OK;
  int64_t largest = 0;
  for (int i = 0; i < t->n_sizes; i++) largest = t->sizes[i] > largest ? t->sizes[i] : largest;
  TRY(arena_new(&w->memory));
  for (int i = 0; i < t->n_sizes; i++) {
    TRY(classifier_plan_late(&w->plans[i], t->k, t->sizes[i], t->late.mask, w->memory));
    trainer_late_mask(t, w->plans[i]);
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

static void worker_clear(trainer_worker *w) {
  for (int i = 0; i < TRAINER_MAX_SIZES; i++) plan_free(&w->plans[i]);
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

size_t trainer_n_trained(const trainer *t) {
  return (size_t)t->k->g->n_block + n_beside(t);
}

/* A task's learned temperatures in a vector of that length. */
float *trainer_learned(const trainer *t, const study *s, float *whole) {
  return whole + t->k->g->n_block + t->inner->n_parameters + s->first_learned;
}

/* The model's numbers go from where they are to the ranks' parts, without a copy of all of them. */
static status set_initial(trainer *t) {
  status st = STATUS_OK;
  const graph *g = t->k->g;
  float *beside = NULL;
  TRY(comm_agree(t->c, mem_new(&beside, n_beside(t), sizeof *beside)));
  for (int i = 0; i < g->n_values; i++) {
    const value *v = &g->values[i];
    if (v->kind == VALUE_PARAMETER || v->kind == VALUE_STATISTIC)
      reducer_write(t->sums, (size_t)v->offset, v->constant->data, (size_t)shape_count(&v->shape));
  }
  features_initial(t->inner, t->o->seed, beside);
  for (int i = 0; i < t->n_studies; i++) {
    study *s = &t->studies[i];
    objective_initial(&s->goal, s->t, t->o->seed, beside + t->inner->n_parameters + s->first_learned);
  }
  reducer_write(t->sums, (size_t)g->n_block, beside, n_beside(t));
  TRY(reducer_share(t->sums));
done:
  mem_free(beside);
  return st;
}

/* Where other nodes wait for this rank's gradients, they get them while the backward pass goes on. */
static status marks_new(trainer *t) {
  int from, to, n = reducer_waves(t->sums);
  if (!reducer_overlaps(t->sums) || !n) return STATUS_OK;
  reducer_wave(t->sums, n - 1, &from, &to);
  t->n_marks = to - from;
  return mem_new(&t->marks, (size_t)t->n_marks, sizeof *t->marks);
}

static status make_local(trainer *t) {
  status st = STATUS_OK;
  TRY(marks_new(t));
  TRY(updater_new(&t->update, t->k->g, t->k->frozen, n_beside(t), t->sums, &t->o->optimizer, t->o->clip_norm,
                  t->threads));
  TRY(trainer_late_new(t));
  TRY(mem_new(&t->workers, (size_t)t->threads, sizeof *t->workers));
  for (int i = 0; i < t->threads; i++) TRY(worker_new(&t->workers[i], t));
  TRY(trainer_late_begin(t));
done:
  return st;
}

static bool is_named(const trainer *t, const char *name) {
  for (int i = 0; i < t->n_losses; i++)
    if (!strcmp(t->names[i], name)) return true;
  return false;
}

/* Losses may differ in their options alone; each has its own key in the log. */
static status add_name(trainer *t, const char *task, const char *loss) {
  status st = STATUS_OK;
  char *name = NULL;
  TRY(mem_format(&name, "%s%s%s", task ? task : "", task ? "/" : "", loss));
  for (int i = 2; is_named(t, name); i++) {
    mem_free(name);
    name = NULL;
    TRY(mem_format(&name, "%s%s%s.%d", task ? task : "", task ? "/" : "", loss, i));
  }
  t->names[t->n_losses++] = name;
  name = NULL;
done:
  mem_free(name);
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
    for (int j = 0; j < s->goal.n; j++) TRY(add_name(t, s->t->name, s->goal.losses[j].kind));
  }
  for (int i = 0; i < t->inner->n; i++) TRY(add_name(t, NULL, t->inner->terms[i].name));
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

int64_t trainer_steps(const trainer *t) {
  return t->o->epochs * trainer_steps_per_epoch(t);
}

static status begin_teachers(trainer *t) {
  int first = 0, from = 0, to = 0;
  for (int w = 0; w < reducer_waves(t->sums); w++) {
    reducer_wave(t->sums, w, &from, &to);
    if (!w) first = from;
  }
  return live_begin(t->teachers, first, to, t->shards, t->n, trainer_steps(t));
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
                 .rate_scale = 1};
  t->shards = o->shards ? (int)o->shards : trainer_default_shards(o->batch);
  t->threads = (int)o->threads;
  t->schedule = schedule_find(o->schedule.kind);
  if (!t->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", dataset_path(d), sp->name);
  TRY(open_studies(t, d, sp, work));
  TRY(comm_agree(c, name_losses(t)));
  TRY(comm_agree(c, order_new(&t->order, o->seed, t->n, o->shuffle_window, o->batch)));
  t->n_sizes = trainer_sizes(o, t->n, t->sizes);
  for (int i = 0; i < t->n_studies; i++)
    TRY(objective_check_shards(&t->studies[i].goal, t->sizes, t->n_sizes));
  TRY(features_check_shards(&o->features, t->sizes, t->n_sizes));
  TRY(feed_open(&t->inputs, k, d, sp));
  t->inputs.augment = &seen->augment;
  TRY(features_load(inner));
  TRY(trainer_read_ahead(t));
  TRY(reducer_new(&t->sums, c, t->shards, trainer_n_trained(t), trainer_n_losses(t) + 1, t->threads,
                  trainer_reduce_dtype(o)));
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
  mem_free((*t)->marks);
  trainer_late_free(*t);
  updater_free(&(*t)->update);
  reducer_free(&(*t)->sums);
  ahead_free(&(*t)->ahead);
  feed_close(&(*t)->inputs);
  for (int i = 0; i < (*t)->n_studies; i++) study_close(&(*t)->studies[i]);
  for (int i = 0; i < (*t)->n_losses; i++) mem_free((*t)->names[i]);
  order_free(&(*t)->order);
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
  if (!s) return 0;
  const mpistill_loss *l = &s->goal.losses[place];
  const double learned =
      objective_temperature(&s->goal, place, trainer_learned(t, s, reducer_parameters(t->sums)));
  if (learned > 0 || !loss_is_scheduled(l)) return learned;
  return loss_temperature(l, trainer_progress(t, t->epoch * trainer_steps_per_epoch(t) + t->batch));
}

double trainer_loss_weight(const trainer *t, int i) {
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
  reducer_write(t->sums, (size_t)offset, values, (size_t)n);
  return reducer_share(t->sums);
}

status trainer_check(trainer *t) {
  return comm_agree(t->c, updater_check(t->update));
}
