#include "stages/plan.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "learn/combine.h"
#include "learn/metrics.h"
#include "learn/optimizer.h"
#include "stages/common.h"
#include "stages/cost.h"
#include "stages/live.h"
#include "stages/measure.h"
#include "stages/recipe.h"
#include "stages/run_chain.h"
#include "stages/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Measured with Open MPI 4.1 and HDF5 1.10: what a rank holds before it does anything, what the ranks of a
 * node share of it, how long starting takes; and what an HDF5 file has beside its numbers. */
static const double RANK_BYTES = 10e6, NODE_BYTES = 19e6, START_S = 1.0, STAGE_S = 0.05, FILE_BYTES = 4.2e3;
static const double LATENCY_ROWS = 106, LATENCY_S = 2; /* evaluate_latency */
static const double LOG_BYTES = 1200, EPOCH_BYTES = 330;
enum { AGGREGATE_ROWS = 256, MOST_RANKS = 1 << 16 };

typedef struct teacher {
  const mpistill_teacher *t;
  measured m;
  const array *input;
  double held_bytes, work; /* work: multiply-adds of a row */
  int64_t values;          /* a row of its output */
} teacher;

typedef struct learner { /* a student of the chain */
  measured forward, shard;
  measured_memory memory;
  cost_training training;
  int64_t bytes;
  double held_bytes, work;
} learner;

typedef enum stage { TEACH, AGGREGATE, BASELINE, DISTILL, EVALUATE, N_STAGES } stage;
static const char *const stage_names[] = {"teach", "aggregate", "baseline", "distill", "evaluate"};

typedef struct times {
  double seconds[N_STAGES], total;
  const char *bound[N_STAGES];
  cost_step step;
} times;

typedef struct space {
  double rank_bytes, node_bytes, shared_bytes;
  stage rank_at, node_at; /* where most is needed */
} space;

typedef struct job {
  comm *c;
  const plan_request *o;
  mpistill_recipe r;
  dataset *d;
  const split *train, *test, *fit; /* test, fit: NULL without one */
  int n;
  teacher *teachers; /* those with a model */
  tasks work;
  chain students;
  learner *learners;  /* [students.n] */
  int64_t values;     /* a row of all outputs of the student */
  double row_s;       /* of aggregate, a thread */
  const array *input; /* of the students */
  cluster k;
} job;

/* ---- measuring ---- */

static const split *find_split(const dataset *d, const char *name) {
  for (int i = 0; name && i < dataset_n_splits(d); i++)
    if (!strcmp(dataset_split_at(d, i)->name, name)) return dataset_split_at(d, i);
  return NULL;
}

static status measure_teacher(job *j, const mpistill_teacher *t) {
  status st = STATUS_OK;
  subject s = {0};
  teacher *x = &j->teachers[j->n];
  double before = measure_resident();
  const mpistill_teacher whole = tasks_teacher(&j->work, t);
  const head_options head = teacher_head(&whole);
  const model_source from = {
      .path = t->model, .pre = teach_preprocess(&j->r.teach, t), .heads = &head, .n_heads = 1};
  TRY(subject_open(&s, j->c, &from, j->d, j->r.teach.split, t->input));
  *x = (teacher){.t = t,
                 .input = s.input,
                 .values = head_row_values(&s.k.heads[0]),
                 .held_bytes = measure_resident() - before,
                 .work = (double)s.k.work};
  TRY(measure_forward(&s, j->d, predict_batch_rows(&s.k), &x->m));
  j->n++;
done:
  subject_close(&s);
  return st;
}

static int64_t batch_rows(const job *j) {
  return j->r.distill.batch < j->train->n ? j->r.distill.batch : j->train->n;
}

static status measure_learner(job *j, const chain_step *k, learner *x) {
  status st = STATUS_OK;
  subject s = {0};
  const mpistill_train_options *o = &j->r.distill;
  double before = measure_resident();
  model_source from = k->source;
  from.heads = j->work.heads;
  from.n_heads = j->work.n;
  TRY(subject_open(&s, j->c, &from, j->d, o->split, o->input));
  x->held_bytes = measure_resident() - before;
  x->work = (double)s.k.work;
  x->bytes = model_bytes(s.m);
  j->input = s.input;
  j->values = 0;
  for (int i = 0; i < s.k.n_heads; i++) j->values += head_row_values(&s.k.heads[i]);
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
                                .sum_s = x->memory.sum_s,
                                .update_s = x->memory.update_s};
