/* Losses: values and gradients against PyTorch, and what must hold for any loss. */
#include "reference.h"

#include "learn/combine.h"
#include "learn/loss.h"

typedef struct loss_case {
  const loss_kind *kind;
  mpistill_loss options;
  loss_batch batch;
  float *logits, *soft, *targets, *scratch;
  int32_t *labels;
  double value;
  const double *gradient;
} loss_case;

static void case_load(loss_case *c, const loss_kind *kind, int i) {
  const double *o = reference_values("loss", kind->name, i, "options");
  const double *labels = reference_values("loss", kind->name, i, "labels");
  *c = (loss_case){.kind = kind};
  c->options = (mpistill_loss){.kind = (char *)(uintptr_t)kind->name,
                               .weight = o[2],
                               .temperature = o[3],
                               .label_smoothing = o[4],
                               .alpha = o[5],
                               .beta = o[6],
                               .gamma = o[7],
                               .standardize = o[8] != 0,
                               .delta = o[9]};
  c->logits = reference_floats("loss", kind->name, i, "logits");
  c->soft = reference_floats("loss", kind->name, i, "soft");
  if (kind->of_values) c->targets = reference_floats("loss", kind->name, i, "targets");
  c->value = reference_values("loss", kind->name, i, "value")[0];
  c->gradient = reference_values("loss", kind->name, i, "gradient");
  int64_t rows = (int64_t)o[0], labelled = 0;
  c->labels = calloc((size_t)rows, sizeof *c->labels);
  c->scratch = calloc(loss_scratch(kind, rows, (int64_t)o[1]), sizeof *c->scratch);
  for (int64_t r = 0; r < rows; r++) labelled += (c->labels[r] = (int32_t)labels[r]) >= 0;
  c->batch = (loss_batch){.rows = rows,
                          .classes = (int64_t)o[1],
                          .logits = c->logits,
                          .labels = kind->needs_labels ? c->labels : NULL,
                          .targets = c->targets,
                          .soft = kind->needs_soft ? c->soft : NULL,
                          .batch_rows = rows,
                          .batch_labelled = labelled,
                          .scratch = c->scratch};
}

static void case_free(loss_case *c) {
  free(c->logits);
  free(c->soft);
  free(c->targets);
  free(c->scratch);
  free(c->labels);
}

static float *zeros(const loss_batch *b) {
  float *g = calloc((size_t)(b->rows * b->classes), sizeof *g);
  assert_non_null(g);
  return g;
}

/* Calls `check` for every case of every row of the table; a row without a case fails. */
static void every_case(void (*check)(loss_case *c)) {
  for (const loss_kind *const *k = loss_kinds(); *k; k++) {
    int n = 0;
    for (; reference_find("loss/%s/%d/value", (*k)->name, n); n++) {
      loss_case c;
      case_load(&c, *k, n);
      check(&c);
      case_free(&c);
    }
    if (!n) fail_msg("loss '%s' has no reference values", (*k)->name);
  }
}

static void check_reference(loss_case *c) {
  float *g = zeros(&c->batch);
  assert_close(c->kind->evaluate(&c->options, &c->batch, g), c->value, 1e-6);
  double off = relative_difference(g, c->gradient, c->batch.rows * c->batch.classes);
  if (!(off <= 1e-6)) fail_msg("gradient of '%s' is off by %g", c->kind->name, off);
  free(g);
}

static void test_values_and_gradients_are_those_of_pytorch(void **state) {
  (void)state;
  every_case(check_reference);
}

/* The slope along the gradient, by a step of +-h on all logits. */
static void check_slope(loss_case *c) {
  const int64_t n = c->batch.rows * c->batch.classes;
  float *g = zeros(&c->batch), *unused = zeros(&c->batch), *moved = zeros(&c->batch);
  c->kind->evaluate(&c->options, &c->batch, g);
  double norm = 0, slope = 0, value[2];
  for (int64_t i = 0; i < n; i++) norm += (double)g[i] * g[i];
  norm = sqrt(norm);
  const double h = 1e-2;
  double moves[2] = {-h, h};
  c->batch.logits = moved;
  for (int side = 0; side < 2; side++) {
    for (int64_t i = 0; i < n; i++) moved[i] = c->logits[i] + (float)(moves[side] * g[i] / norm);
    value[side] = c->options.weight * c->kind->evaluate(&c->options, &c->batch, unused);
  }
  slope = (value[1] - value[0]) / (2 * h);
  assert_close(slope, norm, 1e-3);
  free(g), free(unused), free(moved);
}

