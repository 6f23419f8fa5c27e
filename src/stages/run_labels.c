/* The labels that a run reads beside those its students learn from (run_trainings.c): to find and measure
 * ensembles, to measure students, to correct biases. All are looked at before the first stage. */
#include "stages/fit.h"
#include "stages/run_job.h"
#include "stages/truth.h"

#include <string.h>

static status count_of(comm *c, dataset *d, const split *sp, const classifier *k, int head, int64_t *known) {
  status st = STATUS_OK;
  truth t = {0};
  const form f = head_form(&k->heads[head]);
  const array *a = truth_array(sp, k->heads[head].labels);
  *known = 0;
  TRY(truth_open(&t, d, sp, a, &f, k->arrays, k->n_inputs));
  if (a) TRY(truth_count(&t, c));
  for (int64_t i = 0; a && i < sp->n; i++) *known += t.known[i];
done:
  truth_close(&t);
  return st;
}

/* known[tasks] labels of a split. The last student reads it: shapes may be others there. STATUS_BAD_INPUT for
 * labels that are not of what it gives. */
static status count_labels(run_job *j, const char *name, int64_t *known) {
  status st = STATUS_OK;
  subject s = {0};
  TRY(run_open_student(j, &j->students.steps[j->students.n - 1], name, &s));
  for (int i = 0; i < j->work.n; i++) TRY(count_of(j->c, j->d, s.sp, &s.k, i, &known[i]));
done:
  subject_close(&s);
  return st;
}

/* key: what of the recipe needs labels, the rule where it is one (else ""), and what to do without. */
static status refuse_unlabelled(const run_job *j, const char *split, int task, const char *key,
                                const char *rule, const char *remedy) {
  const char *name = j->work.items[task].name;
  return status_set(STATUS_BAD_INPUT,
                    "%s: %s:%s%s%s needs labels, and no row of split '%s' of %s has one%s%s%s; %s",
                    j->o->recipe, key, *rule ? " '" : "", rule, *rule ? "'" : "", split, j->r.dataset,
                    name ? " of task '" : "", name ? name : "", name ? "'" : "", remedy);
}

static status need_labels(run_job *j, const char *split, int task, const char *key, const char *rule,
                          const char *remedy) {
  int64_t known[TASKS_MAX];
  status st = count_labels(j, split, known);
  return st || known[task] ? st : refuse_unlabelled(j, split, task, key, rule, remedy);
}

/* What the rule reads of the rows that it combines, and what is found before. */
static status check_aggregate(run_job *j, int task) {
  status st = STATUS_OK;
  double weights[j->r.teachers.n + 1];
  const mpistill_aggregate_options a = run_combination(j, task, weights);
  const combine_kind *rule = combine_find(a.method ? a.method : "probability-mean");
  const char *method = "choose an aggregate.method that needs none",
             *fit = "give aggregate.fit_split, a split with labels, or do without";
  if (!rule || j->work.items[task].values) return st;
  if (rule->needs_labels) TRY(need_labels(j, j->r.teach.split, task, "aggregate.method", rule->name, method));
  if (fit_needed(&a, rule) && !a.fit.n)
    TRY(need_labels(j, j->r.fit_split ? j->r.fit_split : j->r.teach.split, task,
                    rule->learned ? "aggregate.method" : "aggregate.calibrate",
                    rule->learned ? rule->name : "", fit));
done:
  return st;
}

/* known[tasks] labels of the rows to learn from: all there is for the baseline, and for the first student
 * without teachers. */
static status check_hard(const run_job *j, const int64_t *known) {
  const char *split = j->r.distill.split;
  for (int i = 0; i < j->work.n; i++) {
    if (known[i]) continue;
    if (!j->r.teachers.n) return refuse_unlabelled(j, split, i, "distill", "", "give teachers");
    if (j->r.baseline)
      return refuse_unlabelled(j, split, i, "baseline", "", "leave it out (baseline: false)");
  }
  return STATUS_OK;
}

status run_check_labels(run_job *j) {
  status st = STATUS_OK;
  const mpistill_train_options *o = &j->r.distill;
  int64_t known[TASKS_MAX];
  TRY(count_labels(j, o->split, known));
  TRY(check_hard(j, known));
  if (j->has_test) TRY(count_labels(j, o->test_split, known));
  for (int i = 0; i < j->work.n; i++)
    if (run_n_teachers(j, i) && !run_combines_in_training(j)) TRY(check_aggregate(j, i));
  if (o->adaptive_split)
    TRY(need_labels(j, o->adaptive_split, 0, "distill.adaptive_split", "", "name a split with labels"));
  if (o->prior_split && !o->priors.n)
    TRY(need_labels(j, o->prior_split, 0, "distill.prior_split", "", "give distill.priors"));
done:
  return st;
}
