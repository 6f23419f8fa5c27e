/* The fast paths of products, convolution, pooling and normalisation beside their reference path, and twice
 * with the same bits, on whatever thread. */
#include "one_op.h"

static const one_op cases[] = {
    {"Gemm", "", {S(7, 5), S(5, 3), S(3)}},
    {"Gemm", "transB=1", {S(32, 784), S(80, 784), S(80)}},
    {"Gemm", "", {S(33, 150), S(150, 130), S(130)}},
    {"Gemm", "transA=1", {S(40, 150), S(40, 130), S(150, 1)}},
    {"Gemm", "transB=1 alpha=0.5 beta=0.25", {S(1, 17), S(9, 17), S(1, 9)}},
    {"Gemm", "transA=1 beta=2.0", {S(17, 7), S(17, 9), S(7, 1)}},
    {"Gemm", "transA=1 transB=1", {S(17, 7), S(9, 17), S(7, 9)}},
    {"Gemm", "alpha=1.5", {S(7, 1), S(1, 33), S(1)}},
    {"Gemm", "", {S(7, 65), S(65, 1)}},
    {"Gemm", "", {S(7, 65), S(65, 1), S(7, 1)}},
    {"MatMul", "", {S(7, 5), S(5, 3)}},
    {"MatMul", "", {S(5), S(5, 3)}},
    {"MatMul", "", {S(7, 5), S(5)}},
    {"MatMul", "", {S(5), S(5)}},
    {"MatMul", "", {S(2, 3, 7, 5), S(5, 4)}},
    {"MatMul", "", {S(2, 3, 7, 5), S(2, 3, 5, 4)}},
    {"MatMul", "", {S(2, 3, 7, 5), S(3, 5, 4)}},
    {"MatMul", "", {S(2, 1, 7, 5), S(3, 5, 4)}},
    {"MatMul", "", {S(7, 5), S(2, 3, 5, 4)}},
    {"MatMul", "", {S(5), S(2, 5, 4)}},
    {"MatMul", "", {S(2, 7, 5), S(5)}},
    {"Conv", "pads=1,1,1,1", {S(7, 16, 12, 12), S(16, 16, 3, 3), S(16)}},
    {"Conv", "pads=2,2,2,2", {S(1, 1, 28, 28), S(32, 1, 5, 5), S(32)}},
    {"Conv", "pads=1,1,1,1 strides=2,2", {S(7, 16, 15, 16), S(32, 16, 3, 3)}},
    {"Conv", "strides=2,2", {S(3, 16, 8, 8), S(32, 16, 1, 1)}},
    {"Conv", "pads=0,1,2,3 strides=2,3", {S(3, 5, 11, 13), S(7, 5, 3, 4), S(7)}},
    {"Conv", "dilations=2,3 pads=2,3,2,3", {S(3, 6, 13, 12), S(20, 6, 3, 3), S(20)}},
    {"Conv", "group=4 pads=1,1,1,1", {S(3, 8, 9, 9), S(12, 2, 3, 3), S(12)}},
    {"Conv", "group=3 dilations=2,2", {S(3, 6, 9, 9), S(9, 2, 3, 3), S(9)}},
    {"Conv", "group=24 pads=1,1,1,1", {S(3, 24, 10, 10), S(24, 1, 3, 3), S(24)}},
    {"Conv", "group=32 pads=1,1,1,1 strides=2,2", {S(1, 32, 10, 10), S(32, 1, 3, 3)}},
    {"Conv", "group=5", {S(3, 5, 10, 10), S(10, 1, 3, 3), S(10)}},
    {"Conv", "auto_pad=SAME_UPPER strides=2,2", {S(3, 4, 9, 10), S(6, 4, 4, 4), S(6)}},
    {"Conv", "auto_pad=SAME_LOWER", {S(3, 4, 9, 10), S(6, 4, 4, 2), S(6)}},
    {"Conv", "auto_pad=VALID", {S(3, 4, 9, 10), S(6, 4, 4, 2), S(6)}},
    {"Conv", "pads=3,3", {S(7, 12, 50), S(20, 12, 7), S(20)}},
    {"Conv", "group=12 dilations=2 pads=2,2", {S(7, 12, 50), S(12, 1, 3), S(12)}},
    {"Conv", "pads=1,1,1,1,1,1", {S(2, 3, 5, 7, 6), S(8, 3, 3, 3, 3), S(8)}},
    {"Conv", "group=2 strides=2,1,2 dilations=1,2,1", {S(2, 4, 6, 7, 6), S(6, 2, 2, 3, 3), S(6)}},
    {"ConvTranspose", "", {S(7, 16, 6, 7), S(16, 8, 3, 3), S(8)}},
    {"ConvTranspose", "strides=2,2 pads=1,1,1,1 output_padding=1,1", {S(3, 5, 6, 7), S(5, 7, 3, 3), S(7)}},
    {"ConvTranspose", "group=3 dilations=2,1", {S(1, 6, 6, 7), S(6, 4, 3, 3), S(12)}},
    {"ConvTranspose", "strides=3 output_shape=20", {S(3, 4, 6), S(4, 5, 4)}},
    {"ConvTranspose", "strides=1,2,1", {S(2, 4, 3, 4, 5), S(4, 3, 2, 3, 2), S(3)}},
    {"MaxPool", "kernel_shape=2,2 strides=2,2", {S(7, 16, 12, 12)}},
    {"MaxPool", "kernel_shape=3,3 strides=2,2 pads=1,1,1,1", {S(7, 5, 13, 12)}},
    {"MaxPool", "kernel_shape=3,2 strides=2,2 ceil_mode=1", {S(3, 5, 12, 11)}},
    {"MaxPool", "kernel_shape=2,2 strides=2,2 ceil_mode=1 pads=1,1,1,1", {S(3, 5, 8, 9)}},
    {"MaxPool", "kernel_shape=3,3 dilations=2,3 pads=1,2,1,2", {S(3, 5, 12, 11)}},
    {"MaxPool", "kernel_shape=3,3 auto_pad=SAME_LOWER strides=2,2", {S(1, 17, 12, 11)}},
    {"MaxPool", "kernel_shape=3 strides=2", {S(3, 5, 33)}},
    {"MaxPool", "kernel_shape=2,3,2 strides=2,1,2 pads=0,1,0,0,1,1", {S(3, 5, 6, 7, 8)}},
    {"AveragePool", "kernel_shape=2,2 strides=2,2", {S(7, 16, 12, 12)}},
    {"AveragePool", "kernel_shape=3,3 pads=1,1,1,1", {S(7, 5, 13, 12)}},
    {"AveragePool", "kernel_shape=3,3 pads=1,0,0,1 count_include_pad=1", {S(3, 5, 13, 12)}},
    {"AveragePool", "kernel_shape=3,3 strides=2,2 ceil_mode=1", {S(3, 5, 12, 11)}},
    {"AveragePool",
     "kernel_shape=3,3 strides=2,2 ceil_mode=1 pads=1,1,1,1 count_include_pad=1",
     {S(3, 5, 12, 11)}},
    {"AveragePool", "kernel_shape=3,3 auto_pad=SAME_UPPER strides=2,2", {S(1, 17, 12, 11)}},
    {"AveragePool", "kernel_shape=3 strides=2", {S(3, 5, 33)}},
    {"AveragePool", "kernel_shape=2,3,2 strides=2,1,2", {S(3, 5, 6, 7, 8)}},
    {"GlobalAveragePool", "", {S(7, 5, 8, 8)}},
    {"GlobalAveragePool", "", {S(1, 5, 3, 5, 7)}},
    {"GlobalMaxPool", "", {S(7, 5, 8, 8)}},
    {"BatchNormalization", "", {S(7, 5, 8, 8), S(5), S(5), S(5), S(5)}},
    {"BatchNormalization", "epsilon=0.1", {S(7, 5, 3, 3), S(5), S(5), S(5), S(5)}},
    {"BatchNormalization", "", {S(7, 33), S(33), S(33), S(33), S(33)}},
    {"BatchNormalization", "", {S(1, 3, 100), S(3), S(3), S(3), S(3)}},
    {"BatchNormalization", "", {S(3, 4, 5, 6, 7), S(4), S(4), S(4), S(4)}},
    {"InstanceNormalization", "", {S(7, 5, 8, 9), S(5), S(5)}},
    {"InstanceNormalization", "epsilon=0.1", {S(1, 5, 33), S(5), S(5)}},
    {"LayerNormalization", "", {S(7, 6, 33), S(33), S(33)}},
    {"LayerNormalization", "axis=1 epsilon=0.1", {S(7, 6, 5), S(6, 5)}},
    {"BatchNormalization", "training_mode=1", {S(7, 5, 8, 8), S(5), S(5), S(5), S(5)}},
};

