#include "stages/live.h"

#include "base/mem.h"
#include "base/progress.h"
#include "stages/order.h"
#include "stages/trainer.h"

#include <math.h>
#include <string.h>

enum { PIECE_TEXT = 1016 };

/* In front of the numbers of every piece. */
typedef struct verdict {
  int64_t code;
  char text[PIECE_TEXT];
} verdict;

/* Teacher i of K at step s is asked from that server. */
static int server_of(int64_t step, int i, int n_teachers, int servers) {
  return (int)((step * n_teachers + i) % servers);
}

/* ---- roles ---- */

/* Whom it is about. */
typedef struct pupil {
  tasks work; /* without soft labels */
  subject its;
} pupil;

static status open_pupil(pupil *p, comm *c, const mpistill_train_options *o, const model_source *student,
                         dataset *d) {
  status st = STATUS_OK;
  model_source from = *student;
  TRY(tasks_describe(&p->work, &o->tasks, &o->losses, d));
  from.heads = p->work.heads;
  from.n_heads = p->work.n;
  TRY(subject_open(&p->its, c, &from, d, o->split, o->input));
done:
  return st;
}

int live_teaching_ranks(const mpistill_train_options *o, double teachers, double student, bool inner,
                        int size) {
  /* A step of training is about three passes forward; at least one rank trains. */
  const int n = (int)lround(size * teachers / (teachers + 3 * student));
  if (size == 1) return 0;
  if (o->teaching_ranks >= 0) return o->teaching_ranks < size ? (int)o->teaching_ranks : size - 1;
  if (inner) return 0; /* one pass gives labels, too: others would only do it a second time */
  return n < 1 ? 1 : n > size - 1 ? size - 1 : n;
}

/* Ranks that teach. All teachers and the student are opened once to look at them. */
static status count_ranks(comm *c, const mpistill_train_options *o, const model_source *student,
                          int *teaching, int64_t *most_values) {
  status st = STATUS_OK;
  dataset *d = NULL;
  pupil p = {0};
  tutors all = {0};
  const int size = comm_size(c);
  *teaching = 0;
  if (size > 1 && o->teaching_ranks >= size)
    THROW(STATUS_BAD_INPUT, "--teaching-ranks %lld: there are %d ranks, and one or more must train",
          (long long)o->teaching_ranks, size);
  TRY(dataset_open(&d, c, o->dataset));
  TRY(open_pupil(&p, c, o, student, d));
  TRY(tutors_open(&all, c, o, TUTORS_LABEL, d, &p.work, &p.its.k));
  const bool inner = o->features.n > 0 && (o->feature_teachers.n > 0 || all.n_inner > 0);
  *teaching = live_teaching_ranks(o, (double)all.work, (double)p.its.k.work, inner, size);
  *most_values = all.most_values;
done:
  tutors_close(&all);
  subject_close(&p.its);
  dataset_close(&d);
  return st;
}

/* ---- a rank that teaches ---- */

typedef struct desk {
  const mpistill_train_options *o;
  stream *s;
  tutors teachers;
  int clients, n_shards;
  int64_t (*shards)[STREAM_WORDS]; /* [clients] from, to */
  int64_t n;                       /* rows of the split */
  order *order;
  int64_t *seen;
  float *numbers; /* [batch, most values] */
} desk;

static int64_t first_row(int64_t shard, int64_t rows, int n_shards) {
  return shard * rows / n_shards;
}

/* The rows of a step, as the student sees them. */
static int64_t rows_of(desk *k, int64_t step) {
  const int64_t batch = k->o->batch, per_epoch = (k->n + batch - 1) / batch, epoch = step / per_epoch;
  const int64_t from = step % per_epoch * batch, rows = k->n - from < batch ? k->n - from : batch;
  const int64_t *ids = order_rows(k->order, epoch, from, rows);
  for (int64_t i = 0; i < rows; i++) k->seen[i] = ids[i] + (k->o->augment.n ? epoch * k->n : 0);
  return rows;
}

