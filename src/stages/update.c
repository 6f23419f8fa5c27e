#include "stages/update.h"

#include "base/mem.h"
#include "base/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* PIECE: floats that a thread takes at a time, whole lines of every array. */
enum { MAX_STATES = 2, PIECE = 1 << 14 };

typedef struct segment { /* floats of the block that are updated alike */
  size_t begin, end;
  bool statistic;
  float momentum; /* statistic */
} segment;

struct updater {
  reducer *r;
  const mpistill_optimizer *options;
  const optimizer_kind *kind;
  double clip_norm;
  int threads;
  size_t n_owned;
  bool any_frozen;
  int n_segments;
  segment *segments;
  float *state[MAX_STATES];
  float *kept[MAX_STATES + 1]; /* the states, then the parameters */
  double *squares;             /* sums of squares by piece of REDUCE_SLICE floats, of the whole block */
  size_t n_squares;
};

static float statistic_momentum(const graph *g, int value) {
  for (int i = 0; i < g->n_nodes; i++)
    for (int j = 0; j < g->nodes[i].n_inputs; j++)
      if (g->nodes[i].inputs[j] == value) return node_float(&g->nodes[i], "momentum", 0.9f);
  return 0.9f;
}

static int by_begin(const void *a, const void *b) {
  const segment *x = a, *y = b;
  return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Neighbouring parameters (and the gaps between them, which stay zero) become one run, so that one call
 * serves them all. What is frozen lies between them as well: then only what has no gap between is joined. */
static void merge_segments(updater *u) {
  int n = 0;
  for (int i = 0; i < u->n_segments; i++) {
    segment *s = &u->segments[i];
    bool near = n && (!u->any_frozen || u->segments[n - 1].end == s->begin);
    if (near && !s->statistic && !u->segments[n - 1].statistic)
      u->segments[n - 1].end = s->end;
    else
      u->segments[n++] = *s;
  }
  u->n_segments = n;
}

static status find_segments(updater *u, const graph *g, const bool *frozen, size_t n_more) {
  status st = mem_new(&u->segments, (size_t)g->n_values + 1, sizeof *u->segments);
  for (int v = 0; !st && v < g->n_values; v++) {
    const value *x = &g->values[v];
    if (x->kind != VALUE_PARAMETER && x->kind != VALUE_STATISTIC) continue;
    if (frozen && frozen[v]) {
      u->any_frozen = true;
      continue;
    }
    segment s = {.begin = (size_t)x->offset,
                 .end = (size_t)(x->offset + shape_count(&x->shape)),
                 .statistic = x->kind == VALUE_STATISTIC};
    if (s.statistic) s.momentum = statistic_momentum(g, v);
    u->segments[u->n_segments++] = s;
  }
  if (st) return st;
  if (n_more)
    u->segments[u->n_segments++] = (segment){.begin = (size_t)g->n_block, .end = (size_t)g->n_block + n_more};
  qsort(u->segments, (size_t)u->n_segments, sizeof *u->segments, by_begin);
  merge_segments(u);
  return st;
}

status updater_new(updater **out, const graph *g, const bool *frozen, size_t n_more, reducer *r,
                   const mpistill_optimizer *o, double clip_norm, int threads) {
  status st = STATUS_OK;
  updater *u;
  TRY(mem_new(&u, 1, sizeof *u));
  u->r = r;
  u->options = o;
  u->kind = optimizer_find(o->kind);
  u->clip_norm = clip_norm;
  u->threads = threads;
  u->n_owned = reducer_owned(r);
  TRY(find_segments(u, g, frozen, n_more));
  for (int i = 0; i < u->kind->n_states; i++) TRY(mem_new(&u->state[i], u->n_owned, sizeof(float)));
  for (int i = 0; i <= MAX_STATES; i++)
    if (i < u->kind->n_states || i == MAX_STATES) TRY(mem_new(&u->kept[i], u->n_owned, sizeof(float)));
  u->n_squares = ((size_t)g->n_block + n_more + REDUCE_SLICE - 1) / REDUCE_SLICE;
  TRY(mem_new(&u->squares, u->n_squares, sizeof *u->squares));
done:
  if (st) updater_free(&u);
  *out = u;
  return st;
}

void updater_free(updater **u) {
  if (!*u) return;
  for (int i = 0; i < MAX_STATES; i++) mem_free((*u)->state[i]);
  for (int i = 0; i <= MAX_STATES; i++) mem_free((*u)->kept[i]);
  mem_free((*u)->segments);
  mem_free((*u)->squares);
  mem_free(*u);
  *u = NULL;
}

typedef struct run { /* of a segment, within one part that this rank owns */
  const segment *s;
  const float *gradient;
  size_t begin, end, at; /* at: its place in what this rank owns */
} run;

/* Calls `visit` for each. */
static void for_each_run(updater *u, void (*visit)(updater *u, const run *x, void *data), void *data) {
  size_t at = 0, begin, end;
  for (int p = 0; p < reducer_n_parts(u->r); p++, at += end - begin) {
    const float *gradient = reducer_part(u->r, p, &begin, &end);
    for (int i = 0; i < u->n_segments; i++) {
      run x = {.s = &u->segments[i], .begin = u->segments[i].begin, .end = u->segments[i].end};
      if (x.begin < begin) x.begin = begin;
      if (x.end > end) x.end = end;
      if (x.begin >= x.end) continue;
      x.gradient = gradient + (x.begin - begin);
      x.at = at + (x.begin - begin);
      visit(u, &x, data);
    }
  }
}

static void add_squares(updater *u, const run *x, void *data) {
  (void)data;
  if (x->s->statistic) return;
#pragma omp parallel for num_threads(u->threads) schedule(static) if (u->threads > 1)
  for (size_t i = x->begin / REDUCE_SLICE; i <= (x->end - 1) / REDUCE_SLICE; i++) {
    const size_t from = i * REDUCE_SLICE > x->begin ? i * REDUCE_SLICE : x->begin;
    const size_t to = (i + 1) * REDUCE_SLICE < x->end ? (i + 1) * REDUCE_SLICE : x->end;
    for (size_t j = from; j < to; j++) {
      const double g = x->gradient[j - x->begin];
      u->squares[i] += g * g;
    }
  }
}

/* Parts begin at multiples of REDUCE_SLICE, so each piece belongs to one rank and the total's bits do not
 * depend on how many there are. */
static status gradient_norm(updater *u, comm *c, double *norm) {
  memset(u->squares, 0, u->n_squares * sizeof *u->squares);
  for_each_run(u, add_squares, NULL);
  status st = comm_combine(c, u->squares, u->n_squares);
  double sum = 0;
  for (size_t i = 0; i < u->n_squares; i++) sum += u->squares[i];
  *norm = sqrt(sum);
  return st;
}

typedef struct change {
  double learning_rate;
  int64_t step;
  float scale;
} change;

static void update_piece(updater *u, const run *x, const change *how, size_t from, size_t n) {
  const float *gradient = x->gradient + from;
  float *parameters = reducer_parameters(u->r) + x->begin + from, *state[MAX_STATES] = {0};
  if (x->s->statistic) {
    for (size_t j = 0; j < n; j++)
      parameters[j] = x->s->momentum * parameters[j] + (1.0f - x->s->momentum) * gradient[j];
    return;
  }
  for (int k = 0; k < u->kind->n_states; k++) state[k] = u->state[k] + x->at + from;
  u->kind->update(u->options, how->learning_rate, how->step, how->scale, n, parameters, gradient, state);
}

static void update_run(updater *u, const run *x, void *data) {
  const size_t n = x->end - x->begin;
#pragma omp parallel num_threads(u->threads) if (u->threads > 1 && n > PIECE)
  {
    const profile_phase before = profile_enter(PROFILE_UPDATE);
#pragma omp for schedule(static)
    for (size_t from = 0; from < n; from += PIECE)
      update_piece(u, x, data, from, n - from < PIECE ? n - from : PIECE);
    profile_enter(before);
  }
}

status updater_step(updater *u, comm *c, double learning_rate, int64_t step, double *norm) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_UPDATE);
  change how = {learning_rate, step, 1.0f};
  *norm = 0;
  if (u->clip_norm > 0) {
    TRY(gradient_norm(u, c, norm));
    if (*norm > u->clip_norm) how.scale = (float)(u->clip_norm / *norm);
  }
  for_each_run(u, update_run, &how);