static double distance(const float *a, const float *b, int64_t n) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < n; i++) {
    double d = (double)a[i] - b[i];
    difference += d * d;
    norm += (double)b[i] * b[i];
  }
  return difference == 0 ? 0 : sqrt(difference / norm); /* a NaN stays one */
}

static void assert_close(const one_op *c, const char *what, const float *a, const float *b, int64_t n,
                         double limit) {
  double d = distance(a, b, n);
  if (!(d <= limit)) fail_msg("%s %s: %s is off by %g", c->name, c->attributes, what, d);
}

static void compare(const one_op *c, const trial *fast, const trial *plain) {
  for (int i = 0; i < fast->graph->n_outputs; i++) {
    const tensor *a = plan_output(fast->plan, i), *b = plan_output(plain->plan, i);
    assert_true(shape_equal(&a->shape, &b->shape));
    assert_close(c, "y", a->data, b->data, tensor_n(a), 1e-5);
  }
  const tensor *dx = plan_input_gradient(fast->plan, 0);
  assert_close(c, "dx", dx->data, plan_input_gradient(plain->plan, 0)->data, tensor_n(dx), 1e-4);
  const graph *g = fast->graph;
  for (int i = 0; i < g->n_values; i++) {
    const value *v = &g->values[i];
    if (v->kind != VALUE_PARAMETER && v->kind != VALUE_STATISTIC) continue;
    assert_close(c, v->name, fast->gradients + v->offset, plain->gradients + v->offset,
                 shape_count(&v->shape), 1e-4);
  }
}

