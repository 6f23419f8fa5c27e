/* Models read from files and written back. types.onnx is written by numpy and onnx: make_types.py. */
#include "onnx/wire.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "onnx/model.h"
#include "onnx/proto.h"
#include "onnx/tensor_proto.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static const char path[] = "tests/unit/onnx/types.onnx";

static model *read_types(void) {
  model *m;
  status st = model_read(&m, path);
  if (st) print_error("%s\n", status_message());
  assert_int_equal(st, STATUS_OK);
  return m;
}

static void expect(const model *m, const char *name, dtype type, const double *values) {
  int v = graph_find(model_graph(m), name);
  if (v < 0) fail_msg("no value '%s'", name);
  const value *at = &model_graph(m)->values[v];
  assert_int_equal(at->type, type);
  assert_int_equal(at->shape.rank, 1);
  assert_int_equal(at->shape.dims[0], 4);
  for (int i = 0; i < 4; i++)
    if (tensor_real(at->constant, i) != values[i])
      fail_msg("%s[%d] is %g", name, i, tensor_real(at->constant, i));
}

static const double reals[] = {1.5, -2, 0, 65504}, bfloats[] = {1.5, -2, 0, 65280};
static const double wholes[] = {0, 1, 100, 127}, bools[] = {1, 0, 0, 1};

static void test_every_element_type(void **state) {
  (void)state;
  model *m = read_types();
  expect(m, "raw.float", DTYPE_FLOAT, reals);
  expect(m, "typed.float", DTYPE_FLOAT, reals);
  expect(m, "raw.double", DTYPE_FLOAT, reals);
  expect(m, "typed.double", DTYPE_FLOAT, reals);
  expect(m, "raw.float16", DTYPE_FLOAT, reals);
  expect(m, "typed.float16", DTYPE_FLOAT, reals);
  expect(m, "raw.bfloat16", DTYPE_FLOAT, bfloats);
  expect(m, "raw.uint8", DTYPE_UINT8, wholes);
  expect(m, "typed.uint8", DTYPE_UINT8, wholes);
  expect(m, "raw.int8", DTYPE_INT8, wholes);
  expect(m, "typed.int8", DTYPE_INT8, wholes);
  expect(m, "raw.int32", DTYPE_INT32, wholes);
  expect(m, "typed.int32", DTYPE_INT32, wholes);
  expect(m, "raw.int64", DTYPE_INT64, wholes);
  expect(m, "typed.int64", DTYPE_INT64, wholes);
  expect(m, "raw.bool", DTYPE_BOOL, bools);
  expect(m, "typed.bool", DTYPE_BOOL, bools);
  model_free(&m);
  assert_null(m);
}

static void test_what_a_file_declares(void **state) {
  (void)state;
  model *m = read_types();
  const graph *g = model_graph(m);
  uint64_t hash;
  assert_int_equal(hash_file(path, &hash), STATUS_OK);
  assert_int_equal(model_hash(m), hash);
  assert_int_equal(model_bytes(m), file_size(path));
  assert_int_equal(model_opset(m), 13);
  assert_string_equal(model_producer(m), "make_types");
  assert_string_equal(model_path(m), path);
  assert_int_equal(g->n_inputs, 1);
  assert_int_equal(g->n_outputs, 1);
  assert_int_equal(g->n_nodes, 4);
  assert_string_equal(g->nodes[0].name, "add.float");
  assert_int_equal(g->nodes[0].opset, 13);
  const value *x = &g->values[g->inputs[0]];
  assert_string_equal(x->name, "x");
  assert_int_equal(x->shape.rank, 2);
  assert_int_equal(x->shape.dims[0], -1);
  assert_int_equal(x->shape.dims[1], 4);
  assert_int_equal(g->n_parameters, 16);
  model_free(&m);
}

static Onnx__ModelProto *unpack(const unsigned char *bytes, size_t n) {
  Onnx__ModelProto *p;
  assert_int_equal(proto_unpack(&p, "written", &onnx__model_proto__descriptor, bytes, n), STATUS_OK);
  return p;
}

static Onnx__TensorProto *find(Onnx__ModelProto *m, const char *name) {
  for (size_t i = 0; i < m->graph->n_initializer; i++)
    if (strcmp(m->graph->initializer[i]->name, name) == 0) return m->graph->initializer[i];
  fail_msg("no initializer '%s'", name);
  return NULL;
}

