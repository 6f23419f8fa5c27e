/* src/comm on a simulated cluster (SimGrid's SMPI): one rank a node, network time as the platform gives it,
 * computing time as injected. Gradients have no memory of their own and are not added up: what that takes is
 * injected too.
 *
 *     simulate step MEGABYTES SECONDS PROFILE
 *       a step that computes for SECONDS and sums gradients of that size
 *     simulate overlap MEGABYTES SECONDS PROFILE
 *       the same, reporting gradients as the backward pass leaves them
 *     simulate allreduce MEGABYTES SECONDS
 *       the same with MPI_Allreduce after it
 *     simulate model MEGABYTES SECONDS NODES GBITS
 *       what `plan` reckons for `overlap`
 *     simulate teach TEACHERS SECONDS
 *       teachers whose blocks take 1 to 8 times SECONDS, through the work queue
 *
 * PROFILE: what tests/tools/backward.c prints; its times are scaled to SECONDS. Prints one line: seconds of a
 * step beside its computing, and how many MB went over the busiest link, "-" without SIMULATE_LINKS=1; or
 * seconds of all and of a perfect division. */
#include "comm/queue.h"
#include "comm/reduce.h"
#include "comm/tree.h"
#include "stages/cost.h"

#include "base/mem.h"

#include <math.h>
#include <simgrid/link.h>
#include <simgrid/plugins/load.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE = 1 << 16, MOST_TEACHERS = 64, BLOCKS = 256, MOST_PARTS = 4096 };

/* Of memory that the ranks of a node read and write while they add up vectors. Assumed, not measured: about
 * what four cores of a server move. */
static const double SUM_BYTES_PER_S = 40e9;
/* Of a link's rate, what can be had: run.sh says the same to SimGrid, which counts the rest as sent. */
static const double LINK_RATE = 0.95;

static void add_for(double floats) {
  smpi_execute(floats * sizeof(float) / SUM_BYTES_PER_S);
}

/* ---- what the linker puts in the place of the library's own (--wrap) ---- */

status __real_mem_new(void *out, size_t n, size_t size);
void __real_mem_free(void *p);
status __wrap_mem_new(void *out, size_t n, size_t size);
void __wrap_mem_free(void *p);
void __wrap_tree_run(const tree *t, const tree_vector *inputs, const tree_vector *outputs, size_t begin,
                     size_t end, int threads, float *scratch);

/* Large memory is known to SMPI, which does not copy it, and all of a size is the same: what is in it is
 * never looked at. A list tells it from small memory when it is freed. */
typedef struct shared_block {
  void *memory;
  size_t bytes;
  int users;
} shared_block;
static shared_block *blocks;
static size_t n_blocks, room;

static shared_block *find_block(const void *memory, size_t bytes) {
  for (size_t i = 0; i < n_blocks; i++)
    if (memory ? blocks[i].memory == memory : blocks[i].bytes == bytes) return &blocks[i];
  return NULL;
}

static shared_block *new_block(size_t bytes) {
  if (n_blocks == room) {
    room = room ? 2 * room : 64;
    blocks = realloc(blocks, room * sizeof *blocks);
    if (!blocks) abort();
  }
  blocks[n_blocks] = (shared_block){smpi_shared_malloc(bytes, "gradients", (int)(bytes / 4096)), bytes, 0};
  return &blocks[n_blocks++];
}

status __wrap_mem_new(void *out, size_t n, size_t size) {
  const size_t bytes = n * size;
  if (bytes < LARGE) return __real_mem_new(out, n, size);
  shared_block *b = find_block(NULL, bytes);
  if (!b) b = new_block(bytes);
  b->users++;
  memcpy(out, &b->memory, sizeof b->memory);
  return STATUS_OK;
}

void __wrap_mem_free(void *p) {
  shared_block *b = p ? find_block(p, 0) : NULL;
  if (!b) {
    __real_mem_free(p);
    return;
  }
  if (--b->users) return;
  smpi_shared_free(p);
  *b = blocks[--n_blocks];
}

