/* Plans: shapes, folding, forward and backward against numbers computed by hand. */
#include "plan_fixture.h"

/* y = relu(x W) */
static void test_forward_and_backward(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, -1, 2, 3});
  finish(g, apply(g, &relu_op, "y", apply(g, &matmul_op, "h", x, w), -1));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 2, .training = true, .input_gradients = true});
  FILL(plan_input(f.p, 0), 1, 2, -3, 1);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), 5, 5, 0, 6);
  FILL(plan_output_gradient(f.p, 0), 1, 10, 100, 1000);
  OK(plan_backward(f.p, &running));
  assert_memory_equal(f.leaf, ((float[]){1, 10 - 3000, 2, 20 + 1000, 77}), 5 * sizeof(float));
  EXPECT(plan_input_gradient(f.p, 0), -9, 32, -1000, 3000);
  assert_int_equal(plan_rows(f.p), 2);
  assert_int_equal(plan_step(f.p, 0)->rows, 2);
  assert_int_equal(plan_n_steps(f.p), 2);
  plan_free(&f.p);
  graph_free(&g);
}

/* y = (x + x) * x: the gradient of x is 4 x dy, from three readers. */
static void test_shared_values_accumulate(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2);
  finish(g, apply(g, &mul_op, "y", apply(g, &add_op, "xx", x, x), x));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .input_gradients = true});
  for (int again = 0; again < 2; again++) {
    FILL(plan_input(f.p, 0), 3, -2);
    OK(plan_forward(f.p, &running));
    EXPECT(plan_output(f.p, 0), 18, 8);
    FILL(plan_output_gradient(f.p, 0), 1, 10);
    OK(plan_backward(f.p, &running));
    EXPECT(plan_input_gradient(f.p, 0), 12, -80);
  }
  plan_free(&f.p);
  graph_free(&g);
}

/* y = (x W) W: both uses of W add up. */
static void test_shared_parameters_accumulate(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 2, 3, 4});
  finish(g, apply(g, &matmul_op, "y", apply(g, &matmul_op, "h", x, w), w));
  assert_int_equal(g->n_parameters, 4);
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true});
  assert_null(plan_input_gradient(f.p, 0));
  FILL(plan_input(f.p, 0), 1, -1);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), -8, -12);
  FILL(plan_output_gradient(f.p, 0), 1, 0);
  OK(plan_backward(f.p, &running));
  /* dW = h' dy + x' (dy W') = [-2, 0; -2, 0] + [1, 3; -1, -3] */
  assert_memory_equal(f.leaf, ((float[]){-1, 3, -3, -3}), 4 * sizeof(float));
  plan_free(&f.p);
  graph_free(&g);
}

typedef struct watched {
  const fixture *f;
  int n;
  int64_t from[4];
  float seen[64]; /* the leaf when its second parameter was said to be final */
} watched;

static void watch(void *data, int64_t from) {
  watched *x = data;
  if (x->n == 1) memcpy(x->seen, x->f->leaf, sizeof x->seen);
  x->from[x->n++] = from;
}

/* y = ((x W) V) W: W is not final before its first use is done, V is after its own. */
static void test_says_what_is_final(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 2, 3, 4});
  int v = initializer(g, "v", square, (float[]){1, 0, 2, 1});
  finish(g, apply(g, &matmul_op, "y", apply(g, &matmul_op, "h", apply(g, &matmul_op, "i", x, w), v), w));
  assert_true(g->values[v].offset > g->values[w].offset);
  fixture f;
  watched seen = {.f = &f};
  open_plan(&f, g, (plan_options){.rows = 1, .training = true});
  plan_set_watcher(f.p, watch, &seen);
  FILL(plan_input(f.p, 0), 1, -1);
  OK(plan_forward(f.p, &running));
  FILL(plan_output_gradient(f.p, 0), 1, 0);
  OK(plan_backward(f.p, &running));
  assert_int_equal(seen.n, 3);
  assert_int_equal(seen.from[0], g->values[v].offset + 4);
  assert_int_equal(seen.from[1], g->values[w].offset + 4);
  assert_int_equal(seen.from[2], 0);
  assert_memory_equal(seen.seen + seen.from[1], f.leaf + seen.from[1],
                      (size_t)(g->n_block - seen.from[1]) * sizeof(float));
  plan_free(&f.p);
  graph_free(&g);
}

