/* teach: every rank runs teachers over blocks of rows and writes their logits into one soft-label file a
 * teacher. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/stop.h"
#include "comm/queue.h"
#include "ops/ops.h"
#include "stages/common.h"
#include "stages/logits.h"
#include "stages/stages.h"
#include "stages/views.h"
#include "stages/watch.h"
#include "stages/weights.h"
#include "store/softlabels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct facts { /* what every rank must know of a teacher; integers, so that they can be summed over
                          ranks */
  int64_t classes, work, hash, batch_rows, n_floats;
  int64_t inputs[CLASSIFIER_MAX_INPUTS]; /* its arrays' places in the split, from 1 on; 0: no more */
  int64_t probabilities;                 /* 1: they become log-probabilities */
  int64_t tap_rank[SOFTLABELS_MAX_FEATURES], tap_dims[SOFTLABELS_MAX_FEATURES][ARRAY_MAX_RANK];
} facts;

typedef struct lesson { /* one teacher and its file */
  const mpistill_teacher *options;
  int n_taps;
  const char *taps[SOFTLABELS_MAX_FEATURES]; /* in the order of the file */
  const array *inputs[CLASSIFIER_MAX_INPUTS];
  feed feed; /* of the job's arrays */
  augmenter augment;
  facts f;
  char *path;
  softlabels_header header;
  softlabels *file; /* NULL: finished before */
  bool finished;
} lesson;

typedef struct job {
  comm *c;
  const mpistill_teach_options *o;
  int threads;
  dataset *d;
  const split *sp;
  char hash[HASH_TEXT_BYTES];
  int64_t rows;  /* of the split, times views */
  char *augment; /* as text */
  int n;
  lesson *teachers;
  rows **arrays;    /* [sp->n_inputs] those that some teacher reads */
  weights *weights; /* of all teachers, once a node; NULL: each rank has its own */
  queue *q;
  /* The teacher this rank holds: */
  int held;
  model *m;
  float *block; /* its own; NULL: that of the node */
  classifier k;
  predictor *p;
  float *logits, *features[SOFTLABELS_MAX_FEATURES];
  progress bar;
  watch seen;
  run_log *log;
  lock *lock;
} job;

/* ---- checks before any rank computes ---- */

static status check_names(const job *j) {
  for (int i = 0; i < j->n; i++) {
    const char *name = j->teachers[i].options->name;
    if (!*name || strchr(name, '/') || *name == '.')
      return status_set(STATUS_BAD_INPUT, "teacher name '%s' cannot name a file; give --teacher NAME=FILE",
                        name);
    for (int k = 0; k < i; k++)
      if (!strcmp(name, j->teachers[k].options->name))
        return status_set(STATUS_BAD_INPUT,
                          "two teachers are named '%s'; give each --teacher NAME=FILE a name of its own",
                          name);
  }
  return STATUS_OK;
}

/* Classes that are listed belong to the model's outputs in that order, whatever it says itself. */
static status check_classes(const job *j, const lesson *t, classifier *k) {
  size_t given = t->options->classes.n;
  status st = given ? STATUS_OK : stage_check_classes(k, j->d);
  if (!given) return st ? st : classifier_order(k, j->d);
  if ((int64_t)given == k->classes) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "teacher '%s': %zu classes are listed, but %s gives %lld",
                    t->options->name, given, k->path, (long long)k->classes);
}

/* ---- taps ---- */

static int by_name(const void *a, const void *b) {
  return softlabels_feature_order(*(const char *const *)a, *(const char *const *)b);
}

static status add_tap(lesson *t, const char *name) {
  for (int i = 0; i < t->n_taps; i++)
    if (!strcmp(t->taps[i], name)) return STATUS_OK;
  if (t->n_taps == SOFTLABELS_MAX_FEATURES)
    return status_set(STATUS_BAD_INPUT, "teacher '%s': more than %d taps", t->options->name,
                      SOFTLABELS_MAX_FEATURES);
  t->taps[t->n_taps++] = name;
  return STATUS_OK;
}

/* The teacher that "TEACHER=TENSOR" names, NULL when there is none of that name: '=' may stand in a tensor's.
 */
