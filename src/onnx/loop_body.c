#include "base/mem.h"
#include "onnx/loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TURN_COST = 2048, NODE_COST = 2048 }; /* bytes, about */

/* ---- what depends on what in a body ---- */

/* Names in a body that have an index: graph_find(names, name). */
typedef struct walk {
  const graph *names;
  bool *marks;
  bool set, any;
} walk;

static void visit_name(walk *w, const char *name) {
  const int i = graph_find(w->names, name);
  if (i < 0) return;
  w->any |= w->marks[i];
  if (w->set) w->marks[i] = true;
}

/* What a node reads, and the graphs that it holds: *any of it is marked; `set`: all of it is from now on. */
static void visit(walk *w, const Onnx__NodeProto *n) {
  for (size_t i = 0; i < n->n_input; i++) visit_name(w, n->input[i]);
  for (size_t i = 0; i < n->n_attribute; i++) {
    const Onnx__GraphProto *inside = n->attribute[i]->g;
    for (size_t k = 0; inside && k < inside->n_node; k++) visit(w, inside->node[k]);
    for (size_t k = 0; inside && k < inside->n_output; k++)
      visit_name(w, proto_text(inside->output[k]->name));
  }
}

static status add_name(graph *names, const char *name) {
  int unused;
  return *name && graph_find(names, name) < 0 ? graph_add_value(names, name, &unused) : STATUS_OK;
}

static status name_all(graph *names, const Onnx__GraphProto *body) {
  status st = STATUS_OK;
  for (size_t i = 0; i < body->n_input; i++) TRY(add_name(names, proto_text(body->input[i]->name)));
  for (size_t i = 0; i < body->n_node; i++)
    for (size_t k = 0; k < body->node[i]->n_output; k++) TRY(add_name(names, body->node[i]->output[k]));
  for (size_t i = 0; i < body->n_output; i++) TRY(add_name(names, proto_text(body->output[i]->name)));
done:
  return st;
}

static void mark(walk *w, const char *name) {
  const int i = graph_find(w->names, name);
  if (i >= 0) w->marks[i] = true;
}

static void find_varying(const loop *lp, walk *w) {
  const Onnx__GraphProto *body = lp->body;
  for (size_t i = 0; i < body->n_input; i++) mark(w, proto_text(body->input[i]->name));
  for (size_t i = 0; i < body->n_node; i++) {
    w->any = false;
    visit(w, body->node[i]);
    lp->varies[i] = w->any;
    lp->invariant[i] = !w->any;
    for (size_t k = 0; w->any && k < body->node[i]->n_output; k++) mark(w, body->node[i]->output[k]);
  }
}

static bool is_marked(const walk *w, const char *name) {
  const int i = graph_find(w->names, name);
  return i >= 0 && w->marks[i];
}

/* Backwards from the condition; a state that it reads is made by an output of the turn before. */
static void find_controls(const loop *lp, walk *w) {
  const Onnx__GraphProto *body = lp->body;
  bool more = true;
  mark(w, proto_text(body->output[0]->name));
  while (more) {
    more = false;
    for (size_t i = body->n_node; i-- > 0;) {
      w->set = false;
      for (size_t k = 0; k < body->node[i]->n_output; k++) w->set |= is_marked(w, body->node[i]->output[k]);
      if (w->set) visit(w, body->node[i]);
    }
    for (size_t k = 0; k < lp->n_state; k++) {
      if (lp->controls[lp->state_in + k] || !is_marked(w, proto_text(body->input[lp->state_in + k]->name)))
        continue;
      lp->controls[lp->state_in + k] = more = true;
      mark(w, proto_text(body->output[lp->state_out + k]->name));
    }
  }
}

static status find_flow(loop *lp) {
  status st = STATUS_OK;
  graph *names = NULL;
  walk w = {0};
  TRY(graph_new(&names));
  TRY(name_all(names, lp->body));
  w.names = names;
  TRY(mem_new(&w.marks, (size_t)names->n_values, sizeof *w.marks));
  find_varying(lp, &w);
  if (lp->state_out) { /* a Loop: its output 0 is the condition */
    memset(w.marks, 0, (size_t)names->n_values * sizeof *w.marks);
    find_controls(lp, &w);
  }
done:
  mem_free(w.marks);
  graph_free(&names);
  return st;
}

