#include "stages/tasks.h"

#include "base/mem.h"
#include "base/progress.h"
#include "learn/loss.h"

#include <stdio.h>
#include <string.h>

/* ---- labels and targets ---- */

/* The name of an array in some split: those of a task are the same in all of them. */
static const char *find_name(const dataset *d, const char *name) {
  for (int i = 0; i < dataset_n_splits(d); i++) {
    const array *a = truth_array(dataset_split_at(d, i), name);
    if (a) return a->name;
  }
  return NULL;
}

/* "label.NAME" and "target.NAME"; where there is but one task also "label" and "target". *out NULL: there is
 * none. */
static status guess_labels(const dataset *d, const char *task, bool alone, const char **out) {
  static const char *const families[] = {"label", "target"};
  const char *found[2] = {NULL, NULL};
  char name[256];
  for (int i = 0; i < 2; i++) {
    snprintf(name, sizeof name, "%s.%s", families[i], task);
    found[i] = find_name(d, name);
  }
  for (int i = 0; alone && !found[0] && !found[1] && i < 2; i++) found[i] = find_name(d, families[i]);
  if (found[0] && found[1])
    return status_set(STATUS_BAD_INPUT, "task '%s': %s has both '%s' and '%s'; say which (labels)", task,
                      dataset_path(d), found[0], found[1]);
  *out = found[0] ? found[0] : found[1];
  return STATUS_OK;
}

static bool is_target(const char *name) {
  return !strncmp(name, "target", strlen("target"));
}

/* *labels NULL: there are none in any split. */
static status find_labels(const dataset *d, const mpistill_task *o, bool alone, const char **labels) {
  if (!o->labels) return guess_labels(d, o->name, alone, labels);
  *labels = find_name(d, o->labels);
  if (*labels) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "task '%s': no split of %s has an array '%s' of labels or targets",
                    o->name, dataset_path(d), o->labels);
}

/* What the losses are of that belong to a task: -1 where there are none. */
static int losses_values(const mpistill_losses *l, const char *task) {
  for (size_t i = 0; l && i < l->n; i++) {
    const loss_kind *k = loss_find(l->items[i].kind);
    if (k && (!l->items[i].task || !task || !strcmp(l->items[i].task, task))) return k->of_values;
  }
  return -1;
}

/* ---- one task ---- */

static bool is_last(const char *class_axis) {
  return class_axis && !strcmp(class_axis, "last");
}

static status describe(tasks *t, int i, const mpistill_task *o, bool alone, const mpistill_losses *losses,
                       const dataset *d) {
  task *x = &t->items[i];
  head_options *h = &t->heads[i];
  const char *labels = NULL;
  *x = (task){.name = o ? o->name : NULL, .weight = o ? o->weight : 1};
  *h = (head_options){.task = x->name};
  if (o && o->losses.n) x->losses = &o->losses;
  x->mask = o ? o->mask : NULL;
  status st = o ? find_labels(d, o, alone, &labels) : STATUS_OK;
  if (st) return st;
  const int by_losses = losses_values(x->losses ? x->losses : losses, x->name);
  if (labels)
    x->values = is_target(labels);
  else if (by_losses >= 0)
    x->values = by_losses;
  else
    x->values = !o && !find_name(d, "label") && find_name(d, "target");
  h->labels = labels || !o ? labels : "";
  h->values = x->values;
  h->output = o ? o->output : NULL;
  h->last = o && is_last(o->class_axis);
  return STATUS_OK;
}

status tasks_describe(tasks *t, const mpistill_tasks *list, const mpistill_losses *losses, const dataset *d) {
  *t = (tasks){.n = list->n ? (int)list->n : 1};
  if (list->n > TASKS_MAX)
    return status_set(STATUS_BAD_INPUT, "tasks: %zu given, at most %d work together", list->n, TASKS_MAX);
  for (int i = 0; i < t->n; i++) {
    status st = describe(t, i, list->n ? &list->items[i] : NULL, t->n == 1, losses, d);
    if (st) return st;
  }
  return STATUS_OK;
}

