/* Loop: Keras's recurrent layers and scripted loops of PyTorch. How many turns it takes follows from shapes
 * and fixed data, so that each turn becomes part of the graph and nobody sees the Loop: gradients, folding
 * and all else are as without one. */
#include "onnx/loop.h"

#include "base/mem.h"

#include <stdio.h>

enum { TURN = 0, CONDITION = 1, STATES = 2 }; /* inputs of the body; of the node: turns at most */

/* One number or truth value that an optional input of the node is for any number of rows; `fallback` when it
 * is left out. */
static status read_number(const loop *lp, size_t input, dtype type, int64_t fallback, int64_t *out) {
  status st = STATUS_OK;
  tensor *t = NULL;
  *out = fallback;
  if (!*lp->n->input[input]) return st;
  TRY(loader_probe(lp->l, loader_find(lp->l, lp->n->input[input]), &t));
  if (!t || t->type != type || shape_count(&t->shape) != 1)
    THROW(
        STATUS_BAD_INPUT,
        "%s: node '%s' (Loop): how many turns it takes depends on the data or the number of rows; only loops "
        "whose turns follow from other shapes are supported",
        lp->l->name, lp->title);
  *out = tensor_int(t, 0);
done:
  mem_free(t);
  return st;
}

/* Whether the turn before wants another one; a condition that is known costs the next turns no search. */
static status read_condition(loop *lp, int64_t *more) {
  status st = STATUS_OK;
  tensor *t = NULL;
  TRY(loader_probe(lp->l, lp->outputs[0], &t));
  if (!t || t->type != DTYPE_BOOL || shape_count(&t->shape) != 1)
    THROW(
        STATUS_BAD_INPUT,
        "%s: node '%s' (Loop): whether turn %lld is its last depends on the data or the number of rows; only "
        "loops whose turns follow from other shapes are supported",
        lp->l->name, lp->title, (long long)lp->turns);
  *more = tensor_int(t, 0);
  tensor *taken = t;
  t = NULL;
  TRY(loop_constant(lp, "condition", taken, &lp->bound[CONDITION]));
done:
  mem_free(t);
  return st;
}

/* Numbers that the condition depends on become constants as soon as they are known, so that no turn looks
 * back through all before it. Not floats: they may come from weights. */
static status settle_controls(loop *lp) {
  status st = STATUS_OK;
  tensor *t = NULL;
  for (size_t k = STATES; k < lp->body->n_input; k++) {
    char what[32];
    if (!lp->controls[k] || lp->l->g->values[lp->bound[k]].kind == VALUE_CONSTANT) continue;
    TRY(loader_probe(lp->l, lp->bound[k], &t));
    if (!t || t->type == DTYPE_FLOAT || t->type == DTYPE_DOUBLE) {
      mem_free(t);
      t = NULL;
      continue;
    }
    tensor *taken = t;
    t = NULL;
    snprintf(what, sizeof what, "state %zu", k - STATES);
    TRY(loop_constant(lp, what, taken, &lp->bound[k]));
  }
done:
  mem_free(t);
  return st;
}

static status make_turns(loop *lp, const int64_t *axes) {
  status st = STATUS_OK;
  int64_t most, more;
  const bool asks = *lp->n->input[CONDITION];
  TRY(read_number(lp, TURN, DTYPE_INT64, INT64_MAX, &most));
  TRY(read_number(lp, CONDITION, DTYPE_BOOL, 1, &more));
  if (!asks && !*lp->n->input[TURN]) TRY(loop_error(lp, "has neither a number of turns nor a condition"));
  TRY(loop_number(lp, "first condition", DTYPE_BOOL, more, &lp->bound[CONDITION]));
  while (lp->turns < most && more) {
    TRY(loop_number(lp, "turn", DTYPE_INT64, lp->turns, &lp->bound[TURN]));
    TRY(loop_turn(lp, axes));
    if (!asks) continue;
    TRY(read_condition(lp, &more));
    if (lp->turns < most && more) TRY(settle_controls(lp));
  }
done:
  return st;
}

status loop_add(loader *l, size_t i) {
  status st = STATUS_OK;
  const Onnx__NodeProto *n = l->from->node[i];
  loop lp;
  int64_t *axes = NULL;
  TRY(loop_begin(&lp, l, i, STATES, 1, n->n_input - STATES, n->n_input));
  TRY(mem_new(&axes, lp.n_kept, sizeof *axes));
  TRY(make_turns(&lp, axes));
  TRY(loop_end(&lp, axes));
done:
  mem_free(axes);
  loop_clear(&lp);
  return st;
}
