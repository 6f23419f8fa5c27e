/* Augmentations: views against numpy and PyTorch, their draws' distributions, labels of mixed rows. */
#include "reference.h"

#include "learn/augment.h"
#include "learn/loss_mixed.h"

typedef struct view_case {
  mpistill_augment list[2];
  mpistill_augments all;
  augmenter a;
  int64_t dims[4], view;
  float *rows;
} view_case;

/* Kinds that mix stand behind a shift, as in the reference. */
static void case_load(view_case *c, const augment_kind *k, int i) {
  const double *o = reference_values("augment", k->name, i, "options");
  *c = (view_case){.dims = {(int64_t)o[3], (int64_t)o[0], (int64_t)o[1], (int64_t)o[2]},
                   .view = (int64_t)o[5]};
  if (k->mix) c->list[c->all.n++] = (mpistill_augment){.kind = (char *)(uintptr_t) "shift", .pixels = 1};
  c->list[c->all.n++] = (mpistill_augment){.kind = (char *)(uintptr_t)k->name,
                                           .probability = o[6],
                                           .pixels = (int64_t)o[7],
                                           .padding = (int64_t)o[8],
                                           .reflect = o[9] != 0,
                                           .deviation = o[10],
                                           .alpha = o[11]};
  c->all.items = c->list;
  assert_int_equal(augmenter_make(&c->a, &c->all, c->dims, 4, (uint64_t)o[4], "rows"), STATUS_OK);
  c->rows = reference_floats("augment", k->name, i, "rows");
}

static void see(const augmenter *a, const float *rows, int64_t view, int64_t row, float *x,
                augment_mix *mix) {
  const int64_t values = a->shape.values;
  float *scratch = calloc(augmenter_scratch(a), sizeof *scratch), *partner = scratch + values;
  memcpy(x, rows + row * values, (size_t)values * sizeof *x);
  augmenter_apply(a, view, row, x, scratch);
  if (augmenter_partner(a, view, row, mix)) {
    memcpy(partner, rows + mix->partner * values, (size_t)values * sizeof *x);
    augmenter_apply(a, view, mix->partner, partner, scratch);
    augmenter_mix(a, mix, x, partner);
  }
  free(scratch);
}

static void check_case(const augment_kind *k, int i) {
  view_case c;
  case_load(&c, k, i);
  const int64_t values = c.a.shape.values;
  const double *wanted = reference_values("augment", k->name, i, "value");
  const double *partners = reference_values("augment", k->name, i, "partner");
  const double *shares = reference_values("augment", k->name, i, "share");
  float *x = calloc((size_t)values, sizeof *x);
  bool moved = false;
  for (int64_t row = 0; row < c.dims[0]; row++) {
    augment_mix mix = {.partner = row, .share = 1};
    see(&c.a, c.rows, c.view, row, x, &mix);
    if (!(relative_difference(x, wanted + row * values, values) < 1e-6))
      fail_msg("'%s', case %d, row %lld is another", k->name, i, (long long)row);
    assert_int_equal(mix.partner, (int64_t)partners[row]);
    assert_true(fabs(mix.share - shares[row]) < 1e-6);
    moved = moved || memcmp(x, c.rows + row * values, (size_t)values * sizeof *x);
  }
  assert_true(moved);
  free(x);
  free(c.rows);
}

static void test_views_are_those_of_numpy_and_pytorch(void **state) {
  (void)state;
  for (const augment_kind *const *k = augment_kinds(); *k; k++) {
    int n = 0;
    for (; reference_find("augment/%s/%d/value", (*k)->name, n); n++) check_case(*k, n);
    if (n < 2) fail_msg("augment '%s' has too few reference values", (*k)->name);
  }
}

/* ---- distributions ---- */

enum { MANY = 20000 };

static double arcsine(double x) {
  return 2 / M_PI * asin(sqrt(x));
}

static double uniform(double x) {
  return x;
}

