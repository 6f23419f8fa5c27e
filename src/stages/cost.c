#include "stages/cost.h"

#include "comm/reduce.h"
#include "comm/tree.h"

#include <math.h>

/* Of one message between nodes, and of one meeting of a node's ranks. */
static const double MESSAGE_S = 20e-6, MEETING_S = 3e-6;
enum { LEAST_WAVE = 8, MEETINGS = 3 };

int64_t cluster_nodes(const cluster *k) {
  return (k->ranks + k->ranks_per_node - 1) / k->ranks_per_node;
}

int64_t cluster_node_ranks(const cluster *k) {
  return k->ranks < k->ranks_per_node ? k->ranks : k->ranks_per_node;
}

/* The shards of ranks [first, first + n). */
static void shards_of(const cost_training *t, const cluster *k, int64_t first, int64_t n, int *from,
                      int *to) {
  int ignored;
  reduce_range((int)t->shards, (int)k->ranks, (int)first, from, &ignored);
  reduce_range((int)t->shards, (int)k->ranks, (int)(first + n - 1), &ignored, to);
}

/* The largest nodes of the tree that shards from..to come down to; *most: held at once on the way when they
 * are pushed in waves. */
static status left_of(const cost_training *t, int from, int to, int64_t wave, int64_t *left, int64_t *most) {
  status st = STATUS_OK;
  tree *program = NULL;
  *left = *most = 0;
  TRY(tree_new(&program, (int)t->shards + TREE_DEPTH));
  tree_start(program, (int)t->shards);
  for (int s = from; s < to; s++) {
    tree_push(program, (tree_node){0, s});
    if ((s + 1) % wave == 0 && program->n_left > *most) *most = program->n_left;
  }
  *left = program->n_left;
  if (*left > *most) *most = *left;
done:
  tree_free(&program);
  return st;
}

static int64_t wave_of(const cluster *k) {
  int64_t wave = LEAST_WAVE;
  while (wave < k->threads) wave *= 2;
  return wave;
}

static int64_t most_shards(const cost_training *t, const cluster *k) {
  int64_t ranks = k->ranks < t->shards ? k->ranks : t->shards;
  return (t->shards + ranks - 1) / ranks;
}

status cost_of_step(const cost_training *t, const cluster *k, cost_step *out) {
  status st = STATUS_OK;
  int from, to;
  int64_t left, most, nodes = cluster_nodes(k), load = most_shards(t, k);
  double floats = (double)t->n_floats, slice = floats / (double)k->ranks;
  shards_of(t, k, 0, cluster_node_ranks(k), &from, &to);
  TRY(left_of(t, from, to, INT32_MAX, &left, &most));
  *out = (cost_step){.compute_s = (double)((load + k->threads - 1) / k->threads) * t->shard_s};
  /* A node's shards are added on the node, for all of the vector; then those of the others to one's own
   * slice. */
  double added = (double)(to - from - left) * floats / (double)cluster_node_ranks(k) +
                 (double)((nodes - 1) * left) * slice;
  out->sums_s = added * t->sum_s + slice * t->update_s +
                (k->ranks > 1 ? MEETINGS * MEETING_S * log2((double)cluster_node_ranks(k) + 1) : 0);
  if (nodes == 1) goto done;
  double away = 1 - 1 / (double)nodes;
  out->bytes = sizeof(float) * floats * away * (double)(left + 1);
  int64_t far = k->ranks - cluster_node_ranks(k);
  out->messages = far * left + cluster_node_ranks(k) * (nodes - 1);
  out->network_s = MESSAGE_S * 2 * log2((double)nodes + 1) +
                   MESSAGE_S * (double)out->messages / (double)cluster_node_ranks(k);
  if (k->link_bytes_per_s > 0) out->network_s += out->bytes / k->link_bytes_per_s;
done:
  return st;
}

double cost_step_seconds(const cost_step *s) {
  return s->compute_s + s->sums_s + s->network_s;
}

status cost_node_vectors(const cost_training *t, const cluster *k, int64_t *out) {
  status st = STATUS_OK;
  int64_t wave = wave_of(k);
  *out = 1;
  for (int64_t i = 0; i < cluster_node_ranks(k) && i < t->shards; i++) {
    int from, to;
    int64_t left, most;
    reduce_range((int)t->shards, (int)k->ranks, (int)i, &from, &to);
    int64_t load = to - from;
    if (load <= wave) {
      *out += load;
      continue;
    }
    TRY(left_of(t, from, to, wave, &left, &most));
    *out += wave + most;
  }
done:
  return st;
}

status cost_rank_vectors(const cost_training *t, const cluster *k, double *out) {
  status st = STATUS_OK;
  int from, to;
  int64_t left, most, nodes = cluster_nodes(k), far = k->ranks - cluster_node_ranks(k);
  double slice = (double)t->n_floats / (double)k->ranks;
  *out = (double)(2 * t->n_states + 1) * slice * sizeof(float);
  if (nodes == 1) goto done;
  shards_of(t, k, 0, cluster_node_ranks(k), &from, &to);
  TRY(left_of(t, from, to, INT32_MAX, &left, &most));
  /* Received: the others' partial sums of this slice. Sent: this node's, of the slices this rank speaks for.
   */
  *out += (double)((nodes - 1) * left) * slice * sizeof(float);
  *out += (double)(far * left) / (double)cluster_node_ranks(k) * slice * sizeof(float);
done:
  return st;
}

double cost_of_items(double n_items, double item_s, int64_t ranks, int64_t threads) {
  double lanes = (double)(ranks * threads), rounds = n_items / lanes;
  return (rounds > 1 ? rounds : (n_items > 0 ? 1 : 0)) * item_s;
}

double cost_efficiency(int64_t shards, int64_t ranks, int64_t threads) {
  cost_training t = {.shards = shards};
  cluster k = {.ranks = ranks};
  int64_t load = most_shards(&t, &k), rounds = (load + threads - 1) / threads;
  return (double)shards / (double)(ranks * threads * rounds);
}
