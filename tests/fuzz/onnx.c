/* ONNX models: read, planned for two rows, run once. */
#include "fuzz.h"

#include "graph/plan.h"
#include "onnx/model.h"

#include "base/mem.h"

enum { RUN_BYTES = 1 << 20 }; /* larger plans take too long for a fuzzer */

static void run(const graph *g) {
  plan *p = NULL;
  float *block = NULL;
  if (fuzz_answer(plan_new(&p, g, &(plan_options){.rows = 2}))) goto done;
  if (plan_memory_bytes(p) > RUN_BYTES || mem_new(&block, (size_t)g->n_block + 1, sizeof *block)) goto done;
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  for (int i = 0; i < g->n_inputs; i++) {
    tensor *t = plan_input(p, i);
    size_t bytes = (size_t)shape_count(&t->shape) * dtype_bytes(t->type);
    if (bytes) memset(t->data, 0, bytes);
  }
  fuzz_answer(plan_forward(p, &(run_context){.row_share = 1}));
done:
  plan_free(&p);
  mem_free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  model *m = NULL;
  if (!fuzz_answer(model_parse(&m, fuzz_path("fuzz.onnx"), data, n))) run(model_graph(m));
  model_free(&m);
  return 0;
}
