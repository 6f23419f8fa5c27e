/* Chains that are attention become one step; its values and gradients are those of the plain steps. */
#include "small_graph.h"

enum { ROWS = 2, HEADS = 3, OTHERS = 37, DEPTH = 20, WIDTH = 12, PLAIN = -1 };

typedef enum scaling { NONE, AFTER, DIVIDED, BOTH, A_VECTOR } scaling;
typedef enum keys { TURNED, TWICE, FROM_HEADS, AS_THEY_ARE } keys;

/* One way to write it. A side is by heads [row, head, token, depth], or else [row, token, head, depth] with a
 * Transpose. */
typedef struct form {
  const char *name;
  int tokens, rank;
  bool q_by_heads, v_by_heads, y_by_heads;
  keys keys;
  scaling scaling;
  shape mask;
  bool mask_learns;
  int64_t axis; /* of Softmax */
  int n_steps;  /* PLAIN: it does not become one */
} form;

static int source(graph *g, bool input, bool by_heads, int rank, int64_t tokens, int64_t depth) {
  shape s = {.rank = 4, .dims = {ROWS, by_heads ? HEADS : tokens, by_heads ? tokens : HEADS, depth}};
  int v;
  if (rank == 3) s = (shape){.rank = 3, .dims = {by_heads ? ROWS : tokens, by_heads ? tokens : ROWS, depth}};
  if (!input) return parameter(g, s, false);
  must(graph_add_input(g, "x", DTYPE_FLOAT, &s, &v));
  return v;
}

static int turn(graph *g, int x, int rank) {
  return APPLY(g, "Transpose", rank == 4 ? "perm=0,2,1,3" : "perm=1,0,2", x);
}

/* [.., depth, token] */
static int write_keys(graph *g, const form *f) {
  const int rank = f->rank;
  if (f->keys == AS_THEY_ARE) return source(g, false, true, rank, DEPTH, OTHERS);
  int k = source(g, false, f->keys == FROM_HEADS, rank, OTHERS, DEPTH);
  if (f->keys == TURNED) return APPLY(g, "Transpose", rank == 4 ? "perm=0,2,3,1" : "perm=1,2,0", k);
  if (f->keys == TWICE) k = turn(g, k, rank);
  return APPLY(g, "Transpose", rank == 4 ? "perm=0,1,3,2" : "perm=0,2,1", k);
}

static int write_mask(graph *g, const form *f, int scores) {
  if (f->mask_learns) return APPLY(g, "Add", "", scores, parameter(g, f->mask, false));
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_FLOAT, &f->mask));
  fill_random(t->data, tensor_n(t), 77);
  must(graph_add_constant(g, new_name(), false, t, &v));
  return APPLY(g, "Add", "", v, scores);
}

/* *p: the probabilities. */
static graph *write_form(const form *f, int *p) {
  graph *g;
  char axis[16];
  must(graph_new(&g));
  int q = source(g, true, f->q_by_heads, f->rank, f->tokens, DEPTH);
  if (!f->q_by_heads) q = turn(g, q, f->rank);
  int k = write_keys(g, f), v = source(g, false, f->v_by_heads, f->rank, OTHERS, WIDTH);
  if (!f->v_by_heads) v = turn(g, v, f->rank);
  if (f->scaling == BOTH)
    q = APPLY(g, "Mul", "", number(g, 0.5f), q), k = APPLY(g, "Mul", "", k, number(g, 0.7f));
  int s = APPLY(g, "MatMul", "", q, k);
  if (f->scaling == AFTER) s = APPLY(g, "Mul", "", s, number(g, 0.4f));
  if (f->scaling == DIVIDED) s = APPLY(g, "Div", "", s, number(g, 3));
  if (f->scaling == A_VECTOR)
    s = APPLY(g, "Mul", "", s, parameter(g, (shape){.rank = 1, .dims = {OTHERS}}, false));
  if (f->mask.rank) s = write_mask(g, f, s);
  snprintf(axis, sizeof axis, "axis=%d", (int)f->axis);
  *p = APPLY(g, "Softmax", axis, s);
  int y = APPLY(g, "MatMul", "", *p, v);
  if (!f->y_by_heads) y = turn(g, y, f->rank);
  must(graph_add_output(g, y));
  must(graph_finish(g));
  return g;
}

