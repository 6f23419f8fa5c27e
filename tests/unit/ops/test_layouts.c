/* Plans of small convolutional nets: which values have their channels in blocks, what convolutions do
 * besides, and that the numbers are those of the reference kernels, forward and backward. */
#include "small_graph.h"

#include "ops/dnnl.h"

enum { ROWS = 3, SIDE = 9 };

/* filters of channels (of one group), 3 x 3 with padding or 1 x 1. */
static int conv(graph *g, int x, int64_t filters, int64_t channels, int64_t side, int groups) {
  char attributes[64];
  snprintf(attributes, sizeof attributes, "group=%d pads=%d,%d,%d,%d", groups, side > 1, side > 1, side > 1,
           side > 1);
  int w = parameter(g, (shape){.rank = 4, .dims = {filters, channels, side, side}}, false);
  return APPLY(g, "Conv", attributes, x, w, parameter(g, (shape){.rank = 1, .dims = {filters}}, false));
}

static int norm(graph *g, int x, int64_t channels) {
  int p[4];
  for (int i = 0; i < 4; i++) p[i] = parameter(g, (shape){.rank = 1, .dims = {channels}}, i == 3);
  return APPLY(g, "BatchNormalization", "", x, p[0], p[1], p[2], p[3]);
}

static int relu(graph *g, int x) {
  return APPLY(g, "Relu", "", x);
}

static int clip(graph *g, int x, float low, float high) {
  return APPLY(g, "Clip", "", x, number(g, low), number(g, high));
}

static int chain(graph *g, int x) {
  return conv(g, relu(g, conv(g, relu(g, conv(g, x, 16, 3, 3, 1)), 32, 16, 3, 1)), 16, 32, 1, 1);
}

/* 20 channels do not fill their blocks. */
static int inverted(graph *g, int x) {
  int a = conv(g, x, 20, 3, 3, 1);
  int b = clip(g, norm(g, conv(g, a, 48, 20, 1, 1), 48), 0, 6);
  b = clip(g, norm(g, conv(g, b, 48, 1, 3, 48), 48), 0, 6);
  b = norm(g, conv(g, b, 20, 48, 1, 1), 20);
  return APPLY(g, "GlobalAveragePool", "", relu(g, APPLY(g, "Add", "", a, b)));
}

static int residual(graph *g, int x) {
  int a = relu(g, norm(g, conv(g, x, 16, 3, 3, 1), 16));
  int b = relu(g, norm(g, conv(g, a, 16, 16, 3, 1), 16));
  int c = relu(g, APPLY(g, "Add", "", norm(g, conv(g, b, 16, 16, 3, 1), 16), a));
  int d = norm(g, conv(g, c, 32, 16, 1, 1), 32), e = norm(g, conv(g, c, 32, 16, 3, 1), 32);
  return APPLY(g, "GlobalAveragePool", "", relu(g, APPLY(g, "Add", "", e, d)));
}

/* The value that is added is read again later. */
static int kept(graph *g, int x) {
  int a = conv(g, x, 16, 3, 3, 1);
  int b = APPLY(g, "Add", "", a, conv(g, relu(g, a), 16, 16, 3, 1));
  return conv(g, APPLY(g, "Mul", "", a, b), 16, 16, 1, 1);
}

static int pooled(graph *g, int x) {
  int a = APPLY(g, "MaxPool", "kernel_shape=3,3 strides=2,2", relu(g, conv(g, x, 32, 3, 3, 1)));
  int b = APPLY(g, "AveragePool", "kernel_shape=2,2", conv(g, a, 16, 32, 3, 1));
  int c = APPLY(g, "AveragePool", "kernel_shape=2,2", conv(g, a, 32, 32, 1, 1));
  return conv(g, APPLY(g, "Concat", "axis=1", b, c), 16, 48, 1, 1);
}

/* Pooling where blocks end. */
static int flattened(graph *g, int x) {
  int a = APPLY(g, "MaxPool", "kernel_shape=2,2", relu(g, conv(g, x, 32, 3, 3, 1)));
  return APPLY(g, "Flatten", "",
               APPLY(g, "AveragePool", "kernel_shape=2,2", relu(g, conv(g, a, 16, 32, 3, 1))));
}

