#include "comm/reduce_private.h"

#include "base/bfloat16.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>

/* ---- construction ---- */

static int my_team(const reducer *r) {
  return layout_me(r->l)->team;
}

static status level_new(reducer *r, int i) {
  status st = STATUS_OK;
  layout *l = r->l;
  level *v = &r->levels[i];
  int n = i ? 0 : layout_my_team(l)->n_inputs, n_left;
  v->digit = layout_digit(l, my_team(r), i);
  TRY(mem_new(&v->n_left, (size_t)l->radix[i], sizeof *v->n_left));
  for (int d = 0; d < l->radix[i]; d++) {
    layout_block(l, layout_peer(l, my_team(r), i, d), i, &v->n_left[d]);
    n += v->n_left[d];
  }
  TRY(reduce_tree(r, &v->sum, n));
  tree_start(v->sum, l->n_shards);
  for (int d = 0; d < l->radix[i]; d++) {
    if (i == 0 && d == v->digit) {
      layout_push_team(l, v->sum, layout_my_team(l));
      continue;
    }
    const tree_node *nodes = layout_block(l, layout_peer(l, my_team(r), i, d), i, &n_left);
    for (int j = 0; j < n_left; j++) tree_push(v->sum, nodes[j]);
  }
  tree_end(v->sum);
  v->n_out = v->sum->n_left;
done:
  return st;
}

static size_t part_length(const reducer *r, const parcel *p, int team, int levels) {
  size_t begin, end;
  layout_part(r->l, p->bucket, p->lane, team, levels, &begin, &end);
  return end - begin;
}

static int messages_for(size_t n) {
  return (int)((n + COMM_PIECE - 1) / COMM_PIECE);
}

/* What a parcel needs: floats of buffers, requests of its busiest level. Where `place` is not NULL, its
 * addresses are set from there on. */
static size_t measure_parcel(reducer *r, parcel *p, float *place) {
  const layout *l = r->l;
  size_t n = 0;
  for (int i = 0; i < l->n_levels; i++) {
    const level *v = &r->levels[i];
    size_t mine = part_length(r, p, my_team(r), i + 1);
    int n_messages = 0;
    if (place) p->received[i] = place + n;
    for (int d = 0; d < l->radix[i]; d++) {
      if (d == v->digit) continue;
      n += (size_t)v->n_left[d] * reduce_rounded(mine);
      n_messages += v->n_left[d] + v->n_left[v->digit] + 2;
    }
    n_messages *= messages_for(part_length(r, p, my_team(r), i));
    if (n_messages > p->room) p->room = n_messages;
  }
  if (place) p->sent = place + n;
  for (int d = 0; d < l->radix[0] && !r->speak_as_is; d++)
    if (d != r->levels[0].digit)
      n += (size_t)r->speak->n_left * reduce_rounded(part_length(r, p, layout_peer(l, my_team(r), 0, d), 1));
  return n;
}

static void list_parcels(reducer *r) {
  const layout *l = r->l;
  int first, step;
  layout_lanes(l, l->position, &first, &step);
  for (int b = 0; b < l->n_buckets; b++) {
    for (int lane = first; lane < l->n_lanes; lane += step) {
      parcel *p = &r->parcels[r->n_parcels++];
      *p = (parcel){.bucket = b, .lane = lane};
      layout_part(l, b, lane, my_team(r), l->n_levels, &p->begin, &p->end);
    }
  }
}

static status parcels_new(reducer *r) {
  status st = STATUS_OK;
  const layout *l = r->l;
  size_t n_floats = 0, n_rows = 0;
  TRY(mem_new(&r->parcels, (size_t)l->n_buckets * (size_t)l->n_lanes, sizeof(parcel)));
  list_parcels(r);
  for (int i = 0; i < r->n_parcels; i++) {
    n_floats += measure_parcel(r, &r->parcels[i], NULL);
    r->n_requests += r->parcels[i].room;
  }
  for (int i = 0; i < l->n_levels; i++)
    if (2 * (size_t)l->radix[i] > n_rows) n_rows = 2 * (size_t)l->radix[i];
  TRY(mem_new(&r->buffers, n_floats, sizeof(float)));
  TRY(mem_new(&r->partials, (size_t)r->n_parcels * TREE_DEPTH, sizeof(tree_vector)));
  TRY(mem_new(&r->received, (size_t)r->n_parcels * (size_t)l->n_levels, sizeof(float *)));
  TRY(mem_new(&r->requests, (size_t)r->n_requests + n_rows, sizeof(MPI_Request)));
  for (size_t i = 0; i < (size_t)r->n_requests + n_rows; i++) r->requests[i] = MPI_REQUEST_NULL;
  float *place = r->buffers;
  MPI_Request *requests = r->requests;
  for (int i = 0; i < r->n_parcels; i++) {
    parcel *p = &r->parcels[i];
    p->partial = r->partials + (size_t)i * TREE_DEPTH;
    p->received = r->received + (size_t)i * (size_t)l->n_levels;
    p->requests = requests;
    requests += p->room;
    place += measure_parcel(r, p, place);
  }
done:
  return st;
}