static double square(double x) {
  return x * x * (3 - 2 * x);
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Kolmogorov's distance to the distribution is below its 1e-6 quantile. */
static void check_shares(double alpha, double (*below)(double)) {
  mpistill_augment one = {.kind = (char *)(uintptr_t) "mixup", .alpha = alpha};
  const int64_t dims[] = {MANY, 4};
  augmenter a;
  double *shares = calloc(MANY, sizeof *shares), worst = 0, partners = 0;
  assert_int_equal(augmenter_make(&a, &(mpistill_augments){1, &one}, dims, 2, 7, "rows"), STATUS_OK);
  for (int64_t i = 0; i < MANY; i++) {
    augment_mix mix;
    assert_true(augmenter_partner(&a, 2, i, &mix));
    assert_true(mix.partner >= 0 && mix.partner < MANY);
    shares[i] = mix.share;
    partners += (double)mix.partner;
  }
  qsort(shares, MANY, sizeof *shares, by_value);
  for (int i = 0; i < MANY; i++) worst = fmax(worst, fabs(below(shares[i]) - (i + 0.5) / MANY));
  if (!(worst < 2.7 / sqrt(MANY))) fail_msg("alpha %g: off by %g", alpha, worst);
  assert_true(fabs(partners / MANY / MANY - 0.5) < 5 * 0.2887 / sqrt(MANY));
  free(shares);
}

static void test_shares_are_of_the_beta_distribution(void **state) {
  (void)state;
  check_shares(0.5, arcsine);
  check_shares(1, uniform);
  check_shares(2, square);
}

static void test_views_differ_and_repeat(void **state) {
  (void)state;
  mpistill_augment one = {.kind = (char *)(uintptr_t) "noise", .deviation = 1};
  const int64_t dims[] = {3, 2, 2};
  const float rows[12] = {0};
  float x[4], y[4];
  augment_mix mix;
  augmenter a;
  assert_int_equal(augmenter_make(&a, &(mpistill_augments){1, &one}, dims, 3, 7, "rows"), STATUS_OK);
  see(&a, rows, 1, 2, x, &mix);
  see(&a, rows, 1, 2, y, &mix);
  assert_memory_equal(x, y, sizeof x);
  see(&a, rows, 2, 2, y, &mix);
  assert_memory_not_equal(x, y, sizeof x);
  see(&a, rows, 1, 1, y, &mix);
  assert_memory_not_equal(x, y, sizeof x);
}

/* ---- refusals ---- */

static void refused(const char *kind, int rank, const char *words) {
  const int64_t dims[] = {8, 1, 3, 6};
  mpistill_augment one = {
      .kind = (char *)(uintptr_t)kind, .pixels = 3, .padding = 3, .alpha = 1, .deviation = 1};
  augmenter a;
  assert_int_equal(augmenter_make(&a, &(mpistill_augments){1, &one}, dims, rank, 0, "'image'"),
                   STATUS_BAD_INPUT);
  if (!strstr(status_message(), words)) fail_msg("no '%s' in: %s", words, status_message());
}

static void test_rows_that_are_no_images_are_refused(void **state) {
  (void)state;
  const char *const images[] = {"shift", "flip", "crop", "cutmix"};
  for (int i = 0; i < 4; i++) refused(images[i], 2, "is for images [rows, channels, height, width]");
  refused("shift", 4, "moves images of 3 x 6 by up to 3 pixels");
  refused("crop", 4, "moves images of 3 x 6 by up to 3 pixels");
  refused("turn", 4, "'turn' is not known");
}

static void test_nothing_stands_behind_mixing(void **state) {
  (void)state;
  mpistill_augment two[] = {{.kind = (char *)(uintptr_t) "mixup", .alpha = 1},
                            {.kind = (char *)(uintptr_t) "flip"}};
  assert_int_equal(augment_check(&(mpistill_augments){2, two}), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "mixes rows"));
}

/* ---- labels of mixed rows ---- */

enum { ROWS = 5, CLASSES = 4 };

