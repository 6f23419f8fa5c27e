#include "stages/rules.h"

#include "base/problems.h"
#include "learn/augment.h"
#include "learn/combine.h"
#include "learn/feature.h"
#include "learn/loss.h"
#include "models/models.h"
#include "stages/features.h"
#include "stages/objective.h"
#include "stages/options_rows.h"
#include "stages/rules_private.h"

#include <string.h>

/* ---- options that belong to a kind ---- */

typedef struct belonging {
  const char *kind;
  size_t at; /* in mpistill_train_options */
} belonging;

#define AT(field) offsetof(mpistill_train_options, field)
static const belonging optimizer_options[] = {
    {"sgd", AT(optimizer.momentum)}, {"sgd", AT(optimizer.nesterov)},  {"adamw", AT(optimizer.beta1)},
    {"adamw", AT(optimizer.beta2)},  {"adamw", AT(optimizer.epsilon)}, {0}};
static const belonging schedule_options[] = {{"step", AT(schedule.step_epochs)},
                                             {"step", AT(schedule.step_factor)},
                                             {"cosine", AT(schedule.final_factor)},
                                             {"one-cycle", AT(schedule.final_factor)},
                                             {0}};
#undef AT

static bool belongs(const belonging *table, const char *kind, size_t at) {
  for (; table->kind; table++)
    if (table->at == at && !strcmp(table->kind, kind)) return true;
  return false;
}

static void check_belonging(const belonging *table, const char *what, const char *kind,
                            const mpistill_train_options *o, const options_seen *seen, problems *p) {
  for (const belonging *b = table; kind && b->kind; b++) {
    const char *where = options_given(seen, (const char *)o + b->at);
    if (!where || belongs(table, kind, b->at)) continue;
    bool told = false; /* an option of several kinds has several rows */
    for (const belonging *before = table; before < b; before++) told = told || before->at == b->at;
    if (!told) problems_add(p, "%s: not an option of %s '%s' (of '%s')", where, what, kind, b->kind);
  }
}

/* ---- train, distill ---- */

/* An option that was given, or that a program has set to what is not its default. 0 counts as not given. */
static bool is_set(const void *item, const option *row, const options_seen *seen) {
  const char *field = (const char *)item + row->at;
  if (options_given(seen, field)) return true;
  double initial = 0;
  if (row->initial) text_to_real(row->initial, &initial);
  if (row->type == OPTION_FLAG) return *(const bool *)field;
  if (row->type == OPTION_CHOICE || row->type == OPTION_STRING) return *(char *const *)field != NULL;
  if (row->type == OPTION_INT) return *(const int64_t *)field != 0;
  return *(const double *)field != 0 && *(const double *)field != initial;
}

static void check_loss_options(const mpistill_loss *l, const loss_kind *k, const options_seen *seen,
                               problems *p) {
  for (const option *row = loss_fields; row->key; row++) {
    if (!strcmp(row->key, "kind") || !strcmp(row->key, "weight") || !strcmp(row->key, "task")) continue;
    if (loss_reads(k, row->key) || !is_set(l, row, seen)) continue;
    loss_refuse_option(l->kind, row->key);
    problems_add(p, "%s", status_message());
  }
  if (l->temperature_schedule && l->temperature_end == 0)
    problems_add(p, "loss '%s': temperature_schedule needs temperature_end", l->kind);
}

static void check_loss(mpistill_loss *l, double temperature, bool has_soft, const options_seen *seen,
                       problems *p) {
  const loss_kind *k = l->kind ? loss_find(l->kind) : NULL;
  if (!k) {
    problems_add(p, "losses: there is no loss '%s'", l->kind ? l->kind : "");
    return;
  }
  check_loss_options(l, k, seen, p);
  if (loss_reads(k, "temperature") && l->temperature == 0) l->temperature = temperature;
  if (k->needs_soft && !has_soft) problems_add(p, "loss '%s' needs soft labels, and there are none", l->kind);
  if (k->check && (has_soft || !k->needs_soft) && k->check(l)) problems_add(p, "%s", status_message());
}

