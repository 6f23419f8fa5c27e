/* aggregate: several teachers' soft labels into one file, and how good and how alike the teachers are. */
#include "stages/aggregate.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "learn/metrics.h"
#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/sources.h"
#include "stages/stages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct job {
  comm *c;
  const mpistill_aggregate_options *o;
  dataset *d; /* NULL: no labels */
  const split *sp;
  sources in;
  rows *labels;
  softlabels_header header;
  softlabels *out;
  json_t *inputs;
  run_log *log;
  lock *lock;
  int64_t n_blocks;
  metric_sums *sums;  /* [blocks, K + 1]: each teacher, then the ensemble */
  int64_t *agreement; /* [K + 1, K + 1] rows with the same first class */
  /* One block: */
  float *
      *logits;   /* [K + 1] of [block_rows, C]; the last: the combination at temperature 1, for the metrics */
  float *stored; /* [block_rows, C] the combination at the temperature of the file */
  float *raw;
  int32_t *y;
  int64_t *best; /* [K + 1, block_rows] */
} job;

/* About 1 MiB of floats a block, and blocks enough to share. */
static int64_t block_rows(int64_t classes) {
  int64_t n = 262144 / classes;
  return n < 16 ? 16 : (n > 1024 ? 1024 : n);
}

static status make_header(job *j) {
  status st = STATUS_OK;
  softlabels_header *h = &j->header;
  const softlabels_header *first = softlabels_get(j->in.files[0]);
  TRY(mem_string(&h->teacher, "ensemble"));
  TRY(mem_string(&h->model_hash, ""));
  TRY(mem_string(&h->dataset_hash, first->dataset_hash));
  TRY(mem_string(&h->split, first->split));
  TRY(mem_string(&h->method, j->in.rule->name));
  h->type = strcmp(j->o->dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32;
  h->rank = 2;
  h->dims[0] = j->in.rows;
  h->dims[1] = j->in.classes;
  h->block_rows = h->batch_rows = block_rows(j->in.classes);
  h->temperature = j->in.rule->linear ? 0 : j->o->temperature;
  TRY(mem_new(&h->teachers, (size_t)j->in.n, sizeof *h->teachers));
  TRY(mem_new(&h->weights, (size_t)j->in.n, sizeof *h->weights));
  for (; h->n_teachers < j->in.n; h->n_teachers++) {
    TRY(mem_string(&h->teachers[h->n_teachers], softlabels_get(j->in.files[h->n_teachers])->teacher));
    h->weights[h->n_teachers] = j->in.weights[h->n_teachers];
  }
  /* Without a dataset the classes are in the first file's order. */
  int named = j->d ? 0 : first->n_classes;
  TRY(mem_new(&h->classes, (size_t)named, sizeof *h->classes));
  for (; h->n_classes < named; h->n_classes++)
    TRY(mem_string(&h->classes[h->n_classes], first->classes[h->n_classes]));
done:
  return st;
}

static status collect_inputs(job *j) {
  status st = STATUS_OK;
  json_t *files = json_array(), *weights = json_array();
  for (int i = 0; i < j->in.n; i++) {
    char hash[HASH_TEXT_BYTES];
    TRY(stage_hash_file(j->c, j->o->inputs.items[i], hash));
    json_array_append_new(files, json_string(hash));
    json_array_append_new(weights, json_real(j->in.weights[i]));
  }
  j->inputs = json_pack("{s:s, s:O, s:s, s:O, s:f, s:s}", "command", "aggregate", "soft_labels", files,
                        "method", j->in.rule->name, "weights", weights, "temperature", j->header.temperature,
                        "dtype", j->o->dtype);
  if (!j->inputs) THROW(STATUS_FAILED, "out of memory: the inputs of %s could not be listed", j->o->output);
done:
  json_decref(files);
  json_decref(weights);
  return st;
}

static status make_buffers(job *j) {
  status st = STATUS_OK;
  size_t n = (size_t)(j->header.block_rows * j->in.classes), members = (size_t)j->in.n + 1;
  TRY(mem_new(&j->sums, (size_t)j->n_blocks * members, sizeof *j->sums));
  TRY(mem_new(&j->agreement, members * members, sizeof *j->agreement));
  TRY(mem_new(&j->logits, members, sizeof *j->logits));
  for (size_t i = 0; i < members; i++) TRY(mem_new(&j->logits[i], n, sizeof(float)));
  TRY(mem_new(&j->raw, n, sizeof *j->raw));
  TRY(mem_new(&j->stored, n, sizeof *j->stored));
  TRY(mem_new(&j->y, (size_t)j->header.block_rows, sizeof *j->y));
  TRY(mem_new(&j->best, members * (size_t)j->header.block_rows, sizeof *j->best));
done:
  return st;
}

static void measure_block(job *j, int64_t b, int64_t n) {
  int members = j->in.n + 1;
  for (int i = 0; i < members; i++) {
    metric_add(&j->sums[b * members + i], j->logits[i], j->y, n, j->in.classes);
    for (int64_t r = 0; r < n; r++)
      j->best[i * j->header.block_rows + r] = metric_argmax(j->logits[i] + r * j->in.classes, j->in.classes);
  }
  for (int i = 0; i < members; i++)
    for (int k = 0; k < members; k++)
      for (int64_t r = 0; r < n; r++)
        j->agreement[i * members + k] +=
            j->best[i * j->header.block_rows + r] == j->best[k * j->header.block_rows + r];
}

static status do_block(job *j, int64_t block) {
  status st = STATUS_OK;
  int64_t from = block * j->header.block_rows, n = j->in.rows - from;
  if (n > j->header.block_rows) n = j->header.block_rows;
  for (int i = 0; i < j->in.n; i++) TRY(sources_read(&j->in, i, from, n, j->raw, j->logits[i]));
  combine_batch b = {.n_teachers = j->in.n,
                     .rows = n,
                     .classes = j->in.classes,
                     .logits = (const float *const *)j->logits,
                     .weights = j->in.weights,
                     .temperature = 1};
  j->in.rule->rows(&b, j->logits[j->in.n]);
  TRY(labels_read(j->labels, from, n, j->in.classes, j->d, j->sp, j->y));
  measure_block(j, block, n);
  if (!j->out) goto done;
  b.temperature = j->o->temperature;
  if (j->in.rule->linear || b.temperature == 1)
    memcpy(j->stored, j->logits[j->in.n], (size_t)(n * j->in.classes) * sizeof(float));
  else
    j->in.rule->rows(&b, j->stored);
  TRY(softlabels_write(j->out, block, j->stored));
done:
  return st;
}

static int64_t rows_before(const job *j, int64_t block) {
  int64_t row = block * j->header.block_rows;
  return row < j->in.rows ? row : j->in.rows;
}

static status do_mine(job *j) {
  status st = STATUS_OK;
  progress bar = {0};
  int rank = comm_rank(j->c), size = comm_size(j->c);
  int64_t from = j->n_blocks * rank / size, to = j->n_blocks * (rank + 1) / size,
          first = rows_before(j, from);
  progress_start(&bar, "aggregate", "rows", (double)(rows_before(j, to) - first),
                 rank == 0 && !j->o->out.quiet);
  for (int64_t b = from; b < to; b++) {
    TRY(do_block(j, b));
    progress_update(&bar, (double)(rows_before(j, b + 1) - first));
  }
done:
  progress_end(&bar);
  return st;
}

static status combine_sums(job *j) {
  status st = STATUS_OK;
  size_t members = (size_t)j->in.n + 1;
  TRY(comm_combine(j->c, (double *)j->sums,
                   (size_t)j->n_blocks * members * (sizeof *j->sums / sizeof(double))));
  TRY(comm_combine_counts(j->c, j->agreement, members * members));
  for (int64_t b = 1; b < j->n_blocks; b++)
    for (size_t i = 0; i < members; i++) metric_merge(&j->sums[i], &j->sums[(size_t)b * members + i]);
done:
  return st;
}

static double agreement(const job *j, int i, int k) {
  return (double)j->agreement[i * (j->in.n + 1) + k] / (double)j->in.rows;
}

static json_t *report_json(const job *j) {
  json_t *teachers = json_array(), *matrix = json_array();
  for (int i = 0; i <= j->in.n; i++) {
    json_t *row = json_array();
    for (int k = 0; k <= j->in.n; k++) json_array_append_new(row, json_number(agreement(j, i, k)));
    json_array_append_new(matrix, row);
    if (i == j->in.n) break;
    json_t *t = metrics_json(&j->sums[i]);
    json_object_set_new(t, "name", json_string(j->header.teachers[i]));
    json_object_set_new(t, "weight", json_real(j->in.weights[i]));
    json_array_append_new(teachers, t);
  }
  return json_pack("{s:s?, s:s, s:f, s:I, s:I, s:o, s:o, s:o}", "output", j->o->output, "method",
                   j->in.rule->name, "temperature", j->header.temperature, "rows", (json_int_t)j->in.rows,
                   "classes", (json_int_t)j->in.classes, "teachers", teachers, "ensemble",
                   metrics_json(&j->sums[j->in.n]), "agreement", matrix);
}

static void print_member(const job *j, int i) {
  const char *name = i < j->in.n ? j->header.teachers[i] : "ensemble";
  printf("%-20.20s", name);
  if (i < j->in.n)
    printf("  %6.4f", j->in.weights[i]);
  else
    printf("  %6s", "");
  if (j->labels) printf("  %8.4f  %8.4f", metric_accuracy(&j->sums[i]), metric_nll(&j->sums[i]));
  for (int k = 0; k <= j->in.n; k++) printf("  %6.4f", agreement(j, i, k));
  putchar('\n');
}

static void warn_bad_teachers(const job *j) {
  double prior = log((double)j->in.classes);
  for (int i = 0; j->labels && i < j->in.n; i++)
    if (metric_nll(&j->sums[i]) > 1.001 * prior)
      say_warning(true,
                  "teacher '%s' is worse than guessing on the labelled rows (NLL %.3f, an even guess has "
                  "%.3f); leave it out or "
                  "give it a small weight",
                  j->header.teachers[i], metric_nll(&j->sums[i]), prior);
}

static void report(const job *j) {
  if (comm_rank(j->c) != 0) return;
  warn_bad_teachers(j);
  if (j->o->out.no_result) return;
  if (j->o->out.json) {
    stage_print_json(j->c, report_json(j));
    return;
  }
  printf("%-20s  weight%s  agreement with", "teacher", j->labels ? "  accuracy       nll" : "");
  for (int i = 0; i < j->in.n; i++) printf(" %s,", j->header.teachers[i]);
  printf(" ensemble\n");
  for (int i = 0; i <= j->in.n; i++) print_member(j, i);
  fflush(stdout);
}

static status write_and_measure(job *j) {
  status st = STATUS_OK, mine;
  TRY(comm_agree(j->c, make_buffers(j)));
  if (j->o->output) TRY(softlabels_create(&j->out, j->c, j->o->output, &j->header, false));
  mine = comm_agree(j->c, do_mine(j));
  st = j->out ? softlabels_complete(j->out, mine) : mine;
  if (st) softlabels_discard(&j->out); /* the next call begins anew */
  TRY(st);
  TRY(combine_sums(j));
done:
  return st;
}

static void free_all(job *j) {
  softlabels_close(&j->out);
  rows_close(&j->labels);
  for (int i = 0; j->logits && i <= j->in.n; i++) mem_free(j->logits[i]);
  sources_close(&j->in);
  dataset_close(&j->d);
  softlabels_header_clear(&j->header);
  mem_free(j->sums);
  mem_free(j->agreement);
  mem_free(j->logits);
  mem_free(j->raw);
  mem_free(j->stored);
  mem_free(j->y);
  mem_free(j->best);
  json_decref(j->inputs);
  log_close(&j->log);
  lock_release(&j->lock);
}

static status open_all(job *j) {
  status st = STATUS_OK;
  const mpistill_aggregate_options *o = j->o;
  if (o->dataset) TRY(dataset_open(&j->d, j->c, o->dataset));
  TRY(sources_open(&j->in, j->c, &o->inputs, o->method, &o->weights, j->d, NULL, o->trust_rows));
  if (!j->in.rule->linear) TRY(sources_check_temperature(&j->in, o->temperature));
  TRY(comm_agree(j->c, make_header(j)));
  j->n_blocks = (j->in.rows + j->header.block_rows - 1) / j->header.block_rows;
  if (j->d) {
    TRY(dataset_split(j->d, softlabels_get(j->in.files[0])->split, &j->sp));
    TRY(labels_open(&j->labels, j->d, j->sp));
  }
done:
  return st;
}

status aggregate_measure(comm *c, const mpistill_aggregate_options *o, metric_sums *members) {
  status st = STATUS_OK;
  mpistill_aggregate_options measured = *o;
  job j = {.c = c, .o = &measured};
  measured.output = NULL;
  TRY(open_all(&j));
  TRY(write_and_measure(&j));
  memcpy(members, j.sums, (size_t)(j.in.n + 1) * sizeof *members);
done:
  free_all(&j);
  return st;
}

status stage_aggregate(comm *c, const mpistill_aggregate_options *o) {
  status st = STATUS_OK;
  job j = {.c = c, .o = o};
  mark found;
  TRY(open_all(&j));
  TRY(collect_inputs(&j));
  TRY(stage_lock(c, &j.lock, o->output, &o->out));
  TRY(mark_check(c, o->output, j.inputs, o->out.force, &found));
  if (found == MARK_DONE && !o->out.force) {
    say(comm_rank(c) == 0 && !o->out.quiet, "%s: already done from the same inputs", o->output);
    goto done;
  }
  TRY(comm_agree(c, log_open(&j.log, o->out.log, comm_rank(c) == 0)));
  TRY(write_and_measure(&j));
  TRY(comm_agree(c, comm_rank(c) == 0 ? mark_commit(o->output, j.inputs) : STATUS_OK));
  report(&j);
  log_event(j.log, "aggregate", report_json(&j));
  TRY(comm_agree(c, log_close(&j.log)));
done:
  free_all(&j);
  return st;
}
