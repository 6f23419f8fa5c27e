/* Teachers that know different classes: one distribution over all of them that agrees best with what each
 * says of its own. */
#include "learn/combines.h"
#include "learn/softmax.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MAX_STEPS = 2000 };
static const double ENOUGH = 1e-12; /* a step that changes no probability by a larger share is the last */
static const double LEAST = 1e-100; /* of a probability on the way */

typedef struct problem { /* of one row */
  int n;
  int64_t classes;
  const unsigned char *const *known;   /* [n] of [classes], NULL: all */
  double fixed[COMBINE_UNION_CLASSES]; /* sum of w_k p_k(c) over those that know c */
  double q[COMBINE_UNION_CLASSES];
  double w[COMBINE_MAX_TEACHERS], rest[COMBINE_MAX_TEACHERS]; /* w_k, w_k p_k(*); -1: it has no such class */
} problem;

static bool knows(const problem *p, int k, int64_t c) {
  return !p->known || !p->known[k] || p->known[k][c];
}

/* Adds teacher k's probabilities; one that gave no answer has no weight. */
static void add_teacher(problem *p, const combine_batch *b, int k, int64_t row) {
  const float *z = b->logits[k] + row * b->classes;
  const bool others = b->others && b->others[k];
  double most = -INFINITY, sum = 0, rest = -INFINITY;
  p->w[k] = isnan(z[0]) ? 0 : b->weights[k];
  p->rest[k] = -1;
  if (p->w[k] <= 0) return;
  for (int64_t c = 0; c < p->classes; c++) {
    if (knows(p, k, c) || others) most = fmax(most, z[c]);
    if (others && !knows(p, k, c)) rest = z[c];
  }
  for (int64_t c = 0; c < p->classes; c++)
    if (knows(p, k, c)) sum += exp((z[c] - most) / b->temperature);
  if (others) sum += exp((rest - most) / b->temperature);
  for (int64_t c = 0; c < p->classes; c++)
    if (knows(p, k, c)) p->fixed[c] += p->w[k] * exp((z[c] - most) / b->temperature) / sum;
  if (others) p->rest[k] = p->w[k] * exp((rest - most) / b->temperature) / sum;
}

/* One step of minorisation-maximisation: what is said of "others" is shared out as q has it, and what is said
 * within a list of classes counts relative to their sum. The likelihood never falls. Returns the largest
 * change.
 */
static double improve(problem *p) {
  double shares[COMBINE_MAX_TEACHERS], always = 0, sum = 0, change = 0;
  for (int k = 0; k < p->n; k++) {
    double inside = 0, outside = 0;
    for (int64_t c = 0; c < p->classes; c++) *(knows(p, k, c) ? &inside : &outside) += p->q[c];
    if (p->rest[k] >= 0) always += p->w[k];
    shares[k] = p->rest[k] >= 0 ? p->rest[k] / fmax(outside, LEAST) : p->w[k] / fmax(inside, LEAST);
  }
  for (int64_t c = 0; c < p->classes; c++) {
    double above = p->fixed[c], below = always;
    for (int k = 0; k < p->n; k++) {
      if (p->rest[k] >= 0 && !knows(p, k, c)) above += shares[k] * p->q[c];
      if (p->rest[k] < 0 && knows(p, k, c)) below += shares[k];
    }
    const double next = fmax(below > 0 ? above / below : p->q[c], LEAST);
    change = fmax(change, fabs(next - p->q[c]) / fmax(next, 1e-9));
    p->q[c] = next;
    sum += next;
  }
  for (int64_t c = 0; c < p->classes; c++) p->q[c] /= sum;
  return change;
}

static void union_rows(const combine_batch *b, float *out) {
  problem p = {.n = b->n_teachers, .classes = b->classes, .known = b->known};
  for (int64_t i = 0; i < b->rows; i++, out += b->classes) {
    double weight = 0;
    memset(p.fixed, 0, (size_t)b->classes * sizeof *p.fixed);
    for (int64_t c = 0; c < b->classes; c++) p.q[c] = 1 / (double)b->classes;
    for (int k = 0; k < b->n_teachers; k++) {
      add_teacher(&p, b, k, i);
      weight += p.w[k];
    }
    for (int step = 0; step < MAX_STEPS && improve(&p) > ENOUGH;) step++;
    for (int64_t c = 0; c < b->classes; c++)
      out[c] = weight > 0 ? (float)(b->temperature * log(fmax(p.q[c], COMBINE_FLOOR))) : NAN;
  }
}

static const char *const weighted[] = {"weights", NULL};

const combine_kind combine_union = {
    .name = "union",
    .formula = "T log q, q the distribution over all classes that makes sum_k w_k sum_c p_k(c) log q_k(c) "
               "largest, row by "
               "row: q_k(c) is q(c) relative to the classes that teacher k lists (UHC, Vongkulbhisal et al. "
               "2019); one that "
               "lists a class '*', all others, says p_k(*) of their sum (specialists, Hinton, Vinyals, Dean "
               "2015, section "
               "5). Where all know all it is probability-mean",
    .unites = true,
    .floor = COMBINE_FLOOR,
    .options = weighted,
    .rows = union_rows,
};