void __wrap_tree_run(const tree *t, const tree_vector *inputs, const tree_vector *outputs, size_t begin,
                     size_t end, int threads, float *scratch) {
  (void)inputs, (void)outputs, (void)threads, (void)scratch;
  if (t->n_inputs > t->n_left) add_for((double)(t->n_inputs + t->n_left) * (double)(end - begin));
}

/* ---- what is measured ---- */

typedef struct meter {
  double started, compute_s;
} meter;

static bool counts_links(void) {
  return getenv("SIMULATE_LINKS") != NULL;
}

static void track_links(void) {
  sg_link_t *links = sg_link_list();
  for (size_t i = 0; i < sg_link_count(); i++) sg_link_load_track(links[i]);
  free(links);
}

/* Collective. Links count from here on. */
static status meter_start(meter *m, comm *c, double compute_s) {
  status st = STATUS_OK;
  if (comm_rank(c) == 0 && counts_links()) track_links();
  TRY(comm_barrier(c));
  *m = (meter){MPI_Wtime(), compute_s};
done:
  return st;
}

/* What the busiest link carried, had it the rate of a node's, which is the least of those in use. */
static double busiest_link(void) {
  double least_rate = INFINITY, most_s = 0;
  sg_link_t *links = sg_link_list();
  for (size_t i = 0; i < sg_link_count(); i++) {
    const double rate = sg_link_get_bandwidth(links[i]);
    const double load = sg_link_get_cum_load(links[i]);
    if (load > 0) least_rate = fmin(least_rate, rate);
    most_s = fmax(most_s, load / rate);
  }
  free(links);
  return LINK_RATE * most_s * least_rate;
}

static status meter_print(const meter *m, comm *c) {
  status st = STATUS_OK;
  TRY(comm_barrier(c));
  if (comm_rank(c) > 0) return STATUS_OK;
  printf("%.6f ", MPI_Wtime() - m->started - m->compute_s);
  if (counts_links())
    printf("%.3f\n", busiest_link() / 1e6);
  else
    printf("-\n");
done:
  return st;
}

/* ---- the programs ---- */

typedef struct profile {
  double forward_s, backward_s[MOST_PARTS], share[MOST_PARTS];
  int n;
} profile;

static status read_profile(profile *p, const char *path, double seconds) {
  FILE *f = fopen(path, "r");
  double all;
  if (!f || fscanf(f, "%lf", &p->forward_s) != 1) return status_set(STATUS_BAD_INPUT, "%s: no profile", path);
  all = p->forward_s;
  for (p->n = 0; p->n < MOST_PARTS && fscanf(f, "%lf %lf", &p->backward_s[p->n], &p->share[p->n]) == 2;
       p->n++)
    all += p->backward_s[p->n];
  fclose(f);
  p->forward_s *= seconds / all;
  for (int i = 0; i < p->n; i++) p->backward_s[i] *= seconds / all;
  return STATUS_OK;
}

static status step(comm *c, bool overlaps, double megabytes, double compute_s, const char *path) {
  status st = STATUS_OK;
  reducer *r = NULL;
  size_t n = (size_t)(megabytes * 1e6 / sizeof(float));
  double totals[2];
  meter m;
  static profile p;
  TRY(read_profile(&p, path, compute_s));
  TRY(reducer_new(&r, c, comm_size(c), n, 2, 1, REDUCE_FLOAT32));
  TRY(meter_start(&m, c, compute_s));
  smpi_execute(p.forward_s);
  for (int i = 0; i < p.n; i++) {
    smpi_execute(p.backward_s[i]);
    if (overlaps) reducer_ready(r, (size_t)((1 - p.share[i]) * (double)n));
  }
  TRY(reducer_sum(r, STATUS_OK, totals));
  TRY(reducer_share(r));
  TRY(meter_print(&m, c));
done:
  reducer_free(&r);
  return st;
}

static void no_sum(void *in, void *out, int *n, MPI_Datatype *type) {
  (void)in, (void)out, (void)type;
  add_for(3.0 * *n);
}