static void test_folds_constants(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), a = constant(g, "a", square, (float[]){1, 2, 3, 4});
  int folded = apply(g, &tanh_op, "t", apply(g, &add_op, "aa", a, a), -1); /* with saved and scratch memory */
  int heavy = apply(g, &relu_op, "heavy", x, -1);                          /* only its shape is asked for */
  int ramp = apply(g, &range_op, "ramp", apply(g, &shape_op, "shape", heavy, -1), -1);
  OK(graph_add_output(g, folded));
  finish(g, apply(g, &add_op, "y", x, ramp));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 2, .training = true, .input_gradients = true});
  assert_int_equal(plan_n_steps(f.p), 1);
  assert_string_equal(plan_step(f.p, 0)->node->name, "y");
  assert_true(plan_step(f.p, 0)->constant[1]);
  assert_false(plan_step(f.p, 0)->constant[0]);
  FILL(plan_input(f.p, 0), 1, 1, 1, 1);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), tanhf(4), tanhf(8), tanhf(12), tanhf(16));
  EXPECT(plan_output(f.p, 1), 2, 3, 4, 5);
  assert_null(plan_output_gradient(f.p, 0));
  FILL(plan_output_gradient(f.p, 1), 1, 2, 3, 4);
  OK(plan_backward(f.p, &running));
  EXPECT(plan_input_gradient(f.p, 0), 1, 2, 3, 4);
  plan_free(&f.p);
  graph_free(&g);
}

static void test_folds_no_random_numbers(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2);
  int noise = apply(g, &noise_op, "noise", apply(g, &shape_op, "shape", x, -1), -1);
  finish(g, apply(g, &add_op, "y", x, noise));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 3}));
  assert_int_equal(plan_n_steps(p), 2);
  plan_free(&p);
  graph_free(&g);
}

static void test_lists_all_operators_without_gradient(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, NULL);
  int free_of_parameters = apply(g, &stuck_op, "fine", x, -1);
  int a = apply(g, &stuck_op, "first", apply(g, &matmul_op, "h", free_of_parameters, w), -1);
  finish(g, apply(g, &stuck_op, "second", a, -1));
  expect_refusal(
      g, &(plan_options){.rows = 2, .training = true},
      "operator Stuck has no gradient: node 'first'\noperator Stuck has no gradient: node 'second'");
  assert_null(strstr(status_message(), "fine"));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2}));
  plan_free(&p);
  graph_free(&g);
}

static void test_names_the_node_that_does_not_fit(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", (shape){2, {3, 2}}, NULL);
  finish(g, apply(g, &matmul_op, "fc", x, w));
  expect_refusal(g, &(plan_options){.rows = 2}, "node 'fc' (MatMul): shapes do not fit");
  assert_null(strstr(status_message(), "fixed batch"));
  graph_free(&g);
}

static void test_explains_fixed_batches(void **state) {
  (void)state;
  const char *explanation = "exported with a fixed batch of 4 for input 'x' and 3 rows were asked for";
  graph *g = start();
  int x = input(g, "x", (shape){2, {4, 2}}), fixed = constant(g, "fixed", (shape){2, {4, 2}}, NULL);
  finish(g, apply(g, &add_op, "y", x, fixed));
  expect_refusal(g, &(plan_options){.rows = 3}, "node 'y' (Add): shapes differ");
  assert_non_null(strstr(status_message(), explanation));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 4}));
  plan_free(&p);
  graph_free(&g);

  g = start();
  x = input(g, "x", (shape){2, {4, 2}});
  OK(graph_add_output(g, apply(g, &relu_op, "y", x, -1)));
  finish(g, apply(g, &relu_op, "z", constant(g, "fixed", (shape){2, {4, 2}}, NULL), -1));
  expect_refusal(g, &(plan_options){.rows = 3}, "output 'z' has shape [4, 2], expected 3 rows");
  assert_non_null(strstr(status_message(), explanation));
  graph_free(&g);
}