static void test_gradient_is_the_slope(void **state) {
  (void)state;
  every_case(check_slope);
}

/* The rows of c cut at those places, the parts added up. */
static double evaluate_cut(loss_case *c, const int64_t *cuts, int n_cuts, float *gradient) {
  const int64_t n = c->batch.classes;
  double sum = 0;
  for (int s = 0; s < n_cuts; s++) {
    loss_batch shard = c->batch;
    shard.rows = cuts[s + 1] - cuts[s];
    shard.logits = c->logits + cuts[s] * n;
    if (shard.labels) shard.labels = c->labels + cuts[s];
    if (shard.targets) shard.targets = c->targets + cuts[s];
    if (shard.soft) shard.soft = c->soft + cuts[s] * n;
    sum += c->kind->evaluate(&c->options, &shard, gradient + cuts[s] * n);
  }
  return sum;
}

static void check_shards(loss_case *c) {
  if (c->kind->relates_rows) return;
  float *whole = zeros(&c->batch), *parts = zeros(&c->batch);
  double value = c->kind->evaluate(&c->options, &c->batch, whole);
  const int64_t cuts[] = {0, 1, 1, 3, c->batch.rows}; /* one shard has no rows */
  assert_close(evaluate_cut(c, cuts, 4, parts), value, 1e-14);
  assert_memory_equal(parts, whole, (size_t)(c->batch.rows * c->batch.classes) * sizeof *whole);
  free(whole), free(parts);
}

static void test_parts_of_shards_add_up(void **state) {
  (void)state;
  every_case(check_shards);
}

/* A loss that compares rows sees those of a shard; shards count by their rows. */
static void test_rows_are_compared_within_a_shard(void **state) {
  (void)state;
  for (const loss_kind *const *k = loss_kinds(); *k; k++)
    for (int i = 0; (*k)->relates_rows && reference_find("loss/%s/%d/value", (*k)->name, i); i++) {
      loss_case c;
      case_load(&c, *k, i);
      const int64_t cuts[] = {0, 2, 2, c.batch.rows};
      float *g = zeros(&c.batch);
      assert_close(evaluate_cut(&c, cuts, 3, g), reference_values("loss", (*k)->name, i, "two/value")[0],
                   1e-6);
      double off = relative_difference(g, reference_values("loss", (*k)->name, i, "two/gradient"),
                                       c.batch.rows * c.batch.classes);
      if (!(off <= 1e-6)) fail_msg("gradient of case %d is off by %g", i, off);
      free(g);
      case_free(&c);
    }
}

/* Classes in another order give the gradient in that order. */
static void check_permuted(loss_case *c) {
  const int64_t rows = c->batch.rows, n = c->batch.classes;
  float *g = zeros(&c->batch), *permuted = zeros(&c->batch);
  double value = c->kind->evaluate(&c->options, &c->batch, g), expected[rows * n];
  float *logits = calloc((size_t)(rows * n), sizeof *logits),
        *soft = calloc((size_t)(rows * n), sizeof *soft);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < n; j++) {
      int64_t to = r * n + (j + n / 2) % n;
      logits[to] = c->logits[r * n + j];
      soft[to] = c->soft[r * n + j];
      expected[to] = g[r * n + j];
    }
  for (int64_t r = 0; r < rows; r++)
    if (c->labels[r] >= 0) c->labels[r] = (int32_t)((c->labels[r] + n / 2) % n);
  c->batch.logits = logits;
  if (c->batch.soft) c->batch.soft = soft;
  assert_close(c->kind->evaluate(&c->options, &c->batch, permuted), value, 1e-7);
  assert_true(relative_difference(permuted, expected, rows * n) < 1e-6);
  free(g), free(permuted), free(logits), free(soft);
}

