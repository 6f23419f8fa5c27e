#include "stages/views.h"

#include "base/mem.h"
#include "stages/options_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

/* The shortest that is the same number. */
static void real_text(double x, char *out, size_t room) {
  for (int digits = 6; digits < 18; digits++) {
    snprintf(out, room, "%.*g", digits, x);
    if (strtod(out, NULL) == x) return;
  }
}

static void add_field(char *text, size_t room, const option *row, const mpistill_augment *a) {
  const char *field = (const char *)a + row->at;
  char number[32] = "true";
  if (row->type == OPTION_INT) snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)field);
  if (row->type == OPTION_REAL) real_text(*(const double *)field, number, sizeof number);
  if (row->type == OPTION_FLAG && !*(const bool *)field) return;
  size_t used = strlen(text);
  snprintf(text + used, room - used, ":%s=%s", row->key, number);
}

status views_text(const mpistill_augments *list, char **out) {
  char text[AUGMENT_MAX_STEPS * 96] = "";
  for (size_t i = 0; i < list->n && i < AUGMENT_MAX_STEPS; i++) {
    mpistill_augment a = list->items[i];
    const augment_kind *k = augment_find(a.kind);
    if (!k) continue;
    if (!(a.probability > 0)) a.probability = k->probability;
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", k->name);
    for (const option *row = augment_fields; row->key; row++) {
      const bool usual = row->at == offsetof(mpistill_augment, probability) && a.probability >= 1;
      if (row->type != OPTION_CHOICE && augment_reads(k, row->key) && !usual)
        add_field(text, sizeof text, row, &a);
    }
  }
  return mem_string(out, text);
}

/* As options of the command line, for messages. */
static void remedy(const char *text, char *out, size_t room) {
  size_t used = (size_t)snprintf(out, room, "--augment ");
  for (; *text && used + 12 < room; text++)
    used += (size_t)snprintf(out + used, room - used, *text == ' ' ? " --augment " : "%c", *text);
}

/* ---- opening ---- */

status views_make(augmenter *a, const mpistill_augments *list, const classifier *k, uint64_t seed) {
  char what[256];
  *a = (augmenter){0};
  if (!list->n) return STATUS_OK;
  const value *x = &k->g->values[k->g->inputs[0]];
  if (k->n_inputs > 1)
    return status_set(STATUS_BAD_INPUT, "%s: has %d inputs; augment is for models of one", k->path,
                      k->n_inputs);
  if (x->type != DTYPE_FLOAT && !k->pre.active)
    return status_set(STATUS_BAD_INPUT, "%s: input '%s' is %s; augment is for floats", k->path, x->name,
                      dtype_name(x->type));
  snprintf(what, sizeof what, "%s: the array '%s' that it reads", k->path, k->arrays[0]->name);
  return augmenter_make(a, list, k->arrays[0]->dims, k->arrays[0]->rank, seed, what);
}

const char *views_mixing(const mpistill_augments *list, bool always) {
  const mpistill_augment *a = list->n ? &list->items[list->n - 1] : NULL;
  const augment_kind *k = a ? augment_find(a->kind) : NULL;
  if (!k || !k->mix) return NULL;
  return !always || (a->probability > 0 ? a->probability : k->probability) >= 1 ? k->name : NULL;
}

status views_check_mixed(const char *kind, const head *h) {
  if (!h->values && h->positions > 1)
    return status_set(STATUS_BAD_INPUT, "augment '%s': is for outputs of one position a row", kind);
  if (h->values) return status_set(STATUS_BAD_INPUT, "augment '%s': is for classes, not for numbers", kind);
  return STATUS_OK;
}

static status refuse(const char *path, const char *theirs, const char *ours) {
  char wanted[1024];
  if (!*theirs) {
    remedy(ours, wanted, sizeof wanted);
    return status_set(STATUS_BAD_INPUT,
                      "%s: its labels are of the rows as they are, but the student would see them changed "
                      "(%s); label those "
                      "(teach %s --views N), or learn from the labels of other rows than the student sees "
                      "with --fixed-labels",
                      path, ours, wanted);
  }
  remedy(theirs, wanted, sizeof wanted);
  return status_set(
      STATUS_BAD_INPUT,
      "%s: its labels are of rows changed by '%s', but the student would see %s%s%s; give %s, as "
      "there, or make other labels",
      path, theirs, *ours ? "'" : "them as they are", ours, *ours ? "'" : "", wanted);
}