static void test_open_dimensions(void **state) {
  (void)state;
  graph *g = start();
  finish(g, apply(g, &relu_op, "y", input(g, "x", (shape){3, {-1, 3, -1}}), -1));
  expect_refusal(g, &(plan_options){.rows = 2}, "input 'x': dimension 2 is not fixed by the model");
  expect_refusal(g, &(plan_options){.rows = 2, .input_shapes = &(shape){3, {2, 4, 5}}},
                 "input 'x': shape [2, 4, 5] was given, the model declares [?, 3, ?]");
  expect_refusal(g, &(plan_options){.rows = 2, .input_shapes = &(shape){2, {2, 3}}}, "the model declares");
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .input_shapes = &(shape){3, {2, 3, 5}}}));
  assert_true(shape_equal(&plan_output(p, 0)->shape, &(shape){3, {2, 3, 5}}));
  plan_free(&p);
  graph_free(&g);
}

static void test_two_outputs(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), p0 = computed(g, "p"), q0 = computed(g, "q");
  OK(graph_add_node(g, "pair", &pair_op, 1, &x, 1, (int[]){p0, q0}, 2, NULL, 0));
  int r0 = computed(g, "r"), unused = computed(g, "unused");
  OK(graph_add_node(g, "pair2", &pair_op, 1, &q0, 1, (int[]){r0, unused}, 2, NULL, 0));
  OK(graph_add_output(g, p0));
  finish(g, r0);
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .input_gradients = true});
  assert_null(plan_step(f.p, 1)->out[1]);
  FILL(plan_input(f.p, 0), 3, -1);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), 6, -2);
  EXPECT(plan_output(f.p, 1), 18, 2);
  FILL(plan_output_gradient(f.p, 0), 1, 10);
  FILL(plan_output_gradient(f.p, 1), 100, 1000);
  OK(plan_backward(f.p, &running));
  EXPECT(plan_input_gradient(f.p, 0), 2 + 1200, 20 - 4000);
  plan_free(&f.p);
  graph_free(&g);
}

static void test_statistics(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 0, 0, 1});
  int m = initializer(g, "m", (shape){1, {1}}, (float[]){100});
  int h = apply(g, &centre_op, "h", apply(g, &matmul_op, "xw", x, w), m);
  finish(g, h);
  assert_int_equal(g->n_parameters, 4);
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 2, .training = true});
  FILL(plan_input(f.p, 0), 1, 2, 3, 6);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), -2, -1, 0, 3);
  FILL(plan_output_gradient(f.p, 0), 1, 1, 1, 1);
  OK(plan_backward(f.p, &running));
  assert_true(f.leaf[16] == 0.25f * 3);
  assert_memory_equal(f.leaf, ((float[]){4, 4, 8, 8}), 4 * sizeof(float));
  OK(plan_forward(f.p, &(run_context){.training = false}));
  EXPECT(plan_output(f.p, 0), -99, -98, -97, -94);
  plan_free(&f.p);
  graph_free(&g);

  g = start();
  x = input(g, "x", rows2), m = initializer(g, "m", (shape){1, {1}}, NULL);
  finish(g, apply(g, &centre_op, "second", apply(g, &centre_op, "first", x, m), m));
  expect_refusal(g, &(plan_options){.rows = 2, .training = true},
                 "its running statistic 'm' belongs to another node");
  graph_free(&g);
}

