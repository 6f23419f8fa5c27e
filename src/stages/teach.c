/* teach: every rank runs teachers over blocks of rows and writes their logits into one soft-label file a
 * teacher. */
#include "base/file.h"
#include "base/mem.h"
#include "base/stop.h"
#include "ops/ops.h"
#include "stages/common.h"
#include "stages/logits.h"
#include "stages/options_rows.h"
#include "stages/private.h"
#include "stages/stages.h"
#include "stages/tasks.h"
#include "stages/views.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files ---- */

/* Floats of a row in memory. */
static int64_t row_values(const lesson *t) {
  int64_t n = t->f.classes * t->f.positions;
  for (int i = 0; i < t->n_taps; i++) {
    int64_t values = 1;
    for (int d = 1; d < t->f.tap_rank[i]; d++) values *= t->f.tap_dims[i][d];
    n += values;
  }
  return n;
}

/* Enough work in a block to make handing it out cheap, enough blocks to share, not too much memory; the same
 * on every machine. */
static int64_t block_rows(const teach_job *j, const lesson *t) {
  const facts *f = &t->f;
  int64_t batches = 1, values = row_values(t);
  if (j->o->block) return (j->o->block + f->batch_rows - 1) / f->batch_rows * f->batch_rows;
  while (batches < 64 && batches * f->batch_rows * f->work < 2000000000 &&
         batches * f->batch_rows * 16 <= j->sp->n &&
         ((!t->n_taps && t->f.positions == 1) || 2 * batches * f->batch_rows * values <= 1 << 24))
    batches *= 2;
  return batches * f->batch_rows;
}

static status make_features(const teach_job *j, const lesson *t, softlabels_header *h) {
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

/* Of the model, what its images are made into, the array it reads where there are several, and the output
 * that is taken where one is named: other logits have another one. */
static status identity(const teach_job *j, const lesson *t, char out[HASH_TEXT_BYTES]) {
  status st = STATUS_OK;
  char *text = NULL, *more = NULL;
  const mpistill_teacher *o = t->options;
  const bool reads = o->input && j->sp->n_inputs > 1, last = teacher_head(o).last;
  uint64_t hash = (uint64_t)t->f.hash;
  TRY(preprocess_text(teach_preprocess(j->o, o), &text));
  if (text) hash ^= hash_bytes(text, strlen(text));
  TRY(mem_format(&more, "%s\n%s\n%s", reads ? o->input : "", o->output ? o->output : "", last ? "last" : ""));
  if (reads || o->output || last) hash ^= hash_bytes(more, strlen(more));
  hash_text(hash, out);
done:
  mem_free(text);
  mem_free(more);
  return st;
}

status teach_check_top_k(int64_t k, const char *teacher, bool values, int64_t classes) {
  if (k && values)
    return status_set(STATUS_BAD_INPUT, "top-k: teacher '%s' gives numbers, not logits", teacher);
  if (k <= classes) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "top-k %lld: teacher '%s' has only %lld classes", (long long)k, teacher,
                    (long long)classes);
}