/* The vectors of the team's inputs, in the order of layout_push_team. */
static int list_team(reducer *r, tree_vector *inputs) {
  const team *t = layout_my_team(r->l);
  int n = 0;
  for (int i = 0; i < t->n; i++) {
    const member *m = &r->l->members[t->first + i];
    for (int j = 0; j < m->n_inputs; j++)
      inputs[n++] = (tree_vector){reduce_vector(r, layout_input(r->l, m, j)), 0};
  }
  return n;
}

status exchange_new(reducer *r) {
  status st = STATUS_OK;
  layout *l = r->l;
  int most = layout_my_team(l)->n_inputs;
  TRY(mem_new(&r->levels, (size_t)l->n_levels, sizeof(level)));
  for (int i = 0; i < l->n_levels; i++) {
    TRY(level_new(r, i));
    if (r->levels[i].sum->n_inputs > most) most = r->levels[i].sum->n_inputs;
  }
  TRY(mem_new(&r->inputs, (size_t)most, sizeof(tree_vector)));
  TRY(reduce_tree(r, &r->speak, layout_my_team(l)->n_inputs));
  tree_start(r->speak, l->n_shards);
  layout_push_team(l, r->speak, layout_my_team(l));
  tree_end(r->speak);
  r->speak_as_is = r->speak->n_left == r->speak->n_inputs;
  TRY(parcels_new(r));
done:
  return st;
}

void exchange_free(reducer *r) {
  for (int i = 0; r->levels && i < r->l->n_levels; i++) {
    mem_free(r->levels[i].n_left);
    tree_free(&r->levels[i].sum);
  }
  tree_free(&r->speak);
  void *const owned[] = {r->levels, r->inputs, r->parcels, r->buffers, r->partials, r->received, r->requests};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) mem_free(owned[i]);
  r->levels = NULL;
  r->inputs = r->partials = NULL;
  r->parcels = NULL;
  r->buffers = NULL;
  r->received = NULL;
  r->requests = NULL;
  r->n_parcels = r->n_requests = 0;
}

/* ---- messages ---- */

/* Sums travel as bfloat16 in the place of their floats: sent from its beginning, received at its end. */
static bool is_packed(const reducer *r, int tag) {
  return r->dtype == REDUCE_BFLOAT16 && tag == TAG_SUM;
}

enum { PACKED = 512 };

static void pack(float *x, size_t n) {
  uint16_t words[PACKED];
  for (size_t at = 0; at < n; at += PACKED) {
    const size_t count = n - at < PACKED ? n - at : PACKED;
    for (size_t i = 0; i < count; i++) words[i] = bfloat16_from_float(x[at + i]);
    memcpy((uint16_t *)x + at, words, count * sizeof *words);
  }
}

static void unpack(float *x, size_t n) {
  uint16_t words[PACKED];
  for (size_t at = 0; at < n; at += PACKED) {
    const size_t count = n - at < PACKED ? n - at : PACKED;
    memcpy(words, (uint16_t *)x + n + at, count * sizeof *words);
    for (size_t i = 0; i < count; i++) x[at + i] = bfloat16_to_float(words[i]);
  }
}

static status post(reducer *r, parcel *p, bool send, void *data, size_t n, int team, int tag) {
  status st = STATUS_OK;
  int rank = r->l->members[layout_server(r->l, team, p->lane)].rank;
  const MPI_Datatype type = is_packed(r, tag) ? MPI_UINT16_T : MPI_FLOAT;
  const size_t bytes = is_packed(r, tag) ? sizeof(uint16_t) : sizeof(float);
  char *from = data;
  if (is_packed(r, tag) && send) pack(data, n);
  if (is_packed(r, tag) && !send) from += n * bytes;
  for (size_t at = 0; at < n; at += COMM_PIECE) {
    int count = (int)(n - at < COMM_PIECE ? n - at : COMM_PIECE);
    MPI_Request *request = &p->requests[p->n_requests];
    if (send)
      TRY_MPI(MPI_Isend(from + at * bytes, count, type, rank, tag, r->c->world, request));
    else
      TRY_MPI(MPI_Irecv(from + at * bytes, count, type, rank, tag, r->c->world, request));
    p->n_requests++;
  }
done:
  return st;
}