static lesson *tapped_teacher(const job *j, const char *text) {
  const char *equals = strchr(text, '=');
  for (int i = 0; equals && i < j->n; i++) {
    const char *name = j->teachers[i].options->name;
    size_t n = (size_t)(equals - text);
    if (strlen(name) == n && !strncmp(name, text, n)) return &j->teachers[i];
  }
  return NULL;
}

static status choose_taps(job *j) {
  status st = STATUS_OK;
  for (size_t k = 0; k < j->o->taps.n; k++) {
    const char *text = j->o->taps.items[k];
    lesson *one = tapped_teacher(j, text);
    if (one) TRY(add_tap(one, strchr(text, '=') + 1));
    for (int i = 0; !one && i < j->n; i++) TRY(add_tap(&j->teachers[i], text));
  }
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    for (size_t k = 0; k < t->options->taps.n; k++) TRY(add_tap(t, t->options->taps.items[k]));
    if (t->n_taps) qsort(t->taps, (size_t)t->n_taps, sizeof *t->taps, by_name);
    for (int k = 1; k < t->n_taps; k++)
      if (!softlabels_feature_order(t->taps[k - 1], t->taps[k]))
        THROW(STATUS_BAD_INPUT, "teacher '%s': tensors '%s' and '%s' would have one name in the file",
              t->options->name, t->taps[k - 1], t->taps[k]);
  }
done:
  return st;
}

/* f: what the taps are goes there; NULL where it is known. */
static status bind_taps(const lesson *t, classifier *k, facts *f) {
  status st = STATUS_OK;
  for (int i = 0; i < t->n_taps; i++) {
    int place;
    shape s;
    TRY(classifier_tap(k, t->taps[i], &place, &s));
    if (!f) continue;
    f->tap_rank[i] = s.rank;
    memcpy(f->tap_dims[i], s.dims, sizeof f->tap_dims[i]);
  }
done:
  return st;
}

/* Reads one teacher only to learn its facts. */
static status learn_facts(const job *j, lesson *t) {
  status st = STATUS_OK;
  model *m = NULL;
  classifier k = {0};
  TRY(model_read(&m, t->options->model));
  stage_tell_mode(!j->o->out.no_result, m, false);
  TRY(classifier_arrays(m, j->d, j->sp, t->options->input, t->inputs));
  TRY(classifier_bind(&k, m, t->inputs, teach_preprocess(j->o, t->options), dataset_path(j->d)));
  TRY(check_classes(j, t, &k));
  TRY(views_make(&(augmenter){0}, &j->o->augment, &k, j->o->seed));
  t->f = (facts){.classes = k.classes,
                 .work = k.work > 0 ? k.work : 1,
                 .hash = (int64_t)model_hash(m),
                 .n_floats = k.g->n_block,
                 .probabilities = k.probabilities,
                 .batch_rows = predict_batch_rows(&k, j->sp->n)};
  for (int i = 0; i < k.n_inputs; i++) t->f.inputs[i] = t->inputs[i] - j->sp->inputs + 1;
  TRY(bind_taps(t, &k, &t->f));
done:
  classifier_clear(&k);
  model_free(&m);
  return st;
}

static status share_facts(job *j) {
  status st = STATUS_OK, mine = STATUS_OK;
  facts *all = NULL;
  TRY(comm_agree(j->c, mem_new(&all, (size_t)j->n, sizeof *all)));
  for (int i = comm_rank(j->c); i < j->n && !mine; i += comm_size(j->c)) {
    mine = learn_facts(j, &j->teachers[i]);
    all[i] = j->teachers[i].f;
  }
  TRY(comm_agree(j->c, mine));
  TRY(comm_combine_counts(j->c, (int64_t *)all, (size_t)j->n * (sizeof *all / sizeof(int64_t))));
  for (int i = 0; i < j->n; i++) {
    j->teachers[i].f = all[i];
    for (int k = 0; k < CLASSIFIER_MAX_INPUTS && all[i].inputs[k]; k++)
      j->teachers[i].inputs[k] = &j->sp->inputs[all[i].inputs[k] - 1];
  }
done:
  mem_free(all);
  return st;
}

/* ---- files ---- */

/* Floats of a row in memory. */
static int64_t row_values(const lesson *t) {
  int64_t n = t->f.classes;
  for (int i = 0; i < t->n_taps; i++) {
    int64_t values = 1;
    for (int d = 1; d < t->f.tap_rank[i]; d++) values *= t->f.tap_dims[i][d];
    n += values;
  }
  return n;
}

