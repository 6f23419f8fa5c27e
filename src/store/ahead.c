#include "store/ahead.h"

#include "base/mem.h"
#include "store/dataset_private.h"
#include "store/softlabels_private.h"

#include <pthread.h>
#include <signal.h>

typedef struct source {
  column *q; /* borrowed */
  int64_t stride;
} source;

struct ahead {
  comm *c;
  int64_t most;
  source *sources;
  size_t n;
  int64_t there[2]; /* the window in each slot, -1: none */
  int64_t newest;   /* started last */
  /* Of that one: */
  int64_t first, rows, view;
  bool pending, running;
  pthread_t thread;
  status result;
  char *message;
};

status ahead_new(ahead **out, comm *c, int64_t most) {
  status st = comm_agree(c, mem_new(out, 1, sizeof **out));
  if (!st) **out = (ahead){.c = c, .most = most, .there = {-1, -1}, .newest = -1};
  return st;
}

void ahead_free(ahead **a) {
  if (!*a) return;
  ahead_rest(*a);
  mem_free((*a)->message);
  mem_free((*a)->sources);
  mem_free(*a);
  *a = NULL;
}

static status add(ahead *a, column *q, int64_t stride) {
  status st = STATUS_OK;
  if (q->rows || q->ahead) return st;
  TRY(comm_agree(a->c, mem_resize(&a->sources, a->n, a->n + 1, sizeof *a->sources)));
  TRY(column_make_windows(q, a->most));
  a->sources[a->n++] = (source){q, stride};
done:
  return st;
}

status rows_ahead(rows *r, ahead *a) {
  return add(a, rows_column(r), 0);
}

status softlabels_ahead(softlabels *s, ahead *a, int64_t stride) {
  status st = STATUS_OK;
  for (int i = 0; i < s->n_logit_parts; i++) TRY(add(a, &s->columns[i], stride));
done:
  return st;
}

status softlabels_feature_ahead(softlabels *s, int feature, ahead *a, int64_t stride) {
  return add(a, &s->columns[s->n_logit_parts + feature], stride);
}

bool ahead_is_used(const ahead *a) {
  return a->n > 0;
}

/* ---- one window ---- */

static void *read_window(void *data) {
  ahead *a = data;
  a->result = STATUS_OK;
  for (size_t i = 0; i < a->n && !a->result; i++)
    a->result = column_fill_window(a->sources[i].q, (int)(a->newest % 2),
                                   a->first + a->view * a->sources[i].stride, a->rows);
  /* A message belongs to its thread. */
  if (a->result && mem_string(&a->message, status_message())) a->message = NULL;
  return NULL;
}

static void show_window(ahead *a, int64_t rows) {
  const int64_t slot = a->newest % 2;
  for (size_t i = 0; i < a->n; i++) {
    column_windows *w = a->sources[i].q->ahead;
    w->first[slot] = a->first + a->view * a->sources[i].stride;
    w->rows[slot] = rows;
  }
  a->there[slot] = rows ? a->newest : -1;
}

void ahead_start(ahead *a, int64_t g, int64_t first, int64_t n, int64_t view) {
  sigset_t all, old;
  a->newest = g;
  a->first = first;
  a->rows = n;
  a->view = view;
  show_window(a, 0);
  a->pending = true;
  sigfillset(&all); /* signals are the main thread's */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  a->running = !pthread_create(&a->thread, NULL, read_window, a);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (!a->running) read_window(a); /* no thread is to be had: at once */
}

int64_t ahead_newest(const ahead *a) {
  return a->newest;
}

bool ahead_has(const ahead *a, int64_t g) {
  return a->there[g % 2] == g;
}

void ahead_rest(ahead *a) {
  if (!a || !a->running) return;
  pthread_join(a->thread, NULL);
  a->running = false;
}

status ahead_wait(ahead *a) {
  status st = STATUS_OK;
  if (!a->pending) return st;
  ahead_rest(a);
  a->pending = false;
  if (a->result) st = status_set(a->result, "%s", a->message ? a->message : "out of memory");
  TRY(comm_agree(a->c, st));
  for (size_t i = 0; i < a->n; i++) TRY(shared_sync(a->sources[i].q->ahead->memory));
  show_window(a, a->rows);
done:
  return st;
}
