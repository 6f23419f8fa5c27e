#include "ops/recurrent.h"

#include "ops/blas.h"
#include "ops/reference.h"

#include "base/mem.h"

#include <string.h>

/* The inputs, by their place. */
enum { IN_X, IN_W, IN_R, IN_B, IN_LENGTHS, IN_H, IN_C, IN_P };
enum { OUT_Y, OUT_H, OUT_C };

void recurrent_product(const recurrent *r, bool ta, int64_t m, int64_t n, int64_t k, const float *a,
                       int64_t a_row, const float *b, int64_t b_row, bool add, float *y, int64_t y_row) {
  if (r->reference || !blas_fits(m, n, k)) {
    const product p = {.m = m,
                       .n = n,
                       .k = k,
                       .a_row = ta ? 1 : a_row,
                       .a_column = ta ? a_row : 1,
                       .b_row = b_row,
                       .b_column = 1,
                       .y_row = y_row,
                       .y_column = 1,
                       .alpha = 1,
                       .accumulate = add};
    product_reference(DTYPE_FLOAT, &p, a, b, y);
  } else {
    blas_product_rows(ta, false, m, n, k, 1, a, a_row, b, b_row, add, y, y_row);
  }
}

void recurrent_product_right(const recurrent *r, int64_t m, int64_t n, int64_t k, const float *a,
                             int64_t a_row, const float *b, int64_t b_row, bool add, float *y,
                             int64_t y_row) {
  if (r->reference || !blas_fits(m, n, k)) {
    const product p = {.m = m,
                       .n = n,
                       .k = k,
                       .a_row = a_row,
                       .a_column = 1,
                       .b_row = 1,
                       .b_column = b_row,
                       .y_row = y_row,
                       .y_column = 1,
                       .alpha = 1,
                       .accumulate = add};
    product_reference(DTYPE_FLOAT, &p, a, b, y);
  } else {
    blas_product_rows(false, true, m, n, k, 1, a, a_row, b, b_row, add, y, y_row);
  }
}

static status read_direction(const step *s, recurrent *r) {
  const char *name = node_string(s->node, "direction", "forward");
  r->directions = strcmp(name, "bidirectional") == 0 ? 2 : 1;
  r->backwards = strcmp(name, "reverse") == 0;
  if (r->directions == 2 || r->backwards || strcmp(name, "forward") == 0) return STATUS_OK;
  return step_error(s, "direction is '%s', expected forward, reverse or bidirectional", name);
}

/* Of an array with or without the axis of sequences in the middle, as the layout wants it. */
static status want_shape(const step *s, int i, dtype type, int rank, int64_t a, int64_t b, int64_t c) {
  const shape wanted = {.rank = rank, .dims = {a, b, c}};
  char given[96], text[96];
  if (!step_has(s, i)) return STATUS_OK;
  if (!shape_equal(&s->in[i]->shape, &wanted))
    return step_error(s, "input %d has shape %s, expected %s", i,
                      shape_text(&s->in[i]->shape, given, sizeof given),
                      shape_text(&wanted, text, sizeof text));
  return i == IN_LENGTHS ? input_want_index(s, i) : input_want(s, i, type);
}

static status read_geometry(const step *s, const cell_kind *kind, recurrent *r) {
  const shape *x = &s->in[IN_X]->shape, *w = &s->in[IN_R]->shape;
  status st = STATUS_OK;
  r->kind = kind;
  r->by_sequence = node_int(s->node, "layout", 0) != 0;
  r->reference = s->reference;
  r->linear_before_reset = node_int(s->node, "linear_before_reset", 0) != 0;
  r->input_forget = node_int(s->node, "input_forget", 0) != 0;
  TRY(read_direction(s, r));
  if (x->rank != 3) return step_error(s, "needs an input of 3 dimensions, not %d", x->rank);
  if (w->rank != 3) return step_error(s, "needs a recurrent weight of 3 dimensions, not %d", w->rank);
  r->t = x->dims[r->by_sequence ? 1 : 0];
  r->n = x->dims[r->by_sequence ? 0 : 1];
  r->i = x->dims[2];
  r->h = node_int(s->node, "hidden_size", w->dims[2]);
  r->gh = kind->gates * r->h;
  if (r->h != w->dims[2])
    return step_error(s, "hidden_size is %lld, its weights have %lld", (long long)r->h,
                      (long long)w->dims[2]);
done:
  return st;
}

