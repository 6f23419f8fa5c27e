#include "stages/objective.h"

#include "learn/softmax.h"

#include <math.h>
#include <string.h>

static void add(objective *o, const char *kind, double weight, double temperature) {
  if (weight <= 0) return;
  o->losses[o->n++] =
      (mpistill_loss){.kind = (char *)(uintptr_t)kind, .weight = weight, .temperature = temperature};
}

static status check_soft(const loss_kind *k, const mpistill_loss *l, const task *t) {
  const sources *soft = &t->soft;
  if (!soft->n && t->name)
    return status_set(
        STATUS_BAD_INPUT,
        "task '%s': loss '%s' needs soft labels, and nobody teaches the task; in a recipe give a "
        "teacher of it (task: %s), to distill --soft-labels %s=FILE",
        t->name, k->name, t->name, t->name);
  if (!soft->n)
    return status_set(STATUS_BAD_INPUT, "loss '%s' needs soft labels; give --soft-labels FILE", k->name);
  if (k->of_values) return STATUS_OK;
  if (loss_is_scheduled(l)) return sources_check_any_temperature(soft, k->name);
  return sources_check_temperature(soft, loss_temperature(l, 0));
}

static status add_listed(objective *out, const mpistill_losses *list, const task *t) {
  for (size_t i = 0; i < list->n; i++) {
    const mpistill_loss *l = &list->items[i];
    if (l->task && t->name && strcmp(l->task, t->name)) continue;
    if (out->n == OBJECTIVE_MAX_LOSSES)
      return status_set(STATUS_BAD_INPUT, "losses: %zu given, at most %d work together", list->n,
                        OBJECTIVE_MAX_LOSSES);
    out->losses[out->n] = *l;
    out->losses[out->n++].weight *= t->weight;
  }
  return STATUS_OK;
}

static void add_usual(objective *out, const mpistill_train_options *o, const task *t) {
  const double soft = t->soft.n ? o->kd_weight : 0;
  if (t->soft.n) add(out, t->values ? "soft-mse" : "kd", soft * t->weight, o->temperature);
  add(out, t->values ? "mse" : "cross-entropy", (1 - soft) * t->weight, 0);
}

static status check_loss(objective *out, int i, const task *t) {
  const mpistill_loss *l = &out->losses[i];
  const loss_kind *k = out->kinds[i] = loss_find(l->kind);
  if (!k) return status_set(STATUS_BAD_INPUT, "loss '%s' is not known", l->kind);
  if (k->of_values != t->values)
    return status_set(STATUS_BAD_INPUT, "loss '%s' is of %s, but %s%s%s learns %s", l->kind,
                      k->of_values ? "numbers (targets)" : "classes (labels)",
                      t->name ? "task '" : "the student", t->name ? t->name : "", t->name ? "'" : "",
                      t->values ? "numbers (targets)" : "classes (labels)");
  out->learned[i] = k->learns_temperature && l->learn_temperature ? out->n_learned++ : -1;
  status st = k->check ? k->check(l) : STATUS_OK;
  if (!st && k->needs_soft) st = check_soft(k, l, t);
  if (st) return st;
  out->needs_labels = out->needs_labels || k->needs_labels;
  out->needs_soft = out->needs_soft || k->needs_soft;
  if (k->needs_labels && k->needs_soft) out->needs_both = k->name;
  return STATUS_OK;
}

/* The rule's gradient is that of one kd loss over all rows. */
static status check_learning_rule(objective *out, const task *t) {
  const combine_kind *rule = t->soft.n > 1 ? t->soft.rule : NULL;
  int n_soft = 0;
  bool only_kd = true;
  if (!rule || !rule->n_parameters) return STATUS_OK;
  for (int i = 0; i < out->n; i++) {
    if (!out->kinds[i]->needs_soft) continue;
    n_soft++;
    only_kd = only_kd && !strcmp(out->kinds[i]->name, "kd") && !out->losses[i].standardize;
  }
  if (n_soft != 1 || !only_kd || out->confidence > 0)
    return status_set(STATUS_BAD_INPUT,
                      "method '%s' learns from one loss 'kd' alone, not standardised and without confidence",
                      rule->name);
  out->first_of_rule = out->n_learned;
  out->n_learned += (int)rule->n_parameters(t->soft.n, t->width);
  return STATUS_OK;
}

status objective_make(objective *out, const mpistill_train_options *o, const task *t) {
  status st = STATUS_OK;
  *out = (objective){.confidence = t->values ? 0 : o->confidence};
  TRY(add_listed(out, t->losses ? t->losses : &o->losses, t));
  if (!out->n) add_usual(out, o, t);
  for (int i = 0; i < out->n; i++) TRY(check_loss(out, i, t));
  TRY(check_learning_rule(out, t));
  if (!out->n && t->name) st = status_set(STATUS_BAD_INPUT, "task '%s': has no loss", t->name);
done:
  return st;
}

status objective_check_shards(const objective *o, const int64_t *sizes, int n_sizes) {
  for (int i = 0; i < o->n; i++)
    for (int s = 0; o->kinds[i]->relates_rows && s < n_sizes; s++)
      if (sizes[s] == 1)
        return status_set(
            STATUS_BAD_INPUT,
            "loss '%s' compares the rows of a shard, and some shards would have one row; choose "
            "--batch and --shards so that every shard has two or more, those of the last batch "
            "of an epoch too",
            o->losses[i].kind);
  return STATUS_OK;
}

size_t objective_scratch(const objective *o, int64_t rows, int64_t classes) {
  size_t most = 0;
  for (int i = 0; i < o->n; i++) {
    size_t n = loss_scratch(o->kinds[i], rows, classes);
    most = n > most ? n : most;
  }
  return most;
}