/* ---- the loop ---- */

status loop_error(const loop *lp, const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return status_set(STATUS_BAD_INPUT, "%s: node '%s' (%s): %s", lp->l->name, lp->title,
                    proto_text(lp->n->op_type), text);
}

static status check_body(const loop *lp, size_t n_inputs) {
  const Onnx__GraphProto *body = lp->body;
  if (!body) return loop_error(lp, "lacks its body");
  if (body->n_input != n_inputs || body->n_output < lp->state_out + lp->n_state || body->n_sparse_initializer)
    return loop_error(lp, "its body has %zu inputs and %zu outputs, not %zu and %zu or more", body->n_input,
                      body->n_output, n_inputs, lp->state_out + lp->n_state);
  if (lp->n->n_output > body->n_output - lp->state_out)
    return loop_error(lp, "has %zu outputs, its body gives %zu", lp->n->n_output,
                      body->n_output - lp->state_out);
  return STATUS_OK;
}

/* What no turn changes comes before the turns. */
static status add_once(loop *lp) {
  status st = STATUS_OK;
  char *prefix = NULL;
  TRY(mem_format(&prefix, "%s/", lp->title));
  lp->once = *lp->l;
  lp->once.up = lp->l;
  lp->once.from = lp->body;
  lp->once.prefix = prefix;
  lp->once.initializers = NULL;
  lp->once.bound = NULL;
  lp->once.wanted = lp->invariant;
  TRY(loader_add_branch(&lp->once));
done:
  return st;
}

status loop_begin(loop *lp, loader *l, size_t node, size_t state_in, size_t state_out, size_t n_state,
                  size_t n_inputs) {
  status st = STATUS_OK;
  *lp = (loop){.l = l,
               .n = l->from->node[node],
               .body = loader_subgraph(l->from->node[node], "body"),
               .state_in = state_in,
               .state_out = state_out,
               .n_state = n_state};
  TRY(loader_title(l, node, &lp->title));
  TRY(check_body(lp, n_inputs));
  lp->n_kept = lp->body->n_output - state_out - n_state;
  TRY(mem_new(&lp->invariant, lp->body->n_node, sizeof *lp->invariant));
  TRY(mem_new(&lp->varies, lp->body->n_node, sizeof *lp->varies));
  TRY(mem_new(&lp->controls, lp->body->n_input, sizeof *lp->controls));
  TRY(mem_new(&lp->bound, lp->body->n_input, sizeof *lp->bound));
  TRY(mem_new(&lp->outputs, lp->body->n_output, sizeof *lp->outputs));
  TRY(find_flow(lp));
  TRY(add_once(lp));
  for (size_t k = 0; k < n_state; k++) lp->bound[state_in + k] = loader_find(l, lp->n->input[state_in + k]);
done:
  return st;
}

void loop_clear(loop *lp) {
  mem_free(lp->once.initializers);
  mem_free((char *)lp->once.prefix);
  mem_free(lp->title);
  mem_free(lp->invariant);
  mem_free(lp->varies);
  mem_free(lp->controls);
  mem_free(lp->bound);
  mem_free(lp->outputs);
  mem_free(lp->kept);
}

static status name_constant(const loop *lp, const char *what, char **out) {
  return mem_format(out, "%s/%lld:%s", lp->title, (long long)lp->turns, what);
}

status loop_constant(loop *lp, const char *what, tensor *take, int *out) {
  char *name = NULL;
  status st = name_constant(lp, what, &name);
  if (st)
    mem_free(take);
  else
    st = loader_constant(lp->l, name, take, out);
  mem_free(name);
  return st;
}

status loop_number(loop *lp, const char *what, dtype type, int64_t number, int *out) {
  char *name = NULL;
  status st = name_constant(lp, what, &name);
  if (!st) st = loader_number(lp->l, name, type, number, out);
  mem_free(name);
  return st;
}

