/* The rows of the table of augmentations. */
#ifndef MPISTILL_LEARN_AUGMENTS_H
#define MPISTILL_LEARN_AUGMENTS_H

#include "learn/augment.h"

extern const augment_kind augment_shift, augment_flip, augment_crop, augment_noise, augment_mixup,
    augment_cutmix;

/* Where a kind's own draws begin: 0 decides whether the change is made at all. */
enum { AUGMENT_FIRST_DRAW = 1, AUGMENT_MANY_DRAWS = 16 };

/* words(k). */
void augment_words(const augment_draws *d, uint64_t k, uint32_t words[4]);

#endif