/* Outputs and taps that are read inside the graph as well: the caller's gradient and the readers' add up. */
static void test_taps_and_their_gradients(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 0, 0, 1});
  int plain = apply(g, &relu_op, "plain", x, -1), h = apply(g, &matmul_op, "h", plain, w);
  int a = apply(g, &pair_op, "a", h, -1);
  OK(graph_add_output(g, a));
  finish(g, apply(g, &pair_op, "y", a, -1));
  fixture f;
  int taps[] = {h, plain, x, w};
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .taps = taps, .n_taps = 3});
  assert_null(plan_tap_gradient(f.p, 1));
  assert_null(plan_tap_gradient(f.p, 2));
  FILL(plan_input(f.p, 0), 3, -5);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), 6, 0);
  EXPECT(plan_output(f.p, 1), 12, 0);
  EXPECT(plan_tap(f.p, 0), 3, 0);
  EXPECT(plan_tap(f.p, 1), 3, 0);
  EXPECT(plan_tap(f.p, 2), 3, -5);
  FILL(plan_output_gradient(f.p, 1), 1, 10);
  FILL(plan_output_gradient(f.p, 0), 100, 1000);
  FILL(plan_tap_gradient(f.p, 0), 10000, 20000);
  OK(plan_backward(f.p, &running));
  /* da = 100 + 2, dh = 10000 + 2 da */
  assert_memory_equal(f.leaf, ((float[]){3 * 10204.0f, 3 * 22040.0f, 0, 0}), 4 * sizeof(float));
  plan_free(&f.p);
  int unused = computed(g, "unused");
  expect_refusal(g, &(plan_options){.rows = 1, .taps = &unused, .n_taps = 1}, "'unused' cannot be tapped");
  graph_free(&g);
}

static status round_infer(step *s) {
  step_set_output(s, 0, DTYPE_INT32, &s->in[0]->shape);
  return STATUS_OK;
}

static status round_forward(step *s) {
  for (int64_t i = 0; i < count(s->out[0]); i++)
    ((int32_t *)s->out[0]->data)[i] = (int32_t)floats(s->in[0])[i];
  return STATUS_OK;
}

static const op round_op = {.name = "Round",
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .max_outputs = 1,
                            .differentiable = 1,
                            .infer = round_infer,
                            .forward = round_forward};

/* A parameter that only integers depend on gets zeros. */
static void test_parameters_without_gradient_get_zeros(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 0, 0, 1});
  int dead = initializer(g, "dead", square, (float[]){1, 0, 0, 1});
  int dead_end = apply(g, &matmul_op, "d", x, dead);
  OK(graph_add_output(g, apply(g, &round_op, "r", dead_end, -1)));
  finish(g, apply(g, &matmul_op, "y", x, w));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true});
  FILL(plan_input(f.p, 0), 1, 2);
  OK(plan_forward(f.p, &running));
  assert_null(plan_output_gradient(f.p, 0));
  FILL(plan_output_gradient(f.p, 1), 1, 1);
  OK(plan_backward(f.p, &running));
  assert_memory_equal(f.leaf + g->values[w].offset, ((float[]){1, 1, 2, 2, 77}), 5 * sizeof(float));
  assert_memory_equal(f.leaf + g->values[dead].offset, ((float[]){0, 0, 0, 0, 77}), 5 * sizeof(float));
  plan_free(&f.p);
  graph_free(&g);
}

static void test_missing_blocks(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2);
  finish(g, apply(g, &matmul_op, "y", x, initializer(g, "w", square, NULL)));
  plan *p;
  float block[16] = {0};
  OK(plan_new(&p, g, &(plan_options){.rows = 1, .training = true}));
  assert_int_equal(plan_forward(p, &running), STATUS_FAILED);
  plan_set_parameters(p, block);
  OK(plan_forward(p, &running));
  assert_int_equal(plan_backward(p, &running), STATUS_FAILED);
  plan_free(&p);
  graph_free(&g);
}