/* Marks rows whose largest probability, at temperature 1, is below the least as not answered. */
static void drop_unsure(float *logits, int64_t rows, int64_t classes, double least) {
  for (int64_t i = 0; i < rows; i++, logits += classes) {
    double sum;
    if (isnan(logits[0])) continue;
    softmax_terms(logits, classes, 1, NULL, &sum);
    if (1 / sum < least) logits[0] = NAN;
  }
}

/* What a rule learns from one loss kd: of weight * T^2 * KL, mean over the rows of the batch. */
static combine_learning learning_of(const objective *o, const task *t, const objective_shard *s,
                                    const loss_batch *b, double temperature) {
  double weight = 0;
  for (int i = 0; i < o->n; i++) weight += o->kinds[i]->needs_soft ? o->losses[i].weight : 0;
  float *gradient = s->learned_gradient + o->first_of_rule;
  memset(gradient, 0, (size_t)(o->n_learned - o->first_of_rule) * sizeof *gradient);
  return (combine_learning){.features = s->features,
                            .width = t->width,
                            .parameters = s->learned + o->first_of_rule,
                            .gradient = gradient,
                            .scale = weight * temperature * temperature / (double)b->batch_rows};
}

static status combine(const objective *o, const task *t, const objective_shard *s, const loss_batch *b,
                      double temperature, float **out) {
  const sources *soft = &t->soft;
  const float *logits[soft->n];
  combine_learning learning;
  for (int i = 0; i < soft->n; i++) logits[i] = s->teachers + i * b->rows * b->classes;
  *out = soft->n == 1 ? s->teachers : s->combined;
  if (soft->n == 1) return STATUS_OK;
  const int64_t positions = s->samples ? b->rows / s->samples : 1;
  for (int64_t i = 0; s->row_ids && i < b->rows; i++) s->row_ids[i] = s->ids[i / positions];
  if (soft->rule->n_parameters) learning = learning_of(o, t, s, b, temperature);
  return combine_rows(soft->rule,
                      &(combine_batch){.n_teachers = soft->n,
                                       .rows = b->rows,
                                       .classes = b->classes,
                                       .logits = logits,
                                       .known = (const unsigned char *const *)soft->known,
                                       .others = soft->others,
                                       .student = b->logits,
                                       .weights = soft->weights,
                                       .temperature = temperature,
                                       .ids = s->row_ids ? s->row_ids : s->ids,
                                       .seed = s->seed,
                                       .step = s->step,
                                       .learning = soft->rule->n_parameters ? &learning : NULL},
                      s->combined);
}

static status combine_partners(const objective *o, const task *t, const objective_shard *s,
                               const loss_batch *b, double temperature, float **out) {
  objective_shard other = *s;
  *out = NULL;
  if (!s->partners) return STATUS_OK;
  other.teachers = s->partners;
  other.combined = s->combined_partners;
  status st = combine(o, t, &other, b, temperature, out);
  if (!st && o->confidence > 0) drop_unsure(*out, b->rows, b->classes, o->confidence);
  return st;
}

void objective_initial(const objective *o, const task *t, uint64_t seed, float *to) {
  for (int i = 0; i < o->n; i++)
    if (o->learned[i] >= 0) to[o->learned[i]] = loss_temperature_start(o->losses[i].temperature);
  if (t->soft.n > 1 && t->soft.rule->initial)
    t->soft.rule->initial(t->soft.n, t->width, seed, to + o->first_of_rule);
}

double objective_temperature(const objective *o, int i, const float *learned) {
  return o->learned[i] < 0 ? 0 : loss_learned_temperature(learned[o->learned[i]]);
}

status objective_evaluate(const objective *o, const task *t, const objective_shard *s, loss_batch *b,
                          float *gradient, double *parts) {
  double combined_for = 0;
  for (int i = 0; i < o->n; i++) {
    double slope = 0;
    b->temperature = objective_temperature(o, i, s->learned);
    b->temperature_slope = b->temperature > 0 ? &slope : NULL;
    const double temperature =
        b->temperature > 0 ? b->temperature : loss_temperature(&o->losses[i], b->progress);
    if (o->kinds[i]->needs_soft && combined_for != temperature) {
      float *combined, *partners = NULL;
      status st = combine(o, t, s, b, combined_for = temperature, &combined);
      if (!st && o->confidence > 0) drop_unsure(combined, b->rows, b->classes, o->confidence);
      if (!st) st = truth_mask(s->labels, s->ids, s->samples, s->mask_room, combined);
      if (!st && s->mix) st = combine_partners(o, t, s, b, temperature, &partners);
      if (st) return st;
      b->soft = combined;
      if (s->mix) s->mix->soft = partners;
    }
    parts[i] = s->mix ? loss_mixed(o->kinds[i], &o->losses[i], b, s->mix, gradient)
                      : o->kinds[i]->evaluate(&o->losses[i], b, gradient);
    const int at = o->learned[i];
    if (at >= 0) s->learned_gradient[at] = loss_temperature_gradient(s->learned[at], slope, b->progress);
  }
  return STATUS_OK;
}

static bool any_weight(const mpistill_losses *list) {
  for (size_t i = 0; i < list->n; i++)
    if (list->items[i].weight > 0) return true;
  return false;
}

/* Those that need not be listed have weights. */
bool objective_teaches(const mpistill_train_options *o) {
  bool teach = any_weight(&o->losses) || (!o->losses.n && !o->tasks.n);
  for (size_t i = 0; i < o->tasks.n; i++) {
    const mpistill_losses *own = &o->tasks.items[i].losses;
    teach = teach || any_weight(own) || (!own->n && !o->losses.n);
  }
  return teach;
}