static const char *const parameters[] = {"parameter.float", "parameter.double", "parameter.float16",
                                         "parameter.bfloat16"};

static void put(const model *m, float *block, const float values[4]) {
  for (int k = 0; k < 4; k++) {
    const value *v = &model_graph(m)->values[graph_find(model_graph(m), parameters[k])];
    assert_int_equal(v->kind, VALUE_PARAMETER);
    memcpy(block + v->offset, values, 4 * sizeof *values);
  }
}

static float *new_block(const model *m) {
  float *block;
  assert_int_equal(mem_new(&block, (size_t)model_graph(m)->n_block, sizeof *block), STATUS_OK);
  graph_initial_block(model_graph(m), block);
  return block;
}

/* Halfway cases go to the even neighbour: 1 + 2^-11 and 1 + 3 * 2^-11 for float16, 1 + 2^-8 and 1 + 3 * 2^-8
 * for bfloat16. */
static void test_written_in_the_files_own_types(void **state) {
  (void)state;
  model *m = read_types();
  float *block = new_block(m);
  unsigned char *bytes;
  size_t n;
  put(m, block, (float[]){1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1p-8f, 1 + 0x3p-8f});
  assert_int_equal(model_pack(m, block, &bytes, &n), STATUS_OK);
  Onnx__ModelProto *p = unpack(bytes, n);
  const Onnx__TensorProto *half = find(p, "parameter.float16"), *bfloat = find(p, "parameter.bfloat16");
  assert_int_equal(half->data_type, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16);
  assert_int_equal(half->n_int32_data, 0);
  assert_int_equal(half->raw_data.len, 8);
  assert_memory_equal(half->raw_data.data, ((uint16_t[]){0x3c00, 0x3c02, 0x3c04, 0x3c0c}), 8);
  assert_int_equal(bfloat->raw_data.len, 8);
  assert_memory_equal(bfloat->raw_data.data, ((uint16_t[]){0x3f80, 0x3f80, 0x3f80, 0x3f82}), 8);
  assert_memory_equal(find(p, "parameter.float")->raw_data.data,
                      ((float[]){1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1p-8f, 1 + 0x3p-8f}), 16);
  assert_memory_equal(find(p, "parameter.double")->raw_data.data,
                      ((double[]){1 + 0x1p-11, 1 + 0x3p-11, 1 + 0x1p-8, 1 + 0x3p-8}), 32);
  proto_free(p);
  mem_free(bytes);
  mem_free(block);
  model_free(&m);
}

static void test_too_large_for_the_files_type(void **state) {
  (void)state;
  model *m = read_types();
  float *block = new_block(m);
  unsigned char *bytes;
  size_t n;
  put(m, block, (float[]){1, 2, 70000, 4});
  assert_int_equal(model_pack(m, block, &bytes, &n), STATUS_FAILED);
  assert_string_equal(status_message(),
                      "tests/unit/onnx/types.onnx: initializer 'parameter.float16': element 2 (70000) "
                      "is too large for float16, the type it has in the file");
  put(m, block, (float[]){1, 2, INFINITY, 4});
  assert_int_equal(model_pack(m, block, &bytes, &n), STATUS_OK);
  mem_free(bytes);
  mem_free(block);
  model_free(&m);
}

static void drop(Onnx__ModelProto *p) {
  for (int k = 0; k < 4; k++) tensor_proto_drop_data(find(p, parameters[k]));
}

/* Apart from the numbers of the parameters the file that is written says what the one that was read says. */
static void test_all_else_is_kept(void **state) {
  (void)state;
  model *m = read_types();
  float *block = new_block(m);
  unsigned char *bytes, *original, *a, *b;
  size_t n, n_original, n_a, n_b;
  assert_int_equal(model_pack(m, block, &bytes, &n), STATUS_OK);
  assert_int_equal(file_read(path, &original, &n_original), STATUS_OK);
  Onnx__ModelProto *before = unpack(original, n_original), *after = unpack(bytes, n);
  assert_int_equal(after->n_metadata_props, 2);
  assert_string_equal(after->graph->doc_string, "every type");
  drop(before);
  drop(after);
  assert_int_equal(proto_pack(before, &a, &n_a), STATUS_OK);
  assert_int_equal(proto_pack(after, &b, &n_b), STATUS_OK);
  assert_int_equal(n_a, n_b);
  assert_memory_equal(a, b, n_a);
  proto_free(before);
  proto_free(after);
  mem_free(a);
  mem_free(b);
  mem_free(bytes);
  mem_free(original);
  mem_free(block);
  model_free(&m);
}

