/* Soft labels that others made: accepted when they follow the schema, tied to their dataset, refused with a
 * reason. */
/* ranks: 1 2 4 */
#include "files.h"

#include "store/softlabels.h"

#include <math.h>

enum { N = 29, CLASSES = 6 };

static void compare(const char *file, const char *expected_file, float tolerance) {
  softlabels *s;
  float *found, *expected = bytes_of(expected_file, NULL);
  OK(mem_new(&found, N * CLASSES, sizeof *found));
  OK(softlabels_open(&s, world, in_folder(file)));
  assert_int_equal(softlabels_get(s)->dims[0], N);
  assert_int_equal(softlabels_get(s)->dims[1], CLASSES);
  assert_int_equal(softlabels_get(s)->n_classes, CLASSES);
  assert_int_equal(softlabels_n_blocks(s), 1);
  for (int loaded = 0; loaded < 2; loaded++) {
    if (loaded) OK(softlabels_load(s, 0));
    OK(softlabels_read(s, 0, N, found));
    for (int i = 0; i < N * CLASSES; i++)
      if (!(fabsf(found[i] - expected[i]) <= tolerance))
        fail_msg("%s: value %d is %.9g, not %.9g", file, i, found[i], expected[i]);
  }
  OK(softlabels_verify(s));
  softlabels_close(&s);
  mem_free(found);
  mem_free(expected);
}

static void accepted(void **state) {
  (void)state;
  reference("make-foreign");
  compare("foreign-f8.h5", "foreign.bin", 0);
  compare("foreign-f4.h5", "foreign.bin", 0);
  compare("foreign-f2.h5", "foreign16.bin", 0);
  compare("foreign-top.h5", "foreign-top.bin", 2e-6f);
  softlabels *s;
  OK(softlabels_open(&s, world, in_folder("foreign-top.h5")));
  assert_string_equal(softlabels_get(s)->classes[5], "5");
  assert_string_equal(softlabels_get(s)->dataset_hash, "");
  assert_int_equal(softlabels_get(s)->top_k, 2);
  softlabels_close(&s);
}

static void bad_headers(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"no-split", "attribute split is missing"},
      {"no-encoding", "encoding is missing; dense or topk"},
      {"odd-encoding", "encoding is sparse; dense or topk"},
      {"no-logits", "/logits cannot be read"},
      {"one-dimension", "/logits has one dimension"},
      {"whole-numbers", "/logits: float16, float32 or float64 is expected"},
      {"few-classes", "/classes has 2 entries, the logits have 6"},
      {"half-blocks", "/blocks/checksum cannot be read"},
      {"wrong-blocks", "uint64 [3] for 29 rows in blocks of 10"},
      {"unfinished", "1 of 3 blocks are not finished"},
      {"top-without-classes", "n_classes is missing"},
      {"top-shapes", "do not go together"},
      {"top-too-many", "the 2 largest of only 1 classes"},
      {"bad-temperature", "temperature is not one finite number"},
      {"missing", "No such file"},
  };
  reference("make-foreign");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    softlabels *s;
    char name[64];
    snprintf(name, sizeof name, "%s.h5", cases[i][0]);
    status st = softlabels_open(&s, world, in_folder(name));
    assert_null(s);
    assert_message(st, STATUS_BAD_INPUT, cases[i][1]);
    assert_non_null(strstr(status_message(), name));
  }
}

static void bad_values(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"nan", "row 7, class 3 is nan"},
      {"index-out", "row 5: /topk/index is 6; 0 to 5"},
      {"index-below", "row 5: /topk/index is -1; 0 to 5"},
      {"index-twice", "row 5: /topk/index is"},
      {"rest-infinite", "row 0: /topk/rest is -inf"},
  };
  float found[N * CLASSES];
  reference("make-foreign");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    softlabels *s;
    char name[64];
    snprintf(name, sizeof name, "%s.h5", cases[i][0]);
    OK(softlabels_open(&s, world, in_folder(name)));
    assert_message(softlabels_read(s, 0, N, found), STATUS_BAD_INPUT, cases[i][1]);
    assert_non_null(strstr(status_message(), name));
    assert_message(softlabels_verify(s), STATUS_BAD_INPUT, cases[i][1]);
    softlabels_close(&s);
  }
}

static void write_for(const char *name, const char *split, const char *hash, int64_t rows) {
  static float zeros[64];
  softlabels *s;
  softlabels_header h = {.teacher = "t",
                         .dataset_hash = (char *)hash,
                         .split = (char *)split,
                         .type = ELEMENT_FLOAT32,
                         .rank = 2,
                         .dims = {rows, 1},
                         .block_rows = 64,
                         .batch_rows = 64};
  OK(softlabels_create(&s, world, in_folder(name), &h, false));
  if (!comm_rank(world)) OK(softlabels_write(s, 0, zeros));
  OK(softlabels_finish(s, STATUS_OK));
  softlabels_close(&s);
}

static status match(const char *name, dataset *d, const split *sp, bool trust_rows) {
  softlabels *s;
  OK(softlabels_open(&s, world, in_folder(name)));
  status st = softlabels_match(s, d, sp, trust_rows);
  softlabels_close(&s);
  return st;
}

static void tied_to_its_dataset(void **state) {
  (void)state;
  dataset *d;
  const split *sp;
  char hash[HASH_TEXT_BYTES];
  reference("make-dataset");
  OK(dataset_open(&d, world, in_folder("plain.h5")));
  OK(dataset_split(d, "train", &sp));
  OK(dataset_hash(d, sp, hash));
  write_for("good.h5", "train", hash, 37);
  write_for("other.h5", "train", "xxh3:0000000000000000", 37);
  write_for("split.h5", "test", hash, 37);
  write_for("rows.h5", "train", hash, 36);
  write_for("unnamed.h5", "train", "", 37);
  OK(match("good.h5", d, sp, false));
  assert_message(match("other.h5", d, sp, true), STATUS_BAD_INPUT,
                 "with hash xxh3:0000000000000000, but split 'train' of");
  assert_non_null(strstr(status_message(), hash));
  assert_message(match("split.h5", d, sp, true), STATUS_BAD_INPUT,
                 "split 'test' of its dataset, not for 'train'");
  assert_message(match("rows.h5", d, sp, true), STATUS_BAD_INPUT, "has 36 rows, split 'train'");
  assert_message(match("unnamed.h5", d, sp, false), STATUS_BAD_INPUT, "--trust-rows");
  OK(match("unnamed.h5", d, sp, true));
  dataset_close(&d);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(accepted),
    cmocka_unit_test(bad_headers),
    cmocka_unit_test(bad_values),
    cmocka_unit_test(tied_to_its_dataset),
};

RUN_STORE(tests)
