/* Rows that do not fit into memory, read by the window. */
#include "stages/trainer_private.h"

#include "base/profile.h"

static status add_studies(trainer *t, int64_t stride) {
  status st = STATUS_OK;
  for (int i = 0; i < t->n_studies; i++) {
    const study *s = &t->studies[i];
    if (s->labels.rows) TRY(rows_ahead(s->labels.rows, t->ahead));
    for (int k = 0; k < sources_n_files(&s->t->soft); k++)
      TRY(softlabels_ahead(s->t->soft.files[k], t->ahead, stride));
  }
done:
  return st;
}

static bool in_memory(const trainer *t) {
  for (int i = 0; i < t->k->n_inputs; i++)
    if (!rows_in_memory(t->inputs.rows[i])) return false;
  return true;
}

status trainer_read_ahead(trainer *t) {
  status st = STATUS_OK;
  const int64_t stride = t->seen->stored ? t->n : 0;
  if (!t->o->shuffle_window)
    say_warning(comm_rank(t->c) == 0 && !in_memory(t),
                "%s does not fit into memory and is read row by row; --shuffle-window ROWS has so many rows "
                "read together, before they are needed (and changes the order of the rows)",
                t->o->dataset);
  if (order_n_windows(t->order) == 1) return st;
  TRY(ahead_new(&t->ahead, t->c, order_longest(t->order)));
  for (int i = 0; i < t->k->n_inputs; i++) TRY(rows_ahead(t->inputs.rows[i], t->ahead));
  TRY(add_studies(t, stride));
  for (int i = 0; i < t->inner->n_tensors; i++)
    TRY(softlabels_feature_ahead(t->inner->tensors[i].file, t->inner->tensors[i].feature, t->ahead, stride));
  if (!ahead_is_used(t->ahead)) ahead_free(&t->ahead);
done:
  return st;
}

static void start(trainer *t, int64_t g) {
  int64_t first, rows, epoch = g / order_n_windows(t->order);
  order_window(t->order, g, &first, &rows);
  ahead_start(t->ahead, g, first, rows, t->seen->stored ? epoch % t->seen->stored : 0);
}

/* Window g, whose turn it is. It is not on its way at the start, and where an epoch begins again. */
static status require(trainer *t, int64_t g) {
  status st = STATUS_OK;
  if (ahead_has(t->ahead, g)) return st;
  TRY(ahead_wait(t->ahead));
  if (ahead_has(t->ahead, g)) return st;
  start(t, g);
  TRY(ahead_wait(t->ahead));
done:
  return st;
}

status trainer_reach(trainer *t, int64_t from, int64_t n) {
  status st = STATUS_OK;
  if (!t->ahead) return st;
  const double at = clock_seconds();
  const profile_phase before = profile_enter(PROFILE_READ);
  const int64_t a = order_window_at(t->order, t->epoch, from);
  const int64_t b = order_window_at(t->order, t->epoch, from + n - 1);
  TRY(require(t, a));
  if (b != a) TRY(require(t, b));
  /* All ranks have computed the last step of the window before: its place is free. */
  if (a == b && ahead_newest(t->ahead) != a + 1 && a + 1 < t->o->epochs * order_n_windows(t->order)) {
    TRY(ahead_wait(t->ahead));
    start(t, a + 1);
  }
done:
  profile_enter(before);
  t->now.read_s += clock_seconds() - at;
  return st;
}
