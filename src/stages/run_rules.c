/* What a recipe may ask for only of some models and datasets: refused before the first stage, not by the one
 * that comes to it. */
#include "learn/combine.h"
#include "stages/run_job.h"

#include <string.h>

/* Whether teachers teach a task of classes, or one of numbers. */
static bool any_taught(const run_job *j, bool values) {
  bool any = false;
  for (int i = 0; i < j->work.n; i++)
    any = any || (j->work.items[i].values == values && run_n_teachers(j, i));
  return any;
}

/* Beside classes numbers have their mean; a rule of classes for numbers alone would do nothing. */
static status check_method(const run_job *j) {
  const mpistill_aggregate_options *a = &j->r.aggregate;
  if (any_taught(j, false) || !any_taught(j, true)) return STATUS_OK;
  if (a->method && strcmp(a->method, "logit-mean"))
    return status_set(STATUS_BAD_INPUT,
                      "%s: aggregate.method: '%s' is for classes, and the teachers give numbers, which are "
                      "combined by their weighted mean (logit-mean)",
                      j->o->recipe, a->method);
  if (a->calibrate)
    return status_set(STATUS_BAD_INPUT,
                      "%s: aggregate.calibrate: is for logits, and the teachers give numbers", j->o->recipe);
  return STATUS_OK;
}

status run_check_rules(const run_job *j) {
  return check_method(j);
}
