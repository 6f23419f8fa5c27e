#include "stages/weights.h"

#include "base/mem.h"

#include <string.h>

enum { ALIGNMENT = 16 }; /* floats */

struct weights {
  shared *s, *shells; /* floats, then bytes[n]; the models without their numbers, behind each other */
  int n;
  int64_t *offsets; /* [n] floats, -1: not there */
  int64_t *bytes;   /* [n] of the shells, in the window; behind it [n] */
  model_origin *origins;
};

/* What a rank has read, until there is a window for it. */
typedef struct shell {
  unsigned char *bytes;
  size_t n;
} shell;

/* Whether all of them at once are less than one for each rank of the smallest node. */
static status is_less(comm *c, const weights_of *teachers, int n, int64_t *total, bool *less) {
  int64_t largest = 0, ranks[1] = {0};
  *total = 0;
  for (int i = 0; i < n; i++) {
    *total += (teachers[i].n_floats + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (teachers[i].n_floats > largest) largest = teachers[i].n_floats;
  }
  ranks[0] = comm_node_size(c) > 1 && *total < comm_node_size(c) * largest;
  status st = comm_combine_counts(c, ranks, 1);
  *less = *total > 0 && ranks[0] == comm_size(c);
  return st;
}

static status fill(const weights *w, const weights_of *t, int i, shell *out) {
  status st = STATUS_OK;
  model *m = NULL;
  TRY(model_read(&m, t->model));
  if (model_hash(m) != t->hash)
    THROW(STATUS_BAD_INPUT, "%s: was replaced during the run; start again", t->model);
  graph_initial_block(model_graph(m), (float *)shared_data(w->s) + w->offsets[i]);
  model_drop_data(m);
  TRY(model_pack_shell(m, &out->bytes, &out->n));
  w->bytes[i] = (int64_t)out->n;
  w->origins[i] = model_origin_of(m);
done:
  model_free(&m);
  return st;
}

static status fill_mine(const weights *w, const comm *c, const weights_of *teachers, shell *shells) {
  status st = STATUS_OK;
  for (int i = 0; i < w->n && !st; i++)
    if (w->offsets[i] >= 0 && i % comm_node_size(c) == comm_node_rank(c))
      st = fill(w, &teachers[i], i, &shells[i]);
  return st;
}

static int64_t place_of(const weights *w, int i) {
  int64_t at = 0;
  for (int k = 0; k < i; k++) at += w->bytes[k];
  return at;
}

/* Into a window of their own: without one each rank reads the files. */
static status share_shells(weights *w, comm *c, const shell *mine) {
  status st = STATUS_OK;
  int64_t total = place_of(w, w->n);
  if (!total) return st;
  TRY(shared_new(&w->shells, c, (size_t)total));
  if (!shared_is_shared(w->shells)) return st;
  for (int i = 0; i < w->n; i++)
    if (mine[i].n) memcpy((unsigned char *)shared_data(w->shells) + place_of(w, i), mine[i].bytes, mine[i].n);
  TRY(shared_sync(w->shells));
done:
  return st;
}

static status place(weights *w, const weights_of *teachers) {
  int64_t at = 0;
  status st = mem_new(&w->offsets, (size_t)w->n, sizeof *w->offsets);
  for (int i = 0; i < w->n && !st; i++) {
    w->offsets[i] = teachers[i].n_floats ? at : -1;
    at += (teachers[i].n_floats + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
  return st;
}

status weights_new(weights **out, comm *c, const weights_of *teachers, int n) {
  status st = STATUS_OK;
  weights *w = NULL;
  shell *mine = NULL;
  int64_t total, shared_on[1];
  bool less;
  *out = NULL;
  TRY(is_less(c, teachers, n, &total, &less));
  if (!less) return st;
  TRY(comm_agree(c, mem_new(&w, 1, sizeof *w)));
  w->n = n;
  TRY(comm_agree(c, place(w, teachers)));
  TRY(comm_agree(c, mem_new(&mine, (size_t)n, sizeof *mine)));
  TRY(shared_new(&w->s, c,
                 (size_t)total * sizeof(float) + (size_t)n * (sizeof *w->bytes + sizeof *w->origins)));
  shared_on[0] = shared_is_shared(w->s);
  TRY(comm_combine_counts(c, shared_on, 1));
  if (shared_on[0] < comm_size(c)) goto done;
  w->bytes = (int64_t *)((float *)shared_data(w->s) + total);
  w->origins = (model_origin *)(w->bytes + n);
  TRY(comm_agree(c, fill_mine(w, c, teachers, mine)));
  TRY(shared_sync(w->s));
  TRY(share_shells(w, c, mine));
  *out = w;
  w = NULL;
done:
  for (int i = 0; mine && i < n; i++) mem_free(mine[i].bytes);
  mem_free(mine);
  weights_free(&w);
  return st;
}

void weights_free(weights **w) {
  if (!*w) return;
  shared_free(&(*w)->shells);
  shared_free(&(*w)->s);
  mem_free((*w)->offsets);
  mem_free(*w);
  *w = NULL;
}

const float *weights_block(const weights *w, int i) {
  return w && w->offsets[i] >= 0 ? (const float *)shared_data(w->s) + w->offsets[i] : NULL;
}

status weights_model(const weights *w, int i, const char *name, model **out) {
  float *block = (float *)weights_block(w, i);
  *out = NULL;
  if (!block || !w->bytes[i] || !shared_is_shared(w->shells)) return STATUS_OK;
  const unsigned char *shells = shared_data(w->shells);
  return model_parse_shell(out, name, shells + place_of(w, i), (size_t)w->bytes[i], block, &w->origins[i]);
}
