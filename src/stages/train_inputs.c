#include "stages/train_inputs.h"

#include "base/mem.h"
#include "learn/loss.h"
#include "stages/common.h"
#include "stages/features.h"
#include "stages/options_rows.h"
#include "stages/reduced.h"
#include "stages/views.h"

#include <string.h>

bool train_has_teachers(const mpistill_train_options *o) {
  return o->soft_labels.n > 0 || o->live_teachers.n > 0;
}

static json_t *loss_json(const mpistill_loss *l) {
  json_t *o = json_pack("{s:s, s:f}", "kind", l->kind, "weight", l->weight);
  if (l->task) json_object_set_new(o, "task", json_string(l->task));
  const loss_kind *k = loss_find(l->kind);
  for (const option *row = loss_fields; row->key; row++) {
    const char *field = (const char *)l + row->at;
    if (!k || !loss_reads(k, row->key)) continue;
    json_t *value = row->type == OPTION_FLAG     ? json_boolean(*(const bool *)field)
                    : row->type == OPTION_CHOICE ? json_pack("s?", *(char *const *)field)
                                                 : json_real(*(const double *)field);
    json_object_set_new(o, row->key, value);
  }
  return o;
}

static json_t *losses_json(const mpistill_train_options *o) {
  json_t *list = json_array();
  for (size_t i = 0; i < o->losses.n; i++) json_array_append_new(list, loss_json(&o->losses.items[i]));
  if (!o->losses.n && train_has_teachers(o))
    json_array_append_new(list,
                          json_pack("{s:f, s:f}", "kd_weight", o->kd_weight, "temperature", o->temperature));
  return list;
}

static json_t *optimizer_json(const mpistill_train_options *o) {
  const mpistill_optimizer *p = &o->optimizer;
  const mpistill_schedule *s = &o->schedule;
  return json_pack("{s:s, s:f, s:f, s:b, s:f, s:f, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f}", "kind", p->kind,
                   "learning_rate", p->learning_rate, "momentum", p->momentum, "nesterov", p->nesterov,
                   "weight_decay", p->weight_decay, "beta1", p->beta1, "beta2", p->beta2, "epsilon",
                   p->epsilon, "schedule", s->kind, "warmup_epochs", s->warmup_epochs, "step_epochs",
                   s->step_epochs, "step_factor", s->step_factor, "final_factor", s->final_factor,
                   "clip_norm", o->clip_norm);
}

static json_t *tasks_json(const mpistill_tasks *tasks) {
  json_t *list = json_array();
  for (size_t i = 0; i < tasks->n; i++) {
    const mpistill_task *t = &tasks->items[i];
    json_t *losses = json_array();
    for (size_t k = 0; k < t->losses.n; k++) json_array_append_new(losses, loss_json(&t->losses.items[k]));
    json_array_append_new(list,
                          json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:f, s:o}", "name", t->name, "output",
                                    t->output, "labels", t->labels, "class_axis", t->class_axis, "mask",
                                    t->mask, "weight", t->weight, "losses", losses));
  }
  return list;
}

/* The losses between inner tensors, then the files and live teachers they come from. */
static status inner_json(comm *c, const mpistill_train_options *o, const train_origin *from, json_t **out) {
  status st = STATUS_OK;
  *out = features_json(&o->features);
  for (size_t i = 0; i < o->feature_files.n; i++) {
    char hash[HASH_TEXT_BYTES];
    TRY(stage_hash_file(c, o->feature_files.items[i], hash));
    json_array_append_new(*out, json_string(hash));
  }
  if (from->live_inner) TRY(tutors_inner_json(c, o, from->live, *out));
done:
  return st;
}

static json_t *reals_json(const mpistill_reals *r) {
  json_t *list = json_array();
  for (size_t i = 0; i < r->n; i++) json_array_append_new(list, json_real(r->items[i]));
  return list;
}

static status soft_labels_json(comm *c, const mpistill_train_options *o, const tasks *work,
                               const tutor_hash *live, json_t **out) {
  status st = STATUS_OK;
  const size_t n = o->soft_labels.n + o->live_teachers.n;
  *out = json_array();
  if (o->live_teachers.n) TRY(tutors_json(c, o, live, *out));
  for (size_t i = 0; i < o->soft_labels.n; i++) {
    char hash[HASH_TEXT_BYTES];
    const char *file, *task = work->items[tasks_of_file(work, o->soft_labels.items[i], &file)].name;
    TRY(stage_hash_file(c, file, hash));
    json_array_append_new(*out, task ? json_sprintf("%s=%s", task, hash) : json_string(hash));
  }
  json_t *weights = reals_json(&o->weights);
  json_array_extend(*out, weights);
  json_decref(weights);
  if (n > 1 && o->method) json_array_append_new(*out, json_string(o->method));
  if (o->method_tensor) json_array_append_new(*out, json_string(o->method_tensor));
done:
  return st;
}

