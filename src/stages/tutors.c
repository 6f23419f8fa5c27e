#include "stages/tutors.h"

#include "base/half.h"
#include "base/mem.h"
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

static status open_tutor(tutor *t, comm *c, const mpistill_train_options *o, dataset *d,
                         const head *student) {
  status st = STATUS_OK;
  const head_options head = teacher_head(&t->t);
  const model_source from = source_of(&t->t, &head);
  TRY(subject_open(&t->s, c, &from, d, o->split, t->t.input));
  stage_tell_mode(comm_rank(c) == 0 && !o->out.no_result, t->s.m, false);
  TRY(subject_order(&t->s, c, d));
  model_drop_data(t->s.m); /* the block holds it */
  st = check_tutor(t, student);
  if (!st) st = views_make(&t->augment, &o->augment, &t->s.k, o->seed);
  TRY(comm_agree(c, st));
done:
  return st;
}

status tutors_open(tutors *t, comm *c, const mpistill_train_options *o, dataset *d, const tasks *work,
                   const classifier *student) {
  status st = STATUS_OK;
  *t = (tutors){.split = o->split, .half = !o->live_dtype || !strcmp(o->live_dtype, "float16")};
  TRY(comm_agree(c, mem_new(&t->items, o->live_teachers.n, sizeof *t->items)));
  while (t->n < (int)o->live_teachers.n) {
    tutor *one = &t->items[t->n];
    one->t = tasks_teacher(work, &o->live_teachers.items[t->n]);
    one->task = tasks_find(work, one->t.task);
    if (one->task < 0)
      THROW(STATUS_BAD_INPUT, "teacher '%s': there is no task '%s'", one->t.name, one->t.task);
    const head *h = &student->heads[one->task];
    one->row_values = head_row_values(h);
    if (one->row_values > t->most_values) t->most_values = one->row_values;
    t->n++;
    TRY(open_tutor(one, c, o, d, h));
    t->work += one->s.k.work;
  }
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
    TRY(feed_open(&one->input, &one->s.k, d, sp));
    one->input.augment = &one->augment;
    TRY(comm_agree(c, !held || held[i] ? make_ready(one, stage_threads(o->threads)) : STATUS_OK));
  }
done:
  return st;
}

/* As a float16 file gives them back. */
static status round_to_half(const tutor *t, const int64_t *seen, float *x, int64_t n) {
  uint16_t half[256];
  for (int64_t at = 0; at < n; at += 256) {
    const int64_t count = n - at < 256 ? n - at : 256;
    ptrdiff_t bad = half_from_float(x + at, half, (size_t)count);
    if (bad >= 0)
      return status_set(
          STATUS_BAD_INPUT, "teacher '%s', row %lld: %g is too large for float16; give --live-dtype float32",
          t->t.name, (long long)(seen[(at + bad) / t->row_values] % rows_count(t->input.rows[0])),
          (double)x[at + bad]);
    half_to_float(half, x + at, (size_t)count);
  }
  return STATUS_OK;
}

status tutors_label(tutors *t, int i, const int64_t *seen, int64_t n, float *out) {
  tutor *one = &t->items[i];
  const int64_t values = n * one->row_values;
  status st = predictor_rows(one->p, &one->input, seen, n, &out);
  if (st) return st;
  const int64_t bad = numbers_not_finite(out, values);
  if (bad >= 0)
    return status_set(STATUS_BAD_INPUT, "teacher '%s', row %lld: gives %g; a finite number is expected",
                      one->t.name, (long long)(seen[bad / one->row_values] % rows_count(one->input.rows[0])),
                      (double)out[bad]);
  return t->half ? round_to_half(one, seen, out, values) : STATUS_OK;
}

status tutors_json(comm *c, const mpistill_train_options *o, json_t *list) {
  status st = STATUS_OK;
  char *text = NULL;
  for (size_t i = 0; i < o->live_teachers.n; i++) {
    const mpistill_teacher *t = &o->live_teachers.items[i];
    char hash[HASH_TEXT_BYTES];
    mem_free(text);
    text = NULL;
    TRY(stage_hash_file(c, t->model, hash));
    TRY(comm_agree(c, preprocess_text(&t->preprocess, &text)));
    json_array_append_new(list, json_pack("{s:s, s:s?, s:s?, s:s?, s:s*, s:s*}", "live", hash, "input",
                                          t->input, "output", t->output, "preprocess", text, "task", t->task,
                                          "class_axis", t->class_axis));
  }
  json_array_append_new(list, json_string(o->live_dtype ? o->live_dtype : "float16"));
done:
  mem_free(text);
  return st;
}