static void test_permuted_classes_give_the_permuted_gradient(void **state) {
  (void)state;
  every_case(check_permuted);
}

/* A row that begins with NaN was not answered by the teachers: the others are as if it were not there. */
static void check_unanswered(loss_case *c) {
  if (!c->kind->needs_soft) return;
  const int64_t rows = c->batch.rows, n = c->batch.classes;
  float *g = zeros(&c->batch), *others = zeros(&c->batch);
  const int64_t after[] = {1, rows};
  double value = evaluate_cut(c, after, 1, others);
  for (int64_t j = 0; j < n; j++) c->soft[j] = NAN;
  assert_true(c->kind->evaluate(&c->options, &c->batch, g) == value);
  assert_memory_equal(g, others, (size_t)(rows * n) * sizeof *g);
  free(g), free(others);
}

static void test_unanswered_rows_have_no_loss(void **state) {
  (void)state;
  every_case(check_unanswered);
}

static void check_accumulates(loss_case *c) {
  const int64_t n = c->batch.rows * c->batch.classes;
  float *once = zeros(&c->batch), *twice = zeros(&c->batch);
  double first = c->kind->evaluate(&c->options, &c->batch, once);
  c->kind->evaluate(&c->options, &c->batch, twice);
  assert_true(first == c->kind->evaluate(&c->options, &c->batch, twice));
  for (int64_t i = 0; i < n; i++)
    if (!(fabsf(twice[i] - 2 * once[i]) <= 1e-6f * fabsf(once[i]) + 1e-9f))
      fail_msg("%s: %g once, %g twice", c->kind->name, once[i], twice[i]);
  free(once), free(twice);
}

static void test_gradient_is_added(void **state) {
  (void)state;
  every_case(check_accumulates);
}

/* Copied to every alignment, a row gives the same bits. */
static void check_alignment(loss_case *c) {
  const int64_t n = c->batch.classes;
  float *room = calloc((size_t)n + 8, sizeof *room), *first = calloc((size_t)n, sizeof *first);
  loss_batch b = c->batch;
  b.rows = 1;
  if (b.labels) b.labels = c->labels + 1;
  if (b.targets) b.targets = c->targets + 1;
  double value = 0;
  for (int shift = 0; shift < 8; shift++) {
    memcpy(room + shift, c->logits, (size_t)n * sizeof *room);
    b.logits = room + shift;
    float *g = calloc((size_t)n, sizeof *g);
    double v = c->kind->evaluate(&c->options, &b, g);
    if (!shift) value = v, memcpy(first, g, (size_t)n * sizeof *g);
    assert_true(v == value);
    assert_memory_equal(g, first, (size_t)n * sizeof *g);
    free(g);
  }
  free(room), free(first);
}

static void test_bits_do_not_depend_on_alignment(void **state) {
  (void)state;
  every_case(check_alignment);
}

static void check_nan(loss_case *c) {
  float *g = zeros(&c->batch);
  const float bad[] = {NAN, INFINITY};
  for (int k = 0; k < 2; k++)
    for (int64_t j = 0; j < c->batch.classes && j < 70; j += 3) {
      int64_t at = 1 * c->batch.classes + j; /* a labelled row */
      float kept = c->logits[at];
      c->logits[at] = bad[k];
      assert_false(isfinite(c->kind->evaluate(&c->options, &c->batch, g)));
      c->logits[at] = kept;
    }
  free(g);
}

static void test_nan_and_infinity_reach_the_loss(void **state) {
  (void)state;
  every_case(check_nan);
}

static void check_equal(loss_case *c) {
  if (!c->kind->needs_soft) return;
  c->batch.soft = c->batch.logits;
  float *g = zeros(&c->batch);
  assert_true(c->kind->evaluate(&c->options, &c->batch, g) == 0);
  for (int64_t j = 0; j < c->batch.rows * c->batch.classes; j++) assert_true(g[j] == 0);
  free(g);
}

static void test_student_equal_to_teacher_has_no_loss(void **state) {
  (void)state;
  every_case(check_equal);
}