/* One file against what is asked for; `first` becomes the first of the files. */
static status check_file(const softlabels *s, const char *ours, bool fixed, const softlabels **first) {
  const softlabels_header *h = softlabels_get(s);
  if (strcmp(h->augment, ours) && !(fixed && !*h->augment))
    return refuse(softlabels_path(s), h->augment, ours);
  if (!*first) *first = s;
  const softlabels_header *a = softlabels_get(*first);
  if (strcmp(a->augment, h->augment) || strcmp(a->augment_seed, h->augment_seed) || a->views != h->views)
    return status_set(STATUS_BAD_INPUT, "%s: is of other views than %s", softlabels_path(s),
                      softlabels_path(*first));
  return STATUS_OK;
}

static status check_losses(const mpistill_losses *losses, const char *kind) {
  for (size_t i = 0; i < losses->n; i++) {
    const loss_kind *k = loss_find(losses->items[i].kind);
    if (k && k->relates_rows)
      return status_set(
          STATUS_BAD_INPUT,
          "augment '%s': loss '%s' compares rows, so labels of the rows as they are cannot be mixed "
          "for it; label the views (teach --augment ... --views N)",
          kind, k->name);
  }
  return STATUS_OK;
}

/* Losses that compare the rows of a shard cannot be taken row by row; inner tensors cannot be mixed. */
static status check_mixing(const views *v, const mpistill_train_options *o) {
  if (!augmenter_mixes(&v->augment) || !v->fixed) return STATUS_OK;
  const char *kind = v->augment.kinds[v->augment.n - 1]->name;
  if (o->features.n)
    return status_set(STATUS_BAD_INPUT,
                      "augment '%s': inner tensors of the rows as they are cannot be mixed; label the views "
                      "(teach --augment ... --views N)",
                      kind);
  status st = check_losses(&o->losses, kind);
  for (size_t i = 0; !st && i < o->tasks.n; i++) st = check_losses(&o->tasks.items[i].losses, kind);
  return st;
}

status views_seed(const softlabels *s, uint64_t *seed) {
  const char *text = softlabels_get(s)->augment_seed;
  char *end;
  *seed = strtoull(text, &end, 10);
  if (*text >= '0' && *text <= '9' && !*end) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: its augment_seed '%s' is not a whole number", softlabels_path(s),
                    text);
}

static status make(views *v, const mpistill_train_options *o, const classifier *k, uint64_t seed) {
  status st = views_make(&v->augment, &o->augment, k, seed);
  return st ? st : check_mixing(v, o);
}

status views_foresee(views *v, const mpistill_train_options *o, const classifier *k, int64_t rows,
                     int64_t stored, bool fixed) {
  *v = (views){.rows = rows, .stored = stored, .fixed = fixed};
  return make(v, o, k, o->seed);
}

status views_open(views *v, const mpistill_train_options *o, const classifier *k, const tasks *work,
                  const features *inner, int64_t rows) {
  status st = STATUS_OK;
  const softlabels *first = NULL;
  uint64_t seed = o->seed;
  char *ours = NULL;
  *v = (views){.rows = rows};
  TRY(views_text(&o->augment, &ours));
  for (int t = 0; t < work->n; t++)
    for (int i = 0; i < sources_n_files(&work->items[t].soft); i++)
      TRY(check_file(work->items[t].soft.files[i], ours, o->fixed_labels, &first));
  for (int i = 0; i < inner->n_files; i++) TRY(check_file(inner->files[i], ours, o->fixed_labels, &first));
  if (first && *softlabels_get(first)->augment) {
    v->stored = softlabels_views(softlabels_get(first));
    if (o->live_teachers.n)
      THROW(
          STATUS_BAD_INPUT,
          "%s: its tensors are of views that were stored, but live teachers see new ones; make its teacher a "
          "live one (--live-teacher), or store the labels of all of them (teach --views N)",
          softlabels_path(first));
    TRY(views_seed(first, &seed));
  }
  v->fixed = first && !v->stored;
  TRY(make(v, o, k, seed));
done:
  mem_free(ours);
  return st;
}

