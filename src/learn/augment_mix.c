/* Rows mixed of two. */
#include "learn/augments.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

static double open_uniform(uint32_t word) {
  return ((double)word + 0.5) * 0x1p-32;
}

/* The logarithm of a gamma number of that shape (Marsaglia and Tsang 2000, of shape + 1 times a power of a
 * uniform one); *k: the next draw. */
static double log_gamma_number(const augment_draws *d, double shape, uint64_t *k) {
  const double a = shape + 1 - 1.0 / 3, c = 1 / sqrt(9 * a);
  for (;;) {
    uint32_t w[4];
    augment_words(d, (*k)++, w);
    const double x = sqrt(-2 * log(open_uniform(w[0]))) * cos(6.283185307179586 * open_uniform(w[1]));
    const double root = 1 + c * x, v = root * root * root;
    if (root > 0 && log(open_uniform(w[2])) < 0.5 * x * x + a * (1 - v + log(v)))
      return log(a * v) + log(open_uniform(w[3])) / shape;
  }
}

/* A number of Beta(alpha, alpha). */
static double draw_share(const augment_draws *d, double alpha) {
  uint64_t k = AUGMENT_MANY_DRAWS;
  if (alpha == 1) return augment_uniform(d, k);
  const double one = log_gamma_number(d, alpha, &k), other = log_gamma_number(d, alpha, &k);
  return 1 / (1 + exp(other - one));
}

static void draw_mixup(const mpistill_augment *o, const augment_draws *d, const augment_shape *s,
                       augment_mix *mix) {
  (void)s;
  mix->share = (double)(float)draw_share(d, o->alpha);
}

static void mixup(const augment_mix *mix, const augment_shape *s, float *x, const float *partner) {
  const float mine = (float)mix->share, other = 1 - mine;
  for (int64_t i = 0; i < s->values; i++) x[i] = mine * x[i] + other * partner[i];
}

static int64_t clamp(int64_t x, int64_t most) {
  return x < 0 ? 0 : x > most ? most : x;
}

static void draw_cutmix(const mpistill_augment *o, const augment_draws *d, const augment_shape *s,
                        augment_mix *mix) {
  const double side = 0.5 * sqrt(1 - draw_share(d, o->alpha));
  const int64_t y = augment_below(d, AUGMENT_FIRST_DRAW + 1, s->height),
                x = augment_below(d, AUGMENT_FIRST_DRAW + 2, s->width);
  const int64_t half_height = (int64_t)(side * (double)s->height),
                half_width = (int64_t)(side * (double)s->width);
  mix->top = clamp(y - half_height, s->height);
  mix->bottom = clamp(y + half_height, s->height);
  mix->left = clamp(x - half_width, s->width);
  mix->right = clamp(x + half_width, s->width);
  const int64_t area = (mix->bottom - mix->top) * (mix->right - mix->left);
  mix->share = 1 - (double)area / (double)(s->height * s->width);
}

static void cutmix(const augment_mix *mix, const augment_shape *s, float *x, const float *partner) {
  for (int64_t c = 0; c < s->channels; c++)
    for (int64_t y = mix->top; y < mix->bottom; y++) {
      const int64_t at = (c * s->height + y) * s->width + mix->left;
      memcpy(x + at, partner + at, (size_t)(mix->right - mix->left) * sizeof *x);
    }
}

static const char *const keys[] = {"alpha", NULL};

const augment_kind augment_mixup = {
    .name = "mixup",
    .formula =
        "s x + (1 - s) x', s of Beta(alpha, alpha) and x' row below(1, rows) of the split, each row with "
        "draws of its own; loss s loss(y) + (1 - s) loss(y'); alpha 1 (Zhang et al. 2018; where other "
        "systems draw one s a batch)",
    .options = keys,
    .probability = 1,
    .draw = draw_mixup,
    .mix = mixup,
};

const augment_kind augment_cutmix = {
    .name = "cutmix",
    .formula =
        "a box of row below(1, rows) in its place of the image: around (below(2, height), below(3, "
        "width)), sqrt(1 - s) of the sides, cut at the edges, s of Beta(alpha, alpha); s is then the share "
        "of the image that is left, and the loss that of mixup; alpha 1 (Yun et al. 2019; torchvision's "
        "CutMix)",
    .options = keys,
    .probability = 1,
    .images = true,
    .draw = draw_cutmix,
    .mix = cutmix,
};
