#include "comm/layout.h"

#include "comm/reduce.h"

#include "base/mem.h"

#include <stdlib.h>

enum { LINE_FLOATS = 16, LEAST_WAVE = 8 };

/* The end of the range that begins at `from`. Within what keeps every later rank at `most` shards or fewer,
 * and above none, the cut that lies highest in the tree. */
static int next_cut(int n_shards, int size, int rank, int from) {
  if (size >= n_shards) return rank < n_shards ? rank + 1 : n_shards;
  if (rank == size - 1) return n_shards;
  int most = (n_shards + size - 1) / size, later = size - 1 - rank;
  long long least_cut = n_shards - (long long)later * most;
  int low = from + 1, high = from + most;
  if (low < least_cut) low = (int)least_cut;
  if (high > n_shards - later) high = n_shards - later;
  int step = 1;
  while (step <= high / 2 && high / (2 * step) * (2 * step) >= low) step *= 2;
  return high / step * step;
}

void reduce_range(int n_shards, int size, int rank, int *from, int *to) {
  *from = 0;
  for (int i = 0; i < rank; i++) *from = next_cut(n_shards, size, i, *from);
  *to = next_cut(n_shards, size, rank, *from);
}

static int by_node(const void *a, const void *b) {
  const member *x = a, *y = b;
  if (x->leader != y->leader) return x->leader < y->leader ? -1 : 1;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

void layout_wave(const layout *l, const member *m, int wave, int *from, int *to) {
  if (m->n_waves == 1) {
    *from = m->from;
    *to = m->to;
    return;
  }
  int first = (m->from / l->wave + wave) * l->wave;
  *from = wave == 0 ? m->from : first;
  *to = wave == m->n_waves - 1 ? m->to : first + l->wave;
}

/* Follows the waves as the reducer will: which partial sums are held after each. */
static void measure_member(layout *l, member *m) {
  int n = m->to - m->from, from, to;
  m->n_slots = 0;
  if (n <= l->wave) {
    m->n_waves = n > 0;
    m->n_leaves = m->n_inputs = n;
    return;
  }
  m->n_waves = (m->to + l->wave - 1) / l->wave - m->from / l->wave;
  m->n_leaves = l->wave;
  tree_start(l->work, l->n_shards);
  for (int w = 0; w < m->n_waves; w++) {
    layout_wave(l, m, w, &from, &to);
    for (int s = from; s < to; s++) tree_push(l->work, (tree_node){0, s});
    if (l->work->n_left > m->n_slots) m->n_slots = l->work->n_left;
  }
  m->n_inputs = l->work->n_left;
}

static void deal_shards(layout *l) {
  int from = 0;
  for (int i = 0; i < l->size; i++) {
    member *m = &l->members[i];
    m->from = from;
    m->to = from = next_cut(l->n_shards, l->size, i, from);
    if (m->to - m->from > l->most_shards) l->most_shards = m->to - m->from;
    measure_member(l, m);
  }
}

void layout_push_member(layout *l, tree *t, const member *m) {
  if (m->n_waves == 1) {
    for (int s = m->from; s < m->to; s++) tree_push(t, (tree_node){0, s});
  } else if (m->n_waves > 1) {
    tree_start(l->work, l->n_shards);
    for (int s = m->from; s < m->to; s++) tree_push(l->work, (tree_node){0, s});
    for (int i = 0; i < l->work->n_left; i++) tree_push(t, l->work->left[i]);
  }
}

void layout_push_team(layout *l, tree *t, const team *who) {
  for (int i = 0; i < who->n; i++) layout_push_member(l, t, &l->members[who->first + i]);
}

int layout_input(const member *m, int i) {
  return m->first_vector + (m->n_waves > 1 ? m->n_leaves : 0) + i;
}

/* A team begins where the node changes, and at every rank without a window. */
static void form_teams(layout *l, const int *alone) {
  l->n_teams = 0;
  for (int i = 0; i < l->size; i++) {
    member *m = &l->members[i];
    if (i == 0 || alone[m->rank] || m->leader != m[-1].leader)
      l->teams[l->n_teams++] = (team){.first = i, .from = m->from};
    team *t = &l->teams[l->n_teams - 1];
    m->team = l->n_teams - 1;
    m->first_vector = t->n_vectors;
    t->n++;
    t->to = m->to;
    t->n_vectors += m->n_leaves + m->n_slots;
    t->n_inputs += m->n_inputs;
  }
  for (int i = 0; i < l->n_teams; i++) {
    team *t = &l->teams[i];
    tree_start(l->work, l->n_shards);
    for (int s = t->from; s < t->to; s++) tree_push(l->work, (tree_node){0, s});
    t->n_left = l->work->n_left;
    for (int j = 0; j < t->n_left; j++) t->left[j] = l->work->left[j];
  }
}

status layout_split(layout *l, comm *c, bool has_window) {
  status st = STATUS_OK;
  int *alone = NULL, mine = !has_window;
  TRY(comm_agree(c, mem_new(&alone, (size_t)l->size, sizeof *alone)));
  TRY(comm_gather_all(c, &mine, alone, sizeof mine));
  form_teams(l, alone);
done:
  mem_free(alone);
  return st;
}

static status allocate(layout **out, int size, int n_shards) {
  status st = STATUS_OK;
  if (n_shards < 1) THROW(STATUS_BAD_INPUT, "%d shards: at least 1 is needed", n_shards);
  TRY(mem_new(out, 1, sizeof **out));
  TRY(mem_new(&(*out)->members, (size_t)size, sizeof(member)));
  TRY(mem_new(&(*out)->teams, (size_t)size, sizeof(team)));
  TRY(tree_new(&(*out)->work, n_shards + TREE_DEPTH));
done:
  return st;
}

status layout_new(layout **out, comm *c, int n_shards, size_t n_floats, int threads) {
  status st = STATUS_OK;
  struct {
    int leader, threads;
  } mine = {c->leader, threads}, *all = NULL;
  *out = NULL;
  TRY(comm_agree(c, allocate(out, c->size, n_shards)));
  TRY(comm_agree(c, mem_new(&all, (size_t)c->size, sizeof *all)));
  TRY(comm_gather_all(c, &mine, all, sizeof mine));
  layout *l = *out;
  l->n_shards = n_shards;
  l->size = c->size;
  l->n_floats = n_floats;
  l->stride = (n_floats + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
  l->wave = LEAST_WAVE;
  for (int i = 0; i < c->size; i++) {
    l->members[i] = (member){.rank = i, .leader = all[i].leader};
    while (l->wave < all[i].threads) l->wave *= 2;
  }
  qsort(l->members, (size_t)c->size, sizeof(member), by_node);
  while (l->members[l->position].rank != c->rank) l->position++;
  deal_shards(l);
  TRY(layout_split(l, c, true));
done:
  mem_free(all);
  if (st) layout_free(out);
  return st;
}

void layout_free(layout **l) {
  if (!*l) return;
  tree_free(&(*l)->work);
  mem_free((*l)->members);
  mem_free((*l)->teams);
  mem_free(*l);
  *l = NULL;
}

const member *layout_me(const layout *l) {
  return &l->members[l->position];
}

const team *layout_my_team(const layout *l) {
  return &l->teams[layout_me(l)->team];
}

void layout_slice(const layout *l, int position, size_t *begin, size_t *end) {
  size_t pieces = (l->n_floats + REDUCE_SLICE - 1) / REDUCE_SLICE, n = (size_t)l->size, i = (size_t)position;
  *begin = pieces / n * i + (pieces % n < i ? pieces % n : i);
  *end = (*begin + pieces / n + (i < pieces % n)) * REDUCE_SLICE;
  *begin *= REDUCE_SLICE;
  if (*begin > l->n_floats) *begin = l->n_floats;
  if (*end > l->n_floats) *end = l->n_floats;
}

int layout_speaker(const team *t, int position) {
  return position >= t->first && position < t->first + t->n ? position : t->first + position % t->n;
}
