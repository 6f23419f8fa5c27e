#include "stages/adaptive.h"

#include "base/mem.h"
#include "stages/aggregate.h"

#include <math.h>
#include <string.h>

static const double LEAST = 0.1;

status adaptive_check(const mpistill_train_options *o, const tasks *work) {
  const sources *soft = &work->items[0].soft;
  if (work->n != 1 || work->items[0].name || work->items[0].values)
    return status_set(STATUS_BAD_INPUT, "adaptive_split: is for a student of one task, of classes");
  if (o->losses.n)
    return status_set(
        STATUS_BAD_INPUT,
        "adaptive_split: weighs kd against cross-entropy, by kd_weight and temperature; leave out losses");
  if (!soft->n) return status_set(STATUS_BAD_INPUT, "adaptive_split: needs soft labels, and there are none");
  if (soft->n > 1 && !combine_reads(soft->rule, "weights"))
    return status_set(STATUS_BAD_INPUT, "adaptive_split: leaves teachers out, but method '%s' has no weights",
                      soft->rule->name);
  return sources_check_any_temperature(soft, "kd");
}

/* t_k, from the teachers' files of that split. */
static status measure_teachers(adaptive *a, const mpistill_train_options *o) {
  status st = STATUS_OK;
  score *members = NULL;
  mpistill_aggregate_options m = {.inputs = o->adaptive_files,
                                  .dataset = o->dataset,
                                  .method = (char *)(uintptr_t) "probability-mean",
                                  .temperature = 1,
                                  .trust_rows = o->trust_rows,
                                  .dtype = (char *)(uintptr_t) "float32",
                                  .out.quiet = o->out.quiet};
  TRY(comm_agree(a->c, mem_new(&members, (size_t)a->n + 1, sizeof *members)));
  TRY(aggregate_measure(a->c, &m, NULL, members));
  for (int i = 0; i < a->n; i++) {
    a->nll[i] = metric_nll(&members[i].sums);
    if (!(members[i].sums.rows > 0))
      THROW(STATUS_BAD_INPUT, "%s: no row of split '%s' has a label to compare student and teachers on",
            dataset_path(a->d), a->sp->name);
  }
done:
  mem_free(members);
  return st;
}

static status check_files(const adaptive *a, const mpistill_train_options *o) {
  status st = STATUS_OK;
  softlabels *s = NULL;
  if (o->adaptive_files.n != (size_t)a->n)
    THROW(STATUS_BAD_INPUT,
          "adaptive_split: %zu files of the teachers' soft labels of split '%s' given (--adaptive-labels), "
          "needed is one for each of the %d soft-label files",
          o->adaptive_files.n, o->adaptive_split, a->n);
  for (int i = 0; i < a->n; i++) {
    TRY(softlabels_open(&s, a->c, o->adaptive_files.items[i]));
    if (strcmp(softlabels_get(s)->split, a->sp->name))
      THROW(STATUS_BAD_INPUT, "%s: is of split '%s', not of '%s'", softlabels_path(s),
            softlabels_get(s)->split, a->sp->name);
    TRY(softlabels_check(s));
    softlabels_close(&s);
  }
done:
  softlabels_close(&s);
  return st;
}

static status make_local(adaptive *a, const sources *soft) {
  status st = STATUS_OK;
  TRY(mem_new(&a->nll, (size_t)a->n, sizeof *a->nll));
  TRY(mem_new(&a->given, (size_t)a->n, sizeof *a->given));
  memcpy(a->given, soft->weights, (size_t)a->n * sizeof *a->given);
done:
  return st;
}

status adaptive_open(adaptive *a, comm *c, const mpistill_train_options *o, dataset *d, const classifier *k,
                     const tasks *work) {
  status st = STATUS_OK;
  *a = (adaptive){.c = c, .d = d, .k = *k, .threads = (int)o->threads};
  if (!o->adaptive_split) goto done;
  TRY(adaptive_check(o, work));
  TRY(dataset_split(d, o->adaptive_split, &a->sp));
  a->on = true;
  a->n = work->items[0].soft.n;
  a->weight = o->kd_weight;
  a->highest = o->temperature;
  a->k.n_inner = 0;
  TRY(comm_agree(c, make_local(a, &work->items[0].soft)));
  TRY(check_files(a, o));
  TRY(measure_teachers(a, o));
done:
  return st;
}

void adaptive_close(adaptive *a) {
  mem_free(a->nll);
  mem_free(a->given);
  *a = (adaptive){0};
}

status adaptive_measure(adaptive *a, const float *block) {
  score result;
  status st = evaluate_rows(a->c, &a->k, block, a->d, a->sp, a->threads, false, &result);
  if (!st) a->student = metric_nll(&result.sums);
  return st;
}

void adaptive_apply(adaptive *a, objective *goal, sources *soft) {
  int best = -1;
  double sum = 0;
  for (int i = 0; i < a->n; i++)
    if (a->given[i] > 0 && (best < 0 || a->nll[i] < a->nll[best])) best = i;
  const double r = fmax(1 - a->nll[best] / a->student, LEAST);
  bool has_hard = false;
  for (int i = 0; i < goal->n; i++) has_hard = has_hard || !goal->kinds[i]->needs_soft;
  a->kd = has_hard ? a->weight * r : a->weight;
  a->temperature = 1 + (a->highest - 1) * r;
  for (int i = 0; i < goal->n; i++) {
    const bool kd = goal->kinds[i]->needs_soft;
    goal->losses[i].weight = kd ? a->kd : 1 - a->kd;
    if (kd) goal->losses[i].temperature = a->temperature;
  }
  for (int i = 0; i < a->n; i++) {
    soft->weights[i] = i == best || a->nll[i] < a->student ? a->given[i] : 0;
    sum += soft->weights[i];
  }
  for (int i = 0; i < a->n; i++) soft->weights[i] = sum > 0 ? soft->weights[i] / sum : i == best;
}