/* Enough work in a block to make handing it out cheap, enough blocks to share, not too much memory; the same
 * on every machine. */
static int64_t block_rows(const job *j, const lesson *t) {
  const facts *f = &t->f;
  int64_t batches = 1, values = row_values(t);
  if (j->o->block) return (j->o->block + f->batch_rows - 1) / f->batch_rows * f->batch_rows;
  while (batches < 64 && batches * f->batch_rows * f->work < 2000000000 &&
         batches * f->batch_rows * 16 <= j->sp->n &&
         (!t->n_taps || 2 * batches * f->batch_rows * values <= 1 << 24))
    batches *= 2;
  return batches * f->batch_rows;
}

static status make_features(const job *j, const lesson *t, softlabels_header *h) {
  status st = STATUS_OK;
  TRY(mem_new(&h->features, (size_t)t->n_taps, sizeof *h->features));
  for (; h->n_features < t->n_taps; h->n_features++) {
    softlabels_feature *f = &h->features[h->n_features];
    f->type = h->type;
    f->rank = (int)t->f.tap_rank[h->n_features];
    memcpy(f->dims, t->f.tap_dims[h->n_features], sizeof f->dims);
    f->dims[0] = j->rows;
    TRY(mem_string(&f->name, t->taps[h->n_features]));
  }
done:
  return st;
}

/* Of the model and of what its images are made into: other logits have another one. */
static status identity(const job *j, const lesson *t, char out[HASH_TEXT_BYTES]) {
  char *text = NULL;
  status st = preprocess_text(teach_preprocess(j->o, t->options), &text);
  uint64_t hash = (uint64_t)t->f.hash;
  if (text) hash ^= hash_bytes(text, strlen(text));
  if (!st) hash_text(hash, out);
  mem_free(text);
  return st;
}

static status make_header(const job *j, lesson *t) {
  status st = STATUS_OK;
  softlabels_header *h = &t->header;
  char hash[HASH_TEXT_BYTES];
  TRY(identity(j, t, hash));
  TRY(mem_string(&h->teacher, t->options->name));
  TRY(mem_string(&h->model_hash, hash));
  TRY(mem_string(&h->dataset_hash, j->hash));
  TRY(mem_string(&h->split, j->sp->name));
  TRY(mem_string(&h->method, ""));
  TRY(mem_string(&h->augment, j->augment));
  TRY(*j->augment ? mem_format(&h->augment_seed, "%llu", (unsigned long long)j->o->seed)
                  : mem_string(&h->augment_seed, ""));
  h->views = *j->augment ? j->rows / j->sp->n : 0;
  h->type = strcmp(j->o->dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32;
  h->rank = 2;
  h->dims[0] = j->rows;
  h->dims[1] = t->f.classes;
  h->top_k = j->o->top_k;
  h->floor = t->f.probabilities ? LOGITS_FLOOR : 0;
  h->batch_rows = t->f.batch_rows;
  h->block_rows = block_rows(j, t);
  if (t->n_taps) TRY(make_features(j, t, h));
  TRY(mem_new(&h->classes, t->options->classes.n, sizeof *h->classes));
  for (; h->n_classes < (int)t->options->classes.n; h->n_classes++)
    TRY(mem_string(&h->classes[h->n_classes], t->options->classes.items[h->n_classes]));
  if (h->top_k > h->dims[1])
    THROW(STATUS_BAD_INPUT, "--top-k %lld: teacher '%s' has only %lld classes", (long long)h->top_k,
          h->teacher, (long long)h->dims[1]);
done:
  return st;
}

static const char *difference(const softlabels_header *a, const softlabels_header *b) {
  if (strcmp(a->model_hash, b->model_hash)) return "model or preprocess";
  if (strcmp(a->dataset_hash, b->dataset_hash)) return "dataset";
  if (strcmp(a->split, b->split)) return "split";
  if (strcmp(a->augment, b->augment)) return "augmentation";
  if (strcmp(a->augment_seed, b->augment_seed)) return "seed of the augmentation";
  if (a->views != b->views) return "number of views";
  if (a->type != b->type) return "dtype";
  if (a->dims[0] != b->dims[0] || a->dims[1] != b->dims[1]) return "number of rows or classes";
  if (a->top_k != b->top_k) return "top-k";
  if (a->block_rows != b->block_rows || a->batch_rows != b->batch_rows) return "block";
  if (strcmp(a->teacher, b->teacher)) return "teacher name";
  if (a->n_classes != b->n_classes) return "class list";
  for (int i = 0; i < a->n_classes; i++)
    if (strcmp(a->classes[i], b->classes[i])) return "class list";
  if (a->n_features != b->n_features) return "list of taps";
  for (int i = 0; i < a->n_features; i++)
    if (softlabels_feature_order(a->features[i].name, b->features[i].name)) return "list of taps";
  return NULL;
}

/* A finished file under the final name: the same teacher's over the same rows, or in the way. */
static status check_existing(const job *j, lesson *t) {
  status st = STATUS_OK;
  softlabels *old = NULL;
  int exists = comm_rank(j->c) == 0 && file_exists(t->path);
  TRY(comm_broadcast(j->c, 0, &exists, sizeof exists));
  if (!exists || j->o->out.force) goto done;
  st = softlabels_open(&old, j->c, t->path);
  if (st == STATUS_BAD_INPUT) {
    status_set(st,
               "%s: exists and is no soft-label file of this teacher; use another --output or --force\n%s",
               t->path, status_message());
  }
  TRY(st);
  const char *what = difference(softlabels_get(old), &t->header);
  if (what)
    THROW(STATUS_BAD_INPUT, "%s: exists and was made from another %s; use another --output or --force",
          t->path, what);
  t->finished = true;
  say(comm_rank(j->c) == 0 && !j->o->out.quiet, "%s: already done from the same inputs", t->path);
done:
  softlabels_close(&old);
  return st;
}

static status open_files(job *j) {
  status st = STATUS_OK;
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    TRY(comm_agree(j->c, make_header(j, t)));
    TRY(comm_agree(j->c, mem_format(&t->path, "%s/%s.h5", j->o->output, t->options->name)));
  }
  TRY(comm_agree(j->c, comm_rank(j->c) == 0 ? file_make_folder(j->o->output) : STATUS_OK));
  TRY(stage_lock(j->c, &j->lock, j->o->output, &j->o->out));
  if (j->n && !j->o->out.no_result) pulse_share(j->c, j->teachers[0].path);
  for (int i = 0; i < j->n; i++) TRY(check_existing(j, &j->teachers[i]));
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    if (!t->finished) TRY(softlabels_create(&t->file, j->c, t->path, &t->header, !j->o->restart));
  }
