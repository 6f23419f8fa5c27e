/* run_model [--reference] MODEL ROWS INPUT... OUTPUT: one forward pass of a model, with plain kernels where
 * --reference is given. Each INPUT is a file of raw numbers of
 * the type that the model declares, row-major, rows first; FILE:4,7 gives the shape, which is needed where
 * the model leaves more open than the rows. All outputs are written behind each other to OUTPUT, their shapes
 * to stdout, one a line. For comparisons with other engines. */
#include "base/file.h"
#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/model.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUTS_MAX = 16 };

static size_t bytes_of(const tensor *t) {
  return (size_t)shape_count(&t->shape) * dtype_bytes(t->type);
}

/* Cuts the shape off "FILE:4,7"; false when there is none. */
static bool cut_shape(char *input, shape *out) {
  char *at = strrchr(input, ':');
  if (!at) return false;
  *at++ = '\0';
  for (out->rank = 0; *at && out->rank < SHAPE_MAX_RANK; at += *at == ',')
    out->dims[out->rank++] = strtoll(at, &at, 10);
  return true;
}

static status read_input(tensor *x, const char *path) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  size_t n;
  TRY(file_read(path, &bytes, &n));
  if (n != bytes_of(x)) THROW(STATUS_BAD_INPUT, "%s: has %zu bytes, not %zu", path, n, bytes_of(x));
  if (x->data) memcpy(x->data, bytes, n);
done:
  mem_free(bytes);
  return st;
}

static status write_outputs(const plan *p, int n, const char *path) {
  status st = STATUS_OK;
  unsigned char *bytes = NULL;
  char text[128];
  size_t total = 0;
  for (int i = 0; i < n; i++) total += bytes_of(plan_output(p, i));
  TRY(mem_new(&bytes, total, 1));
  total = 0;
  for (int i = 0; i < n; i++) {
    const tensor *y = plan_output(p, i);
    if (bytes_of(y)) memcpy(bytes + total, y->data, bytes_of(y));
    total += bytes_of(y);
    puts(shape_text(&y->shape, text, sizeof text));
  }
  TRY(file_write(path, bytes, total));
done:
  mem_free(bytes);
  return st;
}

static status run(bool reference, const char *path, int64_t rows, char **inputs, int n_inputs,
                  const char *output) {
  status st = STATUS_OK;
  model *m = NULL;
  plan *p = NULL;
  float *block = NULL;
  shape shapes[INPUTS_MAX] = {0};
  bool shaped = false;
  TRY(ops_init());
  TRY(model_read(&m, path));
  const graph *g = model_graph(m);
  if (n_inputs != g->n_inputs || n_inputs > INPUTS_MAX)
    THROW(STATUS_BAD_INPUT, "%s: has %d inputs, %d are given", path, g->n_inputs, n_inputs);
  for (int i = 0; i < n_inputs; i++) shaped |= cut_shape(inputs[i], &shapes[i]);
  plan_options o = {.rows = rows, .reference = reference, .input_shapes = shaped ? shapes : NULL};
  TRY(plan_new(&p, g, &o));
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  for (int i = 0; i < n_inputs; i++) TRY(read_input(plan_input(p, i), inputs[i]));
  TRY(plan_forward(p, &(run_context){0}));
  TRY(write_outputs(p, g->n_outputs, output));
done:
  plan_free(&p);
  model_free(&m);
  mem_free(block);
  return st;
}

int main(int argc, char **argv) {
  bool reference = argc > 1 && strcmp(argv[1], "--reference") == 0;
  argc -= reference;
  argv += reference;
  if (argc < 4) return fprintf(stderr, "usage: run_model [--reference] MODEL ROWS INPUT... OUTPUT\n"), 2;
  status st = run(reference, argv[1], strtoll(argv[2], NULL, 10), argv + 3, argc - 4, argv[argc - 1]);
  if (st) fprintf(stderr, "%s\n", status_message());
  return st;
}
