/* What teach must know of its teachers before any rank computes. */
#include "base/mem.h"
#include "stages/common.h"
#include "stages/private.h"
#include "stages/tasks.h"
#include "stages/views.h"

#include <stdlib.h>
#include <string.h>

static status check_names(const teach_job *j) {
  for (int i = 0; i < j->n; i++) {
    const char *name = j->teachers[i].options->name;
    if (!*name || strchr(name, '/') || *name == '.')
      return status_set(STATUS_BAD_INPUT, "teacher name '%s' cannot name a file; give --teacher NAME=FILE",
                        name);
    for (int k = 0; k < i; k++)
      if (!strcmp(name, j->teachers[k].options->name))
        return status_set(STATUS_BAD_INPUT,
                          "two teachers are named '%s'; give each --teacher NAME=FILE a name of its own",
                          name);
  }
  return STATUS_OK;
}

status teach_check_classes(const teach_job *j, const lesson *t, classifier *k) {
  size_t given = t->options->classes.n;
  const head *h = &k->heads[0];
  status st = given ? STATUS_OK : stage_check_classes(k, j->d, j->sp);
  if (given && h->values)
    return status_set(STATUS_BAD_INPUT, "teacher '%s': classes are listed, but its output holds numbers",
                      t->options->name);
  if (!given) return st ? st : stage_order_classes(k, j->d, j->sp);
  if ((int64_t)given == h->classes) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "teacher '%s': %zu classes are listed, but %s gives %lld",
                    t->options->name, given, k->path, (long long)h->classes);
}

/* What a file has for [n, T, C] is [n, C, T], and of numbers at least one a row: [n, 1]. */
static void note_shape(const head *h, facts *f) {
  int rank = h->shape.rank;
  f->classes = h->classes;
  f->positions = h->positions;
  memcpy(f->dims, h->shape.dims, sizeof f->dims);
  if (!h->values && h->last) {
    for (int i = rank - 1; i > 1; i--) f->dims[i] = h->shape.dims[i - 1];
    f->dims[1] = h->classes;
  }
  if (rank == 1) f->dims[rank++] = 1;
  f->rank = rank;
}

/* ---- taps ---- */

static int by_name(const void *a, const void *b) {
  return softlabels_feature_order(*(const char *const *)a, *(const char *const *)b);
}

static status add_tap(lesson *t, const char *name) {
  for (int i = 0; i < t->n_taps; i++)
    if (!strcmp(t->taps[i], name)) return STATUS_OK;
  if (t->n_taps == SOFTLABELS_MAX_FEATURES)
    return status_set(STATUS_BAD_INPUT, "teacher '%s': more than %d taps", t->options->name,
                      SOFTLABELS_MAX_FEATURES);
  t->taps[t->n_taps++] = name;
  return STATUS_OK;
}

/* The teacher that "TEACHER=TENSOR" names, NULL when there is none of that name: '=' may stand in a tensor's.
 */
static lesson *tapped_teacher(const teach_job *j, const char *text) {
  const char *equals = strchr(text, '=');
  for (int i = 0; equals && i < j->n; i++) {
    const char *name = j->teachers[i].options->name;
    size_t n = (size_t)(equals - text);
    if (strlen(name) == n && !strncmp(name, text, n)) return &j->teachers[i];
  }
  return NULL;
}

static const char *teacher_name(const void *table, int i) {
  const teach_job *j = table;
  return i < j->n ? j->teachers[i].options->name : NULL;
}

/* A teacher's name but for a letter or two would be taken for the beginning of a tensor's. */
static status refuse_slip(const teach_job *j, const char *text) {
  status st = STATUS_OK;
  char *word = NULL;
  TRY(mem_string_n(&word, text, strcspn(text, "=")));
  const char *near = strchr(text, '=') ? nearest_name(word, teacher_name, j) : NULL;
  if (near)
    st = status_set(STATUS_BAD_INPUT, "--tap %s: there is no teacher '%s' (did you mean '%s'?)", text, word,
                    near);
done:
  mem_free(word);
  return st;
}

