/* backward MODEL ROWS: how long a training step of a model takes, and when its gradients are final. Prints
 * the forward pass' seconds, then a line for each step of the backward pass: its seconds, and the share of
 * the gradients that is final after it. Medians of TURNS turns, one thread. For `make simulate`. */
#include "base/mem.h"
#include "base/progress.h"
#include "graph/plan.h"
#include "onnx/model.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 5, MOST_PARTS = 4096 };

typedef struct parts {
  double at[MOST_PARTS]; /* clock */
  int64_t from[MOST_PARTS];
  int n;
} parts;

static void passed(void *data, int64_t from) {
  parts *x = data;
  if (x->n == MOST_PARTS) return;
  x->from[x->n] = from;
  x->at[x->n++] = clock_seconds();
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values) {
  qsort(values, TURNS, sizeof *values, by_value);
  return values[TURNS / 2];
}

static void print_times(const graph *g, const double *forward, const double *backward, parts *turns) {
  double values[TURNS];
  memcpy(values, forward, sizeof values);
  printf("%.6f\n", median(values));
  for (int i = 0; i < turns[0].n; i++) {
    for (int t = 0; t < TURNS; t++) values[t] = turns[t].at[i] - (i ? turns[t].at[i - 1] : backward[t]);
    printf("%.6f %.6f\n", median(values), 1 - (double)turns[0].from[i] / (double)g->n_block);
  }
}

static status measure(const char *path, int64_t rows) {
  status st = STATUS_OK;
  model *m = NULL;
  plan *p = NULL;
  float *block = NULL, *gradients = NULL;
  parts *turns = NULL;
  double forward[TURNS], backward[TURNS];
  const run_context run = {.training = true, .row_share = 1};
  TRY(model_read(&m, path));
  const graph *g = model_graph(m);
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  TRY(mem_new(&gradients, (size_t)g->n_block, sizeof *gradients));
  TRY(mem_new(&turns, TURNS, sizeof *turns));
  graph_initial_block(g, block);
  TRY(plan_new(&p, g, &(plan_options){.rows = rows, .training = true}));
  plan_set_parameters(p, block);
  plan_set_gradients(p, gradients);
  for (int t = -1; t < TURNS; t++) { /* the first one touches memory */
    parts *x = &turns[t < 0 ? 0 : t];
    x->n = 0;
    plan_set_watcher(p, passed, x);
    plan_touch_parameters(p);
    double start = clock_seconds();
    TRY(plan_forward(p, &run));
    memset(plan_output_gradient(p, 0)->data, 0,
           (size_t)shape_count(&plan_output_gradient(p, 0)->shape) * sizeof(float));
    double middle = clock_seconds();
    TRY(plan_backward(p, &run));
    if (t < 0) continue;
    forward[t] = middle - start;
    backward[t] = middle;
  }
  print_times(g, forward, backward, turns);
done:
  plan_free(&p);
  mem_free(block);
  mem_free(gradients);
  mem_free(turns);
  model_free(&m);
  return st;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: backward MODEL ROWS\n");
    return 2;
  }
  status st = ops_init();
  if (!st) st = measure(argv[1], strtoll(argv[2], NULL, 10));
  if (st) fprintf(stderr, "backward: %s\n", status_message());
  return st;
}
