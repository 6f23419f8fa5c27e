#include "stages/cost.h"

#include "comm/tree.h"

#include <math.h>

/* Of a round of messages between nodes, and of one meeting of a node's ranks. */
static const double MESSAGE_S = 20e-6, MEETING_S = 3e-6;
/* Of a shard's time, that of its backward pass. */
static const double BACKWARD = 0.6;
enum { LEAST_WAVE = 8, MEETINGS = 3, ROUND = 3 }; /* ROUND: messages at once, to as many nodes */

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

/* What the nodes exchange, seen from the first one and by one of its lanes. */
typedef struct exchange {
  int buckets;
  int64_t messages;
  double rounds, longest;  /* of messages, for a bucket; those of its longest level */
  double sums, parameters; /* bytes sent */
  double added, received;  /* floats of sums: additions, and those that come from others */
  double made;             /* floats of partial sums that are not a shard's own gradient */
} exchange;

/* What nodes [first, first + n) come down to. */
static status left_of_nodes(const cost_training *t, const cluster *k, int64_t first, int64_t n, int *shards,
                            int64_t *left) {
  int64_t per_node = cluster_node_ranks(k), end = (first + n) * per_node, most;
  int from, to;
  if (end > k->ranks) end = k->ranks;
  shards_of(t, k, first * per_node, end - first * per_node, &from, &to);
  *shards = to - from;
  return left_of(t, from, to, INT32_MAX, left, &most);
}

static status find_exchange(const cost_training *t, const cluster *k, exchange *x) {
  status st = STATUS_OK;
  int radix[REDUCE_LEVELS], nodes = (int)cluster_nodes(k), shards;
  int64_t left, mine, out, span = 1;
  double part = (double)t->n_floats / (double)cluster_node_ranks(k);
  const int levels = reduce_levels(nodes, radix);
  *x = (exchange){.buckets = reduce_buckets((size_t)t->n_floats, nodes)};
  TRY(left_of_nodes(t, k, 0, 1, &shards, &mine));
  x->added = (double)(shards - mine) * part;
  if (shards > mine) x->made = (double)mine * part * (1 - 1.0 / radix[0]);
  for (int i = 0; i < levels; i++, span *= radix[i - 1]) {
    const double others = radix[i] - 1, rounds = fmax(1, others / ROUND);
    part /= radix[i];
    x->rounds += rounds;
    x->longest = fmax(x->longest, rounds);
    x->sums +=
        part * others * (double)mine * (t->dtype == REDUCE_BFLOAT16 ? sizeof(uint16_t) : sizeof(float));
    x->parameters += part * others * sizeof(float);
    x->messages += (int64_t)others * (mine + 1) * x->buckets;
    int64_t theirs = 0;
    for (int d = 1; d < radix[i]; d++) {
      TRY(left_of_nodes(t, k, d * span, span, &shards, &left));
      theirs += left;
    }
    TRY(left_of_nodes(t, k, 0, span * radix[i], &shards, &out));
    x->received += part * (double)theirs;
    x->added += part * (double)(mine + theirs - out);
    mine = out;
  }
done:
  return st;
}

/* There is no time for sums but the backward pass', and a bucket of them is left for later. */
static double network_seconds(const cost_training *t, const cluster *k, const exchange *x) {
  double message_s = k->message_s > 0 ? k->message_s : MESSAGE_S;
  double byte_s = k->link_bytes_per_s > 0 ? (double)cluster_node_ranks(k) / k->link_bytes_per_s : 0;
  double rounds_s = message_s * (x->rounds + (x->buckets - 1) * x->longest);
  double sums_s = rounds_s + x->sums * byte_s, back_s = rounds_s + x->parameters * byte_s;
  double late_s = sums_s - BACKWARD * t->shard_s, last_s = sums_s / x->buckets;
  return back_s + (late_s > last_s ? late_s : last_s);
}

status cost_of_step(const cost_training *t, const cluster *k, cost_step *out) {
  status st = STATUS_OK;
  exchange x;
  int64_t load = most_shards(t, k), lanes = cluster_node_ranks(k), nodes = cluster_nodes(k);
  TRY(find_exchange(t, k, &x));
  *out = (cost_step){.compute_s = (double)((load + k->threads - 1) / k->threads) * t->shard_s,
                     .messages = x.messages * lanes,
                     .bytes = (x.sums + x.parameters) * (double)lanes};
  out->sums_s = x.added * t->sum_s + (double)t->n_floats / (double)k->ranks * t->update_s +
                (k->ranks > 1 ? MEETINGS * MEETING_S * log2((double)lanes + 1) : 0);
  if (nodes > 1) out->network_s = network_seconds(t, k, &x);
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

/* Whether late gradients are late (stages/trainer_late.c). */
static bool is_late(const cost_training *t, const cluster *k) {
  return t->shards > k->ranks && cluster_nodes(k) == 1;
}

status cost_rank_vectors(const cost_training *t, const cluster *k, double *out) {
  status st = STATUS_OK;
  exchange x;
  double owned = (double)t->n_floats / (double)k->ranks;
  TRY(find_exchange(t, k, &x));
  const int64_t load = most_shards(t, k), places = load < wave_of(k) ? load : wave_of(k);
  const double copies = is_late(t, k) ? (double)(places * t->late_copies) : 0;
  *out = ((double)(2 * t->n_states + 1) * owned + x.received + x.made + copies) * sizeof(float);
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