/* The team of another block that has this team's place there; those after this one first, so that not all
 * send to the same one at once. */
static int peer(const reducer *r, int i, int k) {
  return layout_peer(r->l, my_team(r), i, (r->levels[i].digit + k) % r->l->radix[i]);
}

static status receive_sums(reducer *r, parcel *p, int i) {
  status st = STATUS_OK;
  size_t n = part_length(r, p, my_team(r), i + 1);
  float *to = p->received[i];
  for (int d = 0; d < r->l->radix[i]; d++) {
    if (d == r->levels[i].digit) continue;
    for (int j = 0; j < r->levels[i].n_left[d]; j++, to += reduce_rounded(n))
      TRY(post(r, p, false, to, n, layout_peer(r->l, my_team(r), i, d), TAG_SUM));
  }
done:
  return st;
}

/* The other blocks' parts of what this block has come down to. */
static status send_sums(reducer *r, parcel *p, int i, int threads) {
  status st = STATUS_OK;
  float *place = p->sent;
  size_t begin, end;
  int n_left = r->levels[i].n_left[r->levels[i].digit];
  if (i == 0) list_team(r, r->inputs);
  for (int k = 1; k < r->l->radix[i]; k++) {
    tree_vector made[TREE_DEPTH];
    const tree_vector *from = i ? p->partial : r->inputs;
    layout_part(r->l, p->bucket, p->lane, peer(r, i, k), i + 1, &begin, &end);
    if (i == 0 && !r->speak_as_is) {
      for (int j = 0; j < n_left; j++, place += reduce_rounded(end - begin))
        made[j] = (tree_vector){place, begin};
      tree_run(r->speak, r->inputs, made, begin, end, threads, r->scratch);
      from = made;
    }
    for (int j = 0; j < n_left; j++)
      TRY(post(r, p, true, from[j].data + (begin - from[j].origin), end - begin, peer(r, i, k), TAG_SUM));
  }
done:
  return st;
}

static status begin_sum(reducer *r, parcel *p, int i, int threads) {
  status st = STATUS_OK;
  TRY(receive_sums(r, p, i));
  TRY(send_sums(r, p, i, threads));
done:
  return st;
}

/* Each result takes the place of its leftmost input: nobody else reads that part of it, and it is in the
 * cache. */
static void finish_sum(reducer *r, parcel *p, int i, int threads) {
  const level *v = &r->levels[i];
  size_t begin, end;
  layout_part(r->l, p->bucket, p->lane, my_team(r), i + 1, &begin, &end);
  float *received = p->received[i];
  int n = 0;
  for (int d = 0; d < r->l->radix[i]; d++) {
    if (d != v->digit) {
      for (int j = 0; j < v->n_left[d]; j++, received += reduce_rounded(end - begin)) {
        if (is_packed(r, TAG_SUM)) unpack(received, end - begin);
        r->inputs[n++] = (tree_vector){received, begin};
      }
    } else if (i == 0) {
      n += list_team(r, r->inputs + n);
    } else {
      for (int j = 0; j < v->n_left[d]; j++) r->inputs[n++] = p->partial[j];
    }
  }
  for (int j = 0; j < v->n_out; j++) p->partial[j] = r->inputs[v->sum->first[j]];
  tree_run(v->sum, r->inputs, p->partial, begin, end, threads, r->scratch);
}

static status begin_share(reducer *r, parcel *p, int i) {
  status st = STATUS_OK;
  float *parameters = reducer_parameters(r);
  size_t begin, end;
  for (int k = 1; k < r->l->radix[i]; k++) {
    layout_part(r->l, p->bucket, p->lane, peer(r, i, k), i + 1, &begin, &end);
    TRY(post(r, p, false, parameters + begin, end - begin, peer(r, i, k), TAG_SHARE));
  }
  layout_part(r->l, p->bucket, p->lane, my_team(r), i + 1, &begin, &end);
  for (int k = 1; k < r->l->radix[i]; k++)
    TRY(post(r, p, true, parameters + begin, end - begin, peer(r, i, k), TAG_SHARE));
done:
  return st;
}

/* ---- parcels ---- */

static bool has_arrived(parcel *p, status *st) {
  int arrived = 1;
  if (!p->n_requests) return true;
  int code = MPI_Testall(p->n_requests, p->requests, &arrived, MPI_STATUSES_IGNORE);
  if (code != MPI_SUCCESS) *st = comm_failed(code, "MPI_Testall");
  if (arrived) p->n_requests = 0;
  return arrived;
}

