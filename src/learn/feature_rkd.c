#include "learn/features.h"

#include <math.h>
#include <string.h>

static const double LEAST = 1e-12; /* squared distance: rows nearer than that have no direction */

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)teacher;
  return (size_t)(6 * rows * rows + student->row_values);
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

/* The cosine of the angle at i between rows j and k. */
static double cosine_at(const double *g, const double *d, int64_t n, int64_t i, int64_t j, int64_t k) {
  if (i == j || i == k || is_near(d[i * n + j]) || is_near(d[i * n + k])) return 0;
  return (g[j * n + k] - g[i * n + j] - g[i * n + k] + g[i * n + i]) / (d[i * n + j] * d[i * n + k]);
}

/* Adds factor * slope by the student's products and distances. */
static double compare_angles(const double *s, const double *sd, const double *t, const double *td, int64_t n,
                             double factor, double *dg, double *dd) {
  double sum = 0;
  const double share = factor / ((double)n * (double)n * (double)n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t k = 0; k < n; k++) {
        double slope;
        const double mine = cosine_at(s, sd, n, i, j, k);
        sum += huber(mine, cosine_at(t, td, n, i, j, k), &slope);
        if (i == j || i == k || is_near(sd[i * n + j]) || is_near(sd[i * n + k])) continue;
        const double by = share * slope / (sd[i * n + j] * sd[i * n + k]);
        dg[j * n + k] += by;
        dg[i * n + j] -= by;
        dg[i * n + k] -= by;
        dg[i * n + i] += by;
        dd[i * n + j] -= share * slope * mine / sd[i * n + j];
        dd[i * n + k] -= share * slope * mine / sd[i * n + k];
      }
  return sum / ((double)n * (double)n * (double)n);
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
         *dd = dg + n * n, *row = dd + n * n;
  if (n < 2) return 0;
  memset(dg, 0, 2 * (size_t)(n * n) * sizeof *dg);
  feature_products(&b->student[0], n, s);
  feature_products(&b->teacher[0], n, t);
  const double s_mean = distances_of(s, n, sd), t_mean = distances_of(t, n, td);
  double value = 0;
  if (o->distance > 0) value += o->distance * compare_distances(sd, s_mean, td, t_mean, n, o->distance, dd);
  if (o->angle > 0) value += o->angle * compare_angles(s, sd, t, td, n, o->angle, dg, dd);
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
