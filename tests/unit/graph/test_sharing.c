/* Storage: views and in-place operators, soundness of sharing on random graphs, arenas of several plans, and
 * no allocation between plan_new and plan_free. */
#include "graph/plan_private.h"
#include "plan_fixture.h"

#include "base/rng.h"

#include <errno.h>

static void test_views_share_storage(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", (shape){3, {-1, 2, 1}}), w = initializer(g, "w", (shape){3, {2, 2, 1}}, NULL);
  int h = apply(g, &view_op, "h", apply(g, &tanh_op, "t", x, -1), -1);
  finish(g, apply(g, &matmul_op, "y", h, apply(g, &view_op, "flat", w, -1)));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .input_gradients = true});
  const step *view = plan_step(f.p, 1), *flat = plan_step(f.p, 2);
  assert_string_equal(view->node->name, "h");
  assert_ptr_equal(view->in[0]->data, view->out[0]->data);
  assert_ptr_equal(view->din[0]->data, view->dout[0]->data);
  assert_ptr_equal(flat->out[0]->data, f.block);
  assert_ptr_equal(flat->dout[0]->data, f.leaf);
  FILL(plan_input(f.p, 0), 0.25f, -0.5f);
  OK(plan_forward(f.p, &running));
  FILL(plan_output_gradient(f.p, 0), 1, 10);
  OK(plan_backward(f.p, &running));
  float a = tanhf(0.5f), b = tanhf(-1);
  const float *w_data = f.block;
  assert_memory_equal(f.leaf, ((float[]){a, 10 * a, b, 10 * b}), 4 * sizeof(float));
  EXPECT(plan_input_gradient(f.p, 0), 2 * (1 - a * a) * (w_data[0] + 10 * w_data[1]),
         2 * (1 - b * b) * (w_data[2] + 10 * w_data[3]));
  plan_free(&f.p);
  graph_free(&g);
}

/* h is read by its view and by somebody else: the gradients are apart, the data is not. */
static void test_views_with_two_readers(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), h = apply(g, &pair_op, "h", x, -1);
  finish(g, apply(g, &mul_op, "y", apply(g, &view_op, "v", h, -1), h));
  fixture f;
  open_plan(&f, g, (plan_options){.rows = 1, .training = true, .input_gradients = true});
  const step *view = plan_step(f.p, 1);
  assert_ptr_equal(view->in[0]->data, view->out[0]->data);
  assert_ptr_not_equal(view->din[0]->data, view->dout[0]->data);
  FILL(plan_input(f.p, 0), 3, 5);
  OK(plan_forward(f.p, &running));
  EXPECT(plan_output(f.p, 0), 36, 100);
  FILL(plan_output_gradient(f.p, 0), 1, 10);
  OK(plan_backward(f.p, &running));
  EXPECT(plan_input_gradient(f.p, 0), 24, 400); /* 8 x dy */
  plan_free(&f.p);
  graph_free(&g);
}

static void test_in_place(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, NULL);
  int h = apply(g, &relu_op, "a", apply(g, &matmul_op, "h", x, w), -1); /* takes over h */
  int b = apply(g, &tanh_op, "b", h, -1); /* Relu keeps its output for backward */
  finish(g, apply(g, &add_op, "y", b, x));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .training = true}));
  const step *a = plan_step(p, 1), *t = plan_step(p, 2), *y = plan_step(p, 3);
  assert_ptr_equal(a->in[0]->data, a->out[0]->data);
  assert_ptr_not_equal(t->in[0]->data, t->out[0]->data);
  assert_ptr_equal(y->in[0]->data, y->out[0]->data);
  assert_ptr_equal(t->din[0]->data, t->dout[0]->data);
  assert_ptr_equal(a->din[0]->data, a->dout[0]->data);
  plan_free(&p);
  OK(plan_new(&p, g, &(plan_options){.rows = 2}));
  t = plan_step(p, 2);
  assert_ptr_equal(t->in[0]->data, t->out[0]->data);
  plan_free(&p);
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .separate = true}));
  t = plan_step(p, 2);
  assert_ptr_not_equal(t->in[0]->data, t->out[0]->data);
  plan_free(&p);
  graph_free(&g);
}