/* Squeeze and excitation: planes times one number each. */
static int excited(graph *g, int x) {
  int a = APPLY(g, "HardSwish", "", conv(g, x, 32, 3, 3, 1));
  int b = relu(g, conv(g, APPLY(g, "GlobalAveragePool", "", a), 16, 32, 1, 1));
  int c = APPLY(g, "HardSigmoid", "", conv(g, b, 32, 16, 1, 1));
  return conv(g, APPLY(g, "Mul", "", a, c), 16, 32, 1, 1);
}

/* What is no zero at zero may not stand in blocks that are not full; nor what a stranger reads. */
static int strangers(graph *g, int x) {
  int a = APPLY(g, "Sigmoid", "", conv(g, x, 20, 3, 3, 1));
  int b = conv(g, a, 16, 20, 3, 1);
  return conv(g, APPLY(g, "Softmax", "axis=1", b), 16, 16, 1, 1);
}

/* Groups of 4 channels: the library is slow in blocks there. */
static int grouped(graph *g, int x) {
  return conv(g, relu(g, conv(g, relu(g, conv(g, x, 32, 3, 3, 1)), 32, 4, 3, 8)), 16, 32, 1, 1);
}

static int powers(graph *g, int x) {
  int a = APPLY(g, "LeakyRelu", "alpha=0.2", conv(g, x, 16, 3, 3, 1));
  return conv(g, APPLY(g, "Sub", "", a, APPLY(g, "Tanh", "", a)), 16, 16, 3, 1);
}

/* Steps and values in blocks: for inference, and for training. */
static const struct {
  const char *name;
  int (*build)(graph *g, int x);
  int steps, blocks, training_blocks;
} nets[] = {{"chain", chain, 3, 2, 4},        {"inverted", inverted, 5, 4, -1},
            {"residual", residual, 6, 5, 16}, {"kept", kept, 5, 4, 5},
            {"pooled", pooled, 8, 7, 8},      {"flattened", flattened, 5, 3, 5},
            {"excited", excited, 7, 5, 7},    {"strangers", strangers, 5, 0, 0},
            {"grouped", grouped, 3, 0, -1},   {"powers", powers, 4, 3, 4}};

static graph *net(int i) {
  graph *g;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 4, .dims = {-1, 3, SIDE, SIDE}}, &x));
  must(graph_add_output(g, nets[i].build(g, x)));
  must(graph_finish(g));
  return g;
}

static int n_blocks(const plan *p) {
  int n = 0;
  for (int i = 0; i < plan_n_steps(p); i++) n += plan_step(p, i)->out[0]->block == dnnl_block();
  return n;
}

static void assert_near(const char *net, const char *what, const float *x, const float *y, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(y[i]));
  assert_true(n && largest > 0);
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(x[i] - y[i]) <= 2e-5 * largest))
      fail_msg("%s: %s %d is %g, with reference kernels %g", net, what, (int)i, x[i], y[i]);
}

static plan *new_plan(const graph *g, const float *block, plan_options o) {
  plan *p;
  o.rows = ROWS;
  must(plan_new(&p, g, &o));
  plan_set_parameters(p, block);
  return p;
}

static void run_forward(plan *p, bool training) {
  fill_random(plan_input(p, 0)->data, tensor_n(plan_input(p, 0)), 9);
  must(plan_forward(p, &(run_context){.training = training, .row_share = 1}));
}

static void test_inference(void **state) {
  (void)state;
  for (int i = 0; i < (int)COUNT(nets); i++) {
    float *block;
    graph *g = net(i);
    must(mem_new(&block, (size_t)g->n_block, sizeof *block));
    graph_initial_block(g, block);
    plan *fast = new_plan(g, block, (plan_options){0}),
         *apart = new_plan(g, block, (plan_options){.separate = true}),
         *plain = new_plan(g, block, (plan_options){.reference = true});
    run_forward(plain, false);
    for (int pass = 0; pass < 2; pass++) { /* what the first leaves in memory does not matter */
      run_forward(fast, false);
      run_forward(apart, false);
      const int64_t n = tensor_n(plan_output(plain, 0));
      assert_near(nets[i].name, "output", plan_output(fast, 0)->data, plan_output(plain, 0)->data, n);
      assert_memory_equal(plan_output(fast, 0)->data, plan_output(apart, 0)->data, (size_t)n * sizeof(float));
    }
    if (plan_n_steps(fast) != nets[i].steps || n_blocks(fast) != nets[i].blocks)
      fail_msg("%s: %d steps, %d values in blocks", nets[i].name, plan_n_steps(fast), n_blocks(fast));
    assert_int_equal(n_blocks(plain), 0);
    plan_free(&fast);
    plan_free(&apart);
    plan_free(&plain);
    graph_free(&g);
    mem_free(block);
  }
}

