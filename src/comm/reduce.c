#include "comm/reduce.h"

#include "comm/layout.h"

#include "base/mem.h"
#include "base/profile.h"
#include "base/progress.h"

#include <string.h>

enum { LINE = 64, TAG_SUM = 1, TAG_SHARE = 2, TAG_COLLECT = 3 };

struct reducer {
  comm *c;
  layout *l;
  int n_stats, threads;
  double seconds;

  /* The team's memory, a window or this rank's own: status codes, stats, parameters, vectors. */
  shared *window;
  char *own, *block;
  size_t stats_at, parameters_at, vectors_at, block_bytes;

  tree *fold;                 /* the program of one wave, made anew for each */
  tree_node held[TREE_DEPTH]; /* what the folded waves came down to: the node in slot i */
  int n_held;
  tree *sum;   /* of this rank's slice over everything */
  tree *speak; /* of another slice over the team's shards */
  tree_vector *fold_inputs, *sum_inputs, *speak_inputs;
  float *scratch;

  float *received, *sent; /* partial sums of other teams for this slice; of this team for other slices */
  MPI_Request *requests;
  int n_requests;
  double *rows;               /* [n_shards][n_stats] */
  double *message, *messages; /* status and stats of one rank, of all */
};

static size_t rounded(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

static size_t slice_length(const layout *l, int position) {
  size_t begin, end;
  layout_slice(l, position, &begin, &end);
  return end - begin;
}

static int pieces(size_t n_floats) {
  return (int)((n_floats + COMM_PIECE - 1) / COMM_PIECE);
}

static bool is_alone(const reducer *r) {
  return r->l->n_teams == 1;
}

static void place_block(reducer *r) {
  const team *t = layout_my_team(r->l);
  r->stats_at = (size_t)t->n * LINE;
  r->parameters_at =
      r->stats_at + rounded((size_t)(t->to - t->from) * (size_t)r->n_stats * sizeof(double), LINE);
  r->vectors_at = r->parameters_at + r->l->stride * sizeof(float);
  r->block_bytes = r->vectors_at + (size_t)t->n_vectors * r->l->stride * sizeof(float);
}

static int *status_of(reducer *r, int position) {
  return (int *)(r->block + (size_t)(position - layout_my_team(r->l)->first) * LINE);
}

static double *stats_of(reducer *r, int shard) {
  return (double *)(r->block + r->stats_at) +
         (size_t)(shard - layout_my_team(r->l)->from) * (size_t)r->n_stats;
}

static float *vector_of(reducer *r, int i) {
  return (float *)(r->block + r->vectors_at) + (size_t)i * r->l->stride;
}

static float *slot_of(reducer *r, int i) {
  const member *me = layout_me(r->l);
  return vector_of(r, me->first_vector + me->n_leaves + i);
}

/* A window for the ranks of a node where one can be had; memory of this rank's own else. */
static status find_memory(reducer *r) {
  status st = STATUS_OK;
  place_block(r);
  TRY(comm_agree(r->c, shared_window(&r->window, r->c, r->block_bytes)));
  TRY(layout_split(r->l, r->c, r->window != NULL));
  if (!r->window) {
    place_block(r);
    st = mem_new(&r->own, r->block_bytes, 1);
  }
  r->block = r->window ? shared_data(r->window) : r->own;
  TRY(comm_agree(r->c, st));
done:
  return st;
}

/* Buffers and requests for the messages between teams. */
static status find_buffers(reducer *r) {
  status st = STATUS_OK;
  const layout *l = r->l;
  const team *mine = layout_my_team(l);
  size_t length = rounded(slice_length(l, l->position), LINE / sizeof(float)), n_received = 0, n_sent = 0;
  size_t n = 1, own_pieces = (size_t)pieces(length);
  for (int i = 0; i < l->n_teams; i++) {
    if (&l->teams[i] == mine) continue;
    n_received += (size_t)l->teams[i].n_left * length;
    n += ((size_t)l->teams[i].n_left + 1) * own_pieces;
  }
  for (int i = 0; i < l->size; i++) {
    if (l->members[i].team == layout_me(l)->team || layout_speaker(mine, i) != l->position) continue;
    size_t theirs = rounded(slice_length(l, i), LINE / sizeof(float));
    n_sent += (size_t)mine->n_left * theirs;
    n += ((size_t)mine->n_left + 1) * (size_t)pieces(theirs);
  }
  size_t width = 1 + (size_t)l->most_shards * (size_t)r->n_stats;
  TRY(mem_new(&r->received, n_received, sizeof(float)));
  TRY(mem_new(&r->sent, n_sent, sizeof(float)));
  TRY(mem_new(&r->requests, n, sizeof(MPI_Request)));
  TRY(mem_new(&r->message, width, sizeof(double)));
  TRY(mem_new(&r->messages, is_alone(r) ? 0 : width * (size_t)l->size, sizeof(double)));
  TRY(mem_new(&r->rows, (size_t)l->n_shards * (size_t)r->n_stats, sizeof(double)));
done:
  return st;
}

/* The vectors of the team's inputs, in the order of layout_push_team. */
static int list_team(reducer *r, const team *t, tree_vector *inputs) {
  int n = 0;
  for (int i = 0; i < t->n; i++) {
    const member *m = &r->l->members[t->first + i];
    for (int j = 0; j < m->n_inputs; j++) inputs[n++] = (tree_vector){vector_of(r, layout_input(m, j)), 0};
  }
  return n;
}

static status make_programs(reducer *r) {
  status st = STATUS_OK;
  layout *l = r->l;
  const team *mine = layout_my_team(l);
  int n = 0;
  for (int i = 0; i < l->n_teams; i++) n += &l->teams[i] == mine ? mine->n_inputs : l->teams[i].n_left;
  TRY(tree_new(&r->fold, l->wave + TREE_DEPTH));
  TRY(tree_new(&r->sum, n));
  TRY(tree_new(&r->speak, mine->n_inputs));
  TRY(mem_new(&r->fold_inputs, (size_t)(l->wave + TREE_DEPTH), sizeof(tree_vector)));
  TRY(mem_new(&r->sum_inputs, (size_t)n, sizeof(tree_vector)));
  TRY(mem_new(&r->speak_inputs, (size_t)mine->n_inputs, sizeof(tree_vector)));
  TRY(mem_new(&r->scratch, (size_t)r->threads * TREE_DEPTH * TREE_CHUNK, sizeof(float)));

  tree_start(r->speak, l->n_shards);
  layout_push_team(l, r->speak, mine);
  tree_end(r->speak);
  list_team(r, mine, r->speak_inputs);

  size_t begin, end, length;
  layout_slice(l, l->position, &begin, &end);
  length = rounded(end - begin, LINE / sizeof(float));
  float *received = r->received;
  tree_start(r->sum, l->n_shards);
  n = 0;
  for (int i = 0; i < l->n_teams; i++) {
    const team *t = &l->teams[i];
    if (t == mine) {
      layout_push_team(l, r->sum, t);
      n += list_team(r, t, r->sum_inputs + n);
      continue;
    }
    for (int j = 0; j < t->n_left; j++, received += length) {
      tree_push(r->sum, t->left[j]);
      r->sum_inputs[n++] = (tree_vector){received, begin};
    }
  }
  tree_end(r->sum);
done:
  return st;
}

status reducer_new(reducer **out, comm *c, int n_shards, size_t n_floats, int n_stats, int threads) {
  status st = STATUS_OK;
  TRY(comm_agree(c, mem_new(out, 1, sizeof **out)));
  reducer *r = *out;
  *r = (reducer){.c = c, .n_stats = n_stats, .threads = threads < 1 ? 1 : threads};
  TRY(layout_new(&r->l, c, n_shards, n_floats, r->threads));
  TRY(find_memory(r));
  st = find_buffers(r);
  if (!st) st = make_programs(r);
  TRY(comm_agree(c, st));
done:
  if (st) reducer_free(out);
  return st;
}

void reducer_free(reducer **out) {
  reducer *r = *out;
  if (!r) return;
  shared_free(&r->window);
  layout_free(&r->l);
  tree_free(&r->fold);
  tree_free(&r->sum);
  tree_free(&r->speak);
  void *const owned[] = {r->own,  r->fold_inputs, r->sum_inputs, r->speak_inputs, r->scratch, r->received,
                         r->sent, r->requests,    r->rows,       r->message,      r->messages};
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
  return vector_of(r, me->first_vector + (me->n_waves == 1 ? shard - me->from : shard % r->l->wave));
}

double *reducer_stats(reducer *r, int shard) {
  return stats_of(r, shard);
}

void reducer_fold(reducer *r, int wave) {
  const member *me = layout_me(r->l);
  tree_vector slots[TREE_DEPTH];
  int from, to, n = 0;
  if (me->n_waves == 1) return; /* the slices' owners read the leaves themselves */
  layout_wave(r->l, me, wave, &from, &to);
  if (wave == 0) r->n_held = 0;
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
  r->n_held = r->fold->n_left;
  for (int i = 0; i < r->n_held; i++) {
    r->held[i] = r->fold->left[i];
    slots[i] = (tree_vector){slot_of(r, i), 0};
  }
  tree_run(r->fold, r->fold_inputs, slots, 0, r->l->n_floats, r->threads, r->scratch);
}

/* ---- status and stats ---- */

/* Worst so far: highest code, then lowest rank. */
static void take_worse(int code, int rank, int *worst, int *who) {
  if (code < *worst || (code == *worst && (!code || rank > *who))) return;
  *worst = code;
  *who = rank;
}

/* Of all ranks in one team: everything lies in its memory. */
static status look_around(reducer *r) {
  int worst = 0, who = 0;
  for (int i = 0; i < r->l->size; i++) take_worse(*status_of(r, i), r->l->members[i].rank, &worst, &who);
  if (worst) {
    status st = comm_adopt(r->c, (status)worst, who);
    status late = comm_barrier(r->c); /* nobody's next status before everyone has seen this one */
    return late ? late : st;
  }
  memcpy(r->rows, stats_of(r, 0), (size_t)r->l->n_shards * (size_t)r->n_stats * sizeof(double));
  return STATUS_OK;
}

/* Of several teams: one small message from each rank to all. */
static status ask_around(reducer *r, status mine) {
  status st = STATUS_OK;
  const layout *l = r->l;
  const member *me = layout_me(l);
  size_t n = (size_t)r->n_stats, width = 1 + (size_t)l->most_shards * n;
  int worst = 0, who = 0;
  r->message[0] = mine;
  memcpy(r->message + 1, stats_of(r, me->from), (size_t)(me->to - me->from) * n * sizeof(double));
  TRY(comm_gather_all(r->c, r->message, r->messages, width * sizeof(double)));
  for (int i = 0; i < l->size; i++) {
    const member *m = &l->members[i];
    const double *theirs = r->messages + (size_t)m->rank * width;
    take_worse((int)theirs[0], m->rank, &worst, &who);
    memcpy(r->rows + (size_t)m->from * n, theirs + 1, (size_t)(m->to - m->from) * n * sizeof(double));
  }
  if (worst) TRY(comm_adopt(r->c, (status)worst, who));
done:
  return st;
}

static status sum_stats(reducer *r, status mine, double *totals) {
  status st = STATUS_OK;
  TRY(is_alone(r) ? look_around(r) : ask_around(r, mine));
  tree_rows(r->rows, r->l->n_shards, r->n_stats);
  memcpy(totals, r->rows, (size_t)r->n_stats * sizeof(double));
done:
  return st;
}

/* ---- messages between teams ---- */

static status post(reducer *r, bool send, float *data, size_t n, int position, int tag) {
  status st = STATUS_OK;
  int rank = r->l->members[position].rank;
  for (size_t at = 0; at < n; at += COMM_PIECE) {
    int count = (int)(n - at < COMM_PIECE ? n - at : COMM_PIECE);
    MPI_Request *request = &r->requests[r->n_requests];
    if (send)
      TRY_MPI(MPI_Isend(data + at, count, MPI_FLOAT, rank, tag, r->c->world, request));
    else
      TRY_MPI(MPI_Irecv(data + at, count, MPI_FLOAT, rank, tag, r->c->world, request));
    r->n_requests++;
  }
done:
  return st;
}

static status finish_messages(reducer *r) {
  status st = STATUS_OK;
  int n = r->n_requests;
  r->n_requests = 0;
  TRY_MPI(MPI_Waitall(n, r->requests, MPI_STATUSES_IGNORE));
done:
  return st;
}

/* The partial sums of every other team for this rank's slice. */
static status receive_partial_sums(reducer *r) {
  status st = STATUS_OK;
  const layout *l = r->l;
  size_t n = slice_length(l, l->position);
  float *to = r->received;
  for (int i = 0; i < l->n_teams; i++) {
    const team *t = &l->teams[i];
    if (t == layout_my_team(l)) continue;
    for (int j = 0; j < t->n_left; j++, to += rounded(n, LINE / sizeof(float)))
      TRY(post(r, false, to, n, layout_speaker(t, l->position), TAG_SUM));
  }
done:
  return st;
}

/* The team's partial sums of the slices this rank speaks for. Each rank begins with the one after its own, so
 * that not all send to the same owner at once. */
static status send_partial_sums(reducer *r) {
  status st = STATUS_OK;
  const layout *l = r->l;
  const team *mine = layout_my_team(l);
  float *from = r->sent;
  for (int k = 1; k < l->size; k++) {
    int owner = (l->position + k) % l->size;
    if (l->members[owner].team == layout_me(l)->team || layout_speaker(mine, owner) != l->position) continue;
    tree_vector outputs[TREE_DEPTH];
    size_t begin, end;
    layout_slice(l, owner, &begin, &end);
    size_t stride = rounded(end - begin, LINE / sizeof(float));
    for (int j = 0; j < mine->n_left; j++) outputs[j] = (tree_vector){from + (size_t)j * stride, begin};
    tree_run(r->speak, r->speak_inputs, outputs, begin, end, r->threads, r->scratch);
    for (int j = 0; j < mine->n_left; j++, from += stride)
      TRY(post(r, true, from, end - begin, owner, TAG_SUM));
  }
done:
  return st;
}

/* The owner's slice to the speaker of every other team, who puts it into the memory of that team. */
static status exchange_parameters(reducer *r) {
  status st = STATUS_OK;
  const layout *l = r->l;
  float *parameters = reducer_parameters(r);
  size_t begin, end;
  for (int k = 1; k < l->size; k++) {
    int owner = (l->position + k) % l->size;
    if (l->members[owner].team == layout_me(l)->team ||
        layout_speaker(layout_my_team(l), owner) != l->position)
      continue;
    layout_slice(l, owner, &begin, &end);
    TRY(post(r, false, parameters + begin, end - begin, owner, TAG_SHARE));
  }
  layout_slice(l, l->position, &begin, &end);
  for (int k = 1; k < l->n_teams; k++) {
    const team *t = &l->teams[(layout_me(l)->team + k) % l->n_teams];
    TRY(post(r, true, parameters + begin, end - begin, layout_speaker(t, l->position), TAG_SHARE));
  }
  TRY(finish_messages(r));
done:
  return st;
}

/* ---- the step ---- */

status reducer_sum(reducer *r, status mine, float **slice, size_t *begin, size_t *end, double *totals) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_REDUCE);
  double start = clock_seconds();
  *status_of(r, r->l->position) = mine;
  if (r->window) TRY(shared_sync(r->window));
  TRY(sum_stats(r, mine, totals));
  if (!is_alone(r)) {
    TRY(receive_partial_sums(r));
    TRY(send_partial_sums(r));
    TRY(finish_messages(r));
  }
  reducer_slice(r, begin, end);
  /* The result takes the place of its leftmost input: only this rank reads that slice of it, and it is in the
   * cache. */
  tree_run(r->sum, r->sum_inputs, r->sum_inputs, *begin, *end, r->threads, r->scratch);
  *slice = r->sum_inputs[0].data + (*begin - r->sum_inputs[0].origin);
