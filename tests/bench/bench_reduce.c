/* One optimizer step's communication, turn by turn in one program: the tree all-reduce of all shards with the
 * update of the parameters, against MPI_Allreduce of the same vector, bare and with the same work around it
 * (each rank adds up its own shards before and updates every parameter after).
 *
 *     mpirun -n 2 build/tests/bench/bench_reduce [TURNS [FLOATS SHARDS]]
 *
 * Median and least milliseconds of rank 0. MPISTILL_SHARED_MEMORY=0 shows the way of several nodes. */
#include "comm/reduce.h"

#include "base/mem.h"
#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TURNS = 1000 };

typedef struct bench {
  comm *c;
  reducer *r;
  int n_shards;
  size_t n;
  float *gradient, *parameters; /* for MPI_Allreduce */
} bench;

typedef struct times {
  const char *name;
  double s[MOST_TURNS];
} times;

/* As the backward pass leaves them: just written by their rank. */
static void write_leaves(bench *b, int turn) {
  for (int w = 0; w < reducer_waves(b->r); w++) {
    int from, to;
    reducer_wave(b->r, w, &from, &to);
    for (int s = from; s < to; s++) {
      float *leaf = reducer_leaf(b->r, s);
      for (size_t i = 0; i < b->n; i++) leaf[i] = (float)(s + turn) + (float)(i % 7) * 0.125f;
    }
    reducer_fold(b->r, w);
  }
}

static void update(float *parameters, const float *gradient, size_t n) {
  for (size_t i = 0; i < n; i++) parameters[i] -= 0.001f * gradient[i];
}

static status tree_step(bench *b) {
  status st = STATUS_OK;
  size_t begin, end;
  double totals[1];
  TRY(reducer_sum(b->r, STATUS_OK, totals));
  for (int i = 0; i < reducer_n_parts(b->r); i++) {
    const float *sum = reducer_part(b->r, i, &begin, &end);
    update(reducer_parameters(b->r) + begin, sum, end - begin);
  }
  TRY(reducer_share(b->r));
done:
  return st;
}

static status bare_step(bench *b) {
  MPI_Allreduce(MPI_IN_PLACE, b->gradient, (int)b->n, MPI_FLOAT, MPI_SUM, comm_mpi(b->c));
  return STATUS_OK;
}

static status allreduce_step(bench *b) {
  int from, to;
  reduce_range(b->n_shards, comm_size(b->c), comm_rank(b->c), &from, &to);
  memset(b->gradient, 0, b->n * sizeof(float));
  for (int s = from; s < to; s++) {
    const float *leaf = reducer_leaf(b->r, s);
    for (size_t i = 0; i < b->n; i++) b->gradient[i] += leaf[i];
  }
  bare_step(b);
  update(b->parameters, b->gradient, b->n);
  return STATUS_OK;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static status measure(bench *b, int turns) {
  static status (*const steps[])(bench * b) = {tree_step, allreduce_step, bare_step};
  static times results[] = {
      {.name = "tree"}, {.name = "sum+MPI_Allreduce+update"}, {.name = "MPI_Allreduce"}};
  status st = STATUS_OK;
  for (int turn = 0; turn < turns; turn++) {
    for (int i = 0; i < 3; i++) {
      write_leaves(b, turn);
      TRY(comm_barrier(b->c));
      double start = clock_seconds();
      TRY(steps[i](b));
      results[i].s[turn] = clock_seconds() - start;
    }
  }
  if (comm_rank(b->c) > 0) return STATUS_OK;
  printf("%6.1f MiB %3d shards", (double)b->n * 4 / (1 << 20), b->n_shards);
  for (int i = 0; i < 3; i++) {
    qsort(results[i].s, (size_t)turns, sizeof(double), by_value);
    printf("   %s %.3f (%.3f)", results[i].name, results[i].s[turns / 2] * 1e3, results[i].s[0] * 1e3);
  }
  printf("\n");
done:
  return st;
}

static status one_size(comm *c, size_t n, int n_shards, int turns) {
  status st = STATUS_OK;
  bench b = {.c = c, .n = n, .n_shards = n_shards};
  TRY(reducer_new(&b.r, c, n_shards, n, 0, 1, REDUCE_FLOAT32));
  st = mem_new(&b.gradient, n, sizeof(float));
  if (!st) st = mem_new(&b.parameters, n, sizeof(float));
  TRY(comm_agree(c, st));
  TRY(measure(&b, turns));
done:
  reducer_free(&b.r);
  mem_free(b.gradient);
  mem_free(b.parameters);
  return st;
}

int main(int argc, char **argv) {
  static const size_t mebi[] = {1, 5, 64};
  static const int n_shards[] = {2, 8};
  int turns = argc > 1 ? atoi(argv[1]) : 21;
  comm *c = NULL;
  status st = STATUS_OK;
  if (turns < 1 || turns > MOST_TURNS) turns = 21;
  TRY(comm_start(&c));
  if (argc > 3) {
    st = one_size(c, (size_t)strtoull(argv[2], NULL, 10), atoi(argv[3]), turns);
    goto done;
  }
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 2; j++) TRY(one_size(c, mebi[i] << 18, n_shards[j], turns));
done:
  if (st) fprintf(stderr, "%s\n", status_message());
  comm_end(&c);
  return st;
}
