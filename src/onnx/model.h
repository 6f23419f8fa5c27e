/* ONNX files: read into a graph, written back with new weights, built afresh. */
#ifndef MPISTILL_ONNX_MODEL_H
#define MPISTILL_ONNX_MODEL_H

#include "graph/graph.h"

#include <stdint.h>

/* A file as it was read, so that what training does not change (names, metadata, opset) is written back as it was. */
typedef struct model model;

/* Local. Reads a file. STATUS_BAD_INPUT naming the file for anything that is not a model we can run; all operators that are not
 * known, or attributes not understood, are listed at once with their node names. Limits checked before unpacking: nesting 64,
 * lengths within the file. */
status model_read(model **out, const char *path);
/* Local. The same from memory (borrowed during the call); `name` stands in messages. */
status model_parse(model **out, const char *name, const void *bytes, size_t n);
void model_free(model **m);

const graph *model_graph(const model *m); /* owned by the model */
const char *model_path(const model *m);
uint64_t model_hash(const model *m);      /* XXH3 of the file's bytes */
int64_t model_bytes(const model *m);      /* size of the file */

/* Local. Writes the model with parameters and statistics from block[n_block] to `path` (through a temporary file, flushed,
 * renamed). The bytes depend on nothing but the model and the block. */
status model_write(const model *m, const float *block, const char *path);
/* Local. The same into memory: *bytes owned by the caller (mem_free). */
status model_pack(const model *m, const float *block, unsigned char **bytes, size_t *n);

/* What an ONNX file declares, for inspect: opset, producer, inputs, outputs. */
int model_opset(const model *m);
const char *model_producer(const model *m);

#endif