head_options teacher_head(const mpistill_teacher *t) {
  return (head_options){.output = t->output,
                        .task = t->task,
                        .labels = t->labels,
                        .last = is_last(t->class_axis),
                        .values = t->values};
}

int tasks_find(const tasks *t, const char *name) {
  if (!name) return 0;
  for (int i = 0; i < t->n; i++)
    if (t->items[i].name && !strcmp(t->items[i].name, name)) return i;
  return -1;
}

mpistill_teacher tasks_teacher(const tasks *t, const mpistill_teacher *its) {
  mpistill_teacher out = *its;
  const int i = tasks_find(t, its->task);
  if (i < 0) return out;
  const head_options *h = &t->heads[i];
  if (!out.task) out.task = (char *)(uintptr_t)t->items[i].name;
  if (!out.labels) out.labels = (char *)(uintptr_t)h->labels;
  if (!out.class_axis && h->last) out.class_axis = (char *)(uintptr_t) "last";
  out.values = out.values || t->items[i].values;
  return out;
}

/* ---- soft labels ---- */

int tasks_of_file(const tasks *t, const char *item, const char **file) {
  for (int i = 0; i < t->n; i++) {
    const char *name = t->items[i].name;
    const size_t n = name ? strlen(name) : 0;
    if (name && (strncmp(item, name, n) || item[n] != '=')) continue;
    *file = name ? item + n + 1 : item;
    return i;
  }
  *file = item;
  return t->n == 1 ? 0 : -1;
}

static status check_files(const tasks *t, const mpistill_train_options *o) {
  const char *file;
  for (size_t k = 0; k < o->soft_labels.n; k++)
    if (tasks_of_file(t, o->soft_labels.items[k], &file) < 0)
      return status_set(STATUS_BAD_INPUT,
                        "soft labels '%s': TASK=FILE was expected, with the name of one of the tasks",
                        o->soft_labels.items[k]);
  return STATUS_OK;
}

static status choose_files(const tasks *t, int i, const mpistill_train_options *o, mpistill_strings *files,
                           mpistill_reals *weights) {
  status st = STATUS_OK;
  TRY(mem_new(&files->items, o->soft_labels.n, sizeof *files->items));
  TRY(mem_new(&weights->items, o->soft_labels.n, sizeof *weights->items));
  for (size_t k = 0; k < o->soft_labels.n; k++) {
    const char *file;
    if (tasks_of_file(t, o->soft_labels.items[k], &file) != i) continue;
    files->items[files->n++] = (char *)(uintptr_t)file;
    if (o->weights.n == o->soft_labels.n) weights->items[weights->n++] = o->weights.items[k];
  }
done:
  return st;
}

/* Where neither labels nor losses tell what a task is of, its teachers do. */
static status open_soft(tasks *t, int i, comm *c, const mpistill_train_options *o, dataset *d,
                        const split *sp) {
  status st = STATUS_OK;
  task *x = &t->items[i];
  mpistill_strings files = {0};
  mpistill_reals weights = {0};
  TRY(comm_agree(c, choose_files(t, i, o, &files, &weights)));
  if (!files.n) goto done;
  const char *labels = t->heads[i].labels;
  const bool told = (labels && *labels) || losses_values(x->losses ? x->losses : &o->losses, x->name) >= 0;
  const sources_options from = {.paths = &files,
                                .weights = o->weights.n == o->soft_labels.n ? &weights : &o->weights,
                                .method = o->method,
                                .of_logits = true,
                                .trust_rows = o->trust_rows,
                                .labels = labels};
  TRY(sources_open(&x->soft, c, &from, d, sp));
  if (!told) t->heads[i].values = x->values = x->soft.f.values;
  say_warning(!told && x->values && !x->name && find_name(d, "label") && !find_name(d, "target") &&
                  comm_rank(c) == 0,
              "%s: holds numbers, so the student learns numbers, and not the classes in array 'label' of %s; "
              "logits of classes are taught without values=true",
              files.items[0], dataset_path(d));
  if (x->values != x->soft.f.values)
    THROW(STATUS_BAD_INPUT, "%s: holds %s, but %s%s%s learns %s", files.items[0],
          x->soft.f.values ? "numbers" : "logits (teach its teacher with values=true if they are numbers)",
          x->name ? "task '" : "the student", x->name ? x->name : "", x->name ? "'" : "",
          x->values ? "numbers" : "classes");
done:
  mem_free(files.items);
  mem_free(weights.items);
  return st;
}

