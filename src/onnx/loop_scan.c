/* Scan: its number of turns is the length of what it scans, so that it becomes part of the graph turn by turn
 * where that is the same for any number of rows. The scan by which skl2onnx writes distances (nearest
 * neighbours, Gaussian processes), a turn for each row of what may be tens of thousands, becomes one CDist.
 */
#include "base/mem.h"
#include "onnx/loop.h"

#include <string.h>

typedef struct scan {
  loop lp;
  size_t n_state, n_scanned;
  int64_t *in_axes, *in_backwards;   /* [n_scanned] */
  int64_t *out_axes, *out_backwards; /* [outputs kept] */
} scan;

static status read_list(const scan *sc, const char *name, size_t n, int64_t **out) {
  const Onnx__AttributeProto *a = loader_attribute(sc->lp.n, name);
  status st = mem_new(out, n, sizeof **out);
  if (st || !a) return st;
  if (a->n_ints != n) return loop_error(&sc->lp, "'%s' has %zu numbers, not %zu", name, a->n_ints, n);
  if (n) memcpy(*out, a->ints, n * sizeof **out);
  return STATUS_OK;
}

static status scan_begin(scan *sc, loader *l, size_t i) {
  status st = STATUS_OK;
  const Onnx__NodeProto *n = l->from->node[i];
  const Onnx__AttributeProto *a = loader_attribute(n, "num_scan_inputs");
  const size_t n_scanned = a && a->i > 0 && (uint64_t)a->i <= n->n_input ? (size_t)a->i : 0;
  TRY(loop_begin(&sc->lp, l, i, 0, 0, n->n_input - n_scanned, n->n_input));
  if (!n_scanned) TRY(loop_error(&sc->lp, "num_scan_inputs is not one of 1 to %zu", n->n_input));
  sc->n_scanned = n_scanned;
  sc->n_state = n->n_input - n_scanned;
  TRY(read_list(sc, "scan_input_axes", n_scanned, &sc->in_axes));
  TRY(read_list(sc, "scan_input_directions", n_scanned, &sc->in_backwards));
  TRY(read_list(sc, "scan_output_axes", sc->lp.n_kept, &sc->out_axes));
  TRY(read_list(sc, "scan_output_directions", sc->lp.n_kept, &sc->out_backwards));
done:
  return st;
}

static void scan_clear(scan *sc) {
  mem_free(sc->in_axes);
  mem_free(sc->in_backwards);
  mem_free(sc->out_axes);
  mem_free(sc->out_backwards);
  loop_clear(&sc->lp);
}

/* out = Gather(from, place) along an axis, under a name of its own. */
static status pick(scan *sc, int from, int place, int64_t axis, const char *what, size_t j, int *out) {
  status st = STATUS_OK;
  attribute *along = NULL;
  char *name = NULL;
  const int inputs[] = {from, place};
  *out = -1;
  TRY(mem_format(&name, "%s/%lld:%s %zu", sc->lp.title, (long long)sc->lp.turns, what, j));
  TRY(loader_spend(sc->lp.l, 2048 + 2 * strlen(name)));
  TRY(loader_axis(&along, "axis", axis, false));
  TRY(loader_node(sc->lp.l, "", "Gather", 11, inputs, 2, along, name, out));
done:
  mem_free(name);
  return st;
}

static int scanned(const scan *sc, size_t j) {
  return loader_find(sc->lp.l, sc->lp.n->input[sc->n_state + j]);
}

static status read_turns(scan *sc, int64_t *turns) {
  status st = STATUS_OK;
  for (size_t j = 0; j < sc->n_scanned; j++) {
    int64_t length;
    char *name;
    TRY(mem_format(&name, "%s:%zu", sc->lp.title, j));
    st = loader_length(sc->lp.l, scanned(sc, j), sc->in_axes[j], name, &length);
    mem_free(name);
    TRY(st);
    if (length < 0)
      return loop_error(&sc->lp, "scans what has as many places as there are rows, or as the data say; only "
                                 "lengths that follow from other shapes are supported");
    if (j && length != *turns)
      return loop_error(&sc->lp, "its inputs have %lld and %lld places to scan", (long long)*turns,
                        (long long)length);
    *turns = length;
  }
done:
  return st;
}

static status make_turns(scan *sc, int64_t n) {
  status st = STATUS_OK;
  int places[2];
  for (int64_t t = 0; t < n; t++) {
    TRY(loop_number(&sc->lp, "turn", DTYPE_INT64, t, &places[0]));
    TRY(loop_number(&sc->lp, "turn from behind", DTYPE_INT64, n - 1 - t, &places[1]));
    for (size_t j = 0; j < sc->n_scanned; j++)
      TRY(pick(sc, scanned(sc, j), places[sc->in_backwards[j] != 0], sc->in_axes[j], "in", j,
               &sc->lp.bound[sc->n_state + j]));
    TRY(loop_turn(&sc->lp, sc->out_axes));
  }
done:
  return st;
}