done:
  return st;
}

/* ---- work ---- */

static void release_teacher(job *j) {
  predictor_free(&j->p);
  classifier_clear(&j->k);
  model_free(&j->m);
  mem_free(j->block);
  mem_free(j->logits);
  for (int i = 0; i < SOFTLABELS_MAX_FEATURES; i++) {
    mem_free(j->features[i]);
    j->features[i] = NULL;
  }
  j->block = NULL;
  j->logits = NULL;
  j->held = -1;
}

static status hold_teacher(job *j, int i) {
  status st = STATUS_OK;
  const lesson *t = &j->teachers[i];
  if (j->held == i) return st;
  release_teacher(j);
  TRY(model_read(&j->m, t->options->model));
  if ((int64_t)model_hash(j->m) != t->f.hash)
    THROW(STATUS_BAD_INPUT, "%s: was replaced during the run; start again", t->options->model);
  TRY(classifier_bind(&j->k, j->m, t->inputs, teach_preprocess(j->o, t->options), dataset_path(j->d)));
  TRY(check_classes(j, t, &j->k));
  TRY(bind_taps(t, &j->k, NULL));
  const float *block = weights_block(j->weights, i);
  if (!block) {
    TRY(mem_new(&j->block, (size_t)j->k.g->n_block, sizeof *j->block));
    graph_initial_block(j->k.g, j->block);
    block = j->block;
  }
  model_drop_data(j->m);
  TRY(mem_new(&j->logits, (size_t)(t->header.block_rows * t->f.classes), sizeof *j->logits));
  for (int i = 0; i < t->n_taps; i++) {
    int64_t values = t->header.block_rows;
    for (int d = 1; d < t->f.tap_rank[i]; d++) values *= t->f.tap_dims[i][d];
    TRY(mem_new(&j->features[i], (size_t)values, sizeof(float)));
  }
  TRY(predictor_new(&j->p, &j->k, block, t->f.batch_rows, j->rows, j->threads));
  TRY(predictor_see(j->p, &t->augment));
  j->held = i;
done:
  return st;
}

