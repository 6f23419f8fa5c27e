/* Files that are wrong: by hand, one problem each with its message, and by chance, tens of thousands that
 * must only not crash. The models to be damaged are built here. */
#include "onnx/wire.h"

#include "base/mem.h"
#include "base/rng.h"
#include "onnx/build.h"
#include "onnx/model.h"

#include <stdio.h>
#include <sys/resource.h>

/* A model in the making: its parts in wire format. */
typedef struct parts {
  wire graph;
  int opset;
} parts;

static wire tensor_of(const char *name, const int64_t *dims, int rank, const float *data, size_t n) {
  wire t = {0};
  for (int i = 0; i < rank; i++) wire_int(&t, 1, dims[i]);
  wire_int(&t, 2, 1);
  wire_text(&t, 8, name);
  wire_bytes(&t, 9, data, n * sizeof *data);
  return t;
}

static void add_initializer(parts *p, const char *name, const int64_t *dims, int rank, const float *data,
                            size_t n) {
  wire t = tensor_of(name, dims, rank, data, n);
  wire_message(&p->graph, 5, &t);
}

/* field 11: input, 12: output; [N, side] */
static void add_end(parts *p, int field, const char *name, int64_t side) {
  wire rows = {0}, columns = {0}, dims = {0}, tensor = {0}, type = {0}, info = {0};
  wire_text(&rows, 2, "N");
  wire_int(&columns, 1, side);
  wire_message(&dims, 1, &rows);
  wire_message(&dims, 1, &columns);
  wire_int(&tensor, 1, 1);
  wire_message(&tensor, 2, &dims);
  wire_message(&type, 1, &tensor);
  wire_text(&info, 1, name);
  wire_message(&info, 2, &type);
  wire_message(&p->graph, field, &info);
}

static wire node_of(const char *type, const char *name, const char *const *inputs, const char *output) {
  wire n = {0};
  for (int i = 0; inputs[i]; i++) wire_text(&n, 1, inputs[i]);
  if (output) wire_text(&n, 2, output);
  if (name) wire_text(&n, 3, name);
  wire_text(&n, 4, type);
  return n;
}

#define INPUTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void add_node(parts *p, const char *type, const char *name, const char *const *inputs,
                     const char *output) {
  wire n = node_of(type, name, inputs, output);
  wire_message(&p->graph, 1, &n);
}

static wire finish(parts *p) {
  wire w = {0}, import = {0};
  wire_int(&w, 1, 8);
  wire_message(&w, 7, &p->graph);
  wire_text(&import, 1, "");
  wire_int(&import, 2, p->opset ? p->opset : 17);
  wire_message(&w, 8, &import);
  return w;
}

static status parse(const void *bytes, size_t n) {
  model *m;
  status st = model_parse(&m, "m.onnx", bytes, n);
  if (st) assert_null(m);
  model_free(&m);
  return st;
}

static void expect_message(parts *p, const char *message) {
  wire w = finish(p);
  status st = parse(w.bytes, w.n);
  wire_free(&w);
  if (st) assert_string_equal(status_message(), message);
  assert_int_equal(st, STATUS_BAD_INPUT);
}

static void test_a_good_one(void **state) {
  (void)state;
  parts p = {0};
  add_end(&p, 11, "x", 2);
  add_initializer(&p, "w", (int64_t[]){2}, 1, (float[]){1, 2}, 2);
  add_node(&p, "Add", "a", INPUTS("x", "w"), "y");
  add_end(&p, 12, "y", 2);
  wire w = finish(&p);
  assert_int_equal(parse(w.bytes, w.n), STATUS_OK);
  wire_free(&w);
}