static status check_inputs(const step *s, const recurrent *r) {
  const int64_t d = r->directions, first = r->by_sequence ? r->n : d, second = r->by_sequence ? d : r->n;
  status st = STATUS_OK;
  TRY(input_want(s, IN_X, DTYPE_FLOAT));
  TRY(want_shape(s, IN_W, DTYPE_FLOAT, 3, d, r->gh, r->i));
  TRY(want_shape(s, IN_R, DTYPE_FLOAT, 3, d, r->gh, r->h));
  TRY(want_shape(s, IN_B, DTYPE_FLOAT, 2, d, 2 * r->gh, 0));
  TRY(want_shape(s, IN_LENGTHS, DTYPE_INT32, 1, r->n, 0, 0));
  TRY(want_shape(s, IN_H, DTYPE_FLOAT, 3, first, second, r->h));
  TRY(want_shape(s, IN_C, DTYPE_FLOAT, 3, first, second, r->h));
  TRY(want_shape(s, IN_P, DTYPE_FLOAT, 2, d, 3 * r->h, 0));
done:
  return st;
}

status recurrent_infer(step *s, const cell_kind *kind) {
  recurrent r = {0};
  status st = STATUS_OK;
  TRY(read_geometry(s, kind, &r));
  TRY(check_inputs(s, &r));
  const int64_t d = r.directions;
  const shape y = {.rank = 4, .dims = {r.t, d, r.n, r.h}},
              y_by_sequence = {.rank = 4, .dims = {r.n, r.t, d, r.h}};
  const shape state = {.rank = 3, .dims = {r.by_sequence ? r.n : d, r.by_sequence ? d : r.n, r.h}};
  step_set_output(s, OUT_Y, DTYPE_FLOAT, r.by_sequence ? &y_by_sequence : &y);
  step_set_output(s, OUT_H, DTYPE_FLOAT, &state);
  step_set_output(s, OUT_C, DTYPE_FLOAT, &state);
done:
  return st;
}

/* The numbers of attribute activation_alpha or activation_beta stand in the order of the activations that
 * take one; what is not given has the activation's own. */
static float next_number(const step *s, const char *name, int *used, float fallback, bool takes_one) {
  const attribute *a = node_attribute(s->node, name);
  if (!takes_one || !a || a->type != ATTRIBUTE_FLOATS || *used >= a->n) return fallback;
  return a->floats[(*used)++];
}

static status read_functions(const step *s, recurrent *r) {
  const attribute *names = node_attribute(s->node, "activations");
  const int per = r->kind->functions, n = per * r->directions;
  int alphas = 0, betas = 0;
  if (names && (names->type != ATTRIBUTE_STRINGS || names->n != n))
    return step_error(s, "needs %d activations", n);
  for (int k = 0; k < n; k++) {
    gate_function *f = &r->functions[k / per][k % per];
    const char *name = names ? names->strings[k] : r->kind->defaults[k % per];
    f->kind = recurrent_activation_find(name);
    if (!f->kind) return step_error(s, "activation '%s' is not supported", name);
    f->alpha = next_number(s, "activation_alpha", &alphas, f->kind->alpha, f->kind->alpha != 0);
    f->beta = next_number(s, "activation_beta", &betas, f->kind->beta, f->kind->beta != 0);
    f->clip = node_float(s->node, "clip", 0);
    f->low = -f->clip;
    f->high = f->clip;
    f->kind->value(&f->low, 1, f->alpha, f->beta);
    f->kind->value(&f->high, 1, f->alpha, f->beta);
  }
  return STATUS_OK;
}

/* What is kept of a direction: gates [T, N, G H], states [T + 1, N, H], and as the kind has them cell states
 * [T + 1, N, H] and extra [T, N, H]. Behind the directions X in the order of time, with layout 1, and
 * lengths. */
