/* Files with flipped bytes: whatever libhdf5 makes of them, the program goes on with a status and a message.
 */
#include "files.h"

#include "store/softlabels.h"

static uint32_t draw(uint32_t *state) { /* Numerical Recipes' linear generator */
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static status open_and_read(const char *path) {
  status st = STATUS_OK;
  dataset *d = NULL;
  rows *r = NULL;
  float *x = NULL;
  TRY(dataset_open(&d, world, path));
  const split *s = dataset_split_at(d, 0);
  TRY(rows_open(&r, d, s, &s->inputs[0], 1));
  TRY(mem_new(&x, (size_t)rows_values(r), sizeof *x));
  for (int64_t i = 0; i < rows_count(r) && i < 100; i++) TRY(rows_floats(r, &i, 1, x));
done:
  mem_free(x);
  rows_close(&r);
  dataset_close(&d);
  return st;
}

static status open_soft(const char *path) {
  softlabels *s;
  status st = softlabels_open(&s, world, path);
  softlabels_close(&s);
  return st;
}

/* Flips a few bytes at a time in the first `within` bytes and opens the file each time. */
static void damage(const char *name, size_t within, int times, status (*open)(const char *path)) {
  size_t n;
  uint32_t seed = 7;
  int refused = 0;
  unsigned char *whole = bytes_of(name, &n), *damaged;
  if (within > n) within = n;
  OK(mem_new(&damaged, n, 1));
  OK(open(in_folder(name)));
  for (int i = 0; i < times; i++) {
    memcpy(damaged, whole, n);
    for (uint32_t j = 0; j <= draw(&seed) % 3; j++)
      damaged[draw(&seed) % within] ^= (unsigned char)(1 + draw(&seed) % 255);
    overwrite("damaged.h5", 0, damaged, n);
    status st = open(in_folder("damaged.h5"));
    if (st != STATUS_OK && st != STATUS_BAD_INPUT) fail_msg("round %d: %d %s", i, st, status_message());
    if (st && !strstr(status_message(), "damaged.h5"))
      fail_msg("round %d: no file in: %s", i, status_message());
    refused += st != STATUS_OK;
  }
  assert_in_range(refused, 1, times);
  mem_free(whole);
  mem_free(damaged);
}

static void datasets(void **state) {
  (void)state;
  reference("make-dataset");
  damage("plain.h5", 8192, 150, open_and_read);
}

static void foreign_soft_labels(void **state) {
  (void)state;
  reference("make-foreign");
  damage("foreign-f4.h5", 8192, 150, open_soft);
}

static void cut_short(void **state) {
  (void)state;
  size_t n;
  reference("make-dataset");
  unsigned char *whole = bytes_of("plain.h5", &n);
  for (size_t length = n - 1; length; length = length * 3 / 4) {
    overwrite("cut.h5", 0, whole, length);
    assert_int_equal(open_and_read(in_folder("cut.h5")), STATUS_BAD_INPUT);
  }
  mem_free(whole);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(datasets),
    cmocka_unit_test(foreign_soft_labels),
    cmocka_unit_test(cut_short),
};

RUN_STORE(tests)