static void test_all_problems_at_once(void **state) {
  (void)state;
  parts p = {0};
  wire attribute = {0}, n = node_of("Relu", NULL, INPUTS("a"), "b"),
       foreign = node_of("Gelu", "g", INPUTS("b"), "c");
  add_end(&p, 11, "x", 2);
  add_node(&p, "NoSuchThing", "first", INPUTS("x"), "a");
  wire_text(&attribute, 1, "slope");
  wire_int(&attribute, 3, 1);
  wire_int(&attribute, 20, 2);
  wire_message(&n, 5, &attribute);
  wire_message(&p.graph, 1, &n);
  wire_text(&foreign, 7, "com.example");
  wire_message(&p.graph, 1, &foreign);
  add_node(&p, "Add", "sum", INPUTS("c", "c", "c"), "d");
  add_node(&p, "Sub", NULL, INPUTS("d", "nowhere"), "y");
  add_node(&p, "Relu", "fine", INPUTS("y"), "z");
  add_end(&p, 12, "z", 2);
  expect_message(&p, "m.onnx: 5 nodes cannot be run:\n"
                     "  'first' (NoSuchThing, opset 17): unknown operator\n"
                     "  'Relu_1' (Relu, opset 17): attribute 'slope' is not understood\n"
                     "  'g' (com.example.Gelu, opset 0): the model imports no opset of its domain\n"
                     "  'sum' (Add, opset 17): has 3 inputs, not 2\n"
                     "  'Sub_4' (Sub, opset 17): nothing gives its input 'nowhere'");
}

static void test_opset(void **state) {
  (void)state;
  parts p = {.opset = 24};
  add_end(&p, 11, "x", 2);
  add_end(&p, 12, "x", 2);
  expect_message(&p, "m.onnx: is written for opset 24 of ai.onnx; 1 to 23 are understood");
  p = (parts){.opset = 6};
  add_end(&p, 11, "x", 2);
  add_node(&p, "Add", "a", INPUTS("x", "x"), "y");
  add_end(&p, 12, "y", 2);
  expect_message(&p, "m.onnx: 1 node cannot be run:\n  'a' (Add, opset 6): understood from opset 7 on");
}

static void test_not_a_model(void **state) {
  (void)state;
  assert_int_equal(parse("", 0), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "m.onnx: is empty");
  wire w = {0};
  wire_int(&w, 1, 8);
  assert_int_equal(parse(w.bytes, w.n), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "m.onnx: is not an ONNX model: it holds no graph");
  wire_free(&w);
  assert_int_equal(parse("\x89HDF\r\n\x1a\n", 8), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "m.onnx: is damaged or not an ONNX file"));
}

static void test_sizes_of_initializers(void **state) {
  (void)state;
  parts p = {0};
  const float data[4] = {1, 2, 3, 4};
  add_initializer(&p, "w", (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40}, 2, data, 4);
  add_end(&p, 12, "w", 2);
  expect_message(&p, "m.onnx: initializer 'w' has dimensions whose product is too large");
  add_initializer(&p, "w", (int64_t[]){INT64_C(1) << 40}, 1, data, 4);
  add_end(&p, 12, "w", 2);
  expect_message(
      &p, "m.onnx: initializer 'w' has the shape [1099511627776], but its data does not hold 1099511627776 "
          "elements of type float");
  add_initializer(&p, "w", (int64_t[]){2, -2}, 2, data, 4);
  add_end(&p, 12, "w", 2);
  expect_message(&p, "m.onnx: initializer 'w' has a negative dimension (-2)");
  add_initializer(&p, "w", (int64_t[]){3}, 1, data, 4);
  add_end(&p, 12, "w", 2);
  expect_message(
      &p, "m.onnx: initializer 'w' has the shape [3], but its data does not hold 3 elements of type float");
  add_initializer(&p, "w", (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 4}, 9, data, 4);
  add_end(&p, 12, "w", 2);
  expect_message(&p, "m.onnx: initializer 'w' has 9 dimensions, at most 8 are understood");
}

static void test_inputs(void **state) {
  (void)state;
  parts p = {0};
  wire info = {0};
  add_end(&p, 11, "x", -5);
  add_end(&p, 12, "x", 2);
  expect_message(&p, "m.onnx: input 'x' has a negative dimension (-5)");
  wire_text(&info, 1, "x");
  wire_message(&p.graph, 11, &info);
  add_end(&p, 12, "x", 2);
  expect_message(&p, "m.onnx: input 'x' is not a tensor");
}

static void test_missing_ends(void **state) {
  (void)state;
  parts p = {0};
  add_end(&p, 11, "x", 2);
  add_node(&p, "Add", "a", INPUTS("x", "w"), "y");
  add_end(&p, 12, "y", 2);
  expect_message(&p, "m.onnx: 1 node cannot be run:\n  'a' (Add, opset 17): nothing gives its input 'w'");
  add_end(&p, 11, "x", 2);
  add_end(&p, 12, "y", 2);
  expect_message(&p, "m.onnx: nothing gives its output 'y'");
  add_end(&p, 11, "x", 2);
  expect_message(&p, "m.onnx: has no outputs");
}