/* The caller's arrays and what somebody reads later are never overwritten. */
static void test_in_place_spares(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), c = apply(g, &relu_op, "c", x, -1);
  int tapped = apply(g, &relu_op, "tapped", c, -1), d = apply(g, &relu_op, "d", tapped, -1);
  int twice = apply(g, &add_op, "twice", d, d);
  finish(g, apply(g, &add_op, "y", apply(g, &relu_op, "e", twice, -1), twice));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .taps = &tapped, .n_taps = 1}));
  for (int i = 0; i < plan_n_steps(p); i++) {
    const step *s = plan_step(p, i);
    bool shared = !strcmp(s->node->name, "tapped") || !strcmp(s->node->name, "y");
    assert_int_equal(s->in[0]->data == s->out[0]->data, shared);
  }
  FILL(plan_input(p, 0), 1, 2, -3, 4);
  for (int again = 0; again < 2; again++) {
    OK(plan_forward(p, &running));
    EXPECT(plan_output(p, 0), 4, 8, 0, 16);
    EXPECT(plan_tap(p, 0), 1, 2, 0, 4);
    EXPECT(plan_input(p, 0), 1, 2, -3, 4);
  }
  plan_free(&p);
  graph_free(&g);
}

/* Of two gradients one takes over, the first that nobody had begun. */
static void test_any_in_place(void **state) {
  (void)state;
  graph *g = start();
  int x = input(g, "x", rows2), w = initializer(g, "w", square, NULL), a = apply(g, &matmul_op, "a", x, w);
  int b = apply(g, &tanh_op, "b", a, -1),
      first = apply(g, &blend_op, "first", b, apply(g, &tanh_op, "c", a, -1));
  finish(g, apply(g, &blend_op, "second", b, first));
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 2, .training = true}));
  for (int i = 0; i < plan_n_steps(p); i++) {
    const step *s = plan_step(p, i);
    if (strcmp(s->node->name, "second") == 0) {
      assert_ptr_equal(s->din[0]->data, s->dout[0]->data);
      assert_ptr_not_equal(s->din[1]->data, s->dout[0]->data);
    } else if (strcmp(s->node->name, "first") == 0) {
      assert_true(s->accumulate[0]);
      assert_ptr_not_equal(s->din[0]->data, s->dout[0]->data);
      assert_ptr_equal(s->din[1]->data, s->dout[0]->data);
    }
  }
  plan_free(&p);
  graph_free(&g);
}

/* Random numbers of a test, the same in every run. */
static uint64_t drawn;

static int draw(int n) {
  return (int)(rng_uniform(1, RNG_ORDER, 0, drawn++) * (float)n);
}

