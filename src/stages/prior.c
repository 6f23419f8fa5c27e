#include "stages/prior.h"

#include "base/mem.h"
#include "base/progress.h"
#include "graph/op.h"
#include "stages/truth.h"

#include <math.h>
#include <string.h>

enum { MOST_ROUNDS = 1000 };
static const double ENOUGH = 1e-7; /* of a bias in one round */

status prior_bias(const classifier *k, int *value) {
  const graph *g = k->g;
  const head *h = &k->heads[0];
  if (k->n_heads > 1 || h->values || h->positions > 1)
    return status_set(STATUS_BAD_INPUT, "%s: prior_split is for students of one output, of one class a row",
                      k->path);
  const int from = g->values[h->value].producer;
  const node *n = from < 0 ? NULL : &g->nodes[from];
  const bool gemm = n && !strcmp(n->op->name, "Gemm") && node_float(n, "beta", 1) == 1;
  const bool add = n && !strcmp(n->op->name, "Add");
  for (int i = gemm ? 2 : 0; (gemm || add) && i < n->n_inputs; i++) {
    *value = n->inputs[i];
    if (*value < 0 || g->values[*value].kind != VALUE_PARAMETER) continue;
    const shape *s = &g->values[*value].shape;
    if (shape_count(s) != k->heads[0].classes || !s->rank || s->dims[s->rank - 1] != k->heads[0].classes)
      continue;
    if (!k->frozen || !k->frozen[*value]) return STATUS_OK;
    return status_set(STATUS_BAD_INPUT, "%s: prior_split sets '%s', which freeze keeps as it is", k->path,
                      g->values[*value].name);
  }
  return status_set(
      STATUS_BAD_INPUT,
      "%s: prior_split sets the biases of the last layer, and it has none (a Gemm or an Add with "
      "a parameter of %lld numbers)",
      k->path, (long long)k->heads[0].classes);
}

static status refuse_unlabelled(const dataset *d, const split *sp) {
  return status_set(STATUS_BAD_INPUT,
                    "%s: no row of split '%s' has a label to take the share of its class from; give priors",
                    dataset_path(d), sp->name);
}

status prior_check(const classifier *k, const dataset *d, const split *sp, const mpistill_reals *shares) {
  int value;
  const int64_t classes = k->heads[0].classes;
  status st = prior_bias(k, &value);
  if (st) return st;
  if (shares->n && (int64_t)shares->n != classes)
    return status_set(STATUS_BAD_INPUT, "priors: %zu given for %lld classes", shares->n, (long long)classes);
  return shares->n || truth_array(sp, k->heads[0].labels) ? STATUS_OK : refuse_unlabelled(d, sp);
}

void prior_clear(prior *p) {
  mem_free(p->bias);
  mem_free(p->shift);
  *p = (prior){0};
}

typedef struct job {
  comm *c;
  const classifier *k;
  dataset *d;
  const split *sp;
  int64_t block_rows, n_blocks, from, to; /* blocks of rows, and those of this rank */
  float *logits;                          /* of this rank's rows */
  double *sums;                           /* [n_blocks, C] */
  double *share, *mean;                   /* [C] */
} job;

static int64_t begin_of(const job *j, int64_t block) {
  return block * j->block_rows < j->sp->n ? block * j->block_rows : j->sp->n;
}

static status predict_mine(job *j, const feed *input, const float *block, int threads) {
  status st = STATUS_OK;
  predictor *p = NULL;
  const int64_t batch = j->block_rows / PREDICT_BLOCK_BATCHES, first = begin_of(j, j->from);
  TRY(mem_new(&j->logits, (size_t)(begin_of(j, j->to) - first),
              (size_t)j->k->heads[0].classes * sizeof *j->logits));
  TRY(predictor_new(&p, j->k, block, batch, threads));
  for (int64_t b = j->from; b < j->to; b++) {
    float *to = j->logits + (begin_of(j, b) - first) * j->k->heads[0].classes;
    TRY(predictor_run(p, input, begin_of(j, b), begin_of(j, b + 1) - begin_of(j, b), &to, NULL, NULL, NULL));
  }
done:
  predictor_free(&p);
  return st;
}

/* The shares of the classes among the labels of the split. */
static status count_labels(job *j, const truth *labels) {
  status st = STATUS_OK;
  int32_t *y = NULL;
  double all = 0;
  TRY(mem_new(&y, (size_t)j->block_rows, sizeof *y));
  for (int64_t b = 0; b < j->n_blocks; b++) {
    const int64_t from = begin_of(j, b), n = begin_of(j, b + 1) - from;
    TRY(truth_range(labels, from, n, y, NULL));
    for (int64_t i = 0; i < n; i++) {
      if (y[i] < 0) continue;
      j->share[y[i]]++;
      all++;
    }
  }
  if (all == 0) TRY(refuse_unlabelled(j->d, j->sp));
  for (int64_t k = 0; k < j->k->heads[0].classes; k++) j->share[k] /= all;
done:
  mem_free(y);
  return st;
}

static void take_shares(job *j, const mpistill_reals *shares) {
  double all = 0;
  for (size_t i = 0; i < shares->n; i++) all += shares->items[i];
  for (size_t i = 0; i < shares->n; i++) j->share[i] = shares->items[i] / all;
}

