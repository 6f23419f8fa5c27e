/* Teachers that know different classes: one distribution over all of them that agrees best with what each
 * says of its own. */
#include "learn/combines.h"
#include "learn/softmax.h"
#include "learn/union_fit.h"

#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

static const double LEAST = -280; /* logarithm of a probability relative to the largest: 1e-122 */

typedef struct job {
  const combine_batch *b;
  int n_blocks;
  int *of_class;           /* [classes] the block of each; classes that the same teachers list are one */
  int *begin;              /* [n_blocks + 1] of the blocks, in `order` */
  int64_t *order;          /* [classes] by block */
  unsigned char *known;    /* [teachers, n_blocks] */
  double *x;               /* [classes] of one teacher, in that order */
  double *said;            /* [classes] sum_k w_k p_k(c) over those that know c, relative to scale */
  double *scale, *largest; /* [n_blocks] logarithms; of x */
  double *mass;            /* [n_blocks] the logarithm of the mass of each */
  int *part;               /* [n_blocks] blocks that teachers compare with each other, at last */
  union_fit fit;
} job;

static bool knows(const combine_batch *b, int k, int64_t c) {
  return !b->known || !b->known[k] || b->known[k][c];
}

static bool has_others(const combine_batch *b, int k) {
  return b->others && b->others[k];
}

/* ---- blocks, the same for all rows ---- */

/* Splits blocks by what one teacher knows: renamed[2 * block + knows] is the new name. */
static void split_blocks(job *j, int k, int *renamed) {
  int n = 0;
  for (int i = 0; i < 2 * j->n_blocks; i++) renamed[i] = -1;
  for (int64_t c = 0; c < j->b->classes; c++) {
    int *name = &renamed[2 * j->of_class[c] + knows(j->b, k, c)];
    if (*name < 0) *name = n++;
    j->of_class[c] = *name;
  }
  j->n_blocks = n;
}

static void sort_classes(job *j) {
  for (int64_t c = 0; c < j->b->classes; c++) j->begin[j->of_class[c] + 1]++;
  for (int i = 0; i < j->n_blocks; i++) j->begin[i + 1] += j->begin[i];
  for (int64_t c = 0; c < j->b->classes; c++) j->order[j->begin[j->of_class[c]]++] = c;
  for (int i = j->n_blocks; i > 0; i--) j->begin[i] = j->begin[i - 1];
  j->begin[0] = 0;
}

static status pair_up(job *j) {
  const combine_batch *b = j->b;
  int n = 0;
  for (int k = 0; k < b->n_teachers; k++)
    for (int i = 0; i < j->n_blocks; i++) {
      j->known[k * j->n_blocks + i] = knows(b, k, j->order[j->begin[i]]);
      n += j->known[k * j->n_blocks + i] || has_others(b, k);
    }
  status st = union_fit_new(&j->fit, b->n_teachers, j->n_blocks, n);
  if (st) return st;
  n = 0;
  for (int k = 0; k < b->n_teachers; k++) {
    for (int i = 0; i < j->n_blocks; i++) {
      const bool own = j->known[k * j->n_blocks + i];
      if (!own && !has_others(b, k)) continue;
      j->fit.list[n] = k;
      j->fit.outside[n] = !own;
      j->fit.block[n++] = i;
    }
    j->fit.first[k + 1] = n;
  }
  union_fit_ready(&j->fit);
  return STATUS_OK;
}

static status open_job(job *j, const combine_batch *b) {
  status st = STATUS_OK;
  int *renamed = NULL;
  const size_t classes = (size_t)b->classes;
  *j = (job){.b = b, .n_blocks = 1};
  TRY(mem_new(&j->of_class, classes, sizeof *j->of_class));
  TRY(mem_new(&renamed, 2 * classes, sizeof *renamed));
  for (int k = 0; k < b->n_teachers; k++) split_blocks(j, k, renamed);
  const size_t n = (size_t)j->n_blocks;
  TRY(mem_new(&j->begin, n + 1, sizeof *j->begin));
  TRY(mem_new(&j->order, classes, sizeof *j->order));
  TRY(mem_new(&j->known, (size_t)b->n_teachers, n));
  TRY(mem_new(&j->x, classes, sizeof *j->x));
  TRY(mem_new(&j->said, classes, sizeof *j->said));
  TRY(mem_new(&j->scale, n, sizeof *j->scale));
  TRY(mem_new(&j->largest, n, sizeof *j->largest));
  TRY(mem_new(&j->mass, n, sizeof *j->mass));
  TRY(mem_new(&j->part, n, sizeof *j->part));
  sort_classes(j);
  TRY(pair_up(j));
done:
  mem_free(renamed);
  return st;
}

