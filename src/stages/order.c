#include "stages/order.h"

#include "base/mem.h"
#include "base/rng.h"

#include <string.h>

/* An epoch's visits. */
typedef struct visits {
  int64_t epoch;   /* -1: none yet */
  int64_t *window; /* [n_windows] */
  int64_t *start;  /* [n_windows + 1] the first place of each */
} visits;

/* A window's rows in their order. */
typedef struct shuffled {
  int64_t g; /* -1: none yet */
  int64_t *rows;
} shuffled;

struct order {
  uint64_t seed;
  int64_t n, n_windows;
  visits epochs[2];    /* by epoch modulo 2 */
  shuffled windows[2]; /* by visit modulo 2; without a window only the first */
  int64_t *joined;     /* [most] what lies in two of them */
};

status order_new(order **out, uint64_t seed, int64_t n, int64_t window, int64_t most) {
  status st = STATUS_OK;
  order *o = NULL;
  TRY(mem_new(out, 1, sizeof **out));
  o = *out;
  *o = (order){.seed = seed, .n = n, .n_windows = window > 0 && n / window > 1 ? n / window : 1};
  for (int i = 0; i < 2; i++) {
    o->epochs[i].epoch = o->windows[i].g = -1;
    TRY(mem_new(&o->epochs[i].window, (size_t)o->n_windows, sizeof(int64_t)));
    TRY(mem_new(&o->epochs[i].start, (size_t)o->n_windows + 1, sizeof(int64_t)));
    if (i < o->n_windows) TRY(mem_new(&o->windows[i].rows, (size_t)order_longest(o), sizeof(int64_t)));
  }
  if (o->n_windows > 1) TRY(mem_new(&o->joined, (size_t)most, sizeof(int64_t)));
done:
  if (st) order_free(out);
  return st;
}

void order_free(order **o) {
  if (!*o) return;
  for (int i = 0; i < 2; i++) {
    mem_free((*o)->epochs[i].window);
    mem_free((*o)->epochs[i].start);
    mem_free((*o)->windows[i].rows);
  }
  mem_free((*o)->joined);
  mem_free(*o);
  *o = NULL;
}

static int64_t cut(const order *o, int64_t window) {
  return (int64_t)((__int128)window * o->n / o->n_windows);
}

static const visits *visits_of(order *o, int64_t epoch) {
  visits *v = &o->epochs[epoch % 2];
  if (v->epoch == epoch) return v;
  rng_permutation(o->seed, RNG_WINDOWS, (uint64_t)epoch, o->n_windows, v->window);
  for (int64_t i = 0; i < o->n_windows; i++)
    v->start[i + 1] = v->start[i] + cut(o, v->window[i] + 1) - cut(o, v->window[i]);
  v->epoch = epoch;
  return v;
}

int64_t order_n_windows(const order *o) {
  return o->n_windows;
}

int64_t order_longest(const order *o) {
  return (o->n + o->n_windows - 1) / o->n_windows;
}

int64_t order_window_at(order *o, int64_t epoch, int64_t place) {
  const visits *v = visits_of(o, epoch);
  int64_t i = place / order_longest(o); /* all before it are at most that long */
  while (place >= v->start[i + 1]) i++;
  return epoch * o->n_windows + i;
}

void order_window(order *o, int64_t g, int64_t *first, int64_t *rows) {
  const int64_t window = visits_of(o, g / o->n_windows)->window[g % o->n_windows];
  *first = cut(o, window);
  *rows = cut(o, window + 1) - *first;
}

static const int64_t *rows_of(order *o, int64_t g) {
  shuffled *w = &o->windows[o->n_windows > 1 ? g % 2 : 0];
  int64_t first, rows;
  if (w->g == g) return w->rows;
  order_window(o, g, &first, &rows);
  rng_shuffle(o->seed, RNG_ORDER, (uint64_t)(g / o->n_windows), first, rows, w->rows);
  w->g = g;
  return w->rows;
}

const int64_t *order_rows(order *o, int64_t epoch, int64_t from, int64_t n) {
  const visits *v = visits_of(o, epoch);
  const int64_t g = order_window_at(o, epoch, from), i = g % o->n_windows;
  const int64_t here = v->start[i + 1] - from;
  const int64_t *rows = rows_of(o, g) + (from - v->start[i]);
  if (n <= here) return rows;
  memcpy(o->joined, rows, (size_t)here * sizeof *rows);
  memcpy(o->joined + here, rows_of(o, g + 1), (size_t)(n - here) * sizeof *rows);
  return o->joined;
}