done:
  subject_close(&s);
  return st;
}

/* All generations of the student are alike. */
static status measure_learners(job *j) {
  status st = STATUS_OK;
  TRY(chain_make(&j->students, &j->r));
  TRY(mem_new(&j->learners, (size_t)j->students.n, sizeof *j->learners));
  for (int i = 0; i < j->students.n; i++)
    if (i > (int)j->r.assistants.n)
      j->learners[i] = j->learners[i - 1];
    else
      TRY(measure_learner(j, &j->students.steps[i], &j->learners[i]));
done:
  return st;
}

static const learner *student(const job *j) {
  return &j->learners[j->students.n - 1];
}

/* Whether there is a stage that combines the teachers; else training does it. */
static bool aggregates(const job *j) {
  const combine_kind *rule = j->r.aggregate.method ? combine_find(j->r.aggregate.method) : NULL;
  return j->r.teachers.n > 0 && !j->r.live && !(rule && rule->in_training);
}

/* How often the teachers label the rows to learn from: once for each view that is stored, or each epoch. */
static double times_taught(const job *j) {
  if (j->r.live) return (double)j->students.steps[0].epochs;
  return j->r.teach.views > 0 ? (double)j->r.teach.views : 1;
}

/* Rows of a file of soft labels to learn from; 0: there is none. */
static double stored_rows(const job *j) {
  return j->r.live ? 0 : (double)j->train->n * times_taught(j);
}

