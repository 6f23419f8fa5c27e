/* ONNX files: read into a graph, written back with new weights, built afresh. */
#ifndef MPISTILL_ONNX_MODEL_H
#define MPISTILL_ONNX_MODEL_H

#include "graph/graph.h"

#include <stdint.h>

/* A file as it was read, so that what training does not change (names, metadata, opset) is written back as it
 * was. */
typedef struct model model;

/* What is told of a file besides what its graph is; no pointers, so that ranks can hand it on. */
typedef struct model_origin {
  uint64_t hash;
  int64_t bytes;
  int64_t n_ended; /* nodes that were exported in training mode */
  char ended[128]; /* the first of them, cut */
  int64_t
      n_parted; /* tensors that an exporter had merged with others and that have numbers of their own here */
  char parted[128]; /* the first of them, cut */
} model_origin;

/* Local. Reads a file, and the files in its folder or below that hold data of its tensors (external data).
 * STATUS_BAD_INPUT naming the file for anything that is not a model we can run; all operators that are not
 * known, or attributes not understood, are listed at once with their node names. Limits checked before
 * unpacking: nesting 64, lengths within the file. Outputs that are strings are left out where there are
 * others.
 */
status model_read(model **out, const char *path);
/* Local. The same from memory (borrowed during the call); `name` stands in messages, and is the path that
 * external data is looked for beside. */
status model_parse(model **out, const char *name, const void *bytes, size_t n);
/* Local. The file without the numbers of parameters and statistics, for other ranks of the node: *bytes owned
 * by the caller (mem_free). NULL, and *n 0, of a model with Ifs or loops, which may follow from them. */
status model_pack_shell(const model *m, unsigned char **bytes, size_t *n);
/* Local. The model of such bytes; its numbers are those of `block`, borrowed until model_free, which holds
 * what graph_initial_block writes. `from` is what model_origin_of says of the model itself. */
status model_parse_shell(model **out, const char *name, const void *bytes, size_t n, float *block,
                         const model_origin *from);
model_origin model_origin_of(const model *m);
/* That block, NULL of a model that holds its numbers itself. */
const float *model_block(const model *m);
void model_free(model **m);

const graph *model_graph(const model *m); /* owned by the model */
const char *model_path(const model *m);
uint64_t model_hash(const model *m); /* XXH3 of the file's bytes, and of external data behind them */
int64_t model_bytes(const model *m); /* of the file and of external data */
/* Numbers that training has changed; of a quantised model also those it holds as integers. */
int64_t model_parameters(const model *m);

/* Local. Frees the file's parameters and statistics (graph_drop_data), where a block holds them. */
void model_drop_data(model *m);

/* Local. Writes the model with parameters and statistics from block[n_block] to `path` (through a temporary
 * file, flushed, renamed). The bytes depend on nothing but the model and the block. A model of 2 GiB and
 * more, which no ONNX file can hold, leaves the data of its tensors in PATH.data (without a ".part" at the
 * end of PATH); a model that stood there before is removed first. */
status model_write(const model *m, const float *block, const char *path);
/* Local. The same with PATH.data when the tensors have more than inline_max bytes. */
status model_write_split(const model *m, const float *block, const char *path, int64_t inline_max);
/* Local. The same into memory, in one piece: *bytes owned by the caller (mem_free). */
status model_pack(const model *m, const float *block, unsigned char **bytes, size_t *n);

/* What an ONNX file declares, for inspect: opset, producer, inputs, outputs. */
int model_opset(const model *m);
const char *model_producer(const model *m);

/* A node that the file has in training mode (of *n of them), NULL if none: here, and in what model_write
 * writes, they are in inference mode. */
const char *model_training_node(const model *m, int *n);
/* The first of *n tensors that an exporter had merged with others, because all began with the same numbers,
 * and that are tensors of their own here and in what model_write writes; NULL if none. */
const char *model_parted_weight(const model *m, int *n);
/* The first of *n parameters that several layers of one kind read, so that they are trained as one; NULL if
 * none. */
const char *model_tied_weight(const model *m, int *n);
/* The weight of a convolution that a batch norm seems to be folded into by an export for inference, or NULL.
 */
const char *model_folded_weight(const model *m);

#endif