/* Options that the kind does not read; tensors that come in pairs. */
static void check_feature(const mpistill_feature *o, const options_seen *seen, problems *p) {
  const feature_kind *k = o->kind ? feature_find(o->kind) : NULL;
  if (!k) {
    problems_add(p, "features: there is no loss '%s'", o->kind ? o->kind : "");
    return;
  }
  for (const option *row = feature_fields; row->key; row++) {
    if (feature_reads(k, row->key) || !is_set(o, row, seen)) continue;
    feature_refuse_option(o->kind, row->key);
    problems_add(p, "%s", status_message());
  }
  if (features_check_layers(o)) problems_add(p, "%s", status_message());
  if (!o->student || !o->teacher)
    problems_add(p, "feature '%s': a tensor of the student and one of the teacher are needed", o->kind);
  if (!o->student_to != !o->teacher_to)
    problems_add(p, "feature '%s': student_to and teacher_to go together", o->kind);
}

static void check_features(const mpistill_train_options *o, const options_seen *seen, bool has_soft,
                           problems *p) {
  for (size_t i = 0; i < o->features.n; i++) check_feature(&o->features.items[i], seen, p);
  if (o->features.n && !has_soft) problems_add(p, "features: need teachers, and there are none");
  if (o->feature_files.n && !o->features.n)
    problems_add(p, "--features-from: no loss between inner tensors is asked for; see --feature");
}

static bool is_task(const mpistill_tasks *tasks, const char *name) {
  for (size_t i = 0; i < tasks->n; i++)
    if (tasks->items[i].name && !strcmp(tasks->items[i].name, name)) return true;
  return false;
}

static void check_tasks(const mpistill_train_options *o, problems *p) {
  for (size_t i = 0; i < o->tasks.n; i++) {
    const mpistill_task *t = &o->tasks.items[i];
    const char *name = t->name ? t->name : "";
    if (!*name || *name == '.' || strpbrk(name, "/=:"))
      problems_add(p,
                   "task '%s': the name stands in names of files, so it cannot be empty, start with '.' or "
                   "contain '/', '=' or ':'",
                   name);
    if (is_task(&(mpistill_tasks){.n = i, .items = o->tasks.items}, name))
      problems_add(p, "task '%s': two tasks have this name", name);
    for (size_t k = 0; k < t->losses.n; k++)
      if (t->losses.items[k].task) problems_add(p, "task '%s': its own losses name no task", name);
  }
  for (size_t i = 0; i < o->losses.n; i++)
    if (o->losses.items[i].task && !is_task(&o->tasks, o->losses.items[i].task))
      problems_add(p, "loss '%s': there is no task '%s'",
                   o->losses.items[i].kind ? o->losses.items[i].kind : "", o->losses.items[i].task);
}

/* Which task a teacher is of must be told where there are several. */
void rules_task_teachers(const mpistill_teachers *teachers, const mpistill_tasks *tasks, const char *where,
                         problems *p) {
  for (size_t i = 0; i < teachers->n; i++) {
    const mpistill_teacher *t = &teachers->items[i];
    if (t->task && !is_task(tasks, t->task))
      problems_add(p, "teacher '%s': there is no task '%s'; see %s", t->name ? t->name : "", t->task, where);
    if (!t->task && tasks->n > 1)
      problems_add(p, "teacher '%s': task names one of %s", t->name ? t->name : "", where);
  }
}

/* *uses_soft becomes true where one of them reads soft labels. */
static void check_list(const mpistill_losses *list, double temperature, bool has_soft,
                       const options_seen *seen, bool *uses_soft, problems *p) {
  for (size_t i = 0; i < list->n; i++) {
    mpistill_loss *l = &list->items[i];
    const loss_kind *k = l->kind ? loss_find(l->kind) : NULL;
    check_loss(l, temperature, has_soft, seen, p);
    *uses_soft = *uses_soft || (k && k->needs_soft);
  }
}

static void check_losses(mpistill_train_options *o, const options_seen *seen, bool has_soft, problems *p) {
  const char *kd_weight = options_given(seen, &o->kd_weight),
             *temperature = options_given(seen, &o->temperature);
  bool usual = o->losses.n == 0; /* some task has the losses that need not be listed */
  if (o->tasks.n) {
    usual = false;
    for (size_t i = 0; i < o->tasks.n; i++) usual = usual || (!o->tasks.items[i].losses.n && !o->losses.n);
  }
  bool uses_soft = usual || o->features.n;
  check_list(&o->losses, o->temperature, has_soft, seen, &uses_soft, p);
  for (size_t i = 0; i < o->tasks.n; i++)
    check_list(&o->tasks.items[i].losses, o->temperature, has_soft, seen, &uses_soft, p);
  check_tasks(o, p);
  if (!objective_teaches(o) && !features_teach(&o->features))
    problems_add(p, "losses: all weights are 0, nothing would be learnt");
  if (has_soft && !uses_soft) problems_add(p, "losses: none of them reads the soft labels");
  if (!usual && kd_weight)
    problems_add(p, "%s: the losses listed have weights of their own; leave one out", kd_weight);
  if (!has_soft && kd_weight) problems_add(p, "%s: needs soft labels, and there are none", kd_weight);
  if (!has_soft && temperature) problems_add(p, "%s: needs soft labels, and there are none", temperature);
  if (!has_soft && o->confidence > 0) problems_add(p, "confidence: needs soft labels, and there are none");
}

