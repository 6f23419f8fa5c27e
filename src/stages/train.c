/* train and distill: one stage, as training on hard labels is distillation without teachers. */
#include "stages/train.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/stop.h"
#include "ops/ops.h"
#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/freeze.h"
#include "stages/live.h"
#include "stages/options_rows.h"
#include "stages/prior.h"
#include "stages/reduced.h"
#include "stages/stages.h"
#include "stages/train_inputs.h"
#include "stages/trainer.h"
#include "stages/watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct job {
  comm *c;
  const mpistill_train_options *o; /* threads resolved */
  model_source student;
  dataset *d;
  subject s;
  tasks work;
  features inner;
  adaptive fit;
  views views;
  const live_link *link; /* NULL: no teacher is asked */
  tutor_hash *hashes;    /* of those who are; NULL: none */
  live *teachers;
  bool *frozen;          /* NULL: nothing is */
  const split *unbiased; /* rows to correct the biases of the classes on; NULL: none */
  trainer *t;
  json_t *inputs;
  run_log *log;
  progress bar;
  watch seen;
  double rows_done, rows_before; /* by this and earlier runs; by earlier ones */
  double started_s, train_s, saved_s;
  double read_s, thread_s; /* of this rank's threads in epochs that ended: reading, and all */
  lock *lock;
  char *folder;           /* of checkpoints */
  char *inputs_text;      /* rank 0 */
  unsigned char *reduced; /* the student's bytes in o->precision, on rank 0 */
  size_t n_reduced;
  char *full;              /* where the trained one goes then; NULL: there is one student */
  const split *test;       /* NULL: not measured */
  score scores[TASKS_MAX]; /* there */
} job;

enum { WANT_CHECKPOINT = TRAINER_CALLER, WANT_STOP = 2 * TRAINER_CALLER };

/* What the student is made from, and where it is kept meanwhile. */
static status collect_inputs(job *j) {
  status st = STATUS_OK;
  char model[HASH_TEXT_BYTES];
  hash_text(model_hash(j->s.m), model);
  TRY(train_inputs(&j->inputs, j->c, j->o, &j->work,
                   &(train_origin){.model = model,
                                   .d = j->d,
                                   .rows = j->s.sp,
                                   .prior = j->unbiased,
                                   .adaptive = j->fit.sp,
                                   .input = j->s.input->name,
                                   .live = (const tutor_hash *)j->hashes,
                                   .live_inner = features_ask(&j->inner)}));
  stage_mark_mixed(j->inputs, &j->o->out);
  j->inputs_text = json_dumps(j->inputs, JSON_COMPACT);
  if (!j->inputs_text)
    THROW(STATUS_FAILED, "out of memory: the inputs of %s could not be listed", j->o->output);
  if (j->o->checkpoint)
    TRY(mem_string(&j->folder, j->o->checkpoint));
  else
    TRY(mem_format(&j->folder, "%s.ckpt", j->o->output));
done:
  return st;
}

static void log_progress(job *j) {
  double all = (double)(j->o->epochs * trainer_rows(j->t));
  double per_s = (j->rows_done - j->rows_before) / (clock_seconds() - j->started_s);
  log_event(j->log, "progress",
            json_pack("{s:I, s:I, s:I, s:o, s:o}", "epoch", (json_int_t)trainer_epoch(j->t), "batch",
                      (json_int_t)trainer_batch(j->t), "batches", (json_int_t)trainer_steps_per_epoch(j->t),
                      "samples_per_s", json_number(per_s), "seconds_left",
                      json_number((all - j->rows_done) / per_s)));
}

static void step_done(void *data, int64_t rows) {
  job *j = data;
  j->rows_done += (double)rows;
  progress_update(&j->bar, j->rows_done);
  if (watch_due(&j->seen)) log_progress(j);
}

/* Polled on one rank; a stop counts more than a checkpoint, which it brings with it. */
static unsigned ask(void *data) {
  const job *j = data;
  if (stop_asked()) return WANT_STOP;
  return clock_seconds() - j->saved_s >= j->o->checkpoint_seconds ? WANT_CHECKPOINT : 0;
}

/* Temperatures that move, over the steps of the epoch done last, and that of the next step; NULL: none does.
 */