/* With T^2 the gradient tends to that of half the squared difference of the centred logits over C, whatever
 * T. */
static void test_kd_keeps_its_scale_at_high_temperature(void **state) {
  (void)state;
  const float z[] = {0.3f, -1.2f, 0.8f, 0.1f}, t[] = {1.0f, -0.4f, 0.2f, -0.8f}; /* both sum to 0 */
  float scratch[5 * 4];
  loss_batch b = {.rows = 1, .classes = 4, .logits = z, .soft = t, .batch_rows = 1, .scratch = scratch};
  for (double temperature = 1e3; temperature <= 1e5; temperature *= 10) {
    mpistill_loss o = {.weight = 1, .temperature = temperature};
    float g[4] = {0};
    double value = loss_find("kd")->evaluate(&o, &b, g), expected = 0;
    for (int j = 0; j < 4; j++) {
      expected += (z[j] - t[j]) * (z[j] - t[j]) / (2 * 4);
      /* p and q near 1/4 have 24 bits: their difference, times T, keeps 2^-26 T. */
      assert_true(fabs(g[j] - (z[j] - t[j]) / 4) < 1e-3 + 3e-8 * temperature);
    }
    assert_close(value, expected, 1e-2);
  }
}

static void test_rows_without_label_are_left_out(void **state) {
  (void)state;
  const loss_kind *ce = loss_find("cross-entropy");
  loss_case c;
  case_load(&c, ce, 1);
  float *g = zeros(&c.batch);
  ce->evaluate(&c.options, &c.batch, g);
  for (int64_t r = 0; r < c.batch.rows; r++)
    for (int64_t j = 0; j < c.batch.classes; j++)
      assert_true(c.labels[r] >= 0 || g[r * c.batch.classes + j] == 0);
  for (int64_t r = 0; r < c.batch.rows; r++) c.labels[r] = -1;
  c.batch.batch_labelled = 0;
  memset(g, 0, (size_t)(c.batch.rows * c.batch.classes) * sizeof *g);
  assert_true(ce->evaluate(&c.options, &c.batch, g) == 0);
  for (int64_t j = 0; j < c.batch.rows * c.batch.classes; j++) assert_true(g[j] == 0);
  free(g);
  case_free(&c);
}

/* sum_k w_k KL(p_k || q) and KL(sum_k w_k p_k || q) differ by a constant. */
/* A number whose target is NaN has none. */
static void test_numbers_without_target_are_left_out(void **state) {
  (void)state;
  for (const loss_kind *const *k = loss_kinds(); *k; k++) {
    if (!(*k)->of_values || !(*k)->needs_labels) continue;
    loss_case c;
    case_load(&c, *k, 0);
    float *g = zeros(&c.batch);
    (*k)->evaluate(&c.options, &c.batch, g);
    for (int64_t r = 0; r < c.batch.rows; r++) assert_true(isnan(c.targets[r]) ? g[r] == 0 : g[r] != 0);
    c.batch.batch_labelled = 0;
    assert_true((*k)->evaluate(&c.options, &c.batch, g) == 0);
    free(g);
    case_free(&c);
  }
}

static void test_kd_of_the_mixture_has_the_mean_gradient(void **state) {
  (void)state;
  const char *rule = "probability-mean";
  const double *o = reference_values("combine", rule, 0, "options");
  const int64_t rows = (int64_t)o[1], classes = (int64_t)o[2], n = rows * classes;
  float *z = reference_floats("combine", rule, 0, "logits"),
        *scratch = calloc(loss_scratch(loss_find("kd"), rows, classes), 4);
  float *mean = calloc((size_t)n, 4), *mixed = calloc((size_t)n, 4), *student = calloc((size_t)n, 4);
  for (int64_t i = 0; i < n; i++) student[i] = (float)sin((double)i);
  const float *teachers[] = {z, z + n, z + 2 * n};
  combine_batch mix = {.n_teachers = 3,
                       .rows = rows,
                       .classes = classes,
                       .logits = teachers,
                       .weights = reference_values("combine", rule, 0, "weights"),
                       .temperature = 4};
  float *ensemble = calloc((size_t)n, 4);
  combine_find(rule)->rows(&mix, ensemble);
  loss_batch b = {
      .rows = rows, .classes = classes, .logits = student, .batch_rows = rows, .scratch = scratch};
  for (int k = 0; k < 3; k++) {
    mpistill_loss part = {.weight = mix.weights[k], .temperature = 4};
    b.soft = teachers[k];
    loss_find("kd")->evaluate(&part, &b, mean);
  }
  b.soft = ensemble;
  loss_find("kd")->evaluate(&(mpistill_loss){.weight = 1, .temperature = 4}, &b, mixed);
  double expected[n];
  for (int64_t i = 0; i < n; i++) expected[i] = mean[i];
  assert_true(relative_difference(mixed, expected, n) < 1e-6);
  free(z), free(scratch), free(mean), free(mixed), free(student), free(ensemble);
}