static int64_t states_floats(const recurrent *r) {
  return (r->t + 1) * r->n * r->h;
}
static int64_t direction_floats(const recurrent *r) {
  return r->t * r->n * r->gh + states_floats(r) * (r->kind->has_cell ? 2 : 1) +
         (r->kind->has_extra ? r->t * r->n * r->h : 0);
}
static int64_t kept_floats(const recurrent *r) {
  int64_t n = r->directions * direction_floats(r) + (r->by_sequence ? r->t * r->n * r->i : 0);
  return (n + 1) / 2 * 2; /* int64_t follow */
}

status recurrent_prepare(step *s, const cell_kind *kind) {
  status st = STATUS_OK;
  TRY(mem_new(&s->state, 1, sizeof(recurrent)));
  recurrent *r = s->state;
  TRY(read_geometry(s, kind, r));
  TRY(read_functions(s, r));
  s->saved_bytes = (size_t)kept_floats(r) * sizeof(float) + (size_t)r->n * sizeof(int64_t);
  int64_t scratch = 3 * r->n * r->h + RECURRENT_ROWS * r->h + (r->by_sequence ? r->t * r->n * r->i : 0);
  s->scratch_bytes = (size_t)(scratch > r->gh ? scratch : r->gh) * sizeof(float);
done:
  return st;
}

void recurrent_release(step *s) {
  mem_free(s->state);
  s->state = NULL;
}

/* A direction's arrays in the memory that is kept, and its weights. */
typedef struct course {
  bool reverse;
  const float *w, *weight, *bias, *peephole;
  float *gates, *states, *cells, *extra;
} course;

static const float *input_part(const step *s, int i, int64_t at) {
  return step_has(s, i) ? (const float *)s->in[i]->data + at : NULL;
}

static course find_course(const step *s, const recurrent *r, int d) {
  course c = {.reverse = r->backwards || d == 1,
              .w = input_part(s, IN_W, d * r->gh * r->i),
              .weight = input_part(s, IN_R, d * r->gh * r->h),
              .bias = input_part(s, IN_B, d * 2 * r->gh),
              .peephole = input_part(s, IN_P, d * 3 * r->h)};
  c.gates = (float *)s->saved + d * direction_floats(r);
  c.states = c.gates + r->t * r->n * r->gh;
  c.cells = c.states + states_floats(r);
  c.extra = c.cells + (r->kind->has_cell ? states_floats(r) : 0);
  return c;
}

static float *time_major(const step *s, const recurrent *r) {
  return (float *)s->saved + r->directions * direction_floats(r);
}

/* X as [T N, I]. */
static const float *x_of(const step *s, const recurrent *r) {
  return r->by_sequence ? time_major(s, r) : s->in[IN_X]->data;
}

static moment find_moment(const recurrent *r, const course *c, int d, int64_t time) {
  const int64_t states = r->n * r->h, before = time + c->reverse, after = time + !c->reverse;
  return (moment){.r = r,
                  .f = r->functions[d],
                  .time = time,
                  .weight = c->weight,
                  .bias = c->bias ? c->bias + r->gh : NULL,
                  .peephole = c->peephole,
                  .gates = c->gates + time * r->n * r->gh,
                  .before = c->states + before * states,
                  .after = c->states + after * states,
                  .cell_before = c->cells + before * states,
                  .cell_after = c->cells + after * states,
                  .extra = c->extra + time * states};
}

static status read_lengths(step *s, recurrent *r) {
  r->lengths = NULL;
  if (!step_has(s, IN_LENGTHS)) return STATUS_OK;
  int64_t *lengths = (int64_t *)((float *)s->saved + kept_floats(r));
  for (int64_t n = 0; n < r->n; n++) {
    lengths[n] = tensor_int(s->in[IN_LENGTHS], n);
    if (lengths[n] < 0 || lengths[n] > r->t)
      return step_error(s, "sequence %lld has length %lld, expected 0 to %lld", (long long)n,
                        (long long)lengths[n], (long long)r->t);
  }
  r->lengths = lengths;
  return STATUS_OK;
}

/* [first][second][width] to [second][first][width]. */
static void swap_axes(const float *from, int64_t first, int64_t second, int64_t width, bool add, float *to) {
  for (int64_t a = 0; a < first; a++)
    for (int64_t b = 0; b < second; b++)
      gradient_write(to + (b * first + a) * width, from + (a * second + b) * width, width, add);
}

