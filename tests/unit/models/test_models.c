/* The kinds of models `create` makes: their sizes, their bytes, and what they refuse. Their outputs are
 * compared with PyTorch's by tests/conformance/created_models.py. */
#include "base/file.h"
#include "base/mem.h"
#include "graph/op.h"
#include "models/models.h"
#include "onnx/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define INTS(...)                                                                                            \
  {                                                                                                          \
    .n = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .items = (int64_t[]) {                          \
      __VA_ARGS__                                                                                            \
    }                                                                                                        \
  }

static model *create(const mpistill_create_options *o) {
  unsigned char *bytes;
  size_t n;
  model *m = NULL;
  status st = model_create_bytes(o, &bytes, &n);
  if (!st) st = model_parse(&m, "created", bytes, n);
  if (st) fail_msg("%s", status_message());
  mem_free(bytes);
  return m;
}

static void expect_refused(const mpistill_create_options *o, const char *message) {
  unsigned char *bytes;
  size_t n;
  assert_int_equal(model_create_bytes(o, &bytes, &n), STATUS_BAD_INPUT);
  assert_string_equal(status_message(), message);
  assert_null(bytes);
}

static void expect_sizes(const mpistill_create_options *o, int64_t parameters, int64_t statistics) {
  model *m = create(o);
  const graph *g = model_graph(m);
  int64_t n_statistics = 0;
  for (int i = 0; i < g->n_values; i++)
    if (g->values[i].kind == VALUE_STATISTIC) n_statistics += shape_count(&g->values[i].shape);
  assert_int_equal(g->n_parameters, parameters);
  assert_int_equal(n_statistics, statistics);
  assert_int_equal(g->n_inputs, 1);
  assert_int_equal(g->n_outputs, 1);
  assert_string_equal(g->values[g->inputs[0]].name, "input");
  assert_string_equal(g->values[g->outputs[0]].name, "logits");
  model_free(&m);
}

static void test_sizes(void **state) {
  (void)state;
  expect_sizes(&(mpistill_create_options){.kind = "mlp", .layers = INTS(784, 800, 800, 10)}, 1276810, 0);
  expect_sizes(
      &(mpistill_create_options){
          .kind = "mlp", .layers = INTS(64, 32, 10), .batch_norm = true, .dropout = 0.5},
      64 * 32 + 32 + 2 * 32 + 32 * 10 + 10, 2 * 32);
  expect_sizes(
      &(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, 28), .classes = 10, .hidden = 128},
      832 + 51264 + 3136 * 128 + 128 + 1290, 0);
  expect_sizes(
      &(mpistill_create_options){
          .kind = "cnn", .input = INTS(3, 8, 10), .classes = 5, .channels = INTS(4), .kernel = 3},
      3 * 4 * 9 + 4 + 4 * 4 * 5 * 5 + 5, 0);
  /* The figure quoted for ResNet-20 with 1 x 1 convolutions as shortcuts. */
  expect_sizes(
      &(mpistill_create_options){.kind = "resnet", .depth = 20, .input = INTS(3, 32, 32), .classes = 10},
      272474, 2 * (16 * 7 + 32 * 7 + 64 * 7));
}

/* The numbers in a GELU or of 1 / sqrt(width) are no parameters: they would be trained. */
static void test_constants(void **state) {
  (void)state;
  const mpistill_create_options kinds[] = {
      {.kind = "transformer", .tokens = 100, .length = 16, .classes = 10, .depth = 2, .dropout = 0.1},
      {.kind = "vit", .input = INTS(3, 32, 32), .classes = 10, .depth = 2},
      {.kind = "mobilenet", .input = INTS(3, 32, 32), .classes = 10}};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    model *m = create(&kinds[k]);
    const graph *g = model_graph(m);
    for (int i = 0; i < g->n_values; i++)
      if (g->values[i].kind == VALUE_PARAMETER && !g->values[i].shape.rank)
        fail_msg("%s: '%s' would be trained", kinds[k].kind, g->values[i].name);
    model_free(&m);
  }
}

static int count_nodes(const mpistill_create_options *o, const char *op_name) {
  model *m = create(o);
  int n = 0;
  for (int i = 0; i < model_graph(m)->n_nodes; i++)
    n += strcmp(model_graph(m)->nodes[i].op->name, op_name) == 0;
  model_free(&m);
  return n;
}

/* 6n + 2 layers with weights; the two shortcuts that change the shape are not counted among them. */
static void test_depth(void **state) {
  (void)state;
  static const int depths[] = {8, 20, 32, 56};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
    mpistill_create_options o = {
        .kind = "resnet", .depth = depths[i], .width = 2, .input = INTS(3, 8, 8), .classes = 10};
    assert_int_equal(count_nodes(&o, "Conv"), depths[i] - 1 + 2);
    assert_int_equal(count_nodes(&o, "Gemm"), 1);
    assert_int_equal(count_nodes(&o, "Add"), (depths[i] - 2) / 2);
  }
}

