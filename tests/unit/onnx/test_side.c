/* Models whose tensors lie in other files: written, read back, and refused where a path leads elsewhere. */
#include "onnx/wire.h"

#include "base/file.h"
#include "base/mem.h"
#include "onnx/model.h"
#include "onnx/proto.h"
#include "onnx/tensor_proto.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char types[] = "tests/unit/onnx/types.onnx";
static char folder[] = "/tmp/mpistill-side-XXXXXX";

#define must(call)                                                                                           \
  do {                                                                                                       \
    if ((call) != STATUS_OK) fail_msg("%s: %s", #call, status_message());                                    \
  } while (0)

static int make_folder(void **state) {
  (void)state;
  return !mkdtemp(folder);
}

static int remove_folder(void **state) {
  (void)state;
  char command[256];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

/* A path in the folder; four of them are valid at a time. */
static const char *in_folder(const char *name) {
  static char paths[4][256];
  static int at;
  at = (at + 1) % 4;
  snprintf(paths[at], sizeof paths[at], "%s/%s", folder, name);
  return paths[at];
}

static float *new_block(const model *m) {
  float *block;
  must(mem_new(&block, (size_t)model_graph(m)->n_block, sizeof *block));
  graph_initial_block(model_graph(m), block);
  return block;
}

static void expect_same(const model *a, const model *b) {
  const graph *g = model_graph(a), *h = model_graph(b);
  assert_int_equal(g->n_values, h->n_values);
  for (int i = 0; i < g->n_values; i++) {
    const tensor *x = g->values[i].constant, *y = h->values[i].constant;
    assert_string_equal(g->values[i].name, h->values[i].name);
    assert_int_equal(!x, !y);
    if (x) assert_memory_equal(x->data, y->data, (size_t)shape_count(&x->shape) * dtype_bytes(x->type));
  }
}

static void test_split_and_read_again(void **state) {
  (void)state;
  model *m, *again;
  unsigned char *bytes, *bytes2;
  size_t n, n2;
  must(model_read(&m, types));
  float *block = new_block(m);
  must(model_write_split(m, block, in_folder("split.onnx"), 0));
  assert_true(file_size(in_folder("split.onnx.data")) >= 3 * 4096 + 8); /* four parameters, each at a page */
  must(model_read(&again, in_folder("split.onnx")));
  expect_same(m, again);
  assert_int_equal(model_bytes(again), file_size(in_folder("split.onnx")) + 16 + 32 + 8 + 8);
  must(model_pack(m, block, &bytes, &n));
  must(model_pack(again, block, &bytes2, &n2));
  assert_int_equal(n, n2); /* in one piece again: the same file as if it had never been split */
  assert_memory_equal(bytes, bytes2, n);
  mem_free(bytes);
  mem_free(bytes2);
  mem_free(block);
  model_free(&again);
  model_free(&m);
}

static void test_hash_covers_the_data(void **state) {
  (void)state;
  model *m;
  unsigned char *bytes;
  size_t n;
  must(model_read(&m, types));
  float *block = new_block(m);
  must(model_write_split(m, block, in_folder("hash.onnx"), 0));
  model_free(&m);
  must(model_read(&m, in_folder("hash.onnx")));
  uint64_t before = model_hash(m);
  model_free(&m);
  must(file_read(in_folder("hash.onnx.data"), &bytes, &n));
  bytes[0] ^= 1;
  must(file_write(in_folder("hash.onnx.data"), bytes, n));
  must(model_read(&m, in_folder("hash.onnx")));
  assert_true(model_hash(m) != before);
  model_free(&m);
  mem_free(bytes);
  mem_free(block);
}

/* OUTPUT.part is renamed later: its data has the name that OUTPUT will look for. */
static void test_name_of_the_data(void **state) {
  (void)state;
  model *m;
  must(model_read(&m, types));
  float *block = new_block(m);
  must(file_write(in_folder("late.onnx"), "old", 3));
  must(model_write_split(m, block, in_folder("late.onnx.part"), 0));
  model_free(&m);
  assert_false(file_exists(in_folder("late.onnx"))); /* it would have referred to other data */
  must(file_commit(in_folder("late.onnx")));
  must(model_read(&m, in_folder("late.onnx")));
  model_free(&m);
  mem_free(block);
}

static void test_small_models_stay_whole(void **state) {
  (void)state;
  model *m;
  must(model_read(&m, types));
  float *block = new_block(m);
  must(model_write(m, block, in_folder("whole.onnx")));
  assert_false(file_exists(in_folder("whole.onnx.data")));
  model_free(&m);
  mem_free(block);
}

/* types.onnx with parameter.float in another file. Entries NULL are left out. */
static void write_referring(const char *location, const char *offset, const char *length) {
  static char keys[3][12] = {"location", "offset", "length"};
  Onnx__StringStringEntryProto pairs[3], *list[3];
  const char *values[3] = {location, offset, length};
  unsigned char *bytes;
  size_t n, n_pairs = 0;
  Onnx__ModelProto *p;
  Onnx__TensorProto *t = NULL;
  must(file_read(types, &bytes, &n));
  must(proto_unpack(&p, types, &onnx__model_proto__descriptor, bytes, n));
  mem_free(bytes);
  for (size_t i = 0; i < p->graph->n_initializer; i++)
    if (strcmp(p->graph->initializer[i]->name, "parameter.float") == 0) t = p->graph->initializer[i];
  assert_non_null(t);
  tensor_proto_drop_data(t);
  for (int i = 0; i < 3; i++) {
    if (!values[i]) continue;
    onnx__string_string_entry_proto__init(&pairs[n_pairs]);
    pairs[n_pairs].key = keys[i];
    pairs[n_pairs].value = (char *)values[i];
    list[n_pairs] = &pairs[n_pairs];
    n_pairs++;
  }
  t->has_data_location = true;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  t->external_data = list;
  t->n_external_data = n_pairs;
  must(proto_pack(p, &bytes, &n));
  t->external_data = NULL;
  t->n_external_data = 0;
  must(file_write(in_folder("m.onnx"), bytes, n));
  mem_free(bytes);
  proto_free(p);
}

static void expect_refused(const char *location, const char *offset, const char *length,
                           const char *message) {
  model *m;
  write_referring(location, offset, length);
  status st = model_read(&m, in_folder("m.onnx"));
  if (!st) fail_msg("%s, offset %s, length %s is accepted", location, offset, length);
  assert_int_equal(st, STATUS_BAD_INPUT);
  if (!strstr(status_message(), message)) fail_msg("'%s' is not in: %s", message, status_message());
}

static void expect_read(const char *location, const char *offset, const char *length, float first) {
  model *m;
  write_referring(location, offset, length);
  must(model_read(&m, in_folder("m.onnx")));
  const value *v = &model_graph(m)->values[graph_find(model_graph(m), "parameter.float")];
  assert_true(((const float *)v->constant->data)[0] == first);
  model_free(&m);
}

static void test_places(void **state) {
  (void)state;
  const float values[] = {1, 2, 3, 4, 5};
  must(file_write(in_folder("w.bin"), values, sizeof values));
  assert_int_equal(mkdir(in_folder("below"), 0777), 0);
  must(file_write(in_folder("below/w.bin"), values + 1, 16));
  assert_int_equal(symlink("w.bin", in_folder("inside")), 0);
  expect_read("w.bin", NULL, NULL, 1);
  expect_read("w.bin", "4", "16", 2);
  expect_read("below/w.bin", "0", NULL, 2);
  expect_read("./below/w.bin", NULL, NULL, 2);
  expect_read("inside", NULL, NULL, 1);
  must(file_write(in_folder("..w.bin"), values + 2, 12));
  expect_refused("..w.bin", NULL, NULL, "which has 12"); /* a name, not a way out */
}

static void test_paths_that_lead_out(void **state) {
  (void)state;
  static const char out[] = "is not named by a path inside the model's folder";
  expect_refused("../w.bin", NULL, NULL, out);
  expect_refused("below/../../w.bin", NULL, NULL, out);
  expect_refused("below/..", NULL, NULL, out);
  expect_refused("..", NULL, NULL, out);
  expect_refused("/etc/passwd", "0", "16", out);
  expect_refused("", NULL, NULL, out);
  expect_refused(NULL, NULL, NULL, out);
  assert_int_equal(symlink("/etc/passwd", in_folder("link")), 0);
  expect_refused("link", "0", "16", "is a link out of the model's folder");
  assert_int_equal(symlink("/etc", in_folder("etc")), 0);
  expect_refused("etc/passwd", "0", "16", "is a link out of the model's folder");
}

static void test_data_that_is_not_there(void **state) {
  (void)state;
  assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
  expect_refused("nothing.bin", NULL, NULL, "cannot be read");
  expect_refused("below", NULL, NULL, "is not a file");
  expect_refused("fifo", NULL, NULL, "is not a file");
  expect_refused("w.bin", "8", "16", "which has 20");
  expect_refused("w.bin", "9223372036854775807", "16", "which has 20");
  expect_refused("w.bin", "0", "12", "takes 16");
  expect_refused("w.bin", "0", "-1", "is no number");
  expect_refused("w.bin", " 4", NULL, "is no number");
  expect_refused("w.bin", "4x", NULL, "is no number");
  expect_refused("w.bin", "99999999999999999999", NULL, "is no number");
}

/* Whichever allocation fails, there is no model that refers to data of another one, and nothing is left over.
 */
static void test_every_allocation_may_fail(void **state) {
  (void)state;
  model *m, *again;
  must(model_read(&m, types));
  float *block = new_block(m);
  status st = STATUS_FAILED;
  for (unsigned long i = 1; st; i++) {
    mem_fail_at(i);
    st = model_write_split(m, block, in_folder("fail.onnx"), 0);
    mem_fail_at(0);
    if (st) assert_int_equal(st, STATUS_FAILED);
    if (!st) assert_true(file_exists(in_folder("fail.onnx")));
    if (file_exists(in_folder("fail.onnx"))) {
      must(model_read(&again, in_folder("fail.onnx")));
      expect_same(m, again);
      model_free(&again);
    }
    if (st) unlink(in_folder("fail.onnx"));
    assert_false(file_exists(in_folder("fail.onnx.data.part")));
    assert_true(i < 10000);
  }
  st = STATUS_FAILED;
  for (unsigned long i = 1; st; i++) {
    mem_fail_at(i);
    st = model_read(&again, in_folder("fail.onnx"));
    mem_fail_at(0);
    if (st) assert_int_equal(st, STATUS_FAILED);
  }
  expect_same(m, again);
  model_free(&again);
  model_free(&m);
  mem_free(block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_split_and_read_again),
      cmocka_unit_test(test_hash_covers_the_data),
      cmocka_unit_test(test_name_of_the_data),
      cmocka_unit_test(test_small_models_stay_whole),
      cmocka_unit_test(test_places),
      cmocka_unit_test(test_paths_that_lead_out),
      cmocka_unit_test(test_data_that_is_not_there),
      cmocka_unit_test(test_every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
