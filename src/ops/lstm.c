/* LSTM (Hochreiter, Schmidhuber 1997; forget gate and peepholes of Gers et al. 2000), gates in the order i,
 * o, f, c:
 *
 *     i = f(x Wi' + h Ri' + Pi c + bi)     f = f(x Wf' + h Rf' + Pf c + bf)   or with input_forget 1 - i
 *     g = g(x Wc' + h Rc' + bc)            c' = f c + i g
 *     o = f(x Wo' + h Ro' + Po c' + bo)    h' = o h(c') */
#include "ops/recurrent.h"

#include <string.h>

static const char *const defaults[] = {"Sigmoid", "Tanh", "Tanh"};

/* y += a b, if there is an a. */
static void add_product(float *y, const float *a, const float *b, int64_t n) {
  if (!a) return;
  EACH_ALONE
  for (int64_t j = 0; j < n; j++) y[j] += a[j] * b[j];
}

static const float *peephole_of(const moment *m, int k) {
  return m->peephole ? m->peephole + k * m->r->h : NULL;
}

static void forward_row(const moment *m, int64_t n) {
  const int64_t h = m->r->h;
  const bool coupled = m->r->input_forget;
  float *i = m->gates + n * 4 * h, *o = i + h, *f = o + h, *g = f + h;
  float *cell = m->cell_after + n * h, *after = m->after + n * h;
  const float *old = m->cell_before + n * h;
  add_product(i, peephole_of(m, 0), old, h);
  gate_value(&m->f[0], i, h);
  if (!coupled) {
    add_product(f, peephole_of(m, 2), old, h);
    gate_value(&m->f[0], f, h);
  }
  gate_value(&m->f[1], g, h);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    f[j] = coupled ? 1 - i[j] : f[j];
    cell[j] = f[j] * old[j] + i[j] * g[j];
    after[j] = cell[j];
  }
  add_product(o, peephole_of(m, 1), cell, h);
  gate_value(&m->f[0], o, h);
  gate_value(&m->f[2], after, h);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) after[j] *= o[j];
}

static void lstm_forward(const moment *m) {
  const recurrent *r = m->r;
  const size_t bytes = (size_t)r->h * sizeof(float);
  recurrent_product_right(r, r->n, r->gh, r->h, m->before, r->h, m->weight, r->h, true, m->gates, r->gh);
  for (int64_t n = 0; n < r->n; n++) {
    if (moment_has(m, n)) {
      forward_row(m, n);
    } else {
      memcpy(m->after + n * r->h, m->before + n * r->h, bytes);
      memcpy(m->cell_after + n * r->h, m->cell_before + n * r->h, bytes);
    }
  }
}

/* The rows that backward needs, in the scratch of a moment. */
typedef struct gradients {
  float *i, *o, *f, *g, *cell, *squashed; /* of the gates, of c', and h(c') itself */
} gradients;

/* d_o = dh h(c') f'(o); dc' = dc + dh o h'(c') + Po d_o */
static void backward_output(const moment *m, int64_t n, const gradients *d) {
  const int64_t h = m->r->h;
  const float *o = m->gates + n * 4 * h + h, *dh = m->dh + n * h, *dc = m->dc + n * h;
  memcpy(d->squashed, m->cell_after + n * h, (size_t)h * sizeof(float));
  gate_value(&m->f[2], d->squashed, h);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    d->o[j] = dh[j] * d->squashed[j];
    d->cell[j] = dh[j] * o[j];
  }
  gate_slope(&m->f[0], d->o, o, h);
  gate_slope(&m->f[2], d->cell, d->squashed, h);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) d->cell[j] += dc[j];
  add_product(d->cell, peephole_of(m, 1), d->o, h);
}

static void backward_row(const moment *m, int64_t n) {
  const int64_t h = m->r->h;
  const bool coupled = m->r->input_forget;
  const gradients d = {m->row, m->row + h, m->row + 2 * h, m->row + 3 * h, m->row + 4 * h, m->row + 5 * h};
  float *i = m->gates + n * 4 * h, *f = i + 2 * h, *g = f + h, *dc = m->dc + n * h;
  const float *old = m->cell_before + n * h;
  backward_output(m, n, &d);
  EACH_ALONE
  for (int64_t j = 0; j < h; j++) {
    d.f[j] = coupled ? 0 : d.cell[j] * old[j];
    d.i[j] = d.cell[j] * (coupled ? g[j] - old[j] : g[j]);
    d.g[j] = d.cell[j] * i[j];
    dc[j] = d.cell[j] * f[j];
  }
  gate_slope(&m->f[0], d.i, i, h);
  gate_slope(&m->f[1], d.g, g, h);
  if (!coupled) gate_slope(&m->f[0], d.f, f, h);
  add_product(dc, peephole_of(m, 0), d.i, h);
  add_product(dc, peephole_of(m, 2), d.f, h);
  memcpy(i, d.i, (size_t)(4 * h) * sizeof *i);
  memset(m->dh + n * h, 0, (size_t)h * sizeof(float));
  if (!m->dpeephole) return;
  add_product(m->dpeephole, d.i, old, h);
  add_product(m->dpeephole + h, d.o, m->cell_after + n * h, h);
  add_product(m->dpeephole + 2 * h, d.f, old, h);
}

static void lstm_backward(const moment *m) {
  const recurrent *r = m->r;
  for (int64_t n = 0; n < r->n; n++) {
    if (moment_has(m, n)) {
      backward_row(m, n);
    } else {
      memset(m->gates + n * r->gh, 0, (size_t)r->gh * sizeof(float));
    }
  }
  recurrent_product(r, false, r->n, r->h, r->gh, m->gates, r->gh, m->weight, r->h, true, m->dh, r->h);
}

static const cell_kind lstm = {.gates = 4,
                               .functions = 3,
                               .defaults = defaults,
                               .has_cell = true,
                               .forward = lstm_forward,
                               .backward = lstm_backward};

static status lstm_infer(step *s) {
  return recurrent_infer(s, &lstm);
}
static status lstm_prepare(step *s) {
  return recurrent_prepare(s, &lstm);
}

const op op_LSTM = {.name = "LSTM",
                    .domain = "",
                    .since = 7,
                    .min_inputs = 3,
                    .max_inputs = 8,
                    .max_outputs = 3,
                    .attributes =
                        (const char *const[]){"activation_alpha", "activation_beta", "activations", "clip",
                                              "direction", "hidden_size", "input_forget", "layout", NULL},
                    .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2 | 1 << 7,
                    .differentiable = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7,
                    .infer = lstm_infer,
                    .prepare = lstm_prepare,
                    .forward = recurrent_forward,
                    .backward = recurrent_backward,
                    .release = recurrent_release};