static void test_the_seed_decides(void **state) {
  (void)state;
  unsigned char *bytes[3];
  size_t n[3];
  for (int i = 0; i < 3; i++) {
    mpistill_create_options o = {.kind = "mlp", .layers = INTS(20, 10, 5), .seed = i == 2 ? 2 : 1};
    assert_int_equal(model_create_bytes(&o, &bytes[i], &n[i]), STATUS_OK);
  }
  assert_int_equal(n[0], n[1]);
  assert_memory_equal(bytes[0], bytes[1], n[0]);
  assert_int_equal(n[0], n[2]);
  assert_memory_not_equal(bytes[0], bytes[2], n[0]);
  for (int i = 0; i < 3; i++) mem_free(bytes[i]);
}

static void test_file_and_memory_agree(void **state) {
  (void)state;
  char path[] = "/tmp/mpistill-test-XXXXXX.onnx";
  int fd = mkstemps(path, 5);
  unsigned char *memory, *file;
  size_t n_memory, n_file;
  assert_true(fd >= 0);
  close(fd);
  mpistill_create_options o = {.kind = "mlp", .layers = INTS(3, 2), .output = path};
  assert_int_equal(model_create(&o), STATUS_OK);
  assert_int_equal(model_create_bytes(&o, &memory, &n_memory), STATUS_OK);
  assert_int_equal(file_read(path, &file, &n_file), STATUS_OK);
  assert_int_equal(n_memory, n_file);
  assert_memory_equal(memory, file, n_file);
  unlink(path);
  mem_free(memory);
  mem_free(file);
}

static void test_kinds(void **state) {
  (void)state;
  assert_ptr_equal(model_kind_find("cnn"), model_kinds()[1]);
  assert_null(model_kind_find("vgg"));
  unsigned char *bytes;
  size_t n;
  assert_int_equal(model_create_bytes(&(mpistill_create_options){.kind = "vgg"}, &bytes, &n),
                   STATUS_BAD_INPUT);
  for (const model_kind *const *k = model_kinds(); *k; k++)
    assert_non_null(strstr(status_message(), (*k)->name));
  assert_int_equal(model_create(&(mpistill_create_options){.kind = "mlp", .layers = INTS(3, 2)}),
                   STATUS_BAD_INPUT);
  assert_string_equal(status_message(), "--output is needed: the ONNX file to write");
}

#define TASKS(...)                                                                                           \
  {                                                                                                          \
    .n = sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), .items = (char *[]) {                             \
      __VA_ARGS__                                                                                            \
    }                                                                                                        \
  }

/* Every kind ends in an output for each task; the model before them is the one of --classes. */
static void test_tasks(void **state) {
  (void)state;
  static const char *const names[] = {"digit", "ink"};
  static const int64_t widths[] = {10, 1};
  for (const model_kind *const *k = model_kinds(); *k; k++) {
    mpistill_create_options o = {.kind = (char *)(uintptr_t)(*k)->name,
                                 .layers = INTS(12, 6),
                                 .depth = strcmp((*k)->name, "resnet") ? 1 : 8,
                                 .width = 4,
                                 .hidden = 6,
                                 .input = INTS(3, 8, 8),
                                 .length = 4,
                                 .users = 5,
                                 .items = 7,
                                 .tasks = TASKS("digit:10", "ink:1")};
    if (strstr((*k)->options, "tokens")) {
      o.tokens = 9;
      o.input.n = 0;
    }
    model *m = create(&o);
    const graph *g = model_graph(m);
    assert_int_equal(g->n_outputs, 2);
    for (int i = 0; i < 2; i++) {
      assert_string_equal(g->values[g->outputs[i]].name, names[i]);
      bool found = false;
      for (int v = 0; v < g->n_values; v++)
        if (!strcmp(g->values[v].name, i ? "ink.weight" : "digit.weight"))
          found = g->values[v].shape.dims[0] == widths[i];
      assert_true(found);
    }
    model_free(&m);
  }
  mpistill_create_options mlp = {.kind = "mlp", .layers = INTS(64, 6), .tasks = TASKS("a:2", "b.c-d_1:3")};
  model *m = create(&mlp);
  assert_int_equal(model_graph(m)->n_parameters, 64 * 6 + 6 + 2 * 6 + 2 + 3 * 6 + 3);
  model_free(&m);
}

