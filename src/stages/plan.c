#include "base/log.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/progress.h"
#include "learn/combine.h"
#include "learn/metrics.h"
#include "learn/optimizer.h"
#include "stages/plan_job.h"
#include "stages/recipe.h"
#include "stages/run_job.h"
#include "stages/run_taps.h"
#include "stages/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Measured with Open MPI 4.1: how long starting takes. */
static const double START_S = 1.0, STAGE_S = 0.05;
static const double LATENCY_ROWS = 106, LATENCY_S = 2; /* evaluate_latency */
enum { AGGREGATE_ROWS = 256, MOST_RANKS = 1 << 16 };

static const char *const stage_names[] = {"teach", "aggregate", "baseline", "distill", "evaluate"};

typedef struct times {
  double seconds[PLAN_STAGES], total;
  const char *bound[PLAN_STAGES];
  cost_step step;
} times;

/* ---- measuring ---- */

/* The inner tensors that losses read: forward passes keep them. */
static status tap_teacher(const plan_job *j, const mpistill_teacher *t, classifier *k, int64_t *values) {
  status st = STATUS_OK;
  mpistill_strings taps = {0};
  *values = 0;
  TRY(run_taps(&j->r, t, &taps));
  for (size_t i = 0; i < taps.n; i++) {
    int place;
    shape s;
    int64_t n = 1;
    TRY(classifier_tap(k, taps.items[i], &place, &s));
    for (int d = 1; d < s.rank; d++) n *= s.dims[d];
    *values += n;
  }
done:
  strings_free(&taps);
  return st;
}

/* What a model that was opened takes: of each rank, and of a node. */
static void measure_opened(const subject *s, double before, double *rank, double *node) {
  *node = s->window ? (double)s->k.g->n_block * sizeof(float) : 0;
  *rank = fmax(0, measure_own_memory() - before - *node);
}

static status measure_teacher(plan_job *j, const mpistill_teacher *t) {
  status st = STATUS_OK;
  subject s = {0};
  planned_teacher *x = &j->teachers[j->n];
  double before = measure_own_memory();
  const mpistill_teacher whole = tasks_teacher(&j->work, t);
  const head_options head = teacher_head(&whole);
  const model_source from = {
      .path = t->model, .pre = teach_preprocess(&j->r.teach, t), .heads = &head, .n_heads = 1};
  TRY(subject_open(&s, j->c, &from, j->d, j->r.teach.split, t->input));
  *x = (planned_teacher){.t = t,
                         .input = s.input,
                         .values = head_row_values(&s.k.heads[0]),
                         .weight_bytes = (double)s.k.g->n_block * sizeof(float),
                         .work = (double)s.k.work};
  measure_opened(&s, before, &x->held_bytes, &x->once_bytes);
  TRY(tap_teacher(j, t, &s.k, &x->tap_values));
  TRY(measure_forward(&s, j->d, predict_batch_rows(&s.k), &x->m));
  j->n++;
done:
  subject_close(&s);
  return st;
}

static int64_t batch_rows(const plan_job *j) {
  return j->r.distill.batch < j->train->n ? j->r.distill.batch : j->train->n;
}

static status measure_learner(plan_job *j, const chain_step *k, planned_student *x) {
  status st = STATUS_OK;
  subject s = {0};
  const mpistill_train_options *o = &j->r.distill;
  double before = measure_own_memory();
  model_source from = k->source;
  from.heads = j->work.heads;
  from.n_heads = j->work.n;
  TRY(subject_open(&s, j->c, &from, j->d, o->split, o->input));
  measure_opened(&s, before, &x->held_bytes, &x->once_bytes);
  x->work = (double)s.k.work;
  x->bytes = model_bytes(s.m);
  j->input = s.input;
  j->values = 0;
  for (int i = 0; i < s.k.n_heads; i++) j->values += j->task_values[i] = head_row_values(&s.k.heads[i]);
  int64_t shards = o->shards ? o->shards : trainer_default_shards(o->batch);
  TRY(measure_forward(&s, j->d, predict_batch_rows(&s.k), &x->forward));
  TRY(measure_training(&s, j->d, (batch_rows(j) + shards - 1) / shards, &x->shard));
  TRY(measure_memory(&s, j->d, &o->optimizer, &x->memory));
  x->training = (cost_training){.shards = shards,
                                .dtype = trainer_reduce_dtype(o),
                                .steps = k->epochs * ((j->train->n + o->batch - 1) / o->batch),
                                .n_floats = s.k.g->n_block,
                                .n_states = optimizer_find(o->optimizer.kind)->n_states,
                                .shard_s = x->shard.batch_s,
                                .worker_bytes = x->shard.worker_bytes,
                                .late_copies = x->shard.late_copies,
                                .sum_s = x->memory.sum_s,
                                .update_s = x->memory.update_s};
done:
  subject_close(&s);
  return st;
}

