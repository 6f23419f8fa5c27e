#include "learn/augments.h"

#include <math.h>

static void noise(const mpistill_augment *o, const augment_draws *d, const augment_shape *s, float *x,
                  float *scratch) {
  (void)scratch;
  for (int64_t i = 0; i < s->values; i += 4) {
    uint32_t words[4];
    augment_words(d, AUGMENT_MANY_DRAWS + (uint64_t)(i / 4), words);
    for (int64_t pair = 0; pair < 2; pair++) {
      const double u = ((double)words[2 * pair] + 1) * 0x1p-32, v = (double)words[2 * pair + 1] * 0x1p-32;
      const double length = o->deviation * sqrt(-2 * log(u)), angle = 6.283185307179586 * v;
      const int64_t at = i + 2 * pair;
      if (at < s->values) x[at] += (float)(length * cos(angle));
      if (at + 1 < s->values) x[at + 1] += (float)(length * sin(angle));
    }
  }
}

static const char *const keys[] = {"deviation", NULL};

const augment_kind augment_noise = {
    .name = "noise",
    .formula =
        "x + deviation * normal numbers: four of words(16 + i), which are the values 4 i to 4 i + 3, two "
        "by two sqrt(-2 log((w + 1) / 2^32)) times cos and sin of 2 pi v / 2^32; deviation 0.1 (Box and "
        "Muller 1958)",
    .options = keys,
    .probability = 1,
    .apply = noise,
};
