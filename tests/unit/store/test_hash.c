/* The hash of a split against Python's own computation of it, whatever the layout and the number of ranks;
 * the cache beside the file. */
/* ranks: 1 2 4 */
#include "files.h"

#include "store/dataset.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

static void hash_of(const char *file, const char *name, char out[HASH_TEXT_BYTES]) {
  dataset *d;
  const split *s;
  OK(dataset_open(&d, world, in_folder(file)));
  OK(dataset_split(d, name, &s));
  OK(dataset_hash(d, s, out));
  dataset_close(&d);
}

static void as_python_computes_it(void **state) {
  (void)state;
  char expected[3][HASH_TEXT_BYTES], found[HASH_TEXT_BYTES];
  reference("make-hashed");
  char *text = bytes_of("hashes", NULL);
  assert_int_equal(sscanf(text, "%23s %23s %23s", expected[0], expected[1], expected[2]), 3);
  mem_free(text);
  hash_of("one.h5", "train", found);
  assert_string_equal(found, expected[0]);
  hash_of("two.h5", "train", found);
  assert_string_equal(found, expected[0]);
  hash_of("one.h5", "test", found);
  assert_string_equal(found, expected[1]);
  hash_of("two.h5", "test", found);
  assert_string_equal(found, expected[2]);
  assert_string_not_equal(expected[1], expected[2]);
}

static void replace(char *text, const char *hash, const char *other) {
  char *at = strstr(text, hash);
  assert_non_null(at);
  memcpy(at, other, strlen(other));
}

static void cache(void **state) {
  (void)state;
  char train[HASH_TEXT_BYTES], test[HASH_TEXT_BYTES], found[HASH_TEXT_BYTES];
  const char *other = "xxh3:0123456789abcdef";
  size_t n;
  reference("make-hashed");
  hash_of("one.h5", "train", train);
  hash_of("one.h5", "test", test);
  char *text = bytes_of("one.h5.hash", &n);
  assert_non_null(strstr(text, train)); /* the second split did not push the first out */
  replace(text, test, other);
  overwrite("one.h5.hash", 0, text, n);
  hash_of("one.h5", "test", found);
  assert_string_equal(found, other); /* it is used */
  hash_of("one.h5", "train", found);
  assert_string_equal(found, train);
  OK(comm_barrier(world));
  struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
  if (!comm_rank(world)) assert_int_equal(utimensat(AT_FDCWD, in_folder("one.h5"), times, 0), 0);
  OK(comm_barrier(world));
  hash_of("one.h5", "test", found);
  assert_string_equal(found, test); /* and left when the file has changed */
  mem_free(text);
  overwrite("one.h5.hash", 0, "mpistill-hash 2 nonsense\nxxh3:\n", 31);
  hash_of("one.h5", "test", found);
  assert_string_equal(found, test);
}

static void without_a_cache(void **state) {
  (void)state;
  char one[HASH_TEXT_BYTES], found[HASH_TEXT_BYTES];
  reference("make-hashed");
  hash_of("one.h5", "train", one);
  OK(comm_barrier(world));
  if (!comm_rank(world)) {
    unlink(in_folder("two.h5.hash"));
    assert_int_equal(mkdir(in_folder("two.h5.hash"), 0700), 0); /* cannot be read, cannot be written */
  }
  OK(comm_barrier(world));
  hash_of("two.h5", "train", found);
  assert_string_equal(found, one);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(as_python_computes_it),
    cmocka_unit_test(cache),
    cmocka_unit_test(without_a_cache),
};

RUN_STORE(tests)