static void test_names_given_twice(void **state) {
  (void)state;
  parts p = {0};
  add_end(&p, 11, "x", 2);
  add_node(&p, "Relu", "a", INPUTS("x"), "y");
  add_node(&p, "Relu", "b", INPUTS("x"), "y");
  add_end(&p, 12, "y", 2);
  expect_message(&p, "m.onnx: value 'y' is defined twice");
  add_initializer(&p, "w", (int64_t[]){1}, 1, (float[]){1}, 1);
  add_initializer(&p, "w", (int64_t[]){1}, 1, (float[]){1}, 1);
  add_end(&p, 12, "w", 1);
  expect_message(&p, "m.onnx: value 'w' is defined twice");
}

/* Before IR version 4 initializers had to be inputs as well. */
static void test_an_input_that_is_an_initializer(void **state) {
  (void)state;
  parts p = {0};
  add_end(&p, 11, "x", 2);
  add_end(&p, 11, "w", 2);
  add_initializer(&p, "w", (int64_t[]){1, 2}, 2, (float[]){1, 2}, 2);
  add_node(&p, "Add", "a", INPUTS("x", "w"), "y");
  add_end(&p, 12, "y", 2);
  wire w = finish(&p);
  model *m;
  assert_int_equal(model_parse(&m, "m.onnx", w.bytes, w.n), STATUS_OK);
  assert_int_equal(model_graph(m)->n_inputs, 1);
  assert_int_equal(model_graph(m)->n_parameters, 2);
  model_free(&m);
  wire_free(&w);
}

static void test_cycle(void **state) {
  (void)state;
  parts p = {0};
  add_end(&p, 11, "x", 2);
  add_node(&p, "Add", "a", INPUTS("x", "v"), "u");
  add_node(&p, "Relu", "b", INPUTS("u"), "v");
  add_end(&p, 12, "v", 2);
  wire w = finish(&p);
  assert_int_equal(parse(w.bytes, w.n), STATUS_BAD_INPUT);
  assert_ptr_equal(strstr(status_message(), "m.onnx: node '"), status_message());
  wire_free(&w);
}

static void test_external_data(void **state) {
  (void)state;
  parts p = {0};
  wire t = tensor_of("w", (int64_t[]){1}, 1, NULL, 0), entry = {0};
  wire_text(&entry, 1, "location");
  wire_text(&entry, 2, "../../../etc/passwd");
  wire_message(&t, 13, &entry);
  wire_int(&t, 14, 1);
  wire_message(&p.graph, 5, &t);
  add_end(&p, 12, "w", 1);
  expect_message(&p,
                 "m.onnx: initializer 'w' is kept in the file '../../../etc/passwd', which is not named by a "
                 "path inside the model's folder");
}

static void test_unsupported_elements(void **state) {
  (void)state;
  parts p = {0};
  wire t = {0};
  wire_int(&t, 1, 1);
  wire_int(&t, 2, 8);
  wire_text(&t, 6, "text");
  wire_text(&t, 8, "w");
  wire_message(&p.graph, 5, &t);
  add_end(&p, 12, "w", 1);
  expect_message(&p, "m.onnx: its output 'w' holds strings, which are not supported");
  wire_int(&t, 2, 3);
  wire_int(&t, 5, 300);
  wire_text(&t, 8, "w");
  wire_message(&p.graph, 5, &t);
  add_end(&p, 12, "w", 1);
  expect_message(&p, "m.onnx: initializer 'w': element 0 is 300, which is no int8");
}

static void test_ten_thousand_subgraphs(void **state) {
  (void)state;
  parts p = {.graph = wire_nest(10000, (int[]){6, 5, 1}, 3)};
  wire w = finish(&p);
  assert_int_equal(parse(w.bytes, w.n), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "nested more than 64 deep"));
  wire_free(&w);
}

