/* Soft-label files written by all ranks: the same bytes as one process writes, resumed, checked, and as numpy
 * computes them. */
/* ranks: 1 2 4 */
#include "files.h"

#include "store/softlabels.h"

#include <math.h>

enum { N = 103, CLASSES = 11, POSITIONS = 6, BLOCK = 8, BLOCKS = 13, ROW = CLASSES * POSITIONS };
static float logits[N * ROW];

/* Many ties, so that the order among equals shows. */
static void fill_logits(void) {
  for (int i = 0; i < N * ROW; i++)
    logits[i] = (float)((i * 7919) % 97) / 8 - 5 + (i % 3 ? 0 : 0.0001f * (float)(i % 1000));
}

static softlabels_header header(element type, int64_t top_k) {
  return (softlabels_header){.teacher = "wide",
                             .model_hash = "xxh3:1",
                             .dataset_hash = "xxh3:2",
                             .split = "train",
                             .type = type,
                             .rank = 4,
                             .dims = {N, CLASSES, 2, 3},
                             .top_k = top_k,
                             .block_rows = BLOCK,
                             .batch_rows = 4};
}

static softlabels_header ensemble_header(void) {
  static char *teachers[] = {"wide", "conv"}, names[CLASSES][8], *classes[CLASSES];
  static double weights[] = {0.25, 0.75};
  for (int i = 0; i < CLASSES; i++) snprintf(classes[i] = names[i], sizeof names[i], "c%d", i);
  softlabels_header h = header(ELEMENT_FLOAT32, 0);
  h.teacher = "ensemble";
  h.method = "probability-mean";
  h.n_teachers = 2;
  h.teachers = teachers;
  h.weights = weights;
  h.temperature = 4;
  h.n_classes = CLASSES;
  h.classes = classes;
  return h;
}

/* Blocks from the last to the first, each by the rank whose turn it is, those in skip by none. */
static void write_blocks(softlabels *s, comm *c, int skip_from) {
  for (int b = BLOCKS - 1; b >= 0; b--)
    if (b % comm_size(c) == comm_rank(c) && b < skip_from && !softlabels_done(s)[b])
      OK(softlabels_write(s, b, logits + b * BLOCK * ROW));
}

static void write_file(const char *name, comm *c, const softlabels_header *h) {
  softlabels *s;
  if (!comm_rank(c)) unlink(in_folder(name));
  OK(softlabels_create(&s, c, in_folder(name), h, false));
  assert_int_equal(softlabels_n_blocks(s), BLOCKS);
  assert_false(file_exists(in_folder(name)));
  write_blocks(s, c, BLOCKS);
  OK(softlabels_finish(s, STATUS_OK));
  softlabels_close(&s);
}

/* The ranks together under `name`, one process without MPI under "alone-name". */
static void write_both(const char *name, const softlabels_header *h) {
  char alone_name[64], part[64];
  comm *alone;
  snprintf(alone_name, sizeof alone_name, "alone-%s", name);
  snprintf(part, sizeof part, "%s.part", name);
  write_file(name, world, h);
  assert_false(file_exists(in_folder(part)));
  if (!comm_rank(world)) {
    OK(comm_alone(&alone));
    write_file(alone_name, alone, h);
    comm_end(&alone);
  }
  OK(comm_barrier(world));
  assert_true(same_bytes(name, alone_name));
}

