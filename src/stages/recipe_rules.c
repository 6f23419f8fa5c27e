/* The rules of recipes: those of the stages they name, and what goes together in a run. */
#include "learn/combine.h"
#include "learn/loss.h"
#include "stages/features.h"
#include "stages/objective.h"
#include "stages/rules.h"
#include "stages/rules_private.h"

#include <math.h>
#include <string.h>

/* Stages that only make sense with teachers. */
static void check_without_teachers(const mpistill_recipe *r, const options_seen *seen, problems *p) {
  const void *const fields[] = {&r->teach.split,           &r->teach.dtype,      &r->teach.top_k,
                                &r->teach.block,           &r->aggregate.method, &r->aggregate.weights,
                                &r->aggregate.temperature, &r->aggregate.dtype,  &r->fit_split,
                                &r->aggregate.calibrate};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    const char *where = options_given(seen, fields[i]);
    if (where) problems_add(p, "%s: there are no teachers", where);
  }
}

static void check_fit_split(const mpistill_recipe *r, const options_seen *seen, problems *p) {
  const combine_kind *rule = r->aggregate.method ? combine_find(r->aggregate.method) : NULL;
  const char *where = options_given(seen, &r->fit_split), *fit = options_given(seen, &r->aggregate.fit),
             *held_out = options_given(seen, &r->aggregate.held_out);
  if (!r->fit_split) return;
  if (fit || held_out) problems_add(p, "%s: %s says it already", where, fit ? fit : held_out);
  if (!r->aggregate.calibrate && !(rule && rule->learned))
    problems_add(p, "%s: nothing is found from labelled rows; see calibrate", where);
  if (r->distill.test_split && !strcmp(r->fit_split, r->distill.test_split))
    problems_add(p, "%s: is distill.test_split; what is found there cannot be tested there", where);
  for (size_t i = 0; i < r->teachers.n; i++)
    if (!r->teachers.items[i].model)
      problems_add(p, "%s: teacher '%s' has no model to label them; give aggregate.fit files", where,
                   r->teachers.items[i].name);
}

/* An ensemble of a rule that is not linear is made for one temperature. */
static void check_ensemble(const mpistill_losses *list, const combine_kind *rule, double made_for,
                           problems *p) {
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_loss *l = &list->items[i];
    const loss_kind *k = l->kind ? loss_find(l->kind) : NULL;
    if (!k || !k->needs_soft || k->of_values) continue;
    double its = loss_temperature(l, 0);
    if (made_for == 0) made_for = its;
    if (loss_is_scheduled(l))
      problems_add(
          p, "loss '%s': its temperature moves, but method '%s' makes the ensemble for one; see logit-mean",
          l->kind, rule->name);
    else if (fabs(its - made_for) > 1e-9 * made_for)
      problems_add(
          p, "loss '%s': its temperature is %g, but method '%s' makes the ensemble for %g; see logit-mean",
          l->kind, its, rule->name, made_for);
  }
}

/* Those of a task, of all where task is NULL; a teacher without one has the first. */
static int64_t count_teachers(const mpistill_recipe *r, const char *task) {
  int64_t n = 0;
  for (size_t i = 0; i < r->teachers.n; i++)
    n += !task || !r->teachers.items[i].task || !strcmp(r->teachers.items[i].task, task);
  return n;
}

static void check_temperatures(const mpistill_recipe *r, const options_seen *seen, problems *p) {
  const combine_kind *rule = combine_find(r->aggregate.method ? r->aggregate.method : "probability-mean");
  const double made_for = options_given(seen, &r->aggregate.temperature) ? r->aggregate.temperature : 0;
  if (!r->teachers.n || !rule || rule->in_training || r->live) return;
  if (!combine_any_temperature(rule, count_teachers(r, NULL)))
    check_ensemble(&r->distill.losses, rule, made_for, p);
  for (size_t i = 0; i < r->distill.tasks.n; i++)
    if (!combine_any_temperature(rule, count_teachers(r, r->distill.tasks.items[i].name)))
      check_ensemble(&r->distill.tasks.items[i].losses, rule, made_for, p);
}

