/* Gradients of every operator: against central differences of the loss, summed over two nodes that read the
 * same values, and with the memory of inputs and outputs shared. The values of the plain reference agree,
 * too. */
#include "gradient.h"

static const gradient_case cases[] = {
#include "cases_basic.h"
#include "cases_nn.h"
#include "cases_seq.h"
};

enum { N_CASES = sizeof cases / sizeof cases[0] };

static void for_each_case(void (*check)(const gradient_case *c)) {
  for (size_t i = 0; i < N_CASES; i++) check(&cases[i]);
}

static bool is_differentiable(const gradient_case *c, int input) {
  return case_op(c)->differentiable >> (input < 31 ? input : 31) & 1;
}

static double relative_distance(const double *a, const double *b, int64_t n) {
  double distance = 0, norm = 0;
  for (int64_t i = 0; i < n; i++) {
    distance += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return sqrt(distance) / (sqrt(norm) + 1e-3);
}

static void check_differences(const gradient_case *c) {
  one_graph o;
  one_graph_open(&o, c, 1, false);
  plan *p = one_plan(&o, c, false);
  for (int i = 0; i < o.n_floats; i++) {
    if (!is_differentiable(c, o.slot[i])) continue;
    int64_t n = shape_count(&o.shapes[i]);
    double *expected, *got;
    assert_int_equal(mem_new(&expected, (size_t)n, sizeof *expected), STATUS_OK);
    assert_int_equal(mem_new(&got, (size_t)n, sizeof *got), STATUS_OK);
    for (int64_t k = 0; k < n; k++) expected[k] = slope_at(&o, p, c, &o.values[i][k]);
    differentiate(&o, p, c, 1, 0);
    const tensor *d = plan_input_gradient(p, i);
    for (int64_t k = 0; k < n; k++) got[k] = ((const float *)d->data)[k];
    double off = relative_distance(got, expected, n);
    if (!(off <= 2e-3)) case_fail(c, "gradient of input %d is off by %g", o.slot[i], off);
    mem_free(expected);
    mem_free(got);
  }
  plan_free(&p);
  one_graph_close(&o);
}

static void gradients_agree_with_differences(void **state) {
  (void)state;
  for_each_case(check_differences);
}

/* The gradients of all float inputs, one behind the other. */
static void collect(const one_graph *o, plan *p, const gradient_case *c, double *to, double factor) {
  for (int i = 0; i < o->n_floats; i++) {
    const tensor *d = plan_input_gradient(p, i);
    int64_t n = shape_count(&o->shapes[i]);
    bool there = d && is_differentiable(c, o->slot[i]);
    for (int64_t k = 0; k < n; k++) *to++ += there ? factor * ((const float *)d->data)[k] : 0;
  }
}

static int64_t numbers_in(const one_graph *o) {
  int64_t n = 0;
  for (int i = 0; i < o->n_floats; i++) n += shape_count(&o->shapes[i]);
  return n;
}

/* Two nodes on the same inputs: the second gradient is added to the first. */
static void check_accumulation(const gradient_case *c) {
  one_graph one, two;
  if (case_op(c)->flags & OP_RANDOM) return; /* the nodes would draw different numbers */
  one_graph_open(&one, c, 1, false);
  one_graph_open(&two, c, 2, false);
  plan *p1 = one_plan(&one, c, false), *p2 = one_plan(&two, c, false);
  int64_t n = numbers_in(&one);
  double *expected, *got;
  assert_int_equal(mem_new(&expected, (size_t)n, sizeof *expected), STATUS_OK);
  assert_int_equal(mem_new(&got, (size_t)n, sizeof *got), STATUS_OK);
  for (int k = 0; k < 2; k++) {
    differentiate(&one, p1, c, 1, k * one.g->n_outputs);
    collect(&one, p1, c, expected, 1);
  }
  differentiate(&two, p2, c, 1, 0);
  collect(&two, p2, c, got, 1);
  double off = relative_distance(got, expected, n);
  if (!(off <= 1e-5)) case_fail(c, "the gradient of two nodes is off by %g", off);
  mem_free(expected);
  mem_free(got);
  plan_free(&p1);
  plan_free(&p2);
  one_graph_close(&one);
  one_graph_close(&two);
}

static void gradients_are_added(void **state) {
  (void)state;
  for_each_case(check_accumulation);
}

/* An operator between two negations gets inputs and outputs that nobody else needs and may work in place.
 * Negation loses nothing, so the numbers must be the very same. */
static void compare_outputs(const gradient_case *c, const plan *plain, const plan *between, int n_outputs) {
  for (int i = 0; i < n_outputs; i++) {
    const tensor *y = plan_output(plain, i), *z = plan_output(between, i);
    const int64_t n = shape_count(&y->shape);
    for (int64_t k = 0; k < n; k++) {
      float a = ((const float *)y->data)[k], b = -((const float *)z->data)[k];
      if (a != b) case_fail(c, "output %d[%d] is %g, in shared memory %g", i, (int)k, a, b);
    }
  }
}

static void compare_gradients(const gradient_case *c, const one_graph *o, const plan *plain,
                              const plan *between) {
  for (int i = 0; i < o->n_floats; i++) {
    if (!is_differentiable(c, o->slot[i])) continue;
    const float *d = plan_input_gradient(plain, i)->data, *e = plan_input_gradient(between, i)->data;
    const int64_t n = shape_count(&o->shapes[i]);
    for (int64_t k = 0; k < n; k++) {
      float shared = o->slot[i] == 0 ? -e[k] : e[k];
      if (d[k] != shared) case_fail(c, "gradient %d[%d] is %g, in shared memory %g", i, (int)k, d[k], shared);
    }
  }
}

static void check_shared_memory(const gradient_case *c) {
  one_graph plain, between;
  bool from_data = strchr("rpahq", c->inputs[0]) != NULL;
  if (case_op(c)->flags & OP_RANDOM || !from_data || strstr(c->inputs, "same")) return;
  one_graph_open(&plain, c, 1, false);
  one_graph_open(&between, c, 1, true);
  plan *p = one_plan(&plain, c, false), *q = one_plan(&between, c, false);
  differentiate(&plain, p, c, 1, 0);
  differentiate(&between, q, c, -1, 0);
  compare_outputs(c, p, q, plain.g->n_outputs);
  compare_gradients(c, &plain, p, q);
  plan_free(&p);
  plan_free(&q);
  one_graph_close(&plain);
  one_graph_close(&between);
}

static void memory_can_be_shared(void **state) {
  (void)state;
  for_each_case(check_shared_memory);
}

static void check_reference(const gradient_case *c) {
  one_graph o;
  one_graph_open(&o, c, 1, false);
  plan *fast = one_plan(&o, c, false), *reference = one_plan(&o, c, true);
  loss_of(&o, fast, c);
  loss_of(&o, reference, c);
  for (int i = 0; i < o.g->n_outputs; i++) {
    const tensor *y = plan_output(fast, i), *z = plan_output(reference, i);
    const int64_t n = shape_count(&y->shape);
    for (int64_t k = 0; k < n; k++) {
      float a = ((const float *)y->data)[k], b = ((const float *)z->data)[k];
      if (!(fabsf(a - b) <= 1e-5f + 1e-5f * fabsf(b)))
        case_fail(c, "output %d[%d]: %g, reference %g", i, (int)k, a, b);
    }
  }
  plan_free(&fast);
  plan_free(&reference);
  one_graph_close(&o);
}

static void reference_agrees(void **state) {
  (void)state;
  for_each_case(check_reference);
}

static bool has_case(const op *o) {
  for (size_t i = 0; i < N_CASES; i++) {
    if (case_op(&cases[i]) == o) return true;
  }
  return false;
}

static void every_gradient_has_a_case(void **state) {
  (void)state;
  char missing[1024] = "";
  for (const op *const *row = op_table(); *row; row++) {
    if (!(*row)->backward || has_case(*row)) continue;
    size_t n = strlen(missing);
    snprintf(missing + n, sizeof missing - n, " %s (opset %d)", (*row)->name, (*row)->since);
  }
  if (*missing) fail_msg("no case for:%s", missing);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_agree_with_differences),
      cmocka_unit_test(gradients_are_added),
      cmocka_unit_test(memory_can_be_shared),
      cmocka_unit_test(reference_agrees),
      cmocka_unit_test(every_gradient_has_a_case),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