static void test_temperature_moves_to_its_end(void **state) {
  (void)state;
  mpistill_loss o = {.temperature = 10};
  assert_true(loss_temperature(&o, 0) == 10 && loss_temperature(&o, 1) == 10 && !loss_is_scheduled(&o));
  o.temperature_end = 2;
  assert_true(loss_temperature(&o, 0) == 10 && loss_temperature(&o, 1) == 2 && loss_is_scheduled(&o));
  assert_close(loss_temperature(&o, 0.25), 8, 1e-15);
  o.temperature_schedule = "cosine";
  assert_true(loss_temperature(&o, 0) == 10 && fabs(loss_temperature(&o, 1) - 2) < 1e-14);
  assert_close(loss_temperature(&o, 0.25), 2 + 8 * (1 + sqrt(0.5)) / 2, 1e-15);
  assert_true(loss_temperature(&(mpistill_loss){0}, 0.5) == 1);
}

/* Half-way, a loss is that of the temperature half-way. */
static void check_progress(loss_case *c) {
  if (!loss_reads(c->kind, "temperature")) return;
  float *g = zeros(&c->batch), *moving = zeros(&c->batch);
  double value = c->kind->evaluate(&c->options, &c->batch, g), t = c->options.temperature;
  c->options.temperature = 1.5 * t;
  c->options.temperature_end = 0.5 * t;
  c->batch.progress = 0.5;
  assert_true(c->kind->evaluate(&c->options, &c->batch, moving) == value);
  assert_memory_equal(g, moving, (size_t)(c->batch.rows * c->batch.classes) * sizeof *g);
  free(g), free(moving);
}

static void test_losses_follow_the_temperature(void **state) {
  (void)state;
  every_case(check_progress);
}

/* A temperature that is given for the step takes the place of the options'; its slope is PyTorch's. */
static void test_the_slope_by_the_temperature_is_that_of_pytorch(void **state) {
  (void)state;
  int n = 0;
  for (const loss_kind *const *k = loss_kinds(); *k; k++)
    for (int i = 0; (*k)->learns_temperature && reference_find("loss/%s/%d/temperature_slope", (*k)->name, i);
         i++) {
      loss_case c;
      case_load(&c, *k, i);
      float *g = zeros(&c.batch);
      double slope = 0;
      c.batch.temperature = c.options.temperature;
      c.batch.temperature_slope = &slope;
      c.options.temperature = 77;
      assert_close((*k)->evaluate(&c.options, &c.batch, g), c.value, 1e-6);
      assert_close(slope, *reference_values("loss", (*k)->name, i, "temperature_slope"), 1e-5);
      free(g);
      case_free(&c);
      n++;
    }
  assert_true(n >= 5);
}