static void run_backward(plan *p, float *gradients) {
  plan_set_gradients(p, gradients);
  run_forward(p, true);
  fill_random(plan_output_gradient(p, 0)->data, tensor_n(plan_output_gradient(p, 0)), 11);
  must(plan_backward(p, &(run_context){.training = true, .row_share = 1}));
}

static void test_training(void **state) {
  (void)state;
  for (int i = 0; i < (int)COUNT(nets); i++) {
    float *block, *gradients[2];
    graph *g = net(i);
    const size_t n = (size_t)g->n_block;
    must(mem_new(&block, n, sizeof *block));
    graph_initial_block(g, block);
    for (int k = 0; k < 2; k++) must(mem_new(&gradients[k], n, sizeof(float)));
    plan *p[2];
    for (int k = 0; k < 2; k++) {
      p[k] = new_plan(g, block, (plan_options){.training = true, .input_gradients = true, .reference = k});
      run_backward(p[k], gradients[k]);
    }
    if (nets[i].training_blocks >= 0 && n_blocks(p[0]) != nets[i].training_blocks)
      fail_msg("%s: %d values in blocks for training", nets[i].name, n_blocks(p[0]));
    assert_near(nets[i].name, "output", plan_output(p[0], 0)->data, plan_output(p[1], 0)->data,
                tensor_n(plan_output(p[0], 0)));
    assert_near(nets[i].name, "gradient", gradients[0], gradients[1], (int64_t)n);
    assert_near(nets[i].name, "input gradient", plan_input_gradient(p[0], 0)->data,
                plan_input_gradient(p[1], 0)->data, tensor_n(plan_input(p[0], 0)));
    for (int k = 0; k < 2; k++) {
      plan_free(&p[k]);
      mem_free(gradients[k]);
    }
    graph_free(&g);
    mem_free(block);
  }
}

/* Who taps a value within a region sees it row-major. */
static void test_taps(void **state) {
  (void)state;
  graph *g = net(0);
  const int tap = g->nodes[1].outputs[0];
  float *block;
  must(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan *p[2];
  for (int k = 0; k < 2; k++) {
    p[k] = new_plan(g, block, (plan_options){.taps = &tap, .n_taps = 1, .reference = k});
    run_forward(p[k], false);
  }
  assert_int_equal(n_blocks(p[0]), 1);
  assert_near("chain", "tap", plan_tap(p[0], 0)->data, plan_tap(p[1], 0)->data, tensor_n(plan_tap(p[0], 0)));
  for (int k = 0; k < 2; k++) plan_free(&p[k]);
  graph_free(&g);
  mem_free(block);
}

/* Activations within a convolution would turn NaN into a number: a weight that is none must be seen. New
 * parameters are folded anew. */
static void test_parameters_change(void **state) {
  (void)state;
  graph *g = net(2);
  float *block;
  must(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan *fast = new_plan(g, block, (plan_options){0}),
       *plain = new_plan(g, block, (plan_options){.reference = true});
  run_forward(fast, false);
  for (int64_t i = 0; i < g->n_block; i++) block[i] *= 1.25f;
  plan_touch_parameters(fast);
  run_forward(fast, false);
  run_forward(plain, false);
  assert_near("residual", "output", plan_output(fast, 0)->data, plan_output(plain, 0)->data,
              tensor_n(plan_output(fast, 0)));
  block[g->values[g->nodes[0].inputs[1]].offset] = NAN;
  plan_touch_parameters(fast);
  run_forward(fast, false);
  const float *y = plan_output(fast, 0)->data;
  for (int64_t i = 0; i < tensor_n(plan_output(fast, 0)); i++) assert_true(isnan(y[i]));
  plan_free(&fast);
  plan_free(&plain);
  graph_free(&g);
  mem_free(block);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_inference), cmocka_unit_test(test_training),
                                     cmocka_unit_test(test_taps), cmocka_unit_test(test_parameters_change)};
  must(ops_init());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
