#include "comm/reduce_private.h"

#include "base/mem.h"
#include "base/profile.h"
#include "base/progress.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static void place_block(reducer *r) {
  const team *t = layout_my_team(r->l);
  size_t stats = (size_t)(t->to - t->from) * (size_t)r->n_stats * sizeof(double);
  r->status_at = LAYOUT_BUCKETS * LINE;
  r->verdict_at = r->status_at + (size_t)t->n * LINE;
  r->stats_at = r->verdict_at + ((size_t)(2 + r->n_stats) * sizeof(double) + LINE - 1) / LINE * LINE;
  r->head_bytes = r->stats_at + (stats + LINE - 1) / LINE * LINE;
  r->n_floats = ((size_t)t->n_vectors + 1) * r->l->stride;
}

_Atomic unsigned *reduce_counter(reducer *r, int bucket) {
  return (_Atomic unsigned *)(r->head + (size_t)bucket * LINE);
}

static int *status_of(reducer *r, int position) {
  return (int *)(r->head + r->status_at + (size_t)(position - layout_my_team(r->l)->first) * LINE);
}

/* Worst status, whose, and the totals of the stats. */
static double *verdict_of(reducer *r) {
  return (double *)(r->head + r->verdict_at);
}

static double *stats_of(reducer *r, int shard) {
  return (double *)(r->head + r->stats_at) +
         (size_t)(shard - layout_my_team(r->l)->from) * (size_t)r->n_stats;
}

float *reduce_vector(reducer *r, int i) {
  return r->floats + ((size_t)i + 1) * r->l->stride;
}

/* Where a partial sum lies, the i-th of those held. */
static float *slot_of(reducer *r, int i) {
  const member *me = layout_me(r->l);
  if (me->n_waves == 1) return reducer_leaf(r, r->held[i].index << r->held[i].level);
  return reduce_vector(r, me->first_vector + me->n_leaves + i);
}

/* A window for the ranks of a node where one can be had; memory of this rank's own else. */
static status find_memory(reducer *r) {
  status st = STATUS_OK;
  place_block(r);
  TRY(comm_agree(r->c, shared_window(&r->window, r->c, r->head_bytes + r->n_floats * sizeof(float))));
  TRY(layout_split(r->l, r->c, r->window != NULL));
  if (r->window) {
    r->head = shared_data(r->window);
    r->floats = (float *)(r->head + r->head_bytes);
  } else {
    place_block(r);
    st = mem_new(&r->own_head, r->head_bytes, 1);
    if (!st) st = mem_new(&r->own_floats, r->n_floats, sizeof(float));
    r->head = r->own_head;
    r->floats = r->own_floats;
  }
  TRY(comm_agree(r->c, st));
done:
  return st;
}

status reduce_tree(const reducer *r, tree **out, int n_inputs) {
  status st = tree_new(out, n_inputs);
  if (!st) (*out)->bfloat16 = r->dtype == REDUCE_BFLOAT16;
  return st;
}

static status find_buffers(reducer *r) {
  status st = STATUS_OK;
  layout *l = r->l;
  size_t room = 2 + (size_t)l->n_shards * (size_t)r->n_stats;
  int most = 1;
  for (int i = 0; i < l->n_levels; i++)
    if (l->radix[i] > most) most = l->radix[i];
  TRY(reduce_tree(r, &r->fold, l->wave + TREE_DEPTH));
  TRY(mem_new(&r->fold_inputs, (size_t)(l->wave + TREE_DEPTH), sizeof(tree_vector)));
  TRY(mem_new(&r->slots, TREE_DEPTH, sizeof(tree_vector)));
  TRY(mem_new(&r->scratch, (size_t)r->threads * TREE_DEPTH * TREE_CHUNK, sizeof(float)));
  TRY(mem_new(&r->rows, (size_t)l->n_shards * (size_t)r->n_stats, sizeof(double)));
  TRY(mem_new(&r->message, l->n_teams > 1 ? room : 0, sizeof(double)));
  TRY(mem_new(&r->messages, l->n_teams > 1 ? (size_t)most * room : 0, sizeof(double)));
  TRY(exchange_new(r));
done:
  return st;
}

status reducer_new(reducer **out, comm *c, int n_shards, size_t n_floats, int n_stats, int threads,
                   reduce_dtype dtype) {
  status st = STATUS_OK;
  TRY(comm_agree(c, mem_new(out, 1, sizeof **out)));
  reducer *r = *out;
  *r = (reducer){.c = c, .n_stats = n_stats, .threads = threads < 1 ? 1 : threads, .dtype = dtype};
  TRY(layout_new(&r->l, c, n_shards, n_floats, r->threads));
  TRY(find_memory(r));
  TRY(comm_agree(c, find_buffers(r)));
done:
  if (st) reducer_free(out);
  return st;
}