static json_t *temperatures_json(const job *j) {
  json_t *all = json_object();
  for (int i = 0; i < trainer_n_losses(j->t); i++) {
    const span *s = &trainer_result(j->t)->temperatures[i];
    if (s->most > 0)
      json_object_set_new(all, trainer_loss_name(j->t, i),
                          json_pack("{s:o, s:o, s:o, s:o}", "least", json_number(s->least), "mean",
                                    json_number(s->mean), "most", json_number(s->most), "next",
                                    json_number(trainer_temperature(j->t, i))));
  }
  if (json_object_size(all)) return all;
  json_decref(all);
  return NULL;
}

/* What the epoch was trained with; NULL: nothing adapts. */
static json_t *adapted_json(const job *j) {
  const adaptive *a = &j->fit;
  if (!a->on) return NULL;
  json_t *weights = json_array();
  for (int i = 0; i < a->n; i++) json_array_append_new(weights, json_real(j->work.items[0].soft.weights[i]));
  return json_pack("{s:f, s:f, s:f, s:o}", "nll", a->student, "kd_weight", a->kd, "temperature",
                   a->temperature, "weights", weights);
}

static void log_epoch(job *j) {
  const epoch_result *e = trainer_result(j->t);
  j->read_s += e->read_s;
  j->thread_s += e->seconds * (double)j->o->threads;
  int64_t epoch = trainer_epoch(j->t);
  json_t *parts = json_object();
  json_object_set_new(parts, "total", json_number(e->loss));
  for (int i = 0; i < trainer_n_losses(j->t); i++)
    json_object_set_new(parts, trainer_loss_name(j->t, i), json_number(e->parts[i]));
  log_event(j->log, "epoch",
            json_pack("{s:I, s:I, s:o, s:o*, s:o*, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o}}", "epoch",
                      (json_int_t)epoch, "step", (json_int_t)(epoch * trainer_steps_per_epoch(j->t)), "loss",
                      parts, "temperature", temperatures_json(j), "adaptive", adapted_json(j),
                      "learning_rate", json_number(e->learning_rate), "samples_per_s",
                      json_number((double)trainer_rows(j->t) / e->seconds), "seconds", "all",
                      json_number(e->seconds), "read", json_number(e->read_s), "forward",
                      json_number(e->forward_s), "backward", json_number(e->backward_s), "allreduce",
                      json_number(e->reduce_s)));
}

static void log_start(job *j) {
  json_t *start = watch_ranks(j->c, (int)j->o->threads);
  json_t *work =
      json_pack("{s:O, s:I, s:I, s:s}", "inputs", j->inputs, "shards", (json_int_t)trainer_shards(j->t),
                "rows", (json_int_t)trainer_rows(j->t), "libraries", ops_libraries());
  json_object_update_missing(start, work);
  json_decref(work);
  log_event(j->log, "start", start);
}

static void log_rollback(job *j) {
  const trainer_rollback *r = trainer_last_rollback(j->t);
  log_event(j->log, "rollback",
            json_pack("{s:I, s:o, s:I, s:o, s:i}", "epoch", (json_int_t)r->epoch + 1, "loss",
                      json_number(r->loss), "starts_again", (json_int_t)r->to + 1, "learning_rate",
                      json_number(r->learning_rate), "rollbacks", r->n));
}

static status save(job *j) {
  double started = clock_seconds();
  pulse_phase("checkpoint");
  status st = trainer_save(j->t, j->folder, j->inputs_text);
  j->saved_s = clock_seconds();
  log_event(j->log, "checkpoint",
            json_pack("{s:I, s:I, s:o}", "epoch", (json_int_t)trainer_epoch(j->t), "batch",
                      (json_int_t)trainer_batch(j->t), "seconds", json_number(j->saved_s - started)));
  return st;
}

