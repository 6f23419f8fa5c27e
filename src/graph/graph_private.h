/* What the files of this folder share about graphs. */
#ifndef MPISTILL_GRAPH_GRAPH_PRIVATE_H
#define MPISTILL_GRAPH_GRAPH_PRIVATE_H

#include "graph/op.h"

/* Whether a mask of op.differentiable or op.statistics holds for input i: its last bit speaks for all later
 * inputs. */
static inline bool op_mask_has(uint32_t mask, int i) {
  return mask >> (i < 31 ? i : 31) & 1;
}

void node_clear(node *n);

#endif
