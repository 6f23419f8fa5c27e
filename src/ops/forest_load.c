/* From the lists of a file to a forest. The lists may be in any order and come from anywhere: every index is
 * checked, and nodes that form no trees are refused. */
#include "ops/forest.h"

#include "base/mem.h"
#include "ops/ml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct key {
  int64_t tree, node;
  int32_t position; /* in the file's lists */
} key;

typedef struct loader {
  const step *s;
  const char *prefix;
  int64_t n; /* nodes */
  const int64_t *trees, *ids, *features, *yes, *no, *missing;
  const float *values;
  uint8_t *modes;          /* [n] */
  key *keys;               /* [n] sorted by tree and id */
  int32_t *yes_at, *no_at; /* [n] positions; -1 at leaves */
  bool *has_parent;        /* [n] */
  int32_t *place;          /* [n] a branch's number, or ~ a leaf's */
  forest *f;
} loader;

static int by_tree_and_id(const void *a, const void *b) {
  const key *x = a, *y = b;
  if (x->tree != y->tree) return x->tree < y->tree ? -1 : 1;
  return (x->node > y->node) - (x->node < y->node);
}

/* The node of that id, -1 if there is none. */
static int32_t find(const loader *l, int64_t tree, int64_t node) {
  const key wanted = {.tree = tree, .node = node};
  const key *found = bsearch(&wanted, l->keys, (size_t)l->n, sizeof *l->keys, by_tree_and_id);
  return found ? found->position : -1;
}

static status read_list(const loader *l, const char *name, bool needed, const int64_t **out) {
  int64_t n;
  status st = ml_ints(l->s, name, out, &n);
  if (st || n == l->n || (!n && !needed)) return st;
  return step_error(l->s, "attribute '%s' has %lld entries for %lld nodes", name, (long long)n,
                    (long long)l->n);
}

static status read_modes(loader *l) {
  static const char *const names[] = {
      [BRANCH_LEQ] = "BRANCH_LEQ", [BRANCH_LT] = "BRANCH_LT", [BRANCH_GTE] = "BRANCH_GTE",
      [BRANCH_GT] = "BRANCH_GT",   [BRANCH_EQ] = "BRANCH_EQ", [BRANCH_NEQ] = "BRANCH_NEQ",
      [BRANCH_LEAF] = "LEAF"};
  const attribute *a = node_attribute(l->s->node, "nodes_modes");
  status st = STATUS_OK;
  TRY(mem_new(&l->modes, (size_t)l->n, 1));
  if (!a || a->type != ATTRIBUTE_STRINGS || a->n != l->n)
    return step_error(l->s, "attribute 'nodes_modes' is no list of %lld strings", (long long)l->n);
  for (int64_t i = 0; i < l->n; i++) {
    while (l->modes[i] <= BRANCH_LEAF && strcmp(names[l->modes[i]], a->strings[i]) != 0) l->modes[i]++;
    if (l->modes[i] > BRANCH_LEAF) return step_error(l->s, "nodes_modes: '%s' is not known", a->strings[i]);
  }
done:
  return st;
}

static status read_lists(loader *l) {
  status st = STATUS_OK;
  int64_t n_values;
  TRY(ml_ints(l->s, "nodes_treeids", &l->trees, &l->n));
  if (l->n < 1 || l->n > INT32_MAX / 2)
    return step_error(l->s, "has %lld nodes; 1 to %d are expected", (long long)l->n, INT32_MAX / 2);
  TRY(read_list(l, "nodes_nodeids", true, &l->ids));
  TRY(read_list(l, "nodes_featureids", true, &l->features));
  TRY(read_list(l, "nodes_truenodeids", true, &l->yes));
  TRY(read_list(l, "nodes_falsenodeids", true, &l->no));
  TRY(read_list(l, "nodes_missing_value_tracks_true", false, &l->missing));
  TRY(ml_reals(l->s, "nodes_values", &l->values, &n_values));
  if (n_values != l->n)
    return step_error(l->s, "attribute 'nodes_values' has %lld entries for %lld nodes", (long long)n_values,
                      (long long)l->n);
  TRY(read_modes(l));
done:
  return st;
}

