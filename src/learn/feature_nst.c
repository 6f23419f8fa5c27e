#include "learn/features.h"

#include <math.h>
#include <string.h>

static const double LEAST = 1e-12;

static status check(const mpistill_feature *o, const feature_map *student, const feature_map *teacher) {
  (void)o;
  return feature_same_positions("nst", student, teacher);
}

static size_t scratch(const mpistill_feature *o, int64_t rows, const feature_map *student,
                      const feature_map *teacher) {
  (void)o, (void)rows;
  return (size_t)((student->channels + teacher->channels + 1) * student->positions + student->channels);
}

/* The maps of a row's channels at length 1, one after the other. lengths may be NULL. */
static void channels_of(const feature_map *m, int64_t row, double *out, double *lengths) {
  for (int64_t c = 0; c < m->channels; c++, out += m->positions) {
    double squares = 0;
    for (int64_t p = 0; p < m->positions; p++) {
      out[p] = m->values[feature_at(m, row, c, p)];
      squares += out[p] * out[p];
    }
    const double length = sqrt(squares);
    for (int64_t p = 0; p < m->positions; p++) out[p] /= length > LEAST ? length : LEAST;
    if (lengths) lengths[c] = length;
  }
}

static double product(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* Sum over the channels of `others` of (c . other)^2; adds factor * its slope by c. */
static double kernel(const double *c, const double *others, int64_t n_others, int64_t n, double factor,
                     double *slope) {
  double sum = 0;
  for (int64_t i = 0; i < n_others; i++, others += n) {
    const double x = product(c, others, n);
    sum += x * x;
    for (int64_t p = 0; p < n; p++) slope[p] += factor * x * others[p];
  }
  return sum;
}

static double row(const feature_batch *b, int64_t r, double factor) {
  const feature_map *m = &b->student[0];
  const int64_t n = m->positions, mine = m->channels, its = b->teacher[0].channels;
  const double mine_mean = 1 / ((double)mine * (double)mine), its_mean = 1 / ((double)its * (double)its),
               both_mean = 1 / ((double)mine * (double)its);
  double *s = b->scratch, *t = s + mine * n, *slope = t + its * n, *lengths = slope + n, value = 0;
  channels_of(m, r, s, lengths);
  channels_of(&b->teacher[0], r, t, NULL);
  for (int64_t c = 0; c < its; c++) value += its_mean * kernel(t + c * n, t, its, n, 0, slope);
  for (int64_t c = 0; c < mine; c++) {
    const double *u = s + c * n;
    memset(slope, 0, (size_t)n * sizeof *slope);
    value += mine_mean * kernel(u, s, mine, n, 4 * mine_mean, slope);
    value -= 2 * both_mean * kernel(u, t, its, n, -4 * both_mean, slope);
    const double along = product(u, slope, n);
    for (int64_t p = 0; lengths[c] > LEAST && p < n; p++)
      b->gradient[0][feature_at(m, r, c, p)] += (float)(factor * (slope[p] - u[p] * along) / lengths[c]);
  }
  return value;
}

static double evaluate(const mpistill_feature *o, const feature_batch *b) {
  double sum = 0;
  memset(b->scratch, 0, scratch(o, b->rows, &b->student[0], &b->teacher[0]) * sizeof *b->scratch);
  for (int64_t r = 0; r < b->rows; r++) sum += row(b, r, o->weight / (double)b->batch_rows);
  return sum / (double)b->batch_rows;
}

const feature_kind feature_nst = {
    .name = "nst",
    .formula =
        "mean k(s, s) + mean k(t, t) - 2 mean k(s, t) over pairs of channels of a row, mean over rows, "
        "k(a, b) = (a.b)^2 of channels at length 1: how channels are distributed over the positions (Huang, "
        "Wang 2017, polynomial kernel)",
    .check = check,
    .scratch = scratch,
    .evaluate = evaluate,
};
