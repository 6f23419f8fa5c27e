#include "stages/run_taps.h"

#include "base/mem.h"
#include "base/options.h"
#include "stages/features.h"

status run_taps(const mpistill_recipe *r, const mpistill_teacher *t, mpistill_strings *taps) {
  status st = STATUS_OK;
  TRY(features_tensors(&r->distill.features, t->name, taps));
  if (r->live) goto done; /* nothing is stored */
  TRY(mem_resize(&taps->items, taps->n, taps->n + t->taps.n, sizeof *taps->items));
  for (size_t i = 0; i < t->taps.n; i++) {
    TRY(mem_string(&taps->items[taps->n], t->taps.items[i]));
    taps->n++;
  }
done:
  return st;
}

status run_check_tap(classifier *k, const char *name) {
  int place;
  shape s;
  return classifier_tap(k, name, &place, &s);
}

status run_teachers(const mpistill_recipe *r, const tasks *work, bool with, mpistill_teachers *out) {
  status st = STATUS_OK;
  TRY(mem_new(&out->items, r->teachers.n, sizeof *out->items));
  for (; out->n < r->teachers.n; out->n++) {
    mpistill_teacher *t = &out->items[out->n];
    *t = tasks_teacher(work, &r->teachers.items[out->n]);
    t->taps = (mpistill_strings){0};
    if (!with) t->data = NULL; /* measured once */
    if (with && t->model) TRY(run_taps(r, &r->teachers.items[out->n], &t->taps));
  }
done:
  return st;
}

void run_teachers_free(mpistill_teachers *t) {
  for (size_t i = 0; t->items && i < t->n; i++) strings_free(&t->items[i].taps);
  mem_free(t->items);
}

status run_check_student(const mpistill_recipe *r, classifier *k) {
  status st = STATUS_OK;
  mpistill_strings names = {0};
  TRY(features_tensors(&r->distill.features, NULL, &names));
  for (size_t i = 0; i < names.n; i++) TRY(run_check_tap(k, names.items[i]));
done:
  strings_free(&names);
  return st;
}