static void test_written_read_and_written_again(void **state) {
  (void)state;
  model *m = read_types(), *again;
  float *block = new_block(m), *block2;
  unsigned char *bytes, *bytes2;
  size_t n, n2;
  put(m, block, (float[]){0.25f, -3, 0, 8});
  char file[] = "/tmp/mpistill-test-XXXXXX.onnx";
  int fd = mkstemps(file, 5);
  assert_true(fd >= 0);
  close(fd);
  assert_int_equal(model_write(m, block, file), STATUS_OK);
  assert_int_equal(model_read(&again, file), STATUS_OK);
  block2 = new_block(again);
  assert_int_equal(model_graph(again)->n_block, model_graph(m)->n_block);
  assert_memory_equal(block, block2, (size_t)model_graph(m)->n_block * sizeof *block);
  assert_int_equal(model_pack(m, block, &bytes, &n), STATUS_OK);
  assert_int_equal(model_pack(again, block2, &bytes2, &n2), STATUS_OK);
  assert_int_equal(n, n2);
  assert_memory_equal(bytes, bytes2, n);
  unlink(file);
  mem_free(bytes);
  mem_free(bytes2);
  mem_free(block);
  mem_free(block2);
  model_free(&m);
  model_free(&again);
}

/* A model without its numbers is the same with them in a block. */
static void test_shell(void **state) {
  (void)state;
  model *m = read_types(), *shell;
  float *block = new_block(m), *block2;
  unsigned char *bytes, *packed, *packed2;
  size_t n, n2, n3;
  put(m, block, (float[]){0.25f, -3, 0, 8});
  model_drop_data(m);
  assert_int_equal(model_pack_shell(m, &bytes, &n), STATUS_OK);
  const model_origin origin = model_origin_of(m);
  assert_int_equal(model_parse_shell(&shell, path, bytes, n, block, &origin), STATUS_OK);
  mem_free(bytes);
  assert_true(model_hash(shell) == model_hash(m) && model_bytes(shell) == model_bytes(m));
  assert_int_equal(model_graph(shell)->n_block, model_graph(m)->n_block);
  block2 = new_block(shell);
  assert_memory_equal(block, block2, (size_t)model_graph(m)->n_block * sizeof *block);
  assert_int_equal(model_pack(m, block, &packed, &n2), STATUS_OK);
  assert_int_equal(model_pack(shell, block2, &packed2, &n3), STATUS_OK);
  assert_true(n < n2);
  assert_int_equal(n2, n3);
  assert_memory_equal(packed, packed2, n2);
  mem_free(packed);
  mem_free(packed2);
  mem_free(block);
  mem_free(block2);
  model_free(&m);
  model_free(&shell);
}

static void test_missing_file(void **state) {
  (void)state;
  model *m;
  assert_int_equal(model_read(&m, "no/such/file.onnx"), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "no/such/file.onnx"));
  assert_null(m);
}

/* Whichever allocation fails, reading and writing end with STATUS_FAILED, or succeed once enough of them may.
 */
static void test_every_allocation_may_fail(void **state) {
  (void)state;
  status st = STATUS_FAILED;
  for (unsigned long i = 1; st; i++) {
    model *m;
    float *block = NULL;
    unsigned char *bytes = NULL;
    size_t n;
    mem_fail_at(i);
    st = model_read(&m, path);
    if (!st) st = mem_new(&block, (size_t)model_graph(m)->n_block, sizeof *block);
    if (!st) st = model_pack(m, block, &bytes, &n);
    mem_fail_at(0);
    if (st) assert_int_equal(st, STATUS_FAILED);
    if (st) assert_non_null(strstr(status_message(), "out of memory"));
    mem_free(bytes);
    mem_free(block);
    model_free(&m);
    assert_true(i < 10000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_element_type),
      cmocka_unit_test(test_what_a_file_declares),
      cmocka_unit_test(test_written_in_the_files_own_types),
      cmocka_unit_test(test_too_large_for_the_files_type),
      cmocka_unit_test(test_all_else_is_kept),
      cmocka_unit_test(test_written_read_and_written_again),
      cmocka_unit_test(test_shell),
      cmocka_unit_test(test_missing_file),
      cmocka_unit_test(test_every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
