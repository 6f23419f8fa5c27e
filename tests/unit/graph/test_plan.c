/* Plans: shapes, folding, forward and backward against numbers computed by hand. */
#include "toy_ops.h"

static const run_context running = {.training = true, .row_share = 0.25f};

/* y = relu(x W) with rows = 2: numbers by hand. */
static void test_forward_and_backward(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", (shape){2, {-1, 2}});
  int w = initializer(g, "w", (shape){2, {2, 2}}, (float[]){1, -1, 2, 3});
  finish(g, apply(g, &relu_op, "y", apply(g, &matmul_op, "h", x, w), -1));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .training = true, .input_gradients = true}));
  float block[16], leaf[16];
  assert_int_equal(g->n_block, 16);
  assert_int_equal(g->n_parameters, 4);
  graph_initial_block(g, block);
  plan_set_parameters(p, block);
  plan_set_gradients(p, leaf);
  memcpy(plan_input(p, 0)->data, (float[]){1, 2, -3, 1}, 4 * sizeof(float));
  OK(plan_forward(p, &running));
  assert_memory_equal(plan_output(p, 0)->data, ((float[]){5, 5, 0, 6}), 4 * sizeof(float));
  memcpy(plan_output_gradient(p, 0)->data, (float[]){1, 10, 100, 1000}, 4 * sizeof(float));
  OK(plan_backward(p, &running));
  assert_memory_equal(leaf, ((float[]){1, 10 - 3000, 2, 20 + 1000}), 4 * sizeof(float));
  assert_memory_equal(plan_input_gradient(p, 0)->data, ((float[]){-9, 32, -1000, 3000}), 4 * sizeof(float));
  plan_free(&p);
  graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward_and_backward)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
