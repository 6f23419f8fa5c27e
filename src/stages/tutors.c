#include "stages/tutors.h"

#include "base/half.h"
#include "base/mem.h"
#include "base/options.h"
#include "stages/features.h"
#include "stages/views.h"
#include "store/numbers.h"

#include <string.h>

static model_source source_of(const mpistill_teacher *t, const head_options *h) {
  return (model_source){.path = t->model, .pre = &t->preprocess, .heads = h, .n_heads = 1};
}

static status check_tutor(const tutor *t, const head *student) {
  const head *h = &t->s.k.heads[0];
  if (t->t.classes.n)
    return status_set(STATUS_BAD_INPUT,
                      "teacher '%s': lists its classes; live teachers must have those of the dataset, others "
                      "store their labels (teach)",
                      t->t.name);
  if (h->values != student->values || h->classes != student->classes || h->positions != student->positions)
    return status_set(STATUS_BAD_INPUT, "%s: teacher '%s' gives %lld %s, but the student %lld %s",
                      t->s.k.path, t->t.name, (long long)head_row_values(h), h->values ? "numbers" : "logits",
                      (long long)head_row_values(student), student->values ? "numbers" : "logits");
  return STATUS_OK;
}

/* A tensor that the model has not, or that no loss could read, may be another teacher's. */
static status tap(tutor *t, const mpistill_features *features) {
  status st = STATUS_OK;
  mpistill_strings names = {0};
  TRY(features_tensors(features, t->t.name, &names));
  for (size_t i = 0; i < names.n; i++) {
    int place;
    shape s;
    const status found = classifier_tap(&t->s.k, names.items[i], &place, &s);
    if (!found) t->inner[place] = s;
    st = found == STATUS_BAD_INPUT ? STATUS_OK : found;
    if (st) goto done;
  }
done:
  strings_free(&names);
  return st;
}

static status open_tutor(tutor *t, comm *c, const mpistill_train_options *o, bool taps, dataset *d,
                         const head *student) {
  status st = STATUS_OK;
  const head_options head = teacher_head(&t->t);
  const model_source from = source_of(&t->t, &head);
  TRY(subject_open(&t->s, c, &from, d, o->split, t->t.input));
  stage_tell_mode(comm_rank(c) == 0 && !o->out.no_result, t->s.m, false);
  if (student) TRY(subject_order(&t->s, c, d));
  model_drop_data(t->s.m); /* the block holds it */
  st = student ? check_tutor(t, student) : STATUS_OK;
  if (!st && taps) st = tap(t, &o->features);
  if (!st) st = views_make(&t->augment, &o->augment, &t->s.k, o->seed);
  TRY(comm_agree(c, st));
done:
  return st;
}

/* Those whose inner tensors are read. */
static const mpistill_teachers *inner_teachers(const mpistill_train_options *o) {
  return o->feature_teachers.n ? &o->feature_teachers : &o->live_teachers;
}

void tutors_drop(tutors *t, const bool *wanted) {
  for (int i = 0; i < t->n; i++)
    if (!wanted[i] && t->items[i].s.m) subject_close(&t->items[i].s);
}

/* Others would lie in memory for nothing. */
static status keep_tapped(tutors *t, comm *c) {
  bool *wanted;
  status st = comm_agree(c, mem_new(&wanted, (size_t)t->n, sizeof *wanted));
  for (int i = 0; !st && i < t->n; i++) wanted[i] = t->items[i].s.k.n_inner > 0;
  if (!st) tutors_drop(t, wanted);
  mem_free(wanted);
  return st;
}

status tutors_open(tutors *t, comm *c, const mpistill_train_options *o, tutors_for what, dataset *d,
                   const tasks *work, const classifier *student) {
  status st = STATUS_OK;
  const mpistill_teachers *list = what == TUTORS_INNER ? inner_teachers(o) : &o->live_teachers;
  const bool taps = list == inner_teachers(o);
  *t = (tutors){.split = o->split, .half = !o->live_dtype || !strcmp(o->live_dtype, "float16")};
  TRY(comm_agree(c, mem_new(&t->items, list->n, sizeof *t->items)));
  while (t->n < (int)list->n) {
    tutor *one = &t->items[t->n];
    one->t = tasks_teacher(work, &list->items[t->n]);
    one->task = tasks_find(work, one->t.task);
    if (one->task < 0)
      THROW(STATUS_BAD_INPUT, "teacher '%s': there is no task '%s'", one->t.name, one->t.task);
    t->n++;
    TRY(open_tutor(one, c, o, taps, d, what == TUTORS_LABEL ? &student->heads[one->task] : NULL));
    one->row_values = head_row_values(&one->s.k.heads[0]);
    if (one->row_values > t->most_values) t->most_values = one->row_values;
    t->work += one->s.k.work;
    t->n_inner += one->s.k.n_inner;
  }
  if (what == TUTORS_INNER) TRY(keep_tapped(t, c));
done:
  return st;
}

void tutors_close(tutors *t) {
  for (int i = 0; t->items && i < t->n; i++) {
    tutor *one = &t->items[i];
    predictor_free(&one->p);
    feed_close(&one->input);
    subject_close(&one->s);
  }
  mem_free(t->items);
  *t = (tutors){0};
}

static status make_ready(tutor *t, int threads) {
  status st = predictor_new(&t->p, &t->s.k, t->s.block, predict_batch_rows(&t->s.k), threads);
  return st ? st : predictor_see(t->p, &t->augment);
}

