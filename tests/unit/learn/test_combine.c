/* Rules that combine teachers, against PyTorch in double. */
#include "reference.h"

#include "learn/combine.h"

typedef struct combine_case {
  combine_batch b;
  const float *teachers[8];
  float *logits, *student, *features, *parameters, *gradient;
  combine_learning learning;
  unsigned char *known;
  const unsigned char *lists[8];
  bool others[8];
  double *log_weights;
  int32_t *labels;
  int64_t *ids;
  mpistill_aggregate_options options;
} combine_case;

/* Which classes each teacher knows, where that is not all. */
static void case_union(combine_case *c, const combine_kind *kind, int number) {
  const reference_array *known = reference_find("combine/%s/%d/known", kind->name, number);
  if (!known) return;
  const double *others = reference_values("combine", kind->name, number, "others");
  c->known = calloc((size_t)known->n, 1);
  for (int64_t j = 0; j < known->n; j++) c->known[j] = known->values[j] != 0;
  for (int k = 0; k < c->b.n_teachers; k++) {
    c->lists[k] = c->known + k * c->b.classes;
    c->others[k] = others[k] != 0;
  }
  c->b.known = c->lists;
  c->b.others = c->others;
}

/* What a rule learns with the student. */
static void case_learning(combine_case *c, const combine_kind *kind, int number) {
  const reference_array *parameters = reference_find("combine/%s/%d/parameters", kind->name, number);
  assert_int_equal(parameters != NULL, kind->n_parameters != NULL);
  if (!parameters) return;
  const reference_array *features = reference_find("combine/%s/%d/features", kind->name, number);
  c->features = reference_floats("combine", kind->name, number, "features");
  c->parameters = reference_floats("combine", kind->name, number, "parameters");
  c->gradient = calloc((size_t)parameters->n, sizeof *c->gradient);
  c->learning = (combine_learning){.features = c->features,
                                   .width = features->n / c->b.rows,
                                   .parameters = c->parameters,
                                   .gradient = c->gradient,
                                   .scale = 0.7};
  assert_int_equal(kind->n_parameters(c->b.n_teachers, c->learning.width), parameters->n);
  c->b.learning = &c->learning;
}

static void case_load(combine_case *c, const combine_kind *kind, int i) {
  const double *o = reference_values("combine", kind->name, i, "options");
  const double *labels = reference_values("combine", kind->name, i, "labels");
  const double *weights = reference_values("combine", kind->name, i, "weights");
  *c = (combine_case){
      .b = {.n_teachers = (int)o[0], .rows = (int64_t)o[1], .classes = (int64_t)o[2], .temperature = o[3]},
      .options = {.noise = o[4], .sigma1 = o[5], .sigma2 = o[6], .threshold = o[7], .delta = 1e-5}};
  const size_t rows = (size_t)c->b.rows, n = (size_t)(c->b.n_teachers * c->b.classes);
  c->logits = reference_floats("combine", kind->name, i, "logits");
  c->labels = calloc(rows, sizeof *c->labels);
  c->ids = calloc(rows, sizeof *c->ids);
  c->log_weights = calloc(n, sizeof *c->log_weights);
  for (size_t r = 0; r < rows; r++) {
    c->labels[r] = (int32_t)labels[r];
    c->ids[r] = (int64_t)(100 + r);
  }
  for (size_t j = 0; kind->learned && j < n; j++) c->log_weights[j] = log(weights[j]);
  for (int k = 0; k < c->b.n_teachers; k++) c->teachers[k] = c->logits + k * c->b.rows * c->b.classes;
  c->b.logits = c->teachers;
  c->b.weights = kind->learned ? NULL : weights;
  c->b.log_class_weights = kind->learned ? c->log_weights : NULL;
  case_union(c, kind, i);
  case_learning(c, kind, i);
  if (reference_find("combine/%s/%d/student", kind->name, i))
    c->b.student = c->student = reference_floats("combine", kind->name, i, "student");
  c->b.labels = kind->needs_labels ? c->labels : NULL;
  c->b.ids = c->ids;
  c->b.seed = 5;
  c->b.options = &c->options;
}