/* All generations of the student are alike. */
static status measure_learners(plan_job *j) {
  status st = STATUS_OK;
  TRY(chain_make(&j->students, &j->r, &j->work));
  TRY(mem_new(&j->learners, (size_t)j->students.n, sizeof *j->learners));
  for (int i = 0; i < j->students.n; i++)
    if (i > (int)j->r.assistants.n)
      j->learners[i] = j->learners[i - 1];
    else
      TRY(measure_learner(j, &j->students.steps[i], &j->learners[i]));
done:
  return st;
}

static const planned_student *student(const plan_job *j) {
  return &j->learners[j->students.n - 1];
}

bool plan_aggregates(const plan_job *j) {
  const combine_kind *rule = j->r.aggregate.method ? combine_find(j->r.aggregate.method) : NULL;
  return j->r.teachers.n > 0 && !j->r.live && !j->r.distill.adaptive_split && !(rule && rule->in_training);
}

/* Once for each view. */
double plan_stored_rows(const plan_job *j) {
  if (j->r.live) return 0;
  return (double)j->train->n * (j->r.teach.views > 0 ? (double)j->r.teach.views : 1);
}

/* The rule on made-up logits, and the metrics of each teacher. */
static status measure_aggregate(plan_job *j) {
  status st = STATUS_OK;
  size_t k = j->r.teachers.n, n = (size_t)(AGGREGATE_ROWS * j->values);
  float *data = NULL;
  const float **logits = NULL;
  int32_t *labels = NULL;
  int64_t *ids = NULL;
  double *weights = NULL;
  metric_sums sums = {0};
  TRY(mem_new(&data, 2, n * sizeof *data));
  TRY(mem_new(&logits, k, sizeof *logits));
  TRY(mem_new(&weights, k, sizeof *weights));
  TRY(mem_new(&labels, AGGREGATE_ROWS, sizeof *labels));
  TRY(mem_new(&ids, AGGREGATE_ROWS, sizeof *ids));
  for (size_t i = 0; i < n; i++) data[i] = (float)(i % 17) - 8;
  for (size_t i = 0; i < k; i++) {
    logits[i] = data;
    weights[i] = 1 / (double)k;
  }
  combine_batch b = {.n_teachers = (int)k, .rows = AGGREGATE_ROWS, .classes = j->values, .logits = logits};
  b.weights = weights;
  b.temperature = j->r.aggregate.temperature > 0 ? j->r.aggregate.temperature : 1;
  b.labels = labels;
  b.ids = ids;
  b.options = &j->r.aggregate;
  double at = clock_seconds();
  for (int i = 0; i < 2; i++)
    TRY(combine_rows(combine_find(j->r.aggregate.method ? j->r.aggregate.method : "probability-mean"), &b,
                     data + n));
  for (size_t i = 0; i <= k; i++) metric_add(&sums, data, labels, AGGREGATE_ROWS, j->values);
  j->row_s = (clock_seconds() - at) / AGGREGATE_ROWS;
done:
  mem_free(data);
  mem_free(logits);
  mem_free(weights);
  mem_free(labels);
  mem_free(ids);
  return st;
}

