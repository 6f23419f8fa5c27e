#include "stages/freeze.h"

#include "base/mem.h"
#include "base/options.h"

#include <fnmatch.h>

static bool is_trained(const value *v) {
  return v->kind == VALUE_PARAMETER || v->kind == VALUE_STATISTIC;
}

/* For nearest_name, which ends at NULL: other values have a name that nothing is near to. */
static const char *trained_name(const void *table, int i) {
  const graph *g = table;
  if (i >= g->n_values) return NULL;
  return is_trained(&g->values[i]) ? g->values[i].name : "";
}

static status match(bool *frozen, const graph *g, const char *pattern, const char *path) {
  bool any = false;
  for (int v = 0; v < g->n_values; v++) {
    if (!is_trained(&g->values[v]) || fnmatch(pattern, g->values[v].name, 0)) continue;
    frozen[v] = any = true;
  }
  if (any) return STATUS_OK;
  const char *nearest = nearest_name(pattern, trained_name, g);
  return status_set(STATUS_BAD_INPUT, "%s: has no parameter that '%s' (--freeze) matches%s%s%s", path,
                    pattern, nearest && *nearest ? "; did you mean '" : "", nearest ? nearest : "",
                    nearest && *nearest ? "'?" : "");
}

/* Statistics that go on changing below frozen weights would change what these compute. */
static void freeze_statistics(bool *frozen, const graph *g) {
  for (int i = 0; i < g->n_nodes; i++) {
    const node *n = &g->nodes[i];
    bool any = false, has = false;
    for (int j = 0; j < n->n_inputs; j++) {
      if (n->inputs[j] < 0) continue;
      any = any || (frozen[n->inputs[j]] && is_trained(&g->values[n->inputs[j]]));
      has = has || g->values[n->inputs[j]].kind == VALUE_STATISTIC;
    }
    for (int j = 0; any && has && j < n->n_inputs; j++)
      if (n->inputs[j] >= 0 && g->values[n->inputs[j]].kind == VALUE_STATISTIC) frozen[n->inputs[j]] = true;
  }
}

static bool any_left(const bool *frozen, const graph *g) {
  for (int v = 0; v < g->n_values; v++)
    if (g->values[v].kind == VALUE_PARAMETER && !frozen[v]) return true;
  return false;
}

status freeze_find(bool **frozen, const graph *g, const mpistill_strings *patterns, const char *path) {
  status st = STATUS_OK;
  *frozen = NULL;
  if (!patterns->n) return st;
  TRY(mem_new(frozen, (size_t)g->n_values, sizeof **frozen));
  for (size_t i = 0; i < patterns->n; i++) TRY(match(*frozen, g, patterns->items[i], path));
  if (!any_left(*frozen, g)) THROW(STATUS_BAD_INPUT, "%s: --freeze leaves no parameter to train", path);
  freeze_statistics(*frozen, g);
done:
  if (st) {
    mem_free(*frozen);
    *frozen = NULL;
  }
  return st;
}
