/* What Loop and Scan have in common: a body that becomes part of the graph turn by turn. Private to src/onnx.
 *
 *     loop lp;
 *     loop_begin(&lp, l, i, 2, 1, n_state, n_inputs);   // lp.bound: the states of the first turn
 *     while (...) {
 *       lp.bound[0] = ...;                                      // what is new in each turn
 *       loop_turn(&lp, axes);                                     // lp.outputs; states are bound for the
 * next
 *     }
 *     loop_end(&lp, axes);
 *     loop_clear(&lp);
 */
#ifndef MPISTILL_ONNX_LOOP_H
#define MPISTILL_ONNX_LOOP_H

#include "onnx/loader.h"

typedef struct loop {
  loader *l; /* around it */
  const Onnx__NodeProto *n;
  const Onnx__GraphProto *body;
  char *title;
  loader once;     /* what is the same in every turn: initializers, and nodes that no input reaches */
  bool *invariant; /* [nodes of the body] those */
  bool *varies;    /* [nodes of the body] all others */
  bool *controls;  /* [inputs of the body] that its output 0 depends on, in this turn or a later one */
  int *bound;      /* [inputs of the body] values of the turn that comes next */
  int *outputs;    /* [outputs of the body] values of the turn before */
  size_t state_in; /* the first input of the body that is a state, and its first output */
  size_t state_out;
  size_t n_state, n_kept; /* states; outputs of which every turn's is kept */
  int *kept;              /* [turns, n_kept] */
  int64_t turns;          /* made so far */
} loop;

/* Local. STATUS_BAD_INPUT when the body has not n_inputs, or the node's outputs are not its states and what
 * is kept. */
status loop_begin(loop *lp, loader *l, size_t node, size_t state_in, size_t state_out, size_t n_state,
                  size_t n_inputs);
/* Local. A fixed value named by title, turn and `what`: a tensor, which is taken, or one number
 * (loader_number). */
status loop_constant(loop *lp, const char *what, tensor *take, int *out);
status loop_number(loop *lp, const char *what, dtype type, int64_t number, int *out);
/* Local. Adds a turn; outputs that are kept get an axis more, axes[n_kept]. */
status loop_turn(loop *lp, const int64_t *axes);
/* Local. Gives the outputs of the node; those kept are joined along axes[n_kept]. */
status loop_end(loop *lp, const int64_t *axes);
void loop_clear(loop *lp);
/* Local. STATUS_BAD_INPUT that begins with file, node and type. */
status loop_error(const loop *lp, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
