/* aggregate: several teachers' soft labels into one file, and how good and how alike the teachers are. */
#include "stages/aggregate.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "stages/common.h"
#include "stages/evaluate.h"
#include "stages/fit.h"
#include "stages/members.h"
#include "stages/options_rows.h"
#include "stages/sources.h"
#include "stages/stages.h"
#include "stages/view_labels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct job {
  comm *c;
  const mpistill_aggregate_options *o;
  dataset *d; /* NULL: no labels */
  const split *sp;
  sources in;
  view_labels labels;
  bool has_labels;
  double made_for;  /* the temperature, 0: any */
  fit found;        /* rows 0: nothing was looked for */
  int64_t answered; /* rows, where the rule counts them beforehand */
  softlabels_header header;
  softlabels *out;
  json_t *inputs;
  run_log *log;
  lock *lock;
  int64_t n_blocks;
  members members;
  /* One block: */
  float *
      *logits;   /* [K + 1] of [block_rows, C]; the last: the combination at temperature 1, for the metrics */
  float *stored; /* [block_rows, C] the combination at the temperature of the file */
  float *raw;
  int32_t *y;
  float *targets; /* of numbers, in place of y */
  int64_t *ids;   /* of each position the row */
} job;

/* About 1 MiB of floats a block, and blocks enough to share. */
static int64_t block_rows(const form *f) {
  const int64_t n = 262144 / (f->classes * f->positions), least = f->positions > 1 ? 1 : 16;
  return n < least ? least : (n > 1024 ? 1024 : n);
}

static status copy_reals(double **out, const double *values, int64_t n) {
  status st = values ? mem_new(out, (size_t)n, sizeof **out) : STATUS_OK;
  if (values && !st) memcpy(*out, values, (size_t)n * sizeof **out);
  return st;
}

/* What was found, and what it reveals. */
static status complete_header(job *j) {
  status st = STATUS_OK;
  softlabels_header *h = &j->header;
  const combine_kind *rule = j->in.rule;
  for (int i = 0; i < j->in.n; i++) h->weights[i] = j->in.weights[i];
  TRY(copy_reals(&h->calibration, j->in.calibration, j->in.n));
  TRY(copy_reals(&h->class_weights, j->in.class_weights, j->in.n * j->in.f.classes));
  if (!rule->epsilon) goto done;
  h->epsilon = rule->epsilon(j->o, (double)j->in.rows, (double)j->answered);
  h->delta = j->o->delta;
done:
  return st;
}