static int n_prepared, n_loaded, n_released;
static bool prepare_fails;

static status counted_prepare(step *s) {
  n_prepared++;
  return prepare_fails ? step_error(s, "cannot be prepared") : STATUS_OK;
}

static void counted_load(step *s) {
  (void)s;
  n_loaded++;
}

static void counted_release(step *s) {
  (void)s;
  n_released++;
}

static const op counted_op = {.name = "Counted",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .max_outputs = 1,
                              .infer = infer_same,
                              .prepare = counted_prepare,
                              .load = counted_load,
                              .forward = relu_forward,
                              .release = counted_release};

static void test_prepare_load_release(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), folded = apply(g, &counted_op, "f", constant(g, "c", square, NULL), -1);
  OK(graph_add_output(g, folded));
  finish(g, apply(g, &counted_op, "b", apply(g, &counted_op, "a", x, -1), -1));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2}));
  assert_int_equal(n_prepared, 3);
  assert_int_equal(n_loaded, 1);
  assert_int_equal(n_released, 1);
  for (int i = 0; i < 2; i++) OK(plan_forward(p, &running));
  assert_int_equal(n_loaded, 3);
  plan_touch_parameters(p);
  for (int i = 0; i < 2; i++) OK(plan_forward(p, &running));
  assert_int_equal(n_loaded, 5);
  plan_set_parameters(p, NULL);
  OK(plan_forward(p, &running));
  assert_int_equal(n_loaded, 7);
  plan_free(&p);
  assert_int_equal(n_released, 3);
  graph_free(&g);

  g = start();
  x = input(g, "x", rows2);
  finish(g, apply(g, &counted_op, "b", apply(g, &counted_op, "a", x, -1), -1));
  prepare_fails = true;
  n_prepared = n_released = 0;
  expect_refusal(g, &(plan_options){.rows = 2}, "node 'a' (Counted): cannot be prepared");
  assert_int_equal(n_prepared, 1);
  assert_int_equal(n_released, 1);
  prepare_fails = false;
  graph_free(&g);
}

static int n_forwards;

static status counted_forward(step *s) {
  n_forwards++;
  return relu_forward(s);
}

/* y = x flat(relu(W)): in inference relu(W) is computed when W changes, in training for every batch. */
static void test_parameters_alone(void **state) {
  (void)state;
  op relu = relu_op;
  relu.forward = counted_forward;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, -2, 3, 4});
  int early = apply(g, &pair_op, "early", x, -1),
      flat = apply(g, &view_op, "flat", apply(g, &relu, "r", w, -1), -1);
  finish(g, apply(g, &matmul_op, "y", early, flat));
  for (int training = 0; training < 2; training++) {
    fixture f;
    open_plan(&f, g, (plan_options){.rows = 1, .training = training});
    n_forwards = 0;
    FILL(plan_input(f.p, 0), 1, 10);
    for (int i = 0; i < 3; i++) OK(plan_forward(f.p, &running));
    EXPECT(plan_output(f.p, 0), 62, 80);
    assert_int_equal(n_forwards, training ? 3 : 1);
    f.block[0] = 2;
    plan_touch_parameters(f.p);
    for (int i = 0; i < 3; i++) OK(plan_forward(f.p, &running));
    EXPECT(plan_output(f.p, 0), 64, 80);
    assert_int_equal(n_forwards, training ? 6 : 2);
    plan_free(&f.p);
  }
  graph_free(&g);
}

