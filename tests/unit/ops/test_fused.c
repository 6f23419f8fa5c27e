/* Plans that are not for training: products with what follows them, and GELU written out, beside the plain
 * steps. */
#include "small_graph.h"

enum { ROWS = 3, WIDTH = 40, UNITS = 24 };

/* One or two inputs. */
static int apply_to(graph *g, const char *type, int a, int b) {
  return apply(g, type, "", (int[]){a, b}, b < 0 ? 1 : 2);
}

/* The ways in which GELU is written. */
static int erf_half_last(graph *g, int x) {
  int e =
      apply_to(g, "Add", apply_to(g, "Erf", apply_to(g, "Div", x, number(g, 1.41421354f)), -1), number(g, 1));
  return apply_to(g, "Mul", apply_to(g, "Mul", x, e), number(g, 0.5f));
}

static int erf_half_first(graph *g, int x) {
  int e = apply_to(g, "Add", number(g, 1),
                   apply_to(g, "Erf", apply_to(g, "Mul", x, number(g, 0.707106769f)), -1));
  return apply_to(g, "Mul", apply_to(g, "Mul", number(g, 0.5f), x), e);
}

static int erf_half_within(graph *g, int x) {
  int e = apply_to(g, "Add", apply_to(g, "Erf", apply_to(g, "Mul", number(g, 0.707106769f), x), -1),
                   number(g, 1));
  return apply_to(g, "Mul", x, apply_to(g, "Mul", e, number(g, 0.5f)));
}

static int tanh_of(graph *g, int x, int inner) {
  int t = apply_to(g, "Add", apply_to(g, "Tanh", inner, -1), number(g, 1));
  return apply_to(g, "Mul", apply_to(g, "Mul", x, number(g, 0.5f)), t);
}

static int tanh_power(graph *g, int x) {
  int cube = apply_to(g, "Mul", apply_to(g, "Pow", x, number(g, 3)), number(g, 0.044715f));
  return tanh_of(g, x, apply_to(g, "Mul", apply_to(g, "Add", x, cube), number(g, 0.797884583f)));
}

static int tanh_products(graph *g, int x) {
  int square = apply_to(g, "Mul", apply_to(g, "Mul", x, x), number(g, 0.044715f));
  int inner = apply_to(g, "Mul", x, number(g, 0.797884583f));
  return tanh_of(g, x, apply_to(g, "Mul", inner, apply_to(g, "Add", number(g, 1), square)));
}

/* And what only looks like it. */
static int other_slope(graph *g, int x) {
  int e = apply_to(g, "Add", apply_to(g, "Erf", apply_to(g, "Div", x, number(g, 1.5f)), -1), number(g, 1));
  return apply_to(g, "Mul", apply_to(g, "Mul", x, e), number(g, 0.5f));
}

static int other_factor(graph *g, int x) {
  int e =
      apply_to(g, "Add", apply_to(g, "Erf", apply_to(g, "Div", x, number(g, 1.41421354f)), -1), number(g, 1));
  return apply_to(g, "Mul", apply_to(g, "Mul", apply_to(g, "Relu", x, -1), e), number(g, 0.5f));
}

static const struct {
  const char *name;
  int (*write)(graph *g, int x);
  int n_steps; /* MatMul, Add and it */
} forms[] = {{"erf, half last", erf_half_last, 1},     {"erf, half first", erf_half_first, 1},
             {"erf, half within", erf_half_within, 1}, {"tanh of a power", tanh_power, 1},
             {"tanh of products", tanh_products, 1},   {"another slope", other_slope, 6},
             {"another factor", other_factor, 7}};

/* *sum: what goes into GELU. */
static graph *layer(int form, int *sum) {
  graph *g;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 3, .dims = {-1, 5, WIDTH}}, &x));
  int w = parameter(g, (shape){.rank = 2, .dims = {WIDTH, UNITS}}, false);
  int b = parameter(g, (shape){.rank = 1, .dims = {UNITS}}, false);
  *sum = apply_to(g, "Add", b, apply_to(g, "MatMul", x, w));
  must(graph_add_output(g, forms[form].write(g, *sum)));
  must(graph_finish(g));
  return g;
}

static plan *run_plan(const graph *g, const float *block, plan_options o) {
  plan *p;
  o.rows = ROWS;
  must(plan_new(&p, g, &o));
  plan_set_parameters(p, block);
  fill_random(plan_input(p, 0)->data, tensor_n(plan_input(p, 0)), 9);
  must(plan_forward(p, &(run_context){0}));
  return p;
}

static void assert_alike(const char *name, const tensor *a, const tensor *b) {
  const float *x = a->data, *y = b->data;
  assert_true(shape_equal(&a->shape, &b->shape));
  for (int64_t i = 0; i < tensor_n(a); i++) {
    if (!(fabsf(x[i] - y[i]) <= 2e-6f + 1e-5f * fabsf(y[i])))
      fail_msg("%s: number %d is %g, plain %g", name, (int)i, x[i], y[i]);
  }
}

