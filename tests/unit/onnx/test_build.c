/* Fresh models: their bytes, and the numbers they begin with. */
#include "onnx/wire.h"

#include "base/mem.h"
#include "onnx/build.h"
#include "onnx/model.h"

#include <math.h>

enum { IN = 400, OUT = 300 };

static builder *linear(uint64_t seed, build_init init) {
  builder *b;
  assert_int_equal(builder_new(&b, "net", seed), STATUS_OK);
  builder_input(b, "x", (int64_t[]){IN}, 1);
  builder_parameter(b, "first", (int64_t[]){OUT, IN}, 2, init, IN, OUT);
  builder_parameter(b, "second", (int64_t[]){OUT}, 1, init, IN, OUT);
  builder_node(b, "Gemm", "fc", (const char *[]){"x", "first", "second", NULL}, "y");
  builder_int(b, "transB", 1);
  builder_output(b, "y", (int64_t[]){OUT}, 1);
  return b;
}

static model *read_back(builder *b, unsigned char **bytes, size_t *n) {
  model *m;
  assert_int_equal(builder_pack(b, bytes, n), STATUS_OK);
  status st = model_parse(&m, "built", *bytes, *n);
  if (st) print_error("%s\n", status_message());
  assert_int_equal(st, STATUS_OK);
  return m;
}

static const tensor *find(const model *m, const char *name) {
  int v = graph_find(model_graph(m), name);
  assert_true(v >= 0);
  return model_graph(m)->values[v].constant;
}

static void test_what_is_written(void **state) {
  (void)state;
  builder *b = linear(1, BUILD_HE);
  unsigned char *bytes;
  size_t n;
  model *m = read_back(b, &bytes, &n);
  const graph *g = model_graph(m);
  assert_int_equal(model_opset(m), BUILD_OPSET);
  assert_string_equal(model_producer(m), "mpistill");
  assert_int_equal(g->n_nodes, 1);
  assert_string_equal(g->nodes[0].name, "fc");
  assert_int_equal(node_int(&g->nodes[0], "transB", 0), 1);
  assert_int_equal(g->values[g->inputs[0]].shape.dims[0], -1);
  assert_int_equal(g->values[g->inputs[0]].shape.dims[1], IN);
  assert_int_equal(g->n_parameters, OUT * IN + OUT);
  model_free(&m);
  mem_free(bytes);
  builder_free(&b);
}

static void moments(const tensor *t, double *mean, double *variance, double *largest) {
  int64_t n = shape_count(&t->shape);
  double sum = 0, squares = 0;
  *largest = 0;
  for (int64_t i = 0; i < n; i++) {
    double x = tensor_real(t, i);
    sum += x;
    squares += x * x;
    *largest = fmax(*largest, fabs(x));
  }
  *mean = sum / (double)n;
  *variance = squares / (double)n - *mean * *mean;
}

/* Of 120,000 numbers the mean lies within 5 standard errors, the variance within 2 %. */
static void test_initial_numbers(void **state) {
  (void)state;
  static const struct {
    build_init init;
    double variance, largest;
  } cases[] = {{BUILD_HE, 2.0 / IN, 6 * 0.0707}, {BUILD_GLOROT, 2.0 / (IN + OUT), 0.0926}};
  for (int i = 0; i < 2; i++) {
    builder *b = linear(7, cases[i].init);
    unsigned char *bytes;
    size_t n;
    double mean, variance, largest;
    model *m = read_back(b, &bytes, &n);
    moments(find(m, "first"), &mean, &variance, &largest);
    assert_true(fabs(mean) < 5 * sqrt(cases[i].variance / (IN * OUT)));
    assert_true(fabs(variance / cases[i].variance - 1) < 0.02);
    assert_true(largest < cases[i].largest);
    model_free(&m);
    mem_free(bytes);
    builder_free(&b);
  }
}

static void test_the_seed_decides(void **state) {
  (void)state;
  unsigned char *bytes[3];
  size_t n[3];
  for (int i = 0; i < 3; i++) {
    builder *b = linear(i == 2 ? 2 : 1, BUILD_HE);
    assert_int_equal(builder_pack(b, &bytes[i], &n[i]), STATUS_OK);
    builder_free(&b);
  }
  assert_int_equal(n[0], n[1]);
  assert_int_equal(n[0], n[2]);
  assert_memory_equal(bytes[0], bytes[1], n[0]);
  assert_memory_not_equal(bytes[0], bytes[2], n[0]);
  for (int i = 0; i < 3; i++) mem_free(bytes[i]);
}

/* A parameter's numbers depend on its position alone, and no two parameters have the same. */
static void test_streams(void **state) {
  (void)state;
  builder *b = linear(1, BUILD_HE);
  unsigned char *bytes;
  size_t n;
  model *m = read_back(b, &bytes, &n);
  const float *first = find(m, "first")->data, *second = find(m, "second")->data;
  assert_memory_not_equal(first, second, OUT * sizeof *first);
  model_free(&m);
  mem_free(bytes);
  builder_free(&b);
}

static void test_the_first_failure_is_kept(void **state) {
  (void)state;
  builder *b;
  unsigned char *bytes;
  size_t n;
  assert_int_equal(builder_new(&b, "net", 1), STATUS_OK);
  builder_parameter(b, "huge", (int64_t[]){1 << 20, 1 << 20}, 2, BUILD_ZERO, 1, 1);
  builder_node(b, "Relu", "r", (const char *[]){"huge", NULL}, "y");
  builder_int(b, "nothing", 1);
  assert_int_equal(builder_pack(b, &bytes, &n), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "the model would be larger than 2 GiB, which no ONNX file can be");
  builder_free(&b);
}

static void test_every_allocation_may_fail(void **state) {
  (void)state;
  status st = STATUS_FAILED;
  for (unsigned long i = 1; st; i++) {
    builder *b;
    unsigned char *bytes = NULL;
    size_t n;
    mem_fail_at(i);
    st = builder_new(&b, "net", 1);
    if (!st) {
      builder_input(b, "x", (int64_t[]){2}, 1);
      builder_parameter(b, "w", (int64_t[]){2}, 1, BUILD_ONE, 1, 1);
      builder_ints_constant(b, "i", (int64_t[]){1}, 1);
      builder_float_constant(b, "f", 1);
      builder_node(b, "Op", "n", (const char *[]){"x", "w", NULL}, "y");
      builder_int(b, "int", 1);
      builder_float(b, "float", 1);
      builder_string(b, "string", "s");
      builder_ints(b, "ints", (int64_t[]){1, 2}, 2);
      builder_output(b, "y", (int64_t[]){2}, 1);
      st = builder_pack(b, &bytes, &n);
    }
    mem_fail_at(0);
    if (st) assert_int_equal(st, STATUS_FAILED);
    mem_free(bytes);
    builder_free(&b);
    assert_true(i < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_written),           cmocka_unit_test(test_initial_numbers),
      cmocka_unit_test(test_the_seed_decides),          cmocka_unit_test(test_streams),
      cmocka_unit_test(test_the_first_failure_is_kept), cmocka_unit_test(test_every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