static const form forms[] = {
    {"by heads", 50, 4, true, true, true, AS_THEY_ARE, NONE, {0}, false, -1, 1},
    {"by tokens", 50, 4, false, false, false, TURNED, AFTER, {0}, false, 3, 1},
    {"many tokens", 205, 4, false, true, false, TURNED, DIVIDED, S(1, 1, 1, OTHERS), false, -1, 1},
    {"turned twice", 7, 4, true, false, true, TWICE, BOTH, S(7, OTHERS), false, -1, 1},
    {"keys from heads", 7, 4, true, false, false, FROM_HEADS, BOTH, S(7, 1), false, -1, 1},
    {"a mask that learns", 9, 4, false, true, true, AS_THEY_ARE, AFTER, S(HEADS, 9, OTHERS), true, -1, 1},
    {"one for all rows", 9, 4, false, false, false, TURNED, DIVIDED, S(1, HEADS, 1, OTHERS), true, -1, 1},
    {"rank 3", 50, 3, true, true, true, FROM_HEADS, AFTER, S(50, OTHERS), true, 2, 1},
    {"rank 3, by tokens", 5, 3, false, false, false, TURNED, BOTH, {0}, false, -1, 1},
    {"another axis", 9, 4, true, true, true, AS_THEY_ARE, NONE, {0}, false, 2, PLAIN},
    {"scaled by a vector", 9, 4, true, true, true, AS_THEY_ARE, A_VECTOR, {0}, false, -1, PLAIN},
};

typedef struct result {
  plan *plan;
  float *gradients;
} result;

static result run(const graph *g, const float *block, bool training, bool reference, const int *tap) {
  result r = {0};
  run_context context = {.training = training, .row_share = 1};
  plan_options o = {.rows = g->values[g->inputs[0]].shape.dims[0],
                    .training = training,
                    .reference = reference,
                    .input_gradients = training,
                    .taps = tap,
                    .n_taps = tap != NULL};
  must(mem_new(&r.gradients, (size_t)g->n_block, sizeof(float)));
  must(plan_new(&r.plan, g, &o));
  plan_set_parameters(r.plan, block);
  plan_set_gradients(r.plan, r.gradients);
  fill_random(plan_input(r.plan, 0)->data, tensor_n(plan_input(r.plan, 0)), 9);
  poison(r.plan, true);
  must(plan_forward(r.plan, &context));
  if (!training) return r;
  tensor *dy = plan_output_gradient(r.plan, 0);
  fill_random(dy->data, tensor_n(dy), 10);
  poison(r.plan, false);
  if (tap)
    memset(plan_tap_gradient(r.plan, 0)->data, 0,
           (size_t)tensor_n(plan_tap_gradient(r.plan, 0)) * sizeof(float));
  must(plan_backward(r.plan, &context));
  return r;
}

static void assert_near(const char *name, const char *what, const float *x, const float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!(fabsf(x[i] - y[i]) <= 2e-6f + 2e-5f * fabsf(y[i])))
      fail_msg("%s: %s %d is %g, plain %g", name, what, (int)i, (double)x[i], (double)y[i]);
}

static void compare(const form *f, const graph *g, const float *block, bool training, const int *tap,
                    bool one) {
  result a = run(g, block, training, false, tap), b = run(g, block, training, true, tap);
  if ((plan_n_steps(a.plan) == f->n_steps) != one)
    fail_msg("%s: %d steps, training %d", f->name, plan_n_steps(a.plan), training);
  assert_near(f->name, "number", plan_output(a.plan, 0)->data, plan_output(b.plan, 0)->data,
              tensor_n(plan_output(a.plan, 0)));
  if (training) {
    assert_near(f->name, "gradient", a.gradients, b.gradients, g->n_block);
    assert_near(f->name, "input gradient", plan_input_gradient(a.plan, 0)->data,
                plan_input_gradient(b.plan, 0)->data, tensor_n(plan_input(a.plan, 0)));
  }
  plan_free(&a.plan);
  plan_free(&b.plan);
  mem_free(a.gradients);
  mem_free(b.gradients);
}

