/* Files beside a model that hold the numbers of its tensors (ONNX's external data). Private to src/onnx and
 * to tests.
 *
 * A tensor names such a file by a path from the model's folder, where in it its bytes begin and how many they
 * are. A path that leads out of the folder, also by a symbolic link, is refused: a model from elsewhere must
 * not read what lies around it. */
#ifndef MPISTILL_ONNX_SIDE_H
#define MPISTILL_ONNX_SIDE_H

#include "base/hash.h"
#include "onnx/proto.h"

/* Local. Reads the data of every initializer, and of every tensor in an attribute, that is kept in another
 * file into the message itself, as if it had been there, and adds it to h. *n_bytes += what was read. */
status side_load(Onnx__GraphProto *g, const char *model_path, hash_stream *h, int64_t *n_bytes);

/* A file that is being written beside a model. */
typedef struct side_file side_file;
/* Local. MODEL_PATH.data, under a name of its own until side_commit; ".part" at the end of the model's path
 * is not part of its name. */
status side_create(side_file **out, const char *model_path);
/* Local. Appends bytes, at a multiple of 4096, and makes t refer to them instead of holding data. What t then
 * points to belongs to the side_file. */
status side_add(side_file *f, Onnx__TensorProto *t, const void *bytes, size_t n);
/* Local. Flushes the file and puts it under its name. A model that stands beside it refers to other data and
 * is removed first. */
status side_commit(side_file *f);
void side_free(side_file **f); /* also removes what was not committed */

#endif
