/* Forward passes of a model on one thread, as teachers run it, for some seconds.
 *
 *     bench_model [--steps] MODEL ROWS SECONDS INPUT... OUTPUT
 *
 * Each INPUT is a file of raw numbers of the type that the model declares; OUTPUT receives all outputs of the
 * last pass behind each other. Prints the seconds of the fastest and of the median pass; with --steps also
 * where the time goes, by operator. */
#include "base/file.h"
#include "base/mem.h"
#include "base/progress.h"
#include "graph/plan.h"
#include "onnx/model.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PASSES = 100000, WARM_UP = 2 };

typedef struct times {
  double *s;
  int n;
} times;

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static status read_input(tensor *x, const char *path) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  TRY(file_read(path, &bytes, &n));
  if (n != (size_t)shape_count(&x->shape) * dtype_bytes(x->type))
    THROW(STATUS_BAD_INPUT, "%s: has %zu bytes, which is not what the model takes", path, n);
  memcpy(x->data, bytes, n);
done:
  mem_free(bytes);
  return st;
}

static status write_outputs(const plan *p, int n, const char *path) {
  FILE *f = fopen(path, "wb");
  if (!f) return status_set(STATUS_FAILED, "%s: cannot be written", path);
  for (int i = 0; i < n; i++) {
    const tensor *y = plan_output(p, i);
    fwrite(y->data, dtype_bytes(y->type), (size_t)shape_count(&y->shape), f);
  }
  return fclose(f) ? status_set(STATUS_FAILED, "%s: cannot be written", path) : STATUS_OK;
}

/* Inputs are written before every pass: their memory is used again within one. */
static status run_passes(plan *p, char **inputs, int n_inputs, double seconds, times *t) {
  status st = STATUS_OK;
  const double started = clock_seconds();
  for (int i = 0; i < MOST_PASSES && (i < WARM_UP + 3 || clock_seconds() - started < seconds); i++) {
    for (int k = 0; k < n_inputs; k++) TRY(read_input(plan_input(p, k), inputs[k]));
    const double at = clock_seconds();
    TRY(plan_forward(p, &(run_context){0}));
    if (i >= WARM_UP) t->s[t->n++] = clock_seconds() - at;
  }
  qsort(t->s, (size_t)t->n, sizeof *t->s, by_value);
done:
  return st;
}

typedef struct share {
  const char *name;
  double s;
} share;

static int by_share(const void *a, const void *b) {
  return by_value(&((const share *)b)->s, &((const share *)a)->s);
}

/* One more pass, step by step. */
static status show_steps(plan *p) {
  status st = STATUS_OK;
  share *shares = NULL;
  int n = 0;
  const run_context run = {0};
  TRY(mem_new(&shares, (size_t)plan_n_steps(p), sizeof *shares));
  for (int i = 0; i < plan_n_steps(p); i++) {
    step *s = (step *)plan_step(p, i);
    const double at = clock_seconds();
    s->run = &run;
    TRY(s->op->forward(s));
    const double took = clock_seconds() - at;
    int k = 0;
    while (k < n && strcmp(shares[k].name, s->op->name) != 0) k++;
    if (k == n) shares[n++].name = s->op->name;
    shares[k].s += took;
  }
  qsort(shares, (size_t)n, sizeof *shares, by_share);
  for (int k = 0; k < n; k++) printf("  %-24s %9.3f ms\n", shares[k].name, 1e3 * shares[k].s);
done:
  mem_free(shares);
  return st;
}

static status run(bool steps, char **words, int n_words) {
  status st = STATUS_OK;
  model *m = NULL;
  plan *p = NULL;
  float *block = NULL;
  times t = {0};
  TRY(ops_init());
  TRY(mem_new(&t.s, MOST_PASSES, sizeof *t.s));
  TRY(model_read(&m, words[0]));
  const graph *g = model_graph(m);
  if (g->n_inputs != n_words - 4) THROW(STATUS_BAD_INPUT, "%s: has %d inputs", words[0], g->n_inputs);
  TRY(plan_new(&p, g, &(plan_options){.rows = strtoll(words[1], NULL, 10)}));
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  TRY(run_passes(p, words + 3, g->n_inputs, strtod(words[2], NULL), &t));
  printf("%.9f %.9f\n", t.s[0], t.s[t.n / 2]);
  TRY(write_outputs(p, g->n_outputs, words[n_words - 1]));
  if (steps) TRY(show_steps(p));
done:
  plan_free(&p);
  model_free(&m);
  mem_free(block);
  mem_free(t.s);
  return st;
}

int main(int argc, char **argv) {
  bool steps = argc > 1 && strcmp(argv[1], "--steps") == 0;
  argc -= 1 + steps;
  argv += 1 + steps;
  if (argc < 5)
    return fprintf(stderr, "usage: bench_model [--steps] MODEL ROWS SECONDS INPUT... OUTPUT\n"), 2;
  status st = run(steps, argv, argc);
  if (st) fprintf(stderr, "%s\n", status_message());
  return st;
}