done:
  profile_enter(before);
  return st;
}

/* Between this rank's parameters and a vector of what it owns. */
static void copy_parameters(updater *u, float *owned, bool back) {
  size_t begin, end;
  for (int p = 0; p < reducer_n_parts(u->r); p++, owned += end - begin) {
    reducer_part(u->r, p, &begin, &end);
    float *parameters = reducer_parameters(u->r) + begin;
    memcpy(back ? parameters : owned, back ? owned : parameters, (end - begin) * sizeof(float));
  }
}

void updater_keep(updater *u) {
  for (int i = 0; i < u->kind->n_states; i++) memcpy(u->kept[i], u->state[i], u->n_owned * sizeof(float));
  copy_parameters(u, u->kept[MAX_STATES], false);
}

void updater_restore(updater *u) {
  for (int i = 0; i < u->kind->n_states; i++) memcpy(u->state[i], u->kept[i], u->n_owned * sizeof(float));
  copy_parameters(u, u->kept[MAX_STATES], true);
}

void updater_swap(updater *u) {
  size_t begin, end;
  float *kept = u->kept[MAX_STATES];
  for (int p = 0; p < reducer_n_parts(u->r); p++, kept += end - begin) {
    reducer_part(u->r, p, &begin, &end);
    float *parameters = reducer_parameters(u->r) + begin;
    for (size_t i = 0; i < end - begin; i++) {
      const float x = parameters[i];
      parameters[i] = kept[i];
      kept[i] = x;
    }
  }
}

int updater_n_vectors(const updater *u) {
  return 2 * (u->kind->n_states + 1);
}

const char *updater_vector(updater *u, int i, float **owned) {
  static const char *const names[2][MAX_STATES + 1] = {{"parameters", "state0", "state1"},
                                                       {"kept_parameters", "kept_state0", "kept_state1"}};
  int n = u->kind->n_states + 1;
  bool kept = i >= n;
  int state = i % n - 1; /* -1: the parameters */
  if (kept)
    *owned = state < 0 ? u->kept[MAX_STATES] : u->kept[state];
  else
    *owned = state < 0 ? NULL : u->state[state];
  return names[kept][state + 1];
}

status updater_check(const updater *u) {
  size_t begin, end;
  for (int p = 0; p < reducer_n_parts(u->r); p++) {
    reducer_part(u->r, p, &begin, &end);
    const float *parameters = reducer_parameters(u->r);
    for (size_t i = begin; i < end; i++)
      if (!isfinite(parameters[i]))
        return status_set(
            STATUS_FAILED,
            "training left a parameter that is not finite; lower --learning-rate or set --clip-norm");
  }
  return STATUS_OK;
}