done:
  profile_enter(before);
  r->seconds += clock_seconds() - start;
  return st;
}

float *reducer_parameters(reducer *r) {
  return (float *)(r->block + r->parameters_at);
}

void reducer_slice(const reducer *r, size_t *begin, size_t *end) {
  layout_slice(r->l, r->l->position, begin, end);
}

status reducer_share(reducer *r) {
  status st = STATUS_OK;
  const profile_phase before = profile_enter(PROFILE_REDUCE);
  double start = clock_seconds();
  if (!is_alone(r)) TRY(exchange_parameters(r));
  if (r->window) TRY(shared_sync(r->window));
done:
  profile_enter(before);
  r->seconds += clock_seconds() - start;
  return st;
}

static status move_slice(reducer *r, bool send, float *data, size_t n, int rank) {
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

status reducer_collect(reducer *r, const float *slice, float *whole) {
  status st = STATUS_OK;
  const layout *l = r->l;
  size_t begin, end;
  layout_slice(l, l->position, &begin, &end);
  if (r->c->rank != 0) return move_slice(r, true, (float *)(uintptr_t)slice, end - begin, 0);
  memcpy(whole + begin, slice, (end - begin) * sizeof *slice);
  for (int i = 0; i < l->size; i++) {
    if (i == l->position) continue;
    layout_slice(l, i, &begin, &end);
    TRY(move_slice(r, false, whole + begin, end - begin, l->members[i].rank));
  }
done:
  return st;
}

double reducer_seconds(const reducer *r) {
  return r->seconds;
}