/* Where the state of sequence n in direction d stands in an input or output of states. */
static int64_t state_at(const recurrent *r, int d, int64_t n) {
  return (r->by_sequence ? n * r->directions + d : d * r->n + n) * r->h;
}

/* The states before the first time; 0 when none are given. */
static void begin_states(const step *s, const recurrent *r, int d, int input, float *to) {
  if (!step_has(s, input)) {
    memset(to, 0, (size_t)(r->n * r->h) * sizeof *to);
    return;
  }
  for (int64_t n = 0; n < r->n; n++)
    gradient_write(to + n * r->h, input_part(s, input, state_at(r, d, n)), r->h, false);
}

/* gates = X W' + the bias of both, but for what the cell adds itself. */
static void project(const step *s, const recurrent *r, const course *c) {
  const int64_t rows = r->t * r->n;
  float *bias = s->scratch;
  for (int64_t j = 0; c->bias && j < r->gh; j++) {
    bool apart = r->kind->bias_apart && r->linear_before_reset && j >= r->gh - r->h;
    bias[j] = c->bias[j] + (apart ? 0 : c->bias[r->gh + j]);
  }
  for (int64_t k = 0; c->bias && k < rows; k++)
    memcpy(c->gates + k * r->gh, bias, (size_t)r->gh * sizeof *bias);
  recurrent_product_right(r, rows, r->gh, r->i, x_of(s, r), r->i, c->w, r->i, c->bias != NULL, c->gates,
                          r->gh);
}

static void write_outputs(const step *s, const recurrent *r, const course *c, int d) {
  const int64_t all = r->n * r->h, d_count = r->directions;
  const float *states = c->states + (c->reverse ? 0 : all), *last = c->states + (c->reverse ? 0 : r->t * all);
  const float *last_cell = c->cells + (c->reverse ? 0 : r->t * all);
  float *y = s->out[OUT_Y] ? s->out[OUT_Y]->data : NULL;
  for (int64_t k = 0; y && k < r->t * r->n; k++) {
    const int64_t t = k / r->n, n = k % r->n;
    float *to = y + (r->by_sequence ? (n * r->t + t) * d_count + d : (t * d_count + d) * r->n + n) * r->h;
    if (r->lengths && t >= r->lengths[n]) {
      memset(to, 0, (size_t)r->h * sizeof *to);
    } else {
      memcpy(to, states + k * r->h, (size_t)r->h * sizeof *to);
    }
  }
  for (int o = OUT_H; o <= OUT_C && o < s->n_out; o++)
    for (int64_t n = 0; s->out[o] && n < r->n; n++)
      gradient_write((float *)s->out[o]->data + state_at(r, d, n), (o == OUT_H ? last : last_cell) + n * r->h,
                     r->h, false);
}

status recurrent_forward(step *s) {
  recurrent *r = s->state;
  status st = read_lengths(s, r);
  if (st != STATUS_OK) return st;
  if (r->by_sequence) swap_axes(s->in[IN_X]->data, r->n, r->t, r->i, false, time_major(s, r));
  for (int d = 0; d < r->directions; d++) {
    const course c = find_course(s, r, d);
    const int64_t first = c.reverse ? r->t * r->n * r->h : 0;
    begin_states(s, r, d, IN_H, c.states + first);
    if (r->kind->has_cell) begin_states(s, r, d, IN_C, c.cells + first);
    project(s, r, &c);
    for (int64_t k = 0; k < r->t; k++) {
      moment m = find_moment(r, &c, d, c.reverse ? r->t - 1 - k : k);
      r->kind->forward(&m);
    }
    write_outputs(s, r, &c, d);
  }
  return STATUS_OK;
}

/* What comes from an output of states into those behind the last time. */
static void end_states(const step *s, const recurrent *r, int d, int output, float *to) {
  memset(to, 0, (size_t)(r->n * r->h) * sizeof *to);
  if (output >= s->n_out || !s->dout[output]) return;
  for (int64_t n = 0; n < r->n; n++)
    gradient_write(to + n * r->h, (const float *)s->dout[output]->data + state_at(r, d, n), r->h, false);
}

