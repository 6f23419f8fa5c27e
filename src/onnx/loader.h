/* What the files that turn a ModelProto into a graph share. */
#ifndef MPISTILL_ONNX_LOADER_H
#define MPISTILL_ONNX_LOADER_H

#include "graph/graph.h"
#include "onnx/proto.h"

/* One GraphProto on its way into the graph: the model's, or a branch of an If, whose values have names of
 * their own (prefix) and which sees those around it. */
typedef struct loader {
  const char *name; /* of the file */
  const Onnx__ModelProto *proto;
  const Onnx__GraphProto *from;
  graph *g;
  int *initializers;       /* -1: strings, which no node that is wanted may read */
  bool *wanted;            /* [nodes] */
  const struct loader *up; /* what is around a branch, NULL for the model */
  const char *prefix;      /* "" for the model */
  int *n_branches;         /* of the model so far */
  float *block;            /* NULL, or what stands in for data of initializers that have none */
} loader;

/* Local. The value of that name, here or around; -1 if there is none. */
int loader_find(const loader *l, const char *name);
/* Local. "conv1", or "Conv_3" by type and position where the file has no name, behind the prefix. Owned by
 * the caller. */
status loader_title(const loader *l, size_t node, char **out);
/* Local. Puts the name of the file before the message of a graph, which does not know it. */
status loader_name_file(const loader *l, status st);
/* Local. Adds initializers and nodes of l->from to the graph. */
status loader_add_branch(loader *l);

/* Local. Whether a node is an If of ONNX. */
bool branch_is(const Onnx__NodeProto *n);
/* Local. Adds the nodes of one of the branches of node i, an If, in its place. Which one must follow from
 * shapes and fixed data, whatever the number of rows; else STATUS_BAD_INPUT. */
status branch_add(loader *l, size_t i);

#endif