void reducer_free(reducer **out) {
  reducer *r = *out;
  if (!r) return;
  shared_free(&r->window);
  exchange_free(r);
  layout_free(&r->l);
  tree_free(&r->fold);
  tree_free(&r->late_fold);
  void *const owned[] = {r->own_head, r->own_floats, r->fold_inputs, r->slots,       r->scratch,
                         r->rows,     r->message,    r->messages,    r->late_inputs, r->late_scratch};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) mem_free(owned[i]);
  mem_free(r);
  *out = NULL;
}

bool reducer_is_shared(const reducer *r) {
  return r->l->n_teams == r->c->nodes;
}

int reducer_waves(const reducer *r) {
  return layout_me(r->l)->n_waves;
}

void reducer_wave(const reducer *r, int wave, int *from, int *to) {
  layout_wave(r->l, layout_me(r->l), wave, from, to);
}

float *reducer_leaf(reducer *r, int shard) {
  const member *me = layout_me(r->l);
  return reduce_vector(r, me->first_vector + (me->n_waves == 1 ? shard - me->from : shard % r->l->wave));
}

double *reducer_stats(reducer *r, int shard) {
  return stats_of(r, shard);
}

/* The program that adds the leaves of a wave to what is held. */
static void prepare_fold(reducer *r, int wave) {
  const member *me = layout_me(r->l);
  int from, to, n = 0;
  layout_wave(r->l, me, wave, &from, &to);
  if (wave == 0) r->n_held = 0;
  r->n_folded = r->n_held;
  r->fold_from = from;
  r->fold_to = to;
  tree_start(r->fold, r->l->n_shards);
  for (int i = 0; i < r->n_held; i++) {
    tree_push(r->fold, r->held[i]);
    r->fold_inputs[n++] = (tree_vector){slot_of(r, i), 0};
  }
  for (int s = from; s < to; s++) {
    tree_push(r->fold, (tree_node){0, s});
    r->fold_inputs[n++] = (tree_vector){reducer_leaf(r, s), 0};
  }
  tree_end(r->fold);
  if (r->late) reduce_prepare_late(r);
  r->n_held = r->fold->n_left;
  for (int i = 0; i < r->n_held; i++) {
    r->held[i] = r->fold->left[i];
    r->slots[i] = (tree_vector){slot_of(r, i), 0};
  }
}

/* Where nothing is late the last wave is added bucket by bucket, by get_ready; of a single wave the leaves
 * are read as they are. */
void reducer_fold(reducer *r, int wave) {
  int last = layout_me(r->l)->n_waves - 1;
  if (wave == last && !r->late) return;
  if (wave == 0) prepare_fold(r, 0);
  if (r->late)
    reduce_fold_late(r);
  else
    tree_run(r->fold, r->fold_inputs, r->slots, 0, r->l->n_floats, r->threads, r->scratch);
  if (wave != last) prepare_fold(r, wave + 1);
}

/* This rank is through with all buckets from float `from` on. */
static void get_ready(reducer *r, size_t from, int threads) {
  while (r->n_ready < r->l->n_buckets && layout_bucket(r->l, r->n_ready) >= from) {
    size_t end = r->n_ready ? layout_bucket(r->l, r->n_ready - 1) : r->l->n_floats;
    if (layout_me(r->l)->n_waves > 1 && !r->late)
      tree_run(r->fold, r->fold_inputs, r->slots, layout_bucket(r->l, r->n_ready), end, threads, r->scratch);
    atomic_fetch_add_explicit(reduce_counter(r, r->n_ready), 1, memory_order_release);
    r->n_ready++;
  }
}

bool reducer_overlaps(const reducer *r) {
  const char *wanted = getenv("MPISTILL_OVERLAP");
  return r->l->n_teams > 1 && !(wanted && !strcmp(wanted, "0"));
}

void reducer_ready(reducer *r, size_t from) {
  const profile_phase before = profile_enter(PROFILE_REDUCE);
  get_ready(r, from, 1);
  if (!r->failed) r->failed = exchange_push(r, 1);
  profile_enter(before);
}

/* ---- status and stats ---- */

void reduce_take_worse(int code, int rank, int *worst, int *who) {
  if (code < *worst || (code == *worst && (!code || rank > *who))) return;
  *worst = code;
  *who = rank;
}

/* What the team's ranks left in its memory. */
static void look_around(reducer *r, int *worst, int *who) {
  const team *t = layout_my_team(r->l);
  *worst = *who = 0;
  for (int i = t->first; i < t->first + t->n; i++)
    reduce_take_worse(*status_of(r, i), r->l->members[i].rank, worst, who);
  if (t->to > t->from)
    memcpy(r->rows + (size_t)t->from * (size_t)r->n_stats, stats_of(r, t->from),
           (size_t)(t->to - t->from) * (size_t)r->n_stats * sizeof(double));
}

static void add_rows(reducer *r, double *totals) {
  tree_rows(r->rows, r->l->n_shards, r->n_stats);
  memcpy(totals, r->rows, (size_t)r->n_stats * sizeof(double));
}