/* Which teacher a loss between inner tensors reads must be told. */
static void check_feature_teachers(const mpistill_recipe *r, problems *p) {
  for (size_t i = 0; i < r->distill.features.n; i++) {
    const mpistill_feature *o = &r->distill.features.items[i];
    bool known = !o->from && r->teachers.n == 1;
    for (size_t t = 0; t < r->teachers.n; t++)
      if (r->teachers.items[t].is_private && (!o->from || !strcmp(r->teachers.items[t].name, o->from)))
        problems_add(p, "feature '%s': teacher '%s' is private, its inner tensors cannot leave it",
                     o->kind ? o->kind : "", r->teachers.items[t].name);
    for (size_t t = 0; o->from && t < r->teachers.n; t++)
      known = known || (r->teachers.items[t].name && !strcmp(r->teachers.items[t].name, o->from));
    if (r->teachers.n && !known)
      problems_add(p, "feature '%s': from names one of the teachers%s%s", o->kind ? o->kind : "",
                   o->from ? ", not " : "", o->from ? o->from : "");
  }
}

/* Whether there are soft labels to learn from: teachers', or those of students on the way. */
static bool has_soft(const mpistill_recipe *r) {
  return r->teachers.n || r->assistants.n || r->generations > 1;
}

/* Whoever teaches sees what the student sees. */
static void check_views(const mpistill_recipe *r, problems *p) {
  const bool augments = r->distill.augment.n > 0;
  if (r->teach.views && !augments)
    problems_add(p, "teach.views: nothing differs between them; see distill.augment");
  if (r->teach.views && r->distill.fixed_labels)
    problems_add(p, "distill.fixed_labels: teach.views says that labels are of the views");
  if (r->live && r->teach.views) problems_add(p, "teach.views: live teachers label what the student sees");
  if (augments && has_soft(r) && !r->teach.views && !r->distill.fixed_labels && !r->live)
    problems_add(p,
                 "distill.augment: %s must see what the student sees; give teach.views (drawings that "
                 "they label, as many as epochs or fewer), teach: live, or distill.fixed_labels: true",
                 r->teachers.n ? "the teachers" : "students that teach the next one");
}

/* What live teachers cannot do: they are asked in training alone, and nothing is known of them before. */
static void check_live_recipe(const mpistill_recipe *r, const options_seen *seen, problems *p) {
  const combine_kind *rule = r->aggregate.method ? combine_find(r->aggregate.method) : NULL;
  const char *ranks = options_given(seen, &r->distill.teaching_ranks);
  if (ranks && !r->live) problems_add(p, "%s: is for live teachers (teach: live)", ranks);
  if (!r->live) return;
  if (!has_soft(r)) problems_add(p, "teach: live: there are no teachers");
  if (rule && (!combine_on_the_fly(rule) || rule->unites))
    problems_add(p, "teach: live: method '%s' needs stored labels", rule->name);
  if (r->aggregate.calibrate || r->fit_split) problems_add(p, "teach: live: nothing can be fitted before");
  if (r->teach.top_k) problems_add(p, "teach.top_k: is for stored labels, and teachers are live");
  if (r->distill.fixed_labels)
    problems_add(p, "distill.fixed_labels: live teachers label what the student sees");
  for (size_t i = 0; i < r->teachers.n; i++) {
    const mpistill_teacher *t = &r->teachers.items[i];
    if (!t->model) problems_add(p, "teacher '%s': has no model that could be asked live", t->name);
    if (t->is_private) problems_add(p, "teacher '%s' is private: it cannot be asked live", t->name);
  }
}

static void check_splits(const mpistill_recipe *r, problems *p) {
  if (r->teachers.n && r->teach.split && r->distill.split && strcmp(r->teach.split, r->distill.split))
    problems_add(
        p,
        "teach.split is '%s' and distill.split is '%s': the student learns from the rows that were labelled",
        r->teach.split, r->distill.split);
}