/* Goes on from the checkpoint of the same command, if there is one. */
static status resume(job *j) {
  status st = STATUS_OK;
  bool show = comm_rank(j->c) == 0;
  checkpoint *k = NULL;
  json_t *old = NULL;
  char *warning = NULL, *what = NULL;
  if (j->o->restart) TRY(comm_agree(j->c, show ? checkpoint_check_folder(j->folder) : STATUS_OK));
  if (j->o->restart && show) checkpoint_remove(j->folder);
  TRY(comm_barrier(j->c));
  TRY(checkpoint_open(&k, j->c, j->folder, &warning));
  if (warning) say_warning(show, "%s", warning);
  if (!k) goto done;
  old = json_loads(checkpoint_inputs(k), 0, NULL);
  if (!json_equal(old, j->inputs)) {
    TRY(mem_format(&what, "%s: the checkpoint there", j->folder));
    TRY(mark_difference(what, old, j->inputs, "give --restart to drop it, or another --checkpoint"));
  }
  if (strcmp(checkpoint_libraries(k), ops_libraries()))
    say_warning(show, "the checkpoint was made with %s, this is %s: the student's bytes may differ",
                checkpoint_libraries(k), ops_libraries());
  TRY(trainer_restore(j->t, k));
  say(show && !j->o->out.quiet, "goes on after epoch %lld, batch %lld", (long long)trainer_epoch(j->t),
      (long long)trainer_batch(j->t));
  log_event(j->log, "resume",
            json_pack("{s:I, s:I, s:i}", "epoch", (json_int_t)trainer_epoch(j->t), "batch",
                      (json_int_t)trainer_batch(j->t), "rollbacks", trainer_rollbacks(j->t)));
done:
  checkpoint_close(&k);
  json_decref(old);
  mem_free(warning);
  mem_free(what);
  return st;
}

static status stop(job *j) {
  status st = save(j);
  if (st) return st;
  return status_set(STATUS_STOPPED,
                    "stopped after epoch %lld, batch %lld as asked; the same command goes on from there",
                    (long long)trainer_epoch(j->t), (long long)trainer_batch(j->t));
}

static void warn_of_nothing(const job *j) {
  say_warning(
      trainer_epoch(j->t) == 1 && trainer_result(j->t)->loss == 0 && comm_rank(j->c) == 0,
      "the loss is 0 on all rows of the first epoch, nothing is learnt: no row has what its losses read "
      "(labels, answers of the teachers, a teacher as sure as confidence asks)");
}

static status run_epochs(job *j) {
  status st = STATUS_OK;
  const mpistill_train_options *o = j->o;
  trainer_watch watch = {.ask = ask, .step_done = step_done, .data = j};
  unsigned events;
  while (!trainer_finished(j->t)) {
    pulse_phase("%s, epoch %lld of %lld", train_has_teachers(o) ? "distill" : "train",
                (long long)trainer_epoch(j->t) + 1, (long long)o->epochs);
    TRY(trainer_run(j->t, &watch, &events));
    if (events & TRAINER_EPOCH) {
      progress_note(&j->bar, "epoch %lld/%lld loss %.4f", (long long)trainer_epoch(j->t),
                    (long long)o->epochs, trainer_result(j->t)->loss);
      log_epoch(j);
      warn_of_nothing(j);
    }
    if (events & TRAINER_ROLLBACK) log_rollback(j);
    j->rows_done = (double)(trainer_epoch(j->t) * trainer_rows(j->t) + trainer_batch(j->t) * o->batch);
    if (trainer_finished(j->t)) break;
    if (events & WANT_STOP) TRY(stop(j));
    if (events & WANT_CHECKPOINT) TRY(save(j));
  }
  TRY(trainer_check(j->t));
done:
  return st;
}

/* More ranks than shards, or than rows of a step. */
static void tell_idle(const job *j, bool show) {
  const int ranks = comm_size(j->c), shards = trainer_shards(j->t);
  const int64_t all = trainer_rows(j->t), rows = j->o->batch < all ? j->o->batch : all;
  if (rows < ranks)
    say(show, "a step has %lld rows for %d ranks: use %lld of them at most%s", (long long)rows, ranks,
        (long long)rows, rows < all ? ", or a larger --batch (which changes the student)" : "");
  else if (shards < ranks)
    say(show, "%d of %d ranks have no shard to train; --shards %d would use them (and change the student)",
        ranks - shards, ranks, ranks);
}

static status run_training(job *j) {
  const mpistill_train_options *o = j->o;
  bool show = comm_rank(j->c) == 0 && !o->out.quiet;
  tell_idle(j, show);
  say_warning(
      comm_rank(j->c) == 0 && shared_is_wanted() && !trainer_is_shared(j->t),
      "ranks of one host share no memory: their gradients go by messages, which is slower and gives the "
      "same student; is /dev/shm full?");
  j->started_s = j->saved_s = clock_seconds();
  j->rows_done = j->rows_before =
      (double)(trainer_epoch(j->t) * trainer_rows(j->t) + trainer_batch(j->t) * o->batch);
  progress_start(&j->bar, train_has_teachers(o) ? "distill" : "train", "samples",
                 (double)(o->epochs * trainer_rows(j->t)), show);
  status st = run_epochs(j);
  progress_end(&j->bar);
  j->train_s = clock_seconds() - j->started_s;
  return st;
}