static void test_layers_become_one_step(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(forms); i++) {
    int sum;
    float *block;
    graph *g = layer((int)i, &sum);
    must(mem_new(&block, (size_t)g->n_block, sizeof *block));
    graph_initial_block(g, block);
    plan *fused = run_plan(g, block, (plan_options){0}),
         *plain = run_plan(g, block, (plan_options){.reference = true}),
         *tapped = run_plan(g, block, (plan_options){.taps = &sum, .n_taps = 1});
    if (plan_n_steps(fused) != forms[i].n_steps)
      fail_msg("%s: %d steps, expected %d", forms[i].name, plan_n_steps(fused), forms[i].n_steps);
    assert_alike(forms[i].name, plan_output(fused, 0), plan_output(plain, 0));
    assert_alike(forms[i].name, plan_output(tapped, 0), plan_output(plain, 0));
    assert_int_equal(plan_n_steps(tapped), forms[i].n_steps == 1 ? 2 : forms[i].n_steps);
    plan_free(&fused);
    plan_free(&plain);
    plan_free(&tapped);
    graph_free(&g);
    mem_free(block);
  }
}

/* Products of all kinds: of many matrices, of repeated ones, with transposed weights. */
static const one_op products[] = {{"Gemm", "transB=1", {S(64, 70), S(33, 70), S(33)}},
                                  {"Gemm", "", {S(64, 70), S(70, 33)}},
                                  {"Gemm", "", {S(64, 70), S(70, 33), S(1, 33)}},
                                  {"Gemm", "alpha=0.5", {S(64, 70), S(70, 33), S(33)}},
                                  {"Gemm", "", {S(64, 70), S(70, 33), S(64, 1)}},
                                  {"Gemm", "transA=1", {S(70, 64), S(70, 33)}},
                                  {"Gemm", "transB=1", {S(2, 70), S(33, 70), S(33)}},
                                  {"MatMul", "", {S(6, 3, 7, 5), S(6, 3, 5, 4)}},
                                  {"MatMul", "", {S(6, 3, 7, 5), S(3, 5, 4)}},
                                  {"MatMul", "", {S(6, 1, 7, 5), S(3, 5, 4)}},
                                  {"MatMul", "", {S(6, 7, 5), S(5, 4)}},
                                  {"MatMul", "", {S(6, 5), S(5)}},
                                  {"MatMul", "", {S(6, 0, 7, 5), S(0, 5, 4)}}};

static void test_products(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(products); i++) {
    float *block;
    graph *g = one_op_graph(&products[i], 1);
    must(mem_new(&block, (size_t)g->n_block, sizeof *block));
    graph_initial_block(g, block);
    plan *p[2];
    for (int k = 0; k < 2; k++) {
      plan_options o = {.rows = products[i].inputs[0].dims[0], .reference = k};
      must(plan_new(&p[k], g, &o));
      plan_set_parameters(p[k], block);
      fill_random(plan_input(p[k], 0)->data, tensor_n(plan_input(p[k], 0)), 9);
      must(plan_forward(p[k], &(run_context){0}));
    }
    assert_alike(products[i].name, plan_output(p[0], 0), plan_output(p[1], 0));
    for (int k = 0; k < 2; k++) plan_free(&p[k]);
    graph_free(&g);
    mem_free(block);
  }
}

/* Two convolutions of the same input, without a bias, added: what is added is no bias. */
static void test_convolutions_without_a_bias(void **state) {
  (void)state;
  graph *g;
  float *block;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 4, .dims = {-1, 4, 6, 5}}, &x));
  const shape weight = {.rank = 4, .dims = {7, 4, 3, 3}};
  int a = APPLY(g, "Conv", "", x, parameter(g, weight, false)),
      b = APPLY(g, "Conv", "", x, parameter(g, weight, false)), sum = APPLY(g, "Add", "", a, b);
  must(graph_add_output(g, APPLY(g, "Relu", "", sum)));
  must(graph_finish(g));
  must(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan *fused = run_plan(g, block, (plan_options){0}),
       *plain = run_plan(g, block, (plan_options){.reference = true});
  assert_int_equal(plan_n_steps(fused), 2);
  assert_alike("Conv", plan_output(fused, 0), plan_output(plain, 0));
  plan_free(&fused);
  plan_free(&plain);
  graph_free(&g);
  mem_free(block);
}

/* A file may leave out the first output of a node and want another one. */
static void test_first_output_left_out(void **state) {
  (void)state;
  graph *g;
  float *block;
  int x, mean;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape){.rank = 2, .dims = {-1, 4}}, &x));
  const int inputs[] = {x, parameter(g, (shape){.rank = 1, .dims = {4}}, false)};
  must(graph_add_value(g, new_name(), &mean));
  must(graph_add_node(g, "norm", op_find("", "LayerNormalization", 17), 17, inputs, 2, (int[]){-1, mean}, 2,
                      NULL, 0));
  must(graph_add_output(g, mean));
  must(graph_finish(g));
  must(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  plan *p = run_plan(g, block, (plan_options){0});
  const float *row = plan_input(p, 0)->data;
  assert_true(fabsf(((float *)plan_output(p, 0)->data)[0] - (row[0] + row[1] + row[2] + row[3]) / 4) < 1e-6f);
  plan_free(&p);
  graph_free(&g);
  mem_free(block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_output_left_out), cmocka_unit_test(test_layers_become_one_step),
      cmocka_unit_test(test_convolutions_without_a_bias), cmocka_unit_test(test_products)};
  must(ops_init());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