static status measure_all(plan_job *j) {
  status st = STATUS_OK;
  const mpistill_recipe *r = &j->r;
  TRY(dataset_open(&j->d, j->c, r->dataset));
  TRY(dataset_split(j->d, r->distill.split, &j->train));
  TRY(tasks_describe(&j->work, &r->distill.tasks, &r->distill.losses, j->d));
  if (!j->train->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", r->dataset, r->distill.split);
  TRY(stage_test_split(j->d, r->distill.test_split, &j->test));
  if (r->fit_split) TRY(dataset_split(j->d, r->fit_split, &j->fit));
  if (r->distill.adaptive_split) TRY(dataset_split(j->d, r->distill.adaptive_split, &j->adaptive));
  TRY(mem_new(&j->teachers, r->teachers.n, sizeof *j->teachers));
  TRY(measure_learners(j));
  for (size_t i = 0; i < r->teachers.n; i++)
    if (r->teachers.items[i].model) TRY(measure_teacher(j, &r->teachers.items[i]));
  if (plan_aggregates(j)) TRY(measure_aggregate(j));
done:
  return st;
}

/* What run refuses is not planned. Called when all is measured: memory that was given back is taken again
 * without being seen. */
static status check(const plan_job *j) {
  status st = STATUS_OK;
  const mpistill_run_options o = {.recipe = j->o->recipe, .out = {.quiet = true}};
  run_job as = {.c = j->c, .o = &o, .r = j->r};
  TRY(run_check_all(&as));
  TRY(run_check_ranks(&as, (int)j->o->ranks));
done:
  run_close(&as);
  return st;
}

/* ---- time ---- */

static double test_rows(const plan_job *j) {
  return j->test ? (double)j->test->n : 0;
}

/* Rows that teachers label in a stage of their own. */
static double taught_rows(const plan_job *j) {
  return plan_stored_rows(j) + test_rows(j) + (j->fit ? (double)j->fit->n : 0) +
         (j->adaptive ? (double)j->adaptive->n : 0);
}

/* Distinct arrays that the teachers read. */
static double teach_values(const plan_job *j) {
  double values = 0;
  for (int i = 0; i < j->n; i++) {
    bool seen = false;
    for (int k = 0; k < i; k++) seen = seen || j->teachers[k].input == j->teachers[i].input;
    if (!seen) values += (double)j->teachers[i].input->row_values;
  }
  return values;
}

/* Forward passes of all teachers, or of those whose inner tensors are read. */
static double forward_seconds(const plan_job *j, bool inner, double rows, int64_t ranks, int64_t threads) {
  double work = 0, batches = 0;
  for (int i = 0; i < j->n; i++) {
    if (inner && !j->teachers[i].tap_values) continue;
    batches += rows / (double)j->teachers[i].m.rows;
    work += rows / (double)j->teachers[i].m.rows * j->teachers[i].m.batch_s;
  }
  return batches > 0 ? cost_of_items(batches, work / batches, ranks, threads) : 0;
}

static void time_teach(const plan_job *j, const cluster *k, times *t) {
  const double rows = taught_rows(j), work = forward_seconds(j, false, rows, k->ranks, k->threads),
               read = teach_values(j) * rows * student(j)->memory.read_s;
  t->seconds[PLAN_TEACH] = work > 0 ? work + read + STAGE_S : 0;
  t->bound[PLAN_TEACH] = read > work ? "disk" : "compute";
}

/* Forward passes of a student that teaches the next one. */
static double lesson_seconds(const plan_job *j, int i, double rows, int64_t ranks, int64_t threads) {
  const measured *m = &j->learners[i].forward;
  return j->students.steps[i].n_lessons * cost_of_items(rows / (double)m->rows, m->batch_s, ranks, threads);
}

/* One training, and the pass over the rows for the next one. */
static status time_learner(const plan_job *j, int i, const cluster *k, cost_step *one, double *seconds,
                           const char **bound) {
  status st = STATUS_OK;
  const planned_student *x = &j->learners[i];
  const chain_step *step = &j->students.steps[i];
  double n = (double)j->train->n, epochs = (double)step->epochs,
         read = (double)j->input->row_values * n * x->memory.read_s;
  TRY(cost_of_step(&x->training, k, one));
  /* The last batch of an epoch may be smaller; sums and messages are not. */
  double compute = epochs * n / (double)batch_rows(j) * one->compute_s;
  double sums = (double)x->training.steps * one->sums_s, network = (double)x->training.steps * one->network_s;
  *seconds = compute + sums + network + read + STAGE_S;
  if (step->n_lessons && !j->r.live)
    *seconds += lesson_seconds(j, i, n, k->ranks, k->threads) + read + STAGE_S;
  *bound = "compute";
  if (sums > compute) *bound = "memory";
  if (network > compute && network > sums) *bound = "network";
  if (read > compute && read > sums && read > network) *bound = "disk";
done:
  return st;
}

/* A student of the chain, from live teachers or the one before it: some ranks label while the others learn,
 * or each does both. */
static status time_live(const plan_job *j, int i, const cluster *k, times *t, double *seconds) {
  status st = STATUS_OK;
  const int teaching = plan_teaching_ranks(j, i, k->ranks);
  const int64_t asked = teaching ? teaching : k->ranks;
  const double rows = (double)j->train->n * (double)j->students.steps[i].epochs;
  const double labels = i ? lesson_seconds(j, i - 1, rows, asked, k->threads)
                          : forward_seconds(j, false, rows, asked, k->threads);
  cluster learn = *k;
  learn.ranks -= teaching;
  TRY(time_learner(j, i, &learn, &t->step, seconds, &t->bound[PLAN_DISTILL]));
  /* Where ranks ask the first teachers themselves, labels and inner tensors come from one pass. */
  if (plan_asks_inner(j, i) && (teaching || i))
    *seconds += forward_seconds(j, true, rows, learn.ranks, k->threads);
  *seconds = teaching ? fmax(*seconds, labels) : *seconds + labels;
done:
  return st;
}

static status time_students(const plan_job *j, const cluster *k, times *t) {
  status st = STATUS_OK;
  double seconds = 0;
  for (int i = 0; i < j->students.n; i++) {
    if (j->r.live)
      TRY(time_live(j, i, k, t, &seconds));
    else
      TRY(time_learner(j, i, k, &t->step, &seconds, &t->bound[PLAN_DISTILL]));
    t->seconds[PLAN_DISTILL] += seconds;
  }
  if (j->r.baseline) {
    cost_step ignored;
    TRY(time_learner(j, j->students.n - 1, k, &ignored, &seconds, &t->bound[PLAN_BASELINE]));
    t->seconds[PLAN_BASELINE] = seconds;
  }
done:
  return st;
}

static double latency(double row_s) {
  return row_s * LATENCY_ROWS < LATENCY_S ? row_s * LATENCY_ROWS : LATENCY_S;
}

static status time_all(const plan_job *j, const cluster *k, times *t) {
  status st = STATUS_OK;
  *t = (times){.total = START_S};
  time_teach(j, k, t);
  if (plan_aggregates(j)) {
    double rows = plan_stored_rows(j) / (double)k->ranks;
    t->seconds[PLAN_AGGREGATE] = rows * j->row_s + STAGE_S;
  }
  t->bound[PLAN_AGGREGATE] = t->bound[PLAN_EVALUATE] = "compute";
  TRY(time_students(j, k, t));
  double rows = j->test ? test_rows(j) : (double)j->train->n;
  for (int i = 0; i < j->students.n; i++) {
    const measured *m = &j->learners[i].forward;
    const double models = 1 + (j->r.baseline && i == j->students.n - 1);
    t->seconds[PLAN_EVALUATE] +=
        models *
        (cost_of_items(rows / (double)m->rows, m->batch_s, k->ranks, k->threads) + latency(m->row_s));
  }
  for (int i = 0; i < j->n; i++) t->seconds[PLAN_EVALUATE] += latency(j->teachers[i].m.row_s);
  for (int i = 0; i < PLAN_STAGES; i++) t->total += t->seconds[i];
done:
  return st;
}

/* The least number of ranks that twice as many would not make a tenth faster. */
static status enough_ranks(const plan_job *j, int64_t *out) {
  status st = STATUS_OK;
  cluster k = j->k;
  times now, twice;
  for (k.ranks = 1; k.ranks < MOST_RANKS; k.ranks *= 2) {
    cluster more = k;
    more.ranks *= 2;
    TRY(time_all(j, &k, &now));
    TRY(time_all(j, &more, &twice));
    if (twice.total > 0.9 * now.total) break;
  }
  *out = k.ranks;
done:
  return st;
}

/* ---- all of it ---- */

static json_t *stages_json(const times *t) {
  json_t *list = json_array();
  for (int i = 0; i < PLAN_STAGES; i++)
    if (t->seconds[i] > 0)
      json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "stage", stage_names[i], "seconds",
                                            json_number(t->seconds[i]), "bound", t->bound[i]));
  return list;
}

