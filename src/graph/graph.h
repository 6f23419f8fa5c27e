/* A model: values (edges) and nodes (operators), as an ONNX file gives them. Immutable once graph_finish
 * succeeded, so any number of plans on any number of threads share one graph.
 *
 *     graph *g;
 *     graph_new(&g);
 *     int x = ..., w = ..., y = ...;
 *     graph_add_input(g, "image", DTYPE_FLOAT, &shape_x, &x);    // dims[0] = -1: rows
 *     graph_add_constant(g, "fc.weight", true, tensor_w, &w);    // takes tensor_w; true: an initializer
 *     graph_add_value(g, "logits", &y);
 *     graph_add_node(g, "fc", op_find("", "Gemm", 13), 13, (int[]){x, w}, 2, &y, 1, attributes, n);
 *     graph_add_output(g, y);
 *     graph_finish(g);                                           // order, parameters, checks
 *
 * The op pointers come from whoever builds the graph (src/onnx), so this layer knows no operator. */
#ifndef MPISTILL_GRAPH_GRAPH_H
#define MPISTILL_GRAPH_GRAPH_H

#include "graph/tensor.h"

typedef struct op op; /* graph/op.h */

typedef enum value_kind {
  VALUE_COMPUTED = 0, /* an output of a node */
  VALUE_INPUT,        /* given for every batch */
  VALUE_CONSTANT,     /* fixed data */
  VALUE_PARAMETER,    /* float initializer that training may change; data lives in the parameter block */
  VALUE_STATISTIC     /* float initializer that training replaces by running batch statistics; in the block as
                         well */
} value_kind;

typedef struct value {
  char *name;
  value_kind kind;
  dtype type;
  shape shape;      /* inputs and constants: known; computed: filled by each plan, not here */
  tensor *constant; /* CONSTANT, PARAMETER, STATISTIC: the data of the file, owned */
  bool initializer; /* an initializer of the file: becomes a parameter if a gradient reaches it */
  int64_t offset;   /* PARAMETER, STATISTIC: first float of it in the parameter block */
  int producer;     /* node index, -1 if none */
  int n_uses;       /* node inputs and graph outputs that read it */
} value;

typedef enum attribute_type {
  ATTRIBUTE_INT,
  ATTRIBUTE_FLOAT,
  ATTRIBUTE_STRING,
  ATTRIBUTE_INTS,
  ATTRIBUTE_FLOATS,
  ATTRIBUTE_STRINGS,
  ATTRIBUTE_TENSOR
} attribute_type;

typedef struct attribute {
  char *name;
  attribute_type type;
  int64_t i;
  float f;
  char *s;   /* NUL-terminated copy */
  int64_t n; /* INTS, FLOATS, STRINGS */
  int64_t *ints;
  float *floats;
  char **strings;
  tensor *t;
} attribute;

typedef struct node {
  char *name; /* never empty: "Conv_3" (type and position) where the file has none */
  const op *op;
  int opset; /* version of the operator's domain the model imports */
  int n_inputs, n_outputs;
  int *inputs;  /* value indices, -1: optional and absent */
  int *outputs; /* likewise */
  int n_attributes;
  attribute *attributes;
} node;

typedef struct graph {
  int n_values, n_nodes, n_inputs, n_outputs;
  value *values;
  node *nodes; /* after graph_finish: in an order that can be executed, those that no output needs left out */
  int *inputs; /* value indices */
  int *outputs;
  int64_t n_block; /* floats of the parameter block: parameters and statistics, each at a multiple of 16 */
  int64_t n_parameters; /* numbers that training changes (statistics not counted) */
} graph;

/* Local, all of them. Names are copied, tensors and attributes taken (also on failure). Indices come back
 * through `out`. */
status graph_new(graph **out);
void graph_free(graph **g);
status graph_add_input(graph *g, const char *name, dtype type, const shape *s, int *out);
status graph_add_constant(graph *g, const char *name, bool initializer, tensor *take, int *out);
status graph_add_value(graph *g, const char *name, int *out);
status graph_add_node(graph *g, const char *name, const op *op, int opset, const int *inputs, int n_inputs,
                      const int *outputs, int n_outputs, attribute *take, int n_attributes);
status graph_add_output(graph *g, int value);

/* Sorts the nodes topologically (a cycle or a value without producer is STATUS_BAD_INPUT naming it), drops
 * unused nodes and inputs, and makes every float initializer of one dimension or more, but masks of scores,
 * that reaches an output through differentiable inputs (op.differentiable) a PARAMETER, or a STATISTIC where
 * op.statistics says so. Offsets follow the order of first use. */
status graph_finish(graph *g);

/* Writes the file's data of all parameters and statistics into block[n_block] (gaps zero). */
void graph_initial_block(const graph *g, float *block);
/* Frees that data: whoever has the block needs it no more. graph_initial_block is not to be called again. */
void graph_drop_data(graph *g);

/* Value index by name, -1 if none. For load time, not for loops. */
int graph_find(const graph *g, const char *name);

void attribute_clear(attribute *a);

/* An attribute of a node, NULL if absent; and the usual kinds with their default. */
const attribute *node_attribute(const node *n, const char *name);
int64_t node_int(const node *n, const char *name, int64_t fallback);
float node_float(const node *n, const char *name, float fallback);
const char *node_string(const node *n, const char *name, const char *fallback);

#endif
