/* A temperature that is learned against the student (CTKD): T = LEAST + RANGE / (1 + e^-x), x a parameter
 * whose gradient is turned round, more so as training goes on. */
#include "learn/loss.h"

#include <math.h>

static const double LEAST = 1, RANGE = 20;

double loss_learned_temperature(float x) {
  return LEAST + RANGE / (1 + exp(-(double)x));
}

float loss_temperature_start(double temperature) {
  const double share = (temperature - LEAST) / RANGE;
  return (float)log(share / (1 - share));
}

float loss_temperature_gradient(float x, double slope, double progress) {
  const double share = 1 / (1 + exp(-(double)x)), turned = (1 - cos(3.14159265358979323846 * progress)) / 2;
  return (float)(-turned * slope * RANGE * share * (1 - share));
}

status loss_check_learned(const mpistill_loss *o) {
  if (!o->learn_temperature) return STATUS_OK;
  if (o->temperature_end != 0)
    return status_set(STATUS_BAD_INPUT, "loss '%s': a temperature that is learned has no temperature_end",
                      o->kind);
  if (o->temperature > LEAST && o->temperature < LEAST + RANGE) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "loss '%s': temperature is %g; one that is learned begins above %g and below %g", o->kind,
                    o->temperature, LEAST, LEAST + RANGE);
}