static void case_free(combine_case *c) {
  free(c->features), free(c->parameters), free(c->gradient);
  free(c->logits), free(c->student), free(c->known), free(c->labels), free(c->ids), free(c->log_weights);
}

static float *combined(const combine_kind *kind, const combine_batch *b) {
  float *out = calloc((size_t)(b->rows * b->classes), sizeof *out);
  assert_non_null(out);
  if (kind->rows(b, out)) fail_msg("%s: %s", kind->name, status_message());
  return out;
}

static void every_case(void (*check)(const combine_kind *kind, combine_case *c, const double *expected)) {
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    int i = 0;
    for (; reference_find("combine/%s/%d/result", (*k)->name, i); i++) {
      combine_case c;
      case_load(&c, *k, i);
      check(*k, &c, reference_values("combine", (*k)->name, i, "result"));
      case_free(&c);
    }
    if (!i) fail_msg("rule '%s' has no reference values", (*k)->name);
    assert_ptr_equal(combine_find((*k)->name), *k);
  }
  assert_null(combine_find("median"));
}

static void check_reference(const combine_kind *kind, combine_case *c, const double *expected) {
  float *out = combined(kind, &c->b);
  int64_t unanswered = 0;
  for (int64_t j = 0; j < c->b.rows * c->b.classes; j++) {
    unanswered += isnan(out[j]);
    if (!(fabs(out[j] - expected[j]) <= 1e-6 * fabs(expected[j]) + 1e-7 ||
          (isnan(out[j]) && isnan(expected[j]))))
      fail_msg("%s: value %lld is %.9g, expected %.9g", kind->name, (long long)j, out[j], expected[j]);
  }
  assert_true(kind->partial || !unanswered);
  free(out);
}

static void test_learned_weights_follow_their_gradient(void **state) {
  (void)state;
  for (int i = 0; reference_find("combine/amtml/%d/gradient", i); i++) {
    combine_case c;
    const combine_kind *kind = combine_find("amtml");
    const double *expected = reference_values("combine", kind->name, i, "gradient");
    case_load(&c, kind, i);
    const int64_t n = kind->n_parameters(c.b.n_teachers, c.learning.width);
    free(combined(kind, &c.b));
    for (int64_t j = 0; j < n; j++)
      if (fabs(c.gradient[j] - expected[j]) > 1e-5 * fabs(expected[j]) + 1e-6)
        fail_msg("parameter %lld has %.9g, expected %.9g", (long long)j, c.gradient[j], expected[j]);
    case_free(&c);
  }
}

static void test_every_rule_is_its_formula(void **state) {
  (void)state;
  every_case(check_reference);
}

/* Where teachers share one class, or none, each is followed exactly whatever the weights. */
static void test_a_union_without_contradiction_has_no_use_for_weights(void **state) {
  (void)state;
  const double weights[][2] = {{0.5, 0.5}, {1 - 1e-9, 1e-9}, {0.01, 0.99}};
  const unsigned char a[] = {1, 1, 1, 0, 0}, b[] = {0, 0, 1, 1, 1}, *known[] = {a, b};
  const float of_a[] = {50, 40, -70, -INFINITY, -INFINITY}, of_b[] = {-INFINITY, -INFINITY, -60, 57, 60};
  const float *both[] = {of_a, of_b};
  for (int i = 0; i < 3; i++) {
    float out[5];
    assert_int_equal(combine_find("union")->rows(&(combine_batch){.n_teachers = 2,
                                                                  .rows = 1,
                                                                  .classes = 5,
                                                                  .logits = both,
                                                                  .known = known,
                                                                  .weights = weights[i],
                                                                  .temperature = 1},
                                                 out),
                     STATUS_OK);
    assert_true(fabs(out[4] - out[3] - 3) < 1e-5 && fabs(out[0] - out[1] - 10) < 1e-5);
    assert_true(fabs(out[0] - out[4] - (50 + 70 - 60 - 60)) < 1e-5);
  }
}