/* sums[C] of the probabilities of n rows. */
static void add_probabilities(const float *logits, int64_t n, int64_t classes, const double *shift,
                              double *row, double *sums) {
  for (int64_t i = 0; i < n; i++, logits += classes) {
    double most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < classes; k++) {
      row[k] = logits[k] + shift[k];
      most = fmax(most, row[k]);
    }
    for (int64_t k = 0; k < classes; k++) sum += row[k] = exp(row[k] - most);
    for (int64_t k = 0; k < classes; k++) sums[k] += row[k] / sum;
  }
}

/* What a round makes of the biases, from the sums of the probabilities; the largest move. */
static double move_biases(const job *j, double *shift) {
  const int64_t classes = j->k->heads[0].classes;
  double shared = 0, moved = 0; /* shared: what the classes with a share have together */
  for (int64_t k = 0; k < classes; k++) {
    j->mean[k] = 0;
    for (int64_t b = 0; b < j->n_blocks; b++) j->mean[k] += j->sums[b * classes + k];
    if (j->share[k] > 0) shared += j->mean[k];
  }
  for (int64_t k = 0; k < classes; k++) {
    if (j->share[k] <= 0 || j->mean[k] <= 0) continue;
    const double move = log(j->share[k] * shared / j->mean[k]);
    shift[k] += move;
    moved = fmax(moved, fabs(move));
  }
  return moved;
}

static status improve(job *j, double *row, double *shift, double *moved) {
  const int64_t classes = j->k->heads[0].classes, first = begin_of(j, j->from);
  memset(j->sums, 0, (size_t)(j->n_blocks * classes) * sizeof *j->sums);
  for (int64_t b = j->from; b < j->to; b++)
    add_probabilities(j->logits + (begin_of(j, b) - first) * classes, begin_of(j, b + 1) - begin_of(j, b),
                      classes, shift, row, j->sums + b * classes);
  status st = comm_combine(j->c, j->sums, (size_t)(j->n_blocks * classes));
  if (!st) *moved = move_biases(j, shift);
  return st;
}

static status solve(job *j, prior *out) {
  status st = STATUS_OK;
  double *row = NULL, moved = INFINITY;
  TRY(comm_agree(j->c, mem_new(&row, (size_t)j->k->heads[0].classes, sizeof *row)));
  for (out->rounds = 0; out->rounds < MOST_ROUNDS && moved > ENOUGH; out->rounds++)
    TRY(improve(j, row, out->shift, &moved));
  say_warning(
      comm_rank(j->c) == 0 && moved > ENOUGH,
      "prior_split: the shares of the classes are not met on split '%s': after %d rounds biases still "
      "move by up to %.2g a round, as the student is very sure of its rows",
      j->sp->name, MOST_ROUNDS, moved);
done:
  mem_free(row);
  return st;
}

static status find_shares(job *j, const truth *labels, const mpistill_reals *shares) {
  status st = STATUS_OK;
  const int64_t classes = j->k->heads[0].classes;
  TRY(mem_new(&j->share, (size_t)classes, sizeof *j->share));
  TRY(mem_new(&j->mean, (size_t)classes, sizeof *j->mean));
  TRY(mem_new(&j->sums, (size_t)(j->n_blocks * classes), sizeof *j->sums));
  if (shares->n)
    take_shares(j, shares);
  else
    TRY(count_labels(j, labels));
done:
  return st;
}

status prior_find(prior *out, comm *c, const classifier *k, const float *block, dataset *d, const split *sp,
                  const mpistill_reals *shares, int threads) {
  status st = STATUS_OK;
  feed input = {.augment = NULL};
  truth labels = {0};
  job j = {.c = c, .k = k, .d = d, .sp = sp};
  j.block_rows = predict_batch_rows(k) * PREDICT_BLOCK_BATCHES;
  j.n_blocks = (sp->n + j.block_rows - 1) / j.block_rows;
  j.from = j.n_blocks * comm_rank(c) / comm_size(c);
  j.to = j.n_blocks * (comm_rank(c) + 1) / comm_size(c);
  *out = (prior){0};
  TRY(prior_check(k, d, sp, shares));
  TRY(feed_open(&input, k, d, sp));
  const form f = head_form(&k->heads[0]);
  if (!shares->n) TRY(truth_open(&labels, d, sp, truth_array(sp, k->heads[0].labels), &f, NULL, 0));
  TRY(comm_agree(c, find_shares(&j, &labels, shares)));
  TRY(comm_agree(c, mem_new(&out->shift, (size_t)k->heads[0].classes, sizeof *out->shift)));
  TRY(comm_agree(c, mem_new(&out->bias, (size_t)k->heads[0].classes, sizeof *out->bias)));
  TRY(comm_agree(c, predict_mine(&j, &input, block, threads)));
  TRY(solve(&j, out));
  int value;
  TRY(prior_bias(k, &value));
  const float *old = block + k->g->values[value].offset;
  for (int64_t i = 0; i < k->heads[0].classes; i++) out->bias[i] = (float)(old[i] + out->shift[i]);
done:
  truth_close(&labels);
  feed_close(&input);
  mem_free(j.logits);
  mem_free(j.sums);
  mem_free(j.share);
  mem_free(j.mean);
  if (st) prior_clear(out);
  return st;
}