static status allreduce(comm *c, double megabytes, double compute_s) {
  status st = STATUS_OK;
  size_t n = (size_t)(megabytes * 1e6 / sizeof(float));
  float *gradient = NULL, *sum = NULL;
  meter m;
  MPI_Op op;
  MPI_Op_create(no_sum, 1, &op);
  TRY(mem_new(&gradient, n, sizeof *gradient));
  TRY(mem_new(&sum, n, sizeof *sum));
  TRY(meter_start(&m, c, compute_s));
  smpi_execute(compute_s);
  MPI_Allreduce(gradient, sum, (int)n, MPI_FLOAT, op, comm_mpi(c));
  TRY(meter_print(&m, c));
done:
  mem_free(gradient);
  mem_free(sum);
  MPI_Op_free(&op);
  return st;
}

/* The same by arithmetic. A round of messages: four microseconds of processors, and the wires. */
static status foresee(comm *c, double megabytes, double compute_s, double nodes, double gbits) {
  status st = STATUS_OK;
  cost_step step;
  const cost_training t = {.shards = (int64_t)nodes,
                           .n_floats = (int64_t)(megabytes * 1e6 / sizeof(float)),
                           .shard_s = compute_s,
                           .sum_s =
                               5.0 / 3 * sizeof(float) / SUM_BYTES_PER_S}; /* four are read, one is written */
  const cluster k = {.ranks = (int64_t)nodes,
                     .ranks_per_node = 1,
                     .threads = 1,
                     .link_bytes_per_s = LINK_RATE * gbits / 8 * 1e9,
                     .message_s = 6e-6};
  TRY(cost_of_step(&t, &k, &step));
  if (comm_rank(c) == 0) printf("%.6f\n", cost_step_seconds(&step) - compute_s);
done:
  return st;
}

/* Rank 0 answers between micro-batches, of which a block has eight here. */
static status work(queue *q, double seconds) {
  status st = STATUS_OK;
  for (int i = 0; i < 8; i++) {
    smpi_execute(seconds / 8);
    TRY(queue_serve(q));
  }
done:
  return st;
}

static status teach(comm *c, int teachers, double block_s) {
  status st = STATUS_OK;
  queue *q = NULL;
  int64_t items[MOST_TEACHERS], item;
  double costs[MOST_TEACHERS], all = 0;
  int group;
  for (int i = 0; i < teachers; i++) {
    items[i] = BLOCKS;
    costs[i] = block_s * pow(8, (double)i / (teachers > 1 ? teachers - 1 : 1));
    all += (double)items[i] * costs[i];
  }
  double started = MPI_Wtime();
  TRY(queue_new(&q, c, teachers, items, costs, NULL, NULL));
  TRY(queue_next(q, &group, &item));
  while (group >= 0) {
    TRY(work(q, costs[group]));
    TRY(queue_next(q, &group, &item));
  }
  TRY(queue_finish(q));
  if (comm_rank(c) == 0) printf("%.6f %.6f\n", MPI_Wtime() - started, all / comm_size(c));
done:
  queue_free(&q);
  return st;
}

int main(int argc, char **argv) {
  status st = STATUS_OK;
  comm *c = NULL;
  if (argc < 4) return 2;
  double amount = strtod(argv[2], NULL), seconds = strtod(argv[3], NULL);
  MPI_Init(&argc, &argv);
  st = comm_from(&c, MPI_COMM_WORLD);
  if (!st && argc == 6) st = foresee(c, amount, seconds, strtod(argv[4], NULL), strtod(argv[5], NULL));
  bool overlaps = !strcmp(argv[1], "overlap");
  if (!st && argc == 5) st = step(c, overlaps, amount, seconds, argv[4]);
  if (!st && !strcmp(argv[1], "allreduce")) st = allreduce(c, amount, seconds);
  if (!st && !strcmp(argv[1], "teach")) st = teach(c, (int)amount, seconds);
  if (st) fprintf(stderr, "simulate: %s\n", status_message());
  comm_end(&c);
  MPI_Finalize();
  return st;
}
