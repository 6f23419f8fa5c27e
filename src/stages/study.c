#include "stages/study.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

static status check_labels(const study *s) {
  const truth *t = &s->labels;
  int64_t labelled = 0;
  const char *name = t->a ? t->a->name : s->h->labels;
  for (int64_t i = 0; i < t->sp->n; i++) labelled += t->known[i];
  if (!labelled && !s->t->soft.n)
    return status_set(STATUS_BAD_INPUT,
                      "%s: /%s/%s has no labelled row and there are no soft labels to learn from",
                      dataset_path(t->d), t->sp->name, name);
  if (!labelled && s->goal.needs_both)
    return status_set(STATUS_BAD_INPUT,
                      "loss '%s' learns from rows with a label, and no row of /%s of %s has one",
                      s->goal.needs_both, t->sp->name, dataset_path(t->d));
  return STATUS_OK;
}

static status check_teachers(const study *s, const char *path) {
  const sources *soft = &s->t->soft;
  const form f = head_form(s->h);
  if (soft->f.classes != f.classes)
    return status_set(STATUS_BAD_INPUT, "%s: gives %lld classes, but the soft labels of %s have %lld", path,
                      (long long)f.classes, softlabels_path(soft->files[0]), (long long)soft->f.classes);
  if (soft->f.positions != f.positions)
    return status_set(STATUS_BAD_INPUT, "%s: gives %lld positions a row, but the soft labels of %s have %lld",
                      path, (long long)f.positions, softlabels_path(soft->files[0]),
                      (long long)soft->f.positions);
  return STATUS_OK;
}

static status open_labels(study *s, comm *c, const classifier *k, dataset *d, const split *sp) {
  status st = STATUS_OK;
  const form f = head_form(s->h);
  const array *a = s->goal.needs_labels ? truth_array(sp, s->h->labels) : NULL;
  if (s->goal.needs_labels && !a && !s->t->soft.n)
    THROW(STATUS_BAD_INPUT, "%s: /%s has no array '%s' to learn from", dataset_path(d), sp->name,
          *s->h->labels || !s->t->name ? s->h->labels : s->t->name);
  TRY(truth_open(&s->labels, d, sp, a, &f, k->arrays, k->n_inputs));
  if (s->t->mask) TRY(truth_mask_by(&s->labels, s->t->mask));
  if (!s->goal.needs_labels && !s->labels.lengths && !s->labels.mask) goto done;
  TRY(truth_count(&s->labels, c));
  if (s->goal.needs_labels) TRY(check_labels(s));
done:
  return st;
}

static status check_views(const study *s) {
  const augmenter *a = &s->seen->augment;
  if (!augmenter_mixes(a)) return STATUS_OK;
  const char *kind = a->kinds[a->n - 1]->name;
  if (s->seen->fixed && s->t->soft.n > 1 && s->t->soft.rule->n_parameters)
    return status_set(STATUS_BAD_INPUT, "augment '%s': method '%s' gives weights to rows, not to mixed ones",
                      kind, s->t->soft.rule->name);
  return views_check_mixed(kind, s->h);
}

/* Soft labels of the image as it is move with it, if they are of its pixels. */
static status open_fixed(study *s) {
  const augmenter *a = &s->seen->augment;
  const augment_shape *image = &a->shape;
  const shape *y = &s->h->shape;
  const int end = y->rank - (s->h->last ? 1 : 0);
  if (!augmenter_moves(a) || !s->seen->fixed || !s->t->soft.n || s->h->positions == 1) return STATUS_OK;
  const bool pixels = views_pixels(image, y->dims, end);
  if (!pixels && !s->h->values)
    return status_set(STATUS_BAD_INPUT,
                      "augment: soft labels that are not of the pixels of the image, which is %lld x %lld, "
                      "cannot move with it; label the views (teach --augment ... --views N)",
                      (long long)image->height, (long long)image->width);
  if (pixels) s->fixed = views_planes(image, s->h->positions);
  return STATUS_OK;
}

/* Labels of pixels move with the image; numbers of a row that are none stay. */
static status open_moving(study *s) {
  const augmenter *a = &s->seen->augment;
  const augment_shape *image = &a->shape;
  const array *of = s->labels.a;
  if (!augmenter_moves(a) || s->h->positions == 1) return STATUS_OK;
  if (s->labels.mask || s->labels.counted)
    return status_set(STATUS_BAD_INPUT, "augment: a mask or lengths do not move with the image");
  if (!of) return STATUS_OK;
  const bool pixels = views_pixels(image, of->dims, of->rank);
  if (!pixels && !s->h->values)
    return status_set(
        STATUS_BAD_INPUT,
        "%s: /%s/%s is not of the pixels of the image, which is %lld x %lld: its labels cannot move with it; "
        "leave shift, flip and crop out",
        dataset_path(s->labels.d), s->labels.sp->name, of->name, (long long)image->height,
        (long long)image->width);
  if (pixels) s->planes = views_planes(image, of->row_values);
  return STATUS_OK;
}