status tutors_prepare(tutors *t, comm *c, const mpistill_train_options *o, dataset *d, const bool *held) {
  status st = STATUS_OK;
  const split *sp;
  TRY(dataset_split(d, t->split, &sp));
  for (int i = 0; i < t->n; i++) {
    tutor *one = &t->items[i];
    if (!one->s.m) continue;
    TRY(feed_open(&one->input, &one->s.k, d, sp));
    one->input.augment = &one->augment;
    TRY(comm_agree(c, !held || held[i] ? make_ready(one, stage_threads(o->threads)) : STATUS_OK));
  }
done:
  return st;
}

int tutors_find_inner(const tutor *t, const char *name) {
  for (int i = 0; i < t->s.k.n_inner; i++)
    if (!strcmp(t->s.k.g->values[t->s.k.inner[i]].name, name)) return i;
  return -1;
}

int64_t tutors_inner_values(const tutor *t, int place) {
  int64_t values = 1;
  for (int d = 1; d < t->inner[place].rank; d++) values *= t->inner[place].dims[d];
  return values;
}

typedef struct numbers { /* that a teacher gave, for rows seen[...] */
  const tutor *t;
  const int64_t *seen;
  const char *tensor; /* NULL: its logits */
  int64_t row_values;
} numbers;

static status refuse_number(const numbers *x, int64_t at, float value, const char *why) {
  const char *tensor = x->tensor;
  return status_set(STATUS_BAD_INPUT, "teacher '%s', row %lld%s%s%s: %g %s", x->t->t.name,
                    (long long)(x->seen[at / x->row_values] % rows_count(x->t->input.rows[0])),
                    tensor ? ", tensor '" : "", tensor ? tensor : "", tensor ? "'" : "", (double)value, why);
}

/* As a float16 file gives them back. */
static status round_to_half(const numbers *x, float *values, int64_t n) {
  uint16_t half[256];
  for (int64_t at = 0; at < n; at += 256) {
    const int64_t count = n - at < 256 ? n - at : 256;
    ptrdiff_t bad = half_from_float(values + at, half, (size_t)count);
    if (bad >= 0)
      return refuse_number(x, at + bad, values[at + bad],
                           "is too large for float16; give --live-dtype float32");
    half_to_float(half, values + at, (size_t)count);
  }
  return STATUS_OK;
}

/* Of n rows, as the type of a soft-label file gives them back. */
static status as_stored(const tutors *t, const numbers *x, float *values, int64_t n) {
  const int64_t bad = numbers_not_finite(values, n * x->row_values);
  if (bad >= 0) return refuse_number(x, bad, values[bad], "is given; a finite number is expected");
  return t->half ? round_to_half(x, values, n * x->row_values) : STATUS_OK;
}

status tutors_label(tutors *t, int i, const int64_t *seen, int64_t n, float *out, float *const *inner) {
  status st = STATUS_OK;
  tutor *one = &t->items[i];
  const classifier *k = &one->s.k;
  TRY(predictor_rows(one->p, &one->input, seen, n, &out, inner));
  TRY(as_stored(t, &(numbers){one, seen, NULL, one->row_values}, out, n));
  for (int j = 0; inner && j < k->n_inner; j++) {
    const char *name = k->g->values[k->inner[j]].name;
    TRY(as_stored(t, &(numbers){one, seen, name, tutors_inner_values(one, j)}, inner[j], n));
  }
done:
  return st;
}

status tutors_hash(comm *c, const mpistill_train_options *o, tutor_hash **hashes) {
  status st = STATUS_OK;
  const size_t n = o->live_teachers.n, all = n + o->feature_teachers.n;
  TRY(comm_agree(c, mem_new(hashes, all + 1, sizeof **hashes)));
  for (size_t i = 0; i < all; i++)
    TRY(stage_hash_model(c, (i < n ? &o->live_teachers.items[i] : &o->feature_teachers.items[i - n])->model,
                         (*hashes)[i]));
done:
  return st;
}

static status list_teachers(comm *c, const mpistill_teachers *teachers, const tutor_hash *hashes, bool names,
                            json_t *list) {
  status st = STATUS_OK;
  char *text = NULL;
  for (size_t i = 0; i < teachers->n; i++) {
    const mpistill_teacher *t = &teachers->items[i];
    mem_free(text);
    text = NULL;
    TRY(comm_agree(c, preprocess_text(&t->preprocess, &text)));
    json_t *one =
        json_pack("{s:s, s:s?, s:s?, s:s?, s:s*, s:s*}", "live", hashes[i], "input", t->input, "output",
                  t->output, "preprocess", text, "task", t->task, "class_axis", t->class_axis);
    if (names) json_object_set_new(one, "name", json_string(t->name));
    json_array_append_new(list, one);
  }
done:
  mem_free(text);
  return st;
}

status tutors_json(comm *c, const mpistill_train_options *o, const tutor_hash *hashes, json_t *list) {
  status st = list_teachers(c, &o->live_teachers, hashes, false, list);
  if (!st) json_array_append_new(list, json_string(o->live_dtype ? o->live_dtype : "float16"));
  return st;
}

status tutors_inner_json(comm *c, const mpistill_train_options *o, const tutor_hash *hashes, json_t *list) {
  return list_teachers(c, inner_teachers(o), hashes + (o->feature_teachers.n ? o->live_teachers.n : 0), true,
                       list);
}