/* Several teams: the first member of each asks the others and tells its own. */
static status ask_around(reducer *r, int *worst, int *who, double *totals) {
  status st = STATUS_OK;
  double *verdict = verdict_of(r);
  if (r->l->position == layout_my_team(r->l)->first) {
    look_around(r, worst, who);
    TRY(exchange_rows(r, worst, who));
    verdict[0] = *worst;
    verdict[1] = *who;
    add_rows(r, verdict + 2);
  }
  if (r->window) TRY(shared_sync(r->window));
  *worst = (int)verdict[0];
  *who = (int)verdict[1];
  memcpy(totals, verdict + 2, (size_t)r->n_stats * sizeof(double));
done:
  return st;
}

static status sum_stats(reducer *r, double *totals) {
  status st = STATUS_OK;
  int worst, who;
  if (r->l->n_teams > 1) {
    TRY(ask_around(r, &worst, &who, totals));
  } else {
    look_around(r, &worst, &who);
    add_rows(r, totals);
  }
  if (worst) {
    st = comm_adopt(r->c, (status)worst, who);
    status late = comm_barrier(r->c); /* nobody's next status before everyone has seen this one */
    if (late) st = late;
  }
done:
  return st;
}

/* ---- the step ---- */

status reducer_sum(reducer *r, status mine, double *totals) {
  status st = STATUS_OK, pushed = r->failed;
  const profile_phase before = profile_enter(PROFILE_REDUCE);
  double start = clock_seconds();
  *status_of(r, r->l->position) = mine;
  r->failed = STATUS_OK;
  get_ready(r, 0, r->threads);
  if (r->window) TRY(shared_sync(r->window));
  TRY(pushed);
  TRY(exchange_finish(r));
  r->round++;
  r->n_ready = 0;
  TRY(sum_stats(r, totals));
done:
  profile_enter(before);
  r->seconds += clock_seconds() - start;
  return st;
}

int reducer_n_parts(const reducer *r) {
  return r->n_parcels;
}

float *reducer_part(const reducer *r, int i, size_t *begin, size_t *end) {
  const parcel *p = &r->parcels[i];
  *begin = p->begin;
  *end = p->end;
  return p->partial[0].data ? p->partial[0].data + (p->begin - p->partial[0].origin) : NULL;
}

size_t reducer_owned(const reducer *r) {
  size_t n = 0;
  for (int i = 0; i < r->n_parcels; i++) n += r->parcels[i].end - r->parcels[i].begin;
  return n;
}

float *reducer_parameters(reducer *r) {
  return r->floats;
}

status reducer_share(reducer *r) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_REDUCE);
  double start = clock_seconds();
  TRY(exchange_share(r));
  if (r->window) TRY(shared_sync(r->window));
done:
  profile_enter(before);
  r->seconds += clock_seconds() - start;
  return st;
}

void reducer_write(reducer *r, size_t offset, const float *values, size_t n) {
  for (int i = 0; i < r->n_parcels; i++) {
    size_t begin = r->parcels[i].begin, end = r->parcels[i].end;
    if (begin < offset) begin = offset;
    if (end > offset + n) end = offset + n;
    if (begin < end)
      memcpy(reducer_parameters(r) + begin, values + (begin - offset), (end - begin) * sizeof *values);
  }
}

static status move(reducer *r, bool send, float *data, size_t n, int rank) {
  status st = STATUS_OK;
  for (size_t at = 0; at < n; at += COMM_PIECE) {
    int count = (int)(n - at < COMM_PIECE ? n - at : COMM_PIECE);
    if (send)
      TRY_MPI(MPI_Send(data + at, count, MPI_FLOAT, rank, TAG_COLLECT, r->c->world));
    else
      TRY_MPI(MPI_Recv(data + at, count, MPI_FLOAT, rank, TAG_COLLECT, r->c->world, MPI_STATUS_IGNORE));
  }
done:
  return st;
}

/* What a position owns, from the others to rank 0. */
static status collect_from(reducer *r, int position, const float *owned, float *whole) {
  status st = STATUS_OK;
  const layout *l = r->l;
  int first, step, rank = l->members[position].rank;
  size_t begin, end;
  layout_lanes(l, position, &first, &step);
  for (int b = 0; b < l->n_buckets; b++) {
    for (int lane = first; lane < l->n_lanes; lane += step) {
      layout_part(l, b, lane, l->members[position].team, l->n_levels, &begin, &end);
      if (rank == 0)
        memcpy(whole + begin, owned, (end - begin) * sizeof *owned);
      else if (r->c->rank == 0)
        TRY(move(r, false, whole + begin, end - begin, rank));
      else
        TRY(move(r, true, (float *)(uintptr_t)owned, end - begin, 0));
      owned += r->c->rank == rank ? end - begin : 0;
    }
  }
done:
  return st;
}

status reducer_collect(reducer *r, const float *owned, float *whole) {
  status st = STATUS_OK;
  if (r->c->rank != 0) return collect_from(r, r->l->position, owned, NULL);
  for (int i = 0; i < r->l->size; i++) TRY(collect_from(r, i, owned, whole));
done:
  return st;
}

double reducer_seconds(const reducer *r) {
  return r->seconds;
}