status study_open(study *s, comm *c, const mpistill_train_options *o, task *t, const classifier *k, int tap,
                  dataset *d, const split *sp, const views *seen) {
  status st = STATUS_OK;
  *s = (study){.t = t, .h = &k->heads[tap], .tap = tap, .tensor = k->n_heads + t->tensor, .seen = seen};
  TRY(check_views(s));
  TRY(objective_make(&s->goal, o, t));
  if (t->soft.n) TRY(check_teachers(s, k->path));
  TRY(open_labels(s, c, k, d, sp));
  TRY(open_moving(s));
  TRY(open_fixed(s));
  for (int i = 0; i < sources_n_files(&t->soft); i++) TRY(softlabels_load(t->soft.files[i], 0));
done:
  return st;
}

void study_close(study *s) {
  truth_close(&s->labels);
}

void study_count(const study *s, int64_t epoch, const int64_t *ids, int64_t n, int64_t *rows,
                 int64_t *labelled) {
  const truth *t = &s->labels;
  *rows = t->counted ? 0 : n * s->h->positions;
  *labelled = 0;
  for (int64_t i = 0; t->counted && i < n; i++) *rows += t->counted[ids[i]];
  const bool mixes = augmenter_mixes(&s->seen->augment);
  for (int64_t i = 0; t->known && !s->planes.values && i < n; i++)
    *labelled += mixes ? mixing_labelled(s->seen, epoch, ids[i], t->known) : t->known[ids[i]];
}

static void move_labels(const study *s, int64_t epoch, const int64_t *ids, int64_t n, int32_t *labels,
                        float *targets, float *room) {
  const int64_t p = s->planes.values;
  for (int64_t i = 0; p && i < n; i++)
    views_move(s->seen, epoch, ids[i], &s->planes, labels ? labels + i * p : NULL,
               targets ? targets + i * p : NULL, room);
}

status study_count_moved(const study *s, int64_t epoch, const int64_t *ids, int64_t n, int64_t *labelled) {
  status st = STATUS_OK;
  const int64_t p = s->planes.values;
  int32_t *labels = NULL;
  float *targets = NULL, *room = NULL;
  if (!p || !n) return STATUS_OK;
  TRY(mem_new(&room, 3 * (size_t)p, sizeof *room));
  if (s->h->values)
    TRY(mem_new(&targets, (size_t)p, sizeof *targets));
  else
    TRY(mem_new(&labels, (size_t)p, sizeof *labels));
  for (int64_t i = 0; i < n; i++) {
    TRY(truth_read(&s->labels, ids + i, 1, labels, targets));
    move_labels(s, epoch, ids + i, 1, labels, targets, room);
    for (int64_t j = 0; j < p; j++) *labelled += labels ? labels[j] >= 0 : !isnan(targets[j]);
  }
done:
  mem_free(labels);
  mem_free(targets);
  mem_free(room);
  return st;
}

/* ---- what a thread works with ---- */

status study_desk_new(study_desk *w, const study *s, int64_t samples) {
  status st = STATUS_OK;
  const int64_t rows = samples * s->h->positions;
  const size_t values = (size_t)(rows * s->h->classes);
  if (s->goal.needs_labels && s->h->values) TRY(mem_new(&w->targets, (size_t)rows, sizeof *w->targets));
  if (s->goal.needs_labels && !s->h->values) TRY(mem_new(&w->labels, (size_t)rows, sizeof *w->labels));
  TRY(mem_new(&w->scratch, objective_scratch(&s->goal, rows, s->h->classes), sizeof(float)));
  if (!head_is_matrix(s->h)) {
    TRY(mem_new(&w->logits, values, sizeof(float)));
    TRY(mem_new(&w->gradient, values, sizeof(float)));
  }
  const int64_t moving = s->planes.values > s->fixed.values ? s->planes.values : s->fixed.values;
  TRY(mem_new(&w->moving, 3 * (size_t)moving, sizeof *w->moving));
  TRY(mem_new(&w->origin, (size_t)s->fixed.values, sizeof *w->origin));
  TRY(mixing_new(&w->mixed, s->seen, samples, s->h->classes, s->goal.needs_soft ? s->t->soft.n : 0));
  if (!s->goal.needs_soft) goto done;
  TRY(mem_new(&w->teachers, (size_t)s->t->soft.n * values, sizeof(float)));
  TRY(mem_new(&w->raw, values, sizeof(float)));
  TRY(mem_new(&w->combined, values, sizeof(float)));
  TRY(mem_new(&w->features, (size_t)(samples * s->t->width), sizeof(float)));
  TRY(mem_new(&w->mask_room, (size_t)s->h->positions, sizeof *w->mask_room));
  if (s->h->positions > 1) TRY(mem_new(&w->row_ids, (size_t)rows, sizeof *w->row_ids));
done:
  return st;
}

