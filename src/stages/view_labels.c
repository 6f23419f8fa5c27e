#include "stages/view_labels.h"

#include "base/mem.h"
#include "stages/options_rows.h"

#include <math.h>

static bool is_of_pixels(const view_labels *v) {
  return augmenter_moves(&v->seen.augment) && v->known.f.positions > 1 &&
         views_pixels(&v->seen.augment.shape, v->known.a->dims, v->known.a->rank);
}

/* The file does not say which array the teacher read: one that can be changed so, and whose pixels the labels
 * are of, where there is one. */
static bool find_image(view_labels *v, uint64_t seed, bool of_pixels) {
  const split *sp = v->known.sp;
  for (int i = 0; i < sp->n_inputs; i++) {
    const array *x = &sp->inputs[i];
    if (augmenter_make(&v->seen.augment, &v->list, x->dims, x->rank, seed, x->name)) continue;
    if (!of_pixels || is_of_pixels(v)) return true;
  }
  v->seen.augment = (augmenter){.n = 0};
  return false;
}

/* Classes of what are no pixels would have to move with the image and cannot; numbers stay, and so does what
 * is of the whole row. */
static bool may_stay(const view_labels *v) {
  bool moves = false;
  for (size_t i = 0; i < v->list.n; i++) moves = moves || augment_find(v->list.items[i].kind)->moves;
  return !moves || v->known.f.positions == 1 || v->known.f.values;
}

static status open_views(view_labels *v, const softlabels *s) {
  status st = STATUS_OK;
  const softlabels_header *h = softlabels_get(s);
  const truth *t = &v->known;
  uint64_t seed;
  if (!t->a || !*h->augment) goto done;
  if (augments_parse(h->augment, &v->list) || augment_check(&v->list))
    THROW(
        STATUS_BAD_INPUT,
        "%s: is of rows changed by '%s', which is none of the changes of 'teach --help-augment': where their "
        "labels are is not known",
        softlabels_path(s), h->augment);
  TRY(views_seed(s, &seed));
  v->seen = (views){.rows = t->sp->n, .stored = softlabels_views(h)};
  if (find_image(v, seed, true))
    v->planes = views_planes(&v->seen.augment.shape, t->a->row_values);
  else if (!may_stay(v) || !find_image(v, seed, false))
    v->lost = "whose labels are not of the pixels of the image and do not move with it";
  if (!v->lost && views_mixing(&v->list, true)) v->lost = "each of them mixed of two, with two labels";
done:
  return st;
}

status view_labels_open(view_labels *v, comm *c, dataset *d, const split *sp, const array *a, const form *f,
                        const softlabels *s) {
  *v = (view_labels){.lost = NULL};
  status st = truth_open(&v->known, d, sp, a, f, NULL, 0);
  return st ? st : comm_agree(c, open_views(v, s));
}

void view_labels_close(view_labels *v) {
  truth_close(&v->known);
  augments_free(&v->list);
  *v = (view_labels){.lost = NULL};
}

static void forget(const view_labels *v, int64_t row, int32_t *labels, float *targets) {
  for (int64_t p = row * v->known.f.positions; p < (row + 1) * v->known.f.positions; p++)
    if (v->known.f.values)
      targets[p] = NAN;
    else
      labels[p] = -1;
}

status view_labels_range(const view_labels *v, int64_t from, int64_t n, int32_t *labels, float *targets) {
  status st = STATUS_OK;
  const int64_t p = v->planes.values;
  const bool values = v->known.f.values;
  float *room = NULL;
  TRY(truth_range(&v->known, from, n, labels, targets));
  TRY(mem_new(&room, 3 * (size_t)p, sizeof *room));
  for (int64_t i = 0; i < n; i++) {
    const int64_t view = (from + i) / v->known.sp->n, row = (from + i) % v->known.sp->n;
    augment_mix mix;
    if (p)
      views_move(&v->seen, view, row, &v->planes, values ? NULL : labels + i * p,
                 values ? targets + i * p : NULL, room);
    if (v->lost || augmenter_partner(&v->seen.augment, view, row, &mix)) forget(v, i, labels, targets);
  }
done:
  mem_free(room);
  return st;
}