/* To each client its rows of a teacher's, with what went wrong, if anything did. */
static status answer(desk *k, int teacher, int64_t rows, status code) {
  status st = STATUS_OK;
  const int64_t values = k->teachers.items[teacher].row_values;
  char *at;
  void *buffer;
  verdict v = {.code = code};
  if (code) strncpy(v.text, status_message(), PIECE_TEXT - 1);
  TRY(stream_buffer(k->s, &buffer));
  at = buffer;
  for (int i = 0; i < k->clients; i++) {
    const int64_t from = first_row(k->shards[i][0], rows, k->n_shards),
                  n = first_row(k->shards[i][1], rows, k->n_shards) - from;
    const size_t bytes = (size_t)(n * values) * sizeof(float);
    if (n < 1) continue;
    memcpy(at, &v, sizeof v);
    memcpy(at + sizeof v, k->numbers + from * values, bytes);
    TRY(stream_send(k->s, i, at, sizeof v + bytes));
    at += sizeof v + bytes;
  }
done:
  return st;
}

static status make_desk(desk *k, int64_t rows) {
  status st = STATUS_OK;
  k->n = rows;
  TRY(mem_new(&k->shards, (size_t)k->clients, sizeof *k->shards));
  TRY(order_new(&k->order, k->o->seed, k->n, k->o->shuffle_window, k->o->batch));
  TRY(mem_new(&k->seen, (size_t)k->o->batch, sizeof *k->seen));
  TRY(mem_new(&k->numbers, (size_t)(k->o->batch * k->teachers.most_values), sizeof *k->numbers));
done:
  return st;
}

static status answer_all(desk *k) {
  status st = STATUS_OK, worst = STATUS_OK;
  bool more, greeted = false;
  int64_t question[STREAM_WORDS]; /* teacher, step */
  for (;;) {
    TRY(stream_hear(k->s, question, &more));
    if (!more) break;
    if (!greeted) TRY(stream_greetings(k->s, k->shards));
    greeted = true;
    pulse_phase("teach, step %lld", (long long)question[1]);
    const int64_t rows = rows_of(k, question[1]);
    status mine = tutors_label(&k->teachers, (int)question[0], k->seen, rows, k->numbers, NULL);
    if (mine) worst = mine;
    TRY(answer(k, (int)question[0], rows, mine));
  }
done:
  return st ? st : worst;
}

/* Those whose turn ever comes on this server. */
static status prepare(desk *k, comm *c, dataset *d) {
  status st = STATUS_OK;
  bool *held = NULL;
  const int n = k->teachers.n, servers = comm_size(c);
  TRY(comm_agree(c, mem_new(&held, (size_t)n, sizeof *held)));
  for (int64_t step = 0; step < servers; step++)
    for (int i = 0; i < n; i++)
      if (server_of(step, i, n, servers) == comm_rank(c)) held[i] = true;
  TRY(tutors_prepare(&k->teachers, c, k->o, d, held));
done:
  mem_free(held);
  return st;
}

status live_serve(comm *c, const live_link *link, const mpistill_train_options *o,
                  const model_source *student) {
  status st = STATUS_OK;
  dataset *d = NULL;
  pupil p = {0};
  desk k = {.o = o, .s = link->s, .clients = comm_size(link->all) - link->teaching};
  mpistill_output_options quiet = o->out;
  quiet.no_result = true;
  stage_listen(c, &quiet); /* signals stop those that train, and they dismiss this rank */
  k.n_shards = o->shards ? (int)o->shards : trainer_default_shards(o->batch);
  TRY(dataset_open(&d, c, o->dataset));
  TRY(open_pupil(&p, c, o, student, d));
  TRY(tutors_open(&k.teachers, c, o, TUTORS_LABEL, d, &p.work, &p.its.k));
  TRY(prepare(&k, c, d));
  TRY(comm_agree(c, make_desk(&k, p.its.sp->n)));
done:
  st = live_meet(link, st);
  if (!st) st = answer_all(&k);
  mem_free(k.shards);
  order_free(&k.order);
  mem_free(k.seen);
  mem_free(k.numbers);
  tutors_close(&k.teachers);
  subject_close(&p.its);
  dataset_close(&d);
  return st;
}

/* ---- a rank that trains ---- */

typedef struct tensors { /* of this step, of a teacher: [most, values of a row] each */
  bool wanted;
  float *values[CLASSIFIER_MAX_INNER];
} tensors;

