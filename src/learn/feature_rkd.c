#include "learn/features.h"

#include "base/processor.h"

#include <math.h>
#include <string.h>

static const double LEAST = 1e-12; /* squared distance: rows nearer than that have no direction */

enum { ROWS = 5 }; /* what compare_angles works with: a number for every row of the shard in each */

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)teacher;
  return (size_t)(6 * rows * rows + ROWS * rows + student->row_values);
}

/* Distances of rows from their products; returns their mean. */
static double distances_of(const double *g, int64_t n, double *d) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      const double square = g[i * n + i] + g[j * n + j] - 2 * g[i * n + j];
      d[i * n + j] = i == j ? 0 : sqrt(square > LEAST ? square : LEAST);
      sum += d[i * n + j];
    }
  return sum / (double)(n * (n - 1));
}

/* Huber's: its value; *slope by the first argument. */
static double huber(double a, double b, double *slope) {
  const double apart = a - b;
  *slope = apart > 1 ? 1 : apart < -1 ? -1 : apart;
  return fabs(apart) <= 1 ? apart * apart / 2 : fabs(apart) - 0.5;
}

/* Adds factor * slope by the student's distances to dd. */
static double compare_distances(const double *s, double s_mean, const double *t, double t_mean, int64_t n,
                                double factor, double *dd) {
  double sum = 0, along = 0;
  const double share = factor / (double)(n * n);
  for (int64_t i = 0; i < n * n; i++) {
    double slope;
    sum += huber(s[i] / s_mean, t[i] / t_mean, &slope);
    dd[i] += share * slope / s_mean;
    along += slope * s[i];
  }
  along *= share / (s_mean * s_mean * (double)(n * (n - 1)));
  for (int64_t i = 0; i < n * n; i++) dd[i] -= along;
  return sum / (double)(n * n);
}

static bool is_near(double distance) {
  return distance * distance <= LEAST * (1 + 1e-9);
}

/* 1 / distance of row i to each, 0 to itself and to those that are near. */
static void reciprocals(const double *d, int64_t n, int64_t i, double *to) {
  for (int64_t j = 0; j < n; j++) to[j] = i == j || is_near(d[i * n + j]) ? 0 : 1 / d[i * n + j];
}

enum { LANES = 8 };

/* In LANES lanes, whatever the processor: the bits are the same. */
FOR_EACH_PROCESSOR static double sum_of(const double *x, int64_t n) {
  double lanes[LANES] = {0}, sum = 0;
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES)
    for (int l = 0; l < LANES; l++) lanes[l] += x[k + l];
  for (int l = 0; k < n; k++, l++) lanes[l] += x[k];
  for (int l = 0; l < LANES; l++) sum += lanes[l];
  return sum;
}

/* At row i, of the student or the teacher: its row of the products, and 1 / distance to each. */
typedef struct corner {
  const double *products, *near;
  double square; /* its product with itself */
} corner;

/* [n] each, for one j: of the angle to every k Huber's value, the slope by the products, that by the
 * logarithm of the distances. */
typedef struct angles {
  double *value, *by, *turned;
} angles;

/* s_j, t_j: row j of the products. Adds factor * slope to dg_j. */
FOR_EACH_PROCESSOR static void angles_at(const corner *s, const double *s_j, const corner *t,
                                         const double *t_j, int64_t j, double factor, int64_t n,
                                         const angles *to, double *dg_j) {
  const double *s_i = s->products, *t_i = t->products, *s_near = s->near, *t_near = t->near;
  double *value = to->value, *by = to->by, *turned = to->turned;
  const double s_here = s->square - s_i[j], t_here = t->square - t_i[j], s_near_j = s_near[j],
               t_near_j = t_near[j];
#pragma omp simd
  for (int64_t k = 0; k < n; k++) {
    const double near = s_near_j * s_near[k], mine = (s_j[k] - s_i[k] + s_here) * near;
    const double apart = mine - (t_j[k] - t_i[k] + t_here) * (t_near_j * t_near[k]);
    const double slope = apart > 1 ? 1 : apart < -1 ? -1 : apart;
    value[k] = slope * (apart - slope / 2); /* Huber's */
    by[k] = factor * slope * near;
    turned[k] = factor * slope * mine;
    dg_j[k] += by[k];
  }
}

