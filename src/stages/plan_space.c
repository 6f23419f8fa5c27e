/* Memory and disk of a run, by arithmetic from what was measured of its models. */
#include "base/mem.h"
#include "learn/combine.h"
#include "stages/live.h"
#include "stages/plan_job.h"
#include "stages/reduced.h"

#include <math.h>
#include <string.h>

/* Measured with Open MPI 4.1 and MPICH 4.0, whose UCX takes memory for messages, and HDF5 1.10: what a rank
 * holds before it does anything, what the ranks of a node share of it where nothing else uses the same
 * libraries; and what an HDF5 file has beside its numbers. */
#ifdef MPICH_VERSION
static const double RANK_BYTES = 14.5e6, NODE_BYTES = 35e6;
#else
static const double RANK_BYTES = 10.3e6, NODE_BYTES = 33e6;
#endif
static const double FILE_BYTES = 4.2e3;
static const double LOG_BYTES = 1200, EPOCH_BYTES = 330;

double plan_node_bytes(void) {
  return NODE_BYTES;
}

static size_t soft_element(const char *dtype) {
  return element_bytes(strcmp(dtype, "float32") ? ELEMENT_FLOAT16 : ELEMENT_FLOAT32);
}

/* A row of a teacher's logits, as stored. */
static double teacher_row_bytes(const plan_job *j, int64_t values) {
  const double k = (double)j->r.teach.top_k, element = (double)soft_element(j->r.teach.dtype);
  return k > 0 ? k * (element + sizeof(int32_t)) + sizeof(float) : (double)values * element;
}

static double tap_row_bytes(const plan_job *j, const planned_teacher *t) {
  return (double)t->tap_values * (double)soft_element(j->r.teach.dtype);
}

static bool is_taught(const plan_job *j, int task) {
  for (size_t i = 0; i < j->r.teachers.n; i++)
    if (tasks_find(&j->work, j->r.teachers.items[i].task) == task) return true;
  return false;
}

static double ensemble_row_bytes(const plan_job *j, int task) {
  return is_taught(j, task) ? (double)j->task_values[task] * (double)soft_element(j->r.aggregate.dtype) : 0;
}

/* ---- memory ---- */

static double array_bytes(const array *a, double rows) {
  return rows * (double)a->row_values * (double)element_bytes(a->type);
}

