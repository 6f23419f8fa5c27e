/* Random changes of rows for training: one struct a kind, one row in augment.c.
 *
 * A view is one drawing of all changes of all rows; training sees another one each epoch. What a row is in a
 * view is a pure function of (seed, view, row): the same for any rank, order and shard, so that teachers can
 * be asked about it beforehand and again. Changes are made in the order they are listed, to what a model sees
 * (scale and offset applied).
 *
 * The draws, to do the same elsewhere: words(k) = rng_words(seed, RNG_AUGMENT, view << 8 | place in the list,
 * row << 24 | k); uniform(k) = (words(k)[0] >> 8) / 2^24; below(k, n) = the high half of n times the 64-bit
 * number words(k)[0] << 32 | words(k)[1]. A change is made where uniform(0) < probability. */
#ifndef MPISTILL_LEARN_AUGMENT_H
#define MPISTILL_LEARN_AUGMENT_H

#include "base/status.h"
#include "mpistill/mpistill.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AUGMENT_MAX_STEPS = 16 };

/* What a row is: an image [channels, height, width], or `values` numbers (channels 0). */
typedef struct augment_shape {
  int64_t values, channels, height, width;
} augment_shape;

/* Of one change of one row of one view. */
typedef struct augment_draws {
  uint64_t seed, stream, first;
} augment_draws;
double augment_uniform(const augment_draws *d, uint64_t k);
int64_t augment_below(const augment_draws *d, uint64_t k, int64_t n);

/* How a row is mixed with another one. */
typedef struct augment_mix {
  int64_t partner; /* the other row */
  double share;    /* of the row itself: loss = share * loss(its label) + (1 - share) * loss(partner's) */
  int64_t top, left, bottom, right; /* cutmix: the box that is the partner's */
} augment_mix;

typedef struct augment_kind {
  const char *name;    /* "shift" */
  const char *formula; /* what it draws and does, with source and defaults */
  const char *const
      *options;       /* keys of mpistill_augment that it reads beside kind and probability, NULL-ended */
  double probability; /* where the options give none */
  bool images;        /* rows must be images */
  bool moves; /* apply moves pixels about, 0 coming in, and changes none: labels of pixels move alike */
  /* Changes x[values] in place; scratch[values]. NULL for kinds that mix. */
  void (*apply)(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, float *x,
                float *scratch);
  /* Kinds that mix, each row with one drawn from all rows of the split, which has been changed by what stands
   * before in the list as in its own place of the same view. */
  void (*draw)(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, augment_mix *mix);
  void (*mix)(const augment_mix *mix, const augment_shape *s, float *x, const float *partner);
} augment_kind;

const augment_kind *const *augment_kinds(void); /* NULL-ended */
const augment_kind *augment_find(const char *name);
bool augment_reads(const augment_kind *k, const char *key);

/* A list of changes for the rows of one array. */
typedef struct augmenter {
  int n; /* 0: rows stay as they are */
  const augment_kind *kinds[AUGMENT_MAX_STEPS];
  const mpistill_augment *options; /* [n], borrowed */
  augment_shape shape;
  int64_t rows; /* of the split */
  uint64_t seed;
} augmenter;

/* Local. STATUS_BAD_INPUT for kinds or lists that cannot be, whatever the rows. */
status augment_check(const mpistill_augments *list);
/* Local. dims[rank]: of the rows' array; images have rank 3 [n, H, W] or 4 [n, C, H, W]. `what` names the
 * array in messages. STATUS_BAD_INPUT where a kind is not for such rows. list is borrowed. */
status augmenter_make(augmenter *a, const mpistill_augments *list, const int64_t *dims, int rank,
                      uint64_t seed, const char *what);
/* Floats of scratch for the two calls below. */
size_t augmenter_scratch(const augmenter *a);
/* Local. All changes but the mixing; x[values] in place. */
void augmenter_apply(const augmenter *a, int64_t view, int64_t row, float *x, float *scratch);
bool augmenter_mixes(const augmenter *a);
/* Whether labels of pixels are to be moved with the image. */
bool augmenter_moves(const augmenter *a);
/* Local. Only what moves, to planes[values] of the images' height and width; scratch: as many floats. */
void augmenter_move(const augmenter *a, int64_t view, int64_t row, const augment_shape *planes, float *x,
                    float *scratch);
/* Local. The row's partner; false: it is not mixed in this view (partner: itself, share: 1). */
bool augmenter_partner(const augmenter *a, int64_t view, int64_t row, augment_mix *mix);
/* Local. partner[values]: the other row, changed by augmenter_apply. */
void augmenter_mix(const augmenter *a, const augment_mix *mix, float *x, const float *partner);

#endif
