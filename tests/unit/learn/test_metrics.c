/* Accuracy, negative log-likelihood and calibration error against numpy. */
#include "reference.h"

#include "learn/metrics.h"

static const double *values(const char *what) {
  const reference_array *a = reference_find("metrics/%s", what);
  assert_non_null(a);
  return a->values;
}

static void test_metrics_are_numpys_in_any_blocks(void **state) {
  (void)state;
  const int64_t rows = (int64_t)values("options")[0], classes = (int64_t)values("options")[1];
  float *logits = calloc((size_t)(rows * classes), sizeof *logits);
  int32_t *labels = calloc((size_t)rows, sizeof *labels);
  for (int64_t i = 0; i < rows * classes; i++) logits[i] = (float)values("logits")[i];
  for (int64_t i = 0; i < rows; i++) labels[i] = (int32_t)values("labels")[i];
  for (int64_t block = 1; block <= rows; block *= 7) {
    metric_sums all = {0};
    for (int64_t from = 0; from < rows; from += block) {
      metric_sums part = {0};
      metric_add(&part, logits + from * classes, labels + from, from + block < rows ? block : rows - from,
                 classes);
      metric_merge(&all, &part);
    }
    assert_close(metric_accuracy(&all), values("accuracy")[0], 1e-12);
    assert_close(metric_nll(&all), values("nll")[0], 1e-9);
    assert_close(metric_ece(&all), values("ece")[0], 1e-9);
  }
  free(logits), free(labels);
}

static void test_mean_iou_is_numpys(void **state) {
  (void)state;
  const int64_t rows = (int64_t)values("options")[0], classes = (int64_t)values("options")[1];
  float *logits = calloc((size_t)(rows * classes), sizeof *logits);
  int32_t *labels = calloc((size_t)rows, sizeof *labels);
  int64_t *areas = calloc((size_t)(3 * classes), sizeof *areas);
  for (int64_t i = 0; i < rows * classes; i++) logits[i] = (float)values("logits")[i];
  for (int64_t i = 0; i < rows; i++) labels[i] = (int32_t)values("labels")[i];
  assert_true(isnan(metric_mean_iou(areas, classes)));
  metric_add_areas(areas, logits, labels, 100, classes);
  metric_add_areas(areas, logits + 100 * classes, labels + 100, rows - 100, classes);
  assert_close(metric_mean_iou(areas, classes), values("mean_iou")[0], 1e-12);
  free(logits), free(labels), free(areas);
}

static void test_metrics_of_numbers_are_numpys(void **state) {
  (void)state;
  enum { ROWS = 300 };
  float numbers[ROWS], targets[ROWS];
  metric_sums all = {0};
  for (int i = 0; i < ROWS; i++) {
    numbers[i] = (float)values("numbers")[i];
    targets[i] = (float)values("targets")[i];
  }
  assert_true(isnan(metric_mse(&all)) && isnan(metric_mae(&all)) && isnan(metric_r2(&all)));
  for (int from = 0; from < ROWS; from += 60) {
    metric_sums part = {0};
    metric_add_values(&part, numbers + from, targets + from, 60);
    metric_merge(&all, &part);
  }
  assert_true(all.rows == 240);
  assert_close(metric_mse(&all), values("mse")[0], 1e-12);
  assert_close(metric_mae(&all), values("mae")[0], 1e-12);
  assert_close(metric_r2(&all), values("r2")[0], 1e-9);
}

static void test_a_tie_goes_to_the_lowest_class(void **state) {
  (void)state;
  const float logits[] = {1, 5, 5, 0};
  assert_int_equal(metric_argmax(logits, 4), 1);
  metric_sums m = {0};
  metric_add(&m, logits, (int32_t[]){2}, 1, 4);
  assert_true(m.errors == 1);
}

static void test_no_labels_give_no_number(void **state) {
  (void)state;
  const float logits[] = {1, 2};
  metric_sums m = {0};
  metric_add(&m, logits, (int32_t[]){-1}, 1, 2);
  assert_true(m.rows == 0);
  assert_true(isnan(metric_accuracy(&m)) && isnan(metric_nll(&m)) && isnan(metric_ece(&m)));
}

/* A model that is certain and right has no loss and no calibration error; NaN logits spoil the sums, nothing
 * else. */
static void test_certain_and_broken_models(void **state) {
  (void)state;
  const float certain[] = {1000, 0, 0}, broken[] = {NAN, 0, 0};
  metric_sums m = {0};
  metric_add(&m, certain, (int32_t[]){0}, 1, 3);
  assert_true(metric_nll(&m) == 0 && metric_ece(&m) == 0 && metric_accuracy(&m) == 1);
  metric_add(&m, broken, (int32_t[]){1}, 1, 3);
  assert_true(isnan(metric_nll(&m)) && metric_accuracy(&m) == 0.5);
}

static int setup(void **state) {
  (void)state;
  return reference_run("metrics");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_metrics_are_numpys_in_any_blocks),
      cmocka_unit_test(test_mean_iou_is_numpys),
      cmocka_unit_test(test_metrics_of_numbers_are_numpys),
      cmocka_unit_test(test_a_tie_goes_to_the_lowest_class),
      cmocka_unit_test(test_no_labels_give_no_number),
      cmocka_unit_test(test_certain_and_broken_models),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