/* No number is made up for what is none. */
static void test_a_union_of_what_is_no_number_names_the_row(void **state) {
  (void)state;
  const float good[] = {1, 2, 3, 4}, bad[] = {1, 2, 3, NAN}, *both[] = {good, bad};
  const int64_t ids[] = {70, 71};
  float out[4];
  assert_int_equal(combine_find("union")->rows(&(combine_batch){.n_teachers = 2,
                                                                .rows = 2,
                                                                .classes = 2,
                                                                .logits = both,
                                                                .ids = ids,
                                                                .weights = (double[]){0.5, 0.5},
                                                                .temperature = 1},
                                               out),
                   STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "row 71: logits of teacher 2"));
}

/* Classes in another order give the combination in that order. */
static void check_permuted(const combine_kind *kind, combine_case *c, const double *expected) {
  const int64_t n = c->b.classes, all = c->b.n_teachers * c->b.rows;
  float *logits = calloc((size_t)(all * n), sizeof *logits);
  double *log_weights = calloc((size_t)(c->b.n_teachers * n), sizeof *log_weights);
  for (int64_t i = 0; i < all * n; i++) logits[i / n * n + (i % n + n / 2) % n] = c->logits[i];
  for (int64_t i = 0; i < c->b.n_teachers * n; i++)
    log_weights[i / n * n + (i % n + n / 2) % n] = c->log_weights[i];
  for (int k = 0; k < c->b.n_teachers; k++) c->teachers[k] = logits + k * c->b.rows * n;
  for (int64_t r = 0; r < c->b.rows; r++)
    if (c->labels[r] >= 0) c->labels[r] = (int32_t)((c->labels[r] + n / 2) % n);
  if (kind->learned) c->b.log_class_weights = log_weights;
  unsigned char *known = calloc((size_t)(c->b.n_teachers * n), 1);
  for (int64_t i = 0; c->known && i < c->b.n_teachers * n; i++)
    known[i / n * n + (i % n + n / 2) % n] = c->known[i];
  for (int k = 0; c->known && k < c->b.n_teachers; k++) c->lists[k] = known + k * n;
  float *student = calloc((size_t)(c->b.rows * n), sizeof *student);
  for (int64_t i = 0; c->student && i < c->b.rows * n; i++)
    student[i / n * n + (i % n + n / 2) % n] = c->student[i];
  c->b.student = student;
  float *out = combined(kind, &c->b);
  for (int64_t i = 0; i < c->b.rows * n; i++) {
    double x = out[i / n * n + (i % n + n / 2) % n];
    assert_true(fabs(x - expected[i]) <= 1e-6 * fabs(expected[i]) + 1e-7 || (isnan(x) && isnan(expected[i])));
  }
  free(out), free(logits), free(log_weights), free(student), free(known);
}

static void test_permuted_classes_give_the_permuted_combination(void **state) {
  (void)state;
  every_case(check_permuted);
}

/* Rows are combined alike wherever they stand: another block, another rank. */
static void check_alone(const combine_kind *kind, combine_case *c, const double *expected) {
  (void)expected;
  float *whole = combined(kind, &c->b);
  combine_batch one = c->b;
  const float *teachers[8];
  const int64_t row = c->b.rows - 1;
  one.rows = 1;
  one.logits = teachers;
  for (int k = 0; k < one.n_teachers; k++) teachers[k] = c->teachers[k] + row * one.classes;
  if (one.labels) one.labels += row;
  if (one.student) one.student += row * one.classes;
  if (one.learning) c->learning.features += row * c->learning.width;
  one.ids += row;
  float *alone = combined(kind, &one);
  assert_memory_equal(alone, whole + row * one.classes, (size_t)one.classes * sizeof *alone);
  free(whole), free(alone);
}

static void test_rows_do_not_depend_on_their_block(void **state) {
  (void)state;
  every_case(check_alone);
}

