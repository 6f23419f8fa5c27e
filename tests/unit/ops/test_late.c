/* Gradients that are made row by row after the backward pass, beside those that it writes. */
#include "small_graph.h"

#include "ops/tiles.h"

#include "base/mem.h"

enum { ROWS = 24, WIDTH = 160, UNITS = 130 };

/* Weights: of Gemm as PyTorch writes it, of Gemm, of MatMul over a sequence; then some that cannot be late:
 * scaled, used twice, small. */
static graph *net(int *weights) {
  graph *g;
  int x, y;
  const shape turned = {.rank = 2, .dims = {UNITS, WIDTH}}, straight = {.rank = 2, .dims = {UNITS, UNITS}},
              small = {.rank = 2, .dims = {UNITS, 3}};
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 2, .dims = {-1, WIDTH}}, &x));
  weights[0] = parameter(g, turned, false);
  for (int i = 1; i < 5; i++) weights[i] = parameter(g, straight, false);
  weights[5] = parameter(g, small, false);
  y = APPLY(g, "Tanh", "", APPLY(g, "Gemm", "transB=1", x, weights[0]));
  y = APPLY(g, "Tanh", "", APPLY(g, "Gemm", "", y, weights[1]));
  y = APPLY(g, "Tanh", "", APPLY(g, "MatMul", "", y, weights[2]));
  y = APPLY(g, "Tanh", "", APPLY(g, "Gemm", "alpha=0.5", y, weights[3]));
  y = APPLY(g, "Tanh", "", APPLY(g, "MatMul", "", y, weights[4]));
  y = APPLY(g, "Tanh", "", APPLY(g, "MatMul", "", y, weights[4]));
  must(graph_add_output(g, APPLY(g, "Gemm", "", y, weights[5])));
  must(graph_finish(g));
  return g;
}

static void run(plan *p, const float *block, float *gradients) {
  const run_context run = {.training = true, .row_share = 1};
  plan_set_parameters(p, block);
  plan_set_gradients(p, gradients);
  fill_random(plan_input(p, 0)->data, tensor_n(plan_input(p, 0)), 9);
  must(plan_forward(p, &run));
  fill_random(plan_output_gradient(p, 0)->data, tensor_n(plan_output_gradient(p, 0)), 10);
  must(plan_backward(p, &run));
}

static void test_late(void **state) {
  (void)state;
  if (!tiles_exist()) skip();
  int weights[6];
  graph *g = net(weights);
  plan *whole, *p;
  float *block, *expected, *got, *copies;
  bool *may;
  const size_t n = (size_t)g->n_block;
  must(mem_new(&block, n, sizeof *block));
  must(mem_new(&expected, n, sizeof *expected));
  must(mem_new(&got, n, sizeof *got));
  must(mem_new(&may, (size_t)g->n_values, sizeof *may));
  graph_initial_block(g, block);
  for (int i = 0; i < g->n_values; i++) may[i] = true;
  must(plan_new(&whole, g, &(plan_options){.rows = ROWS, .training = true}));
  must(plan_new(&p, g, &(plan_options){.rows = ROWS, .training = true, .late = may}));
  assert_int_equal(plan_n_late(whole), 0);
  assert_int_equal(plan_n_late(p), 3);
  run(whole, block, expected);
  must(mem_new(&copies, (size_t)plan_late_floats(p), sizeof *copies));
  plan_set_copies(p, copies);
  for (size_t i = 0; i < n; i++) got[i] = 7;
  run(p, block, got);
  for (int i = 0; i < 3; i++) {
    const late_range r = plan_late(p, i);
    assert_int_equal(r.value, weights[i]);
    assert_true(got[r.first] == 7 && got[r.first + r.rows * r.columns - 1] == 7);
    plan_make_late(p, i, copies, 50, r.rows, false, got + r.first + 50 * r.columns);
    plan_make_late(p, i, copies, 0, 50, false, got + r.first);
  }
  for (int i = 0; i < 6; i++) {
    const value *v = &g->values[weights[i]];
    assert_memory_equal(got + v->offset, expected + v->offset, (size_t)shape_count(&v->shape) * sizeof *got);
  }
  for (int i = 0; i < 3; i++) {
    const late_range r = plan_late(p, i);
    plan_make_late(p, i, copies, 0, r.rows, true, got + r.first);
    for (int64_t k = r.first; k < r.first + r.rows * r.columns; k++)
      assert_true(got[k] == expected[k] + expected[k]);
  }
  may[weights[1]] = false;
  plan_free(&p);
  must(plan_new(&p, g, &(plan_options){.rows = ROWS, .training = true, .late = may}));
  assert_int_equal(plan_n_late(p), 2);
  assert_int_equal(plan_late(p, 1).value, weights[2]);
  plan_free(&p);
  plan_free(&whole);
  float *const all[] = {block, expected, got, copies};
  for (int i = 0; i < 4; i++) mem_free(all[i]);
  mem_free(may);
  graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_late)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