/* The biases of the classes, from rows of another split. */
static status correct_biases(job *j) {
  status st = STATUS_OK;
  prior found = {0};
  int value;
  double least = INFINITY, most = -INFINITY;
  if (!j->unbiased) goto done;
  pulse_phase("biases of the classes");
  TRY(prior_find(&found, j->c, &j->s.k, trainer_block(j->t), j->d, j->unbiased, &j->o->priors,
                 (int)j->o->threads));
  TRY(prior_bias(&j->s.k, &value));
  TRY(trainer_replace(j->t, j->s.k.g->values[value].offset, found.bias, j->s.k.heads[0].classes));
  json_t *shift = json_array();
  for (int64_t i = 0; i < j->s.k.heads[0].classes; i++) {
    json_array_append_new(shift, json_number(found.shift[i]));
    least = fmin(least, found.shift[i]);
    most = fmax(most, found.shift[i]);
  }
  log_event(j->log, "prior", json_pack("{s:i, s:o}", "rounds", found.rounds, "shift", shift));
  say(comm_rank(j->c) == 0 && !j->o->out.quiet, "biases of the classes moved by %.3f to %.3f on split '%s'",
      least, most, j->unbiased->name);
done:
  prior_clear(&found);
  return st;
}

static status write_alone(job *j) {
  status st = STATUS_OK;
  char *part = NULL;
  TRY(mem_format(&part, "%s.part", j->o->output));
  st = model_write(j->s.m, trainer_block(j->t), j->full ? j->full : part);
  if (!st && j->full) st = file_write(part, j->reduced, j->n_reduced);
  /* It could be written at the start: no longer the user's slip. */
  if (st == STATUS_BAD_INPUT) status_set(st = STATUS_FAILED, "%s", status_message());
  TRY(st);
  TRY(mark_commit(j->o->output, j->full, j->inputs));
  checkpoint_remove(j->folder);
done:
  mem_free(part);
  return st;
}

static status write_student(job *j) {
  status st = STATUS_OK;
  if (reduced_wanted(j->o))
    st = reduced_bytes(j->c, &j->s, trainer_block(j->t), j->d, j->o, &j->reduced, &j->n_reduced);
  if (st) return st;
  return comm_agree(j->c, comm_rank(j->c) == 0 ? write_alone(j) : STATUS_OK);
}

/* The checkpoints of a run that was killed just after it had written its student. */
static status drop_leftover(job *j) {
  status st = STATUS_OK;
  checkpoint *k = NULL;
  char *warning = NULL;
  st = checkpoint_open(&k, j->c, j->folder, &warning);
  if (st == STATUS_BAD_INPUT) st = STATUS_OK; /* whosever the damaged one is, it stays */
  if (k && comm_rank(j->c) == 0 && !strcmp(checkpoint_inputs(k), j->inputs_text))
    checkpoint_remove(j->folder);
  checkpoint_close(&k);
  mem_free(warning);
  return st;
}

/* A student that is no good is not written. */
static status measure_student(job *j) {
  status st = STATUS_OK;
  if (!j->test) return st;
  TRY(evaluate_rows(j->c, &j->s.k, trainer_block(j->t), j->d, j->test, (int)j->o->threads, false, j->scores));
  TRY(evaluate_check(j->scores, j->work.n, j->o->output, j->test->name));
done:
  return st;
}

/* What the student in the file, in its precision, is like on the test rows. */
static status measure_written(job *j, const split *test, score *m) {
  status st = STATUS_OK;
  subject s = {0};
  const model_source from = {.path = j->o->output, .heads = j->work.heads, .n_heads = j->work.n};
  TRY(subject_open(&s, j->c, &from, j->d, test->name, j->o->input));
  TRY(evaluate_rows(j->c, &s.k, s.block, j->d, test, (int)j->o->threads, false, m));
done:
  subject_close(&s);
  return st;
}

static void print_temperatures(const job *j) {
  for (int i = 0; i < trainer_n_losses(j->t); i++) {
    const span *s = &trainer_result(j->t)->temperatures[i];
    if (s->most > 0)
      printf("%s: temperature %.4g to %.4g in the last epoch, mean %.4g\n", trainer_loss_name(j->t, i),
             s->least, s->most, s->mean);
  }
}

