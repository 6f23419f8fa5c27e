/* Models exported in training mode, made ready for inference. Private to src/onnx. */
#ifndef MPISTILL_ONNX_TRAINING_MODE_H
#define MPISTILL_ONNX_TRAINING_MODE_H

#include "base/status.h"
#include "onnx/proto.h"

/* Local. Takes training mode out of every BatchNormalization (training_mode=1; before opset 14: further
 * outputs) and Dropout (a constant third input) of the graph and its branches, so that what is written back
 * is run for inference by everybody. A BatchNormalization whose further outputs somebody reads is left as it
 * is. *n counts the nodes that were changed, *first is the name of one of them, owned by the caller
 * (mem_free); both are given by the caller as 0 and NULL. */
status training_mode_end(Onnx__GraphProto *g, int opset, int *n, char **first);

/* Whether the batch norms of a model seem to be folded into its convolutions, as exports for inference do: no
 * BatchNormalization, and a Conv whose weight, or output, has a name that shows it. That weight's name, or
 * NULL. */
const char *training_mode_folded(const Onnx__GraphProto *g);

#endif
