/* What the files that turn a ModelProto into a graph share. */
#ifndef MPISTILL_ONNX_LOADER_H
#define MPISTILL_ONNX_LOADER_H

#include "graph/graph.h"
#include "onnx/proto.h"

/* One GraphProto on its way into the graph: the model's, a branch of an If, or the body of a loop in one of
 * its turns, whose values have names of their own (prefix) and which see those around them. */
typedef struct loader {
  const char *name; /* of the file */
  const Onnx__ModelProto *proto;
  const Onnx__GraphProto *from;
  graph *g;
  int *initializers;       /* -1: strings, which no node that is wanted may read */
  bool *wanted;            /* [nodes] NULL: all of them */
  const struct loader *up; /* what is around, NULL for the model */
  const char *prefix;      /* "" for the model */
  const int *bound;        /* [inputs] what the body of a loop reads in this turn, NULL of all else */
  int64_t *work;           /* what Ifs and loops of the model have cost so far: loader_spend */
  struct sequences *lists; /* sequence.c */
  float *block;            /* NULL, or what stands in for data of initializers that have none */
} loader;

/* Local. The value of that name, here or around; -1 if there is none. */
int loader_find(const loader *l, const char *name);
/* Local. "conv1", or "Conv_3" by type and position where the file has no name, behind the prefix. Owned by
 * the caller. */
status loader_title(const loader *l, size_t node, char **out);
/* Local. Puts the name of the file before the message of a graph, which does not know it. */
status loader_name_file(const loader *l, status st);
/* Local. Adds initializers (in a turn of a loop: none) and nodes of l->from to the graph: those wanted. */
status loader_add_branch(loader *l);
/* Local. STATUS_BAD_INPUT when Ifs and loops cost more than LOADER_WORK_MAX bytes, about, of memory. */
status loader_spend(const loader *l, size_t bytes);
/* Local. A value that follows from shapes and fixed data and is the same for any number of rows: *out is the
 * caller's (mem_free), NULL of all others. */
status loader_probe(const loader *l, int value, tensor **out);
/* Local. to = Identity(from), to a value of l by its name in the file; nothing for "". `what` names the node
 * in messages. */
status loader_connect(const loader *l, int from, const char *to, const char *what);
/* Local. A node of one output, *out, which gets the node's name if it is not there yet (-1). Takes its only
 * attribute, NULL: none. */
status loader_node(const loader *l, const char *domain, const char *type, int opset, const int *inputs, int n,
                   attribute *take, const char *name, int *out);
/* Local. An attribute that is one number, or a list of one. */
status loader_axis(attribute **out, const char *name, int64_t axis, bool list);
/* Local. A fixed value of that name: a tensor, which is taken, or one int64 or bool. */
status loader_constant(const loader *l, const char *name, tensor *take, int *out);
status loader_number(const loader *l, const char *name, dtype type, int64_t number, int *out);
/* Local. How many places a value has along an axis; -1 when the number of rows decides. `name` is for what is
 * put into the graph to find it. */
status loader_length(const loader *l, int value, int64_t axis, const char *name, int64_t *out);
/* Local. An attribute of a node, NULL if there is none; and the graph in it. */
const Onnx__AttributeProto *loader_attribute(const Onnx__NodeProto *n, const char *name);
const Onnx__GraphProto *loader_subgraph(const Onnx__NodeProto *n, const char *name);

/* A kind of node of which nobody knows once the graph is there: what it holds has taken its place. */
typedef struct inlined {
  const char *name;
  int since;         /* the first opset */
  size_t min_inputs; /* of which none but may_lack may be left out */
  size_t may_lack;   /* the first inputs that may */
  /* Local. Adds what stands for node i. STATUS_BAD_INPUT when that does not follow from shapes and fixed
   * data, whatever the number of rows. */
  status (*add)(loader *l, size_t i);
} inlined;

/* Local. NULL: a node as others are. */
const inlined *inlined_find(const Onnx__NodeProto *n);

status branch_add(loader *l, size_t i);
status loop_add(loader *l, size_t i);
status scan_add(loader *l, size_t i);
status sequence_add(loader *l, size_t i);

/* A sequence of tensors is no value of the graph: here is what it holds. */
typedef struct sequence {
  int value; /* without a producer */
  int n;
  int *items; /* [n] values */
} sequence;

/* Local. NULL: it is none. */
const sequence *sequence_find(const loader *l, int value);
/* Local. Copies items. */
status sequence_set(const loader *l, int value, const int *items, int n);
status sequences_new(struct sequences **all);
void sequences_free(struct sequences **all);

#endif