static void turn_round(scan *sc, size_t j) {
  loop *lp = &sc->lp;
  for (int64_t t = 0; t < lp->turns / 2; t++) {
    int *a = &lp->kept[(size_t)t * lp->n_kept + j],
        *b = &lp->kept[(size_t)(lp->turns - 1 - t) * lp->n_kept + j], kept = *a;
    *a = *b;
    *b = kept;
  }
}

/* ---- distances ---- */

/* The node of the body that gives a value, Identities looked through; *name then is what the last one reads.
 */
static const Onnx__NodeProto *maker(const Onnx__GraphProto *body, const char **name) {
  for (size_t i = body->n_node; i-- > 0;) {
    const Onnx__NodeProto *n = body->node[i];
    if (!n->n_output || strcmp(n->output[0], *name) != 0 || !n->n_input) continue;
    if (strcmp(proto_text(n->op_type), "Identity") != 0) return n;
    *name = n->input[0];
  }
  return NULL;
}

static bool is_node(const Onnx__NodeProto *n, const char *type, size_t n_inputs) {
  return n && strcmp(proto_text(n->op_type), type) == 0 && n->n_input >= n_inputs && !*proto_text(n->domain);
}

static bool comes_from(const Onnx__GraphProto *body, const char *name, size_t input) {
  return !maker(body, &name) && strcmp(name, proto_text(body->input[input]->name)) == 0;
}

/* Whether a reduction is along axis 1 of 2, which it does not keep. */
static status is_by_row(const scan *sc, const Onnx__NodeProto *n, bool *is) {
  status st = STATUS_OK;
  const Onnx__AttributeProto *keep = loader_attribute(n, "keepdims"), *axes = loader_attribute(n, "axes");
  tensor *t = NULL;
  int64_t axis = 0;
  if (axes && axes->n_ints == 1) axis = axes->ints[0];
  if (n->n_input > 1 && *n->input[1]) {
    const int value = loader_find(&sc->lp.once, n->input[1]);
    if (value >= 0) TRY(loader_probe(sc->lp.l, value, &t));
    if (t && t->type == DTYPE_INT64 && shape_count(&t->shape) == 1) axis = tensor_int(t, 0);
  }
  *is = keep && !keep->i && (axis == 1 || axis == -1);
done:
  mem_free(t);
  return st;
}

/* One state x [N, d], which stays, one scanned y [n, d]: output 1 of a turn is ReduceSumSquare(x - y). */
static status is_distance(const scan *sc, bool *is) {
  const Onnx__GraphProto *body = sc->lp.body;
  *is = false;
  if (sc->n_state != 1 || sc->n_scanned != 1 || body->n_output != 2 || sc->in_axes[0] ||
      sc->in_backwards[0] || sc->out_axes[0] || sc->out_backwards[0] ||
      !comes_from(body, proto_text(body->output[0]->name), 0))
    return STATUS_OK;
  const char *name = proto_text(body->output[1]->name);
  const Onnx__NodeProto *sum = maker(body, &name);
  if (!is_node(sum, "ReduceSumSquare", 1)) return STATUS_OK;
  name = sum->input[0];
  const Onnx__NodeProto *difference = maker(body, &name);
  if (!is_node(difference, "Sub", 2)) return STATUS_OK;
  const size_t first = comes_from(body, difference->input[0], 1);
  if (!comes_from(body, difference->input[0], first) || !comes_from(body, difference->input[1], !first))
    return STATUS_OK;
  return is_by_row(sc, sum, is);
}

static status add_distance(scan *sc) {
  status st = STATUS_OK;
  const Onnx__NodeProto *n = sc->lp.n;
  char *name = NULL;
  const int inputs[] = {scanned(sc, 0), sc->lp.bound[0]};
  if (n->n_output > 1 && *n->output[1]) {
    int out = loader_find(sc->lp.l, n->output[1]);
    TRY(mem_format(&name, "%s:distances", sc->lp.title));
    TRY(loader_node(sc->lp.l, "com.microsoft", "CDist", 1, inputs, 2, NULL, name, &out));
    mem_free(name);
    name = NULL;
  }
  TRY(mem_format(&name, "%s:state", sc->lp.title));
  TRY(loader_connect(sc->lp.l, sc->lp.bound[0], n->output[0], name));
done:
  mem_free(name);
  return st;
}

status scan_add(loader *l, size_t i) {
  status st = STATUS_OK;
  scan sc = {0};
  bool distance;
  int64_t turns = 0;
  TRY(scan_begin(&sc, l, i));
  TRY(is_distance(&sc, &distance));
  if (distance) {
    TRY(add_distance(&sc));
    goto done;
  }
  TRY(read_turns(&sc, &turns));
  TRY(make_turns(&sc, turns));
  for (size_t j = 0; j < sc.lp.n_kept; j++)
    if (sc.out_backwards[j]) turn_round(&sc, j);
  TRY(loop_end(&sc.lp, sc.out_axes));
done:
  scan_clear(&sc);
  return st;
}