/* softmax(result / T) is the weighted mean of softmax(z_k / T). */
static void test_probability_mean_is_the_mean(void **state) {
  (void)state;
  combine_case c;
  case_load(&c, combine_find("probability-mean"), 1);
  const combine_batch b = c.b;
  const int64_t n = b.classes;
  float *out = combined(combine_find("probability-mean"), &b);
  for (int64_t i = 0; i < b.rows; i++) {
    double sums[8] = {0}, mixed = 0;
    for (int64_t j = 0; j < n; j++) {
      mixed += exp(out[i * n + j] / b.temperature);
      for (int k = 0; k < b.n_teachers; k++) sums[k] += exp(c.teachers[k][i * n + j] / b.temperature);
    }
    for (int64_t j = 0; j < n; j++) {
      double mean = 0;
      for (int k = 0; k < b.n_teachers; k++)
        mean += b.weights[k] * exp(c.teachers[k][i * n + j] / b.temperature) / sums[k];
      assert_true(fabs(exp(out[i * n + j] / b.temperature) / mixed - mean) < 1e-7);
    }
  }
  free(out);
  case_free(&c);
}

static void test_a_teacher_of_weight_zero_has_no_say(void **state) {
  (void)state;
  const float a[] = {1, 2, 3}, other[] = {900, -900, 5};
  const float *both[] = {a, other};
  const double one[] = {1}, weights[] = {1, 0};
  const int32_t label = 1;
  const int64_t id = 7;
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    if (!combine_reads(*k, "weights")) continue;
    float alone[3], with[3];
    combine_batch b = {.labels = &label,
                       .ids = &id,
                       .n_teachers = 1,
                       .rows = 1,
                       .classes = 3,
                       .logits = both,
                       .weights = one,
                       .temperature = 2};
    (*k)->rows(&b, alone);
    b.n_teachers = 2;
    b.weights = weights;
    (*k)->rows(&b, with);
    for (int j = 0; j < 3; j++) assert_true(alone[j] == with[j] && isfinite(with[j]));
  }
}

/* ---- rules that draw ---- */

enum { MANY = 20000 };

typedef struct draws { /* MANY rows of one class pair */
  float a[2 * MANY], b[2 * MANY], c[2 * MANY], out[2 * MANY];
  int64_t ids[MANY];
  mpistill_aggregate_options options;
  combine_batch batch;
  const float *teachers[3];
} draws;

/* Two teachers for class 0, the third for class 1. */
static draws *draws_new(const double *weights) {
  draws *d = calloc(1, sizeof *d);
  assert_non_null(d);
  for (int64_t i = 0; i < MANY; i++) {
    d->ids[i] = 3 * i;
    d->a[2 * i] = 1;
    d->b[2 * i] = 2;
    d->c[2 * i + 1] = 3;
  }
  d->teachers[0] = d->a;
  d->teachers[1] = d->b;
  d->teachers[2] = d->c;
  d->batch = (combine_batch){.n_teachers = 3,
                             .rows = MANY,
                             .classes = 2,
                             .logits = d->teachers,
                             .weights = weights,
                             .temperature = 1,
                             .ids = d->ids,
                             .seed = 11,
                             .options = &d->options};
  return d;
}

/* A share that was drawn, within four standard errors. */
static void assert_share(int64_t n, int64_t of, double expected) {
  double share = (double)n / (double)of, error = sqrt(expected * (1 - expected) / (double)of);
  if (fabs(share - expected) > 4 * error) fail_msg("share %g, expected %g", share, expected);
}

static void test_random_takes_teachers_by_their_weights(void **state) {
  (void)state;
  const double weights[] = {0.5, 0.2, 0.3};
  draws *d = draws_new(weights);
  int64_t taken[3] = {0};
  combine_find("random")->rows(&d->batch, d->out);
  for (int64_t i = 0; i < MANY; i++) {
    int k = d->out[2 * i + 1] == 3 ? 2 : d->out[2 * i] == 2;
    taken[k]++;
    assert_memory_equal(d->out + 2 * i, d->teachers[k] + 2 * i, 2 * sizeof(float));
  }
  for (int k = 0; k < 3; k++) assert_share(taken[k], MANY, weights[k]);
  float *before = calloc(2 * MANY, sizeof *before);
  memcpy(before, d->out, sizeof d->out);
  d->batch.seed++;
  combine_find("random")->rows(&d->batch, d->out);
  assert_memory_not_equal(before, d->out, sizeof d->out);
  free(before), free(d);
}

