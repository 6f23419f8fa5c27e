/* TreeEnsembleClassifier and TreeEnsembleRegressor: sums of the votes of decision trees.
 *
 * Rows are taken in blocks, and every tree is asked for all rows of a block before the next one: its nodes
 * stay in the cache. Whatever the blocks, a row's sum is taken in the order of the trees, in double. */
#include "base/mem.h"
#include "ops/forest.h"
#include "ops/ml.h"

#include <math.h>
#include <string.h>

enum { BLOCK_ROWS = 128 };

typedef enum gather { GATHER_SUM, GATHER_AVERAGE, GATHER_MIN, GATHER_MAX } gather;

typedef struct trees {
  forest *f;
  ml_labels labels; /* of a classifier */
  int64_t targets;  /* sums a row */
  ml_transform transform;
  gather gather;
  const float *base; /* NULL: zero */
  int64_t n_base;
  bool one_score; /* two classes of which only one has votes: they are the score of the second class */
  bool positive;  /* and none of them is negative: it is a probability */
} trees;

static void trees_release(step *s) {
  trees *t = s->state;
  if (t) forest_free(&t->f);
  mem_free(t);
  s->state = NULL;
}

/* Space of one forward: rows as floats, scores where output 1 is not wanted, sums, leaves. */
typedef struct space {
  double *sums;
  float *rows, *scores;
  int32_t *leaves;
} space;

static space space_of(const step *s, const trees *t, int64_t rows, size_t *bytes) {
  size_t sums = (size_t)(BLOCK_ROWS * t->targets) * sizeof(double), at = (sums + 63) / 64 * 64;
  char *base = s->scratch;
  space p = {.sums = (double *)base};
  p.rows = (float *)(base + at);
  at += (size_t)ml_space(s, 0) * sizeof(float);
  p.scores = (float *)(base + at);
  at += (size_t)(rows * t->labels.n) * sizeof(float);
  p.leaves = (int32_t *)(base + at);
  *bytes = at + BLOCK_ROWS * sizeof(int32_t);
  return p;
}

static status trees_prepare(step *s, const char *prefix, int64_t targets) {
  status st = STATUS_OK;
  int64_t n, d;
  TRY(mem_new(&s->state, 1, sizeof(trees)));
  trees *t = s->state;
  t->targets = targets;
  TRY(ml_rows(s, 0, &n, &d));
  TRY(ml_transform_read(s, &t->transform));
  TRY(ml_reals(s, "base_values", &t->base, &t->n_base));
  TRY(forest_new(&t->f, s, prefix));
  if (t->f->features > d)
    return step_error(s, "compares feature %lld of rows that have %lld", (long long)t->f->features - 1,
                      (long long)d);
  if (t->f->targets > targets)
    return step_error(s, "has a weight for %s %lld of %lld", prefix, (long long)t->f->targets - 1,
                      (long long)targets);
done:
  return st;
}

static void add_votes(const forest *f, int64_t targets, const int32_t *leaves, int64_t n, double *sums) {
  for (int64_t i = 0; i < n; i++, sums += targets) {
    const leaf *l = &f->leaves[leaves[i]];
    for (int32_t k = l->first; k < l->first + l->n; k++) sums[f->votes[k].target] += f->votes[k].weight;
  }
}

/* Starts from NaN, which stands for no vote yet. */
static void pick_votes(const forest *f, bool most, int64_t targets, const int32_t *leaves, int64_t n,
                       double *sums) {
  for (int64_t i = 0; i < n; i++, sums += targets) {
    const leaf *l = &f->leaves[leaves[i]];
    for (int32_t k = l->first; k < l->first + l->n; k++) {
      double *to = &sums[f->votes[k].target], weight = f->votes[k].weight;
      if (isnan(*to) || (most ? weight > *to : weight < *to)) *to = weight;
    }
  }
}

static void block_sums(const trees *t, const float *x, int64_t n, int64_t d, const space *p) {
  const int64_t count = n * t->targets;
  bool pick = t->gather == GATHER_MIN || t->gather == GATHER_MAX;
  for (int64_t i = 0; i < count; i++) p->sums[i] = pick ? NAN : 0;
  for (int tree = 0; tree < t->f->n_trees; tree++) {
    forest_walk(t->f, tree, x, n, d, p->leaves);
    if (pick) {
      pick_votes(t->f, t->gather == GATHER_MAX, t->targets, p->leaves, n, p->sums);
    } else {
      add_votes(t->f, t->targets, p->leaves, n, p->sums);
    }
  }
  for (int64_t i = 0; i < count; i++) {
    double sum = isnan(p->sums[i]) ? 0 : p->sums[i];
    if (t->gather == GATHER_AVERAGE) sum /= t->f->n_trees;
    p->sums[i] = sum + (t->base ? t->base[i % t->targets] : 0);
  }
}

