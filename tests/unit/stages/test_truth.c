/* Outputs as matrices of positions, and the labels, targets, lengths and masks that belong to them. */
/* ranks: 1 2 3 */
#include "comm/world.h"

#include "stages/truth.h"

#include <math.h>
#include <unistd.h>

enum { N = 4, T = 3 };
static char path[64];

static void check(status st) {
  if (st) fail_msg("%s", status_message());
}

static void put(dataset_writer *w, const char *name, element type, int rank, int64_t width,
                const void *rows) {
  const array_spec spec = {.name = name, .type = type, .rank = rank, .dims = {N, width}};
  check(dataset_writer_array(w, "train", &spec));
  check(dataset_writer_append(w, "train", name, rows, N));
}

static void test_a_dataset_is_written(void **state) {
  (void)state;
  const float sound[N][T] = {{0}},
              box[N][T * 2] = {{1, 2, NAN, 4, 5, 6}, {NAN, NAN, NAN, NAN, NAN, NAN}, {7}, {8}};
  const int32_t labels[N][T] = {{0, 1, -1}, {1, 1, 1}, {-1, -1, -1}, {0, 2, 0}}, lengths[N] = {3, 2, 1, 0};
  dataset_writer *w;
  snprintf(path, sizeof path, "/tmp/mpistill-truth.%d.h5", (int)getppid());
  if (comm_rank(world) == 0) {
    check(dataset_writer_new(&w, path, true, "truth", "", ""));
    put(w, "sound", ELEMENT_FLOAT32, 2, T, sound);
    put(w, "sound.length", ELEMENT_INT32, 1, 0, lengths);
    put(w, "label", ELEMENT_INT32, 2, T, labels);
    put(w, "target.box", ELEMENT_FLOAT32, 2, 2 * T, box);
    check(dataset_writer_finish(w));
    dataset_writer_free(&w);
  }
  check(comm_barrier(world));
}

static void test_it_is_removed(void **state) {
  (void)state;
  check(comm_barrier(world));
  if (comm_rank(world) == 0) assert_int_equal(unlink(path), 0);
}

static void test_positions_and_classes_change_places(void **state) {
  (void)state;
  float x[2 * 3 * 4], y[24], z[24];
  for (int i = 0; i < 24; i++) x[i] = (float)i;
  head_positions_first(x, 2, 3, 4, y);
  for (int n = 0; n < 2; n++)
    for (int c = 0; c < 3; c++)
      for (int p = 0; p < 4; p++) assert_true(y[(n * 4 + p) * 3 + c] == x[(n * 3 + c) * 4 + p]);
  head_classes_first(y, 2, 3, 4, z);
  assert_memory_equal(x, z, sizeof x);
}

typedef struct opened {
  dataset *d;
  const split *sp;
  truth t;
} opened;

static opened open_truth(const char *name, const form *f) {
  opened o = {0};
  check(dataset_open(&o.d, world, path));
  check(dataset_split(o.d, "train", &o.sp));
  check(truth_open(&o.t, o.d, o.sp, truth_array(o.sp, name), f, NULL, 0));
  return o;
}

static void close_truth(opened *o) {
  truth_close(&o->t);
  dataset_close(&o->d);
}

static const int64_t all[N] = {0, 1, 2, 3};

static void test_labels_within_lengths(void **state) {
  (void)state;
  const form f = {.classes = 3, .positions = T, .steps = T};
  opened o = open_truth("label", &f);
  static const int32_t expected[N * T] = {0, 1, -1, 1, 1, -1, -1, -1, -1, -1, -1, -1};
  static const int64_t known[N] = {2, 2, 0, 0}, counted[N] = {3, 2, 1, 0};
  int32_t y[N * T], room[T];
  float matrix[N * T * 3] = {0};
  check(truth_read(&o.t, all, N, y, NULL));
  assert_memory_equal(y, expected, sizeof y);
  check(truth_count(&o.t, world));
  assert_memory_equal(o.t.known, known, sizeof known);
  assert_memory_equal(o.t.counted, counted, sizeof counted);
  check(truth_mask(&o.t, all, N, room, matrix));
  for (int64_t i = 0; i < N; i++)
    for (int64_t p = 0; p < T; p++) assert_int_equal(isnan(matrix[(i * T + p) * 3]) != 0, p >= counted[i]);
  close_truth(&o);
}

/* Of numbers each is a position; a mask over pairs of them. */
static void test_targets_and_a_mask(void **state) {
  (void)state;
  const form f = {.classes = 1, .positions = 2 * T, .steps = 2 * T, .values = true};
  opened o = open_truth("target.box", &f);
  static const int64_t known[N] = {5, 0, 6, 6}, counted[N] = {2, 6, 0, 2};
  int32_t room[2 * T];
  float matrix[N * 2 * T] = {0};
  check(truth_mask_by(&o.t, "label"));
  check(truth_count(&o.t, world));
  assert_memory_equal(o.t.known, known, sizeof known);
  assert_memory_equal(o.t.counted, counted, sizeof counted);
  check(truth_mask(&o.t, all, N, room, matrix));
  for (int j = 0; j < 2 * T; j++) assert_int_equal(isnan(matrix[j]) != 0, j / 2 != 1); /* labels 0, 1, -1 */
  assert_int_equal(truth_mask_by(&o.t, "target.box"), STATUS_BAD_INPUT);
  close_truth(&o);
}

static void test_what_does_not_fit_is_refused(void **state) {
  (void)state;
  const form wide = {.classes = 3, .positions = 2 * T, .steps = 2 * T},
             few = {.classes = 2, .positions = T, .steps = T},
             numbers = {.classes = 1, .positions = T, .steps = T, .values = true};
  opened o = {0};
  int32_t y[N * T];
  check(dataset_open(&o.d, world, path));
  check(dataset_split(o.d, "train", &o.sp));
  const array *label = truth_array(o.sp, "label");
  assert_null(truth_array(o.sp, "labels"));
  assert_int_equal(truth_open(&o.t, o.d, o.sp, label, &wide, NULL, 0), STATUS_BAD_INPUT);
  truth_close(&o.t);
  assert_int_equal(truth_open(&o.t, o.d, o.sp, label, &numbers, NULL, 0), STATUS_BAD_INPUT);
  truth_close(&o.t);
  check(truth_open(&o.t, o.d, o.sp, label, &few, NULL, 0));
  assert_int_equal(truth_read(&o.t, all, N, y, NULL), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "/train/label row 3 is 2, but there are 2 classes"));
  close_truth(&o);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_dataset_is_written),
                                          cmocka_unit_test(test_positions_and_classes_change_places),
                                          cmocka_unit_test(test_labels_within_lengths),
                                          cmocka_unit_test(test_targets_and_a_mask),
                                          cmocka_unit_test(test_what_does_not_fit_is_refused),
                                          cmocka_unit_test(test_it_is_removed)};
RUN_WORLD(tests)