static status answer(void *data) {
  return queue_serve(((job *)data)->q);
}

static status do_block(job *j, int i, int64_t b) {
  status st = STATUS_OK;
  const lesson *t = &j->teachers[i];
  int64_t from = b * t->header.block_rows, n = j->rows - from;
  if (n > t->header.block_rows) n = t->header.block_rows;
  pulse_phase("teach, block %lld of '%s'", (long long)b, t->options->name);
  TRY(hold_teacher(j, i));
  TRY(predictor_run_inner(j->p, &t->feed, from, n, j->logits, j->features, answer, j));
  st = softlabels_write_all(t->file, b, j->logits, (const float *const *)j->features);
  if (st == STATUS_BAD_INPUT) status_set(st, "%s: %s", t->options->model, status_message());
done:
  return st;
}

static void log_progress(job *j, double n_left) {
  double taken = (double)queue_taken(j->q), seconds = clock_seconds() - j->bar.started_s;
  log_event(j->log, "progress",
            json_pack("{s:o, s:o, s:o}", "blocks_done", json_number(taken), "blocks", json_number(n_left),
                      "seconds_left", json_number((n_left - taken) * seconds / taken)));
}

static status work(job *j, double n_left) {
  status st = STATUS_OK;
  for (;;) {
    int group;
    int64_t item;
    TRY(queue_next(j->q, &group, &item));
    if (group < 0) break;
    TRY(do_block(j, group, item));
    if (stop_asked())
      THROW(STATUS_STOPPED, "stopped between two blocks as asked; the same command goes on from there");
    progress_update(&j->bar, (double)queue_taken(j->q));
    if (watch_due(&j->seen)) log_progress(j, n_left);
  }
done:
  return st;
}

static status make_queue(job *j, double *n_left) {
  status st = STATUS_OK;
  int64_t items[j->n];
  double costs[j->n];
  const unsigned char *done[j->n];
  *n_left = 0;
  for (int i = 0; i < j->n; i++) {
    const lesson *t = &j->teachers[i];
    items[i] = t->finished ? 0 : softlabels_n_blocks(t->file);
    costs[i] = (double)(t->f.work * t->header.block_rows);
    done[i] = t->finished ? NULL : softlabels_done(t->file);
    for (int64_t b = 0; b < items[i]; b++) *n_left += !done[i][b];
  }
  TRY(queue_new(&j->q, j->c, j->n, items, costs, done));
done:
  return st;
}

static status teach_all(job *j) {
  status st = STATUS_OK, mine;
  double n_left;
  TRY(make_queue(j, &n_left));
  progress_start(&j->bar, "teach", "blocks", n_left, comm_rank(j->c) == 0 && !j->o->out.quiet);
  mine = work(j, n_left);
  if (mine) queue_stop(j->q);
  TRY(queue_finish(j->q));
  progress_end(&j->bar);
  mine = comm_agree(j->c, mine);
  for (int i = 0; i < j->n; i++) {
    if (j->teachers[i].finished) continue;
    status finished = softlabels_finish(j->teachers[i].file, mine);
    if (!mine) mine = finished;
    log_event(j->log, "teacher",
              json_pack("{s:s, s:s, s:I, s:I}", "name", j->teachers[i].options->name, "file",
                        j->teachers[i].path, "rows", (json_int_t)j->rows, "classes",
                        (json_int_t)j->teachers[i].f.classes));
  }
  st = mine;
done:
  return st;
}

/* An array that several teachers read is opened once. */
static status open_inputs(job *j) {
  status st = STATUS_OK;
  TRY(comm_agree(j->c, mem_new(&j->arrays, (size_t)j->sp->n_inputs, sizeof *j->arrays)));
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    const array *a = t->inputs[0];
    TRY(augmenter_make(&t->augment, &j->o->augment, a->dims, a->rank, j->o->seed, a->name));
    t->feed.augment = &t->augment;
    for (int k = 0; k < CLASSIFIER_MAX_INPUTS && t->inputs[k]; k++) {
      rows **r = &j->arrays[t->inputs[k] - j->sp->inputs];
      if (!*r) TRY(rows_open(r, j->d, j->sp, t->inputs[k], 0));
      t->feed.rows[k] = *r;
    }
  }
