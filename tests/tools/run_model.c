/* run_model MODEL ROWS INPUT OUTPUT: one forward pass of a model with one float input. INPUT and OUTPUT are
 * raw floats, row-major, rows first; the output's shape goes to stdout. For comparisons with other engines.
 */
#include "base/file.h"
#include "base/mem.h"
#include "graph/plan.h"
#include "onnx/model.h"
#include "ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t bytes_of(const tensor *t) {
  return (size_t)shape_count(&t->shape) * dtype_bytes(t->type);
}

static status run(const char *path, int64_t rows, const char *input, const char *output) {
  status st = STATUS_OK;
  model *m = NULL;
  plan *p = NULL;
  float *block = NULL;
  unsigned char *bytes = NULL;
  size_t n;
  char text[128];
  TRY(ops_init());
  TRY(model_read(&m, path));
  const graph *g = model_graph(m);
  TRY(plan_new(&p, g, &(plan_options){.rows = rows}));
  TRY(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  TRY(file_read(input, &bytes, &n));
  tensor *x = plan_input(p, 0);
  if (n != bytes_of(x)) THROW(STATUS_BAD_INPUT, "%s: has %zu bytes, not %zu", input, n, bytes_of(x));
  memcpy(x->data, bytes, n);
  TRY(plan_forward(p, &(run_context){0}));
  const tensor *y = plan_output(p, 0);
  TRY(file_write(output, y->data, bytes_of(y)));
  puts(shape_text(&y->shape, text, sizeof text));
done:
  plan_free(&p);
  model_free(&m);
  mem_free(block);
  mem_free(bytes);
  return st;
}

int main(int argc, char **argv) {
  if (argc != 5) return fprintf(stderr, "usage: %s MODEL ROWS INPUT OUTPUT\n", argv[0]), 2;
  status st = run(argv[1], strtoll(argv[2], NULL, 10), argv[3], argv[4]);
  if (st) fprintf(stderr, "%s\n", status_message());
  return st;
}
