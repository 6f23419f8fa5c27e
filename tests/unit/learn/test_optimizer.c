/* Optimizers over twenty steps and schedules at every step, against PyTorch's. */
#include "reference.h"

#include "learn/optimizer.h"

/* Twenty steps; the parameters are cut in two parts, which must not matter. */
static void check_optimizer(const optimizer_kind *kind, int i) {
  const double *o = reference_values("optimizer", kind->name, i, "options");
  const double *rates = reference_values("optimizer", kind->name, i, "rates");
  const size_t n = (size_t)o[0], steps = (size_t)o[1], cut = n / 3;
  mpistill_optimizer options = {.momentum = o[3],
                                .nesterov = o[4] != 0,
                                .weight_decay = o[5],
                                .beta1 = o[6],
                                .beta2 = o[7],
                                .epsilon = o[8]};
  float *p = reference_floats("optimizer", kind->name, i, "start");
  float *gradients = reference_floats("optimizer", kind->name, i, "gradients");
  float *room = calloc(n * 2, sizeof *room);
  float *first[2] = {room, room + n}, *second[2] = {room + cut, room + n + cut};
  assert_true(kind->n_states <= 2);
  for (size_t s = 0; s < steps; s++) {
    const float *g = gradients + s * n;
    kind->update(&options, rates[s], (int64_t)s + 1, (float)o[2], cut, p, g, first);
    kind->update(&options, rates[s], (int64_t)s + 1, (float)o[2], n - cut, p + cut, g + cut, second);
  }
  double off = relative_difference(p, reference_values("optimizer", kind->name, i, "result"), (int64_t)n);
  if (!(off <= 1e-6)) fail_msg("optimizer '%s', case %d: off by %g", kind->name, i, off);
  free(p), free(gradients), free(room);
}

static void test_every_optimizer_is_pytorchs(void **state) {
  (void)state;
  for (const optimizer_kind *const *k = optimizer_kinds(); *k; k++) {
    int n = 0;
    for (; reference_find("optimizer/%s/%d/result", (*k)->name, n); n++) check_optimizer(*k, n);
    if (!n) fail_msg("optimizer '%s' has no reference values", (*k)->name);
    assert_ptr_equal(optimizer_find((*k)->name), *k);
  }
  assert_null(optimizer_find("lamb"));
}

static void check_schedule(const schedule_kind *kind, int i) {
  const double *o = reference_values("schedule", kind->name, i, "options");
  const double *factors = reference_values("schedule", kind->name, i, "factors");
  mpistill_schedule options = {.step_epochs = o[3], .step_factor = o[4], .final_factor = o[5]};
  for (int64_t s = 0; s < (int64_t)o[1]; s++) {
    double f = kind->factor(&options, s, (int64_t)o[0], (int64_t)o[1], (int64_t)o[2]);
    if (!(fabs(f - factors[s]) <= 1e-9))
      fail_msg("schedule '%s', case %d, step %d: %.12g, expected %.12g", kind->name, i, (int)s, f,
               factors[s]);
  }
}

static void test_every_schedule_is_pytorchs(void **state) {
  (void)state;
  for (const schedule_kind *const *k = schedule_kinds(); *k; k++) {
    int n = 0;
    for (; reference_find("schedule/%s/%d/factors", (*k)->name, n); n++) check_schedule(*k, n);
    if (!n) fail_msg("schedule '%s' has no reference values", (*k)->name);
    assert_ptr_equal(schedule_find((*k)->name), *k);
  }
  assert_null(schedule_find("triangle"));
}

/* Short runs: every factor is a number from 0 to 1, also when the warm-up is as long as the run or longer. */
static void test_short_runs(void **state) {
  (void)state;
  mpistill_schedule o = {.step_epochs = 1, .step_factor = 0.5, .final_factor = 0};
  for (const schedule_kind *const *k = schedule_kinds(); *k; k++)
    for (int64_t steps = 1; steps <= 6; steps++)
      for (int64_t warmup = 0; warmup <= steps + 2; warmup++)
        for (int64_t s = 0; s < steps; s++) {
          double f = (*k)->factor(&o, s, warmup, steps, 2);
          if (!(f >= 0 && f <= 1))
            fail_msg("'%s': step %d of %d, warm-up %d: %g", (*k)->name, (int)s, (int)steps, (int)warmup, f);
        }
}

static int setup(void **state) {
  (void)state;
  return reference_run("optimizers") || reference_run("schedules") ? -1 : 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_optimizer_is_pytorchs),
      cmocka_unit_test(test_every_schedule_is_pytorchs),
      cmocka_unit_test(test_short_runs),
  };
  return cmocka_run_group_tests(tests, setup, reference_free);
}
