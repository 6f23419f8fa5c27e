#include "learn/softmax.h"

#include "base/processor.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { BLOCK = 64 }; /* classes at a time, a multiple of the lanes */

/* exp(x) = 2^n exp(r), |r| <= ln(2)/2: the series up to r^10 leaves 2e-13. Adding 1.5 * 2^52 rounds x / ln 2
 * to n and leaves n in the low bits of the sum, whence it is shifted into an exponent: no conversion
 * instruction, so any vector unit will do. */
static double exp_one(double x) {
  const double round = 0x1.8p52, least = -708;
  x = least > x ? least : x; /* the order that keeps a NaN, and is one instruction */
  double shifted = x * 1.4426950408889634 + round;
  double r = x - (shifted - round) * 0.6931471805599453;
  double y = 1.0 / 3628800;
  y = y * r + 1.0 / 362880;
  y = y * r + 1.0 / 40320;
  y = y * r + 1.0 / 5040;
  y = y * r + 1.0 / 720;
  y = y * r + 1.0 / 120;
  y = y * r + 1.0 / 24;
  y = y * r + 1.0 / 6;
  y = y * r + 0.5;
  y = y * r + 1.0;
  y = y * r + 1.0;
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 52) + ((uint64_t)1023 << 52);
  double power;
  memcpy(&power, &bits, sizeof power);
  return y * power;
}

FOR_EACH_PROCESSOR void softmax_exp(double *x, int64_t n) {
  for (int64_t j = 0; j < n; j++) x[j] = exp_one(x[j]);
}

double softmax_add_lanes(const double lanes[SOFTMAX_LANES]) {
  double sum = lanes[0];
  for (int k = 1; k < SOFTMAX_LANES; k++) sum += lanes[k];
  return sum;
}

/* A NaN in the first place of a lane stays; elsewhere it is passed over here and shows up in the
 * exponentials. */
static float row_max(const float *z, int64_t n) {
  float lanes[SOFTMAX_LANES];
  for (int k = 0; k < SOFTMAX_LANES; k++) lanes[k] = z[0];
  int64_t j = 0;
  for (; j + SOFTMAX_LANES <= n; j += SOFTMAX_LANES)
    for (int k = 0; k < SOFTMAX_LANES; k++) lanes[k] = z[j + k] > lanes[k] ? z[j + k] : lanes[k];
  for (; j < n; j++) lanes[0] = z[j] > lanes[0] ? z[j] : lanes[0];
  for (int k = 1; k < SOFTMAX_LANES; k++) lanes[0] = lanes[k] > lanes[0] ? lanes[k] : lanes[0];
  return lanes[0];
}

static void add_to_lanes(double *restrict lanes, const double *restrict y, int n) {
  int j = 0;
  for (; j + SOFTMAX_LANES <= n; j += SOFTMAX_LANES)
    for (int k = 0; k < SOFTMAX_LANES; k++) lanes[k] += y[j + k];
  for (int k = 0; j + k < n; k++) lanes[k] += y[j + k];
}

FOR_EACH_PROCESSOR double softmax_terms(const float *z, int64_t n, double scale, float *e, double *sum) {
  double largest = row_max(z, n);
  double lanes[SOFTMAX_LANES] = {0}, terms[BLOCK];
  for (int64_t from = 0; from < n; from += BLOCK) {
    int m = n - from < BLOCK ? (int)(n - from) : BLOCK, m_whole = m;
    for (int j = 0; j < m; j++) terms[j] = (z[from + j] - largest) * scale;
    while (m_whole % SOFTMAX_LANES) terms[m_whole++] = 0; /* no rest to do one by one */
    for (int j = 0; j < m_whole; j++) terms[j] = exp_one(terms[j]);
    add_to_lanes(lanes, terms, m);
    if (e)
      for (int j = 0; j < m; j++) e[from + j] = (float)terms[j];
  }
  *sum = softmax_add_lanes(lanes);
  return largest * scale + log(*sum);
}
