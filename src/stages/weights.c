#include "stages/weights.h"

#include "base/mem.h"
#include "onnx/model.h"

enum { ALIGNMENT = 16 }; /* floats */

struct weights {
  shared *s;
  int n;
  int64_t *offsets; /* [n] floats, -1: not there */
};

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

static status fill(const weights *w, const weights_of *t, int i) {
  status st = STATUS_OK;
  model *m = NULL;
  TRY(model_read(&m, t->model));
  if (model_hash(m) != t->hash)
    THROW(STATUS_BAD_INPUT, "%s: was replaced during the run; start again", t->model);
  graph_initial_block(model_graph(m), (float *)shared_data(w->s) + w->offsets[i]);
done:
  model_free(&m);
  return st;
}

static status fill_mine(const weights *w, const comm *c, const weights_of *teachers) {
  status st = STATUS_OK;
  for (int i = 0; i < w->n && !st; i++)
    if (w->offsets[i] >= 0 && i % comm_node_size(c) == comm_node_rank(c)) st = fill(w, &teachers[i], i);
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
  int64_t total, shared_on[1];
  bool less;
  *out = NULL;
  TRY(is_less(c, teachers, n, &total, &less));
  if (!less) return st;
  TRY(comm_agree(c, mem_new(&w, 1, sizeof *w)));
  w->n = n;
  TRY(comm_agree(c, place(w, teachers)));
  TRY(shared_new(&w->s, c, (size_t)total * sizeof(float)));
  shared_on[0] = shared_is_shared(w->s);
  TRY(comm_combine_counts(c, shared_on, 1));
  if (shared_on[0] < comm_size(c)) goto done;
  TRY(comm_agree(c, fill_mine(w, c, teachers)));
  TRY(shared_sync(w->s));
  *out = w;
  w = NULL;
done:
  weights_free(&w);
  return st;
}

void weights_free(weights **w) {
  if (!*w) return;
  shared_free(&(*w)->s);
  mem_free((*w)->offsets);
  mem_free(*w);
  *w = NULL;
}

const float *weights_block(const weights *w, int i) {
  return w && w->offsets[i] >= 0 ? (const float *)shared_data(w->s) + w->offsets[i] : NULL;
}
