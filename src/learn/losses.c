#include "learn/losses.h"

#include <math.h>
#include <string.h>

static const loss_kind *const kinds[] = {&loss_kd,   &loss_reverse_kl, &loss_jsd,      &loss_dkd,
                                         &loss_dist, &loss_logit_mse,  &loss_cosine,   &loss_cross_entropy,
                                         &loss_mse,  &loss_smooth_l1,  &loss_soft_mse, &loss_soft_smooth_l1,
                                         NULL};

const loss_kind *const *loss_kinds(void) {
  return kinds;
}

const loss_kind *loss_find(const char *name) {
  for (const loss_kind *const *k = kinds; *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}

bool loss_reads(const loss_kind *k, const char *key) {
  for (const char *const *o = k->options; o && *o; o++)
    if (!strcmp(*o, key)) return true;
  return false;
}

size_t loss_scratch(const loss_kind *k, int64_t rows, int64_t classes) {
  int64_t vectors = k->scratch_rows + (k->relates_rows ? 2 * 3 * rows : 0);
  return (size_t)(vectors * classes);
}

/* ---- temperature ---- */

bool loss_is_scheduled(const mpistill_loss *options) {
  return options->learn_temperature ||
         (options->temperature_end > 0 && options->temperature_end != options->temperature);
}

double loss_temperature(const mpistill_loss *options, double progress) {
  double from = options->temperature, to = options->temperature_end;
  if (!(from > 0)) return 1;
  if (!loss_is_scheduled(options) || options->learn_temperature) return from;
  if (options->temperature_schedule && !strcmp(options->temperature_schedule, "cosine"))
    return to + (from - to) * 0.5 * (1 + cos(3.14159265358979323846 * progress));
  return from + (to - from) * progress;
}

static bool possible(double temperature) {
  return temperature >= 1e-3 && temperature <= 1e6;
}

status loss_check_temperature(const mpistill_loss *options) {
  double t = options->temperature, end = options->temperature_end;
  if (!possible(t))
    return status_set(STATUS_BAD_INPUT,
                      "loss '%s': temperature is %g, expected a number from 0.001 to 1000000", options->kind,
                      t);
  if (end != 0 && !possible(end))
    return status_set(STATUS_BAD_INPUT,
                      "loss '%s': temperature_end is %g, expected a number from 0.001 to 1000000",
                      options->kind, end);
  return loss_check_learned(options);
}