static status choose_taps(teach_job *j) {
  status st = STATUS_OK;
  for (size_t k = 0; k < j->o->taps.n; k++) {
    const char *text = j->o->taps.items[k];
    lesson *one = tapped_teacher(j, text);
    if (one) TRY(add_tap(one, strchr(text, '=') + 1));
    if (!one) TRY(refuse_slip(j, text));
    for (int i = 0; !one && i < j->n; i++) TRY(add_tap(&j->teachers[i], text));
  }
  for (int i = 0; i < j->n; i++) {
    lesson *t = &j->teachers[i];
    for (size_t k = 0; k < t->options->taps.n; k++) TRY(add_tap(t, t->options->taps.items[k]));
    if (t->n_taps) qsort(t->taps, (size_t)t->n_taps, sizeof *t->taps, by_name);
    for (int k = 1; k < t->n_taps; k++)
      if (!softlabels_feature_order(t->taps[k - 1], t->taps[k]))
        THROW(STATUS_BAD_INPUT, "teacher '%s': tensors '%s' and '%s' would have one name in the file",
              t->options->name, t->taps[k - 1], t->taps[k]);
  }
done:
  return st;
}

status teach_bind_taps(const lesson *t, classifier *k, facts *f) {
  status st = STATUS_OK;
  for (int i = 0; i < t->n_taps; i++) {
    int place;
    shape s;
    TRY(classifier_tap(k, t->taps[i], &place, &s));
    if (!f) continue;
    f->tap_rank[i] = s.rank;
    memcpy(f->tap_dims[i], s.dims, sizeof f->tap_dims[i]);
  }
done:
  return st;
}

/* Reads one teacher only to learn its facts. */
static status learn_facts(const teach_job *j, lesson *t) {
  status st = STATUS_OK;
  model *m = NULL;
  classifier k = {0};
  TRY(model_read(&m, t->options->model));
  stage_tell_mode(!j->o->out.no_result, m, false);
  TRY(classifier_arrays(m, j->d, j->sp, t->options->input, t->inputs));
  const head_options head = teacher_head(t->options);
  TRY(classifier_bind(&k, m, t->inputs, teach_preprocess(j->o, t->options), dataset_path(j->d), &head, 1));
  TRY(teach_check_classes(j, t, &k));
  TRY(views_make(&(augmenter){0}, &j->o->augment, &k, j->o->seed));
  t->f = (facts){.work = k.work > 0 ? k.work : 1,
                 .hash = (int64_t)model_hash(m),
                 .n_floats = k.g->n_block,
                 .probabilities = k.heads[0].probabilities,
                 .batch_rows = predict_batch_rows(&k)};
  note_shape(&k.heads[0], &t->f);
  for (int i = 0; i < k.n_inputs; i++) t->f.inputs[i] = t->inputs[i] - j->sp->inputs + 1;
  TRY(teach_bind_taps(t, &k, &t->f));
done:
  classifier_clear(&k);
  model_free(&m);
  return st;
}

status teach_share_facts(teach_job *j) {
  status st = STATUS_OK, mine = STATUS_OK;
  facts *all = NULL;
  TRY(comm_agree(j->c, mem_new(&all, (size_t)j->n, sizeof *all)));
  for (int i = 0; i < j->n && !mine; i++) {
    if (private_reader(j, i) != comm_rank(j->c)) continue;
    mine = learn_facts(j, &j->teachers[i]);
    all[i] = j->teachers[i].f;
  }
  TRY(comm_agree(j->c, mine));
  TRY(comm_combine_counts(j->c, (int64_t *)all, (size_t)j->n * (sizeof *all / sizeof(int64_t))));
  for (int i = 0; i < j->n; i++) {
    j->teachers[i].f = all[i];
    for (int k = 0; k < CLASSIFIER_MAX_INPUTS && all[i].inputs[k]; k++)
      j->teachers[i].inputs[k] = &j->sp->inputs[all[i].inputs[k] - 1];
  }
done:
  mem_free(all);
  return st;
}

status teach_choose(teach_job *j) {
  status st = STATUS_OK;
  j->rows = j->sp->n * (j->o->views > 0 ? j->o->views : 1);
  TRY(views_text(&j->o->augment, &j->augment));
  TRY(mem_new(&j->teachers, j->o->teachers.n, sizeof *j->teachers));
  for (size_t i = 0; i < j->o->teachers.n; i++)
    if (j->o->teachers.items[i].model) j->teachers[j->n++].options = &j->o->teachers.items[i];
  TRY(check_names(j));
  TRY(choose_taps(j));
  TRY(private_choose(j));
  TRY(private_groups(j, comm_size(j->c)));
done:
  return st;
}