/* step_ints: from an input, an attribute, neither; and what it refuses. */
static void test_integers_for_infer(void **state) {
  (void)state;
  tensor *dims;
  int v, out;
  graph *g = start();
  OK(tensor_new(&dims, DTYPE_INT32, &(shape){1, {2}}));
  ((int32_t *)dims->data)[0] = 2, ((int32_t *)dims->data)[1] = 3;
  OK(graph_add_constant(g, "dims", true, dims, &v));
  attribute *a;
  OK(mem_new(&a, 1, sizeof *a));
  OK(mem_string(&a->name, "shape"));
  OK(mem_new(&a->ints, 2, sizeof *a->ints));
  a->type = ATTRIBUTE_INTS, a->n = 2, a->ints[0] = 4, a->ints[1] = 1;
  out = computed(g, "by attribute");
  OK(graph_add_node(g, "n", &range_op, 1, NULL, 0, &out, 1, a, 1));
  OK(graph_add_output(g, out));
  finish(g, apply(g, &range_op, "by input", v, -1));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 1}));
  assert_int_equal(plan_n_steps(p), 0);
  EXPECT(plan_output(p, 0), 1, 2, 3, 4);
  EXPECT(plan_output(p, 1), 1, 2, 3, 4, 5, 6);
  plan_free(&p);
  graph_free(&g);

  g = start();
  finish(g, apply(g, &range_op, "r", input(g, "x", rows2), -1));
  expect_refusal(g, &(plan_options){.rows = 1},
                 "node 'r' (Range): input 'x' must be known when the model is loaded");
  graph_free(&g);
  g = start();
  finish(g, apply(g, &range_op, "r", constant(g, "c", square, NULL), -1));
  expect_refusal(g, &(plan_options){.rows = 1}, "input 'c' is float, expected int64");
  graph_free(&g);
  g = start();
  OK(tensor_new(&dims, DTYPE_INT64, &(shape){1, {9}}));
  OK(graph_add_constant(g, "dims", true, dims, &v));
  finish(g, apply(g, &range_op, "r", v, -1));
  expect_refusal(g, &(plan_options){.rows = 1}, "input 'dims' has 9 values, expected at most 8");
  graph_free(&g);
}

/* Inputs and parameters may be outputs themselves. */
static void test_outputs_that_nothing_computes(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, (float[]){1, 2, 3, 4});
  OK(graph_add_output(g, x));
  OK(graph_add_output(g, w));
  finish(g, apply(g, &matmul_op, "y", x, w));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .input_gradients = true});
  FILL(plan_input(f.p, 0), 1, -1);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), 1, -1);
  EXPECT(plan_output(f.p, 1), 1, 2, 3, 4);
  FILL(plan_output_gradient(f.p, 0), 10, 20);
  FILL(plan_output_gradient(f.p, 1), 100, 200, 300, 400);
  FILL(plan_output_gradient(f.p, 2), 1, 2);
  OK(plan_backward(f.p, &running));
  EXPECT(plan_input_gradient(f.p, 0), 15, 31);
  assert_memory_equal(f.leaf, ((float[]){101, 202, 299, 398}), 4 * sizeof(float));
  plan_free(&f.p);
  graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward_and_backward),
                                     cmocka_unit_test(test_shared_values_accumulate),
                                     cmocka_unit_test(test_shared_parameters_accumulate),
                                     cmocka_unit_test(test_says_what_is_final),
                                     cmocka_unit_test(test_folds_constants),
                                     cmocka_unit_test(test_folds_no_random_numbers),
                                     cmocka_unit_test(test_lists_all_operators_without_gradient),
                                     cmocka_unit_test(test_names_the_node_that_does_not_fit),
                                     cmocka_unit_test(test_explains_fixed_batches),
                                     cmocka_unit_test(test_open_dimensions),
                                     cmocka_unit_test(test_two_outputs),
                                     cmocka_unit_test(test_statistics),
                                     cmocka_unit_test(test_taps_and_their_gradients),
                                     cmocka_unit_test(test_parameters_without_gradient_get_zeros),
                                     cmocka_unit_test(test_missing_blocks),
                                     cmocka_unit_test(test_prepare_load_release),
                                     cmocka_unit_test(test_parameters_alone),
                                     cmocka_unit_test(test_integers_for_infer),
                                     cmocka_unit_test(test_outputs_that_nothing_computes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
