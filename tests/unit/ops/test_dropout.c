/* What Dropout drops belongs to the sample: not to the shard, nor to the layout its elements have inside the
 * model. */
#include "base/mem.h"
#include "graph/plan.h"
#include "ops/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 64, WIDTH = 510 };
static const float ratio = 0.3f;

#define must(call)                                                                                           \
  do {                                                                                                       \
    if ((call) != STATUS_OK) fail_msg("%s: %s", #call, status_message());                                    \
  } while (0)

/* x [rows, 2, WIDTH/2] -> Reshape to `dims` -> Dropout */
static graph *dropout_graph(const int64_t *dims, int rank) {
  graph *g;
  tensor *to;
  attribute *a;
  int x, target, flat, y;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){3, {-1, 2, WIDTH / 2}}, &x));
  must(tensor_new(&to, DTYPE_INT64, &(shape){1, {rank}}));
  memcpy(to->data, dims, (size_t)rank * sizeof *dims);
  must(graph_add_constant(g, "dims", false, to, &target));
  must(graph_add_value(g, "flat", &flat));
  must(graph_add_value(g, "y", &y));
  must(
      graph_add_node(g, "reshape", op_find("", "Reshape", 11), 11, (int[]){x, target}, 2, &flat, 1, NULL, 0));
  must(mem_new(&a, 1, sizeof *a));
  must(mem_string(&a->name, "ratio"));
  a->type = ATTRIBUTE_FLOAT;
  a->f = ratio;
  must(graph_add_node(g, "drop", op_find("", "Dropout", 11), 11, &flat, 1, &y, 1, a, 1));
  must(graph_add_output(g, y));
  must(graph_finish(g));
  return g;
}

/* y for samples first .. first + rows, all x being 1; and its gradient for dy = 1. */
static void run(const graph *g, int64_t first, int64_t rows, bool training, uint64_t step, float *y,
                float *dx) {
  plan *p;
  int64_t ids[ROWS];
  const int64_t n = rows * WIDTH;
  for (int64_t r = 0; r < rows; r++) ids[r] = 1000 + first + r;
  const run_context context = {.training = training, .seed = 9, .step = step, .rows = ids};
  must(plan_new(&p, g, &(plan_options){.rows = rows, .training = true, .input_gradients = true}));
  float *x = plan_input(p, 0)->data;
  for (int64_t i = 0; i < n; i++) x[i] = 1;
  must(plan_forward(p, &context));
  memcpy(y, plan_output(p, 0)->data, (size_t)n * sizeof *y);
  float *dy = plan_output_gradient(p, 0)->data;
  for (int64_t i = 0; i < n; i++) dy[i] = 1;
  must(plan_backward(p, &context));
  memcpy(dx, plan_input_gradient(p, 0)->data, (size_t)n * sizeof *dx);
  plan_free(&p);
}

static float whole[ROWS * WIDTH], part[ROWS * WIDTH], gradient[ROWS * WIDTH];

static void shards_drop_the_same(void **state) {
  (void)state;
  const int64_t plain[] = {0, -1}, pieces[] = {-1, WIDTH / 2};
  for (int layout = 0; layout < 2; layout++) {
    graph *g = dropout_graph(layout ? pieces : plain, 2);
    run(g, 0, ROWS, true, 5, whole, gradient);
    for (int64_t first = 0; first < ROWS; first += 16) {
      run(g, first, 16, true, 5, part, gradient);
      assert_memory_equal(part, whole + first * WIDTH, 16 * WIDTH * sizeof(float));
    }
    graph_free(&g);
  }
}

static void layout_does_not_matter(void **state) {
  (void)state;
  graph *g = dropout_graph((const int64_t[]){0, -1}, 2), *h = dropout_graph((const int64_t[]){-1, 5}, 2);
  run(g, 0, ROWS, true, 5, whole, gradient);
  run(h, 0, ROWS, true, 5, part, gradient);
  assert_memory_equal(part, whole, sizeof whole);
  graph_free(&g);
  graph_free(&h);
}

static void rate_and_scale_are_right(void **state) {
  (void)state;
  graph *g = dropout_graph((const int64_t[]){0, -1}, 2);
  run(g, 0, ROWS, true, 5, whole, gradient);
  const double n = ROWS * WIDTH;
  double dropped = 0;
  for (int64_t i = 0; i < ROWS * WIDTH; i++) {
    if (whole[i] == 0)
      dropped++;
    else
      assert_true(fabsf(whole[i] - 1 / (1 - ratio)) < 1e-6f);
  }
  double sigma = sqrt((double)ratio * (1 - ratio) / n);
  assert_true(fabs(dropped / n - ratio) < 4 * sigma);
  assert_memory_equal(gradient, whole, sizeof whole);
  graph_free(&g);
}

static void steps_drop_others(void **state) {
  (void)state;
  graph *g = dropout_graph((const int64_t[]){0, -1}, 2);
  run(g, 0, ROWS, true, 5, whole, gradient);
  run(g, 0, ROWS, true, 6, part, gradient);
  int64_t both = 0;
  for (int64_t i = 0; i < ROWS * WIDTH; i++) both += whole[i] == 0 && part[i] == 0;
  double n = ROWS * WIDTH, rate = (double)ratio * ratio;
  assert_true(fabs((double)both / n - rate) <
              4 * sqrt(rate * (1 - rate) / n)); /* independent of each other */
  graph_free(&g);
}

static void nothing_is_dropped_outside_training(void **state) {
  (void)state;
  graph *g = dropout_graph((const int64_t[]){0, -1}, 2);
  run(g, 0, ROWS, false, 5, whole, gradient);
  for (int64_t i = 0; i < ROWS * WIDTH; i++) assert_true(whole[i] == 1 && gradient[i] == 1);
  graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shards_drop_the_same),
      cmocka_unit_test(layout_does_not_matter),
      cmocka_unit_test(rate_and_scale_are_right),
      cmocka_unit_test(steps_drop_others),
      cmocka_unit_test(nothing_is_dropped_outside_training),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
