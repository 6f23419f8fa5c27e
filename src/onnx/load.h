/* ModelProto -> graph. Private to src/onnx. */
#ifndef MPISTILL_ONNX_LOAD_H
#define MPISTILL_ONNX_LOAD_H

#include "graph/graph.h"
#include "onnx/proto.h"

/* Local. A finished graph, and the value of each initializer of the file: (*initializers)[i] belongs to
 * proto->graph->initializer[i], -1 if that holds strings; both owned by the caller. `name` begins every
 * message. block: NULL, or where the numbers of parameters and statistics are (graph_initial_block),
 * borrowed; initializers among them may then lack their data. */
status load_graph(graph **out, int **initializers, const char *name, Onnx__ModelProto *proto, float *block);
/* Whether load_graph has moved the tensor's data, a large one of floats, into the graph: so there is never
 * more than one large tensor of a model in memory twice. */
bool load_took_data(const Onnx__TensorProto *t);

/* The version of a domain ("" and "ai.onnx" are the same) that a model imports; 0: not imported. */
int load_opset(const Onnx__ModelProto *proto, const char *domain);

#endif