/* The rule on made-up logits, and the metrics of each teacher. */
static status measure_aggregate(job *j) {
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
    combine_find(j->r.aggregate.method ? j->r.aggregate.method : "probability-mean")->rows(&b, data + n);
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

static status measure_all(job *j) {
  status st = STATUS_OK;
  const mpistill_recipe *r = &j->r;
  TRY(dataset_open(&j->d, j->c, r->dataset));
  TRY(dataset_split(j->d, r->distill.split, &j->train));
  TRY(tasks_describe(&j->work, &r->distill.tasks, &r->distill.losses, j->d));
  if (!j->train->n) THROW(STATUS_BAD_INPUT, "%s: /%s has no rows", r->dataset, r->distill.split);
  j->test = find_split(j->d, r->distill.test_split);
  if (r->fit_split) TRY(dataset_split(j->d, r->fit_split, &j->fit));
  TRY(mem_new(&j->teachers, r->teachers.n, sizeof *j->teachers));
  TRY(measure_learners(j));
  for (size_t i = 0; i < r->teachers.n; i++)
    if (r->teachers.items[i].model) TRY(measure_teacher(j, &r->teachers.items[i]));
  if (aggregates(j)) TRY(measure_aggregate(j));
done:
  return st;
}

/* ---- time ---- */

static double test_rows(const job *j) {
  return j->test ? (double)j->test->n : 0;
}

static double all_rows(const job *j) {
  return (double)j->train->n * times_taught(j) + test_rows(j) + (j->fit ? (double)j->fit->n : 0);
}

/* Distinct arrays that the teachers read. */
static double teach_values(const job *j) {
  double values = 0;
  for (int i = 0; i < j->n; i++) {
    bool seen = false;
    for (int k = 0; k < i; k++) seen = seen || j->teachers[k].input == j->teachers[i].input;
    if (!seen) values += (double)j->teachers[i].input->row_values;
  }
  return values;
}

static void time_teach(const job *j, const cluster *k, times *t) {
  double work = 0, batches = 0, read = teach_values(j) * all_rows(j) * student(j)->memory.read_s;
  for (int i = 0; i < j->n; i++) {
    batches += all_rows(j) / (double)j->teachers[i].m.rows;
    work += all_rows(j) / (double)j->teachers[i].m.rows * j->teachers[i].m.batch_s;
  }
  if (j->n) work = cost_of_items(batches, work / batches, k->ranks, k->threads);
  t->seconds[TEACH] = j->n ? work + read + STAGE_S : 0;
  t->bound[TEACH] = read > work ? "disk" : "compute";
}

/* One training, and the pass over the rows for the next one. */
static status time_learner(const job *j, int i, const cluster *k, times *t) {
  status st = STATUS_OK;
  const learner *x = &j->learners[i];
  const chain_step *step = &j->students.steps[i];
  double n = (double)j->train->n, epochs = (double)step->epochs,
         read = (double)j->input->row_values * n * x->memory.read_s;
  TRY(cost_of_step(&x->training, k, &t->step));
  /* The last batch of an epoch may be smaller; sums and messages are not. */
  double compute = epochs * n / (double)batch_rows(j) * t->step.compute_s;
  double sums = (double)x->training.steps * t->step.sums_s,
         network = (double)x->training.steps * t->step.network_s;
  double all = compute + sums + network + read + STAGE_S;
  if (step->labels)
    all +=
        cost_of_items(n / (double)x->forward.rows, x->forward.batch_s, k->ranks, k->threads) + read + STAGE_S;
  t->seconds[DISTILL] += all;
  t->bound[DISTILL] = "compute";
  if (sums > compute) t->bound[DISTILL] = "memory";
  if (network > compute && network > sums) t->bound[DISTILL] = "network";
  if (read > compute && read > sums && read > network) t->bound[DISTILL] = "disk";
  t->seconds[BASELINE] = j->r.baseline ? all : 0; /* of the last: that is the recipe's student */
  t->bound[BASELINE] = t->bound[DISTILL];
done:
  return st;
}

static double latency(double row_s) {
  return row_s * LATENCY_ROWS < LATENCY_S ? row_s * LATENCY_ROWS : LATENCY_S;
}

static status time_all(const job *j, const cluster *k, times *t) {
  status st = STATUS_OK;
  *t = (times){.total = START_S};
  time_teach(j, k, t);
  if (aggregates(j)) {
    double rows = stored_rows(j) / (double)k->ranks;
    t->seconds[AGGREGATE] = rows * j->row_s + STAGE_S;
  }
  t->bound[AGGREGATE] = t->bound[EVALUATE] = "compute";
  double rows = j->test ? test_rows(j) : (double)j->train->n;
  for (int i = 0; i < j->students.n; i++) {
    const measured *m = &j->learners[i].forward;
    const double models = 1 + (j->r.baseline && i == j->students.n - 1);
    TRY(time_learner(j, i, k, t));
    t->seconds[EVALUATE] +=
        models *
        (cost_of_items(rows / (double)m->rows, m->batch_s, k->ranks, k->threads) + latency(m->row_s));
  }
  for (int i = 0; i < j->n; i++) t->seconds[EVALUATE] += latency(j->teachers[i].m.row_s);
  for (int i = 0; i < N_STAGES; i++) t->total += t->seconds[i];
done:
  return st;
}

/* The least number of ranks that twice as many would not make a tenth faster. */
static status enough_ranks(const job *j, int64_t *out) {
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

/* ---- memory ---- */

static double array_bytes(const array *a, double rows) {
  return rows * (double)a->row_values * (double)element_bytes(a->type);
}

static size_t soft_element(const char *dtype) {
  return element_bytes(strcmp(dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32);
}

static void most(space *s, stage at, double rank, double node, double shared) {
  if (rank > s->rank_bytes) {
    s->rank_bytes = rank;
    s->rank_at = at;
  }
  if (node > s->node_bytes) {
    s->node_bytes = node;
    s->shared_bytes = shared;
    s->node_at = at;
  }
}

static void space_teach(const job *j, space *s) {
  double rank = 0, shared = 0, ranks = (double)cluster_node_ranks(&j->k);
  for (int i = 0; i < j->n; i++) {
    const teacher *t = &j->teachers[i];
    double mine = t->held_bytes + t->m.worker_bytes * (double)j->k.threads +
                  (double)(t->m.rows * t->values) * sizeof(float);
    if (mine > rank) rank = mine;
    bool seen = false;
    for (int k = 0; k < i; k++) seen = seen || j->teachers[k].input == t->input;
    if (!seen) shared += array_bytes(t->input, (double)j->train->n);
  }
  if (j->n) most(s, TEACH, RANK_BYTES + rank, NODE_BYTES + ranks * (RANK_BYTES + rank) + shared, shared);
}

static status space_training(const job *j, const learner *x, space *s) {
  status st = STATUS_OK;
  int64_t vectors;
  double tutors = 0, work = 0; /* live teachers: for a rank that asks them */
  for (int i = 0; j->r.live && i < j->n; i++) {
    tutors += j->teachers[i].held_bytes + j->teachers[i].m.worker_bytes * (double)j->k.threads;
    work += j->teachers[i].work;
  }
  const int teaching = j->r.live ? live_teaching_ranks(&j->r.distill, work, x->work, (int)j->k.ranks) : 0;
  cluster k = j->k; /* of those that train */
  k.ranks -= teaching;
  double own, n = (double)j->train->n, ranks = (double)cluster_node_ranks(&k);
  double vector = (double)x->training.n_floats * sizeof(float);
  TRY(cost_node_vectors(&x->training, &k, &vectors));
  TRY(cost_rank_vectors(&x->training, &k, &own));
  double shared = (double)vectors * vector + array_bytes(j->input, n);
  const double files = aggregates(j) ? 1 : (double)j->r.teachers.n; /* of soft labels that training reads */
  shared += files * stored_rows(j) * (double)j->values * (double)soft_element(j->r.aggregate.dtype);
  double created = 0; /* students that stand in no file */
  for (int i = 0; i < j->students.n; i++) created += (double)j->students.steps[i].source.n;
  /* Its place in the order and how many labels it has, for each row. */
  double rank = RANK_BYTES + created + x->held_bytes + x->shard.worker_bytes * (double)j->k.threads + own +
                n * 2 * sizeof(int64_t) + (teaching ? 0 : tutors);
  double first = 2 * (double)(1 + x->training.n_states) * vector; /* a checkpoint in the making, on rank 0 */
  const double tutor = RANK_BYTES + x->held_bytes + tutors;
  const int beside = cluster_nodes(&j->k) > 1 ? 0 : teaching;
  most(s, DISTILL, rank + first, NODE_BYTES + ranks * rank + first + shared + beside * tutor, shared);
  if (teaching > beside) most(s, DISTILL, tutor, NODE_BYTES + (double)cluster_node_ranks(&j->k) * tutor, 0);
done:
  return st;
}

/* ---- disk ---- */

static json_t *file_json(const char *name, double bytes) {
  return json_pack("{s:s, s:I}", "file", name, "bytes", (json_int_t)llround(bytes));
}

static double soft_bytes(const job *j, double rows, double classes) {
  double k = (double)j->r.teach.top_k, element = (double)soft_element(j->r.teach.dtype);
  return FILE_BYTES + rows * (k > 0 ? k * (element + sizeof(int32_t)) + sizeof(float) : classes * element);
}

static status disk_json(const job *j, json_t *files, double *total) {
  status st = STATUS_OK;
  char *name = NULL;
  const split *splits[] = {j->train, j->test, j->fit};
  static const char *const folders[] = {"soft", "soft/test", "soft/fit"};
  for (int k = 0; k < 3; k++)
    for (int i = 0; splits[k] && i < j->n; i++) {
      const double rows = k ? (double)splits[k]->n : stored_rows(j);
      if (rows <= 0) continue;
      TRY(mem_format(&name, "%s/%s.h5", folders[k], j->teachers[i].t->name));
      json_array_append_new(files, file_json(name, soft_bytes(j, rows, (double)j->teachers[i].values)));
      mem_free(name);
      name = NULL;
    }
  if (aggregates(j))
    json_array_append_new(
        files, file_json("ensemble.h5", FILE_BYTES + stored_rows(j) * (double)j->values *
                                                         (double)soft_element(j->r.aggregate.dtype)));
  if (j->r.baseline) json_array_append_new(files, file_json("baseline.onnx", (double)student(j)->bytes));
  double epochs = (double)(j->r.baseline * j->r.distill.epochs), trainings = j->r.baseline + j->students.n,
         vectors = 0;
  for (int i = 0; i < j->students.n; i++) {
    const learner *x = &j->learners[i];
    const chain_step *k = &j->students.steps[i];
    TRY(mem_format(&name, "%s.onnx", k->name));
    json_array_append_new(files, file_json(name, (double)x->bytes));
    mem_free(name);
    name = NULL;
    epochs += (double)k->epochs;
    vectors = fmax(vectors, 2 * (double)((1 + x->training.n_states) * x->training.n_floats));
    if (!k->labels) continue;
    TRY(mem_format(&name, "soft/%s.h5", k->name));
    json_array_append_new(files, file_json(name, FILE_BYTES + (double)(j->train->n * j->values) *
                                                                  (double)soft_element(j->r.teach.dtype)));
    mem_free(name);
    name = NULL;
  }
  json_array_append_new(files, file_json("run.jsonl", trainings * LOG_BYTES + epochs * EPOCH_BYTES));
  /* Two files in turn, each with parameters and states as they are and as they were at the epoch's start. */
  json_array_append_new(
      files, file_json("checkpoint/ (while it trains)", 2 * (FILE_BYTES + vectors * sizeof(float))));
  *total = 0;
  for (size_t i = 0; i < json_array_size(files); i++)
    *total += json_number_value(json_object_get(json_array_get(files, i), "bytes"));
done:
  mem_free(name);
  return st;
}

/* ---- all of it ---- */

static json_t *stages_json(const times *t) {
  json_t *list = json_array();
  for (int i = 0; i < N_STAGES; i++)
    if (t->seconds[i] > 0)
      json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "stage", stage_names[i], "seconds",
                                            json_number(t->seconds[i]), "bound", t->bound[i]));
  return list;
}

static json_t *step_json(const job *j, const cost_step *s) {
  return json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:I}", "steps", (json_int_t)student(j)->training.steps,
                   "seconds", json_number(cost_step_seconds(s)), "compute", json_number(s->compute_s), "sums",
                   json_number(s->sums_s), "network", json_number(s->network_s), "messages",
                   (json_int_t)s->messages, "bytes", (json_int_t)llround(s->bytes));
}