static void check_priors(const mpistill_train_options *o, problems *p) {
  double sum = 0;
  for (size_t i = 0; i < o->priors.n; i++) sum += o->priors.items[i];
  if (o->priors.n && sum <= 0) problems_add(p, "priors: all are 0");
  if (o->priors.n && !o->prior_split) problems_add(p, "priors: prior_split names the rows they are of");
  if (o->prior_split && o->test_split && !strcmp(o->prior_split, o->test_split))
    problems_add(p, "prior_split: is the test split; what is found there cannot be tested there");
}

static void check_adaptive_split(const mpistill_train_options *o, bool has_soft, problems *p) {
  const char *split = o->adaptive_split;
  if (o->adaptive_files.n && !split)
    problems_add(p, "adaptive-labels: adaptive-split names the rows they are of");
  if (!split) return;
  if (o->live_teachers.n)
    problems_add(p, "adaptive_split: is for stored soft labels, not for live teachers");
  else if (!has_soft)
    problems_add(p, "adaptive_split: needs soft labels, and there are none");
  if (o->test_split && !strcmp(split, o->test_split))
    problems_add(p, "adaptive_split: is the test split; what is chosen there cannot be tested there");
  if (o->split && !strcmp(split, o->split))
    problems_add(p, "adaptive_split: is the split to learn from; name labelled rows that the student does "
                    "not learn from");
}

/* Options that the kind does not read, and lists that cannot be. */
static void check_augments(const mpistill_augments *list, const options_seen *seen, problems *p) {
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_augment *a = &list->items[i];
    const augment_kind *k = augment_find(a->kind);
    for (const option *row = augment_fields; k && row->key; row++) {
      if (augment_reads(k, row->key) || !options_given(seen, (const char *)a + row->at)) continue;
      augment_refuse_option(a->kind, row->key);
      problems_add(p, "%s", status_message());
    }
  }
  if (augment_check(list)) problems_add(p, "%s", status_message());
}

static void check_method_tensor(const mpistill_train_options *o, const combine_kind *rule, problems *p) {
  if (o->method_tensor && (!rule || !combine_reads(rule, "tensor")))
    problems_add(p, "method-tensor: is for method 'amtml'");
  if (!o->method_tensor && rule && o->soft_labels.n + o->live_teachers.n > 1 && combine_reads(rule, "tensor"))
    problems_add(p, "method '%s': method-tensor names the student's tensor that weights are learned from",
                 rule->name);
}

static void check_names(const mpistill_teachers *t, problems *p) {
  for (size_t i = 0; i < t->n; i++)
    for (size_t j = 0; j < i; j++) {
      if (!t->items[i].name || !t->items[j].name || strcmp(t->items[i].name, t->items[j].name)) continue;
      problems_add(p, "teacher '%s': two teachers have this name", t->items[i].name);
      break;
    }
}

static void check_live(const mpistill_train_options *o, problems *p) {
  if (o->feature_teachers.n && !o->live_teachers.n)
    problems_add(p, "feature_teachers: are for live teachers, and there are none");
  if (!o->live_teachers.n) return;
  check_names(&o->live_teachers, p);
  if (o->soft_labels.n) problems_add(p, "live teachers: soft labels are given, too; leave one out");
  if (o->fixed_labels) problems_add(p, "fixed_labels: live teachers label what the student sees");
  for (size_t i = 0; i < o->live_teachers.n; i++) {
    const mpistill_teacher *t = &o->live_teachers.items[i];
    if (t->is_private)
      problems_add(
          p, "teacher '%s' is private: what it says of its rows can be stored (teach), but not asked live",
          t->name);
  }
  rules_task_teachers(&o->live_teachers, &o->tasks, "--task", p);
}