/* ---- classifier ---- */

static status classifier_infer(step *s) {
  status st = STATUS_OK;
  ml_labels labels;
  int64_t n, d;
  TRY(ml_rows(s, 0, &n, &d));
  TRY(ml_labels_read(s, "classlabels_int64s", "classlabels_strings", &labels));
  ml_classifier_outputs(s, n, labels.n);
done:
  return st;
}

static status check_base(const step *s, const trees *t) {
  if (!t->n_base || t->n_base == t->targets) return STATUS_OK;
  return step_error(s, "has %lld base_values for %lld scores", (long long)t->n_base, (long long)t->targets);
}

/* Votes for class 0 alone are what converters write; those that write them for class 1 mean the same when
 * margins are to become probabilities, and else a score of 0 for class 0. */
static bool has_one_score(const trees *t, int64_t labels) {
  int32_t only = t->f->n_votes ? t->f->votes[0].target : -1;
  for (int32_t i = 0; i < t->f->n_votes; i++) only = t->f->votes[i].target == only ? only : -1;
  return labels == 2 && t->n_base < 2 && (only == 0 || (only == 1 && t->transform == ML_LOGISTIC));
}

static status classifier_prepare(step *s) {
  status st = STATUS_OK;
  size_t bytes;
  ml_labels labels;
  TRY(ml_labels_read(s, "classlabels_int64s", "classlabels_strings", &labels));
  TRY(trees_prepare(s, "class", labels.n));
  trees *t = s->state;
  t->labels = labels;
  t->positive = true;
  for (int32_t i = 0; i < t->f->n_votes; i++) t->positive &= t->f->votes[i].weight >= 0;
  t->one_score = has_one_score(t, labels.n);
  if (t->one_score) t->targets = 1;
  for (int32_t i = 0; t->one_score && i < t->f->n_votes; i++) t->f->votes[i].target = 0;
  if (t->one_score && t->transform != ML_NONE && t->transform != ML_LOGISTIC)
    return step_error(s, "one score for two classes goes with post_transform NONE or LOGISTIC only");
  TRY(check_base(s, t));
  space_of(s, t, tensor_count(s->out[0]), &bytes);
  s->scratch_bytes = bytes;
done:
  return st;
}

/* One score for two classes: that of the second one, a probability or a margin. */
static void spread(const trees *t, double score, float *to) {
  if (t->transform == ML_LOGISTIC) {
    to[0] = ml_logistic(-score);
    to[1] = ml_logistic(score);
  } else {
    to[0] = (float)(t->positive ? 1 - score : -score);
    to[1] = (float)score;
  }
}

static status classifier_forward(step *s) {
  const trees *t = s->state;
  int64_t n, d;
  size_t bytes;
  status st = ml_rows(s, 0, &n, &d);
  if (st) return st;
  const space p = space_of(s, t, n, &bytes);
  const float *x = ml_floats(s, 0, p.rows);
  float *scores = s->n_out > 1 && s->out[1] ? s->out[1]->data : p.scores, *to = scores;
  for (int64_t first = 0; first < n; first += BLOCK_ROWS) {
    int64_t m = n - first < BLOCK_ROWS ? n - first : BLOCK_ROWS;
    block_sums(t, x + first * d, m, d, &p);
    for (int64_t i = 0; t->one_score && i < m; i++, to += 2) spread(t, p.sums[i], to);
    for (int64_t i = 0; !t->one_score && i < m * t->targets; i++) *to++ = (float)p.sums[i];
  }
  if (!t->one_score) ml_transform_apply(t->transform, scores, n, t->labels.n);
  ml_classify(s, &t->labels, scores, n);
  return STATUS_OK;
}

