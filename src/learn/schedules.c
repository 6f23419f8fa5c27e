#include "learn/optimizer.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const double PI = 3.14159265358979323846;
static const double ONE_CYCLE_SHARE = 0.3;      /* of the steps rise when no warm-up is asked for */
static const double ONE_CYCLE_START = 1 / 25.0; /* of the highest rate */

static double rise(int64_t step, int64_t warmup) {
  return step < warmup ? (double)(step + 1) / (double)warmup : 1;
}

/* Half a cosine from `from` at 0 to `to` at 1. */
static double anneal(double from, double to, double at) {
  return to + (from - to) * 0.5 * (1 + cos(PI * at));
}

static double constant_factor(const mpistill_schedule *s, int64_t step, int64_t warmup, int64_t steps,
                              int64_t steps_per_epoch) {
  (void)s, (void)steps, (void)steps_per_epoch;
  return rise(step, warmup);
}

static double step_factor(const mpistill_schedule *s, int64_t step, int64_t warmup, int64_t steps,
                          int64_t steps_per_epoch) {
  (void)steps;
  int64_t every = llround(s->step_epochs * (double)steps_per_epoch);
  double drops = every > 0 ? (double)(step / every) : 0;
  return rise(step, warmup) * pow(s->step_factor, drops);
}

static double cosine_factor(const mpistill_schedule *s, int64_t step, int64_t warmup, int64_t steps,
                            int64_t steps_per_epoch) {
  (void)steps_per_epoch;
  if (step < warmup) return rise(step, warmup);
  if (step >= steps) return s->final_factor;
  return anneal(1, s->final_factor, (double)(step - warmup) / (double)(steps - warmup));
}

static double one_cycle_factor(const mpistill_schedule *s, int64_t step, int64_t warmup, int64_t steps,
                               int64_t steps_per_epoch) {
  (void)steps_per_epoch;
  if (warmup <= 0) warmup = llround(ONE_CYCLE_SHARE * (double)steps);
  if (step + 1 < warmup) return anneal(ONE_CYCLE_START, 1, (double)step / (double)(warmup - 1));
  if (step + 1 == warmup) return 1; /* the peak */
  if (step + 1 >= steps) return s->final_factor;
  int64_t peak = warmup > 0 ? warmup - 1 : 0;
  return anneal(1, s->final_factor, (double)(step - peak) / (double)(steps - 1 - peak));
}

static const schedule_kind constant = {
    .name = "constant",
    .formula = "1; during the w steps of warm-up (i+1)/w",
    .factor = constant_factor,
};

static const schedule_kind step_drops = {
    .name = "step",
    .formula = "f^floor(i/k), k the steps of step-epochs, f the step factor; during the w steps of warm-up "
               "times (i+1)/w",
    .factor = step_factor,
};

static const schedule_kind cosine = {
    .name = "cosine",
    .formula = "e + (1-e) * (1 + cos(pi * (i-w)/(n-w))) / 2, n the steps, e the final factor; during the w "
               "steps of warm-up (i+1)/w "
               "(Loshchilov, Hutter 2017)",
    .factor = cosine_factor,
};

static const schedule_kind one_cycle = {
    .name = "one-cycle",
    .formula = "half a cosine from 1/25 at step 0 to 1 at step w-1, then half a cosine to the final factor "
               "at step n-1; w the warm-up, "
               "30 % of the n steps if none is given (Smith, Topin 2019)",
    .factor = one_cycle_factor,
};

static const schedule_kind *const kinds[] = {&constant, &step_drops, &cosine, &one_cycle, NULL};

const schedule_kind *const *schedule_kinds(void) {
  return kinds;
}

const schedule_kind *schedule_find(const char *name) {
  for (const schedule_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}
