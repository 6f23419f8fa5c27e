/* Blocks of attention. Private to src/models. */
#ifndef MPISTILL_MODELS_ATTENTION_H
#define MPISTILL_MODELS_ATTENTION_H

#include "models/parts.h"

typedef struct attention {
  int64_t length, width, heads, depth;
  double dropout;
  const char *mask; /* value added to the scores, [N, 1, 1, length]; NULL: none */
} attention;

/* Local. Of the options, with their defaults; length is the caller's. */
status attention_check(const mpistill_create_options *o, attention *a);

/* depth times, over `at` [N, length, width] (Vaswani et al. 2017, with the norms before the parts):
 *     x = x + project(concat over heads of softmax(q kt / sqrt(width / heads) + mask) v)    q, k, v of
 * norm1(x) x = x + contract(gelu(expand(norm2(x))))                                              4 width
 * units then a layer norm. */
void attention_blocks(builder *b, part_name at, const attention *a);

#endif
