#include "stages/logits.h"

#include "base/rng.h"
#include "ops/ml.h"

#include <math.h>
#include <string.h>

static bool is_candidate(const tensor *t) {
  return t->type == DTYPE_FLOAT && t->shape.rank == 2;
}

static status refuse_outputs(const graph *g, const plan *p, const char *path, int found) {
  char text[128];
  status st = status_set(STATUS_BAD_INPUT,
                         "%s: has %d outputs of floats [rows, classes], expected one; say which is meant (a "
                         "task, or a teacher's output):",
                         path, found);
  for (int i = 0; i < g->n_outputs; i++) {
    const tensor *t = plan_output(p, i);
    status_add_line("'%s' %s %s for one row", g->values[g->outputs[i]].name, dtype_name(t->type),
                    shape_text(&t->shape, text, sizeof text));
  }
  return st;
}

status logits_output(const graph *g, const plan *p, const char *path, int *output) {
  int found = 0;
  *output = 0;
  if (g->n_outputs == 1) return STATUS_OK;
  for (int i = 0; i < g->n_outputs; i++) {
    if (!is_candidate(plan_output(p, i))) continue;
    *output = i;
    found++;
  }
  return found == 1 ? STATUS_OK : refuse_outputs(g, p, path, found);
}

static bool is_op(const node *n, const char *domain, const char *name) {
  return !strcmp(n->op->domain, domain) && !strcmp(n->op->name, name);
}

static int64_t softmax_axis(const node *n) {
  return node_int(n, "axis", n->opset < 13 ? 1 : -1);
}

/* One over the rows of the batch is no final Softmax. */
static bool is_softmax(const node *n) {
  return (is_op(n, "", "Softmax") || is_op(n, "", "LogSoftmax")) && softmax_axis(n) != 0;
}

/* Of a tensor that is float at its end. Only from floats would it change nothing, but nothing else reaches a
 * Softmax or a classifier's scores. */
static bool passes_on(const node *n) {
  return is_op(n, "", "Identity") || is_op(n, "", "Cast") || is_op(n, ML_DOMAIN, "ZipMap");
}

/* What remains behind a Normalizer depends on what was in front of it: probabilities stay so. */
static bool normalizes(const node *n) {
  return is_op(n, ML_DOMAIN, "Normalizer") && !strcmp(node_string(n, "norm", "MAX"), "L1");
}

static int place_of(const node *n, int value) {
  for (int i = 0; i < n->n_outputs; i++)
    if (n->outputs[i] == value) return i;
  return 0;
}

void logits_find(const graph *g, int output, logits_place *out) {
  bool normalized = false;
  *out = (logits_place){.value = output};
  for (int value = output; g->values[value].producer >= 0;) {
    const node *n = &g->nodes[g->values[value].producer];
    if (!out->names) out->names = ml_class_names(n);
    bool last = out->kind == LOGITS_FOR_SOFTMAX; /* its argument may be the output of another Softmax */
    if (is_softmax(n) && !last && !normalized) {
      out->kind = LOGITS_FOR_SOFTMAX;
      out->axis = softmax_axis(n);
      out->flattens = n->opset < 13;
    } else if (normalizes(n) && !last) {
      normalized = true;
    } else if (!passes_on(n)) {
      if (!last && ml_gives_probabilities(n, place_of(n, value))) out->kind = LOGITS_PROBABILITIES;
      return;
    }
    value = n->inputs[0];
    if (!normalized) out->value = value;
  }
}

static bool sums_to_one(const float *p, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!(p[i] >= -1e-6f && p[i] <= 1 + 1e-3f)) return false;
    sum += p[i];
  }
  return fabs(sum - 1) <= 1e-3;
}

bool logits_sum_to_one(plan *p, int tap) {
  enum { ROWS = 4 };
  tensor *x = plan_input(p, 0);
  const tensor *y = plan_tap(p, tap);
  if (x->type != DTYPE_FLOAT || !is_candidate(y) || y->shape.dims[1] < 2) return false;
  const int64_t n = shape_count(&x->shape);
  for (uint64_t row = 0; row < ROWS; row++) {
    for (int64_t i = 0; x->data && i < n; i++)
      ((float *)x->data)[i] = rng_normal(0, RNG_NOISE, row, (uint64_t)i);
    if (plan_forward(p, &(run_context){.row_share = 1.0f})) {
      status_clear();
      return false;
    }
    if (!sums_to_one(y->data, y->shape.dims[1])) return false;
  }
  return true;
}

void logits_from_probabilities(float *p, int64_t n) {
  const float least = (float)log(LOGITS_FLOOR);
  for (int64_t i = 0; i < n; i++) p[i] = p[i] < (float)LOGITS_FLOOR ? least : logf(p[i]);
}
