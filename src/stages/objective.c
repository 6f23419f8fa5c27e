#include "stages/objective.h"

#include "learn/softmax.h"

#include <math.h>

static void add(objective *o, const char *kind, double weight, double temperature) {
  if (weight <= 0) return;
  o->losses[o->n++] =
      (mpistill_loss){.kind = (char *)(uintptr_t)kind, .weight = weight, .temperature = temperature};
}

static status check_soft(const loss_kind *k, const mpistill_loss *l, const sources *soft) {
  if (!soft->n)
    return status_set(STATUS_BAD_INPUT, "loss '%s' needs soft labels; give --soft-labels FILE", k->name);
  if (loss_is_scheduled(l)) return sources_check_any_temperature(soft, k->name);
  return sources_check_temperature(soft, loss_temperature(l, 0));
}

status objective_make(objective *out, const mpistill_train_options *o, const sources *soft) {
  *out = (objective){.confidence = o->confidence};
  if (o->losses.n > OBJECTIVE_MAX_LOSSES)
    return status_set(STATUS_BAD_INPUT, "losses: %zu given, at most %d work together", o->losses.n,
                      OBJECTIVE_MAX_LOSSES);
  for (size_t i = 0; i < o->losses.n; i++) out->losses[out->n++] = o->losses.items[i];
  if (!o->losses.n) {
    if (soft->n) add(out, "kd", o->kd_weight, o->temperature);
    add(out, "cross-entropy", soft->n ? 1 - o->kd_weight : 1, 0);
  }
  for (int i = 0; i < out->n; i++) {
    const mpistill_loss *l = &out->losses[i];
    const loss_kind *k = out->kinds[i] = loss_find(l->kind);
    if (!k) return status_set(STATUS_BAD_INPUT, "loss '%s' is not known", l->kind);
    out->learned[i] = k->learns_temperature && l->learn_temperature ? out->n_learned++ : -1;
    status st = k->check ? k->check(l) : STATUS_OK;
    if (!st && k->needs_soft) st = check_soft(k, l, soft);
    if (st) return st;
    out->needs_labels = out->needs_labels || k->needs_labels;
    out->needs_soft = out->needs_soft || k->needs_soft;
    if (k->needs_labels && k->needs_soft) out->needs_both = k->name;
  }
  return STATUS_OK;
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

static float *combine(const sources *soft, const objective_shard *s, const loss_batch *b,
                      double temperature) {
  const float *logits[soft->n];
  for (int i = 0; i < soft->n; i++) logits[i] = s->teachers + i * b->rows * b->classes;
  if (soft->n == 1) return s->teachers;
  soft->rule->rows(&(combine_batch){.n_teachers = soft->n,
                                    .rows = b->rows,
                                    .classes = b->classes,
                                    .logits = logits,
                                    .known = (const unsigned char *const *)soft->known,
                                    .others = soft->others,
                                    .student = b->logits,
                                    .weights = soft->weights,
                                    .temperature = temperature,
                                    .ids = s->ids,
                                    .seed = s->seed,
                                    .step = s->step},
                   s->combined);
  return s->combined;
}

static float *combine_partners(const objective *o, const sources *soft, const objective_shard *s,
                               const loss_batch *b, double temperature) {
  objective_shard other = *s;
  if (!s->partners) return NULL;
  other.teachers = s->partners;
  other.combined = s->combined_partners;
  float *combined = combine(soft, &other, b, temperature);
  if (o->confidence > 0) drop_unsure(combined, b->rows, b->classes, o->confidence);
  return combined;
}

void objective_initial(const objective *o, float *to) {
  for (int i = 0; i < o->n; i++)
    if (o->learned[i] >= 0) to[o->learned[i]] = loss_temperature_start(o->losses[i].temperature);
}

double objective_temperature(const objective *o, int i, const float *learned) {
  return o->learned[i] < 0 ? 0 : loss_learned_temperature(learned[o->learned[i]]);
}

void objective_evaluate(const objective *o, const sources *soft, const objective_shard *s, loss_batch *b,
                        float *gradient, double *parts) {
  double combined_for = 0;
  for (int i = 0; i < o->n; i++) {
    double slope = 0;
    b->temperature = objective_temperature(o, i, s->learned);
    b->temperature_slope = b->temperature > 0 ? &slope : NULL;
    const double temperature =
        b->temperature > 0 ? b->temperature : loss_temperature(&o->losses[i], b->progress);
    if (o->kinds[i]->needs_soft && combined_for != temperature) {
      float *combined = combine(soft, s, b, combined_for = temperature);
      if (o->confidence > 0) drop_unsure(combined, b->rows, b->classes, o->confidence);
      b->soft = combined;
      if (s->mix) s->mix->soft = combine_partners(o, soft, s, b, temperature);
    }
    parts[i] = s->mix ? loss_mixed(o->kinds[i], &o->losses[i], b, s->mix, gradient)
                      : o->kinds[i]->evaluate(&o->losses[i], b, gradient);
    const int at = o->learned[i];
    if (at >= 0) s->learned_gradient[at] = loss_temperature_gradient(s->learned[at], slope, b->progress);
  }
}