/* Value and gradient are those of the two whole batches, row by row in their shares. */
static void check_mixed(const loss_kind *k, bool both) {
  mpistill_loss o = {
      .kind = (char *)(uintptr_t)k->name, .weight = 0.7, .temperature = 3, .alpha = 1, .beta = 8, .gamma = 1};
  float logits[ROWS * CLASSES], soft[2][ROWS * CLASSES], own[CLASSES], scratch[4096];
  float sides[2][ROWS * CLASSES], mixed[ROWS * CLASSES] = {0};
  const int32_t labels[2][ROWS] = {{0, 3, -1, 2, 1}, {1, 3, 2, -1, 0}};
  const double shares[ROWS] = {0.25, 0.5, 0.9, 1, 0};
  double value = 0, slope = 0, wanted_slope = 0;
  for (int i = 0; i < ROWS * CLASSES; i++) {
    logits[i] = (float)sin(i);
    soft[0][i] = (float)cos(3 * i);
    soft[1][i] = both ? (float)cos(5 * i) : soft[0][i];
  }
  loss_batch b = {.rows = ROWS,
                  .classes = CLASSES,
                  .logits = logits,
                  .labels = labels[0],
                  .soft = soft[0],
                  .batch_rows = 9,
                  .batch_labelled = 7,
                  .temperature = k->learns_temperature ? 3 : 0,
                  .temperature_slope = k->learns_temperature ? &slope : NULL,
                  .scratch = scratch};
  loss_mix m = {.shares = shares, .labels = labels[1], .soft = both ? soft[1] : NULL, .gradient = own};
  double got = loss_mixed(k, &o, &b, &m, mixed);
  for (int s = 0; s < 2; s++) {
    memset(sides[s], 0, sizeof sides[s]);
    for (int i = 0; i < ROWS; i++) {
      double its = 0, share = s ? 1 - shares[i] : shares[i];
      loss_batch one = b;
      one.rows = 1;
      one.logits = logits + i * CLASSES;
      one.labels = labels[s] + i;
      one.soft = soft[s] + i * CLASSES;
      one.temperature_slope = b.temperature_slope ? &its : NULL;
      value += share * k->evaluate(&o, &one, sides[s] + i * CLASSES);
      wanted_slope += share * its;
      for (int j = 0; j < CLASSES; j++) sides[s][i * CLASSES + j] *= (float)share;
    }
  }
  assert_close(got, value, 1e-6);
  if (slope != 0) assert_close(slope, wanted_slope, 1e-6);
  for (int i = 0; i < ROWS * CLASSES; i++)
    assert_true(fabs(mixed[i] - (double)sides[0][i] - sides[1][i]) < 1e-6);
}

static void test_mixed_rows_have_both_losses(void **state) {
  (void)state;
  for (const loss_kind *const *k = loss_kinds(); *k; k++)
    for (int both = 0; both < 2; both++)
      if (!(*k)->relates_rows && !(*k)->of_values) check_mixed(*k, both);
}

/* The gradient of s CE(y) + (1 - s) CE(y') is that of the cross-entropy with the mixed one-hot labels: q
 * minus those. */
static void test_mixed_labels_are_soft_labels(void **state) {
  (void)state;
  const float logits[3] = {0.5f, -1, 2};
  const int32_t label = 0, other = 2;
  const double share = 0.3;
  float own[3], scratch[64], gradient[3] = {0};
  double sum = 0;
  mpistill_loss o = {.kind = (char *)(uintptr_t) "cross-entropy", .weight = 1};
  loss_batch b = {.rows = 1,
                  .classes = 3,
                  .logits = logits,
                  .labels = &label,
                  .batch_rows = 1,
                  .batch_labelled = 1,
                  .scratch = scratch};
  loss_mixed(loss_find("cross-entropy"), &o, &b,
             &(loss_mix){.shares = &share, .labels = &other, .gradient = own}, gradient);
  for (int j = 0; j < 3; j++) sum += exp((double)logits[j]);
  for (int j = 0; j < 3; j++) {
    const double target = j == label ? share : j == other ? 1 - share : 0;
    assert_true(fabs(gradient[j] - (exp((double)logits[j]) / sum - target)) < 1e-6);
  }
}

static int setup(void **state) {
  (void)state;
  return reference_run("augment");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_views_are_those_of_numpy_and_pytorch),
      cmocka_unit_test(test_shares_are_of_the_beta_distribution),
      cmocka_unit_test(test_views_differ_and_repeat),
      cmocka_unit_test(test_rows_that_are_no_images_are_refused),
      cmocka_unit_test(test_nothing_stands_behind_mixing),
      cmocka_unit_test(test_mixed_rows_have_both_losses),
      cmocka_unit_test(test_mixed_labels_are_soft_labels),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