static bool is_ready(reducer *r, const parcel *p) {
  unsigned all = (r->round + 1) * (unsigned)layout_my_team(r->l)->n;
  return atomic_load_explicit(reduce_counter(r, p->bucket), memory_order_acquire) == all;
}

/* So many buckets of this rank's lanes are in a stage at one time: near levels' messages and far ones' then
 * travel together. All at once they would finish each level together, and leave the other levels' links idle:
 * 85 ms instead of 70 for 100 MB on a simulated dragonfly of 25 Gbit/s. One alone would leave its level idle
 * until the next call. */
enum { STAGE_BUCKETS = 2 };

static bool has_room(const reducer *r, int i) {
  const int ahead = STAGE_BUCKETS * (r->n_parcels / r->l->n_buckets);
  const parcel *p = &r->parcels[i];
  return i < ahead || p->stage == r->l->n_levels || p[-ahead].stage > p->stage + 1;
}

/* One stage on; the way back begins with the last level. */
static status next_stage(reducer *r, parcel *p, bool back, int threads) {
  int n = r->l->n_levels;
  status st = STATUS_OK;
  if (p->stage > 0 && !back) finish_sum(r, p, p->stage - 1, threads);
  if (p->stage < n) st = back ? begin_share(r, p, n - 1 - p->stage) : begin_sum(r, p, p->stage, threads);
  p->stage++;
  return st;
}

/* No parcel overtakes another, so that messages between two ranks come in one order. */
static status push(reducer *r, bool back, int threads) {
  status st = STATUS_OK;
  for (int i = 0; i < r->n_parcels; i++) {
    parcel *p = &r->parcels[i];
    while (p->stage <= r->l->n_levels && (!i || p[-1].stage > p->stage)) {
      if (p->stage == 0 && !back && !is_ready(r, p)) return STATUS_OK;
      if (!has_room(r, i) || !has_arrived(p, &st)) break;
      if (!st) st = next_stage(r, p, back, threads);
      if (st) return st;
    }
  }
  return st;
}

static status complete(reducer *r, bool back) {
  status st = STATUS_OK;
  int ignored;
  for (;;) {
    TRY(push(r, back, r->threads));
    if (r->parcels[r->n_parcels - 1].stage > r->l->n_levels) break;
    TRY_MPI(MPI_Waitany(r->n_requests, r->requests, &ignored, MPI_STATUS_IGNORE));
  }
  for (int i = 0; i < r->n_parcels; i++) r->parcels[i].stage = 0;
done:
  return st;
}

status exchange_push(reducer *r, int threads) {
  return push(r, false, threads);
}

status exchange_finish(reducer *r) {
  return complete(r, false);
}

status exchange_share(reducer *r) {
  return complete(r, true);
}

/* ---- status and stats ---- */

static status swap_rows(reducer *r, int i, int *worst, int *who) {
  status st = STATUS_OK;
  const layout *l = r->l;
  const size_t width = (size_t)r->n_stats, room = 2 + (size_t)l->n_shards * width;
  MPI_Request *requests = r->requests + r->n_requests;
  int n = 0, from, to;
  layout_shards(l, my_team(r), i, &from, &to);
  size_t mine = (size_t)(to - from) * width;
  r->message[0] = *worst;
  r->message[1] = *who;
  memcpy(r->message + 2, r->rows + (size_t)from * width, mine * sizeof(double));
  for (int k = 1; k < l->radix[i]; k++) {
    int rank = l->members[l->teams[peer(r, i, k)].first].rank;
    TRY_MPI(MPI_Irecv(r->messages + (size_t)k * room, (int)room, MPI_DOUBLE, rank, TAG_ROWS, r->c->world,
                      &requests[n++]));
    TRY_MPI(MPI_Isend(r->message, (int)(2 + mine), MPI_DOUBLE, rank, TAG_ROWS, r->c->world, &requests[n++]));
  }
  TRY_MPI(MPI_Waitall(n, requests, MPI_STATUSES_IGNORE));
  for (int k = 1; k < l->radix[i]; k++) {
    const double *theirs = r->messages + (size_t)k * room;
    layout_shards(l, peer(r, i, k), i, &from, &to);
    reduce_take_worse((int)theirs[0], (int)theirs[1], worst, who);
    memcpy(r->rows + (size_t)from * width, theirs + 2, (size_t)(to - from) * width * sizeof(double));
  }
done:
  return st;
}

status exchange_rows(reducer *r, int *worst, int *who) {
  status st = STATUS_OK;
  for (int i = 0; i < r->l->n_levels; i++) TRY(swap_rows(r, i, worst, who));
done:
  return st;
}
