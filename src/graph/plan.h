/* A graph made ready to run for a fixed number of rows: shapes known, constants folded, memory laid out,
 * primitives made.
 *
 *     plan *p;
 *     plan_new(&p, g, &(plan_options){.rows = 32, .training = true});
 *     plan_set_parameters(p, block);                    // float[g->n_block], borrowed
 *     plan_set_gradients(p, leaf);                      // float[g->n_block], borrowed; training only
 *     memcpy(plan_input(p, 0)->data, pixels, ...);
 *     plan_forward(p, &run);
 *     ... plan_output(p, 0)->data, write its gradient into plan_output_gradient(p, 0)->data ...
 *     plan_backward(p, &run);                           // overwrites all of leaf[]
 *
 * Nothing is allocated between plan_new and plan_free. One plan is used by one thread at a time.
 *
 * Inputs, outputs and taps keep their data until the next batch of any plan in the same arena, or until a
 * plan is made there that makes it grow. Everything else may be overwritten as soon as no step needs it,
 * gradients of outputs too. An output need not have `rows` rows (a model may reduce over the batch): who
 * needs one a sample checks its shape. */
#ifndef MPISTILL_GRAPH_PLAN_H
#define MPISTILL_GRAPH_PLAN_H

#include "graph/op.h"

typedef struct plan plan;

/* Memory that several plans of one thread may share, as only one of them is between forward and backward at a
 * time. */
typedef struct arena arena;
status arena_new(arena **out);
void arena_free(arena **a);
size_t arena_bytes(const arena *a);

typedef struct plan_options {
  int64_t rows;         /* leading dimension of every input, whatever the model declares */
  bool training;        /* keep what backward needs, give parameters gradients */
  bool reference;       /* plain reference kernels everywhere */
  bool input_gradients; /* training: also the gradients of float inputs (tests) */
  bool separate;   /* every array in memory of its own: to find out whether sharing is at fault (tests) */
  arena *arena;    /* borrowed, must outlive the plan; NULL: the plan has its own */
  const int *taps; /* extra values to keep readable after forward (features), n_taps of them */
  int n_taps;
  const bool *frozen; /* [n_values] parameters that get no gradient, statistics that stay: used in plan_new;
                         NULL: none */
  const bool *late; /* [n_values] parameters whose gradients may be made later (plan_late): used in plan_new;
                       NULL: none */
  const shape *input_shapes; /* [n_inputs] whole shapes, taken as they are (rows is not put into them), for
                                models whose other dimensions are open; NULL: as declared */
} plan_options;

/* Local. STATUS_BAD_INPUT naming the node where shapes do not fit; STATUS_FAILED when memory or a library
 * fails. */
status plan_new(plan **out, const graph *g, const plan_options *o);
void plan_free(plan **p);

/* Local. Sets the block that parameters and statistics are read from, and marks them changed. */
void plan_set_parameters(plan *p, const float *block);
/* Local. The values in the block have changed: operators repack on the next forward. */
void plan_touch_parameters(plan *p);
/* Local. Sets where plan_backward writes the gradients (same layout as the block; gaps are left alone). */
void plan_set_gradients(plan *p, float *block);

/* Late gradients: plan_backward does not write those of some parameters, matrices, but copies what they are
 * made of. Who sums them over several batches makes them piece by piece, where they stay in the cache.
 *
 *     plan_new(&p, g, &(plan_options){.training = true, .late = all, ...});
 *     plan_set_copies(p, copies);                          // float[plan_late_floats(p)], aligned to 64
 *     plan_forward, plan_backward
 *     for i < plan_n_late(p): rows from..to of plan_late(p, i), which begins at float `first` of the block:
 *       plan_make_late(p, i, copies, from, to, add, y)     // y[to - from, columns], by any thread */
typedef struct late_range {
  int value;
  int64_t first, rows, columns;
} late_range;

int plan_n_late(const plan *p);
late_range plan_late(const plan *p, int i); /* by rising `first`, a multiple of 16 */
int64_t plan_late_floats(const plan *p);
void plan_set_copies(plan *p, float *copies); /* local; borrowed */
/* Local. From copies of this plan's own, wherever they lie. The bits are those without `late`. */
void plan_make_late(const plan *p, int i, const float *copies, int64_t from, int64_t to, bool add, float *y);

/* Local. While plan_backward runs, `passed` is called after each of its steps: the gradient block is final
 * from float `from` on. NULL: it is not. */
typedef void plan_passed(void *data, int64_t from);
void plan_set_watcher(plan *p, plan_passed *passed, void *data);

/* Local. Tensors by position in graph->inputs, graph->outputs, plan_options.taps; data valid as the comment
 * above says. plan_output_gradient, plan_tap_gradient: NULL when not training or when nothing trainable
 * reaches that value. Their data must be written in full between forward and backward; a tap that is an
 * output as well has the same tensor for both. */
tensor *plan_input(const plan *p, int i);
tensor *plan_output(const plan *p, int i);
tensor *plan_tap(const plan *p, int i);
tensor *plan_output_gradient(const plan *p, int i);
tensor *plan_tap_gradient(const plan *p, int i);
tensor *plan_input_gradient(const plan *p, int i);

status plan_forward(plan *p, const run_context *run);
status plan_backward(plan *p, const run_context *run);

/* Local. Shapes and sizes for reports. */
size_t plan_memory_bytes(const plan *p); /* arena, saved and scratch this plan needs */
int64_t plan_rows(const plan *p);
int plan_n_steps(const plan *p);             /* after folding */
const step *plan_step(const plan *p, int i); /* tests and profiles */

typedef struct probed {
  int64_t rows_fixed; /* the rows that an input it depends on declares, 0 if they are open; then these are
                         taken for `rows` */
  int n_nodes;        /* that it depends on */
} probed;

/* Local. What a value of a graph that is still being built is in a plan for `rows` rows, as far as that
 * depends on shapes and fixed data alone: *out is the caller's (mem_free), or NULL when it depends on what a
 * batch holds. */
status plan_probe(const graph *g, int value, int64_t rows, tensor **out, probed *about);

#endif