static void test_learned_temperatures(void **state) {
  (void)state;
  for (double t = 1.5; t < 21; t += 1.5)
    assert_close(loss_learned_temperature(loss_temperature_start(t)), t, 1e-6);
  const float x = loss_temperature_start(4);
  const double h = 1e-2,
               by_x = (loss_learned_temperature(x + (float)h) - loss_learned_temperature(x - (float)h)) /
                      (2 * h);
  assert_true(loss_temperature_gradient(x, 3, 0) == 0);
  assert_close(loss_temperature_gradient(x, 3, 1), -3 * by_x, 1e-4);
  assert_close(loss_temperature_gradient(x, 3, 0.5), -1.5 * by_x, 1e-4);
  mpistill_loss o = {.kind = "kd", .temperature = 4, .learn_temperature = true};
  assert_int_equal(loss_find("kd")->check(&o), STATUS_OK);
  assert_true(loss_is_scheduled(&o));
  assert_true(loss_temperature(&o, 1) == 4);
  o.temperature = 21;
  assert_int_equal(loss_find("kd")->check(&o), STATUS_BAD_INPUT);
  o.temperature = 4;
  o.temperature_end = 2;
  assert_int_equal(loss_find("kd")->check(&o), STATUS_BAD_INPUT);
}

static void test_bad_options_are_refused(void **state) {
  (void)state;
  for (const loss_kind *const *k = loss_kinds(); *k; k++) {
    if (!loss_reads(*k, "temperature")) continue;
    mpistill_loss o = {.kind = (char *)(uintptr_t)(*k)->name, .temperature = 4, .alpha = 1};
    assert_int_equal((*k)->check(&o), STATUS_OK);
    o.temperature_end = 1e-9;
    assert_int_equal((*k)->check(&o), STATUS_BAD_INPUT);
    o.temperature_end = o.temperature = 0;
    assert_int_equal((*k)->check(&o), STATUS_BAD_INPUT);
  }
  assert_int_equal(loss_find("dkd")->check(&(mpistill_loss){.temperature = 4}), STATUS_BAD_INPUT);
  assert_int_equal(loss_find("kd")->check(&(mpistill_loss){.kind = "kd", .temperature = NAN}),
                   STATUS_BAD_INPUT);
  assert_int_equal(loss_find("cross-entropy")->check(&(mpistill_loss){.label_smoothing = 0.1}), STATUS_OK);
  assert_int_equal(loss_find("cross-entropy")->check(&(mpistill_loss){.label_smoothing = 1}),
                   STATUS_BAD_INPUT);
  assert_int_equal(loss_find("cross-entropy")->check(&(mpistill_loss){.label_smoothing = -0.1}),
                   STATUS_BAD_INPUT);
  assert_int_equal(loss_find("smooth-l1")->check(&(mpistill_loss){.kind = "smooth-l1", .delta = 1}),
                   STATUS_OK);
  assert_int_equal(loss_find("smooth-l1")->check(&(mpistill_loss){.kind = "smooth-l1"}), STATUS_BAD_INPUT);
  assert_null(loss_find("hinge"));
}

static int setup(void **state) {
  (void)state;
  return reference_run("losses") || reference_run("combine") ? -1 : 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values_and_gradients_are_those_of_pytorch),
      cmocka_unit_test(test_gradient_is_the_slope),
      cmocka_unit_test(test_parts_of_shards_add_up),
      cmocka_unit_test(test_rows_are_compared_within_a_shard),
      cmocka_unit_test(test_permuted_classes_give_the_permuted_gradient),
      cmocka_unit_test(test_unanswered_rows_have_no_loss),
      cmocka_unit_test(test_gradient_is_added),
      cmocka_unit_test(test_bits_do_not_depend_on_alignment),
      cmocka_unit_test(test_nan_and_infinity_reach_the_loss),
      cmocka_unit_test(test_student_equal_to_teacher_has_no_loss),
      cmocka_unit_test(test_kd_keeps_its_scale_at_high_temperature),
      cmocka_unit_test(test_rows_without_label_are_left_out),
      cmocka_unit_test(test_numbers_without_target_are_left_out),
      cmocka_unit_test(test_kd_of_the_mixture_has_the_mean_gradient),
      cmocka_unit_test(test_temperature_moves_to_its_end),
      cmocka_unit_test(test_losses_follow_the_temperature),
      cmocka_unit_test(test_the_slope_by_the_temperature_is_that_of_pytorch),
      cmocka_unit_test(test_learned_temperatures),
      cmocka_unit_test(test_bad_options_are_refused),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