struct live {
  comm *c;
  const mpistill_train_options *o;
  dataset *d;
  const live_link *link; /* NULL: each rank asks the teachers itself */
  int n_teachers, rank;
  int64_t *before; /* [teachers + 1] values of a row of those before each */
  tutors own;
  tutors beside;          /* those that are run for their inner tensors alone */
  tutors *inner;          /* whose tensors are read: own or beside; NULL: nobody's */
  tensors *looks;         /* [inner->n] */
  float *ignored;         /* logits of those beside */
  int from, to, n_shards; /* this rank's */
  int64_t n, most;        /* rows of the split; of this rank in a step */
  int64_t steps, per_epoch;
  int64_t asked, next; /* steps */
  int64_t *seen;       /* [most] */
  float *numbers;      /* of this step; those of teacher i begin at most * before[i]: [most, its values] */
  char *piece;
  int32_t *place; /* [n] of a row among those of this step */
};

static int64_t row_values(const live *l, int i) {
  return l->before[i + 1] - l->before[i];
}

static float *numbers_of(const live *l, int i) {
  return l->numbers + l->most * l->before[i];
}

static status lay_out(live *l, const tasks *work, const classifier *student) {
  status st = mem_new(&l->before, (size_t)l->n_teachers + 1, sizeof *l->before);
  for (int i = 0; !st && i < l->n_teachers; i++) {
    const int task = tasks_find(work, l->o->live_teachers.items[i].task);
    l->before[i + 1] = l->before[i] + head_row_values(&student->heads[task]);
  }
  return st;
}

/* Ranks that label for themselves get both from one pass; but not where the teachers with the tensors are
 * others than those that label. */
static status open_inner(live *l, const tasks *work, const classifier *student) {
  status st = STATUS_OK;
  if (!l->o->features.n) return st;
  l->inner = &l->own;
  if (l->link || l->o->feature_teachers.n) {
    TRY(tutors_open(&l->beside, l->c, l->o, TUTORS_INNER, l->d, work, student));
    l->inner = &l->beside;
  }
  TRY(comm_agree(l->c, mem_new(&l->looks, (size_t)l->inner->n, sizeof *l->looks)));
done:
  return st;
}

status live_open(live **out, comm *c, const mpistill_train_options *o, dataset *d, const tasks *work,
                 const classifier *student, const live_link *link) {
  status st = STATUS_OK;
  live *l;
  TRY(comm_agree(c, mem_new(out, 1, sizeof **out)));
  l = *out;
  *l = (live){.c = c,
              .o = o,
              .d = d,
              .link = link->s ? link : NULL,
              .rank = comm_rank(c),
              .n_teachers = (int)o->live_teachers.n};
  TRY(comm_agree(c, lay_out(l, work, student)));
  if (!l->link) {
    TRY(tutors_open(&l->own, c, o, TUTORS_LABEL, d, work, student));
    TRY(tutors_prepare(&l->own, c, o, d, NULL));
  }
  TRY(open_inner(l, work, student));
done:
  return st;
}

const tutors *live_inner(const live *l) {
  return l ? l->inner : NULL;
}

void live_want_inner(live *l, int i) {
  l->looks[i].wanted = true;
}

static int64_t batch_rows(const live *l, int64_t step) {
  const int64_t left = l->n - step % l->per_epoch * l->o->batch;
  return left < l->o->batch ? left : l->o->batch;
}

/* This rank's rows of a step. */
static int64_t my_rows(const live *l, int64_t step, int64_t *from) {
  const int64_t rows = batch_rows(l, step);
  *from = first_row(l->from, rows, l->n_shards);
  return first_row(l->to, rows, l->n_shards) - *from;
}

/* Teacher i's piece of a step. */
static status take(live *l, int64_t step, int i) {
  status st = STATUS_OK;
  int64_t from, n = my_rows(l, step, &from);
  const size_t bytes = (size_t)(n * row_values(l, i)) * sizeof(float);
  verdict v;
  if (n < 1) return st;
  TRY(stream_take(l->link->s, server_of(step, i, l->n_teachers, l->link->teaching), l->piece,
                  sizeof v + bytes));
  memcpy(&v, l->piece, sizeof v);
  memcpy(numbers_of(l, i), l->piece + sizeof v, bytes);
  if (v.code) THROW((status)v.code, "%.*s", PIECE_TEXT, v.text);
done:
  return st;
}