static void all_encodings(void **state) {
  (void)state;
  softlabels_header h = header(ELEMENT_FLOAT16, 0);
  fill_logits();
  if (!comm_rank(world)) {
    FILE *f = fopen(in_folder("logits.bin"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(logits, sizeof *logits, N * ROW, f), N * ROW);
    assert_int_equal(fclose(f), 0);
  }
  write_both("dense16.h5", &h);
  h = header(ELEMENT_FLOAT32, 0);
  write_both("dense32.h5", &h);
  h = header(ELEMENT_FLOAT16, 3);
  write_both("top16.h5", &h);
  h = header(ELEMENT_FLOAT32, 3);
  write_both("top32.h5", &h);
  h = header(ELEMENT_FLOAT32, CLASSES);
  write_both("all32.h5", &h);
  h = ensemble_header();
  write_both("ensemble.h5", &h);
  reference("check-softlabels");
}

static void what_is_read_was_written(void **state) {
  (void)state;
  static const char *const files[] = {"dense32.h5", "all32.h5"};
  static const int64_t ids[] = {5, 102, 5, 6, 0};
  float found[5 * ROW];
  fill_logits();
  for (int f = 0; f < 2; f++) {
    softlabels_header h = header(ELEMENT_FLOAT32, f ? CLASSES : 0);
    softlabels *s;
    write_file(files[f], world, &h);
    for (size_t limit = 0; limit < 2; limit++) {
      OK(softlabels_open(&s, world, in_folder(files[f])));
      assert_int_equal(softlabels_get(s)->dims[1], CLASSES);
      assert_int_equal(softlabels_get(s)->rank, 4);
      OK(softlabels_load(s, limit));
      OK(softlabels_rows(s, ids, 5, found));
      for (int i = 0; i < 5; i++)
        assert_memory_equal(found + i * ROW, logits + ids[i] * ROW, ROW * sizeof *found);
      OK(softlabels_read(s, 98, 5, found));
      assert_memory_equal(found, logits + 98 * ROW, sizeof found);
      OK(softlabels_verify(s));
      softlabels_close(&s);
    }
  }
}

static void ensembles_header_comes_back(void **state) {
  (void)state;
  softlabels_header h = ensemble_header();
  softlabels *s;
  fill_logits();
  write_file("ensemble.h5", world, &h);
  OK(softlabels_open(&s, world, in_folder("ensemble.h5")));
  const softlabels_header *got = softlabels_get(s);
  assert_string_equal(got->method, "probability-mean");
  assert_int_equal(got->n_teachers, 2);
  assert_string_equal(got->teachers[1], "conv");
  assert_true(got->weights[1] == 0.75 && got->temperature == 4);
  assert_string_equal(got->classes[10], "c10");
  assert_int_equal(got->batch_rows, 4);
  softlabels_close(&s);
}

/* Stopped after nine blocks, of which one loses its flag and one is damaged: those come again, the bytes are
 * the same. */
static void resumed(void **state) {
  (void)state;
  static const unsigned char begun[BLOCKS] = {1, 1, 1, 1, 1, 1, 1, 1, 1},
                             left[BLOCKS] = {1, 1, 1, 0, 1, 0, 1, 1, 1};
  softlabels_header h = header(ELEMENT_FLOAT32, 0);
  softlabels *s;
  size_t n;
  fill_logits();
  write_file("whole.h5", world, &h);
  OK(softlabels_create(&s, world, in_folder("cut.h5"), &h, false));
  write_blocks(s, world, 9);
  softlabels_close(&s);
  assert_false(file_exists(in_folder("cut.h5")));
  OK(comm_barrier(world));
  OK(softlabels_create(&s, world, in_folder("cut.h5"), &h, true));
  assert_memory_equal(softlabels_done(s), begun, BLOCKS);
  softlabels_close(&s);
  unsigned char *bytes = bytes_of("cut.h5.part", &n);
  unsigned char *flags = memmem(bytes, n, begun, BLOCKS);
  unsigned char *row = memmem(bytes, n, logits + 5 * BLOCK * ROW, ROW * sizeof *logits);
  assert_non_null(flags);
  assert_non_null(row);
  flags[3] = 0;
  row[77] ^= 1;
  overwrite("cut.h5.part", 0, bytes, n);
  OK(softlabels_create(&s, world, in_folder("cut.h5"), &h, true));
  assert_memory_equal(softlabels_done(s), left, BLOCKS);
  write_blocks(s, world, BLOCKS);
  OK(softlabels_finish(s, STATUS_OK));
  softlabels_close(&s);
  assert_true(same_bytes("cut.h5", "whole.h5"));
  mem_free(bytes);
}

static void resumed_with_another_header(void **state) {
  (void)state;
  softlabels_header h = header(ELEMENT_FLOAT16, 0), other;
  softlabels *s;
  fill_logits();
  OK(softlabels_create(&s, world, in_folder("begun.h5"), &h, false));
  write_blocks(s, world, 5);
  softlabels_close(&s);
  other = header(ELEMENT_FLOAT32, 0);
  assert_message(softlabels_create(&s, world, in_folder("begun.h5"), &other, true), STATUS_BAD_INPUT,
                 "begun with type float16, now it is float32; --restart");
  other = h;
  other.model_hash = "xxh3:9";
  assert_message(softlabels_create(&s, world, in_folder("begun.h5"), &other, true), STATUS_BAD_INPUT,
                 "begun with model_hash 'xxh3:1', now it is 'xxh3:9'");
  other = h;
  other.dims[3] = 4;
  assert_message(softlabels_create(&s, world, in_folder("begun.h5"), &other, true), STATUS_BAD_INPUT,
                 "other numbers of rows");
  other = header(ELEMENT_FLOAT16, 2);
  assert_message(softlabels_create(&s, world, in_folder("begun.h5"), &other, true), STATUS_BAD_INPUT,
                 "begun with top-k 0, now it is 2");
  assert_null(s);
  overwrite("begun.h5.part", 0, "garbage", 7);
  OK(softlabels_create(&s, world, in_folder("begun.h5"), &h, true));
  for (int b = 0; b < BLOCKS; b++) assert_int_equal(softlabels_done(s)[b], 0);
  softlabels_close(&s);
}

static void not_finished(void **state) {
  (void)state;
  softlabels_header h = header(ELEMENT_FLOAT16, 0);
  softlabels *s;
  fill_logits();
  int last = comm_size(world) - 1;
  OK(softlabels_create(&s, world, in_folder("failed.h5"), &h, false));
  write_blocks(s, world, BLOCKS);
  status mine = comm_rank(world) == last ? status_set(STATUS_FAILED, "the teacher broke") : STATUS_OK;
  assert_message(softlabels_finish(s, mine), STATUS_FAILED, "the teacher broke");
  softlabels_close(&s);
  assert_false(file_exists(in_folder("failed.h5")));
  assert_true(file_exists(in_folder("failed.h5.part")));
  OK(softlabels_create(&s, world, in_folder("missing.h5"), &h, false));
  write_blocks(s, world, 11);
  assert_message(softlabels_finish(s, STATUS_OK), STATUS_FAILED, "2 blocks were not written: 11, 12");
  softlabels_close(&s);
  assert_false(file_exists(in_folder("missing.h5")));
}

static void damaged_later(void **state) {
  (void)state;
  softlabels_header h = header(ELEMENT_FLOAT32, 0);
  softlabels *s;
  fill_logits();
  write_file("damaged.h5", world, &h);
  size_t n;
  unsigned char *bytes = bytes_of("damaged.h5", &n);
  unsigned char *row = memmem(bytes, n, logits + 50 * ROW, ROW * sizeof *logits);
  assert_non_null(row);
  row[100] ^= 4;
  overwrite("damaged.h5", 0, bytes, n);
  OK(softlabels_open(&s, world, in_folder("damaged.h5")));
  assert_message(softlabels_verify(s), STATUS_BAD_INPUT, "checksums of blocks 6 do not match");
  softlabels_close(&s);
  mem_free(bytes);
}

static void logits_that_cannot_be_stored(void **state) {
  (void)state;
  for (int64_t k = 0; k < 3; k += 2) {
    softlabels_header h = header(ELEMENT_FLOAT16, k);
    softlabels *s;
    fill_logits();
    OK(softlabels_create(&s, world, in_folder("bad.h5"), &h, false));
    float *block = logits + 2 * BLOCK * ROW;
    block[3 * ROW + 5 * POSITIONS + 1] = 65520;
    assert_message(softlabels_write(s, 2, block), STATUS_BAD_INPUT,
                   "teacher 'wide': row 19, class 5 is 65520, too large for float16; take --dtype float32");
    block[3 * ROW + 5 * POSITIONS + 1] = NAN;
    assert_message(softlabels_write(s, 2, block), STATUS_BAD_INPUT, "teacher 'wide': row 19, class 5 is NaN");
    block[3 * ROW + 5 * POSITIONS + 1] = -INFINITY;
    assert_message(softlabels_write(s, 2, block), STATUS_BAD_INPUT, "row 19, class 5 is infinite");
    assert_int_equal(softlabels_done(s)[2], 0);
    softlabels_close(&s);
    OK(comm_barrier(world));
  }
}

/* Half precision as numpy rounds, through the file: values around powers of two are those that HDF5 would
 * spoil. */
static void a_million_halves(void **state) {
  (void)state;
  softlabels_header h = header(ELEMENT_FLOAT16, 0);
  softlabels *s;
  reference("make-halves");
  float *x = bytes_of("reals.bin", NULL);
  h.rank = 2;
  h.dims[0] = 1000;
  h.dims[1] = 1000;
  h.block_rows = 100;
  OK(softlabels_create(&s, world, in_folder("rounded.h5"), &h, false));
  for (int b = comm_rank(world); b < 10; b += comm_size(world)) OK(softlabels_write(s, b, x + b * 100000));
  OK(softlabels_finish(s, STATUS_OK));
  softlabels_close(&s);
  reference("check-rounded");
  mem_free(x);
}

/* ---- features ---- */

enum { WIDTH = 6 };
static float features[2][N * WIDTH];

static softlabels_header featured(softlabels_feature *list, int64_t top_k) {
  softlabels_header h = header(ELEMENT_FLOAT32, top_k);
  for (int i = 0; i < 2; i++)
    list[i] = (softlabels_feature){.name = i ? "/block/0/out" : "$first",
                                   .type = ELEMENT_FLOAT32,
                                   .rank = i ? 3 : 2,
                                   .dims = {N, i ? 2 : WIDTH, i ? 3 : 0}};
  h.n_features = 2;
  h.features = list;
  for (int i = 0; i < 2 * N * WIDTH; i++) features[i / (N * WIDTH)][i % (N * WIDTH)] = (float)(i * i % 1013);
  return h;
}

static void write_features(softlabels *s, comm *c, int from, int to) {
  for (int b = from; b < to; b++) {
    const float *const of_block[] = {features[0] + b * BLOCK * WIDTH, features[1] + b * BLOCK * WIDTH};
    if (b % comm_size(c) == comm_rank(c) && !softlabels_done(s)[b])
      OK(softlabels_write_all(s, b, logits + b * BLOCK * ROW, of_block));
  }
}

static void check_features(const char *name) {
  static const int64_t ids[] = {5, 102, 5, 0};
  float found[4 * WIDTH];
  softlabels *s;
  OK(softlabels_open(&s, world, in_folder(name)));
  assert_int_equal(softlabels_get(s)->n_features, 2);
  assert_int_equal(softlabels_feature_find(s, "/block/0/out"), 1);
  assert_int_equal(softlabels_feature_find(s, "none"), -1);
  assert_string_equal(softlabels_get(s)->features[1].name, "/block/0/out");
  assert_int_equal(softlabels_get(s)->features[1].dims[2], 3);
  for (int i = 0; i < 2; i++) {
    OK(softlabels_feature_load(s, i, 0));
    OK(softlabels_feature_rows(s, i, ids, 4, found));
    for (int r = 0; r < 4; r++)
      assert_memory_equal(found + r * WIDTH, features[i] + ids[r] * WIDTH, WIDTH * sizeof *found);
  }
  OK(softlabels_verify(s));
  softlabels_close(&s);
}

/* Interrupted by `stop` blocks from the end, if any. */
static void write_featured(const char *name, comm *c, const softlabels_header *h, int stop) {
  softlabels *s;
  if (!comm_rank(c)) unlink(in_folder(name));
  OK(softlabels_create(&s, c, in_folder(name), h, false));
  write_features(s, c, 0, BLOCKS - stop);
  if (stop) {
    softlabels_close(&s);
    OK(comm_barrier(c));
    OK(softlabels_create(&s, c, in_folder(name), h, true));
    assert_int_equal(softlabels_done(s)[0], 1);
    write_features(s, c, 0, BLOCKS);
  }
  OK(softlabels_finish(s, STATUS_OK));
  softlabels_close(&s);
}

static void features_beside_the_logits(void **state) {
  (void)state;
  softlabels_feature list[2];
  fill_logits();
  for (int64_t top_k = 0; top_k <= 3; top_k += 3) {
    softlabels_header h = featured(list, top_k);
    comm *alone;
    write_featured("features.h5", world, &h, 4);
    check_features("features.h5");
    OK(comm_barrier(world));
    if (!comm_rank(world)) {
      OK(comm_alone(&alone));
      write_featured("alone-features.h5", alone, &h, 0);
      comm_end(&alone);
    }
    OK(comm_barrier(world));
    assert_true(same_bytes("features.h5", "alone-features.h5"));
  }
}

static void other_features_do_not_go_on(void **state) {
  (void)state;
  softlabels_feature list[2];
  softlabels_header h = featured(list, 0);
  softlabels *s;
  OK(softlabels_create(&s, world, in_folder("other.h5"), &h, false));
  softlabels_close(&s);
  list[0].dims[1]++;
  OK(comm_barrier(world));
  assert_message(softlabels_create(&s, world, in_folder("other.h5"), &h, true), STATUS_BAD_INPUT,
                 "was begun with other features");
}

static void features_are_finite(void **state) {
  (void)state;
  softlabels_feature list[2];
  softlabels_header h = featured(list, 0);
  softlabels *s;
  h.type = list[0].type = list[1].type = ELEMENT_FLOAT16;
  OK(softlabels_create(&s, world, in_folder("half.h5"), &h, false));
  const float *const given[] = {features[0], features[1]};
  features[1][7] = 70000;
  assert_message(softlabels_write_all(s, 0, logits, given), STATUS_BAD_INPUT,
                 "teacher 'wide': row 1, tensor '/block/0/out': 70000 is too large for float16");
  features[1][7] = NAN;
  assert_message(softlabels_write_all(s, 0, logits, given), STATUS_BAD_INPUT, "is not finite");
  assert_message(softlabels_write(s, 0, logits), STATUS_FAILED, "has features");
  OK(comm_barrier(world));
  softlabels_discard(&s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(all_encodings),
    cmocka_unit_test(what_is_read_was_written),
    cmocka_unit_test(ensembles_header_comes_back),
    cmocka_unit_test(resumed),
    cmocka_unit_test(resumed_with_another_header),
    cmocka_unit_test(not_finished),
    cmocka_unit_test(damaged_later),
    cmocka_unit_test(logits_that_cannot_be_stored),
    cmocka_unit_test(a_million_halves),
    cmocka_unit_test(features_beside_the_logits),
    cmocka_unit_test(other_features_do_not_go_on),
    cmocka_unit_test(features_are_finite),
};

RUN_STORE(tests)