static json_t *counts_json(const job *j) {
  json_t *list = json_array();
  for (int64_t r = 1; r * j->k.threads <= student(j)->training.shards; r++)
    if (student(j)->training.shards % (r * j->k.threads) == 0) json_array_append_new(list, json_integer(r));
  return list;
}

static void warn(json_t *list, char *text) {
  if (text) json_array_append_new(list, json_string(text));
  mem_free(text);
}

static json_t *warnings_json(const job *j, const space *s) {
  json_t *list = json_array();
  char *text = NULL;
  double room = j->o->memory_gib * 1024 * 1024 * 1024, fixed = s->shared_bytes + NODE_BYTES;
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
  double data = array_bytes(j->input, (double)j->train->n);
  if (room > 0 && data > room / 2 &&
      !mem_format(&text, "the dataset (%.3g GiB) takes more than half of a node: it is read row by row",
                  data / room * j->o->memory_gib))
    warn(list, text);
  if (j->r.fit_split &&
      !mem_format(&text, "the time to find the aggregate's weights on '%s' is not counted", j->r.fit_split))
    warn(list, text);
  return list;
}

static status describe(const job *j, json_t *out) {
  status st = STATUS_OK;
  times t;
  space s = {0};
  double disk = 0;
  int64_t enough;
  json_t *files = json_array();
  TRY(time_all(j, &j->k, &t));
  TRY(enough_ranks(j, &enough));
  space_teach(j, &s);
  for (int i = 0; i < j->students.n; i++) TRY(space_training(j, &j->learners[i], &s));
  TRY(disk_json(j, files, &disk));
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
  job j = {.c = c, .o = o};
  *out = json_object();
  TRY(stage_begin(c, NULL));
  TRY(recipe_read(c, o->recipe, &o->set, &j.r));
  j.k = (cluster){.ranks = o->ranks,
                  .ranks_per_node = o->ranks_per_node ? o->ranks_per_node : o->ranks,
                  .threads = stage_threads(j.r.threads),
                  .link_bytes_per_s = o->link_gbits * 1e9 / 8};
  TRY(measure_all(&j));
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