static void test_refused_tasks(void **state) {
  (void)state;
  static const struct {
    char *tasks[2];
    const char *message;
  } wrong[] = {{{"digit", "a:1"}, "--task 'digit': is a name of letters"},
               {{"a:1", "a b:2"}, "--task 'a b:2': is a name"},
               {{":2", "a:1"}, "--task ':2': is a name"},
               {{"a:2x", "b:1"}, "--task 'a:2x': is a name"},
               {{"a:0", "b:1"}, "--task has the value 0"},
               {{"a:99999999999999999999", "b:1"}, "is a name"},
               {{"a:2", "a:3"}, "--task 'a:3': the model has another 'a'"},
               {{"a:2", "fc1"}, "--task 'fc1': is a name"},
               {{"a:2", "fc1:2"}, "--task 'fc1:2': the model has another 'fc1'"}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    mpistill_create_options o = {
        .kind = "mlp", .layers = INTS(3, 4), .tasks = {.n = 2, .items = (char **)(uintptr_t)wrong[i].tasks}};
    unsigned char *bytes;
    size_t n;
    assert_int_equal(model_create_bytes(&o, &bytes, &n), STATUS_BAD_INPUT);
    assert_non_null(strstr(status_message(), wrong[i].message));
  }
  expect_refused(
      &(mpistill_create_options){.kind = "vit", .input = INTS(3, 8, 8), .classes = 2, .tasks = TASKS("a:2")},
      "--classes and --task: a model has one output or one for each task");
  expect_refused(
      &(mpistill_create_options){.kind = "mlp", .tasks = TASKS("a:2")},
      "--layers needs 1 to 1000 widths, from the input to what the tasks share: 784,800; it has 0");
}

static void test_refused_mlp(void **state) {
  (void)state;
  expect_refused(&(mpistill_create_options){.kind = "mlp"},
                 "--layers needs 2 to 1000 widths, from the input to the classes: 784,800,10; it has 0");
  expect_refused(&(mpistill_create_options){.kind = "mlp", .layers = INTS(784)},
                 "--layers needs 2 to 1000 widths, from the input to the classes: 784,800,10; it has 1");
  expect_refused(&(mpistill_create_options){.kind = "mlp", .layers = INTS(784, 0, 10)},
                 "--layers has the value 0; it can be 1 to 16777216");
  expect_refused(&(mpistill_create_options){.kind = "mlp", .layers = INTS(784, 10), .dropout = 1},
                 "--dropout is 1; it can be 0 up to, not including, 1");
  expect_refused(&(mpistill_create_options){.kind = "mlp", .layers = INTS(784, 10), .activation = "rely"},
                 "--activation is 'rely'; it can be relu, leaky-relu, tanh or sigmoid");
  expect_refused(&(mpistill_create_options){.kind = "mlp", .layers = INTS(1 << 20, 1 << 20)},
                 "the model would be larger than 2 GiB, which no ONNX file can be");
}

static void test_refused_cnn(void **state) {
  (void)state;
  expect_refused(&(mpistill_create_options){.kind = "cnn", .classes = 10},
                 "--input needs three numbers, channels x height x width: 3x32x32; it has 0");
  expect_refused(&(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, 28)},
                 "--classes is needed: the number of classes, 2 or more");
  expect_refused(&(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, -28), .classes = 10},
                 "--input has the value -28; it can be 1 to 1048576");
  expect_refused(&(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, 3), .classes = 10},
                 "--input has a side of 3, which 2 halvings (one for each of --channels) do not leave a "
                 "point of; it can "
                 "be 4 and more");
  expect_refused(
      &(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, 28), .classes = 10, .kernel = 4},
      "--kernel is 4; it can be 3 or 5");
  expect_refused(
      &(mpistill_create_options){
          .kind = "cnn", .input = INTS(1, 28, 28), .classes = 10, .channels = INTS(32, -1)},
      "--channels has the value -1; it can be 1 to 65536");
  expect_refused(
      &(mpistill_create_options){.kind = "cnn", .input = INTS(1, 28, 28), .classes = 10, .hidden = -1},
      "--hidden has the value -1; it can be 1 to 16777216");
}

static void test_refused_resnet(void **state) {
  (void)state;
  static const char depth[] = "--depth is %d; it can be 6n + 2 up to 1202: 8, 14, 20, 32, 44, 56, 110, ...";
  static const int depths[] = {0, 2, 18, 21, 1208};
  for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
    char message[128];
    snprintf(message, sizeof message, depth, depths[i]);
    expect_refused(
        &(mpistill_create_options){
            .kind = "resnet", .depth = depths[i], .input = INTS(3, 32, 32), .classes = 10},
        message);
  }
  expect_refused(
      &(mpistill_create_options){.kind = "resnet", .depth = 20, .input = INTS(3, 32, 32), .classes = 1},
      "--classes has the value 1; it can be 2 to 2147483647");
  expect_refused(
      &(mpistill_create_options){
          .kind = "resnet", .depth = 20, .input = INTS(3, 32, 32), .classes = 10, .width = -4},
      "--width has the value -4; it can be 1 to 16384");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_constants),
      cmocka_unit_test(test_depth),
      cmocka_unit_test(test_the_seed_decides),
      cmocka_unit_test(test_file_and_memory_agree),
      cmocka_unit_test(test_kinds),
      cmocka_unit_test(test_tasks),
      cmocka_unit_test(test_refused_tasks),
      cmocka_unit_test(test_refused_mlp),
      cmocka_unit_test(test_refused_cnn),
      cmocka_unit_test(test_refused_resnet),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
