/* inspect: what it says about files that were just made, and what it refuses. */
#include "base/file.h"
#include "base/mem.h"
#include "models/models.h"
#include "stages/inspect.h"
#include "store/softlabels.h"
#include "testing.h"

#include <math.h>
#include <unistd.h>

enum { ROWS = 5 };

static comm *alone;
static char folder[64], path[96];

static const char *in_folder(const char *name) {
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* A member by "a.b.c" as compact text. */
static void expect(const json_t *object, const char *member, const char *expected) {
  char copy[128], *at;
  snprintf(copy, sizeof copy, "%s", member);
  for (char *name = strtok_r(copy, "/", &at); name; name = strtok_r(NULL, "/", &at))
    object = json_object_get(object, name);
  char *text = object ? json_dumps(object, JSON_COMPACT | JSON_ENCODE_ANY | JSON_PRESERVE_ORDER) : NULL;
  if (!text || strcmp(text, expected))
    fail_msg("%s: is %s, expected %s", member, text ? text : "absent", expected);
  free(text);
}

static json_t *inspect(const char *name, bool verify) {
  json_t *all;
  if (inspect_file(&all, alone, in_folder(name), verify)) fail_msg("%s: %s", name, status_message());
  return all;
}

static void write_dataset(const char *name, float last) {
  static const float scale[] = {0.5f}, offset[] = {1};
  static const int32_t labels[ROWS] = {0, 2, 2, -1, 0};
  static const char *const classes[] = {"cat", "dog", "owl", "yak"};
  float rows[ROWS * 2] = {1, 2, 3, 4, 5, 6, 7, 8, 9, last};
  const array_spec x = {.name = "x",
                        .type = ELEMENT_FLOAT32,
                        .rank = 2,
                        .dims = {ROWS, 2},
                        .n_scale = 1,
                        .scale = scale,
                        .offset = offset};
  const array_spec y = {.name = "label", .type = ELEMENT_INT32, .rank = 1, .dims = {ROWS}};
  dataset_writer *w;
  assert_int_equal(dataset_writer_new(&w, in_folder(name), true, "small", "here", "CC0"), STATUS_OK);
  assert_int_equal(dataset_writer_array(w, "train", &x), STATUS_OK);
  assert_int_equal(dataset_writer_array(w, "train", &y), STATUS_OK);
  assert_int_equal(dataset_writer_append(w, "train", "x", rows, ROWS), STATUS_OK);
  assert_int_equal(dataset_writer_append(w, "train", "label", labels, ROWS), STATUS_OK);
  assert_int_equal(dataset_writer_classes(w, classes, 4), STATUS_OK);
  assert_int_equal(dataset_writer_finish(w), STATUS_OK);
  dataset_writer_free(&w);
}

static void a_dataset_is_described(void **state) {
  (void)state;
  write_dataset("set.h5", 10);
  json_t *all = inspect("set.h5", true);
  expect(all, "kind", "\"dataset\"");
  expect(all, "name", "\"small\"");
  expect(all, "licence", "\"CC0\"");
  expect(all, "classes", "[\"cat\",\"dog\",\"owl\",\"yak\"]");
  expect(all, "splits/train/rows", "5");
  expect(all, "splits/train/inputs/x", "{\"type\":\"float32\",\"shape\":[5,2],\"scale\":0.5,\"offset\":1.0}");
  expect(all, "splits/train/labels/label/histogram", "[2,0,2,0]");
  expect(all, "splits/train/labels/label/unlabelled", "1");
  expect(all, "verified", "true");
  const char *hash =
      json_string_value(json_object_get(json_object_get(json_object_get(all, "splits"), "train"), "hash"));
  assert_true(hash && strlen(hash) == 21 && !strncmp(hash, "xxh3:", 5));
  json_decref(all);
}

static void a_value_that_is_not_finite_is_found(void **state) {
  json_t *all;
  (void)state;
  write_dataset("nan.h5", NAN);
  json_decref(inspect("nan.h5", false));
  assert_int_equal(inspect_file(&all, alone, in_folder("nan.h5"), true), STATUS_BAD_INPUT);
  assert_contains(status_message(), "nan.h5");
}

static void soft_labels_are_described(void **state) {
  (void)state;
  softlabels_header h = {.teacher = "wide",
                         .model_hash = "xxh3:1",
                         .dataset_hash = "xxh3:2",
                         .split = "train",
                         .type = ELEMENT_FLOAT16,
                         .rank = 2,
                         .dims = {ROWS, 4},
                         .block_rows = 2,
                         .batch_rows = 1,
                         .method = ""};
  static const float logits[2 * 4] = {1, 2, 3, 4, 4, 3, 2, 1};
  softlabels *s;
  assert_int_equal(softlabels_create(&s, alone, in_folder("soft.h5"), &h, false), STATUS_OK);
  for (int64_t b = 0; b < 3; b++) assert_int_equal(softlabels_write(s, b, logits), STATUS_OK);
  assert_int_equal(softlabels_finish(s, STATUS_OK), STATUS_OK);
  softlabels_close(&s);
  json_t *all = inspect("soft.h5", true);
  expect(all, "kind", "\"soft-labels\"");
  expect(all, "teacher", "\"wide\"");
  expect(all, "encoding", "\"dense\"");
  expect(all, "type", "\"float16\"");
  expect(all, "shape", "[5,4]");
  expect(all, "blocks", "3");
  expect(all, "blocks_done", "3");
  json_decref(all);
}

static void a_model_is_described(void **state) {
  (void)state;
  int64_t widths[] = {4, 8, 3};
  mpistill_create_options o = {.kind = "mlp",
                               .layers = {3, widths},
                               .activation = "relu",
                               .output = (char *)(uintptr_t)in_folder("m.onnx")};
  assert_int_equal(model_create(&o), STATUS_OK);
  json_t *all = inspect("m.onnx", true);
  expect(all, "kind", "\"model\"");
  expect(all, "opset", "17");
  expect(all, "parameters", "67"); /* 4*8 + 8 + 8*3 + 3 */
  expect(all, "operators", "{\"Gemm\":2,\"Relu\":1}");
  expect(all, "inputs", "{\"input\":{\"type\":\"float\",\"shape\":[\"N\",4]}}");
  expect(all, "outputs", "{\"logits\":{\"type\":\"float\",\"shape\":[\"N\",3]}}");
  json_decref(all);
}

static void other_files_are_refused(void **state) {
  json_t *all;
  (void)state;
  assert_int_equal(file_write(in_folder("t.txt"), "just text\n", 10), STATUS_OK);
  assert_int_equal(inspect_file(&all, alone, in_folder("t.txt"), false), STATUS_BAD_INPUT);
  assert_contains(status_message(), "t.txt");
  assert_int_equal(file_write(in_folder("head.h5"), "\211HDF\r\n\032\n", 8), STATUS_OK);
  assert_int_equal(inspect_file(&all, alone, in_folder("head.h5"), false), STATUS_BAD_INPUT);
  assert_contains(status_message(), "head.h5");
  assert_int_equal(inspect_file(&all, alone, in_folder("none"), false), STATUS_BAD_INPUT);
  assert_contains(status_message(), "none: cannot be opened");
}

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s", "/tmp/mpistill-test-XXXXXX");
  return !mkdtemp(folder) || comm_alone(&alone);
}

static int tear_down(void **state) {
  char command[96];
  (void)state;
  comm_end(&alone);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_dataset_is_described),    cmocka_unit_test(a_value_that_is_not_finite_is_found),
      cmocka_unit_test(soft_labels_are_described), cmocka_unit_test(a_model_is_described),
      cmocka_unit_test(other_files_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