/* Keeps an output of this turn, with an axis more. */
static status keep(loop *lp, size_t j, int64_t axis) {
  status st = STATUS_OK;
  attribute *axes = NULL;
  char *name = NULL;
  const int from = lp->outputs[lp->state_out + lp->n_state + j];
  int *to = &lp->kept[(size_t)lp->turns * lp->n_kept + j];
  *to = -1;
  TRY(loader_spend(&lp->once, NODE_COST));
  TRY(mem_format(&name, "%s/%lld:%zu", lp->title, (long long)lp->turns, j));
  TRY(loader_axis(&axes, "axes", axis, true));
  TRY(loader_node(lp->l, "", "Unsqueeze", 11, &from, 1, axes, name, to));
done:
  mem_free(name);
  return st;
}

static bool is_read(const loop *lp, size_t output) {
  return output < lp->n->n_output && *lp->n->output[output];
}

/* What the turn gave: states for the next one, and what is kept. */
static status take_outputs(loop *lp, const loader *turn, const int64_t *axes) {
  status st = STATUS_OK;
  for (size_t k = 0; k < lp->body->n_output; k++) {
    lp->outputs[k] = loader_find(turn, proto_text(lp->body->output[k]->name));
    if (lp->outputs[k] < 0)
      THROW(STATUS_BAD_INPUT, "%s: node '%s' (%s): nothing gives output %zu of its body", lp->l->name,
            lp->title, proto_text(lp->n->op_type), k);
  }
  for (size_t k = 0; k < lp->n_state; k++) lp->bound[lp->state_in + k] = lp->outputs[lp->state_out + k];
  const size_t n = (size_t)lp->turns * lp->n_kept;
  if (lp->n_kept)
    TRY(lp->kept ? mem_resize(&lp->kept, n, n + lp->n_kept, sizeof *lp->kept)
                 : mem_new(&lp->kept, lp->n_kept, sizeof *lp->kept));
  for (size_t j = 0; j < lp->n_kept; j++)
    if (is_read(lp, lp->n_state + j)) TRY(keep(lp, j, axes[j]));
done:
  return st;
}

status loop_turn(loop *lp, const int64_t *axes) {
  status st = STATUS_OK;
  char *prefix = NULL;
  loader turn = lp->once;
  TRY(loader_spend(&lp->once, TURN_COST));
  TRY(mem_format(&prefix, "%s/%lld/", lp->title, (long long)lp->turns));
  turn.up = &lp->once;
  turn.prefix = prefix;
  turn.initializers = NULL;
  turn.bound = lp->bound;
  turn.wanted = lp->varies;
  TRY(loader_add_branch(&turn));
  TRY(take_outputs(lp, &turn, axes));
  lp->turns++;
done:
  mem_free(prefix);
  return st;
}

/* An output of every turn behind each other. */
static status join(loop *lp, size_t j, int64_t axis, const char *to) {
  status st = STATUS_OK;
  attribute *along = NULL;
  int *from = NULL, output = loader_find(lp->l, to);
  char *name = NULL;
  if (!lp->turns)
    return loop_error(lp, "makes no turn, so that nothing tells the shape of its output '%s'", to);
  TRY(mem_new(&from, (size_t)lp->turns, sizeof *from));
  for (int64_t t = 0; t < lp->turns; t++) from[t] = lp->kept[(size_t)t * lp->n_kept + j];
  TRY(mem_format(&name, "%s:%zu", lp->title, lp->n_state + j));
  TRY(loader_axis(&along, "axis", axis, false));
  TRY(loader_node(lp->l, "", "Concat", 11, from, (int)lp->turns, along, name, &output));
done:
  mem_free(from);
  mem_free(name);
  return st;
}

status loop_end(loop *lp, const int64_t *axes) {
  status st = STATUS_OK;
  char *name = NULL;
  for (size_t k = 0; k < lp->n->n_output; k++) {
    if (!is_read(lp, k)) continue;
    if (k >= lp->n_state) {
      TRY(join(lp, k - lp->n_state, axes[k - lp->n_state], lp->n->output[k]));
      continue;
    }
    TRY(mem_format(&name, "%s:%zu", lp->title, k));
    TRY(loader_connect(lp->l, lp->bound[lp->state_in + k], lp->n->output[k], name));
    mem_free(name);
    name = NULL;
  }
done:
  mem_free(name);
  return st;
}