static void test_forms(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(forms); i++) {
    int p;
    float *block;
    graph *g = write_form(&forms[i], &p);
    must(mem_new(&block, (size_t)g->n_block, sizeof *block));
    graph_initial_block(g, block);
    for (int training = 0; training < 2; training++) {
      compare(&forms[i], g, block, training, NULL, forms[i].n_steps != PLAIN);
      compare(&forms[i], g, block, training, &p, false); /* somebody wants the probabilities */
    }
    graph_free(&g);
    mem_free(block);
  }
}

/* A list of one integer. */
static int indices(graph *g, int64_t i) {
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_INT64, &(shape)S(1)));
  *(int64_t *)t->data = i;
  must(graph_add_constant(g, new_name(), false, t, &v));
  return v;
}

/* Queries, keys and values that are one array: their gradients would have to be added up in it. */
static void test_one_source(void **state) {
  (void)state;
  graph *g;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape)S(ROWS, OTHERS, DEPTH), &x));
  int k = APPLY(g, "Transpose", "perm=0,2,1", x);
  int y = APPLY(g, "MatMul", "", APPLY(g, "Softmax", "axis=-1", APPLY(g, "MatMul", "", x, k)), x);
  must(graph_add_output(g, y));
  must(graph_finish(g));
  const form f = {.name = "one source", .n_steps = 1};
  compare(&f, g, NULL, false, NULL, true);
  compare(&f, g, NULL, true, NULL, false);
  graph_free(&g);
}

static int one_index(graph *g, int64_t i) {
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_INT64, &(shape){0}));
  *(int64_t *)t->data = i;
  must(graph_add_constant(g, new_name(), false, t, &v));
  return v;
}

static int reshape(graph *g, int x, int n, const int64_t *dims) {
  tensor *t;
  int v;
  must(tensor_new(&t, DTYPE_INT64, &(shape)S(n)));
  memcpy(t->data, dims, (size_t)n * sizeof *dims);
  must(graph_add_constant(g, new_name(), false, t, &v));
  return APPLY(g, "Reshape", "", x, v);
}
#define RESHAPE(g, x, ...) reshape(g, x, (int)COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

/* [T, R, H * D] of one of the three, as [R, H, T, D]. */
static int part(graph *g, int all, int64_t index) {
  const int one = APPLY(g, "Gather", "axis=0", all, one_index(g, index));
  const int heads = APPLY(g, "Transpose", "perm=1,0,2", RESHAPE(g, one, OTHERS, ROWS * HEADS, DEPTH));
  return RESHAPE(g, heads, ROWS, HEADS, OTHERS, DEPTH);
}

/* As PyTorch writes multi-head attention: one product makes queries, keys and values of all heads, which are
 * taken apart by four reshapes, three transpositions and a gather each, and both sides of the scores are
 * multiplied by a number that the file cannot tell from a weight. In inference none of that copies anything.
 */
static void test_packed_projections(void **state) {
  (void)state;
  graph *g;
  int x;
  float *block;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape)S(OTHERS, ROWS, 3 * HEADS * DEPTH), &x));
  const int bias = parameter(g, (shape)S(3 * HEADS * DEPTH), false), factor = parameter(g, (shape)S(1), true);
  const int apart = RESHAPE(g, APPLY(g, "Add", "", x, bias), OTHERS, ROWS, 1, 3, HEADS * DEPTH);
  const int all = RESHAPE(g, APPLY(g, "Transpose", "perm=3,0,1,2,4", apart), 3, OTHERS, ROWS, HEADS * DEPTH);
  const int q = APPLY(g, "Mul", "", factor, part(g, all, 0));
  const int k = APPLY(g, "Mul", "", APPLY(g, "Transpose", "perm=0,1,3,2", part(g, all, -2)), factor);
  const int p = APPLY(g, "Softmax", "axis=-1", APPLY(g, "MatMul", "", q, k));
  const int y = RESHAPE(g, APPLY(g, "MatMul", "", p, part(g, all, 2)), ROWS, HEADS, OTHERS, DEPTH, 1);
  must(graph_add_output(g, APPLY(g, "Transpose", "perm=2,0,1,3,4", y)));
  must(graph_finish(g));
  must(mem_new(&block, (size_t)g->n_block, sizeof *block));
  graph_initial_block(g, block);
  const form f = {.name = "packed projections", .n_steps = 2};
  compare(&f, g, block, false, NULL, true);
  compare(&f, g, block, true, NULL, false);
  graph_free(&g);
  mem_free(block);
}

