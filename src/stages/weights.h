/* The parameters of several teachers, once a node: ranks of a node that hold the same teacher read one copy.
 */
#ifndef MPISTILL_STAGES_WEIGHTS_H
#define MPISTILL_STAGES_WEIGHTS_H

#include "comm/comm.h"
#include "mpistill/mpistill.h"
#include "onnx/model.h"

typedef struct weights weights;

/* One of the teachers. */
typedef struct weights_of {
  const char *model; /* file */
  uint64_t hash;     /* model_hash that it must have */
  int64_t n_floats;  /* of its parameter block; 0: it is not wanted */
} weights_of;

/* Collective. Reads each file on one rank of every node, which hands the graph to the others. *out is NULL,
 * and ranks hold their own, where a node has one rank, where memory cannot be shared, and where all teachers
 * together are more than what the node's ranks hold with one each. */
status weights_new(weights **out, comm *c, const weights_of *teachers, int n);
void weights_free(weights **w); /* collective */
/* Local. The block of teacher i (graph.h), NULL when each rank holds its own. */
const float *weights_block(const weights *w, int i);
/* Local. The model of teacher i, whose file is `name` and not read again: its numbers are in that block. *out
 * (model_free) is NULL when the rank must read it. */
status weights_model(const weights *w, int i, const char *name, model **out);

#endif