static int64_t answers(const draws *d, int class) {
  int64_t n = 0;
  for (int64_t i = 0; i < MANY; i++) n += d->out[2 * i + class] == 0; /* log 1 */
  return n;
}

static double normal_above(double x) {
  return erfc(x / sqrt(2)) / 2;
}

/* The lead of one vote is lost when the difference of two draws of the noise exceeds it. */
static void test_noise_of_the_votes_has_its_size(void **state) {
  (void)state;
  draws *d = draws_new(NULL);
  d->options = (mpistill_aggregate_options){.noise = 2, .delta = 1e-5};
  combine_find("pate-lnmax")->rows(&d->batch, d->out);
  assert_share(answers(d, 1), MANY,
               exp(-0.5) * (2 + 0.5) / 4); /* of Laplace: e^-x (2 + x)/4 at x = 1/noise */
  d->options = (mpistill_aggregate_options){.sigma1 = 1.5, .sigma2 = 2, .threshold = 1.25, .delta = 1e-5};
  combine_find("pate-gnmax")->rows(&d->batch, d->out);
  const double answered = normal_above((1.25 - 2) / 1.5);
  assert_share(answers(d, 0) + answers(d, 1), MANY, answered);
  assert_share(answers(d, 1), answers(d, 0) + answers(d, 1), normal_above(1 / (2 * sqrt(2))));
  for (int64_t i = 0; i < MANY; i++) assert_true(isnan(d->out[2 * i]) == isnan(d->out[2 * i + 1]));
  free(d);
}

static void test_epsilon_is_the_least_over_all_orders(void **state) {
  (void)state;
  const reference_array *a;
  int n = 0;
  for (int i = 0; (a = reference_find("epsilon/pate-lnmax/%d", i)); i++, n++) {
    mpistill_aggregate_options o = {.noise = a->values[0], .delta = a->values[2]};
    assert_close(combine_find("pate-lnmax")->epsilon(&o, a->values[1], a->values[1]), a->values[3], 1e-5);
  }
  for (int i = 0; (a = reference_find("epsilon/pate-gnmax/%d", i)); i++, n++) {
    mpistill_aggregate_options o = {.sigma1 = a->values[0], .sigma2 = a->values[1], .delta = a->values[4]};
    assert_close(combine_find("pate-gnmax")->epsilon(&o, a->values[2], a->values[3]), a->values[5], 1e-5);
  }
  assert_int_equal(n, 7);
}

static void test_noise_must_be_given(void **state) {
  (void)state;
  mpistill_aggregate_options o = {.sigma1 = 1, .sigma2 = 1};
  assert_int_equal(combine_find("pate-lnmax")->check(&o), STATUS_BAD_INPUT);
  assert_int_equal(combine_find("pate-gnmax")->check(&o), STATUS_BAD_INPUT);
  o.noise = o.threshold = 1;
  assert_int_equal(combine_find("pate-lnmax")->check(&o), STATUS_BAD_INPUT); /* of a seed that all know */
  assert_int_equal(combine_find("pate-gnmax")->check(&o), STATUS_BAD_INPUT);
  o.seed = 1;
  assert_int_equal(combine_find("pate-lnmax")->check(&o), STATUS_OK);
  assert_int_equal(combine_find("pate-gnmax")->check(&o), STATUS_OK);
}

