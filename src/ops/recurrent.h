/* What LSTM, GRU and RNN share. T steps of time, N sequences, I inputs, H units, G gates, D directions:
 *
 *     X [T, N, I]   W [D, G H, I]   R [D, G H, H]   B [D, 2 G H]   Y [T, D, N, H]   states [D, N, H]
 *
 * (with layout 1: X [N, T, I], Y [N, T, D, H], states [N, D, H]). A direction runs in three parts: one
 * product of X with W for all times at once, then time after time the product of the last state with R and
 * the cell's own formula, element by element; backward likewise, the gradients of W, R and X as one product
 * each at its end.
 *
 * A sequence that is over keeps its state; its outputs are 0. In the reverse direction it keeps the initial
 * state until time has come down to its end, so that both directions walk through time in the same way. */
#ifndef MPISTILL_OPS_RECURRENT_H
#define MPISTILL_OPS_RECURRENT_H

#include "ops/support.h"

enum { RECURRENT_FUNCTIONS = 3, RECURRENT_DIRECTIONS = 2 };

/* y = value(x), in place; d *= slope, written in y. */
typedef struct activation {
  const char *name;
  float alpha, beta; /* defaults */
  void (*value)(float *y, int64_t n, float a, float b);
  void (*slope)(float *d, const float *y, int64_t n, float a, float b);
} activation;

/* An activation with its numbers. With clip > 0 its argument is cut to [-clip, clip] first. */
typedef struct gate_function {
  const activation *kind;
  float alpha, beta, clip;
  float low, high; /* of what is cut */
} gate_function;

/* NULL if there is none of that name (case does not matter, as in ONNX). */
const activation *recurrent_activation_find(const char *name);
void gate_value(const gate_function *f, float *y, int64_t n);
void gate_slope(const gate_function *f, float *d, const float *y, int64_t n);

typedef struct recurrent recurrent;

/* One direction at one time. Arrays are row-major. */
typedef struct moment {
  const recurrent *r;
  const gate_function *f; /* of this direction */
  int64_t time;
  const float *weight;   /* [G H, H] */
  const float *bias;     /* [G H] that belong to R, NULL: none */
  const float *peephole; /* [3 H], NULL: none */
  float *gates; /* [N, G H] in: X W' and the bias; out: activations. Backward: gradients of what went in */
  const float *before; /* [N, H] state */
  float *after;        /* [N, H] */
  const float *cell_before;
  float *cell_after; /* [N, H], of kinds with a cell state */
  float *extra;      /* [N, H], of kinds that keep one */
  float *dh,
      *dc; /* [N, H] gradients of the states after this time; they become those of the states before it */
  float *dpeephole; /* [3 H], added to; NULL: not wanted */
  float *spare;     /* [N, H] */
  float *row;       /* [RECURRENT_ROWS, H] */
} moment;

enum { RECURRENT_ROWS = 6 };

typedef struct cell_kind {
  int gates;
  int functions;               /* activations a direction takes */
  const char *const *defaults; /* and their names */
  bool has_cell, has_extra;
  bool bias_apart; /* with linear_before_reset: the last gate's share of R's bias is added by forward */
  void (*forward)(const moment *m);
  void (*backward)(const moment *m);
  /* Gradients of R [G H, H] and of its bias [G H] (NULL where not wanted), from gates [T N, G H], states
   * before [T N, H] and extra [T N, H]; NULL: R's is gates' states, its bias' the sum of gates. */
  void (*backward_weight)(const recurrent *r, const float *gates, const float *states, float *extra,
                          bool add_weight, float *dweight, bool add_bias, float *dbias);
} cell_kind;

struct recurrent {
  const cell_kind *kind;
  int64_t t, n, i, h, gh;
  int directions;
  bool backwards;   /* direction is `reverse` */
  bool by_sequence; /* layout 1 */
  bool linear_before_reset, input_forget, reference;
  gate_function functions[RECURRENT_DIRECTIONS][RECURRENT_FUNCTIONS];
  const int64_t *lengths; /* [N], NULL: all T */
};

status recurrent_infer(step *s, const cell_kind *kind);
status recurrent_prepare(step *s, const cell_kind *kind);
status recurrent_forward(step *s);
status recurrent_backward(step *s);
void recurrent_release(step *s);

/* Whether sequence n goes on at this time. */
static inline bool moment_has(const moment *m, int64_t n) {
  return !m->r->lengths || m->time < m->r->lengths[n];
}

/* y[m, n] (+)= op(a) b, rows of a, b and y so many floats apart. op(a) is [m, k]: `a` holds it so, or as [k,
 * m] with ta. recurrent_product_right: y (+)= a b', b [n, k]. */
void recurrent_product(const recurrent *r, bool ta, int64_t m, int64_t n, int64_t k, const float *a,
                       int64_t a_row, const float *b, int64_t b_row, bool add, float *y, int64_t y_row);
void recurrent_product_right(const recurrent *r, int64_t m, int64_t n, int64_t k, const float *a,
                             int64_t a_row, const float *b, int64_t b_row, bool add, float *y, int64_t y_row);

#endif