static status sort_nodes(loader *l) {
  status st = STATUS_OK;
  TRY(mem_new(&l->keys, (size_t)l->n, sizeof *l->keys));
  for (int64_t i = 0; i < l->n; i++) l->keys[i] = (key){l->trees[i], l->ids[i], (int32_t)i};
  qsort(l->keys, (size_t)l->n, sizeof *l->keys, by_tree_and_id);
  for (int64_t i = 1; i < l->n; i++)
    if (by_tree_and_id(&l->keys[i - 1], &l->keys[i]) == 0)
      return step_error(l->s, "tree %lld has two nodes %lld", (long long)l->keys[i].tree,
                        (long long)l->keys[i].node);
done:
  return st;
}

static status link_child(const loader *l, int64_t i, int64_t id, int32_t *at) {
  *at = find(l, l->trees[i], id);
  if (*at < 0)
    return step_error(l->s, "tree %lld: node %lld leads to node %lld, which is not there",
                      (long long)l->trees[i], (long long)l->ids[i], (long long)id);
  if (l->has_parent[*at])
    return step_error(l->s, "tree %lld: two ways lead to node %lld", (long long)l->trees[i], (long long)id);
  l->has_parent[*at] = true;
  return STATUS_OK;
}

static status link_nodes(loader *l) {
  status st = STATUS_OK;
  TRY(mem_new(&l->yes_at, (size_t)l->n, sizeof *l->yes_at));
  TRY(mem_new(&l->no_at, (size_t)l->n, sizeof *l->no_at));
  TRY(mem_new(&l->has_parent, (size_t)l->n, sizeof *l->has_parent));
  for (int64_t i = 0; i < l->n; i++) {
    l->yes_at[i] = l->no_at[i] = -1;
    if (l->modes[i] == BRANCH_LEAF) continue;
    if (l->features[i] < 0 || l->features[i] > INT32_MAX / 2)
      return step_error(l->s, "tree %lld: node %lld compares feature %lld", (long long)l->trees[i],
                        (long long)l->ids[i], (long long)l->features[i]);
    TRY(link_child(l, i, l->yes[i], &l->yes_at[i]));
    TRY(link_child(l, i, l->no[i], &l->no_at[i]));
  }
done:
  return st;
}

/* Numbers branches and leaves below a root, yes before no. No node has two parents and the root has none, so
 * that the walk ends. */
static int64_t number_tree(loader *l, int32_t root, int32_t *stack) {
  int64_t visited = 0;
  int depth = 0;
  stack[depth++] = root;
  while (depth) {
    int32_t i = stack[--depth];
    visited++;
    if (l->modes[i] == BRANCH_LEAF) {
      l->place[i] = ~l->f->n_leaves++;
      continue;
    }
    l->place[i] = l->f->n_branches++;
    stack[depth++] = l->no_at[i];
    stack[depth++] = l->yes_at[i];
  }
  return visited;
}

/* A tree is a run of keys with one node that no other leads to, from which all of them are reached. */
static status number_trees(loader *l) {
  status st = STATUS_OK;
  int32_t *stack = NULL;
  TRY(mem_new(&stack, (size_t)l->n + 1, sizeof *stack));
  TRY(mem_new(&l->place, (size_t)l->n, sizeof *l->place));
  TRY(mem_new(&l->f->roots, (size_t)l->n, sizeof *l->f->roots));
  TRY(mem_new(&l->f->leaves_end, (size_t)l->n, sizeof *l->f->leaves_end));
  for (int64_t from = 0, to; from < l->n; from = to) {
    int64_t n_roots = 0;
    int32_t root = -1;
    for (to = from; to < l->n && l->keys[to].tree == l->keys[from].tree; to++) {
      if (l->has_parent[l->keys[to].position]) continue;
      root = l->keys[to].position;
      n_roots++;
    }
    if (n_roots != 1 || number_tree(l, root, stack) != to - from) {
      st = step_error(l->s, "the nodes of tree %lld are not one tree", (long long)l->keys[from].tree);
      goto done;
    }
    l->f->leaves_end[l->f->n_trees] = l->f->n_leaves;
    l->f->roots[l->f->n_trees++] = l->place[root];
  }
done:
  mem_free(stack);
  return st;
}

static status fill_branches(loader *l) {
  status st = STATUS_OK;
  forest *f = l->f;
  TRY(mem_new(&f->branches, (size_t)f->n_branches, sizeof *f->branches));
  TRY(mem_new(&f->modes, (size_t)f->n_branches, 1));
  f->mode = BRANCH_LEAF;
  for (int64_t i = 0; i < l->n; i++) {
    if (l->modes[i] == BRANCH_LEAF) continue;
    int32_t at = l->place[i];
    f->branches[at] = (branch){.value = l->values[i],
                               .feature = (unsigned)l->features[i],
                               .missing_yes = l->missing && l->missing[i],
                               .yes = l->place[l->yes_at[i]],
                               .no = l->place[l->no_at[i]]};
    f->modes[at] = l->modes[i];
    if (f->mode != BRANCH_LEAF && f->mode != l->modes[i]) f->mode = BRANCH_MIXED;
    if (f->mode == BRANCH_LEAF) f->mode = l->modes[i];
    if (l->features[i] >= f->features) f->features = l->features[i] + 1;
  }
done:
  return st;
}

