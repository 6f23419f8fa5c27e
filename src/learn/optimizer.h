/* Optimizers over a flat slice of the parameter block, and learning-rate schedules: one struct a kind. */
#ifndef MPISTILL_LEARN_OPTIMIZER_H
#define MPISTILL_LEARN_OPTIMIZER_H

#include "mpistill/mpistill.h"

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct optimizer_kind {
  const char *name;    /* "sgd" */
  const char *formula; /* for --help */
  int n_states;        /* floats of state per parameter */
  /* One pass over n parameters. state[n_states][n], zero before the first step; step counts from 1; gradient
   * is multiplied by gradient_scale first (clipping). The result for an element depends on that element
   * alone. */
  void (*update)(const mpistill_optimizer *o, double learning_rate, int64_t step, float gradient_scale,
                 size_t n, float *parameters, const float *gradient, float *const *state);
} optimizer_kind;

const optimizer_kind *const *optimizer_kinds(void);
const optimizer_kind *optimizer_find(const char *name);

typedef struct schedule_kind {
  const char *name; /* "cosine" */
  const char *formula;
  /* The factor on the base rate at `step` (from 0) of `steps`, `warmup` of which rise linearly from 1/warmup
   * to 1 (one-cycle: see its formula). */
  double (*factor)(const mpistill_schedule *s, int64_t step, int64_t warmup, int64_t steps,
                   int64_t steps_per_epoch);
} schedule_kind;

const schedule_kind *const *schedule_kinds(void);
const schedule_kind *schedule_find(const char *name);

#endif