/* A rule for logits is one for none of the tasks. */
static status check_method(const tasks *t, const char *method) {
  bool any = false, logits = false;
  for (int i = 0; i < t->n; i++) {
    any = any || sources_n_files(&t->items[i].soft);
    logits = logits || (sources_n_files(&t->items[i].soft) && !t->items[i].values);
  }
  if (!method || !any || logits) return STATUS_OK;
  if (!strcmp(method, "logit-mean") || !strcmp(method, "probability-mean"))
    return STATUS_OK; /* the default */
  return status_set(
      STATUS_BAD_INPUT,
      "method '%s' is for logits, and the soft labels are numbers, which are averaged; leave it "
      "out, or give logit-mean",
      method);
}

status tasks_open(tasks *t, comm *c, const mpistill_train_options *o, dataset *d, const split *sp) {
  status st = STATUS_OK;
  TRY(tasks_describe(t, &o->tasks, &o->losses, d));
  TRY(check_files(t, o));
  for (int i = 0; i < t->n; i++) TRY(open_soft(t, i, c, o, d, sp));
  TRY(check_method(t, o->method));
done:
  return st;
}

static status ask_of(tasks *t, int i, const mpistill_train_options *o, const form *f,
                     const struct live *live) {
  status st = STATUS_OK;
  const size_t all = o->live_teachers.n;
  int *asked = NULL, n = 0;
  mpistill_reals weights = {0};
  TRY(mem_new(&asked, all, sizeof *asked));
  TRY(mem_new(&weights.items, all, sizeof *weights.items));
  for (size_t k = 0; k < all; k++) {
    if (tasks_find(t, o->live_teachers.items[k].task) != i) continue;
    asked[n++] = (int)k;
    if (o->weights.n) weights.items[weights.n++] = o->weights.items[k];
  }
  if (n)
    TRY(sources_open_live(&t->items[i].soft, asked, n, f,
                          &(sources_options){.weights = &weights, .method = o->method, .of_logits = true},
                          live));
done:
  mem_free(asked);
  mem_free(weights.items);
  return st;
}

status tasks_ask(tasks *t, const mpistill_train_options *o, const classifier *k, const struct live *live) {
  status st = STATUS_OK;
  for (int i = 0; i < t->n && !st; i++) {
    const form f = head_form(&k->heads[i]);
    st = ask_of(t, i, o, &f, live);
  }
  return st;
}

status tasks_check_confidence(const tasks *t, double confidence, const bool taught[TASKS_MAX]) {
  bool classes = false;
  for (int i = 0; i < t->n; i++) classes = classes || (taught[i] && !t->items[i].values);
  return classes || confidence == 0
             ? STATUS_OK
             : status_set(STATUS_BAD_INPUT,
                          "confidence: is the probability of a class, and the soft labels are numbers; leave "
                          "it out");
}

status tasks_tap(tasks *t, classifier *k, const char *name) {
  status st = STATUS_OK;
  for (int i = 0; i < t->n && name; i++) {
    task *x = &t->items[i];
    shape s;
    if (x->soft.n < 2 || !x->soft.rule->n_parameters) continue;
    TRY(classifier_tap(k, name, &x->tensor, &s));
    x->width = s.rank > 1 ? s.dims[1] : 1;
    x->spread = 1;
    for (int d = 2; d < s.rank; d++) x->spread *= s.dims[d];
  }
done:
  return st;
}

void tasks_close(tasks *t) {
  for (int i = 0; i < t->n; i++) sources_close(&t->items[i].soft);
  *t = (tasks){0};
}