/* A model with most of what a file can hold: parameters, constants, attributes of several types. */
static void build(int kind, unsigned char **bytes, size_t *n) {
  builder *b;
  assert_int_equal(builder_new(&b, "victim", (uint64_t)kind), STATUS_OK);
  builder_input(b, "x", (int64_t[]){2, 4, 4}, kind ? 3 : 1);
  if (kind == 0) {
    builder_parameter(b, "w", (int64_t[]){3, 2}, 2, BUILD_HE, 2, 3);
    builder_node(b, "Gemm", "fc", INPUTS("x", "w"), "y");
    builder_int(b, "transB", 1);
    builder_float(b, "alpha", 0.5f);
  } else if (kind == 1) {
    builder_parameter(b, "w", (int64_t[]){3, 2, 3, 3}, 4, BUILD_GLOROT, 18, 27);
    builder_node(b, "Conv", "conv", INPUTS("x", "w"), "c");
    builder_ints(b, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    builder_string(b, "auto_pad", "NOTSET");
    builder_node(b, "Relu", "r", INPUTS("c"), "y");
  } else {
    builder_ints_constant(b, "shape", (int64_t[]){-1, 32}, 2);
    builder_float_constant(b, "ratio", 0.5f);
    builder_node(b, "Reshape", "flat", INPUTS("x", "shape"), "f");
    builder_node(b, "Mul", "half", INPUTS("f", "ratio"), "m");
    builder_node(b, "Softmax", "p", INPUTS("m"), "y");
    builder_int(b, "axis", -1);
  }
  builder_output(b, "y", (int64_t[]){3}, 1);
  assert_int_equal(builder_pack(b, bytes, n), STATUS_OK);
  builder_free(&b);
}

static uint32_t draw(uint64_t round, uint64_t i, uint32_t below) {
  uint32_t words[4];
  rng_words(1, RNG_NOISE, round, i, words);
  return words[0] % below;
}

/* Cuts the end off, turns bits, or writes bytes that make lengths, tags and counts wrong. */
static size_t damage(unsigned char *bytes, size_t n, uint64_t round) {
  static const unsigned char evil[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x2a, 0x3a};
  uint32_t changes = 1 + draw(round, 0, 8);
  if (draw(round, 1, 4) == 0) n = draw(round, 2, (uint32_t)n + 1);
  for (uint32_t i = 0; n && i < changes; i++) {
    size_t at = draw(round, 10 + 3 * i, (uint32_t)n);
    if (draw(round, 11 + 3 * i, 2))
      bytes[at] ^= (unsigned char)(1u << draw(round, 12 + 3 * i, 8));
    else
      bytes[at] = evil[draw(round, 12 + 3 * i, sizeof evil)];
  }
  return n;
}

enum { MUTANTS = 20000, MEMORY_KIB = 512 << 10 };

static void test_twenty_thousand_mutants(void **state) {
  (void)state;
  int refused = 0;
  for (int kind = 0; kind < 3; kind++) {
    unsigned char *bytes, *mutant;
    size_t n;
    build(kind, &bytes, &n);
    assert_int_equal(parse(bytes, n), STATUS_OK);
    for (int i = kind; i < MUTANTS; i += 3) {
      /* An allocation of its own size, so that AddressSanitizer sees a read behind the end. */
      unsigned char *copy;
      mutant = malloc(n + 1);
      assert_non_null(mutant);
      memcpy(mutant, bytes, n);
      size_t n_mutant = damage(mutant, n, (uint64_t)i);
      copy = malloc(n_mutant ? n_mutant : 1);
      assert_non_null(copy);
      memcpy(copy, mutant, n_mutant);
      status st = parse(copy, n_mutant);
      assert_true(st == STATUS_OK || st == STATUS_BAD_INPUT);
      refused += st != STATUS_OK;
      free(copy);
      free(mutant);
    }
    mem_free(bytes);
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  print_message("%d of %d mutants refused, %ld MiB\n", refused, MUTANTS, usage.ru_maxrss >> 10);
  assert_true(refused > MUTANTS / 2);
  assert_true(usage.ru_maxrss < MEMORY_KIB);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_twenty_thousand_mutants), /* first: it looks at the process's highest memory */
      cmocka_unit_test(test_a_good_one),
      cmocka_unit_test(test_all_problems_at_once),
      cmocka_unit_test(test_opset),
      cmocka_unit_test(test_not_a_model),
      cmocka_unit_test(test_sizes_of_initializers),
      cmocka_unit_test(test_inputs),
      cmocka_unit_test(test_missing_ends),
      cmocka_unit_test(test_names_given_twice),
      cmocka_unit_test(test_an_input_that_is_an_initializer),
      cmocka_unit_test(test_cycle),
      cmocka_unit_test(test_external_data),
      cmocka_unit_test(test_unsupported_elements),
      cmocka_unit_test(test_ten_thousand_subgraphs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
