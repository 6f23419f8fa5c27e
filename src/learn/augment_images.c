/* Images moved and mirrored. */
#include "learn/augments.h"

#include <string.h>

/* Row y of a plane moved by dx, what comes in from outside 0. */
static void move_row(const float *from, int64_t width, int64_t dx, float *to) {
  const int64_t begin = dx > 0 ? dx : 0, end = dx < 0 ? width + dx : width;
  memset(to, 0, (size_t)begin * sizeof *to);
  memcpy(to + begin, from + begin - dx, (size_t)(end - begin) * sizeof *to);
  memset(to + end, 0, (size_t)(width - end) * sizeof *to);
}

static void move(const augment_shape *s, int64_t dy, int64_t dx, float *x, float *scratch) {
  memcpy(scratch, x, (size_t)s->values * sizeof *x);
  for (int64_t c = 0; c < s->channels; c++)
    for (int64_t y = 0; y < s->height; y++) {
      float *to = x + (c * s->height + y) * s->width;
      if (y - dy < 0 || y - dy >= s->height)
        memset(to, 0, (size_t)s->width * sizeof *to);
      else
        move_row(scratch + (c * s->height + y - dy) * s->width, s->width, dx, to);
    }
}

static void shift(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, float *x,
                  float *scratch) {
  const int64_t dy = augment_below(d, AUGMENT_FIRST_DRAW, 2 * o->pixels + 1) - o->pixels;
  const int64_t dx = augment_below(d, AUGMENT_FIRST_DRAW + 1, 2 * o->pixels + 1) - o->pixels;
  move(s, dy, dx, x, scratch);
}

static void flip(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, float *x,
                 float *scratch) {
  (void)o, (void)d, (void)scratch;
  for (int64_t r = 0; r < s->channels * s->height; r++, x += s->width)
    for (int64_t i = 0; i < s->width / 2; i++) {
      const float t = x[i];
      x[i] = x[s->width - 1 - i];
      x[s->width - 1 - i] = t;
    }
}

/* The place in 0..n-1 that stands at i where the image is mirrored at its edges, which are not repeated. */
static int64_t reflected(int64_t i, int64_t n) {
  if (i < 0) i = -i;
  return i < n ? i : 2 * n - 2 - i;
}

static void crop(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, float *x,
                 float *scratch) {
  const int64_t top = augment_below(d, AUGMENT_FIRST_DRAW, 2 * o->padding + 1);
  const int64_t left = augment_below(d, AUGMENT_FIRST_DRAW + 1, 2 * o->padding + 1);
  if (!o->reflect) {
    move(s, o->padding - top, o->padding - left, x, scratch);
    return;
  }
  memcpy(scratch, x, (size_t)s->values * sizeof *x);
  for (int64_t c = 0; c < s->channels; c++)
    for (int64_t y = 0; y < s->height; y++) {
      const float *from = scratch + (c * s->height + reflected(y + top - o->padding, s->height)) * s->width;
      for (int64_t i = 0; i < s->width; i++) *x++ = from[reflected(i + left - o->padding, s->width)];
    }
}

static const char *const shift_keys[] = {"pixels", NULL}, *const flip_keys[] = {NULL},
                         *const crop_keys[] = {"padding", "reflect", NULL};

const augment_kind augment_shift = {
    .name = "shift",
    .formula =
        "images moved by below(1, 2 pixels + 1) - pixels downwards and by below(2, 2 pixels + 1) - pixels "
        "to the right; 0 comes in; pixels 2 (Hinton et al. 2015)",
    .options = shift_keys,
    .probability = 1,
    .images = true,
    .moves = true,
    .apply = shift,
};

const augment_kind augment_flip = {
    .name = "flip",
    .formula = "images mirrored, left to right; probability 0.5 (Krizhevsky et al. 2012)",
    .options = flip_keys,
    .probability = 0.5,
    .images = true,
    .moves = true,
    .apply = flip,
};

const augment_kind augment_crop = {
    .name = "crop",
    .formula =
        "images padded on all sides, by 0 or mirrored at the edge (reflect), and cut to their size from "
        "row below(1, 2 padding + 1) and column below(2, 2 padding + 1) on; padding 4 (He et al. 2016; "
        "PyTorch's RandomCrop)",
    .options = crop_keys,
    .probability = 1,
    .images = true,
    .moves = true,
    .apply = crop,
};