static status make_header(const teach_job *j, lesson *t) {
  status st = STATUS_OK;
  softlabels_header *h = &t->header;
  char hash[HASH_TEXT_BYTES];
  TRY(identity(j, t, hash));
  TRY(mem_string(&h->teacher, t->options->name));
  TRY(mem_string(&h->model_hash, hash));
  TRY(mem_string(&h->dataset_hash, j->hash));
  TRY(mem_string(&h->reading, j->reading));
  TRY(mem_string(&h->split, j->sp->name));
  TRY(mem_string(&h->method, ""));
  TRY(mem_string(&h->augment, j->augment));
  TRY(*j->augment ? mem_format(&h->augment_seed, "%llu", (unsigned long long)j->o->seed)
                  : mem_string(&h->augment_seed, ""));
  h->views = *j->augment ? j->rows / j->sp->n : 0;
  h->type = strcmp(j->o->dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32;
  h->rank = (int)t->f.rank;
  memcpy(h->dims, t->f.dims, sizeof h->dims);
  h->dims[0] = j->rows;
  h->values = t->options->values;
  h->top_k = j->o->top_k;
  h->floor = t->f.probabilities ? LOGITS_FLOOR : 0;
  h->mixed_processors = j->o->out.mixed_processors;
  h->batch_rows = t->f.batch_rows;
  h->block_rows = block_rows(j, t);
  if (t->n_taps) TRY(make_features(j, t, h));
  TRY(mem_new(&h->classes, t->options->classes.n, sizeof *h->classes));
  for (; h->n_classes < (int)t->options->classes.n; h->n_classes++)
    TRY(mem_string(&h->classes[h->n_classes], t->options->classes.items[h->n_classes]));
  TRY(teach_check_top_k(h->top_k, h->teacher, h->values, h->dims[1]));
done:
  return st;
}

static const char *difference(const softlabels_header *a, const softlabels_header *b) {
  if (strcmp(a->model_hash, b->model_hash)) return "model, input, output or preprocess";
  if (strcmp(a->dataset_hash, b->dataset_hash)) return "dataset";
  if (strcmp(a->reading, b->reading)) return "scale, offset or list of classes of the dataset";
  if (strcmp(a->split, b->split)) return "split";
  if (strcmp(a->augment, b->augment)) return "augmentation";
  if (strcmp(a->augment_seed, b->augment_seed)) return "seed of the augmentation";
  if (a->views != b->views) return "number of views";
  if (a->mixed_processors != b->mixed_processors) return "choice of processors (--mixed-processors)";
  if (a->type != b->type) return "dtype";
  if (a->values != b->values) return "kind of output (values)";
  if (a->rank != b->rank || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims))
    return "number of rows or classes";
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
static status check_existing(const teach_job *j, lesson *t) {
  status st = STATUS_OK;
  softlabels *old = NULL;
  int exists = comm_rank(j->c) == 0 && file_exists(t->path);
  TRY(comm_broadcast(j->c, 0, &exists, sizeof exists));
  TRY(stage_refuse_input(j->c, t->path, j->o->out.log, teach_option_rows, j->o, NULL));
  if (!exists || !stage_keeps_done(&j->o->out)) goto done;
  st = softlabels_open(&old, j->c, t->path);
  if (st == STATUS_BAD_INPUT)
    status_set(st,
               "%s: exists and is no soft-label file of this teacher; use another --output or --force\n%s",
               t->path, status_message());
  const char *what = st ? NULL : difference(softlabels_get(old), &t->header);
  if (what)
    st =
        status_set(STATUS_BAD_INPUT,
                   "%s: exists and was made from another %s; use another --output or --force", t->path, what);
  if (!st && !softlabels_has_checksums(old))
    st = status_set(STATUS_BAD_INPUT, "%s: has lost its checksums (/blocks); use another --output or --force",
                    t->path);
  if (!st) st = softlabels_check(old);
  if (st == STATUS_BAD_INPUT && j->o->out.force) {
    st = STATUS_OK;
    goto done;
  }
  TRY(st);
  t->finished = true;
  say(comm_rank(j->c) == 0 && !j->o->out.quiet, "%s: already done from the same inputs", t->path);
done:
  softlabels_close(&old);
  return st;
}

static status open_files(teach_job *j) {
  status st = STATUS_OK;
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    TRY(comm_agree(j->c, make_header(j, t)));
    TRY(comm_agree(j->c, mem_format(&t->path, "%s/%s.h5", j->o->output, t->options->name)));
  }
  j->makes_folder = comm_rank(j->c) == 0 && access(j->o->output, F_OK) != 0;
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

static void release_teacher(teach_job *j) {
  predictor_free(&j->p);
  classifier_clear(&j->k);
  model_free(&j->m);
  mem_free(j->block);
  mem_free(j->logits);
  mem_free(j->turned);
  for (int i = 0; i < SOFTLABELS_MAX_FEATURES; i++) {
    mem_free(j->features[i]);
    j->features[i] = NULL;
  }
  j->block = NULL;
  j->logits = j->turned = NULL;
  j->held = -1;
}

static status hold_teacher(teach_job *j, int i) {
  status st = STATUS_OK;
  const lesson *t = &j->teachers[i];
  if (j->held == i) return st;
  release_teacher(j);
  TRY(weights_model(j->weights, i, t->options->model, &j->m));
  if (!j->m) {
    TRY(model_read(&j->m, t->options->model));
    if ((int64_t)model_hash(j->m) != t->f.hash)
      THROW(STATUS_BAD_INPUT, "%s: was replaced during the run; start again", t->options->model);
  }
  const head_options head = teacher_head(t->options);
  TRY(classifier_bind(&j->k, j->m, t->inputs, teach_preprocess(j->o, t->options), dataset_path(j->d), &head,
                      1));
  TRY(teach_check_classes(j, t, &j->k));
  TRY(teach_bind_taps(t, &j->k, NULL));
  const float *block = weights_block(j->weights, i);
  if (!block) {
    TRY(mem_new(&j->block, (size_t)j->k.g->n_block, sizeof *j->block));
    graph_initial_block(j->k.g, j->block);
    block = j->block;
  }
  model_drop_data(j->m);
  const size_t values = (size_t)(t->header.block_rows * t->f.classes * t->f.positions);
  TRY(mem_new(&j->logits, values, sizeof *j->logits));
  if (t->f.positions > 1) TRY(mem_new(&j->turned, values, sizeof *j->turned));
  for (int i = 0; i < t->n_taps; i++) {
    int64_t values = t->header.block_rows;
    for (int d = 1; d < t->f.tap_rank[i]; d++) values *= t->f.tap_dims[i][d];
    TRY(mem_new(&j->features[i], (size_t)values, sizeof(float)));
  }
  TRY(predictor_new(&j->p, &j->k, block, t->f.batch_rows, j->threads));
  TRY(predictor_see(j->p, &t->augment));
  j->held = i;
done:
  return st;
}

static status answer(void *data) {
  return queue_serve(((teach_job *)data)->q);
}

/* A teacher that looks across rows (a softmax over the batch, dynamic quantisation) does not label the row
 * alone, and sees copies of the last one where a batch is not full. Tried with the first row, whose numbers
 * are in j->logits. */
static status check_alone(teach_job *j, int i) {
  static const float much = 1e-4f; /* of the largest number: beyond rounding */
  status st = STATUS_OK;
  const lesson *t = &j->teachers[i];
  const int64_t n = t->f.classes * t->f.positions, first = 0;
  float *alone = NULL, most = 0, apart = 0;
  int64_t at = 0;
  TRY(mem_new(&alone, (size_t)n, sizeof *alone));
  TRY(predictor_rows(j->p, &t->feed, &first, 1, &alone, NULL));
  for (int64_t k = 0; k < n; k++) {
    const float d = fabsf(alone[k] - j->logits[k]);
    if (fabsf(alone[k]) > most) most = fabsf(alone[k]);
    if (d > apart) apart = d, at = k;
  }
  say_warning(
      apart > much * most,
      "teacher '%s': what it gives for a row depends on the other rows of its batch (row 0, number %lld: %g "
      "in its batch, %g without them)",
      t->options->name, (long long)at, (double)j->logits[at], (double)alone[at]);
done:
  mem_free(alone);
  return st;
}

static status do_block(teach_job *j, int i, int64_t b) {
  status st = STATUS_OK;
  const lesson *t = &j->teachers[i];
  int64_t from = b * t->header.block_rows, n = j->rows - from;
  if (n > t->header.block_rows) n = t->header.block_rows;
  pulse_phase("teach, block %lld of '%s'", (long long)b, t->options->name);
  TRY(hold_teacher(j, i));
  TRY(predictor_run(j->p, &t->feed, from, n, &j->logits, j->features, answer, j));
  if (!b && t->f.batch_rows > 1) TRY(check_alone(j, i));
  if (j->turned) head_classes_first(j->logits, n, t->f.classes, t->f.positions, j->turned);
  st = softlabels_write_all(t->file, b, j->turned ? j->turned : j->logits, (const float *const *)j->features);
  if (st == STATUS_BAD_INPUT) status_set(st, "%s: %s", t->options->model, status_message());
done:
  return st;
}

static void log_progress(teach_job *j, double n_left) {
  double taken = (double)queue_taken(j->q), seconds = clock_seconds() - j->bar.started_s;
  log_event(j->log, "progress",
            json_pack("{s:o, s:o, s:o}", "blocks_done", json_number(taken), "blocks", json_number(n_left),
                      "seconds_left", json_number((n_left - taken) * seconds / taken)));
}

static status work(teach_job *j, double n_left) {
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

static status make_queue(teach_job *j, double *n_left) {
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
  TRY(queue_new(&j->q, j->c, j->n, items, costs, done, j->bound));
done:
  return st;
}

static status teach_all(teach_job *j) {
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
static status open_inputs(teach_job *j) {
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

static status open_weights(teach_job *j) {
  status st = STATUS_OK;
  weights_of *all = NULL;
  if (j->bound) return st; /* ranks of a node may not all see them */
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

static void free_all(teach_job *j) {
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
  mem_free(j->bound);
  dataset_close(&j->d);
  lock_release(&j->lock);
}

/* After a failure: a file without one good block is nothing to go on from. */
static void drop_empty(teach_job *j) {
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

static void print_file(const teach_job *j, const lesson *t) {
  printf("%s: %lld rows", t->path, (long long)j->rows);
  if (!t->options->values) printf(", %lld classes", (long long)t->f.classes);
  if (t->options->values)
    printf(", %lld numbers each", (long long)t->f.positions);
  else if (t->f.positions > 1)
    printf(" at %lld positions each", (long long)t->f.positions);
  putchar('\n');
}

static void report(const teach_job *j) {
  if (comm_rank(j->c) != 0 || j->o->out.no_result) return;
  json_t *files = json_array();
  for (int i = 0; i < j->n; i++) {
    json_array_append_new(files, json_string(j->teachers[i].path));
    if (!j->o->out.json) print_file(j, &j->teachers[i]);
  }
  fflush(stdout);
  if (j->o->out.json)
    stage_print_json(j->c, json_pack("{s:O, s:I}", "files", files, "rows", (json_int_t)j->rows));
  json_decref(files);
}

status stage_teach(comm *c, const mpistill_teach_options *o) {
  status st = STATUS_OK;
  teach_job j = {.c = c, .o = o, .threads = stage_threads(o->threads), .held = -1};
  stage_listen(c, &o->out);
  TRY(stage_begin(c, &o->out));
  TRY(dataset_open(&j.d, c, o->dataset));
  TRY(dataset_split(j.d, o->split, &j.sp));
  if (!j.sp->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", o->dataset, o->split);
  TRY(comm_agree(c, teach_choose(&j)));
  TRY(teach_share_facts(&j));
  TRY(dataset_hash(j.d, j.sp, j.hash));
  TRY(comm_agree(c, dataset_reading(j.d, j.sp, j.reading)));
  st = open_files(&j);
  if (!st) st = private_measure(&j);
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
  log_end(&j.log, st);
  free_all(&j);
  if (st && j.makes_folder) (void)!rmdir(o->output); /* where there is nothing to go on from */
  return st;
}
