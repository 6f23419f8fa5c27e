#include "comm/layout.h"

#include "comm/reduce.h"

#include "base/mem.h"

#include <stdlib.h>

enum { LINE_FLOATS = 16, LEAST_WAVE = 8, MOST_RADIX = 4, LEAST_BUCKET = 1 << 20 };

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
    measure_member(l, m);
  }
}

/* What shards from..to come down to is in l->work. */
static void work_out(layout *l, int from, int to) {
  tree_start(l->work, l->n_shards);
  for (int s = from; s < to; s++) tree_push(l->work, (tree_node){0, s});
}

void layout_push_member(layout *l, tree *t, const member *m) {
  if (m->n_waves == 1 && !l->folded) {
    for (int s = m->from; s < m->to; s++) tree_push(t, (tree_node){0, s});
  } else if (m->n_waves) {
    work_out(l, m->from, m->to);
    for (int i = 0; i < l->work->n_left; i++) tree_push(t, l->work->left[i]);
  }
}

void layout_push_team(layout *l, tree *t, const team *who) {
  for (int i = 0; i < who->n; i++) layout_push_member(l, t, &l->members[who->first + i]);
}

int layout_input(layout *l, const member *m, int i) {
  if (m->n_waves > 1) return m->first_vector + m->n_leaves + i;
  if (!l->folded) return m->first_vector + i;
  work_out(l, m->from, m->to);
  return m->first_vector + (l->work->left[i].index << l->work->left[i].level) - m->from;
}

void layout_fold(layout *l) {
  l->folded = true;
  for (int i = 0; i < l->size; i++) {
    member *m = &l->members[i];
    if (m->n_waves != 1) continue;
    work_out(l, m->from, m->to);
    l->teams[m->team].n_inputs += l->work->n_left - m->n_inputs;
    m->n_inputs = l->work->n_left;
  }
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
    work_out(l, t->from, t->to);
    t->n_left = l->work->n_left;
    for (int j = 0; j < t->n_left; j++) t->left[j] = l->work->left[j];
  }
}

int reduce_levels(int n_nodes, int *radix) {
  int left = n_nodes, n = 0;
  for (int factor = 2; left > 1; factor++) {
    if ((long long)factor * factor > left) factor = left; /* a prime */
    for (; left % factor == 0; left /= factor) {
      if (n && radix[n - 1] * factor <= MOST_RADIX)
        radix[n - 1] *= factor;
      else
        radix[n++] = factor;
    }
  }
  if (!n) radix[n++] = 1;
  return n;
}

int reduce_buckets(size_t n_floats, int n_nodes) {
  size_t n = n_floats * sizeof(float) / LEAST_BUCKET;
  return n_nodes == 1 || n < 1 ? 1 : n > LAYOUT_BUCKETS ? LAYOUT_BUCKETS : (int)n;
}

static void form_levels(layout *l) {
  l->n_levels = reduce_levels(l->n_teams, l->radix);
  l->span[0] = 1;
  for (int i = 0; i < l->n_levels; i++) l->span[i + 1] = l->span[i] * l->radix[i];
  l->n_buckets = reduce_buckets(l->n_floats, l->n_teams);
  l->n_lanes = 1;
  for (int i = 0; i < l->n_teams; i++)
    if (l->teams[i].n > l->n_lanes) l->n_lanes = l->teams[i].n;
}

status layout_split(layout *l, comm *c, bool has_window) {
  status st = STATUS_OK;
  int *alone = NULL, mine = !has_window;
  TRY(comm_agree(c, mem_new(&alone, (size_t)l->size, sizeof *alone)));
  TRY(comm_gather_all(c, &mine, alone, sizeof mine));
  form_teams(l, alone);
  form_levels(l);
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

int layout_digit(const layout *l, int team, int level) {
  return team / l->span[level] % l->radix[level];
}

int layout_peer(const layout *l, int team, int level, int digit) {
  return team + (digit - layout_digit(l, team, level)) * l->span[level];
}

/* Part i of n of [*begin, *end). */
static void cut(size_t *begin, size_t *end, size_t i, size_t n) {
  size_t length = *end - *begin;
  *end = *begin + length * (i + 1) / n;
  *begin += length * i / n;
}

static size_t pieces_of(const layout *l) {
  return (l->n_floats + REDUCE_SLICE - 1) / REDUCE_SLICE;
}

static size_t first_float(const layout *l, size_t piece) {
  return piece * REDUCE_SLICE < l->n_floats ? piece * REDUCE_SLICE : l->n_floats;
}

size_t layout_bucket(const layout *l, int bucket) {
  size_t begin = 0, end = pieces_of(l);
  cut(&begin, &end, (size_t)(l->n_buckets - 1 - bucket), (size_t)l->n_buckets);
  return first_float(l, begin);
}

void layout_part(const layout *l, int bucket, int lane, int team, int levels, size_t *begin, size_t *end) {
  *begin = 0;
  *end = pieces_of(l);
  cut(begin, end, (size_t)(l->n_buckets - 1 - bucket), (size_t)l->n_buckets);
  cut(begin, end, (size_t)lane, (size_t)l->n_lanes);
  for (int i = 0; i < levels; i++) cut(begin, end, (size_t)layout_digit(l, team, i), (size_t)l->radix[i]);
  *begin = first_float(l, *begin);
  *end = first_float(l, *end);
}

int layout_server(const layout *l, int team, int lane) {
  return l->teams[team].first + lane % l->teams[team].n;
}

void layout_lanes(const layout *l, int position, int *first, int *step) {
  const team *t = &l->teams[l->members[position].team];
  *first = position - t->first;
  *step = t->n;
}

void layout_shards(const layout *l, int team, int level, int *from, int *to) {
  int first = team / l->span[level] * l->span[level];
  *from = l->teams[first].from;
  *to = l->teams[first + l->span[level] - 1].to;
}

const tree_node *layout_block(layout *l, int team, int level, int *n_left) {
  int from, to;
  layout_shards(l, team, level, &from, &to);
  work_out(l, from, to);
  *n_left = l->work->n_left;
  return l->work->left;
}
