/* What an operator is: one const struct of small functions, one row in src/ops/ops.def.
 *
 * A plan makes one `step` per node and calls, in this order:
 *     infer      once   types and shapes of the outputs from those of the inputs
 *     prepare    once   primitives, tables, scratch sizes (optional)
 *     load       when parameters have changed: repack weights (optional)
 *     forward    every batch
 *     backward   every batch when training, in reverse order (optional)
 *     release    once   what prepare made (optional); also after a prepare that failed half-way
 * Between prepare and release nothing may allocate. Arrays are row-major (but see op.blocks) and 64-byte
 * aligned except parameters, which are aligned to 64 bytes as well. Pointers in `in`, `out`, `din`, `dout`
 * stay the same tensors for the life of a plan; their `data` may change between batches, so read it in
 * forward and backward, not in prepare. */
#ifndef MPISTILL_GRAPH_OP_H
#define MPISTILL_GRAPH_OP_H

#include "graph/graph.h"

typedef struct run_context { /* what a batch brings besides its arrays */
  bool training;             /* Dropout drops, BatchNormalization uses the batch */
  uint64_t seed;             /* of the run */
  uint64_t step;             /* global optimisation step: part of every random stream */
  const int64_t *rows;       /* [rows] ids of the samples in the dataset, NULL: 0, 1, 2, ... */
  float row_share;           /* rows of this shard / rows of the global batch: weight of batch statistics */
} run_context;

typedef struct step {
  const op *op;
  const node *node;
  const graph *graph;
  int index; /* of the node in graph->nodes: the random stream of the node */
  int n_in, n_out;
  tensor **in;          /* [n_in], NULL where absent. in[i]->data is set in infer for constants */
  tensor **out;         /* [n_out], NULL where absent or not used; out[0] is there if the file names any */
  tensor **din;         /* [n_in] gradient of in[i], NULL where none is wanted; the same tensor at two i when
                           in[] is (x * x): write in ascending order of i */
  tensor **dout;        /* [n_out] gradient of out[i], NULL where nothing depends on it */
  bool *accumulate;     /* [n_in] din[i] holds a part already: add to it; false: overwrite all of it */
  bool *constant;       /* [n_in] in[i] is fixed data (not a parameter): prepare may use its values */
  bool empty;           /* all its outputs are without elements: forward is not called */
  bool reference;       /* use the plain reference kernel, not a library */
  bool training;        /* the plan was made for training: backward may follow */
  bool frozen;          /* its running statistics stay as they are, and are used, in training as well */
  int64_t rows;         /* of the plan: its random streams belong to rows (0: as many as in[0] has) */
  size_t scratch_bytes; /* set by prepare: memory needed within one call, shared by all steps */
  void *scratch;        /* given before forward/backward; not zeroed */
  int overwrites; /* set by prepare: 1 + the input whose memory output 0 may be given as with OP_IN_PLACE; 0:
                     as op.flags say */
  size_t saved_bytes; /* set by prepare: memory kept from forward to backward (masks, indices, statistics) */
  void *saved;
  void *state;                  /* owned by the op: made in prepare, freed in release */
  const struct step *followers; /* [n_followers] the steps it does as well (op.absorb), first to last. Their
                                   other inputs stand behind its own in in[], one after the other */
  int n_followers;
  const run_context *run;
  bool *invalid; /* of the plan: forward sets it where a result is no number and what follows would hide that;
                    then all outputs and taps become NaN */
} step;

/* op.flags */
enum {
  /* Output 0 is input 0's memory under another shape: forward and backward copy nothing when the plan shares
   * the storage, and copy when out->data != in->data (din->data != dout->data). */
  OP_VIEW = 1,
  /* Output 0 may be given input 0's memory when nobody needs that any more (same type and count); din[0] may
   * likewise be dout[0]'s when no other din is wanted. */
  OP_IN_PLACE = 2,
  /* Not to be folded. */
  OP_RANDOM = 4,
  /* With OP_IN_PLACE: also where several din are wanted, any one of them. Backward writes that one last. */
  OP_ANY_IN_PLACE = 8
};

/* op.keeps: what backward reads beside dout and saved; all others may be overwritten after forward. */
enum {
  KEEP_IN0 = 1 << 0,
  KEEP_IN1 = 1 << 1,
  KEEP_IN2 = 1 << 2,
  KEEP_IN3 = 1 << 3,
  KEEP_IN_ALL = 0xffff,
  KEEP_OUT0 = 1 << 16,
  KEEP_OUT1 = 1 << 17
};

