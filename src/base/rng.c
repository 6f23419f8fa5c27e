#include "base/rng.h"

#include <Random123/philox.h>
#include <math.h>

void rng_words(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index, uint32_t out[4]) {
  /* Key: the seed. Counter: index (64 bits), stream and purpose mixed into the other 64. */
  philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  philox4x32_ctr_t counter = {{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                               (uint32_t)(stream >> 32) ^ ((uint32_t)purpose << 24)}};
  philox4x32_ctr_t words = philox4x32(counter, key);
  for (int i = 0; i < 4; i++) out[i] = words.v[i];
}

float rng_uniform(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index) {
  uint32_t words[4];
  rng_words(seed, purpose, stream, index, words);
  return (float)(words[0] >> 8) * 0x1p-24f;
}

float rng_normal(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index) {
  uint32_t words[4];
  rng_words(seed, purpose, stream, index, words);
  double u = ((double)words[0] + 1.0) * 0x1p-32; /* (0, 1] */
  double v = (double)words[1] * 0x1p-32;
  return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

void rng_permutation(uint64_t seed, rng_purpose purpose, uint64_t stream, int64_t n, int64_t *order) {
  rng_shuffle(seed, purpose, stream, 0, n, order);
}

void rng_shuffle(uint64_t seed, rng_purpose purpose, uint64_t stream, int64_t first, int64_t n,
                 int64_t *order) {
  for (int64_t i = 0; i < n; i++) order[i] = first + i;
  for (int64_t i = n - 1; i > 0; i--) {
    uint32_t words[4];
    rng_words(seed, purpose, stream, (uint64_t)(first + i), words);
    /* The high half of a 64 x 64 bit product: even to within 2^-40 for any n below 2^24, without a loop. */
    uint64_t draw = (uint64_t)words[0] << 32 | words[1];
    int64_t j = (int64_t)(((unsigned __int128)draw * (uint64_t)(i + 1)) >> 64);
    int64_t t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
}