done:
  return st;
}

static status open_weights(job *j) {
  status st = STATUS_OK;
  weights_of *all = NULL;
  TRY(comm_agree(j->c, mem_new(&all, (size_t)j->n, sizeof *all)));
  for (int i = 0; i < j->n; i++) {
    const lesson *t = &j->teachers[i];
    all[i] = (weights_of){
        .model = t->options->model, .hash = (uint64_t)t->f.hash, .n_floats = t->finished ? 0 : t->f.n_floats};
  }
  TRY(weights_new(&j->weights, j->c, all, j->n));
done:
  mem_free(all);
  return st;
}

static status choose_teachers(job *j) {
  status st = STATUS_OK;
  j->rows = j->sp->n * (j->o->views > 0 ? j->o->views : 1);
  TRY(views_text(&j->o->augment, &j->augment));
  TRY(mem_new(&j->teachers, j->o->teachers.n, sizeof *j->teachers));
  for (size_t i = 0; i < j->o->teachers.n; i++)
    if (j->o->teachers.items[i].model) j->teachers[j->n++].options = &j->o->teachers.items[i];
  TRY(check_names(j));
  TRY(choose_taps(j));
done:
  return st;
}

static void free_all(job *j) {
  release_teacher(j);
  weights_free(&j->weights);
  queue_free(&j->q);
  for (int i = 0; j->arrays && i < j->sp->n_inputs; i++) rows_close(&j->arrays[i]);
  for (int i = 0; i < j->n; i++) {
    softlabels_close(&j->teachers[i].file);
    softlabels_header_clear(&j->teachers[i].header);
    mem_free(j->teachers[i].path);
  }
  mem_free(j->arrays);
  mem_free(j->teachers);
  mem_free(j->augment);
  dataset_close(&j->d);
  log_close(&j->log);
  lock_release(&j->lock);
}

/* After a failure: a file without one good block is nothing to go on from. */
static void drop_empty(job *j) {
  int64_t n_done[j->n + 1];
  for (int i = 0; i < j->n; i++) {
    softlabels *file = j->teachers[i].file;
    n_done[i] = 0;
    for (int64_t b = 0; file && b < softlabels_n_blocks(file); b++) n_done[i] += softlabels_done(file)[b];
  }
  if (comm_combine_counts(j->c, n_done, (size_t)j->n)) return;
  for (int i = 0; i < j->n; i++)
    if (!n_done[i]) softlabels_discard(&j->teachers[i].file);
}

static void report(const job *j) {
  if (comm_rank(j->c) != 0 || j->o->out.no_result) return;
  json_t *files = json_array();
  for (int i = 0; i < j->n; i++) {
    json_array_append_new(files, json_string(j->teachers[i].path));
    if (!j->o->out.json)
      printf("%s: %lld rows, %lld classes\n", j->teachers[i].path, (long long)j->rows,
             (long long)j->teachers[i].f.classes);
  }
  fflush(stdout);
  if (j->o->out.json)
    stage_print_json(j->c, json_pack("{s:O, s:I}", "files", files, "rows", (json_int_t)j->rows));
  json_decref(files);
}

status stage_teach(comm *c, const mpistill_teach_options *o) {
  status st = STATUS_OK;
  job j = {.c = c, .o = o, .threads = stage_threads(o->threads), .held = -1};
  stage_listen(c, &o->out);
  TRY(stage_begin(c));
  TRY(dataset_open(&j.d, c, o->dataset));
  TRY(dataset_split(j.d, o->split, &j.sp));
  if (!j.sp->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", o->dataset, o->split);
  TRY(comm_agree(c, choose_teachers(&j)));
  TRY(share_facts(&j));
  TRY(dataset_hash(j.d, j.sp, j.hash));
  st = open_files(&j);
  if (st) drop_empty(&j);
  TRY(st);
  TRY(open_inputs(&j));
  TRY(open_weights(&j));
  TRY(comm_agree(c, log_open(&j.log, o->out.log, comm_rank(c) == 0)));
  log_event(j.log, "start", watch_ranks(c, j.threads));
  st = teach_all(&j);
  if (st) drop_empty(&j);
  TRY(st);
  report(&j);
  TRY(comm_agree(c, log_close(&j.log)));
done:
  free_all(&j);
  return st;
}