static const char *const classifier_attributes[] = {"base_values",
                                                    "base_values_as_tensor",
                                                    "class_ids",
                                                    "class_nodeids",
                                                    "class_treeids",
                                                    "class_weights",
                                                    "class_weights_as_tensor",
                                                    "classlabels_int64s",
                                                    "classlabels_strings",
                                                    "nodes_falsenodeids",
                                                    "nodes_featureids",
                                                    "nodes_hitrates",
                                                    "nodes_hitrates_as_tensor",
                                                    "nodes_missing_value_tracks_true",
                                                    "nodes_modes",
                                                    "nodes_nodeids",
                                                    "nodes_treeids",
                                                    "nodes_truenodeids",
                                                    "nodes_values",
                                                    "nodes_values_as_tensor",
                                                    "post_transform",
                                                    NULL};

const op op_TreeEnsembleClassifier = {.name = "TreeEnsembleClassifier",
                                      .domain = ML_DOMAIN,
                                      .since = 1,
                                      .min_inputs = 1,
                                      .max_inputs = 1,
                                      .max_outputs = 2,
                                      .attributes = classifier_attributes,
                                      .infer = classifier_infer,
                                      .prepare = classifier_prepare,
                                      .forward = classifier_forward,
                                      .release = trees_release};

/* ---- regressor ---- */

static status regressor_infer(step *s) {
  status st = STATUS_OK;
  int64_t n, d, targets = node_int(s->node, "n_targets", 1);
  TRY(ml_rows(s, 0, &n, &d));
  if (targets < 1 || targets > INT32_MAX / 2)
    return step_error(s, "n_targets=%lld is out of range", (long long)targets);
  step_set_output(s, 0, DTYPE_FLOAT, &(shape){.rank = 2, .dims = {n, targets}});
done:
  return st;
}

static status gather_read(const step *s, gather *g) {
  static const char *const names[] = {
      [GATHER_SUM] = "SUM", [GATHER_AVERAGE] = "AVERAGE", [GATHER_MIN] = "MIN", [GATHER_MAX] = "MAX"};
  const char *name = node_string(s->node, "aggregate_function", "SUM");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    *g = (gather)i;
    if (strcmp(name, names[i]) == 0) return STATUS_OK;
  }
  return step_error(s, "aggregate_function '%s' is none of SUM, AVERAGE, MIN, MAX", name);
}

static status regressor_prepare(step *s) {
  status st = STATUS_OK;
  size_t bytes;
  TRY(trees_prepare(s, "target", node_int(s->node, "n_targets", 1)));
  trees *t = s->state;
  TRY(gather_read(s, &t->gather));
  TRY(check_base(s, t));
  space_of(s, t, 0, &bytes);
  s->scratch_bytes = bytes;
done:
  return st;
}

static status regressor_forward(step *s) {
  const trees *t = s->state;
  int64_t n, d;
  size_t bytes;
  status st = ml_rows(s, 0, &n, &d);
  if (st) return st;
  const space p = space_of(s, t, 0, &bytes);
  const float *x = ml_floats(s, 0, p.rows);
  float *y = s->out[0]->data;
  for (int64_t first = 0; first < n; first += BLOCK_ROWS) {
    int64_t m = n - first < BLOCK_ROWS ? n - first : BLOCK_ROWS;
    block_sums(t, x + first * d, m, d, &p);
    for (int64_t i = 0; i < m * t->targets; i++) y[first * t->targets + i] = (float)p.sums[i];
  }
  ml_transform_apply(t->transform, y, n, t->targets);
  return STATUS_OK;
}

static const char *const regressor_attributes[] = {"aggregate_function",
                                                   "base_values",
                                                   "base_values_as_tensor",
                                                   "n_targets",
                                                   "nodes_falsenodeids",
                                                   "nodes_featureids",
                                                   "nodes_hitrates",
                                                   "nodes_hitrates_as_tensor",
                                                   "nodes_missing_value_tracks_true",
                                                   "nodes_modes",
                                                   "nodes_nodeids",
                                                   "nodes_treeids",
                                                   "nodes_truenodeids",
                                                   "nodes_values",
                                                   "nodes_values_as_tensor",
                                                   "post_transform",
                                                   "target_ids",
                                                   "target_nodeids",
                                                   "target_treeids",
                                                   "target_weights",
                                                   "target_weights_as_tensor",
                                                   NULL};

const op op_TreeEnsembleRegressor = {.name = "TreeEnsembleRegressor",
                                     .domain = ML_DOMAIN,
                                     .since = 1,
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .max_outputs = 1,
                                     .attributes = regressor_attributes,
                                     .infer = regressor_infer,
                                     .prepare = regressor_prepare,
                                     .forward = regressor_forward,
                                     .release = trees_release};
