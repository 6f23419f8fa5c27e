#include "learn/augments.h"

#include "base/rng.h"

#include <stdio.h>
#include <string.h>

static const augment_kind *const kinds[] = {&augment_shift, &augment_flip,   &augment_crop, &augment_noise,
                                            &augment_mixup, &augment_cutmix, NULL};

const augment_kind *const *augment_kinds(void) {
  return kinds;
}

const augment_kind *augment_find(const char *name) {
  for (const augment_kind *const *k = kinds; name && *k; k++)
    if (!strcmp((*k)->name, name)) return *k;
  return NULL;
}

bool augment_reads(const augment_kind *k, const char *key) {
  if (!strcmp(key, "kind") || !strcmp(key, "probability")) return true;
  for (const char *const *o = k->options; *o; o++)
    if (!strcmp(*o, key)) return true;
  return false;
}

/* ---- draws ---- */

void augment_words(const augment_draws *d, uint64_t k, uint32_t words[4]) {
  rng_words(d->seed, RNG_AUGMENT, d->stream, d->first | k, words);
}

double augment_uniform(const augment_draws *d, uint64_t k) {
  return (double)rng_uniform(d->seed, RNG_AUGMENT, d->stream, d->first | k);
}

int64_t augment_below(const augment_draws *d, uint64_t k, int64_t n) {
  uint32_t words[4];
  augment_words(d, k, words);
  uint64_t draw = (uint64_t)words[0] << 32 | words[1];
  return (int64_t)(((unsigned __int128)draw * (uint64_t)n) >> 64);
}

static augment_draws draws_of(const augmenter *a, int step, int64_t view, int64_t row) {
  return (augment_draws){
      .seed = a->seed, .stream = (uint64_t)view << 8 | (uint64_t)step, .first = (uint64_t)row << 24};
}

/* ---- a list ---- */

status augment_check(const mpistill_augments *list) {
  if (list->n > AUGMENT_MAX_STEPS)
    return status_set(STATUS_BAD_INPUT, "augment: %zu given, at most %d are possible", list->n,
                      AUGMENT_MAX_STEPS);
  for (size_t i = 0; i < list->n; i++) {
    const augment_kind *k = augment_find(list->items[i].kind);
    if (!k)
      return status_set(STATUS_BAD_INPUT, "augment '%s' is not known",
                        list->items[i].kind ? list->items[i].kind : "");
    if (k->mix && i + 1 < list->n)
      return status_set(STATUS_BAD_INPUT,
                        "augment '%s' mixes rows: nothing can stand behind it, but '%s' does", k->name,
                        list->items[i + 1].kind);
  }
  return STATUS_OK;
}

static status refuse_shape(const augment_kind *k, const int64_t *dims, int rank, const char *what) {
  char shape[128] = "rows";
  size_t used = strlen(shape);
  for (int i = 1; i < rank && used < sizeof shape; i++)
    used += (size_t)snprintf(shape + used, sizeof shape - used, ", %lld", (long long)dims[i]);
  return status_set(STATUS_BAD_INPUT,
                    "%s: is [%s], but augment '%s' is for images [rows, channels, height, width] or [rows, "
                    "height, width]",
                    what, shape, k->name);
}

static status check_pixels(const augment_kind *k, const mpistill_augment *o, const augment_shape *s,
                           const char *what) {
  const int64_t least = s->height < s->width ? s->height : s->width;
  const int64_t most = augment_reads(k, "pixels") ? o->pixels : augment_reads(k, "padding") ? o->padding : 0;
  if (most < least || !most) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT, "%s: augment '%s' moves images of %lld x %lld by up to %lld pixels",
                    what, k->name, (long long)s->height, (long long)s->width, (long long)most);
}

status augmenter_make(augmenter *a, const mpistill_augments *list, const int64_t *dims, int rank,
                      uint64_t seed, const char *what) {
  status st = augment_check(list);
  *a = (augmenter){.options = list->items, .rows = dims[0], .seed = seed, .shape = {.values = 1}};
  for (int i = 1; i < rank; i++) a->shape.values *= dims[i];
  if (rank == 3 || rank == 4) {
    a->shape.channels = rank == 4 ? dims[1] : 1;
    a->shape.height = dims[rank - 2];
    a->shape.width = dims[rank - 1];
  }
  for (size_t i = 0; !st && i < list->n; i++) {
    const augment_kind *k = a->kinds[a->n++] = augment_find(list->items[i].kind);
    st = k->images && !a->shape.channels ? refuse_shape(k, dims, rank, what)
                                         : check_pixels(k, &list->items[i], &a->shape, what);
  }
  return st;
}

size_t augmenter_scratch(const augmenter *a) {
  return a->n ? 2 * (size_t)a->shape.values : 0;
}

static bool is_made(const augmenter *a, int step, const augment_draws *d) {
  const double given = a->options[step].probability;
  return augment_uniform(d, 0) < (given > 0 ? given : a->kinds[step]->probability);
}

void augmenter_apply(const augmenter *a, int64_t view, int64_t row, float *x, float *scratch) {
  for (int i = 0; i < a->n && a->kinds[i]->apply; i++) {
    const augment_draws d = draws_of(a, i, view, row);
    if (is_made(a, i, &d)) a->kinds[i]->apply(&a->options[i], &d, &a->shape, x, scratch);
  }
}

bool augmenter_moves(const augmenter *a) {
  bool moves = false;
  for (int i = 0; i < a->n; i++) moves = moves || a->kinds[i]->moves;
  return moves;
}

void augmenter_move(const augmenter *a, int64_t view, int64_t row, const augment_shape *planes, float *x,
                    float *scratch) {
  for (int i = 0; i < a->n; i++) {
    const augment_draws d = draws_of(a, i, view, row);
    if (a->kinds[i]->moves && is_made(a, i, &d)) a->kinds[i]->apply(&a->options[i], &d, planes, x, scratch);
  }
}

bool augmenter_mixes(const augmenter *a) {
  return a->n && a->kinds[a->n - 1]->mix;
}

bool augmenter_partner(const augmenter *a, int64_t view, int64_t row, augment_mix *mix) {
  *mix = (augment_mix){.partner = row, .share = 1};
  if (!augmenter_mixes(a)) return false;
  const int last = a->n - 1;
  const augment_draws d = draws_of(a, last, view, row);
  if (!is_made(a, last, &d)) return false;
  mix->partner = augment_below(&d, AUGMENT_FIRST_DRAW, a->rows);
  a->kinds[last]->draw(&a->options[last], &d, &a->shape, mix);
  return true;
}

void augmenter_mix(const augmenter *a, const augment_mix *mix, float *x, const float *partner) {
  a->kinds[a->n - 1]->mix(mix, &a->shape, x, partner);
}