typedef struct ballot { /* the lists of votes */
  int64_t n;
  const int64_t *trees, *nodes, *targets;
  const float *weights;
} ballot;

static status read_votes(const loader *l, ballot *b) {
  status st = STATUS_OK;
  char name[4][32];
  static const char *const parts[] = {"treeids", "nodeids", "ids", "weights"};
  int64_t n[4];
  for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s_%s", l->prefix, parts[i]);
  TRY(ml_ints(l->s, name[0], &b->trees, &n[0]));
  TRY(ml_ints(l->s, name[1], &b->nodes, &n[1]));
  TRY(ml_ints(l->s, name[2], &b->targets, &n[2]));
  TRY(ml_reals(l->s, name[3], &b->weights, &n[3]));
  b->n = n[0];
  if (n[1] != n[0] || n[2] != n[0] || n[3] != n[0] || n[0] > INT32_MAX / 2)
    return step_error(l->s, "%s_treeids, _nodeids, _ids and _weights have %lld, %lld, %lld and %lld entries",
                      l->prefix, (long long)n[0], (long long)n[1], (long long)n[2], (long long)n[3]);
done:
  return st;
}

/* The leaf that a vote belongs to, -1 for one that nobody asks: some converters list branches with weight 0.
 */
static status leaf_of(const loader *l, const ballot *b, int64_t i, int32_t *leaf) {
  int32_t at = find(l, b->trees[i], b->nodes[i]);
  *leaf = -1;
  if (at < 0 || (l->place[at] >= 0 && b->weights[i] != 0))
    return step_error(l->s, "a weight belongs to node %lld of tree %lld, which is no leaf",
                      (long long)b->nodes[i], (long long)b->trees[i]);
  if (b->targets[i] < 0 || b->targets[i] > INT32_MAX / 2)
    return step_error(l->s, "a weight is for %s %lld", l->prefix, (long long)b->targets[i]);
  if (l->place[at] < 0) *leaf = ~l->place[at];
  return STATUS_OK;
}

/* Sorts votes by leaf; those of a leaf stay in their order. */
static status fill_votes(loader *l) {
  status st = STATUS_OK;
  forest *f = l->f;
  ballot b;
  int32_t at;
  TRY(read_votes(l, &b));
  TRY(mem_new(&f->leaves, (size_t)f->n_leaves, sizeof *f->leaves));
  TRY(mem_new(&f->votes, (size_t)b.n, sizeof *f->votes));
  for (int64_t i = 0; i < b.n; i++) {
    TRY(leaf_of(l, &b, i, &at));
    if (at < 0) continue;
    f->leaves[at].n++;
    if (b.targets[i] >= f->targets) f->targets = b.targets[i] + 1;
  }
  for (int32_t i = 0; i < f->n_leaves; i++) {
    f->leaves[i].first = f->n_votes;
    f->n_votes += f->leaves[i].n;
    f->leaves[i].n = 0;
  }
  for (int64_t i = 0; i < b.n; i++) {
    TRY(leaf_of(l, &b, i, &at));
    if (at < 0) continue;
    leaf *to = &f->leaves[at];
    f->votes[to->first + to->n++] = (vote){(int32_t)b.targets[i], b.weights[i]};
  }
done:
  return st;
}

status forest_new(forest **out, const step *s, const char *prefix) {
  status st = STATUS_OK;
  loader l = {.s = s, .prefix = prefix};
  TRY(mem_new(&l.f, 1, sizeof *l.f));
  TRY(read_lists(&l));
  TRY(sort_nodes(&l));
  TRY(link_nodes(&l));
  TRY(number_trees(&l));
  TRY(fill_branches(&l));
  TRY(fill_votes(&l));
done:
  mem_free(l.modes);
  mem_free(l.keys);
  mem_free(l.yes_at);
  mem_free(l.no_at);
  mem_free(l.has_parent);
  mem_free(l.place);
  if (st) forest_free(&l.f);
  *out = l.f;
  return st;
}
