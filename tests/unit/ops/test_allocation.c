/* The hot loop allocates nothing: every malloc of the process is counted across ten training steps. Two
 * libraries do inside single calls, and cannot be kept from it: oneDNN's dnnl_primitive_execute makes a map
 * of its arguments, and OpenBLAS's AVX-512 kernels for small matrices take a buffer. For operators on these
 * the test states what is left: no large block, the same number every step, and nothing kept. */
#include "one_op.h"

#include "ops/blas.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>

static atomic_long n_calls, n_frees, largest;
static atomic_bool counting;

#ifndef __SANITIZE_ADDRESS__
enum { INTERPOSED = 1 };

static void count_call(size_t bytes) {
  if (!atomic_load(&counting)) return;
  atomic_fetch_add(&n_calls, 1);
  if ((long)bytes > atomic_load(&largest)) atomic_store(&largest, (long)bytes);
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);
extern void __libc_free(void *p);

void *malloc(size_t n) {
  count_call(n);
  return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
  count_call(n * size);
  return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n) {
  count_call(n);
  return __libc_realloc(p, n);
}

void *memalign(size_t alignment, size_t n) {
  count_call(n);
  return __libc_memalign(alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n) {
  return memalign(alignment, n);
}

int posix_memalign(void **p, size_t alignment, size_t n) {
  *p = memalign(alignment, n);
  return *p ? 0 : ENOMEM;
}

void free(void *p) {
  if (p && atomic_load(&counting)) atomic_fetch_add(&n_frees, 1);
  __libc_free(p);
}
#else
enum { INTERPOSED = 0 }; /* the sanitizer has its own malloc: mem_count alone is looked at */
#endif

enum { STEPS = 10, SMALL = 4096 };

static void step_many(const trial *t, long calls[STEPS], long kept[STEPS]) {
  status st = STATUS_OK;
  must(trial_run(t)); /* lazily packed weights, the library's buffers of this thread */
  atomic_store(&largest, 0);
  for (int i = 0; i < STEPS && st == STATUS_OK; i++) {
    atomic_store(&n_calls, 0);
    atomic_store(&n_frees, 0);
    plan_touch_parameters(t->plan);
    atomic_store(&counting, true);
    st = trial_run(t);
    atomic_store(&counting, false);
    calls[i] = atomic_load(&n_calls);
    kept[i] = calls[i] - atomic_load(&n_frees);
  }
  must(st);
}

typedef struct hot_case {
  one_op op;
  bool library; /* runs on oneDNN or OpenBLAS */
} hot_case;

static const hot_case cases[] = {
    {{"Gemm", "transB=1", {S(32, 100), S(50, 100), S(50)}}, true},
    {{"MatMul", "", {S(4, 8, 16), S(4, 16, 8)}}, true},
    {{"Conv", "pads=1,1,1,1", {S(8, 3, 12, 12), S(20, 3, 3, 3), S(20)}}, true},
    {{"MaxPool", "kernel_shape=2,2 strides=2,2", {S(8, 16, 12, 12)}}, true},
    {{"AveragePool", "kernel_shape=2,2 strides=2,2", {S(8, 16, 12, 12)}}, true},
    {{"GlobalAveragePool", "", {S(8, 16, 12, 12)}}, false},
    {{"BatchNormalization", "", {S(8, 16, 12, 12), S(16), S(16), S(16), S(16)}}, false},
    {{"LSTM", "direction=bidirectional", {S(6, 4, 16), S(2, 64, 16), S(2, 64, 16), S(2, 128)}}, true},
    {{"GRU", "linear_before_reset=1", {S(6, 4, 16), S(1, 48, 16), S(1, 48, 16), S(1, 96)}}, true},
    {{"RNN", "", {S(6, 4, 16), S(1, 16, 16), S(1, 16, 16), S(1, 32)}}, true},
    {{"Einsum", "equation=bqhd,bkhd->bhqk", {S(4, 6, 2, 8), S(4, 5, 2, 8)}}, true},
    {{"LRN", "size=3", {S(8, 16, 12, 12)}}, false},
};

static void test_steps_allocate_nothing(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(cases); i++) {
    trial t;
    long calls[STEPS], kept[STEPS];
    trial_open(&t, &cases[i].op, 2, false);
    unsigned long ours = mem_count();
    step_many(&t, calls, kept);
    assert_int_equal(mem_count(), ours);
    for (int k = 0; k < STEPS; k++) {
      assert_int_equal(kept[k], 0);
      assert_int_equal(calls[k], cases[i].library ? calls[0] : 0);
    }
    if (!(cases[i].library && blas_is_makeshift())) assert_true(atomic_load(&largest) < SMALL);
    if (cases[i].library)
      print_message("%s: %ld small blocks inside the library a step\n", cases[i].op.name, calls[0]);
    trial_close(&t);
  }
}

/* The counter itself counts. */
static void test_counter(void **state) {
  (void)state;
  if (!INTERPOSED) skip();
  atomic_store(&n_calls, 0);
  atomic_store(&counting, true);
  void *volatile p = malloc(10), *volatile q = aligned_alloc(64, 64);
  free(p);
  free(q);
  atomic_store(&counting, false);
  assert_int_equal(atomic_load(&n_calls), 2);
}

static int setup(void **state) {
  (void)state;
  return ops_init();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_steps_allocate_nothing),
      cmocka_unit_test(test_counter),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
