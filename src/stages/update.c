#include "stages/update.h"

#include "base/mem.h"
#include "base/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STATES = 2 };

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
  size_t begin, end;
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
                   const mpistill_optimizer *o, double clip_norm) {
  status st = STATUS_OK;
  updater *u;
  TRY(mem_new(&u, 1, sizeof *u));
  u->r = r;
  u->options = o;
  u->kind = optimizer_find(o->kind);
  u->clip_norm = clip_norm;
  reducer_slice(r, &u->begin, &u->end);
  TRY(find_segments(u, g, frozen, n_more));
  for (int i = 0; i < u->kind->n_states; i++) TRY(mem_new(&u->state[i], u->end - u->begin, sizeof(float)));
  for (int i = 0; i <= MAX_STATES; i++)
    if (i < u->kind->n_states || i == MAX_STATES) TRY(mem_new(&u->kept[i], u->end - u->begin, sizeof(float)));
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

/* The part of a segment that lies in this rank's slice; false when there is none. */
static bool clip_segment(const updater *u, const segment *s, size_t *begin, size_t *end) {
  *begin = s->begin > u->begin ? s->begin : u->begin;
  *end = s->end < u->end ? s->end : u->end;
  return *begin < *end;
}

/* Slices begin at multiples of REDUCE_SLICE, so each piece belongs to one rank and the total's bits do not
 * depend on how many there are. */
static status gradient_norm(updater *u, comm *c, const float *gradient, double *norm) {
  memset(u->squares, 0, u->n_squares * sizeof *u->squares);
  for (int i = 0; i < u->n_segments; i++) {
    size_t begin, end;
    if (u->segments[i].statistic || !clip_segment(u, &u->segments[i], &begin, &end)) continue;
    for (size_t j = begin; j < end; j++) {
      double g = gradient[j - u->begin];
      u->squares[j / REDUCE_SLICE] += g * g;
    }
  }
  status st = comm_combine(c, u->squares, u->n_squares);
  double sum = 0;
  for (size_t i = 0; i < u->n_squares; i++) sum += u->squares[i];
  *norm = sqrt(sum);
  return st;
}

status updater_step(updater *u, comm *c, const float *gradient, double learning_rate, int64_t step,
                    double *norm) {
  status st = STATUS_OK;
  float scale = 1.0f, *parameters = reducer_parameters(u->r);
  const profile_phase before = profile_enter(PROFILE_UPDATE);
  *norm = 0;
  if (u->clip_norm > 0) {
    TRY(gradient_norm(u, c, gradient, norm));
    if (*norm > u->clip_norm) scale = (float)(u->clip_norm / *norm);
  }
  for (int i = 0; i < u->n_segments; i++) {
    const segment *s = &u->segments[i];
    size_t begin, end;
    if (!clip_segment(u, s, &begin, &end)) continue;
    const float *g = gradient + (begin - u->begin);
    if (s->statistic) {
      for (size_t j = 0; j < end - begin; j++)
        parameters[begin + j] = s->momentum * parameters[begin + j] + (1.0f - s->momentum) * g[j];
      continue;
    }
    float *state[MAX_STATES] = {0};
    for (int k = 0; k < u->kind->n_states; k++) state[k] = u->state[k] + (begin - u->begin);
    u->kind->update(u->options, learning_rate, step, scale, end - begin, parameters + begin, g, state);
  }
done:
  profile_enter(before);
  return st;
}

void updater_keep(updater *u) {
  size_t bytes = (u->end - u->begin) * sizeof(float);
  for (int i = 0; i < u->kind->n_states; i++) memcpy(u->kept[i], u->state[i], bytes);
  memcpy(u->kept[MAX_STATES], reducer_parameters(u->r) + u->begin, bytes);
}

void updater_restore(updater *u) {
  size_t bytes = (u->end - u->begin) * sizeof(float);
  for (int i = 0; i < u->kind->n_states; i++) memcpy(u->state[i], u->kept[i], bytes);
  memcpy(reducer_parameters(u->r) + u->begin, u->kept[MAX_STATES], bytes);
}

int updater_n_vectors(const updater *u) {
  return 2 * (u->kind->n_states + 1);
}

const char *updater_vector(updater *u, int i, float **slice) {
  static const char *const names[2][MAX_STATES + 1] = {{"parameters", "state0", "state1"},
                                                       {"kept_parameters", "kept_state0", "kept_state1"}};
  int n = u->kind->n_states + 1;
  bool kept = i >= n;
  int state = i % n - 1; /* -1: the parameters */
  if (kept)
    *slice = state < 0 ? u->kept[MAX_STATES] : u->kept[state];
  else
    *slice = state < 0 ? reducer_parameters(u->r) + u->begin : u->state[state];
  return names[kept][state + 1];
}

status updater_check(const updater *u) {
  const float *parameters = reducer_parameters(u->r);
  for (size_t i = u->begin; i < u->end; i++)
    if (!isfinite(parameters[i]))
      return status_set(
          STATUS_FAILED,
          "training left a parameter that is not finite; lower --learning-rate or set --clip-norm");
  return STATUS_OK;
}