void rules_train(mpistill_train_options *o, const options_seen *seen, bool has_soft, problems *p) {
  const char *method = options_given(seen, &o->method);
  check_losses(o, seen, has_soft, p);
  check_features(o, seen, has_soft, p);
  check_augments(&o->augment, seen, p);
  if (o->fixed_labels && !o->augment.n) problems_add(p, "fixed_labels: is for changed rows; see augment");
  check_belonging(optimizer_options, "optimizer", o->optimizer.kind, o, seen, p);
  check_belonging(schedule_options, "schedule", o->schedule.kind, o, seen, p);
  if (o->shuffle_window && o->shuffle_window < o->batch)
    problems_add(p, "shuffle window: %lld rows are fewer than a batch of %lld", (long long)o->shuffle_window,
                 (long long)o->batch);
  if (o->optimizer.nesterov && o->optimizer.momentum == 0)
    problems_add(p, "nesterov: needs a momentum above 0");
  if (o->schedule.warmup_epochs > (double)o->epochs)
    problems_add(p, "warm-up: %g epochs, but the training has %lld", o->schedule.warmup_epochs,
                 (long long)o->epochs);
  const size_t teachers = o->soft_labels.n + o->live_teachers.n;
  if (o->weights.n && o->weights.n != teachers)
    problems_add(p, "weights: %zu given for %zu %s", o->weights.n, teachers,
                 o->live_teachers.n ? "live teachers" : "soft-label files");
  check_priors(o, p);
  const combine_kind *rule = o->method ? combine_find(o->method) : NULL;
  if (rule && teachers > 1 && !combine_on_the_fly(rule))
    problems_add(
        p, "method '%s' is one of aggregate: it needs labels, or finds weights, or counts what it tells",
        o->method);
  const char *weights = options_given(seen, &o->weights);
  if (rule && teachers > 1 && weights && combine_on_the_fly(rule) && !combine_reads(rule, "weights"))
    problems_add(p, "%s: not an option of method '%s'", weights, rule->name);
  check_method_tensor(o, rule, p);
  if (method && teachers == 1)
    problems_add(p, "%s: one %s leaves nothing to combine", method,
                 o->live_teachers.n ? "live teacher" : "soft-label file");
  check_live(o, p);
  check_adaptive_split(o, has_soft, p);
}

status train_rules(mpistill_train_options *o, const options_seen *seen, bool has_soft) {
  problems p = {0};
  if (has_soft && !o->soft_labels.n && !o->live_teachers.n)
    problems_add(&p, "--soft-labels FILE is needed, or --live-teacher NAME=FILE");
  rules_train(o, seen, has_soft, &p);
  return problems_end(&p, p.n > 1 ? "the options do not go together:" : NULL);
}

/* ---- teach, aggregate ---- */

void rules_file_name(const char *what, const char *name, problems *p) {
  if (!*name || *name == '.' || strchr(name, '/'))
    problems_add(
        p, "%s '%s': the name becomes a file's name, so it cannot be empty, contain '/' or start with '.'",
        what, name);
}

static void check_private(const mpistill_teacher *a, const char *name, problems *p) {
  if (a->is_private && !a->model)
    problems_add(p, "teacher '%s': private is for models; soft labels have left their owner already", name);
  if (a->is_private && a->taps.n)
    problems_add(p, "teacher '%s' is private: its inner tensors (taps) cannot leave it", name);
  if (!a->is_private && a->ranks.n) problems_add(p, "teacher '%s': ranks are for private teachers", name);
  if (!a->is_private && a->data) problems_add(p, "teacher '%s': data is for private teachers", name);
  if (a->data_split && !a->data) problems_add(p, "teacher '%s': data_split needs data", name);
}

void rules_teachers(const mpistill_teachers *t, problems *p) {
  check_names(t, p);
  for (size_t i = 0; i < t->n; i++) {
    const mpistill_teacher *a = &t->items[i];
    const char *name = a->name ? a->name : "";
    rules_file_name("teacher", name, p);
    if (!a->model == !a->soft_labels) problems_add(p, "teacher '%s': give either model or soft_labels", name);
    check_private(a, name, p);
  }
}

status teach_rules(const mpistill_teach_options *o) {
  problems p = {0};
  rules_teachers(&o->teachers, &p);
  check_augments(&o->augment, &(options_seen){0}, &p);
  if (o->views && !o->augment.n) problems_add(&p, "views: nothing differs between them; see augment");
  return problems_end(&p, p.n > 1 ? "the options do not go together:" : NULL);
}

