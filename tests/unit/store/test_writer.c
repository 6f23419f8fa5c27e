/* Datasets that we write: read by h5py, the same bytes each time, whole or not there. */
#include "files.h"

#include "store/dataset.h"

#include <time.h>

static void write_whole(const char *path, bool force, dataset_writer **kept) {
  static const float sixteenth = 1.0f / 16, zero = 0, scale[] = {1, 2, 3}, offset[] = {4, 5, 6};
  static const char *const classes[] = {"a", "bb", "\u00e7"};
  dataset_writer *w;
  uint8_t image[60];
  uint16_t half[10];
  for (int i = 0; i < 60; i++) image[i] = (uint8_t)i;
  for (int i = 0; i < 10; i++) half[i] = (uint16_t)i;
  OK(dataset_writer_new(&w, path, force, "digits", "Kaynak, Alpayd\u0131n", NULL));
  OK(dataset_writer_array(w, "train",
                          &(array_spec){"x", ELEMENT_UINT8, 3, {10, 2, 3}, 1, &sixteenth, &zero}));
  OK(dataset_writer_array(w, "train", &(array_spec){"half", ELEMENT_FLOAT16, 1, {10}, 0, NULL, NULL}));
  OK(dataset_writer_append(w, "train", "x", image, 4));
  OK(dataset_writer_append(w, "train", "x", image + 24, 6));
  OK(dataset_writer_append(w, "train", "half", half, 10));
  OK(dataset_writer_array(w, "test", &(array_spec){"table", ELEMENT_FLOAT32, 2, {-1, 3}, 0, NULL, NULL}));
  OK(dataset_writer_array(w, "test", &(array_spec){"label", ELEMENT_INT32, 1, {-1}, 0, NULL, NULL}));
  for (int32_t i = 0; i < 1000; i++) {
    float row[3] = {1.5f * (float)i, 1.5f * (float)i + 0.5f, 1.5f * (float)i + 1};
    OK(dataset_writer_append(w, "test", "table", row, 1));
    OK(dataset_writer_append(w, "test", "label", &i, 1));
  }
  OK(dataset_writer_scale(w, "test", "table", 3, offset, scale));
  OK(dataset_writer_scale(w, "test", "table", 3, scale, offset));
  OK(dataset_writer_classes(w, classes, 3));
  if (kept)
    *kept = w;
  else {
    OK(dataset_writer_finish(w));
    dataset_writer_free(&w);
  }
}

static void as_h5py_reads_it(void **state) {
  (void)state;
  dataset *d;
  write_whole(in_folder("written.h5"), false, NULL);
  reference("check-written");
  OK(dataset_open(&d, world, in_folder("written.h5")));
  assert_int_equal(dataset_n_splits(d), 2);
  dataset_close(&d);
}

static void same_bytes_each_time(void **state) {
  (void)state;
  write_whole(in_folder("written.h5"), true, NULL);
  nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 100000000}, NULL); /* times in HDF5 count seconds */
  write_whole(in_folder("again.h5"), true, NULL);
  assert_true(same_bytes("written.h5", "again.h5"));
}

static void whole_or_not_there(void **state) {
  (void)state;
  dataset_writer *w;
  write_whole(in_folder("half.h5"), false, &w);
  assert_false(file_exists(in_folder("half.h5")));
  assert_true(file_exists(in_folder("half.h5.part")));
  dataset_writer_free(&w);
  assert_false(file_exists(in_folder("half.h5.part")));
  write_whole(in_folder("whole.h5"), false, NULL);
  assert_false(file_exists(in_folder("whole.h5.part")));
  assert_message(dataset_writer_new(&w, in_folder("whole.h5"), false, "", "", ""), STATUS_BAD_INPUT,
                 "exists already; --force");
  assert_message(dataset_writer_new(&w, in_folder("no/such.h5"), false, "", "", ""), STATUS_BAD_INPUT, "no");
}

static void refused(void **state) {
  (void)state;
  static const float values[4] = {0};
  static const array_spec two = {"x", ELEMENT_FLOAT32, 1, {2}, 0, NULL, NULL},
                          any = {"y", ELEMENT_FLOAT32, 1, {-1}, 0, NULL, NULL};
  dataset_writer *w;
  OK(dataset_writer_new(&w, in_folder("refused.h5"), false, "", "", ""));
  assert_message(dataset_writer_finish(w), STATUS_BAD_INPUT, "nothing to write");
  OK(dataset_writer_array(w, "train", &two));
  OK(dataset_writer_array(w, "train", &any));
  assert_message(dataset_writer_array(w, "train", &two), STATUS_BAD_INPUT, "/train/x is there twice");
  assert_message(dataset_writer_array(w, "a/b", &two), STATUS_BAD_INPUT, "cannot be the name");
  assert_message(dataset_writer_append(w, "train", "x", values, 3), STATUS_BAD_INPUT,
                 "more rows come than the 2");
  OK(dataset_writer_append(w, "train", "x", values, 1));
  OK(dataset_writer_append(w, "train", "y", values, 3));
  assert_message(dataset_writer_finish(w), STATUS_BAD_INPUT, "/train/x: 1 rows came of 2");
  OK(dataset_writer_append(w, "train", "x", values, 1));
  assert_message(dataset_writer_finish(w), STATUS_BAD_INPUT, "/train/y: has 3 rows, /train/x has 2");
  dataset_writer_free(&w);
  assert_false(file_exists(in_folder("refused.h5")));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(as_h5py_reads_it),
    cmocka_unit_test(same_bytes_each_time),
    cmocka_unit_test(whole_or_not_there),
    cmocka_unit_test(refused),
};

RUN_STORE(tests)