static void add_outputs(const step *s, const moment *m, int d) {
  const recurrent *r = m->r;
  const int64_t t = m->time, d_count = r->directions;
  const float *dy = s->dout[OUT_Y] ? s->dout[OUT_Y]->data : NULL;
  for (int64_t n = 0; dy && n < r->n; n++) {
    const int64_t at = (r->by_sequence ? (n * r->t + t) * d_count + d : (t * d_count + d) * r->n + n) * r->h;
    if (moment_has(m, n)) gradient_write(m->dh + n * r->h, dy + at, r->h, true);
  }
}

static void write_states(const step *s, const recurrent *r, int d, int input, const float *from) {
  if (input >= s->n_in || !s->din[input]) return;
  for (int64_t n = 0; n < r->n; n++)
    gradient_write((float *)s->din[input]->data + state_at(r, d, n), from + n * r->h, r->h,
                   s->accumulate[input]);
}

static float *gradient_part(const step *s, int i, int64_t at) {
  return i < s->n_in && s->din[i] ? (float *)s->din[i]->data + at : NULL;
}

/* The gates now hold gradients. */
static void backward_weights(const step *s, const recurrent *r, const course *c, int d) {
  const int64_t rows = r->t * r->n;
  float *dw = gradient_part(s, IN_W, d * r->gh * r->i), *dr = gradient_part(s, IN_R, d * r->gh * r->h);
  float *db = gradient_part(s, IN_B, d * 2 * r->gh);
  const float *states = c->states + (c->reverse ? r->n * r->h : 0);
  const bool add_b = db && s->accumulate[IN_B];
  if (dw)
    recurrent_product(r, true, r->gh, r->i, rows, c->gates, r->gh, x_of(s, r), r->i, s->accumulate[IN_W], dw,
                      r->i);
  if (db) rows_sum(rows, r->gh, 1, c->gates, add_b, db);
  if (r->kind->backward_weight) {
    r->kind->backward_weight(r, c->gates, states, c->extra, s->accumulate[IN_R], dr, add_b,
                             db ? db + r->gh : NULL);
    return;
  }
  if (dr)
    recurrent_product(r, true, r->gh, r->h, rows, c->gates, r->gh, states, r->h, s->accumulate[IN_R], dr,
                      r->h);
  if (db) rows_sum(rows, r->gh, 1, c->gates, add_b, db + r->gh);
}

/* With layout 1 the sum over directions is made in the order of time, in scratch. */
static void backward_x(const step *s, const recurrent *r, const course *c, int d, float *by_time) {
  if (!s->din[IN_X]) return;
  float *dx = r->by_sequence ? by_time : s->din[IN_X]->data;
  const bool add = d > 0 || (!r->by_sequence && s->accumulate[IN_X]);
  recurrent_product(r, false, r->t * r->n, r->i, r->gh, c->gates, r->gh, c->w, r->i, add, dx, r->i);
  if (r->by_sequence && d == r->directions - 1)
    swap_axes(by_time, r->t, r->n, r->i, s->accumulate[IN_X], s->din[IN_X]->data);
}

status recurrent_backward(step *s) {
  const recurrent *r = s->state;
  const int64_t all = r->n * r->h;
  float *dh = s->scratch, *dc = dh + all, *spare = dc + all, *row = spare + all,
        *by_time = row + RECURRENT_ROWS * r->h;
  if (gradient_part(s, IN_P, 0)) gradient_begin(s, IN_P);
  for (int d = 0; d < r->directions; d++) {
    const course c = find_course(s, r, d);
    end_states(s, r, d, OUT_H, dh);
    end_states(s, r, d, OUT_C, dc);
    for (int64_t k = r->t - 1; k >= 0; k--) {
      moment m = find_moment(r, &c, d, c.reverse ? r->t - 1 - k : k);
      m.dh = dh;
      m.dc = dc;
      m.spare = spare;
      m.row = row;
      m.dpeephole = gradient_part(s, IN_P, d * 3 * r->h);
      add_outputs(s, &m, d);
      r->kind->backward(&m);
    }
    write_states(s, r, d, IN_H, dh);
    write_states(s, r, d, IN_C, dc);
    backward_weights(s, r, &c, d);
    backward_x(s, r, &c, d, by_time);
  }
  return STATUS_OK;
}
