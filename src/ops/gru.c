/* GRU (Cho et al. 2014), gates in the order z, r, h:
 *
 *     z = f(x Wz' + h Rz' + bz)    r = f(x Wr' + h Rr' + br)
 *     c = g(x Wh' + (r h) Rh' + bh)                    or with linear_before_reset
 *     c = g(x Wh' + Wbh + r (h Rh' + Rbh))
 *     h' = (1 - z) c + z h
 *
 * extra keeps r h, or with linear_before_reset h Rh' + Rbh. */
#include "ops/recurrent.h"

#include "ops/blas.h"

#include <string.h>

static const char *const defaults[] = {"Sigmoid", "Tanh"};

static void candidate_row(const moment *m, int64_t n) {
  const recurrent *r = m->r;
  const int64_t h = r->h;
  float *z = m->gates + n * 3 * h, *reset = z + h, *c = reset + h, *after = m->after + n * h;
  const float *before = m->before + n * h, *extra = m->extra + n * h;
  for (int64_t j = 0; r->linear_before_reset && j < h; j++) c[j] += reset[j] * extra[j];
  gate_value(&m->f[1], c, h);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) after[j] = (1 - z[j]) * c[j] + z[j] * before[j];
}

/* z and r of all sequences, and what extra is before the product with Rh. */
static void open_gates(const moment *m) {
  const recurrent *r = m->r;
  const int64_t h = r->h;
  recurrent_product_right(r, r->n, 2 * h, h, m->before, h, m->weight, h, true, m->gates, 3 * h);
  for (int64_t n = 0; n < r->n; n++) {
    float *z = m->gates + n * 3 * h, *reset = z + h, *extra = m->extra + n * h;
    const float *before = m->before + n * h;
    gate_value(&m->f[0], z, 2 * h);
    for (int64_t j = 0; j < h; j++)
      extra[j] = !r->linear_before_reset ? reset[j] * before[j] : m->bias ? m->bias[2 * h + j] : 0;
  }
}

static void gru_forward(const moment *m) {
  const recurrent *r = m->r;
  const int64_t h = r->h;
  const float *weight = m->weight + 2 * h * h;
  open_gates(m);
  if (r->linear_before_reset) {
    recurrent_product_right(r, r->n, h, h, m->before, h, weight, h, true, m->extra, h);
  } else {
    recurrent_product_right(r, r->n, h, h, m->extra, h, weight, h, true, m->gates + 2 * h, 3 * h);
  }
  for (int64_t n = 0; n < r->n; n++) {
    if (moment_has(m, n)) {
      candidate_row(m, n);
    } else {
      memcpy(m->after + n * h, m->before + n * h, (size_t)h * sizeof(float));
    }
  }
}

/* The gradients of what f and g were given, in the place of z and c; r's stays open. dh keeps what goes
 * straight back. */
static void backward_candidate(const moment *m, int64_t n) {
  const int64_t h = m->r->h;
  float *z = m->gates + n * 3 * h, *c = z + 2 * h, *dh = m->dh + n * h, *dz = m->row, *dc = dz + h;
  const float *before = m->before + n * h;
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    dz[j] = dh[j] * (before[j] - c[j]);
    dc[j] = dh[j] * (1 - z[j]);
    dh[j] *= z[j];
  }
  gate_slope(&m->f[0], dz, z, h);
  gate_slope(&m->f[1], dc, c, h);
  memcpy(z, dz, (size_t)h * sizeof *z);
  memcpy(c, dc, (size_t)h * sizeof *c);
}

/* dr = dc (h Rh' + Rbh); extra becomes its own gradient, dc r. */
static void backward_reset_after(const moment *m, int64_t n) {
  const int64_t h = m->r->h;
  float *reset = m->gates + n * 3 * h + h, *dc = reset + h, *extra = m->extra + n * h, *dr = m->row;
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    dr[j] = dc[j] * extra[j];
    extra[j] = dc[j] * reset[j];
  }
  gate_slope(&m->f[0], dr, reset, h);
  memcpy(reset, dr, (size_t)h * sizeof *reset);
}

