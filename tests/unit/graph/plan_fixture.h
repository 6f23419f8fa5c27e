/* Plans of toy graphs, and what their arrays must hold. */
#ifndef TESTS_GRAPH_PLAN_FIXTURE_H
#define TESTS_GRAPH_PLAN_FIXTURE_H

#include "toy_ops.h"

static const run_context running = {.training = true, .row_share = 0.25f};
static const shape rows2 = {2, {-1, 2}}, square = {2, {2, 2}};

static inline void expect_refusal(const graph *g, const plan_options *o, const char *part) {
  plan *p;
  assert_int_equal(plan_new(&p, g, o), STATUS_BAD_INPUT);
  assert_null(p);
  if (!strstr(status_message(), part)) fail_msg("'%s' is not in '%s'", part, status_message());
}

static inline void expect_floats(const tensor *t, const float *expected, size_t n) {
  assert_int_equal(count(t), n);
  for (size_t i = 0; i < n; i++)
    if (floats(t)[i] != expected[i]) fail_msg("[%zu] is %g, expected %g", i, floats(t)[i], expected[i]);
}

#define EXPECT(t, ...) expect_floats(t, (float[]){__VA_ARGS__}, sizeof(float[]){__VA_ARGS__} / sizeof(float))

static inline void fill(tensor *t, const float *from) {
  memcpy(t->data, from, (size_t)count(t) * sizeof(float));
}

#define FILL(t, ...) fill(t, (float[]){__VA_ARGS__})

/* A plan in training with its blocks. */
typedef struct fixture {
  plan *p;
  float block[64], leaf[64];
} fixture;

static inline void open_plan(fixture *f, const graph *g, plan_options o) {
  OK(plan_new(&f->p, g, &o));
  assert_true(g->n_block <= 64);
  for (int i = 0; i < 64; i++) f->leaf[i] = 77;
  graph_initial_block(g, f->block);
  plan_set_parameters(f->p, f->block);
  plan_set_gradients(f->p, f->leaf);
}

#endif