static void print_scores(const job *j, const char *what, const score *m) {
  char text[256];
  for (int i = 0; i < j->work.n; i++) {
    if (!(m[i].sums.rows > 0)) continue;
    score_text(&m[i], text, sizeof text);
    printf("%s%s%s: %s\n", what, j->work.items[i].name ? ", " : "",
           j->work.items[i].name ? j->work.items[i].name : "", text);
  }
}

/* Of a task without a name as it is, else an object by name. */
static json_t *scores_json(const job *j, const score *m) {
  if (!j->work.items[0].name) return m->sums.rows > 0 ? score_json(m) : json_null();
  json_t *all = json_object();
  for (int i = 0; i < j->work.n; i++)
    if (m[i].sums.rows > 0) json_object_set_new(all, j->work.items[i].name, score_json(&m[i]));
  return all;
}

static status report(job *j) {
  status st = STATUS_OK;
  const mpistill_train_options *o = j->o;
  score written[TASKS_MAX] = {0};
  const bool reduced = reduced_wanted(o);
  if (j->test && reduced) TRY(measure_written(j, j->test, written));
  double rate = ((double)(o->epochs * trainer_rows(j->t)) - j->rows_before) / j->train_s;
  const double reading = j->thread_s > 0 ? j->read_s / j->thread_s : 0;
  json_t *result =
      json_pack("{s:s, s:I, s:I, s:o, s:o*, s:o, s:o, s:o, s:o}", "output", o->output, "epochs",
                (json_int_t)o->epochs, "steps", (json_int_t)(o->epochs * trainer_steps_per_epoch(j->t)),
                "loss", json_number(trainer_result(j->t)->loss), "temperature", temperatures_json(j),
                "seconds", json_number(j->train_s), "samples_per_s", json_number(rate), "reading_share",
                json_number(reading), "test", scores_json(j, j->scores));
  if (reduced)
    json_object_set_new(result, "written",
                        json_pack("{s:s, s:o}", "precision", o->precision, "test", scores_json(j, written)));
  log_event(j->log, "done", json_incref(result));
  if (o->out.json && !o->out.no_result) {
    stage_print_json(j->c, json_incref(result));
  } else if (comm_rank(j->c) == 0 && !o->out.no_result) {
    printf("%s: %lld epochs, loss %.4f, %.1f s, %.0f samples/s, %.1f %% of the time reading\n", o->output,
           (long long)o->epochs, trainer_result(j->t)->loss, j->train_s, rate, 100 * reading);
    print_temperatures(j);
    print_scores(j, o->test_split, j->scores);
    if (reduced) {
      char what[64];
      snprintf(what, sizeof what, "%s, %s", o->test_split, o->precision);
      print_scores(j, what, written);
    }
    fflush(stdout);
  }
  json_decref(result);
done:
  return st;
}

/* Teachers that are asked, in place of soft-label files. */
static status open_teachers(job *j) {
  status st = STATUS_OK;
  TRY(tutors_hash(j->c, j->o, &j->hashes));
  TRY(live_open(&j->teachers, j->c, j->o, j->d, &j->work, &j->s.k, j->link));
  TRY(comm_agree(j->c, tasks_ask(&j->work, j->o, &j->s.k, j->teachers)));
done:
  return st;
}

static status check_confidence(const job *j) {
  bool taught[TASKS_MAX];
  for (int i = 0; i < j->work.n; i++) taught[i] = j->work.items[i].soft.n > 0;
  return tasks_check_confidence(&j->work, j->o->confidence, taught);
}

static status open_all(job *j) {
  status st = STATUS_OK;
  const mpistill_train_options *o = j->o;
  const split *sp;
  TRY(dataset_open(&j->d, j->c, o->dataset));
  TRY(dataset_split(j->d, o->split, &sp));
  if (!o->out.no_result) TRY(stage_test_split(j->d, o->test_split, &j->test));
  TRY(tasks_open(&j->work, j->c, o, j->d, sp));
  j->student.heads = j->work.heads;
  j->student.n_heads = j->work.n;
  TRY(subject_open(&j->s, j->c, &j->student, j->d, o->split, o->input));
  TRY(subject_check_student(&j->s, j->c, j->d));
  stage_tell_mode(comm_rank(j->c) == 0 && !o->out.no_result, j->s.m, true);
  TRY(comm_agree(j->c, freeze_find(&j->frozen, j->s.k.g, &o->freeze, j->student.path)));
  j->s.k.frozen = j->frozen;
  TRY(reduced_check(j->c, &j->s, o));
  if (o->prior_split) {
    TRY(dataset_split(j->d, o->prior_split, &j->unbiased));
    TRY(prior_check(&j->s.k, j->d, j->unbiased, &o->priors));
  }
  if (j->link) TRY(open_teachers(j));
  TRY(check_confidence(j));
  TRY(features_open(&j->inner, j->c, o, &j->work, j->d, j->s.sp, &j->s.k, j->teachers));
  TRY(comm_agree(j->c, tasks_tap(&j->work, &j->s.k, o->method_tensor)));
  TRY(comm_agree(j->c, views_open(&j->views, o, &j->s.k, &j->work, &j->inner, j->s.sp->n)));
  TRY(adaptive_open(&j->fit, j->c, o, j->d, &j->s.k, &j->work));
done:
  return st;
}

