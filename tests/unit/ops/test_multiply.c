/* Products of a known shape: in every way the matrices can lie, written over y or added to it, by the tiles,
 * by oneDNN's kernels where the processor has AVX-512, and by OpenBLAS. */
#include "one_op.h"

#include "ops/dnnl.h"
#include "ops/multiply.h"
#include "ops/reference.h"

enum { MOST = 9000, ROOM = MOST * 100 };

static float a[ROOM], b[ROOM], y[ROOM], wanted[ROOM];

static product reference_of(const multiply *w) {
  return (product){.m = w->m,
                   .n = w->n,
                   .k = w->k,
                   .a_row = w->ta ? 1 : w->k,
                   .a_column = w->ta ? w->m : 1,
                   .b_row = w->tb ? 1 : w->n,
                   .b_column = w->tb ? w->k : 1,
                   .y_row = w->n,
                   .y_column = 1,
                   .alpha = w->alpha,
                   .accumulate = w->add};
}

/* Whether it was a kernel of oneDNN's. */
static bool one_product(multiply w) {
  step s = {0};
  void *scratch;
  const product p = reference_of(&w);

  must(multiply_open(&s, &w));
  must(mem_new(&scratch, s.scratch_bytes + 1, 1));
  fill_random(y, (int)(w.m * w.n), 3);
  memcpy(wanted, y, sizeof y);
  product_reference(DTYPE_FLOAT, &p, a, b, wanted);
  must(multiply_run(&w, a, b, y, scratch));
  for (int i = 0; i < w.m * w.n; i++)
    if (!(fabsf(y[i] - wanted[i]) <= 1e-6f * sqrtf((float)w.k) * (1 + fabsf(wanted[i]))))
      fail_msg("ta %d tb %d add %d, %d x %d x %d: number %d is %g, expected %g", w.ta, w.tb, w.add, (int)w.m,
               (int)w.n, (int)w.k, i, y[i], wanted[i]);
  const bool kernel = w.kernel != NULL;
  multiply_close(&w);
  assert_null(w.kernel);
  mem_free(scratch);
  return kernel;
}

static void test_all_ways(void **state) {
  (void)state;
  /* thin; for a kernel, no side a whole vector; scaled; small; with long rows */
  static const struct {
    int64_t m, n, k;
    float alpha;
    bool kernel;
  } shapes[] = {{32, 200, 300, 1, false},
                {71, 93, 85, 1, true},
                {71, 93, 85, 0.5f, false},
                {65, 5, 7, 1, false},
                {66, 67, MOST, 1, false}};
  fill_random(a, ROOM, 1);
  fill_random(b, ROOM, 2);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int way = 0; way < 8; way++) {
      const bool kernel = one_product((multiply){way & 1, way & 2, way & 4, shapes[i].m, shapes[i].n,
                                                 shapes[i].k, .alpha = shapes[i].alpha});
      if (i) assert_int_equal(kernel, shapes[i].kernel && dnnl_vector_floats() == 16);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_ways)};
  must(ops_init());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