static void test_fast_is_reference(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(cases); i++) {
    for (int copies = 1; copies <= 2; copies++) {
      trial fast, plain;
      trial_open(&fast, &cases[i], copies, false);
      trial_open(&plain, &cases[i], copies, true);
      must(trial_run(&fast));
      must(trial_run(&plain));
      compare(&cases[i], &fast, &plain);
      trial_close(&fast);
      trial_close(&plain);
    }
  }
}

static void assert_same_bits(const one_op *c, const trial *a, const trial *b) {
  const tensor *y = plan_output(a->plan, 0), *dx = plan_input_gradient(a->plan, 0);
  bool same =
      memcmp(y->data, plan_output(b->plan, 0)->data, (size_t)tensor_n(y) * sizeof(float)) == 0 &&
      memcmp(dx->data, plan_input_gradient(b->plan, 0)->data, (size_t)tensor_n(dx) * sizeof(float)) == 0 &&
      memcmp(a->gradients, b->gradients, (size_t)a->graph->n_block * sizeof(float)) == 0;
  if (!same) fail_msg("%s %s: the bits differ", c->name, c->attributes);
}

/* Three plans: one run twice by the thread that made it, two run at once by others. */
static void test_same_bits_on_any_thread(void **state) {
  (void)state;
  enum { TRIALS = 3 };
  for (size_t i = 0; i < COUNT(cases); i++) {
    trial t[TRIALS];
    status done[TRIALS];
    for (int k = 0; k < TRIALS; k++) trial_open(&t[k], &cases[i], 1, false);
    must(trial_run(&t[0]));
    must(trial_run(&t[0]));
#pragma omp parallel for num_threads(TRIALS) schedule(static, 1)
    for (int k = 0; k < TRIALS; k++) done[k] = k ? trial_run(&t[k]) : STATUS_OK;
    for (int k = 1; k < TRIALS; k++) {
      assert_int_equal(done[k], STATUS_OK);
      assert_same_bits(&cases[i], &t[0], &t[k]);
    }
    for (int k = 0; k < TRIALS; k++) trial_close(&t[k]);
  }
}

