/* Every allocation fails once, on one rank: all ranks come back with the same status, and nothing under a
 * final name is half. */
/* ranks: 1 2 4 */
#include "files.h"

#include "store/softlabels.h"

enum { N = 20, CLASSES = 5, BLOCK = 8, BLOCKS = 3 };

/* A window takes a tenth of a second to be made: too long for hundreds of rounds. */
static size_t limit(comm *c) {
  return comm_mpi(c) == MPI_COMM_NULL ? 0 : 1;
}

static status read_dataset(comm *c, const char *path) {
  static const int64_t ids[] = {3, 1, 30};
  status st = STATUS_OK;
  dataset *d = NULL;
  rows *r = NULL;
  const split *s;
  float x[3 * 60];
  char hash[HASH_TEXT_BYTES];
  TRY(dataset_open(&d, c, path));
  TRY(dataset_split(d, "train", &s));
  TRY(rows_open(&r, d, s, &s->inputs[0], 1));
  TRY(comm_agree(c, rows_floats(r, ids, 3, x)));
  rows_close(&r);
  TRY(rows_open(&r, d, s, &s->inputs[0], limit(c)));
  TRY(comm_agree(c, rows_floats(r, ids, 3, x)));
  TRY(dataset_hash(d, s, hash));
done:
  rows_close(&r);
  dataset_close(&d);
  return st;
}

static status write_softlabels(comm *c, const char *path) {
  static const float logits[N * CLASSES] = {1, 2, 3};
  status st = STATUS_OK;
  softlabels *s = NULL;
  softlabels_header h = {.teacher = "t",
                         .split = "train",
                         .type = ELEMENT_FLOAT16,
                         .rank = 2,
                         .dims = {N, CLASSES},
                         .top_k = 2,
                         .block_rows = BLOCK};
  float out[2 * CLASSES];
  TRY(softlabels_create(&s, c, path, &h, true));
  for (int b = 0; b < BLOCKS && !st; b++)
    if (b % comm_size(c) == comm_rank(c) && !softlabels_done(s)[b])
      st = softlabels_write(s, b, logits + b * BLOCK * CLASSES);
  TRY(softlabels_finish(s, st));
  softlabels_close(&s);
  TRY(softlabels_open(&s, c, path));
  TRY(softlabels_load(s, limit(c)));
  TRY(comm_agree(c, softlabels_read(s, 7, 2, out)));
  TRY(softlabels_verify(s));
done:
  softlabels_close(&s);
  return st;
}

/* Until the faults lie behind the work on every rank; some that come earlier do not matter (a hash that is
 * not kept). */
static void sweep(comm *c, const char *path, status (*work)(comm *c, const char *path),
                  void (*before)(const char *path)) {
  unsigned long size = (unsigned long)comm_size(c);
  int *all, failures = 0;
  OK(mem_new(&all, size, sizeof *all));
  for (unsigned long n = 0, quiet = 0; n < 2000 && quiet < 8 * size; n++) {
    bool faulty = n % size == (unsigned long)comm_rank(c);
    if (!comm_rank(c) && before) before(path);
    OK(comm_barrier(c));
    mem_fail_at(faulty ? n / size + 1 : 0);
    int st = work(c, path);
    mem_fail_at(0);
    if (st) assert_non_null(strstr(status_message(), "out of memory"));
    OK(comm_gather_all(c, &st, all, sizeof st));
    for (unsigned long i = 0; i < size; i++) assert_int_equal(all[i], st);
    failures += st != STATUS_OK;
    quiet = st ? 0 : quiet + 1;
  }
  assert_in_range(failures, 20, 1999);
  OK(work(c, path));
  mem_free(all);
}

static void forget_hash(const char *path) {
  char cache[256];
  snprintf(cache, sizeof cache, "%s.hash", path);
  unlink(cache);
}

static void forget_half(const char *path) {
  char part[256];
  snprintf(part, sizeof part, "%s.part", path);
  unlink(path);
  unlink(part);
}

static void of_all_ranks(void **state) {
  (void)state;
  reference("make-dataset");
  sweep(world, in_folder("packed.h5"), read_dataset, forget_hash);
  sweep(world, in_folder("soft.h5"), write_softlabels, forget_half);
}

/* As on a login node; what is left of the round before is resumed. */
static void alone(void **state) {
  (void)state;
  comm *c;
  reference("make-dataset");
  if (!comm_rank(world)) {
    OK(comm_alone(&c));
    sweep(c, in_folder("plain.h5"), read_dataset, forget_hash);
    sweep(c, in_folder("alone.h5"), write_softlabels, NULL);
    comm_end(&c);
  }
  OK(comm_barrier(world));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(of_all_ranks),
    cmocka_unit_test(alone),
};

RUN_STORE(tests)
