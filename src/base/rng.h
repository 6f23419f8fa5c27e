/* Counter-based random numbers (Philox4x32-10 of Random123; Salmon et al., SC'11).
 * A number is a pure function of (seed, purpose, stream, index): never of the rank, the thread or what was
 * drawn before. */
#ifndef MPISTILL_BASE_RNG_H
#define MPISTILL_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef enum rng_purpose {                     /* part of the key: never renumber */
                           RNG_INITIALISE = 1, /* stream: parameter index */
                           RNG_ORDER = 2,      /* stream: epoch */
                           RNG_DROPOUT = 3,    /* stream: node and step; index: row of the dataset, element */
                           RNG_AUGMENT = 4,
                           RNG_SPLIT = 5,
                           RNG_NOISE = 6,
                           RNG_COMBINE = 7, /* stream: what is drawn (learn/combines.h); index: row of the
                                               dataset, class */
                           RNG_WINDOWS = 8  /* stream: epoch */
} rng_purpose;

/* Four random words. */
void rng_words(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index, uint32_t out[4]);

/* One number of [0, 1) with 24 bits. */
float rng_uniform(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index);

/* One standard normal number (Box-Muller). */
float rng_normal(uint64_t seed, rng_purpose purpose, uint64_t stream, uint64_t index);

/* order[n] becomes a uniformly drawn permutation of 0..n-1 (Fisher-Yates): the sample order of epoch
 * `stream`. */
void rng_permutation(uint64_t seed, rng_purpose purpose, uint64_t stream, int64_t n, int64_t *order);
/* The same of first..first+n-1, with draws that those of other ranges do not have. */
void rng_shuffle(uint64_t seed, rng_purpose purpose, uint64_t stream, int64_t first, int64_t n,
                 int64_t *order);

#endif