/* Halves of the depth, exchanged and put together: what a view of one array cannot tell stays as it is. */
static void test_what_is_no_view(void **state) {
  (void)state;
  graph *g;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape)S(ROWS, OTHERS, 4, 5), &x));
  const int q = RESHAPE(g, APPLY(g, "Transpose", "perm=0,1,3,2", x), ROWS, OTHERS, DEPTH);
  const int k = APPLY(g, "Transpose", "perm=0,2,1", RESHAPE(g, APPLY(g, "Relu", "", x), ROWS, OTHERS, DEPTH));
  const int v =
      RESHAPE(g, APPLY(g, "Transpose", "perm=0,2,3,1", APPLY(g, "Abs", "", x)), ROWS, OTHERS, DEPTH);
  const int p = APPLY(g, "Softmax", "axis=-1", APPLY(g, "MatMul", "", q, k));
  must(graph_add_output(g, APPLY(g, "MatMul", "", p, v)));
  must(graph_finish(g));
  const form f = {.name = "no view", .n_steps = 5}; /* Relu, Abs, two transpositions */
  compare(&f, g, NULL, false, NULL, true);
  compare(&f, g, NULL, true, NULL, true);
  graph_free(&g);
}

/* Of depth 1, where any order of the keys' axes has its numbers beside each other. */
static void test_depth_of_one(void **state) {
  (void)state;
  graph *g;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape)S(OTHERS, HEADS, 1), &x));
  const int q = APPLY(g, "Transpose", "perm=1,0,2", x);
  const int k = APPLY(g, "Transpose", "perm=1,2,0", APPLY(g, "Relu", "", x));
  const int v = APPLY(g, "Transpose", "perm=1,0,2", APPLY(g, "Abs", "", x));
  const int p = APPLY(g, "Softmax", "axis=-1", APPLY(g, "MatMul", "", q, k));
  must(graph_add_output(g, APPLY(g, "MatMul", "", p, v)));
  must(graph_finish(g));
  const form f = {.name = "depth of one", .n_steps = 3};
  compare(&f, g, NULL, false, NULL, true);
  compare(&f, g, NULL, true, NULL, true);
  graph_free(&g);
}

/* No keys: sums of nothing. */
static void test_no_keys(void **state) {
  (void)state;
  graph *g;
  plan *p;
  int x;
  must(graph_new(&g));
  must(graph_add_input(g, "x", DTYPE_FLOAT, &(shape)S(ROWS, 5, DEPTH), &x));
  const int k = APPLY(g, "Slice", "", x, indices(g, 0), indices(g, 0), indices(g, 1));
  const int v = APPLY(g, "Slice", "", APPLY(g, "Relu", "", x), indices(g, 0), indices(g, 0), indices(g, 1));
  const int s = APPLY(g, "MatMul", "", x, APPLY(g, "Transpose", "perm=0,2,1", k));
  must(graph_add_output(g, APPLY(g, "MatMul", "", APPLY(g, "Softmax", "axis=-1", s), v)));
  must(graph_finish(g));
  must(plan_new(&p, g, &(plan_options){.rows = ROWS}));
  fill_random(plan_input(p, 0)->data, tensor_n(plan_input(p, 0)), 9);
  must(plan_forward(p, &(run_context){0}));
  const float *y = plan_output(p, 0)->data;
  for (int64_t i = 0; i < tensor_n(plan_output(p, 0)); i++) assert_true(y[i] == 0);
  for (int i = 0; i < plan_n_steps(p); i++) assert_string_not_equal(plan_step(p, i)->op->name, "Attention");
  plan_free(&p);
  graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_forms),           cmocka_unit_test(test_no_keys),
      cmocka_unit_test(test_one_source),      cmocka_unit_test(test_packed_projections),
      cmocka_unit_test(test_what_is_no_view), cmocka_unit_test(test_depth_of_one)};
  must(ops_init());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
