/* What the files that make and run a plan share.
 *
 *     plan_shapes.c    inputs, infer, constant folding, steps that nothing needs left out
 *     plan_fuse.c      several steps become one
 *     plan_layout.c    which tensors have their channels in blocks
 *     plan_gradient.c  which tensors have a gradient, who writes them first
 *     plan_late.c      gradients that are made when they are summed
 *     plan_memory.c    which tensors share storage and how long they live
 *     arena.c          where they lie
 *     plan_run.c       the hot loops */
#ifndef MPISTILL_GRAPH_PLAN_PRIVATE_H
#define MPISTILL_GRAPH_PLAN_PRIVATE_H

#include "graph/graph_private.h"
#include "graph/plan.h"

typedef struct merged_step merged_step; /* plan_fuse.c */

typedef struct plan_value {
  tensor data;       /* what steps see as in[], out[] */
  tensor gradient;   /* din[], dout[] */
  int n_uses;        /* inputs of live steps that read it */
  bool known;        /* the data is the same in every batch and has an address of its own */
  bool owned;        /* known, and data.data belongs to the plan */
  bool held;         /* an output or a tap: readable after forward */
  bool trainable;    /* a gradient for it is of interest: a parameter, or computed from one */
  bool has_gradient; /* and there is one, as an output or a tap depends on it */
} plan_value;

/* *at is to be a base address plus offset bytes. */
typedef struct binding {
  void **at;
  size_t offset;
} binding;

typedef struct bindings {
  binding *items;
  int n;
} bindings;

typedef struct range {
  int64_t first, n;
} range;

/* What a late gradient is made of, in the copies. */
typedef struct late_copy {
  int value;
  const step *of;
  int64_t first, left_at, right_at; /* in the block, in the copies */
  late_gradient gradient;
} late_copy;

struct plan {
  const graph *graph;
  plan_options options; /* taps is the plan's own copy, input_shapes is valid in plan_new only */
  plan_value *values;   /* [graph->n_values] */
  step *steps;          /* in the order of execution */
  int n_steps;
  int n_settled;   /* the first steps[0..n_settled) run when parameters change, not every batch */
  int n_prepared;  /* the first steps[0..n_prepared) are to be released */
  void **pointers; /* what the arrays of all steps are cut from */
  bool *flags;
  size_t model_bytes, lasting_bytes; /* the model's numbers; those computed from them alone */

  merged_step *merged; /* [n_merged] what merged steps are made of */
  int n_merged;
  int *makers; /* [graph->n_values] which step computes it, -1: none; while steps are merged */

  step **loading; /* steps of every batch with something to load */
  step **reverse; /* steps of the backward pass in their order */
  int n_loading, n_reverse;
  int64_t *final_from; /* [n_reverse] after that step nobody writes gradients from this float on */
  plan_passed *passed;
  void *passed_data;
  late_copy *late; /* [n_late] in the order of the block */
  int n_late;
  int64_t late_floats;      /* of the copies */
  const late_copy **copied; /* [n_reverse] what is copied before that step, NULL: nothing */
  float *copies;
  range *unwritten; /* parts of the gradient block that no step writes */
  int n_unwritten;

  bindings in_arena, in_block, in_gradients;
  arena *arena;
  bool own_arena;
  plan *next; /* of the same arena */
  size_t arena_bytes;
  const float *block;
  float *gradients;
  bool touched; /* parameters have changed since the last load */
  bool invalid; /* set by steps: step.invalid */
};

/* Creates values and steps, infers shapes, computes what is constant, leaves only the steps that run every
 * batch. */
status plan_shapes(plan *p);
/* Writes chains of steps as single ones; what is no longer needed is left in. */
status plan_shorten(plan *p);
/* Not for training: steps that others do as well. */
void plan_absorb(plan *p);
/* Sets tensor.block of values that only steps with op.blocks write and read. */
status plan_layout(plan *p);
/* Sets din, dout and accumulate of every step. */
status plan_gradient(plan *p);
/* Takes gradients that can be late from their steps, after prepare. */
status plan_find_late(plan *p);
void plan_copy_late(const plan *p, const late_copy *x);
/* Lays out everything, after prepare: fills the bindings and arena_bytes. */
status plan_memory(plan *p);

static inline value_kind plan_kind(const plan *p, int v) {
  return p->graph->values[v].kind;
}

static inline size_t tensor_bytes(const tensor *t) {
  return (size_t)tensor_places(t) * dtype_bytes(t->type);
}

/* Whether the step takes part in the backward pass. */
static inline bool step_is_differentiated(const step *s) {
  for (int i = 0; i < s->n_out; i++)
    if (s->dout[i]) return true;
  return false;
}

/* A piece of memory that is needed from time `first` to time `last`, both included. */
typedef struct interval {
  size_t bytes;
  int first, last;
  size_t offset;
} interval;

/* Gives every interval an offset, a multiple of 64, so that intervals whose times overlap do not overlap in
 * memory. Largest first, each into the smallest gap that holds it. *total is the end of the last one. */
status layout_place(interval *items, int n, size_t *total);

/* Makes room for p and keeps its addresses right whenever the arena grows, until arena_leave. */
status arena_join(arena *a, plan *p);
void arena_leave(arena *a, plan *p);

void bindings_set(const bindings *b, void *base);

/* Whether all outputs are there and without elements: kernels need not know such tensors. */
static inline bool step_is_empty(const step *s) {
  int n = 0;
  for (int i = 0; i < s->n_out; i++) {
    if (!s->out[i]) continue;
    if (shape_count(&s->out[i]->shape)) return false;
    n++;
  }
  return n > 0;
}

#endif