static void check_weights(const mpistill_reals *weights, size_t n, const char *what, problems *p) {
  double sum = 0;
  for (size_t i = 0; i < weights->n; i++) sum += weights->items[i];
  if (weights->n && weights->n != n)
    problems_add(p, "weights: %zu given for %zu %s", weights->n, n, what);
  else if (weights->n && sum <= 0)
    problems_add(p, "weights: all are 0");
}

/* Options that the method does not read. */
static void check_method_options(const mpistill_aggregate_options *o, const combine_kind *rule,
                                 const options_seen *seen, problems *p) {
  static const char *const keys[] = {"weights", "calibrate", "per_class", "noise", "sigma1",
                                     "sigma2",  "threshold", "delta",     "tensor"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    for (const option *row = aggregate_option_rows; row->flag || row->key || row->fields; row++) {
      if (!row->key || strcmp(row->key, keys[i]) || combine_reads(rule, keys[i])) continue;
      const char *where = options_given(seen, (const char *)o + row->at);
      if (where) problems_add(p, "%s: not an option of method '%s'", where, rule->name);
    }
}

void rules_aggregate(const mpistill_aggregate_options *o, const options_seen *seen, size_t n,
                     const char *what, bool has_dataset, problems *p) {
  const combine_kind *rule = combine_find(o->method ? o->method : "probability-mean");
  check_weights(&o->weights, n, what, p);
  if (!rule) return;
  check_method_options(o, rule, seen, p);
  if (combine_reads(rule, "tensor") && !o->tensor && !o->output)
    problems_add(p, "aggregate.tensor: names the student's tensor that method '%s' learns weights from",
                 rule->name);
  if (rule->in_training && o->output)
    problems_add(p, "method '%s' is one of distill: it changes as the student does", rule->name);
  const bool fits = rule->learned || o->calibrate;
  const char *given[] = {options_given(seen, &o->fit), options_given(seen, &o->held_out)};
  for (int i = 0; i < 2; i++)
    if (given[i] && !fits)
      problems_add(p, "%s: nothing is found from labelled rows; see calibrate", given[i]);
  if (given[0] && given[1]) problems_add(p, "%s: the rows of %s are used, all of them", given[1], given[0]);
  if (o->fit.n && o->fit.n != n) problems_add(p, "fit: %zu files given for %zu %s", o->fit.n, n, what);
  if ((rule->needs_labels || fits) && !has_dataset)
    problems_add(p, "%s needs labels; give --dataset FILE",
                 rule->needs_labels || rule->learned ? rule->name : "calibrate");
  if (rule->check && rule->check(o)) problems_add(p, "%s", status_message());
}

status aggregate_rules(const mpistill_aggregate_options *o, const options_seen *seen) {
  problems p = {0};
  if (!o->inputs.n) problems_add(&p, "the soft-label files to combine are needed");
  rules_aggregate(o, seen, o->inputs.n, "soft-label files", o->dataset != NULL, &p);
  return problems_end(&p, p.n > 1 ? "the options do not go together:" : NULL);
}

/* ---- create ---- */

/* "layers activation batch-norm" */
static bool has_word(const char *words, const char *word) {
  size_t n = strlen(word);
  for (const char *at = words; (at = strstr(at, word)); at += n)
    if ((at == words || at[-1] == ' ') && (at[n] == '\0' || at[n] == ' ')) return true;
  return false;
}

void rules_create(const mpistill_create_options *o, const options_seen *seen, problems *p) {
  const model_kind *kind = o->kind ? model_kind_find(o->kind) : NULL;
  for (const option *row = create_option_rows; row->flag || row->key; row++) {
    const char *where = options_given(seen, (const char *)o + row->at);
    if (!where || !row->key || !row->flag) continue;
    if (!kind)
      problems_add(p, "%s: is for models that are created", where);
    else if (!has_word(kind->options, row->flag))
      problems_add(p, "%s: not an option of '%s' (its options: %s)", where, o->kind, kind->options);
  }
}

status create_rules(const mpistill_create_options *o, const options_seen *seen) {
  problems p = {0};
  rules_create(o, seen, &p);
  return problems_end(&p, p.n > 1 ? "the options do not go together:" : NULL);
}