static json_t *step_json(const plan_job *j, const cost_step *s) {
  return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:I}", "steps", (json_int_t)student(j)->training.steps,
                   "seconds", json_number(cost_step_seconds(s)), "compute", json_number(s->compute_s), "sums",
                   json_number(s->sums_s), "network", json_number(s->network_s), "messages",
                   (json_int_t)s->messages, "bytes", (json_int_t)llround(s->bytes));
}

static json_t *counts_json(const plan_job *j) {
  json_t *list = json_array();
  for (int64_t r = 1; r * j->k.threads <= student(j)->training.shards; r++)
    if (student(j)->training.shards % (r * j->k.threads) == 0) json_array_append_new(list, json_integer(r));
  return list;
}

static void warn(json_t *list, char *text) {
  if (text) json_array_append_new(list, json_string(text));
  mem_free(text);
}

static json_t *warnings_json(const plan_job *j, const plan_space *s) {
  json_t *list = json_array();
  char *text = NULL;
  double room = j->o->memory_gib * 1024 * 1024 * 1024, fixed = s->shared_bytes + plan_node_bytes();
  if (j->k.ranks > student(j)->training.shards &&
      !mem_format(&text,
                  "%lld of %lld ranks have no shard to train; distill.shards %lld would use them (and change "
                  "the student)",
                  (long long)(j->k.ranks - student(j)->training.shards), (long long)j->k.ranks,
                  (long long)j->k.ranks))
    warn(list, text);
  if (room > 0 && s->node_bytes > room &&
      !mem_format(&text, "a node has %.3g GiB, and %.3g are needed; at most %.0f ranks fit on one",
                  j->o->memory_gib, s->node_bytes / room * j->o->memory_gib,
                  room > fixed ? floor((room - fixed) / s->rank_bytes) : 0))
    warn(list, text);
  double data = (double)(j->train->n * j->input->row_values) * (double)element_bytes(j->input->type);
  if (room > 0 && data > room / 2 &&
      !mem_format(&text, "the dataset (%.3g GiB) takes more than half of a node: it is read row by row",
                  data / room * j->o->memory_gib))
    warn(list, text);
  if (j->r.distill.features.n &&
      !mem_format(&text, "the time of losses between inner tensors (features) is not counted"))
    warn(list, text);
  if (j->r.fit_split &&
      !mem_format(&text, "the time to find the aggregate's weights on '%s' is not counted", j->r.fit_split))
    warn(list, text);
  return list;
}