void study_desk_clear(study_desk *w) {
  mem_free(w->labels);
  mem_free(w->targets);
  mem_free(w->logits);
  mem_free(w->gradient);
  mem_free(w->teachers);
  mem_free(w->raw);
  mem_free(w->combined);
  mem_free(w->features);
  mem_free(w->scratch);
  mem_free(w->row_ids);
  mem_free(w->mask_room);
  mem_free(w->moving);
  mem_free(w->origin);
  mixing_clear(&w->mixed);
}

/* The teachers' matrices of rows as their files count them; to NULL: none are read. */
static status read_teachers(const study *s, study_desk *w, const int64_t *rows, int64_t n, float *to) {
  status st = STATUS_OK;
  for (int i = 0; to && !st && i < s->t->soft.n; i++)
    st = sources_rows(&s->t->soft, i, rows, n, w->raw, to + i * n * head_row_values(s->h));
  return st;
}

/* The teachers' matrices of rows ids[n], as they lie in the view: no answer where something came in. */
static void move_teachers(const study *s, study_desk *w, int64_t epoch, const int64_t *ids, int64_t n) {
  const int64_t positions = s->fixed.values, classes = s->h->classes, values = positions * classes;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t p = 0; p < positions; p++) w->origin[p] = (int32_t)p;
    views_move(s->seen, epoch, ids[i], &s->fixed, w->origin, NULL, w->moving);
    for (int k = 0; k < s->t->soft.n; k++) {
      float *row = w->teachers + (k * n + i) * values;
      memcpy(w->raw, row, (size_t)values * sizeof *row);
      for (int64_t p = 0; p < positions; p++, row += classes)
        if (w->origin[p] < 0)
          *row = NAN;
        else
          memcpy(row, w->raw + w->origin[p] * classes, (size_t)classes * sizeof *row);
    }
  }
}

status study_read(const study *s, study_desk *w, int64_t epoch, const int64_t *ids, const int64_t *stored,
                  int64_t n) {
  status st = STATUS_OK;
  mixing *m = &w->mixed;
  mixing_draw(m, s->seen, epoch, ids, n);
  if (s->goal.needs_labels) TRY(truth_read(&s->labels, ids, n, w->labels, w->targets));
  if (s->goal.needs_labels) move_labels(s, epoch, ids, n, w->labels, w->targets, w->moving);
  if (s->goal.needs_labels && m->partners) TRY(truth_read(&s->labels, m->partners, n, m->labels, NULL));
  TRY(read_teachers(s, w, stored, n, w->teachers));
  if (s->fixed.values && w->teachers) move_teachers(s, w, epoch, ids, n);
  TRY(read_teachers(s, w, m->partners, n, m->teachers));
done:
  return st;
}

/* The largest value of each channel. */
static void pool_features(const study *s, const plan *p, int64_t n, float *to) {
  const float *x = plan_tap(p, s->tensor)->data;
  const int64_t spread = s->t->spread;
  for (int64_t i = 0; i < n * s->t->width; i++, x += spread) {
    to[i] = x[0];
    for (int64_t j = 1; j < spread; j++) to[i] = to[i] < x[j] ? x[j] : to[i];
  }
}

status study_evaluate(const study *s, study_desk *w, const study_shard *shard, const plan *p, double *parts) {
  const head *h = s->h;
  const int64_t rows = shard->n * h->positions;
  float *z = plan_tap(p, s->tap)->data, *dz = plan_tap_gradient(p, s->tap)->data;
  float *gradient = w->gradient ? w->gradient : dz;
  if (w->logits) head_positions_first(z, shard->n, h->classes, h->positions, w->logits);
  loss_batch in = {.rows = rows,
                   .classes = h->classes,
                   .logits = w->logits ? w->logits : z,
                   .labels = w->labels,
                   .targets = w->targets,
                   .batch_rows = shard->batch_rows,
                   .batch_labelled = shard->batch_labelled,
                   .progress = shard->progress,
                   .scratch = w->scratch};
  if (s->t->width) pool_features(s, p, shard->n, w->features);
  const objective_shard from = {.teachers = w->teachers,
                                .combined = w->combined,
                                .ids = shard->ids,
                                .samples = shard->n,
                                .labels = &s->labels,
                                .mask_room = w->mask_room,
                                .row_ids = w->row_ids,
                                .features = w->features,
                                .seed = shard->seed,
                                .step = shard->step,
                                .learned = shard->learned,
                                .learned_gradient = shard->learned_gradient,
                                .mix = w->mixed.partners ? &w->mixed.mix : NULL,
                                .partners = w->mixed.teachers,
                                .combined_partners = w->mixed.combined};
  memset(gradient, 0, (size_t)(rows * h->classes) * sizeof *gradient);
  status st = objective_evaluate(&s->goal, s->t, &from, &in, gradient, parts);
  if (w->gradient) head_classes_first(gradient, shard->n, h->classes, h->positions, dz);
  return st;
}