static void close_job(job *j) {
  mem_free(j->of_class), mem_free(j->begin), mem_free(j->order), mem_free(j->known), mem_free(j->x);
  mem_free(j->said), mem_free(j->scale), mem_free(j->largest), mem_free(j->mass), mem_free(j->part);
  union_fit_free(&j->fit);
}

/* ---- what teachers say of a row ---- */

/* The probabilities of block i to j->said; those that were there are brought to the larger scale. */
static void add_block(job *j, int i, double log_weight) {
  const int from = j->begin[i], to = j->begin[i + 1];
  if (log_weight > j->scale[i]) {
    const double less = exp(j->scale[i] - log_weight);
    for (int c = from; c < to; c++) j->said[c] *= less;
    j->scale[i] = log_weight;
  }
  const double weight = exp(log_weight - j->scale[i]);
  for (int c = from; c < to; c++) j->said[c] += weight * j->x[c];
}

/* Logits of what the teacher knows relative to the largest, over T, to j->x; *rest that of its others. */
static bool take_logits(job *j, const float *z, int k, double *rest) {
  const combine_batch *b = j->b;
  float most = -INFINITY;
  bool good = true;
  *rest = -INFINITY;
  for (int i = 0; i < j->n_blocks; i++) {
    const bool own = j->known[k * j->n_blocks + i];
    if (!own && !has_others(b, k)) continue;
    for (int c = j->begin[i]; c < j->begin[i + 1]; c++) {
      const float value = z[j->order[c]];
      good = good && value <= FLT_MAX;
      most = value > most ? value : most;
      j->x[c] = value;
      if (!own) *rest = value;
    }
  }
  if (!good || most == -INFINITY) return false;
  for (int i = 0; i < j->n_blocks; i++)
    for (int c = j->begin[i]; j->known[k * j->n_blocks + i] && c < j->begin[i + 1]; c++)
      j->x[c] = fmax((j->x[c] - most) / b->temperature, LEAST);
  if (has_others(b, k)) *rest = fmax((*rest - most) / b->temperature, LEAST);
  return true;
}

/* Adds teacher k's probabilities; one that gave no answer has no weight. False: it has logits that are none.
 */
static bool add_teacher(job *j, int k, int64_t row) {
  union_fit *f = &j->fit;
  const float *z = j->b->logits[k] + row * j->b->classes;
  double rest, sum = 0;
  f->weight[k] = isnan(z[0]) ? 0 : j->b->weights[k];
  if (f->weight[k] <= 0) return true;
  if (!take_logits(j, z, k, &rest)) return false;
  for (int at = f->first[k]; at < f->first[k + 1]; at++) {
    const int i = f->block[at], from = j->begin[i], to = j->begin[i + 1];
    f->log_p[at] = rest;
    if (!f->outside[at]) {
      double largest = -INFINITY, all = 0;
      for (int c = from; c < to; c++) largest = fmax(largest, j->x[c]);
      for (int c = from; c < to; c++) j->x[c] -= largest;
      softmax_exp(j->x + from, to - from);
      for (int c = from; c < to; c++) all += j->x[c];
      j->largest[i] = largest;
      f->log_p[at] = largest + log(all);
      sum += exp(f->log_p[at]);
    }
  }
  if (has_others(j->b, k)) sum += exp(rest);
  const double log_all = log(sum), log_weight = log(f->weight[k]);
  for (int at = f->first[k]; at < f->first[k + 1]; at++) {
    f->log_p[at] -= log_all;
    if (!f->outside[at]) add_block(j, f->block[at], log_weight + j->largest[f->block[at]] - log_all);
  }
  return true;
}

/* ---- parts that no teacher compares with each other ---- */

static int part_of(int *part, int i) {
  while (part[i] != i) i = part[i] = part[part[i]];
  return i;
}