static void most(plan_space *s, plan_stage at, double rank, double node, double shared) {
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

/* Teachers' parameters lie once in a node's memory where that is less than one teacher for each rank
 * (weights.h); so do those of one that is opened, to look at it before the first stage and after the last,
 * and once more in that of the rank that reads them. */
static void space_teach(const plan_job *j, plan_space *s) {
  double opened = 0, once = 0, held = 0, largest = 0, weights = 0, arrays = 0;
  const double ranks = (double)cluster_node_ranks(&j->k);
  for (int i = 0; i < j->n; i++) {
    const planned_teacher *t = &j->teachers[i];
    weights += t->weight_bytes;
    opened = fmax(opened, t->held_bytes);
    once = fmax(once, 2 * t->once_bytes);
    largest = fmax(largest, t->weight_bytes);
    bool seen = false;
    for (int k = 0; k < i; k++) seen = seen || j->teachers[k].input == t->input;
    if (!seen) arrays += array_bytes(t->input, (double)j->train->n);
  }
  const bool shares = ranks > 1 && weights < ranks * largest;
  for (int i = 0; i < j->n; i++) {
    const planned_teacher *t = &j->teachers[i];
    const double mine = t->held_bytes - (t->once_bytes > 0 ? 0 : 2) * t->weight_bytes +
                        (shares ? 0 : t->weight_bytes) + t->m.worker_bytes * (double)j->k.threads +
                        (double)(t->m.rows * (t->values + t->tap_values)) * sizeof(float);
    held = fmax(held, mine);
  }
  const double shared = arrays + (shares ? weights : 0);
  if (!j->n) return;
  most(s, PLAN_TEACH, RANK_BYTES + opened + once, NODE_BYTES + ranks * (RANK_BYTES + opened) + once,
       once / 2);
  most(s, PLAN_TEACH, RANK_BYTES + held, NODE_BYTES + ranks * (RANK_BYTES + held) + shared, shared);
}

/* Of soft labels and inner tensors that training reads: in a node's memory. */
static double labels_bytes(const plan_job *j) {
  double row = 0, taps = 0;
  for (int i = 0; plan_aggregates(j) && i < j->work.n; i++) row += ensemble_row_bytes(j, i);
  for (size_t i = 0; !plan_aggregates(j) && i < j->r.teachers.n; i++)
    row += teacher_row_bytes(j, j->task_values[tasks_find(&j->work, j->r.teachers.items[i].task)]);
  for (int i = 0; i < j->n; i++) taps += tap_row_bytes(j, &j->teachers[i]);
  return plan_stored_rows(j) * (row + taps);
}

int plan_teaching_ranks(const plan_job *j, int i, int64_t ranks) {
  const planned_student *x = &j->learners[i];
  double work = 0;
  if (!j->r.live) return 0;
  for (int k = 0; !i && k < j->n; k++) work += j->teachers[k].work;
  if (i) work = j->students.steps[i - 1].n_lessons * x[-1].work;
  return live_teaching_ranks(&j->r.distill, work, x->work, plan_asks_inner(j, i), (int)ranks);
}

bool plan_asks_inner(const plan_job *j, int i) {
  return j->r.live && j->r.distill.features.n > 0 && strcmp(j->students.steps[i].kind, "assistant") != 0;
}

/* Live teachers, of a rank that asks them, for inner tensors alone where there are others that label, and
 * *once of a node. Their parameters alone are kept: what else opening them takes is used again by those who
 * work. */
static double tutors_bytes(const plan_job *j, bool at_work, bool inner, double *once) {
  double bytes = 0;
  *once = 0;
  for (int i = 0; j->r.live && i < j->n; i++) {
    const planned_teacher *t = &j->teachers[i];
    if (inner && !t->tap_values) continue;
    bytes += (t->once_bytes > 0 ? 0 : t->held_bytes - t->weight_bytes) +
             (at_work ? t->m.worker_bytes * (double)j->k.threads : 0);
    *once += t->once_bytes;
  }
  return bytes;
}

/* Ranks that only teach read the dataset for themselves. They are the last ones: the nodes' other ranks
 * train. */
static status space_training(const plan_job *j, int step, plan_space *s) {
  status st = STATUS_OK;
  const planned_student *x = &j->learners[step];
  int64_t vectors;
  double once, beside_once = 0;
  const double tutors = tutors_bytes(j, true, false, &once), n = (double)j->train->n;
  const int teaching = plan_teaching_ranks(j, step, j->k.ranks);
  const double its = !teaching                  ? tutors
                     : plan_asks_inner(j, step) ? tutors_bytes(j, true, true, &beside_once)
                                                : 0;
  cluster k = j->k; /* of those that train */
  k.ranks -= teaching;
  double own, ranks = (double)cluster_node_ranks(&k);
  const double vector = (double)x->training.n_floats * sizeof(float), data = array_bytes(j->input, n);
  TRY(cost_node_vectors(&x->training, &k, &vectors));
  TRY(cost_rank_vectors(&x->training, &k, &own));
  double shared =
      (double)vectors * vector + data + labels_bytes(j) + x->once_bytes + (teaching ? beside_once : once);
  double created = 0, features = 0; /* students that stand in no file; rows of inner tensors, a thread */
  for (int i = 0; i < j->students.n; i++) created += (double)j->students.steps[i].source.n;
  for (int i = 0; i < j->n; i++)
    features += (double)(x->shard.rows * j->teachers[i].tap_values) * sizeof(float);
  /* Its place in the order and how many labels it has, for each row. */
  double rank = RANK_BYTES + created + x->held_bytes +
                (x->shard.worker_bytes + features) * (double)j->k.threads + own + n * 2 * sizeof(int64_t) +
                its;
  if (plan_asks_inner(j, step)) /* live ones' of all its rows of a step, too */
    rank += features * ceil((double)x->training.shards / (double)k.ranks);
  double first = 2 * (double)(1 + x->training.n_states) * vector; /* a checkpoint in the making, on rank 0 */
  const double tutor = RANK_BYTES + created + x->held_bytes + tutors + n * sizeof(int64_t);
  const int beside = cluster_nodes(&j->k) > 1 ? 0 : teaching;
  const double read = data + x->once_bytes + once, theirs = beside ? beside * tutor + read : 0;
  most(s, PLAN_DISTILL, rank + first, NODE_BYTES + ranks * rank + first + shared + theirs,
       shared + (beside ? read : 0));
  if (teaching) { /* every rank looks at all teachers first, to divide the ranks */
    const double looking = RANK_BYTES + created + x->held_bytes + tutors_bytes(j, false, false, &once),
                 seen = x->once_bytes + once;
    most(s, PLAN_DISTILL, looking + seen, NODE_BYTES + (double)cluster_node_ranks(&j->k) * looking + seen,
         seen);
  }
  if (teaching > beside)
    most(s, PLAN_DISTILL, tutor, NODE_BYTES + (double)cluster_node_ranks(&j->k) * tutor + read, read);
done:
  return st;
}

status plan_measure_space(const plan_job *j, plan_space *out) {
  status st = STATUS_OK;
  *out = (plan_space){0};
  space_teach(j, out);
  for (int i = 0; i < j->students.n; i++) TRY(space_training(j, i, out));
done:
  return st;
}

/* ---- disk ---- */

static status add_file(json_t *files, double bytes, const char *format, const char *name, const char *more) {
  char *text = NULL;
  status st = mem_format(&text, format, name, more);
  if (!st)
    json_array_append_new(files, json_pack("{s:s, s:I}", "file", text, "bytes", (json_int_t)llround(bytes)));
  mem_free(text);
  return st;
}

static status list_labels(const plan_job *j, json_t *files) {
  status st = STATUS_OK;
  const split *splits[] = {j->train, j->test, j->fit, j->adaptive};
  static const char *const folders[] = {"soft", "soft/test", "soft/fit", "soft/adaptive"};
  for (int k = 0; k < 4; k++)
    for (int i = 0; splits[k] && i < j->n; i++) {
      const planned_teacher *t = &j->teachers[i];
      const double rows = k ? (double)splits[k]->n : plan_stored_rows(j);
      const double row = teacher_row_bytes(j, t->values) + (k ? 0 : tap_row_bytes(j, t));
      if (rows > 0) TRY(add_file(files, FILE_BYTES + rows * row, "%s/%s.h5", folders[k], t->t->name));
    }
  for (int i = 0; plan_aggregates(j) && i < j->work.n; i++) {
    const char *task = j->work.items[i].name;
    const double bytes = FILE_BYTES + plan_stored_rows(j) * ensemble_row_bytes(j, i);
    if (is_taught(j, i)) TRY(add_file(files, bytes, "ensemble%s%s.h5", task ? "." : "", task ? task : ""));
  }
done:
  return st;
}

/* The last one as it is put to use, where that is with smaller numbers: parameters of 2 bytes or 1. */
static status list_student(const plan_job *j, int i, json_t *files) {
  status st = STATUS_OK;
  const planned_student *x = &j->learners[i];
  const chain_step *k = &j->students.steps[i];
  double bytes = (double)x->bytes;
  if (i == j->students.n - 1 && reduced_wanted(&j->r.distill)) {
    TRY(add_file(files, bytes, "%s%s.onnx", k->name, ".float32"));
    bytes -= (double)x->training.n_floats * (strcmp(j->r.distill.precision, "int8") ? 2 : 3);
  }
  TRY(add_file(files, bytes, "%s%s.onnx", k->name, ""));
  for (int t = 0; t < k->n_lessons && !j->r.live; t++) {
    const double values = (double)(j->train->n * j->task_values[k->lessons[t].task]);
    TRY(add_file(files, FILE_BYTES + values * (double)soft_element(j->r.teach.dtype), "soft/%s%s.h5",
                 k->lessons[t].name, ""));
  }
done:
  return st;
}

status plan_list_files(const plan_job *j, json_t *files, double *total) {
  status st = STATUS_OK;
  const planned_student *last = &j->learners[j->students.n - 1];
  double epochs = (double)(j->r.baseline * j->r.distill.epochs), trainings = j->r.baseline + j->students.n,
         vectors = 0;
  TRY(list_labels(j, files));
  if (j->r.baseline) TRY(add_file(files, (double)last->bytes, "%s%s", "baseline.onnx", ""));
  for (int i = 0; i < j->students.n; i++) {
    const cost_training *t = &j->learners[i].training;
    TRY(list_student(j, i, files));
    epochs += (double)j->students.steps[i].epochs;
    vectors = fmax(vectors, 2 * (double)((1 + t->n_states) * t->n_floats));
  }
  TRY(add_file(files, trainings * LOG_BYTES + epochs * EPOCH_BYTES, "%s%s", "run.jsonl", ""));
  /* Two files in turn, each with parameters and states as they are and as they were at the epoch's start. */
  TRY(add_file(files, 2 * (FILE_BYTES + vectors * sizeof(float)), "%s%s", "checkpoint/ (while it trains)",
               ""));
  *total = 0;
  for (size_t i = 0; i < json_array_size(files); i++)
    *total += json_number_value(json_object_get(json_array_get(files, i), "bytes"));
done:
  return st;
}