FOR_EACH_PROCESSOR static void take_from(double *restrict to, const double *restrict x, int64_t n) {
  for (int64_t k = 0; k < n; k++) to[k] -= x[k];
}

FOR_EACH_PROCESSOR static void take_products(double *restrict to, const double *restrict x,
                                             const double *restrict y, int64_t n) {
  for (int64_t k = 0; k < n; k++) to[k] -= x[k] * y[k];
}

/* Adds factor * slope by the student's products and distances. rows: ROWS * n numbers. */
static double compare_angles(const double *s, const double *sd, const double *t, const double *td, int64_t n,
                             double factor, double *dg, double *dd, double *rows) {
  const double triples = (double)n * (double)n * (double)n;
  const angles each = {rows, rows + n, rows + 2 * n};
  double sum = 0, *s_near = rows + 3 * n, *t_near = rows + 4 * n;
  for (int64_t i = 0; i < n; i++) {
    const corner s_i = {s + i * n, s_near, s[i * n + i]}, t_i = {t + i * n, t_near, t[i * n + i]};
    reciprocals(sd, n, i, s_near);
    reciprocals(td, n, i, t_near);
    for (int64_t j = 0; j < n; j++) {
      if (s_near[j] == 0 && t_near[j] == 0) continue;
      angles_at(&s_i, s + j * n, &t_i, t + j * n, j, factor / triples, n, &each, dg + j * n);
      take_from(dg + i * n, each.by, n);
      take_products(dd + i * n, each.turned, s_near, n);
      const double by = sum_of(each.by, n);
      sum += sum_of(each.value, n);
      dg[i * n + j] -= by;
      dg[i * n + i] += by;
      dd[i * n + j] -= sum_of(each.turned, n) * s_near[j];
    }
  }
  return sum / triples;
}

/* From distances to products: d^2 = g_ii + g_jj - g_ij - g_ji. */
static void distances_back(const double *d, const double *dd, int64_t n, double *dg) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      if (i == j || is_near(d[i * n + j])) continue;
      const double by = dd[i * n + j] / (2 * d[i * n + j]);
      dg[i * n + i] += by;
      dg[j * n + j] += by;
      dg[i * n + j] -= by;
      dg[j * n + i] -= by;
    }
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  const int64_t n = b->rows;
  double *s = b->scratch, *t = s + n * n, *sd = t + n * n, *td = sd + n * n, *dg = td + n * n,
         *dd = dg + n * n, *rows = dd + n * n, *row = rows + ROWS * n;
  if (n < 2) return 0;
  memset(dg, 0, 2 * (size_t)(n * n) * sizeof *dg);
  feature_products(&b->student[0], n, s);
  feature_products(&b->teacher[0], n, t);
  const double s_mean = distances_of(s, n, sd), t_mean = distances_of(t, n, td);
  double value = 0;
  if (o->distance > 0) value += o->distance * compare_distances(sd, s_mean, td, t_mean, n, o->distance, dd);
  if (o->angle > 0) value += o->angle * compare_angles(s, sd, t, td, n, o->angle, dg, dd, rows);
  distances_back(sd, dd, n, dg);
  const double share = (double)n / (double)b->batch_rows;
  feature_products_back(&b->student[0], n, dg, o->weight * share, row, b->gradient[0]);
  return value * share;
}

static const char *const keys[] = {"distance", "angle", NULL};

const feature_kind feature_rkd = {
    .name = "rkd",
    .formula =
        "distance * mean over pairs of rows of h(d(s)/mean d(s), d(t)/mean d(t)) + angle * mean over triples "
        "of "
        "h(cosine at s, cosine at t), h Huber's loss, of one vector a row; distance 1, angle 2; over the "
        "rows "
        "of a shard, whose cube it takes time for (Park et al. 2019). Means count the zeros of a row with "
        "itself, as the authors' code does",
    .relates_rows = true,
    .options = keys,
    .scratch = scratch,
    .evaluate = evaluate,
};