/* Each has the mass that it has in the uniform distribution: its share of the classes. */
static void weigh_parts(job *j) {
  const union_fit *f = &j->fit;
  for (int i = 0; i < j->n_blocks; i++) j->part[i] = i;
  for (int k = 0; k < f->n_lists; k++)
    for (int at = f->first[k] + 1; at < f->first[k + 1] && f->weight[k] > 0; at++)
      j->part[part_of(j->part, f->block[at])] = part_of(j->part, f->block[f->first[k]]);
  for (int i = 0; i < j->n_blocks; i++) j->part[i] = part_of(j->part, i);
  double *most = j->largest, *sum = j->mass, *classes = j->x;
  for (int i = 0; i < j->n_blocks; i++) {
    most[i] = -INFINITY;
    sum[i] = classes[i] = 0;
  }
  for (int i = 0; i < j->n_blocks; i++) most[j->part[i]] = fmax(most[j->part[i]], f->v[i]);
  for (int i = 0; i < j->n_blocks; i++) {
    sum[j->part[i]] += exp(f->v[i] - most[j->part[i]]);
    classes[j->part[i]] += (double)(j->begin[i + 1] - j->begin[i]) / (double)j->b->classes;
  }
  for (int i = 0; i < j->n_blocks; i++) {
    const int p = j->part[i];
    f->v[i] += log(classes[p]) - most[p] - log(sum[p]);
  }
}

/* Within a block as all say together; uniform where nobody says anything. */
static void write_row(job *j, float *out) {
  for (int i = 0; i < j->n_blocks; i++) {
    const int from = j->begin[i], to = j->begin[i + 1];
    double all = 0;
    for (int c = from; c < to; c++) all += j->said[c];
    const double mass = exp(j->fit.v[i]);
    for (int c = from; c < to; c++) {
      const double q = all > 0 ? mass * j->said[c] / all : mass / (to - from);
      out[j->order[c]] = (float)(j->b->temperature * log(fmax(q, COMBINE_FLOOR)));
    }
  }
}

static status unite_row(job *j, int64_t row, float *out) {
  const combine_batch *b = j->b;
  const long long place = b->ids ? (long long)b->ids[row] : (long long)row;
  double weight = 0;
  memset(j->said, 0, (size_t)b->classes * sizeof *j->said);
  for (int i = 0; i < j->n_blocks; i++) {
    j->scale[i] = -INFINITY;
    j->fit.v[i] = log(j->begin[i + 1] - j->begin[i]);
  }
  for (int k = 0; k < b->n_teachers; k++) {
    if (!add_teacher(j, k, row))
      return status_set(STATUS_BAD_INPUT, "row %lld: logits of teacher %d are not finite", place, k + 1);
    weight += j->fit.weight[k];
  }
  if (!(weight > 0)) {
    for (int64_t c = 0; c < b->classes; c++) out[c] = NAN;
    return STATUS_OK;
  }
  if (!union_fit_solve(&j->fit))
    return status_set(STATUS_FAILED,
                      "row %lld: method 'union' finds no distribution at temperature %g that fits the "
                      "teachers; a higher temperature makes them less sure",
                      place, b->temperature);
  weigh_parts(j);
  write_row(j, out);
  return STATUS_OK;
}

static status union_rows(const combine_batch *b, float *out) {
  status st = STATUS_OK;
  job j;
  TRY(open_job(&j, b));
  for (int64_t i = 0; i < b->rows; i++) TRY(unite_row(&j, i, out + i * b->classes));
done:
  close_job(&j);
  return st;
}

static const char *const weighted[] = {"weights", NULL};

const combine_kind combine_union = {
    .name = "union",
    .formula = "T log(max(q, 1e-7)), q the distribution over all classes that makes sum_k w_k sum_c p_k(c) "
               "log q_k(c) "
               "largest, row by "
               "row: q_k(c) is q(c) relative to the classes that teacher k lists (UHC, Vongkulbhisal et al. "
               "2019); one that "
               "lists a class '*', all others, says p_k(*) of their sum (specialists, Hinton, Vinyals, Dean "
               "2015, section "
               "5). Where all know all it is probability-mean; classes that nothing compares with the others "
               "have together their share of the number of classes",
    .unites = true,
    .floor = COMBINE_FLOOR,
    .options = weighted,
    .rows = union_rows,
};