/* ---- rows ---- */

static int64_t view_of(const views *v, int64_t epoch) {
  return v->stored ? epoch % v->stored : epoch;
}

const int64_t *views_rows(const views *v, int64_t epoch, const int64_t *ids, int64_t n, int64_t *room) {
  if (!v->augment.n) return ids;
  for (int64_t i = 0; i < n; i++) room[i] = ids[i] + view_of(v, epoch) * v->rows;
  return room;
}

const int64_t *views_labels(const views *v, const int64_t *ids, const int64_t *seen) {
  return v->stored ? seen : ids;
}

/* ---- labels of pixels ---- */

bool views_pixels(const augment_shape *image, const int64_t *dims, int rank) {
  return rank >= 3 && dims[rank - 2] == image->height && dims[rank - 1] == image->width;
}

augment_shape views_planes(const augment_shape *image, int64_t values) {
  return (augment_shape){.values = values,
                         .channels = values / (image->height * image->width),
                         .height = image->height,
                         .width = image->width};
}

/* Labels move as label + 1, so that the 0 that comes in is no label; beside targets moves where there are
 * any. */
void views_move(const views *v, int64_t epoch, int64_t id, const augment_shape *planes, int32_t *labels,
                float *targets, float *room) {
  const int64_t n = planes->values;
  float *x = room, *moved = room + n, *scratch = room + 2 * n;
  for (int64_t i = 0; i < n; i++) x[i] = labels ? (float)(labels[i] + 1) : 1;
  augmenter_move(&v->augment, view_of(v, epoch), id, planes, x, scratch);
  if (labels) {
    for (int64_t i = 0; i < n; i++) labels[i] = (int32_t)x[i] - 1;
    return;
  }
  memcpy(moved, targets, (size_t)n * sizeof *moved);
  augmenter_move(&v->augment, view_of(v, epoch), id, planes, moved, scratch);
  for (int64_t i = 0; i < n; i++) targets[i] = x[i] > 0 ? moved[i] : NAN;
}

/* ---- labels of mixed rows ---- */

status mixing_new(mixing *m, const views *v, int64_t rows, int64_t classes, int n_teachers) {
  status st = STATUS_OK;
  *m = (mixing){0};
  if (!augmenter_mixes(&v->augment)) return st;
  TRY(mem_new(&m->partners, (size_t)rows, sizeof *m->partners));
  TRY(mem_new(&m->shares, (size_t)rows, sizeof *m->shares));
  TRY(mem_new(&m->labels, (size_t)rows, sizeof *m->labels));
  TRY(mem_new(&m->mix.gradient, (size_t)classes, sizeof(float)));
  m->mix.shares = m->shares;
  m->mix.labels = m->labels;
  if (!v->fixed || !n_teachers) goto done;
  TRY(mem_new(&m->teachers, (size_t)(n_teachers * rows * classes), sizeof(float)));
  TRY(mem_new(&m->combined, (size_t)(rows * classes), sizeof(float)));
done:
  return st;
}

void mixing_clear(mixing *m) {
  mem_free(m->partners);
  mem_free(m->shares);
  mem_free(m->labels);
  mem_free(m->teachers);
  mem_free(m->combined);
  mem_free(m->mix.gradient);
  *m = (mixing){0};
}

void mixing_draw(mixing *m, const views *v, int64_t epoch, const int64_t *ids, int64_t n) {
  for (int64_t i = 0; m->partners && i < n; i++) {
    augment_mix drawn;
    augmenter_partner(&v->augment, view_of(v, epoch), ids[i], &drawn);
    m->partners[i] = drawn.partner;
    m->shares[i] = drawn.share;
    m->labels[i] = -1;
  }
}

bool mixing_labelled(const views *v, int64_t epoch, int64_t id, const int64_t *known) {
  augment_mix drawn;
  return known[id] > 0 ||
         (augmenter_partner(&v->augment, view_of(v, epoch), id, &drawn) && known[drawn.partner] > 0);
}