/* What was asked ahead and will not be looked at. */
static status drain(live *l) {
  status st = STATUS_OK;
  for (; l->next < l->asked; l->next++)
    for (int i = 0; i < l->n_teachers; i++) {
      status mine = take(l, l->next, i);
      if (!st) st = mine;
    }
  return st;
}

void live_close(live **out) {
  live *l = *out;
  if (!l) return;
  if (l->link && l->numbers) drain(l);
  for (int i = 0; l->looks && i < l->inner->n; i++)
    for (int j = 0; j < CLASSIFIER_MAX_INNER; j++) mem_free(l->looks[i].values[j]);
  mem_free(l->looks);
  mem_free(l->ignored);
  tutors_close(&l->beside);
  tutors_close(&l->own);
  mem_free(l->before);
  mem_free(l->seen);
  mem_free(l->numbers);
  mem_free(l->piece);
  mem_free(l->place);
  mem_free(l);
  *out = NULL;
}

static status make_room(live *l) {
  status st = STATUS_OK;
  int64_t widest = 0;
  for (int i = 0; i < l->n_teachers; i++) widest = row_values(l, i) > widest ? row_values(l, i) : widest;
  TRY(mem_new(&l->seen, (size_t)l->most, sizeof *l->seen));
  TRY(mem_new(&l->place, (size_t)l->n, sizeof *l->place));
  TRY(mem_new(&l->piece, sizeof(verdict) + (size_t)(l->most * widest) * sizeof(float), 1));
  TRY(mem_new(&l->numbers, (size_t)(l->most * l->before[l->n_teachers]), sizeof *l->numbers));
done:
  return st;
}

/* Those that no loss reads after all, as a file has the same tensor, are closed. */
static status begin_inner(live *l) {
  status st = STATUS_OK;
  bool *wanted = NULL;
  tutors *t = &l->beside;
  if (l->inner != t) goto done;
  TRY(comm_agree(l->c, mem_new(&wanted, (size_t)t->n, sizeof *wanted)));
  for (int i = 0; i < t->n; i++) wanted[i] = l->looks[i].wanted;
  tutors_drop(t, wanted);
  TRY(tutors_prepare(t, l->c, l->o, l->d, NULL));
  TRY(comm_agree(l->c, mem_new(&l->ignored, (size_t)(l->most * t->most_values), sizeof *l->ignored)));
done:
  mem_free(wanted);
  return st;
}

static status make_looks(live *l) {
  status st = STATUS_OK;
  for (int i = 0; l->inner && i < l->inner->n; i++) {
    const tutor *t = &l->inner->items[i];
    for (int j = 0; l->looks[i].wanted && j < t->s.k.n_inner; j++)
      TRY(mem_new(&l->looks[i].values[j], (size_t)(l->most * tutors_inner_values(t, j)), sizeof(float)));
  }
done:
  return st;
}

status live_begin(live *l, int from, int to, int n_shards, int64_t rows, int64_t steps) {
  status st = STATUS_OK;
  l->from = from;
  l->to = to;
  l->n_shards = n_shards;
  l->n = rows;
  l->per_epoch = (rows + l->o->batch - 1) / l->o->batch;
  l->steps = steps;
  l->asked = l->next = -1;
  l->most = (to - from) * (l->o->batch / n_shards + 1);
  TRY(begin_inner(l));
  TRY(comm_agree(l->c, make_room(l)));
  TRY(comm_agree(l->c, make_looks(l)));
  if (l->link) TRY(stream_greet(l->link->s, (int64_t[STREAM_WORDS]){from, to}));
done:
  return st;
}

static status ask_ahead(live *l) {
  status st = STATUS_OK;
  /* Each server gets a few questions ahead: it works while this rank does. */
  int64_t ahead = STREAM_AHEAD * l->link->teaching / l->n_teachers;
  if (ahead < 2) ahead = 2;
  for (; l->asked < l->steps && l->asked < l->next + ahead; l->asked++)
    for (int i = 0; i < l->n_teachers; i++)
      TRY(stream_ask(l->link->s, server_of(l->asked, i, l->n_teachers, l->link->teaching),
                     (int64_t[STREAM_WORDS]){i, l->asked}));
done:
  return st;
}