static json_t *strings_json(const mpistill_strings *s) {
  json_t *list = json_array();
  for (size_t i = 0; i < s->n; i++) json_array_append_new(list, json_string(s->items[i]));
  return list;
}

static status adaptive_json(comm *c, const mpistill_train_options *o, json_t *inputs) {
  status st = STATUS_OK;
  json_t *files = json_array();
  json_object_set_new(inputs, "adaptive_split", json_string(o->adaptive_split));
  json_object_set_new(inputs, "adaptive_labels", files);
  for (size_t i = 0; i < o->adaptive_files.n; i++) {
    char hash[HASH_TEXT_BYTES];
    TRY(stage_hash_file(c, o->adaptive_files.items[i], hash));
    json_array_append_new(files, json_string(hash));
  }
done:
  return st;
}

/* Rows that are looked at beside those trained on, and how. */
static status other_rows_json(json_t *inputs, const char *key, dataset *d, const split *s) {
  status st = STATUS_OK;
  char hash[HASH_TEXT_BYTES], reading[HASH_TEXT_BYTES];
  if (!s) return st;
  TRY(dataset_hash(d, s, hash));
  TRY(dataset_reading(d, s, reading));
  json_object_set_new(inputs, key, *reading ? json_pack("[s, s]", hash, reading) : json_pack("[s]", hash));
done:
  return st;
}

status train_inputs(json_t **out, comm *c, const mpistill_train_options *o, const tasks *work,
                    const train_origin *from) {
  status st = STATUS_OK;
  json_t *soft = NULL, *inner = NULL, *all;
  char *augment = NULL, rows[HASH_TEXT_BYTES], reading[HASH_TEXT_BYTES];
  TRY(dataset_hash(from->d, from->rows, rows));
  TRY(dataset_reading(from->d, from->rows, reading));
  TRY(soft_labels_json(c, o, work, from->live, &soft));
  if (o->features.n) TRY(inner_json(c, o, from, &inner));
  *out = all = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "command",
                         train_has_teachers(o) ? "distill" : "train", "model", from->model, "dataset", rows,
                         "input", from->input, "soft_labels", soft, "losses", losses_json(o), "optimizer",
                         optimizer_json(o), "epochs", (json_int_t)o->epochs, "batch", (json_int_t)o->batch,
                         "shards", (json_int_t)o->shards, "seed", (json_int_t)o->seed);
  if (*reading) json_object_set_new(all, "scale_offset_classes", json_string(reading));
  TRY(other_rows_json(all, "adaptive_rows", from->d, from->adaptive));
  TRY(other_rows_json(all, "prior_rows", from->d, from->prior));
  if (o->tasks.n) json_object_set_new(all, "tasks", tasks_json(&o->tasks));
  if (o->confidence > 0) json_object_set_new(all, "confidence", json_real(o->confidence));
  if (inner) json_object_set_new(all, "features", inner);
  if (o->adaptive_split) TRY(adaptive_json(c, o, all));
  TRY(views_text(&o->augment, &augment));
  if (*augment) json_object_set_new(all, "augment", json_string(augment));
  if (o->fixed_labels) json_object_set_new(all, "fixed_labels", json_true());
  if (o->shuffle_window)
    json_object_set_new(all, "shuffle_window", json_integer((json_int_t)o->shuffle_window));
  if (strcmp(o->reduce_dtype, "float32") != 0)
    json_object_set_new(all, "reduce_dtype", json_string(o->reduce_dtype));
  if (o->freeze.n) json_object_set_new(all, "freeze", strings_json(&o->freeze));
  if (o->prior_split) {
    json_object_set_new(all, "prior_split", json_string(o->prior_split));
    json_object_set_new(all, "priors", reals_json(&o->priors));
  }
  if (reduced_wanted(o)) {
    json_object_set_new(all, "precision", json_string(o->precision));
    json_object_set_new(all, "calibration_rows", json_integer(o->calibration_rows));
  }
done:
  mem_free(augment);
  return st;
}