/* A teacher that did not answer a row (NaN) does not vote; where none did, nor does the combination. */
static void test_unanswered_rows(void **state) {
  (void)state;
  const float a[] = {1, 2, 3, NAN, NAN, NAN}, b[] = {NAN, NAN, NAN, NAN, NAN, NAN};
  const float *both[] = {a, b}, student[] = {0, 1, 0, 0, 1, 0};
  const double weights[] = {0.5, 0.5};
  const int32_t labels[] = {1, 1};
  const int64_t ids[] = {0, 1};
  const float features[] = {1, 2}, parameters[] = {1, -1, 3};
  float gradient[3] = {0};
  const combine_learning learning = {
      .features = features, .width = 1, .parameters = parameters, .gradient = gradient, .scale = 1};
  for (const combine_kind *const *k = combine_kinds(); *k; k++) {
    if ((*k)->epsilon) continue;
    float out[6];
    (*k)->rows(&(combine_batch){.n_teachers = 2,
                                .rows = 2,
                                .classes = 3,
                                .logits = both,
                                .student = student,
                                .weights = weights,
                                .temperature = 2,
                                .labels = labels,
                                .ids = ids,
                                .learning = &learning},
               out);
    for (int j = 0; j < 3; j++) assert_true(isfinite(gradient[j]));
    for (int j = 3; j < 6; j++) assert_true(isnan(out[j]));
    if (!strcmp((*k)->name, "vote")) assert_true(out[2] == 0 && out[0] < -30);
  }
}

static void test_random_batch_takes_one_teacher_for_all_rows(void **state) {
  (void)state;
  enum { STEPS = 4000 };
  const float a[] = {1, 1}, b[] = {2, 2};
  const float *both[] = {a, b};
  int second = 0;
  for (uint64_t step = 0; step < STEPS; step++) {
    float out[2];
    combine_find("random-batch")
        ->rows(&(combine_batch){.n_teachers = 2,
                                .rows = 2,
                                .classes = 1,
                                .logits = both,
                                .weights = (double[]){0.75, 0.25},
                                .seed = 9,
                                .step = step},
               out);
    assert_true(out[0] == out[1]);
    second += out[0] == 2;
  }
  assert_true(fabs(second / (double)STEPS - 0.25) < 0.03);
}

/* Two gradients that point the same way: all weight on the shorter, as far as it may go. */
static void test_the_shortest_sum_keeps_within_its_bound(void **state) {
  (void)state;
  const double a[] = {1, 2, 2, 4}; /* 1 and 2 on a line */
  double w[2];
  combine_shortest(2, a, 1, w);
  assert_true(fabs(w[0] - 1) < 1e-9 && fabs(w[1]) < 1e-9);
  combine_shortest(2, a, 0.6, w);
  assert_true(fabs(w[0] - 0.6) < 1e-9 && fabs(w[1] - 0.4) < 1e-9);
  const double opposite[] = {1, -3, -3, 9};
  combine_shortest(2, opposite, 1, w);
  assert_true(fabs(w[0] - 0.75) < 1e-9);
}

static int setup(void **state) {
  (void)state;
  return reference_run("combine");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_rule_is_its_formula),
      cmocka_unit_test(test_learned_weights_follow_their_gradient),
      cmocka_unit_test(test_a_union_without_contradiction_has_no_use_for_weights),
      cmocka_unit_test(test_a_union_of_what_is_no_number_names_the_row),
      cmocka_unit_test(test_permuted_classes_give_the_permuted_combination),
      cmocka_unit_test(test_rows_do_not_depend_on_their_block),
      cmocka_unit_test(test_probability_mean_is_the_mean),
      cmocka_unit_test(test_a_teacher_of_weight_zero_has_no_say),
      cmocka_unit_test(test_random_takes_teachers_by_their_weights),
      cmocka_unit_test(test_noise_of_the_votes_has_its_size),
      cmocka_unit_test(test_epsilon_is_the_least_over_all_orders),
      cmocka_unit_test(test_noise_must_be_given),
      cmocka_unit_test(test_unanswered_rows),
      cmocka_unit_test(test_random_batch_takes_one_teacher_for_all_rows),
      cmocka_unit_test(test_the_shortest_sum_keeps_within_its_bound),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