/* Every piece is taken, whatever is in it: all ranks stay at the same question. */
static status ask_others(live *l, int64_t step) {
  status st = STATUS_OK, mine;
  if (step != l->next) { /* the first one, or an epoch that starts again */
    drain(l);
    l->next = l->asked = step;
  }
  TRY(ask_ahead(l));
  for (int i = 0; i < l->n_teachers; i++) {
    mine = take(l, step, i);
    if (!st) st = mine;
  }
  l->next++;
done:
  return st;
}

static float *const *tensors_of(const live *l, int i) {
  return l->looks && l->looks[i].wanted ? l->looks[i].values : NULL;
}

static status ask_own(live *l, int64_t n) {
  status st = STATUS_OK;
  for (int i = 0; i < l->n_teachers; i++)
    TRY(tutors_label(&l->own, i, l->seen, n, numbers_of(l, i),
                     l->inner == &l->own ? tensors_of(l, i) : NULL));
done:
  return st;
}

static status ask_beside(live *l, int64_t n) {
  status st = STATUS_OK;
  for (int i = 0; i < l->beside.n; i++)
    if (l->looks[i].wanted) TRY(tutors_label(&l->beside, i, l->seen, n, l->ignored, tensors_of(l, i)));
done:
  return st;
}

status live_step(live *l, int64_t step, const int64_t *ids) {
  status st = STATUS_OK;
  const int64_t view = l->o->augment.n ? step / l->per_epoch * l->n : 0;
  int64_t from, n = my_rows(l, step, &from);
  for (int64_t j = 0; j < n; j++) {
    l->place[ids[from + j]] = (int32_t)j;
    l->seen[j] = ids[from + j] + view;
  }
  if (l->link) TRY(ask_others(l, step));
  if (!l->link && n > 0) TRY(ask_own(l, n));
  if (n > 0) TRY(ask_beside(l, n));
done:
  return st;
}

static void copy_rows(const live *l, const float *all, int64_t values, const int64_t *ids, int64_t n,
                      float *out) {
  for (int64_t j = 0; j < n; j++)
    memcpy(out + j * values, all + l->place[ids[j]] * values, (size_t)values * sizeof *out);
}

void live_rows(const live *l, int i, const int64_t *ids, int64_t n, float *out) {
  copy_rows(l, numbers_of(l, i), row_values(l, i), ids, n, out);
}

void live_inner_rows(const live *l, int i, int place, const int64_t *ids, int64_t n, float *out) {
  copy_rows(l, l->looks[i].values[place], tutors_inner_values(&l->inner->items[i], place), ids, n, out);
}

/* ---- all ranks ---- */

status live_meet(const live_link *link, status mine) {
  live_link *l = (live_link *)(uintptr_t)link;
  if (l->met) return mine;
  l->met = true;
  return comm_agree(l->all, mine);
}

/* Rows of the largest answer, in bytes, with what stands before each piece. */
static size_t answer_bytes(const mpistill_train_options *o, int64_t most_values, int clients) {
  return (size_t)clients * sizeof(verdict) + (size_t)(o->batch * most_values) * sizeof(float);
}

status live_train(comm *c, const mpistill_train_options *o, const model_source *student, live_trains *train) {
  status st = STATUS_OK;
  live_link link = {.all = c};
  comm *part = NULL;
  int64_t most_values;
  TRY(stage_begin(c, &o->out));
  TRY(count_ranks(c, o, student, &link.teaching, &most_values));
  if (!link.teaching) return train(c, o, student, &link);
  const int clients = comm_size(c) - link.teaching;
  say(comm_rank(c) == 0 && !o->out.quiet, "%d of %d ranks teach, %d train", link.teaching, comm_size(c),
      clients);
  if (!o->out.no_result) pulse_share(c, o->output);
  TRY(stream_new(&link.s, c, link.teaching, answer_bytes(o, most_values, clients)));
  const bool teaches = comm_rank(c) >= clients;
  TRY(comm_split(&part, c, teaches));
  st = teaches ? live_serve(part, &link, o, student) : train(part, o, student, &link);
  if (!teaches) {
    st = live_meet(&link, st);
    status told = stream_dismiss(link.s);
    if (!st) st = told;
  }
  st = comm_agree(c, st);
done:
  comm_end(&part);
  stream_free(&link.s);
  return st;
}