static void check_adaptive(const mpistill_recipe *r, problems *p) {
  if (r->distill.adaptive_split && r->live)
    problems_add(p, "distill.adaptive_split: is for stored soft labels, not for teach: live");
  for (size_t i = 0; r->distill.adaptive_split && i < r->teachers.n; i++)
    if (!r->teachers.items[i].model)
      problems_add(p, "distill.adaptive_split: teacher '%s' has no model to label those rows",
                   r->teachers.items[i].name);
}

static bool is_teacher(const mpistill_recipe *r, const char *name) {
  for (size_t i = 0; i < r->teachers.n; i++)
    if (r->teachers.items[i].name && !strcmp(r->teachers.items[i].name, name)) return true;
  return false;
}

/* Whether a teacher has the name that an assistant's labels of a task get. */
static bool teaches_task(const mpistill_recipe *r, const char *assistant, const char *task) {
  const size_t n = strlen(assistant);
  for (size_t i = 0; i < r->teachers.n; i++) {
    const char *its = r->teachers.items[i].name;
    if (its && task && !strncmp(its, assistant, n) && its[n] == '.' && !strcmp(its + n + 1, task))
      return true;
  }
  return false;
}

/* Names that the run gives files itself. */
static bool is_taken(const char *name) {
  return !strcmp(name, "student") || !strcmp(name, "baseline") || !strncmp(name, "generation-", 11);
}

/* Students on the way; their labels lie beside the teachers'. */
static void check_chain(const mpistill_recipe *r, const options_seen *seen, problems *p) {
  if (r->assistants.n && !objective_teaches(&r->distill) && features_teach(&r->distill.features))
    problems_add(p, "assistants: learn from losses alone, without features, and all weights of those are 0");
  for (size_t i = 0; i < r->assistants.n; i++) {
    const mpistill_assistant *a = &r->assistants.items[i];
    const char *name = a->name ? a->name : "";
    bool twice = is_teacher(r, name) || is_taken(name);
    for (size_t j = 0; j < i; j++)
      twice = twice || (r->assistants.items[j].name && !strcmp(r->assistants.items[j].name, name));
    for (size_t t = 0; r->distill.tasks.n > 1 && t < r->distill.tasks.n; t++)
      twice = twice || teaches_task(r, name, r->distill.tasks.items[t].name);
    rules_file_name("assistant", name, p);
    if (twice) problems_add(p, "assistant '%s': another model of the run has this name", name);
    if (!a->model == !a->create.kind) problems_add(p, "assistant '%s': give either model or create", name);
    rules_create(&a->create, seen, p);
  }
  for (size_t i = 0; r->generations > 1 && i < r->teachers.n; i++)
    if (r->teachers.items[i].name && !strncmp(r->teachers.items[i].name, "generation-", 11))
      problems_add(p, "teacher '%s': that name is for the generations of the student",
                   r->teachers.items[i].name);
}

status recipe_rules(mpistill_recipe *r, const options_seen *seen) {
  problems p = {0};
  rules_teachers(&r->teachers, &p);
  if (!r->teachers.n) check_without_teachers(r, seen, &p);
  if (r->teachers.n) rules_aggregate(&r->aggregate, seen, r->teachers.n, "teachers", true, &p);
  if (!r->student.model == !r->student.create.kind) problems_add(&p, "student: give either model or create");
  rules_create(&r->student.create, seen, &p);
  check_splits(r, &p);
  check_views(r, &p);
  check_live_recipe(r, seen, &p);
  check_fit_split(r, seen, &p);
  check_chain(r, seen, &p);
  check_adaptive(r, &p);
  rules_train(&r->distill, seen, has_soft(r), &p);
  check_temperatures(r, seen, &p);
  rules_task_teachers(&r->teachers, &r->distill.tasks, "distill.tasks", &p);
  check_feature_teachers(r, &p);
  return problems_end(&p, NULL);
}
