/* Types, shapes and tensors. Values of broadcasting are numpy's. */
#include "toy_ops.h"

static void test_counts(void **state) {
  (void)state;
  assert_int_equal(shape_count(&(shape){3, {2, 3, 4}}), 24);
  assert_int_equal(shape_count(&(shape){0, {0}}), 1);
  assert_int_equal(shape_count(&(shape){2, {-1, 4}}), -1);
  assert_int_equal(shape_count(&(shape){2, {0, 4}}), 0);
  assert_int_equal(shape_count(&(shape){3, {0, INT64_MAX, 4}}), 0);
  assert_int_equal(shape_count(&(shape){3, {INT64_MAX, 2, 4}}), -1);
  assert_int_equal(shape_span(&(shape){4, {2, 3, 4, 5}}, 1, 3), 12);
  assert_int_equal(shape_span(&(shape){4, {2, 3, 4, 5}}, 2, 2), 1);
}

static void test_text(void **state) {
  (void)state;
  char text[32];
  assert_string_equal(shape_text(&(shape){4, {32, 3, -1, 8}}, text, sizeof text), "[32, 3, ?, 8]");
  assert_string_equal(shape_text(&(shape){0, {0}}, text, sizeof text), "[]");
  assert_string_equal(shape_text(&(shape){2, {12345, 67}}, text, 6), "[1234");
  shape widest = {.rank = SHAPE_MAX_RANK};
  for (int i = 0; i < SHAPE_MAX_RANK; i++) widest.dims[i] = INT64_MAX;
  char wide[256];
  assert_int_equal(strlen(shape_text(&widest, wide, sizeof wide)), 8 * 19 + 7 * 2 + 2);
}

static void test_broadcast(void **state) {
  (void)state;
  shape out;
  assert_true(shape_broadcast(&(shape){3, {5, 1, 4}}, &(shape){2, {3, 1}}, &out));
  assert_true(shape_equal(&out, &(shape){3, {5, 3, 4}}));
  assert_true(shape_broadcast(&(shape){0, {0}}, &(shape){2, {3, 1}}, &out));
  assert_true(shape_equal(&out, &(shape){2, {3, 1}}));
  assert_true(shape_broadcast(&(shape){2, {0, 4}}, &(shape){1, {1}}, &out));
  assert_true(shape_equal(&out, &(shape){2, {0, 4}}));
  assert_false(shape_broadcast(&(shape){2, {2, 3}}, &(shape){2, {3, 3}}, &out));
  assert_false(shape_broadcast(&(shape){2, {2, 0}}, &(shape){2, {2, 3}}, &out));
}

static void test_strides(void **state) {
  (void)state;
  int64_t strides[SHAPE_MAX_RANK];
  shape_strides(&(shape){3, {5, 1, 4}}, &(shape){4, {2, 5, 3, 4}}, strides);
  assert_memory_equal(strides, ((int64_t[]){0, 4, 0, 1}), 4 * sizeof *strides);
  shape_strides(&(shape){0, {0}}, &(shape){2, {3, 4}}, strides);
  assert_memory_equal(strides, ((int64_t[]){0, 0}), 2 * sizeof *strides);
}

static void test_elements(void **state) {
  (void)state;
  tensor *t;
  OK(tensor_new(&t, DTYPE_INT8, &(shape){2, {2, 2}}));
  assert_int_equal((uintptr_t)t->data % 64, 0);
  assert_int_equal(tensor_int(t, 3), 0);
  ((int8_t *)t->data)[3] = -5;
  assert_int_equal(tensor_int(t, 3), -5);
  assert_true(tensor_real(t, 3) == -5.0);
  mem_free(t);
  OK(tensor_new(&t, DTYPE_FLOAT16, &(shape){1, {1}}));
  *(uint16_t *)t->data = 0xc100; /* -2.5 */
  assert_true(tensor_real(t, 0) == -2.5);
  mem_free(t);
  OK(tensor_new(&t, DTYPE_INT64, &(shape){0, {0}}));
  *(int64_t *)t->data = INT64_MIN;
  assert_int_equal(tensor_int(t, 0), INT64_MIN);
  mem_free(t);
  assert_int_equal(tensor_new(&t, DTYPE_FLOAT, &(shape){2, {-1, 2}}), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "[?, 2]"));
  assert_int_equal(tensor_new(&t, DTYPE_FLOAT, &(shape){1, {INT64_MAX}}), STATUS_BAD_INPUT);
}

static void test_types(void **state) {
  (void)state;
  static const struct {
    dtype type;
    size_t bytes;
    const char *name;
  } expected[] = {{DTYPE_FLOAT, 4, "float"},   {DTYPE_UINT8, 1, "uint8"},    {DTYPE_INT8, 1, "int8"},
                  {DTYPE_INT32, 4, "int32"},   {DTYPE_INT64, 8, "int64"},    {DTYPE_BOOL, 1, "bool"},
                  {DTYPE_DOUBLE, 8, "double"}, {DTYPE_FLOAT16, 2, "float16"}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    assert_int_equal(dtype_bytes(expected[i].type), expected[i].bytes);
    assert_string_equal(dtype_name(expected[i].type), expected[i].name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts),    cmocka_unit_test(test_text),
                                     cmocka_unit_test(test_broadcast), cmocka_unit_test(test_strides),
                                     cmocka_unit_test(test_elements),  cmocka_unit_test(test_types)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