/* A folder of checkpoints that the user has named may be another run's. */
status stage_train(comm *c, const mpistill_train_options *o) {
  status st = STATUS_OK;
  lock *lock = NULL;
  bool first = comm_rank(c) == 0;
  if (o->checkpoint) {
    TRY(comm_agree(c, first ? file_make_folder(o->checkpoint) : STATUS_OK));
    TRY(stage_lock(c, &lock, o->checkpoint, &o->out));
  }
  TRY(train_student(c, o, &(model_source){.path = o->model}));
done:
  lock_release(&lock);
  if (o->checkpoint && first) rmdir(o->checkpoint); /* if nothing is in it */
  return st;
}

/* The student of full precision, which is written beside the other, is none of what is read. */
static status refuse_full(job *j) {
  status st = comm_agree(j->c, reduced_full_path(&j->full, j->o->output));
  return st ? st : stage_refuse_input(j->c, j->full, j->o->out.log, distill_option_rows, j->o, NULL);
}

/* link NULL: learns from files, or from labels alone. */
static status train(comm *c, const mpistill_train_options *options, const model_source *student,
                    const live_link *link) {
  status st = STATUS_OK;
  mpistill_train_options o = *options;
  job j = {.c = c, .o = &o, .student = *student, .link = link};
  mark found = MARK_FRESH;
  o.threads = stage_threads(options->threads);
  stage_listen(c, &o.out);
  TRY(stage_begin(c, &o.out));
  TRY(open_all(&j));
  TRY(comm_agree(c, collect_inputs(&j)));
  TRY(stage_refuse_input(c, o.output, o.out.log, distill_option_rows, &o, NULL));
  if (reduced_wanted(&o)) TRY(refuse_full(&j));
  TRY(stage_lock(c, &j.lock, o.output, &o.out));
  if (!o.out.no_result && !link) pulse_share(c, o.output);
  TRY(mark_check(c, o.output, j.full, j.inputs, o.out.force, &found));
  if (found == MARK_DONE && stage_keeps_done(&o.out)) {
    stage_tell_done(c, o.output, &o.out, "");
    TRY(drop_leftover(&j));
    goto done;
  }
  if (link) TRY(live_meet(link, STATUS_OK));
  for (int i = 0; i < j.work.n; i++) TRY(sources_check(&j.work.items[i].soft));
  TRY(features_check_files(&j.inner));
  TRY(trainer_new(&j.t, c, &o, &j.s.k, j.d, j.s.sp, &j.work, &j.inner, &j.views, j.teachers, &j.fit));
  TRY(comm_agree(c, log_open(&j.log, o.out.log, comm_rank(c) == 0)));
  log_start(&j);
  TRY(resume(&j));
  TRY(run_training(&j));
  j.s.k.n_inner = 0; /* no feature is looked at any more */
  TRY(correct_biases(&j));
  TRY(measure_student(&j));
  TRY(write_student(&j));
  TRY(report(&j));
  TRY(comm_agree(c, log_close(&j.log)));
done:
  log_end(&j.log, st);
  trainer_free(&j.t);
  live_close(&j.teachers);
  features_close(&j.inner);
  adaptive_close(&j.fit);
  tasks_close(&j.work);
  subject_close(&j.s);
  dataset_close(&j.d);
  json_decref(j.inputs);
  free(j.inputs_text);
  mem_free(j.folder);
  mem_free(j.hashes);
  mem_free(j.frozen);
  mem_free(j.reduced);
  mem_free(j.full);
  lock_release(&j.lock);
  return st;
}

status train_student(comm *c, const mpistill_train_options *o, const model_source *student) {
  return o->live_teachers.n ? live_train(c, o, student, train) : train(c, o, student, NULL);
}
