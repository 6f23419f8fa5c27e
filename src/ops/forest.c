#include "ops/forest.h"

#include "ops/support.h"

#include "base/mem.h"

/* A loop a comparison, which is chosen once for all rows of a tree. A NaN fails every comparison but !=;
 * where the file says so it goes by yes. */
#define WALK(name, comparison)                                                                               \
  static void name(const forest *f, int32_t root, const float *x, int64_t n, int64_t d, int32_t *leaves) {   \
    const branch *branches = f->branches;                                                                    \
    for (int64_t i = 0; i < n; i++, x += d) {                                                                \
      int32_t at = root;                                                                                     \
      while (at >= 0) {                                                                                      \
        const branch *b = &branches[at];                                                                     \
        const float v = x[b->feature], t = b->value;                                                         \
        at = (comparison) || (v != v && b->missing_yes) ? b->yes : b->no;                                    \
      }                                                                                                      \
      leaves[i] = ~at;                                                                                       \
    }                                                                                                        \
  }
WALK(walk_leq, v <= t)
WALK(walk_lt, v < t)
WALK(walk_gte, v >= t)
WALK(walk_gt, v > t)
WALK(walk_eq, v == t)
WALK(walk_neq, v != t)

static bool compare(branch_mode mode, float v, float t) {
  switch (mode) {
  case BRANCH_LEQ:
    return v <= t;
  case BRANCH_LT:
    return v < t;
  case BRANCH_GTE:
    return v >= t;
  case BRANCH_GT:
    return v > t;
  case BRANCH_EQ:
    return v == t;
  default:
    return v != t;
  }
}
WALK(walk_mixed, compare((branch_mode)f->modes[at], v, t))

void forest_walk(const forest *f, int tree, const float *x, int64_t n, int64_t d, int32_t *leaves) {
  static void (*const walks[])(const forest *, int32_t, const float *, int64_t, int64_t, int32_t *) = {
      [BRANCH_LEQ] = walk_leq,  [BRANCH_LT] = walk_lt,      [BRANCH_GTE] = walk_gte,
      [BRANCH_GT] = walk_gt,    [BRANCH_EQ] = walk_eq,      [BRANCH_NEQ] = walk_neq,
      [BRANCH_LEAF] = walk_leq, [BRANCH_MIXED] = walk_mixed};
  walks[f->mode](f, f->roots[tree], x, n, d, leaves);
}

void forest_free(forest **f) {
  if (!*f) return;
  mem_free((*f)->roots);
  mem_free((*f)->leaves_end);
  mem_free((*f)->branches);
  mem_free((*f)->modes);
  mem_free((*f)->leaves);
  mem_free((*f)->votes);
  mem_free(*f);
  *f = NULL;
}
