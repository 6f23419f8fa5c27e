#include "learn/features.h"

#include <math.h>

static const double EPSILON = 1e-7; /* beside lengths and probabilities, as in the authors' code */

typedef struct relations { /* of n rows */
  int64_t n;
  double *cosines, *p;    /* [n, n] */
  double *lengths, *sums; /* [n] of the rows; what a row of p was divided by */
} relations;

static relations cut(double **scratch, int64_t n) {
  relations r = {n, *scratch, *scratch + n * n, *scratch + 2 * n * n, *scratch + 2 * n * n + n};
  *scratch += 2 * n * n + 2 * n;
  return r;
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)teacher;
  return (size_t)(5 * rows * rows + 5 * rows + student->row_values);
}

static void relate(const relations *r, const feature_map *m) {
  const int64_t n = r->n;
  feature_products(m, n, r->cosines);
  for (int64_t i = 0; i < n; i++) r->lengths[i] = sqrt(r->cosines[i * n + i]);
  for (int64_t i = 0; i < n; i++) {
    r->sums[i] = 0;
    for (int64_t j = 0; j < n; j++) {
      r->cosines[i * n + j] /= (r->lengths[i] + EPSILON) * (r->lengths[j] + EPSILON);
      r->sums[i] += r->p[i * n + j] = (r->cosines[i * n + j] + 1) / 2;
    }
    for (int64_t j = 0; j < n; j++) r->p[i * n + j] /= r->sums[i];
  }
}

/* slopes: by p, become those by the products. diagonal: [n] for use. */
static void back(const relations *r, double *slopes, double *diagonal) {
  const int64_t n = r->n;
  for (int64_t i = 0; i < n; i++) {
    double along = 0;
    for (int64_t j = 0; j < n; j++) along += slopes[i * n + j] * r->p[i * n + j];
    for (int64_t j = 0; j < n; j++) slopes[i * n + j] = (slopes[i * n + j] - along) / (2 * r->sums[i]);
  }
  for (int64_t i = 0; i < n; i++) { /* a length is the root of the product with itself */
    double by_length = 0;
    for (int64_t j = 0; j < n; j++)
      by_length -= slopes[i * n + j] * r->cosines[i * n + j] + slopes[j * n + i] * r->cosines[j * n + i];
    diagonal[i] = r->lengths[i] > 0 ? by_length / (r->lengths[i] + EPSILON) / (2 * r->lengths[i]) : 0;
  }
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++)
      slopes[i * n + j] /= (r->lengths[i] + EPSILON) * (r->lengths[j] + EPSILON);
    slopes[i * n + i] += diagonal[i];
  }
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const int64_t n = b->rows;
  double *at = b->scratch, sum = 0;
  const relations s = cut(&at, n), t = cut(&at, n);
  double *slopes = at, *diagonal = slopes + n * n, *row = diagonal + n;
  const double share = 1 / ((double)n * (double)b->batch_rows); /* 1/n^2, times n/batch rows */
  relate(&s, &b->student[0]);
  relate(&t, &b->teacher[0]);
  for (int64_t i = 0; i < n * n; i++) {
    sum += t.p[i] * log((t.p[i] + EPSILON) / (s.p[i] + EPSILON));
    slopes[i] = -t.p[i] / (s.p[i] + EPSILON);
  }
  back(&s, slopes, diagonal);
  feature_products_back(&b->student[0], n, slopes, o->weight * share, row, b->gradient[0]);
  return sum * share;
}

const feature_kind feature_pkt = {
    .name = "pkt",
    .formula = "sum over pairs of rows of p(t) log(p(t)/p(s)), divided by rows^2, p = (1 + cosine)/2 of two "
               "rows made to "
               "sum to 1 over the second; one vector a row, the rows of a shard (Passalis, Tefas 2018)",
    .relates_rows = true,
    .scratch = scratch,
    .evaluate = evaluate,
};