/* A convolution packs its weight: it must notice a new one. */
static void test_new_parameters_count(void **state) {
  (void)state;
  const one_op c = {"Conv", "pads=1,1,1,1", {S(2, 16, 6, 6), S(16, 16, 3, 3)}};
  trial fast, plain;
  trial_open(&fast, &c, 1, false);
  trial_open(&plain, &c, 1, true);
  must(trial_run(&fast));
  for (int64_t i = 0; i < fast.graph->n_block; i++) fast.block[i] = plain.block[i] = plain.block[i] * 3 + 1;
  plan_touch_parameters(fast.plan);
  plan_touch_parameters(plain.plan);
  must(trial_run(&fast));
  must(trial_run(&plain));
  compare(&c, &fast, &plain);
  trial_close(&fast);
  trial_close(&plain);
}

/* Over the row share: mean and unbiased variance of the rows 1, 2, 4 and 9 are 4 and 38/3. */
static void test_batch_statistics(void **state) {
  (void)state;
  const one_op c = {"BatchNormalization", "", {S(4, 1), S(1), S(1), S(1), S(1)}};
  for (int reference = 0; reference < 2; reference++) {
    trial t;
    trial_open(&t, &c, 1, reference);
    run_context run = {.training = true, .row_share = 0.5f};
    memcpy(plan_input(t.plan, 0)->data, (float[]){1, 2, 4, 9}, 4 * sizeof(float));
    must(plan_forward(t.plan, &run));
    memset(plan_output_gradient(t.plan, 0)->data, 0, 4 * sizeof(float));
    must(plan_backward(t.plan, &run));
    const float *mean = t.gradients + t.graph->values[graph_find(t.graph, "in3")].offset;
    const float *variance = t.gradients + t.graph->values[graph_find(t.graph, "in4")].offset;
    assert_float_equal(*mean, 2.0f, 1e-6);
    assert_float_equal(*variance, 38.0f / 6.0f, 1e-5);
    trial_close(&t);
  }
}

/* Not in training mode: the running statistics normalise, are constants to the gradient, and stay what they
 * are. */
static void test_frozen_batch_norm(void **state) {
  (void)state;
  const one_op c = {"BatchNormalization", "epsilon=0.1", {S(3, 5, 4, 4), S(5), S(5), S(5), S(5)}};
  const run_context run = {.training = false, .row_share = 0.25f};
  trial t[2];
  for (int reference = 0; reference < 2; reference++) {
    trial_open(&t[reference], &c, 1, reference);
    tensor *x = plan_input(t[reference].plan, 0), *dy = plan_output_gradient(t[reference].plan, 0);
    fill_random(x->data, tensor_n(x), 100);
    must(plan_forward(t[reference].plan, &run));
    fill_random(dy->data, tensor_n(dy), 200);
    must(plan_backward(t[reference].plan, &run));
  }
  compare(&c, &t[0], &t[1]);
  const value *scale = &t[0].graph->values[graph_find(t[0].graph, "in1")];
  for (int input = 3; input <= 4; input++) {
    const value *v = &t[0].graph->values[graph_find(t[0].graph, input == 3 ? "in3" : "in4")];
    for (int i = 0; i < 5; i++) {
      assert_float_equal(t[0].gradients[v->offset + i], 0.25f * t[0].block[v->offset + i], 1e-7);
    }
  }
  /* The first element: dx = dy scale / sqrt(variance + epsilon). */
  const value *variance = &t[0].graph->values[graph_find(t[0].graph, "in4")];
  const float *dx = plan_input_gradient(t[0].plan, 0)->data;
  float dy[1];
  fill_random(dy, 1, 200);
  assert_float_equal(dx[0], dy[0] * t[0].block[scale->offset] / sqrtf(t[0].block[variance->offset] + 0.1f),
                     1e-6);
  for (int k = 0; k < 2; k++) trial_close(&t[k]);
}

static int setup(void **state) {
  (void)state;
  return ops_init();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fast_is_reference),    cmocka_unit_test(test_same_bits_on_any_thread),
      cmocka_unit_test(test_new_parameters_count), cmocka_unit_test(test_batch_statistics),
      cmocka_unit_test(test_frozen_batch_norm),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