static bool overlap(const interval *a, const interval *b) {
  bool time = a->first <= b->last && b->first <= a->last;
  return time && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* All pairs; and never better than the most that is alive at one time. */
static void test_layout_is_sound(void **state) {
  (void)state;
  for (int round = 0; round < 300; round++) {
    interval items[60];
    int n = 1 + draw(60);
    for (int i = 0; i < n; i++) {
      int first = draw(40);
      items[i] =
          (interval){.bytes = (size_t)draw(round % 3 ? 1000 : 8), .first = first, .last = first + draw(12)};
    }
    size_t total, peak = 0, sum = 0;
    OK(layout_place(items, n, &total));
    for (int i = 0; i < n; i++) {
      assert_int_equal(items[i].offset % 64, 0);
      assert_true(items[i].offset + items[i].bytes <= total);
      for (int j = 0; j < i; j++) assert_false(overlap(&items[i], &items[j]));
    }
    for (int time = 0; time < 60; time++) {
      size_t alive = 0;
      for (int i = 0; i < n; i++)
        if (items[i].first <= time && time <= items[i].last) alive += (items[i].bytes + 63) / 64 * 64;
      if (alive > peak) peak = alive;
    }
    for (int i = 0; i < n; i++) sum += (items[i].bytes + 63) / 64 * 64;
    assert_true(total >= peak && total <= sum);
  }
}

static void test_layout_fills_gaps(void **state) {
  (void)state;
  interval items[] = {{.bytes = 640, .first = 0, .last = 1},
                      {.bytes = 320, .first = 0, .last = 5},
                      {.bytes = 256, .first = 2, .last = 5},
                      {.bytes = 384, .first = 2, .last = 3}};
  size_t total;
  OK(layout_place(items, 4, &total));
  assert_int_equal(total, 640 + 320);
  OK(layout_place(items, 0, &total));
  assert_int_equal(total, 0);
}

/* Ten products in a row: two arrays that take turns, the input and the output are all that inference needs.
 */
static void test_inference_reuses_memory(void **state) {
  (void)state;
  graph *g = start();
  int v = input(g, "x", (shape){2, {-1, 16}}), w = initializer(g, "w", (shape){2, {16, 16}}, NULL);
  for (int i = 0; i < 10; i++) {
    char name[16];
    snprintf(name, sizeof name, "h%d", i);
    v = apply(g, &matmul_op, name, v, w);
  }
  finish(g, v);
  plan *p;
  OK(plan_new(&p, g, &(plan_options){.rows = 4}));
  assert_true(plan_memory_bytes(p) <= 4 * 4 * 16 * sizeof(float));
  plan_free(&p);
  OK(plan_new(&p, g, &(plan_options){.rows = 4, .training = true}));
  /* Input and ten results, of which nine are kept for backward; their gradients take the place of those in
   * use. */
  assert_true(plan_memory_bytes(p) <= 13 * 4 * 16 * sizeof(float));
  plan_free(&p);
  graph_free(&g);
}

enum { N_TAPS = 3, N_NODES = 24, COLUMNS = 6 };

typedef struct random_graph {
  graph *g;
  int taps[N_TAPS];
  int cubes[2 * N_NODES + 2], flats[2 * N_NODES + 2]; /* values of shape [rows, 2, 3] and [rows, 6] */
  int n_cubes, n_flats;
  int weights[3], statistic;
} random_graph;

static int pick(const int *values, int n) {
  return values[n - 1 - draw(n < 6 ? n : 6)];
}

/* One more node that reads what is there. `smooth`: only such as a finite difference can follow. */
static void grow(random_graph *r, int i, bool smooth) {
  char name[16], second[32];
  snprintf(name, sizeof name, "n%d", i);
  snprintf(second, sizeof second, "n%d.second", i);
  bool flat = draw(2);
  int *list = flat ? r->flats : r->cubes, *n = flat ? &r->n_flats : &r->n_cubes;
  int a = pick(list, *n), b = pick(list, *n);
  static const op *const sums[] = {&add_op, &mix_op, &blend_op};
  switch (draw(8)) {
  case 0:
  case 1:
    list[(*n)++] = apply(r->g, sums[draw(3)], name, a, b);
    break;
  case 2:
    list[(*n)++] = apply(r->g, &mul_op, name, apply(r->g, &tanh_op, second, a, -1), b);
    break;
  case 3:
    list[(*n)++] = apply(r->g, smooth ? &tanh_op : &relu_op, name, a, -1);
    break;
  case 4:
    list[(*n)++] = apply(r->g, &tanh_op, name, a, -1);
    break;
  case 5:
    r->flats[r->n_flats++] = apply(r->g, &view_op, name, a, -1);
    break;
  case 6:
    a = pick(r->flats, r->n_flats);
    r->flats[r->n_flats++] = apply(r->g, &matmul_op, name, a, r->weights[draw(3)]);
    break;
  default: {
    int out[] = {list[*n] = computed(r->g, name), -1};
    out[1] = list[*n + 1] = computed(r->g, second);
    OK(graph_add_node(r->g, name, &pair_op, 1, &a, 1, out, 2, NULL, 0));
    *n += 2;
  }
  }
}

/* Nothing reads an input, or no node that is left computes the value. */
static bool is_left_out(const graph *g, int v) {
  const value *x = &g->values[v];
  return x->kind == VALUE_INPUT ? !x->n_uses : x->kind == VALUE_COMPUTED && x->producer < 0;
}

static random_graph random_graph_new(bool smooth) {
  random_graph r = {.g = start(), .n_cubes = 1, .n_flats = 1};
  r.cubes[0] = input(r.g, "x", (shape){3, {-1, 2, 3}});
  r.flats[0] = input(r.g, "y", (shape){2, {-1, COLUMNS}});
  r.weights[0] = initializer(r.g, "w0", (shape){2, {COLUMNS, COLUMNS}}, NULL);
  r.weights[1] = initializer(r.g, "w1", (shape){2, {COLUMNS, COLUMNS}}, NULL);
  int deep = initializer(r.g, "w2", (shape){3, {COLUMNS, 2, 3}}, NULL);
  r.weights[2] = apply(r.g, &view_op, "w2.flat", deep, -1);
  r.statistic = initializer(r.g, "m", (shape){1, {1}}, NULL);
  if (!smooth) r.flats[r.n_flats++] = apply(r.g, &centre_op, "c", r.flats[0], r.statistic);
  for (int i = 0; i < N_NODES; i++) grow(&r, i, smooth);
  OK(graph_add_output(r.g, r.cubes[r.n_cubes - 1]));
  finish(r.g, r.flats[r.n_flats - 1]);
  for (int i = 0; i < N_TAPS; i++) do
      r.taps[i] = draw(2) ? r.flats[draw(r.n_flats)] : r.cubes[draw(r.n_cubes)];
    while (is_left_out(r.g, r.taps[i]));
  return r;
}

enum { MAX_BLOCK = 256, MAX_RESULTS = 4096 };

typedef struct trace {
  float numbers[MAX_RESULTS];
  size_t n;
} trace;

static void record(trace *t, const tensor *from) {
  if (!from) return;
  assert_true(t->n + (size_t)count(from) <= MAX_RESULTS);
  memcpy(t->numbers + t->n, from->data, (size_t)count(from) * sizeof(float));
  t->n += (size_t)count(from);
}

static void fill_with(tensor *t, uint64_t stream) {
  for (int64_t i = 0; t && i < count(t); i++) floats(t)[i] = rng_normal(2, RNG_NOISE, stream, (uint64_t)i);
}

/* A batch with everything it gives, forward and, when training, backward. */
static void run_batch(plan *p, int n_taps, uint64_t batch, const float *leaf, trace *t) {
  run_context run = {.training = leaf != NULL, .row_share = 0.5f};
  t->n = 0;
  for (int i = 0; i < p->graph->n_inputs; i++) fill_with(plan_input(p, i), 10 * batch + (uint64_t)i);
  OK(plan_forward(p, &run));
  for (int i = 0; i < 2; i++) record(t, plan_output(p, i));
  for (int i = 0; i < n_taps; i++) record(t, plan_tap(p, i));
  for (int i = 0; i < p->graph->n_inputs; i++) record(t, plan_input(p, i));
  if (!leaf) return;
  for (int i = 0; i < 2; i++) fill_with(plan_output_gradient(p, i), 10 * batch + 2 + (uint64_t)i);
  for (int i = 0; i < n_taps; i++) fill_with(plan_tap_gradient(p, i), 10 * batch + 4 + (uint64_t)i);
  OK(plan_backward(p, &run));
  for (int i = 0; i < p->graph->n_inputs; i++) record(t, plan_input_gradient(p, i));
  for (int i = 0; i < n_taps; i++) record(t, plan_tap(p, i));
  memcpy(t->numbers + t->n, leaf, MAX_BLOCK * sizeof(float));
  t->n += MAX_BLOCK;
}

/* The bits of two plans of one graph over some batches. */
static void expect_same(const random_graph *r, plan_options a, plan_options b) {
  static trace ta, tb;
  float block[MAX_BLOCK] = {0}, leaf_a[MAX_BLOCK] = {0}, leaf_b[MAX_BLOCK] = {0};
  plan *pa, *pb;
  assert_true(r->g->n_block <= MAX_BLOCK);
  graph_initial_block(r->g, block);
  OK(plan_new(&pa, r->g, &a));
  OK(plan_new(&pb, r->g, &b));
  plan_set_parameters(pa, block);
  plan_set_parameters(pb, block);
  plan_set_gradients(pa, leaf_a);
  plan_set_gradients(pb, leaf_b);
  for (uint64_t batch = 0; batch < 3; batch++) {
    run_batch(pa, a.n_taps, batch, a.training ? leaf_a : NULL, &ta);
    run_batch(pb, b.n_taps, batch, b.training ? leaf_b : NULL, &tb);
    assert_int_equal(ta.n, tb.n);
    assert_memory_equal(ta.numbers, tb.numbers, ta.n * sizeof(float));
  }
  assert_true(plan_memory_bytes(pa) < plan_memory_bytes(pb));
  plan_free(&pa);
  plan_free(&pb);
}

static void test_sharing_changes_no_bit(void **state) {
  (void)state;
  for (int round = 0; round < 300; round++) {
    random_graph r = random_graph_new(false);
    plan_options o = {.rows = 1 + draw(4), .taps = r.taps, .n_taps = draw(N_TAPS + 1)};
    o.training = round % 3 != 0;
    o.input_gradients = o.training && round % 2;
    plan_options apart = o;
    apart.separate = true;
    expect_same(&r, o, apart);
    graph_free(&r.g);
  }
}

/* Sum of all outputs, each number with its own weight, for parameters moved by `step` along `direction`. */
static double loss_at(plan *p, const float *block, const float *direction, float step, int64_t n) {
  float moved[MAX_BLOCK];
  for (int64_t i = 0; i < n; i++) moved[i] = block[i] + step * direction[i];
  plan_set_parameters(p, moved);
  for (int i = 0; i < p->graph->n_inputs; i++) fill_with(plan_input(p, i), (uint64_t)i);
  OK(plan_forward(p, &(run_context){0}));
  double sum = 0;
  for (int i = 0; i < 2; i++) {
    fill_with(plan_output_gradient(p, i), 2 + (uint64_t)i);
    for (int64_t j = 0; plan_output_gradient(p, i) && j < count(plan_output(p, i)); j++)
      sum += (double)floats(plan_output(p, i))[j] * (double)floats(plan_output_gradient(p, i))[j];
  }
  return sum;
}

static double slope_at(plan *p, const float *block, const float *direction, float step, int64_t n) {
  double above = loss_at(p, block, direction, step, n), below = loss_at(p, block, direction, -step, n);
  return (above - below) / (2 * (double)step);
}

/* The slope along a random direction, from backward and from two forward passes. */
static void test_gradients_are_finite_differences(void **state) {
  (void)state;
  int n_checked = 0;
  for (int round = 0; round < 100; round++) {
    random_graph r = random_graph_new(true);
    int64_t n = r.g->n_block;
    float block[MAX_BLOCK], leaf[MAX_BLOCK] = {0}, direction[MAX_BLOCK];
    graph_initial_block(r.g, block);
    for (int64_t i = 0; i < n; i++)
      direction[i] = rng_normal(3, RNG_NOISE, (uint64_t)round, (uint64_t)i) / 16;
    plan *p;
    OK(plan_new(&p, r.g, &(plan_options){.rows = 2, .training = true}));
    plan_set_gradients(p, leaf);
    double slope = 0;
    loss_at(p, block, direction, 0, n);
    plan_set_parameters(p, block);
    OK(plan_backward(p, &(run_context){0}));
    for (int64_t i = 0; i < n; i++) slope += (double)leaf[i] * (double)direction[i];
    double wide = slope_at(p, block, direction, 0.02f, n), narrow = slope_at(p, block, direction, 0.01f, n);
    plan_free(&p);
    graph_free(&r.g);
    if (fabs(wide - narrow) > 0.005 * fabs(narrow)) continue; /* too curved or too flat to tell */
    if (fabs(narrow - slope) > 0.01 * fabs(narrow))
      fail_msg("round %d: %g, expected %g", round, slope, narrow);
    n_checked++;
  }
  assert_true(n_checked >= 80);
}

/* Plans of several sizes in one arena, made before and after it has to grow. */
static void test_plans_share_an_arena(void **state) {
  (void)state;
  random_graph r = random_graph_new(false);
  static trace shared, alone;
  const int64_t rows[] = {2, 4, 1};
  float block[MAX_BLOCK] = {0}, leaf[MAX_BLOCK] = {0}, own_leaf[MAX_BLOCK] = {0};
  graph_initial_block(r.g, block);
  arena *a;
  OK(arena_new(&a));
  plan *in_arena[3], *own[3];
  size_t largest = 0;
  for (int i = 0; i < 3; i++) {
    plan_options o = {.rows = rows[i], .training = true, .input_gradients = true};
    OK(plan_new(&own[i], r.g, &o));
    o.arena = a;
    OK(plan_new(&in_arena[i], r.g, &o));
    if (plan_memory_bytes(own[i]) > largest) largest = plan_memory_bytes(own[i]);
    for (int j = 0; j <= i; j++) {
      plan_set_parameters(in_arena[j], block);
      plan_set_gradients(in_arena[j], leaf);
      plan_set_parameters(own[j], block);
      plan_set_gradients(own[j], own_leaf);
      run_batch(in_arena[j], 0, (uint64_t)j, leaf, &shared);
      run_batch(own[j], 0, (uint64_t)j, own_leaf, &alone);
      assert_int_equal(shared.n, alone.n);
      assert_memory_equal(shared.numbers, alone.numbers, alone.n * sizeof(float));
    }
  }
  assert_int_equal(arena_bytes(a), largest);
  plan_free(&in_arena[1]);
  run_batch(in_arena[0], 0, 0, leaf, &shared);
  run_batch(own[0], 0, 0, own_leaf, &alone);
  assert_memory_equal(shared.numbers, alone.numbers, alone.n * sizeof(float));
  plan_free(&in_arena[0]);
  plan_free(&in_arena[2]);
  arena_free(&a);
  for (int i = 0; i < 3; i++) plan_free(&own[i]);
  graph_free(&r.g);
}

static unsigned long n_mallocs;

#if !defined(__SANITIZE_ADDRESS__) && !defined(TEST_NO_INTERPOSITION)
#define COUNTS_MALLOCS 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

void *malloc(size_t n) {
  n_mallocs++;
  return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
  n_mallocs++;
  return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
  n_mallocs++;
  return __libc_realloc(p, n);
}

void *aligned_alloc(size_t alignment, size_t n) {
  n_mallocs++;
  return __libc_memalign(alignment, n);
}

int posix_memalign(void **out, size_t alignment, size_t n) {
  *out = aligned_alloc(alignment, n);
  return *out ? 0 : ENOMEM;
}
#else
#define COUNTS_MALLOCS 0
#endif

static void test_batches_allocate_nothing(void **state) {
  (void)state;
  random_graph r = random_graph_new(false);
  static trace t;
  float block[MAX_BLOCK] = {0}, leaf[MAX_BLOCK] = {0};
  graph_initial_block(r.g, block);
  unsigned long made = n_mallocs;
  plan *p;
  OK(plan_new(&p, r.g, &(plan_options){.rows = 3, .training = true, .taps = r.taps, .n_taps = N_TAPS}));
  assert_true(n_mallocs > made || !COUNTS_MALLOCS);
  unsigned long ours = mem_count(), all = n_mallocs;
  for (uint64_t batch = 0; batch < 5; batch++) {
    plan_set_parameters(p, block);
    plan_set_gradients(p, leaf);
    run_batch(p, N_TAPS, batch, leaf, &t);
  }
  assert_int_equal(mem_count(), ours);
  assert_int_equal(n_mallocs, all);
  plan_free(&p);
  graph_free(&r.g);
}

/* Whichever allocation fails: a status with a message, and nothing left behind. */
static void test_survives_failing_allocations(void **state) {
  (void)state;
  int n_failures = 0;
  random_graph r = random_graph_new(false);
  for (unsigned long n = 1;; n++) {
    plan *p;
    mem_fail_at(n);
    status st =
        plan_new(&p, r.g, &(plan_options){.rows = 2, .training = true, .taps = r.taps, .n_taps = N_TAPS});
    mem_fail_at(0);
    plan_free(&p);
    if (!st) break;
    assert_int_equal(st, STATUS_FAILED);
    assert_non_null(strstr(status_message(), "out of memory"));
    n_failures++;
  }
  assert_true(n_failures > 10);
  graph_free(&r.g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_views_share_storage),
                                     cmocka_unit_test(test_views_with_two_readers),
                                     cmocka_unit_test(test_in_place),
                                     cmocka_unit_test(test_in_place_spares),
                                     cmocka_unit_test(test_any_in_place),
                                     cmocka_unit_test(test_layout_is_sound),
                                     cmocka_unit_test(test_layout_fills_gaps),
                                     cmocka_unit_test(test_inference_reuses_memory),
                                     cmocka_unit_test(test_sharing_changes_no_bit),
                                     cmocka_unit_test(test_gradients_are_finite_differences),
                                     cmocka_unit_test(test_plans_share_an_arena),
                                     cmocka_unit_test(test_batches_allocate_nothing),
                                     cmocka_unit_test(test_survives_failing_allocations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