static status make_header(job *j) {
  status st = STATUS_OK;
  softlabels_header *h = &j->header;
  const softlabels_header *first = softlabels_get(j->in.files[0]);
  TRY(mem_string(&h->teacher, "ensemble"));
  TRY(mem_string(&h->model_hash, ""));
  TRY(mem_string(&h->dataset_hash, first->dataset_hash));
  TRY(mem_string(&h->reading, first->reading));
  TRY(mem_string(&h->split, first->split));
  TRY(mem_string(&h->method, j->in.rule->name));
  TRY(mem_string(&h->augment, first->augment));
  TRY(mem_string(&h->augment_seed, first->augment_seed));
  h->views = first->views;
  h->type = strcmp(j->o->dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32;
  h->rank = first->rank;
  memcpy(h->dims, first->dims, sizeof h->dims);
  h->dims[0] = j->in.rows;
  if (!j->in.f.values) h->dims[1] = j->in.f.classes;
  h->values = j->in.f.values;
  h->block_rows = h->batch_rows = block_rows(&j->in.f);
  h->temperature = j->made_for;
  h->floor = j->in.rule->floor;
  h->partial = j->in.rule->partial;
  h->mixed_processors = j->o->out.mixed_processors;
  for (int i = 0; i < j->in.n; i++) {
    const softlabels_header *its = softlabels_get(j->in.files[i]);
    h->partial = h->partial || its->partial;
    h->mixed_processors = h->mixed_processors || its->mixed_processors;
  }
  TRY(mem_new(&h->teachers, (size_t)j->in.n, sizeof *h->teachers));
  TRY(mem_new(&h->weights, (size_t)j->in.n, sizeof *h->weights));
  for (; h->n_teachers < j->in.n; h->n_teachers++) {
    TRY(mem_string(&h->teachers[h->n_teachers], softlabels_get(j->in.files[h->n_teachers])->teacher));
  }
  /* Without a dataset the classes are in the first file's order. */
  int named = j->d || j->in.rule->unites ? 0 : first->n_classes;
  TRY(mem_new(&h->classes, (size_t)named, sizeof *h->classes));
  for (; h->n_classes < named; h->n_classes++)
    TRY(mem_string(&h->classes[h->n_classes], first->classes[h->n_classes]));
done:
  return st;
}

static status hashes_json(job *j, const mpistill_strings *paths, json_t *out) {
  for (size_t i = 0; i < paths->n; i++) {
    char hash[HASH_TEXT_BYTES];
    status st = stage_hash_file(j->c, paths->items[i], hash);
    if (st) return st;
    json_array_append_new(out, json_string(hash));
  }
  return STATUS_OK;
}

/* Options beside the weights. The seed of PATE's noise stays out of the file beside the output: who knows it
 * can take the noise away. */
static status options_json(job *j, json_t *out) {
  status st = STATUS_OK;
  const mpistill_aggregate_options *o = j->o;
  const combine_kind *rule = j->in.rule;
  json_t *files = json_array();
  for (const option *row = aggregate_option_rows; row->flag || row->fields; row++) {
    const char *field = (const char *)o + row->at;
    if (!row->key || !combine_reads(rule, row->key)) continue;
    if (row->type == OPTION_FLAG) json_object_set_new(out, row->key, json_boolean(*(const bool *)field));
    if (row->type == OPTION_REAL) json_object_set_new(out, row->key, json_real(*(const double *)field));
  }
  if (o->labels) json_object_set_new(out, "labels", json_string(o->labels));
  if (!rule->epsilon) json_object_set_new(out, "seed", json_integer((json_int_t)o->seed));
  if (!fit_needed(o, rule)) goto done;
  TRY(hashes_json(j, &o->fit, files));
  json_object_set(out, "fit", files);
  if (!o->fit.n) json_object_set_new(out, "held_out", json_real(o->held_out));
done:
  json_decref(files);
  return st;
}

static status rows_json(job *j, const char *key, const split *s) {
  char hash[HASH_TEXT_BYTES];
  status st = dataset_hash(j->d, s, hash);
  if (!st) json_object_set_new(j->inputs, key, json_string(hash));
  return st;
}

/* Rows, labels and names of classes: with trust_rows the files do not say which stood beside them. */
static status dataset_json(job *j) {
  status st = STATUS_OK;
  char reading[HASH_TEXT_BYTES];
  const split *fitted;
  TRY(rows_json(j, "rows", j->sp));
  TRY(dataset_reading(j->d, j->sp, reading));
  if (*reading) json_object_set_new(j->inputs, "scale_offset_classes", json_string(reading));
  if (!j->o->fit.n || !fit_needed(j->o, j->in.rule)) goto done;
  TRY(fit_split(&j->in, j->c, j->o, j->d, &fitted));
  TRY(rows_json(j, "fit_rows", fitted));
done:
  return st;
}

static status collect_inputs(job *j) {
  status st = STATUS_OK;
  json_t *files = json_array(), *weights = json_array(), *options = json_object();
  TRY(hashes_json(j, &j->o->inputs, files));
  for (int i = 0; i < j->in.n; i++) json_array_append_new(weights, json_real(j->in.weights[i]));
  TRY(options_json(j, options));
  j->inputs = json_pack("{s:s, s:O, s:s, s:O, s:f, s:O, s:s}", "command", "aggregate", "soft_labels", files,
                        "method", j->in.rule->name, "weights", weights, "temperature", j->made_for, "options",
                        options, "dtype", j->o->dtype);
  if (!j->inputs) THROW(STATUS_FAILED, "out of memory: the inputs of %s could not be listed", j->o->output);
  if (j->d) TRY(dataset_json(j));
  stage_mark_mixed(j->inputs, &j->o->out);
done:
  json_decref(files);
  json_decref(weights);
  json_decref(options);
  return st;
}

static status make_buffers(job *j) {
  status st = STATUS_OK;
  const form *f = &j->in.f;
  size_t rows = (size_t)(j->header.block_rows * f->positions), n = rows * (size_t)f->classes,
         n_members = (size_t)j->in.n + 1;
  TRY(members_new(&j->members, &j->in, j->n_blocks, j->header.block_rows));
  TRY(mem_new(&j->logits, n_members, sizeof *j->logits));
  for (size_t i = 0; i < n_members; i++) TRY(mem_new(&j->logits[i], n, sizeof(float)));
  TRY(mem_new(&j->raw, n, sizeof *j->raw));
  TRY(mem_new(&j->stored, n, sizeof *j->stored));
  TRY(mem_new(&j->y, rows, sizeof *j->y));
  if (f->values) TRY(mem_new(&j->targets, rows, sizeof *j->targets));
  TRY(mem_new(&j->ids, rows, sizeof *j->ids));
done:
  return st;
}

static combine_batch batch_of(const job *j, int64_t rows, double temperature) {
  return (combine_batch){.n_teachers = j->in.n,
                         .rows = rows * j->in.f.positions,
                         .classes = j->in.f.classes,
                         .logits = (const float *const *)j->logits,
                         .known = (const unsigned char *const *)j->in.known,
                         .others = j->in.others,
                         .weights = j->in.weights,
                         .log_class_weights = j->in.log_class_weights,
                         .temperature = temperature,
                         .labels = j->y,
                         .ids = j->ids,
                         .seed = j->o->seed,
                         .options = j->o};
}

/* Teachers' logits and labels of a block, and the combination at temperature 1. */
static status combine_block(job *j, int64_t block, int64_t *n) {
  status st = STATUS_OK;
  int64_t from = block * j->header.block_rows;
  *n = j->in.rows - from < j->header.block_rows ? j->in.rows - from : j->header.block_rows;
  for (int i = 0; i < j->in.n; i++) TRY(sources_read(&j->in, i, from, *n, j->raw, j->logits[i]));
  const int64_t positions = j->in.f.positions;
  for (int64_t r = 0; r < *n * positions; r++) {
    j->ids[r] = from + r / positions;
    j->y[r] = -1;
    if (j->targets) j->targets[r] = NAN;
  }
  if (j->has_labels) TRY(view_labels_range(&j->labels, from, *n, j->y, j->targets));
  combine_batch b = batch_of(j, *n, 1);
  TRY(combine_rows(j->in.rule, &b, j->logits[j->in.n]));
done:
  return st;
}

static status do_block(job *j, int64_t block) {
  status st = STATUS_OK;
  int64_t n;
  TRY(combine_block(j, block, &n));
  members_add(&j->members, block, j->logits, j->y, j->targets, n * j->in.f.positions);
  if (!j->out) goto done;
  combine_batch b = batch_of(j, n, j->o->temperature);
  if (combine_any_temperature(j->in.rule, j->in.n) || b.temperature == 1)
    memcpy(j->stored, j->logits[j->in.n], (size_t)(b.rows * b.classes) * sizeof(float));
  else
    TRY(combine_rows(j->in.rule, &b, j->stored));
  if (j->in.f.positions > 1) head_classes_first(j->stored, n, b.classes, j->in.f.positions, j->raw);
  TRY(softlabels_write(j->out, block, j->in.f.positions > 1 ? j->raw : j->stored));
done:
  return st;
}

/* The blocks of this rank. */
static void my_blocks(const job *j, int64_t *from, int64_t *to) {
  int rank = comm_rank(j->c), size = comm_size(j->c);
  *from = j->n_blocks * rank / size;
  *to = j->n_blocks * (rank + 1) / size;
}

/* Rows that the rule answers: its promise depends on them and stands in front of the rows. */
static status count_answers(job *j) {
  status st = STATUS_OK;
  int64_t from, to, n;
  my_blocks(j, &from, &to);
  for (int64_t b = from; b < to; b++) {
    TRY(combine_block(j, b, &n));
    for (int64_t r = 0; r < n; r++) j->answered += !isnan(j->logits[j->in.n][r * j->in.f.classes]);
  }
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

static json_t *class_weights_json(const job *j, int i) {
  json_t *list = json_array();
  for (int64_t c = 0; c < j->in.f.classes; c++)
    json_array_append_new(list, json_real(j->in.class_weights[i * j->in.f.classes + c]));
  return list;
}

static json_t *report_json(const job *j) {
  json_t *teachers = json_array(), *matrix = json_array();
  for (int i = 0; i <= j->in.n; i++) {
    json_t *row = json_array();
    for (int k = 0; k <= j->in.n; k++)
      json_array_append_new(row, json_number(members_agreement(&j->members, i, k)));
    json_array_append_new(matrix, row);
    if (i == j->in.n) break;
    const score its = members_score(&j->members, i);
    json_t *t = score_json(&its);
    json_object_set_new(t, "name", json_string(j->header.teachers[i]));
    json_object_set_new(t, "weight", json_real(j->in.weights[i]));
    if (j->in.calibration) json_object_set_new(t, "calibration", json_real(j->in.calibration[i]));
    if (j->in.class_weights) json_object_set_new(t, "class_weights", class_weights_json(j, i));
    json_array_append_new(teachers, t);
  }
  const score all_of_them = members_score(&j->members, j->in.n);
  json_t *all = json_pack("{s:s?, s:s, s:f, s:I, s:I, s:o, s:o, s:o}", "output", j->o->output, "method",
                          j->in.rule->name, "temperature", j->header.temperature, "rows",
                          (json_int_t)j->in.rows, "classes", (json_int_t)j->in.f.classes, "teachers",
                          teachers, "ensemble", score_json(&all_of_them), "agreement", matrix);
  if (j->found.rows) json_object_set_new(all, "fit_rows", json_integer(j->found.rows));
  if (j->found.rows && j->in.rule->learned) json_object_set_new(all, "fit_nll", json_number(j->found.nll));
  if (j->in.rule->epsilon) {
    json_object_set_new(all, "answered", json_integer(j->answered));
    json_object_set_new(all, "epsilon", json_real(j->header.epsilon));
    json_object_set_new(all, "delta", json_real(j->header.delta));
  }
  return all;
}

static void print_member(const job *j, int i, FILE *out) {
  const char *name = i < j->in.n ? j->header.teachers[i] : "ensemble";
  const metric_sums *its = &j->members.sums[i];
  fprintf(out, "%-20.20s", name);
  if (i < j->in.n)
    fprintf(out, "  %6.4f", j->in.weights[i]);
  else
    fprintf(out, "  %6s", "");
  if (j->in.calibration && i < j->in.n) fprintf(out, "  %11.4f", j->in.calibration[i]);
  if (j->in.calibration && i == j->in.n) fprintf(out, "  %11s", "");
  if (j->has_labels && j->in.f.values)
    fprintf(out, "  %8.4g  %8.4f", metric_mse(its), metric_r2(its));
  else if (j->has_labels)
    fprintf(out, "  %8.4f  %8.4f  %8.4f", metric_accuracy(its), metric_nll(its), metric_ece(its));
  for (int k = 0; !j->in.f.values && k <= j->in.n; k++)
    fprintf(out, "  %6.4f", members_agreement(&j->members, i, k));
  fputc('\n', out);
}

static void print_found(const job *j, FILE *out) {
  if (j->found.rows)
    fprintf(out, "%s found from %lld labelled rows\n",
            j->in.rule->learned ? "weights and temperatures" : "temperatures", (long long)j->found.rows);
  for (int i = 0; j->in.class_weights && i < j->in.n; i++) {
    fprintf(out, "weights by class of %s:", j->header.teachers[i]);
    for (int64_t c = 0; c < j->in.f.classes; c++)
      fprintf(out, " %.4f", j->in.class_weights[i * j->in.f.classes + c]);
    fputc('\n', out);
  }
  if (j->in.rule->epsilon)
    fprintf(out, "%lld of %lld rows answered; epsilon %.4g at delta %g, whatever the teachers' data are\n",
            (long long)j->answered, (long long)j->in.rows, j->header.epsilon, j->header.delta);
}

static void print_members(const job *j, FILE *out) {
  const bool values = j->in.f.values;
  fprintf(out, "%-20s  weight%s%s", "teacher", j->in.calibration ? "  calibration" : "",
          !j->has_labels ? ""
          : values       ? "       mse        r2"
                         : "  accuracy       nll       ece");
  if (!values) fprintf(out, "  agreement with");
  for (int i = 0; !values && i < j->in.n; i++) fprintf(out, " %s,", j->header.teachers[i]);
  fputs(values ? "\n" : " ensemble\n", out);
  for (int i = 0; i <= j->in.n; i++) print_member(j, i, out);
  print_found(j, out);
  fflush(out);
}

/* In a run the table of its models is the result, and this one is how it goes. */
static void report(const job *j) {
  const mpistill_output_options *o = &j->o->out;
  if (comm_rank(j->c) != 0) return;
  members_warn(&j->members, j->header.teachers, j->d ? dataset_classes(j->d) : NULL);
  if (!o->no_result && o->json)
    stage_print_json(j->c, report_json(j));
  else if (!o->no_result || !o->quiet)
    print_members(j, o->no_result ? stderr : stdout);
}

static status write_and_measure(job *j) {
  status st = STATUS_OK, mine;
  TRY(comm_agree(j->c, make_buffers(j)));
  if (j->in.rule->epsilon) {
    TRY(comm_agree(j->c, count_answers(j)));
    TRY(comm_combine_counts(j->c, &j->answered, 1));
  }
  TRY(comm_agree(j->c, complete_header(j)));
  if (j->o->output) TRY(softlabels_create(&j->out, j->c, j->o->output, &j->header, false));
  mine = comm_agree(j->c, do_mine(j));
  st = j->out ? softlabels_complete(j->out, mine) : mine;
  if (st) softlabels_discard(&j->out); /* the next call begins anew */
  TRY(st);
  TRY(members_combine(&j->members, j->c));
done:
  return st;
}

static void free_all(job *j) {
  softlabels_close(&j->out);
  view_labels_close(&j->labels);
  for (int i = 0; j->logits && i <= j->in.n; i++) mem_free(j->logits[i]);
  members_free(&j->members);
  sources_close(&j->in);
  dataset_close(&j->d);
  softlabels_header_clear(&j->header);
  mem_free(j->logits);
  mem_free(j->raw);
  mem_free(j->stored);
  mem_free(j->y);
  mem_free(j->targets);
  mem_free(j->ids);
  json_decref(j->inputs);
  lock_release(&j->lock);
}

/* Of files that do not say which dataset they belong to, the one they are combined with. */
static status name_dataset(job *j) {
  status st = STATUS_OK;
  char hash[HASH_TEXT_BYTES];
  if (*j->header.dataset_hash) return st;
  TRY(dataset_hash(j->d, j->sp, hash));
  mem_free(j->header.dataset_hash);
  TRY(comm_agree(j->c, mem_string(&j->header.dataset_hash, hash)));
done:
  return st;
}

static status open_all(job *j) {
  status st = STATUS_OK;
  const mpistill_aggregate_options *o = j->o;
  if (o->dataset) TRY(dataset_open(&j->d, j->c, o->dataset));
  const sources_options from = {.paths = &o->inputs,
                                .weights = &o->weights,
                                .method = o->method,
                                .trust_rows = o->trust_rows,
                                .labels = o->labels};
  TRY(sources_open(&j->in, j->c, &from, j->d, NULL));
  if (fit_needed(o, j->in.rule) && j->in.f.values)
    THROW(STATUS_BAD_INPUT, "calibrate: is for logits; %s holds numbers", softlabels_path(j->in.files[0]));
  TRY(sources_temperature(&j->in, o->temperature, &j->made_for));
  TRY(comm_agree(j->c, make_header(j)));
  j->n_blocks = (j->in.rows + j->header.block_rows - 1) / j->header.block_rows;
  if (j->d) {
    TRY(dataset_split(j->d, softlabels_get(j->in.files[0])->split, &j->sp));
    TRY(name_dataset(j));
    const char *name = o->labels ? o->labels : j->in.f.values ? "target" : "label";
    const array *a = truth_array(j->sp, name);
    if (o->labels && !a)
      THROW(STATUS_BAD_INPUT, "%s: /%s has no array '%s' of labels or targets", o->dataset, j->sp->name,
            name);
    TRY(view_labels_open(&j->labels, j->c, j->d, j->sp, a, &j->in.f, j->in.files[0]));
    j->has_labels = a && !j->labels.lost;
  }
  if (j->in.rule->needs_labels && j->labels.lost)
    THROW(STATUS_BAD_INPUT,
          "%s: is of rows changed by '%s', %s, but method '%s' needs the label of each row; choose a method "
          "that needs none, or label the rows without that change",
          softlabels_path(j->in.files[0]), j->header.augment, j->labels.lost, j->in.rule->name);
  if (j->in.rule->needs_labels && !j->has_labels)
    THROW(STATUS_BAD_INPUT, "method '%s' needs labels, and the rows of %s have none", j->in.rule->name,
          softlabels_path(j->in.files[0]));
done:
  return st;
}

/* Calibration and weights of the ensemble, where its file is given: rows that it was not made from are to be
 * combined like those that it was. */
static status take_found(job *j, const char *ensemble) {
  status st = STATUS_OK;
  softlabels *s = NULL;
  TRY(softlabels_open(&s, j->c, ensemble));
  TRY(comm_agree(j->c, sources_take(&j->in, softlabels_get(s))));
done:
  softlabels_close(&s);
  return st;
}

status aggregate_measure(comm *c, const mpistill_aggregate_options *o, const char *ensemble, score *scores) {
  status st = STATUS_OK;
  mpistill_aggregate_options measured = *o;
  job j = {.c = c, .o = &measured};
  const combine_kind *rule = combine_find(o->method ? o->method : "probability-mean");
  bool repeatable = !rule->needs_labels && !rule->epsilon;
  measured.output = NULL;
  if (!repeatable) measured.method = (char *)(uintptr_t) "probability-mean";
  TRY(open_all(&j));
  if (ensemble && repeatable) TRY(take_found(&j, ensemble));
  TRY(write_and_measure(&j));
  for (int i = 0; i <= j.in.n; i++) scores[i] = members_score(&j.members, i);
  if (!repeatable) scores[j.in.n].sums = (metric_sums){0};
done:
  free_all(&j);
  return st;
}

status stage_aggregate(comm *c, const mpistill_aggregate_options *o) {
  status st = STATUS_OK;
  job j = {.c = c, .o = o};
  mark found;
  TRY(stage_begin(c, &o->out));
  TRY(open_all(&j));
  TRY(collect_inputs(&j));
  TRY(stage_refuse_input(c, o->output, o->out.log, aggregate_option_rows, o, &o->inputs));
  TRY(stage_lock(c, &j.lock, o->output, &o->out));
  if (!o->out.no_result) pulse_share(c, o->output);
  TRY(mark_check(c, o->output, NULL, j.inputs, o->out.force, &found));
  const bool secret = j.in.rule->epsilon; /* the seed, which no mark holds: --force draws again */
  if (found == MARK_DONE && stage_keeps_done(&o->out) && !(secret && o->out.force)) {
    stage_tell_done(c, o->output, &o->out,
                    secret ? ", whatever the seed; --force draws its noise again" : "");
    goto done;
  }
  TRY(sources_check(&j.in));
  TRY(comm_agree(c, log_open(&j.log, o->out.log, comm_rank(c) == 0)));
  if (fit_needed(o, j.in.rule)) TRY(fit_sources(&j.in, c, o, j.d, &j.found));
  TRY(write_and_measure(&j));
  TRY(comm_agree(c, comm_rank(c) == 0 ? mark_commit(o->output, NULL, j.inputs) : STATUS_OK));
  report(&j);
  log_event(j.log, "aggregate", report_json(&j));
  TRY(comm_agree(c, log_close(&j.log)));
done:
  log_end(&j.log, st);
  free_all(&j);
  return st;
}