static status describe(const plan_job *j, json_t *out) {
  status st = STATUS_OK;
  times t;
  plan_space s = {0};
  double disk = 0;
  int64_t enough;
  json_t *files = json_array();
  TRY(time_all(j, &j->k, &t));
  TRY(enough_ranks(j, &enough));
  TRY(plan_measure_space(j, &s));
  TRY(plan_list_files(j, files, &disk));
  json_t *all = json_pack(
      "{s:I, s:I, s:I, s:o, s:o, s:o, s:{s:I, s:s, s:I, s:I, s:s}, s:o, s:I, s:{s:I, s:o, s:o}, s:I}",
      "ranks", (json_int_t)j->k.ranks, "nodes", (json_int_t)cluster_nodes(&j->k), "threads",
      (json_int_t)j->k.threads, "seconds", json_number(t.total), "stages", stages_json(&t), "step",
      step_json(j, &t.step), "memory", "rank", (json_int_t)llround(s.rank_bytes), "rank_at",
      stage_names[s.rank_at], "node", (json_int_t)llround(s.node_bytes), "shared",
      (json_int_t)llround(s.shared_bytes), "node_at", stage_names[s.node_at], "files", json_incref(files),
      "disk", (json_int_t)llround(disk), "shards", "count", (json_int_t)student(j)->training.shards,
      "ranks_without_waste", counts_json(j), "efficiency",
      json_number(cost_efficiency(student(j)->training.shards, j->k.ranks, j->k.threads)), "enough_ranks",
      (json_int_t)enough);
  if (!all) THROW(STATUS_FAILED, "out of memory: the plan could not be written");
  json_object_set_new(out, "recipe", json_string(j->o->recipe));
  json_object_update(out, all);
  json_object_set_new(out, "link_gbits", j->o->link_gbits > 0 ? json_real(j->o->link_gbits) : json_null());
  json_object_set_new(out, "warnings", warnings_json(j, &s));
  json_decref(all);
done:
  json_decref(files);
  return st;
}

status stage_plan(comm *c, const plan_request *o) {
  json_t *all = NULL;
  status st = forecast_make(&all, c, o);
  if (st) return st;
  if (o->json) {
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    putchar('\n');
  } else if (o->slurm) {
    forecast_print_sbatch(all, o);
  } else {
    forecast_print(all);
  }
  json_decref(all);
  return STATUS_OK;
}

status forecast_make(json_t **out, comm *c, const plan_request *o) {
  status st = STATUS_OK;
  plan_job j = {.c = c, .o = o};
  *out = json_object();
  TRY(stage_begin(c, NULL));
  TRY(recipe_read(c, o->recipe, &o->set, &j.r));
  j.k = (cluster){.ranks = o->ranks,
                  .ranks_per_node = o->ranks_per_node ? o->ranks_per_node : o->ranks,
                  .threads = stage_threads(j.r.threads),
                  .link_bytes_per_s = o->link_gbits * 1e9 / 8};
  TRY(measure_all(&j));
  TRY(check(&j));
  TRY(describe(&j, *out));
done:
  mem_free(j.teachers);
  mem_free(j.learners);
  chain_free(&j.students);
  dataset_close(&j.d);
  recipe_free(&j.r);
  if (st) {
    json_decref(*out);
    *out = NULL;
  }
  return st;
}