#define OP_EVERY_INPUT 0xffffffffu

/* While a plan's steps are merged: the step whose output 0 is a value, NULL where there is none and for -1;
 * `alone`: NULL also where others than the step at hand need the value. */
typedef const struct step *(*step_maker)(const void *plan, int value, bool alone);

/* One operator for several: op on those values. */
enum { SHORT_INPUTS = 6, SHORT_ATTRIBUTES = 2, SHORT_INTS = 32 };
typedef struct short_form {
  const struct op *op;
  int inputs[SHORT_INPUTS], n_inputs;     /* -1: absent */
  attribute attributes[SHORT_ATTRIBUTES]; /* names and texts of static storage; no lists but of `ints` */
  int n_attributes;
  int64_t ints[SHORT_INTS]; /* those of the attribute of type ATTRIBUTE_INTS, where there is one */
  bool like_input;          /* only where the output has the shape of input 0 */
} short_form;

/* What a step can do with tensors whose channels are in blocks (tensor.block). */
typedef struct block_use {
  uint32_t may;    /* bit i: input i, BLOCKS_OUT: output 0 */
  uint32_t alike;  /* of these: all in blocks, or none */
  int64_t size;    /* channels of a block that it likes best, 0: whatever others like */
  bool keeps_zero; /* where its inputs are all zero its output is */
} block_use;

enum { BLOCKS_OUT = 1 << 16 };

/* A parameter's gradient that can be made later, row by row: left' right. */
typedef struct late_gradient {
  const tensor *left, *right; /* [k, rows] and [k, columns], as they are when the backward pass comes to the
                                 step: copied then */
  int64_t k, rows, columns;
  /* Local. y[to - from, columns] becomes the rows from..to of it, from the copies, or y plus them. The bits
   * are those of backward, and of adding that. */
  void (*make)(const struct late_gradient *l, const float *left, const float *right, int64_t from, int64_t to,
               bool add, float *y);
} late_gradient;

struct op {
  const char *name;              /* ONNX op_type */
  const char *domain;            /* "" is ai.onnx */
  int since;                     /* first opset of this meaning; several rows may share a name */
  int until;                     /* last opset, 0: no end known */
  int min_inputs, max_inputs;    /* max -1: any number */
  int max_outputs;               /* -1: any number */
  const char *const *attributes; /* NULL-ended names that are understood; any other is refused at load */
  unsigned flags;
  uint32_t keeps;
  uint32_t differentiable; /* bit i: a gradient flows to input i (bit 31: to it and all later ones); also
                              where backward is missing, so that such a node is refused in training and its
                              weights are not taken for constants */
  uint32_t statistics;     /* bit i: input i is a running statistic; din[i] receives run->row_share times the
                              batch's statistic */
  status (*infer)(step *s);
  status (*prepare)(step *s);
  void (*load)(step *s);
  status (*forward)(step *s);
  status (*backward)(step *s);
  void (*release)(step *s);
  /* Optional, before prepare. Whether the step and those before it compute what another operator does: *out.
   */
  bool (*shorten)(const step *s, step_maker maker, const void *plan, short_form *out);
  /* Optional, before prepare and not for training. Whether s can do `next` as well, which alone reads its
   * output 0, as its input `input`. */
  bool (*absorb)(const step *s, const step *next, int input);
  /* Optional, before prepare. Sets *use, which is zero; left so: nothing. Gradients lie as the values do. */
  status (*blocks)(const step *s, block_use *use);
  /* Optional, after prepare of a step for training. Whether din[input] can be made later: then *out says how,
   * and din[input] becomes NULL. */
  bool (*late)(const step *s, int input, late_gradient *out);
};

/* Local. STATUS_BAD_INPUT with "node 'NAME' (TYPE): " before the message. For infer, prepare and forward. */
status step_error(const step *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Local. Sets out[i]'s type and shape when that output is wanted. */
void step_set_output(step *s, int i, dtype type, const shape *sh);

/* Local. For infer, after step_set_output: out[i] is the same in every batch (Shape, Size, ...). Copies the
 * data; an operator all of whose outputs are given so is never run. */
status step_constant_output(step *s, int i, const void *data);

/* Local. A constant integer tensor input (or attribute, for older opsets) as int64_t values: axes, pads,
 * shapes. *n = -1 when both are absent. STATUS_BAD_INPUT when the input is not constant or has more than max
 * values. */
status step_ints(const step *s, int input, const char *attribute, int64_t *values, int max, int *n);

#endif