/* spare is the gradient of r h. */
static void backward_reset_before(const moment *m, int64_t n) {
  const int64_t h = m->r->h;
  float *reset = m->gates + n * 3 * h + h, *dh = m->dh + n * h, *dr = m->row;
  const float *spare = m->spare + n * h, *before = m->before + n * h;
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    dr[j] = spare[j] * before[j];
    dh[j] += spare[j] * reset[j];
  }
  gate_slope(&m->f[0], dr, reset, h);
  memcpy(reset, dr, (size_t)h * sizeof *reset);
}

static void gru_backward(const moment *m) {
  const recurrent *r = m->r;
  const int64_t h = r->h;
  const bool after = r->linear_before_reset;
  const float *weight = m->weight + 2 * h * h;
  for (int64_t n = 0; n < r->n; n++) {
    if (moment_has(m, n)) {
      backward_candidate(m, n);
      if (after) backward_reset_after(m, n);
    } else {
      memset(m->gates + n * 3 * h, 0, (size_t)(3 * h) * sizeof(float));
      if (after) memset(m->extra + n * h, 0, (size_t)h * sizeof(float));
    }
  }
  if (after) {
    recurrent_product(r, false, r->n, h, h, m->extra, h, weight, h, true, m->dh, h);
  } else {
    recurrent_product(r, false, r->n, h, h, m->gates + 2 * h, 3 * h, weight, h, false, m->spare, h);
    for (int64_t n = 0; n < r->n; n++)
      if (moment_has(m, n)) backward_reset_before(m, n);
  }
  recurrent_product(r, false, r->n, h, 2 * h, m->gates, 3 * h, m->weight, h, true, m->dh, h);
}

static void gru_backward_weight(const recurrent *r, const float *gates, const float *states, float *extra,
                                bool add_weight, float *dweight, bool add_bias, float *dbias) {
  const int64_t rows = r->t * r->n, h = r->h;
  const bool after = r->linear_before_reset;
  if (dweight) {
    float *last = dweight + 2 * h * h;
    recurrent_product(r, true, 2 * h, h, rows, gates, 3 * h, states, h, add_weight, dweight, h);
    if (after) {
      recurrent_product(r, true, h, h, rows, extra, h, states, h, add_weight, last, h);
    } else {
      recurrent_product(r, true, h, h, rows, gates + 2 * h, 3 * h, extra, h, add_weight, last, h);
    }
  }
  if (!dbias) return;
  if (!add_bias) memset(dbias, 0, (size_t)(3 * h) * sizeof *dbias);
  for (int64_t k = 0; k < rows; k++) {
    gradient_write(dbias, gates + k * 3 * h, 2 * h, true);
    gradient_write(dbias + 2 * h, after ? extra + k * h : gates + k * 3 * h + 2 * h, h, true);
  }
}

static const cell_kind gru = {.gates = 3,
                              .functions = 2,
                              .defaults = defaults,
                              .has_extra = true,
                              .bias_apart = true,
                              .forward = gru_forward,
                              .backward = gru_backward,
                              .backward_weight = gru_backward_weight};

static status gru_infer(step *s) {
  return recurrent_infer(s, &gru);
}
static status gru_prepare(step *s) {
  return recurrent_prepare(s, &gru);
}

const op op_GRU = {.name = "GRU",
                   .domain = "",
                   .since = 7,
                   .min_inputs = 3,
                   .max_inputs = 6,
                   .max_outputs = 2,
                   .attributes = (const char *const[]){"activation_alpha", "activation_beta", "activations",
                                                       "clip", "direction", "hidden_size", "layout",
                                                       "linear_before_reset", NULL},
                   .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2,
                   .differentiable = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5,
                   .infer = gru_infer,
                   .prepare = gru_prepare,
                   .forward = recurrent_forward,
                   .backward = recurrent_backward,
                   .release = recurrent_release};
