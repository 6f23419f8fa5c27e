/* Datasets that h5py wrote: headers, rows in memory and on demand, and everything a header can get wrong. */
/* ranks: 1 2 4 */
#include "files.h"

#include "store/dataset.h"

static const array *array_of(dataset *d, const split *s, const char *name) {
  const array *lists[] = {s->inputs, s->labels, s->targets, s->lengths};
  const int n[] = {s->n_inputs, s->n_labels, s->n_targets, s->n_lengths};
  (void)d;
  for (int l = 0; l < 4; l++)
    for (int i = 0; i < n[l]; i++)
      if (!strcmp(lists[l][i].name, name)) return &lists[l][i];
  fail_msg("no array %s", name);
  return NULL;
}

static void headers(void **state) {
  (void)state;
  dataset *d;
  const split *s;
  const array *a;
  reference("make-dataset");
  OK(dataset_open(&d, world, in_folder("plain.h5")));
  assert_string_equal(dataset_name(d), "plain");
  assert_string_equal(dataset_text(d, "licence"), "CC0");
  assert_string_equal(dataset_text(d, "source"), "");
  assert_int_equal(dataset_n_splits(d), 2);
  assert_int_equal(dataset_n_classes(d), 3);
  assert_string_equal(dataset_classes(d)[2], "zw\u00f6lf");
  OK(dataset_split(d, "train", &s));
  assert_int_equal(s->n, 37);
  assert_int_equal(s->n_inputs, 5);
  assert_string_equal(s->inputs[0].name, "bytes");
  assert_string_equal(s->inputs[4].name, "wide");
  assert_int_equal(s->n_labels, 2);
  assert_string_equal(s->labels[0].name, "label");
  assert_int_equal(s->n_targets, 1);
  assert_int_equal(s->n_lengths, 1);
  OK(dataset_input(d, s, "bytes", &a));
  assert_int_equal(a->type, ELEMENT_UINT8);
  assert_int_equal(a->rank, 4);
  assert_int_equal(a->dims[3], 5);
  assert_int_equal(a->row_values, 60);
  assert_int_equal(a->n_scale, 3);
  assert_true(a->scale[1] == 1.0f / 255 && a->offset[2] == 7);
  assert_message(dataset_input(d, s, NULL, &a), STATUS_BAD_INPUT, "name one: bytes, half, real, token, wide");
  assert_message(dataset_input(d, s, "image", &a), STATUS_BAD_INPUT,
                 "has no array 'image'; it has: bytes, half");
  OK(dataset_split(d, "test", &s));
  OK(dataset_input(d, s, NULL, &a));
  assert_string_equal(a->name, "bytes");
  assert_message(dataset_split(d, "valid", &s), STATUS_BAD_INPUT,
                 "has no split 'valid'; it has: test, train");
  dataset_close(&d);
}

/* Rows as the training loop asks for them: any order, some twice. */
static const int64_t ids[] = {36, 0, 7, 8, 9, 7, 21, 20, 1, 36};
enum { N_IDS = sizeof ids / sizeof *ids };

static void compare(const char *file, const char *name, size_t memory_limit, bool ints) {
  dataset *d;
  const split *s;
  rows *r;
  OK(dataset_open(&d, world, in_folder(file)));
  OK(dataset_split(d, "train", &s));
  OK(rows_open(&r, d, s, array_of(d, s, name), memory_limit));
  assert_int_equal(rows_in_memory(r), memory_limit != 1);
  assert_int_equal(rows_count(r), 37);
  char bin[64];
  snprintf(bin, sizeof bin, "%s.bin", name);
  uint32_t *expected = bytes_of(bin, NULL), *found;
  size_t values = (size_t)rows_values(r);
  OK(mem_new(&found, N_IDS * values, sizeof *found));
  if (ints)
    OK(rows_ints(r, ids, N_IDS, (int32_t *)found));
  else
    OK(rows_floats(r, ids, N_IDS, (float *)found));
  for (size_t i = 0; i < N_IDS; i++)
    assert_memory_equal(found + i * values, expected + (size_t)ids[i] * values, values * sizeof *found);
  mem_free(expected);
  mem_free(found);
  rows_close(&r);
  dataset_close(&d);
}

static void rows_as_numpy_has_them(void **state) {
  (void)state;
  static const char *const files[] = {"plain.h5", "packed.h5"};
  static const char *const names[] = {"bytes", "half", "real", "wide"};
  reference("make-dataset");
  for (int f = 0; f < 2; f++)
    for (size_t limit = 0; limit < 2; limit++) {
      for (int i = 0; i < 4; i++) compare(files[f], names[i], limit, false);
      compare(files[f], "token", limit, true);
      compare(files[f], "label", limit, true);
    }
}

/* The nodes' layouts that the ranks of one machine can stand for. */
static void rows_on_other_nodes(void **state) {
  (void)state;
  comm *kept = world;
  reference("make-dataset");
  for (int shared = 0; shared < 2; shared++)
    for (int per_node = 0; per_node < 3; per_node++) {
      char text[4];
      snprintf(text, sizeof text, "%d", per_node);
      setenv("MPISTILL_SHARED_MEMORY", shared ? "1" : "0", 1);
      setenv("MPISTILL_RANKS_PER_NODE", text, 1);
      OK(comm_from(&world, comm_mpi(kept)));
      compare("packed.h5", "bytes", 0, false);
      comm_end(&world);
      world = kept;
    }
  unsetenv("MPISTILL_SHARED_MEMORY");
  unsetenv("MPISTILL_RANKS_PER_NODE");
}

static void rows_in_threads(void **state) {
  (void)state;
  dataset *d;
  const split *s;
  rows *r;
  reference("make-dataset");
  float *expected = bytes_of("bytes.bin", NULL);
  OK(dataset_open(&d, world, in_folder("packed.h5")));
  OK(dataset_split(d, "train", &s));
  OK(rows_open(&r, d, s, array_of(d, s, "bytes"), 1));
  int wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
  for (int i = 0; i < 400; i++) {
    float found[2 * 60];
    int64_t pair[] = {i % 37, (i * 7) % 37};
    wrong += rows_floats(r, pair, 2, found) != STATUS_OK;
    wrong += memcmp(found, expected + 60 * pair[0], 60 * sizeof *found) != 0;
    wrong += memcmp(found + 60, expected + 60 * pair[1], 60 * sizeof *found) != 0;
  }
  assert_int_equal(wrong, 0);
  mem_free(expected);
  rows_close(&r);
  dataset_close(&d);
}

static void an_array_in_memory_is_shared(void **state) {
  (void)state;
  dataset *d;
  const split *s;
  rows *r[3];
  float x[60], y[60];
  reference("make-dataset");
  OK(dataset_open(&d, world, in_folder("packed.h5")));
  OK(dataset_split(d, "train", &s));
  for (size_t i = 0; i < 3; i++) OK(rows_open(&r[i], d, s, array_of(d, s, "bytes"), i == 1));
  assert_ptr_equal(r[0], r[2]);
  assert_ptr_not_equal(r[0], r[1]);
  assert_false(rows_in_memory(r[1]));
  OK(rows_floats(r[1], ids, 1, y));
  rows_close(&r[0]);
  rows_close(&r[1]);
  OK(rows_floats(r[2], ids, 1, x));
  assert_memory_equal(x, y, sizeof x);
  rows_close(&r[2]);
  dataset_close(&d);
}

static void values_that_are_none(void **state) {
  (void)state;
  static const int64_t all[] = {3, 2, 1, 0};
  dataset *d;
  const split *s;
  rows *r;
  float x[12];
  int32_t k[12];
  reference("make-bad-datasets");
  OK(dataset_open(&d, world, in_folder("values.h5")));
  OK(dataset_split(d, "train", &s));
  OK(rows_open(&r, d, s, array_of(d, s, "x"), 0));
  OK(rows_floats(r, all, 1, x));
  assert_message(rows_floats(r, all, 4, x), STATUS_BAD_INPUT, "values.h5: /train/x: row 2, column 1 is nan");
  assert_message(rows_ints(r, all, 4, k), STATUS_BAD_INPUT,
                 "/train/x: is float32; whole numbers are expected");
  assert_message(rows_floats(r, (int64_t[]){4}, 1, x), STATUS_FAILED, "row 4 was asked for");
  rows_close(&r);
  OK(rows_open(&r, d, s, array_of(d, s, "half"), 1));
  assert_message(rows_floats(r, all, 4, x), STATUS_BAD_INPUT, "/train/half: row 2, column 1 is inf");
  rows_close(&r);
  OK(rows_open(&r, d, s, array_of(d, s, "wide"), 0));
  assert_message(rows_ints(r, all, 4, k), STATUS_BAD_INPUT,
                 "/train/wide: row 3, column 0 does not fit into 32 bits");
  rows_close(&r);
  dataset_close(&d);
}

static void bad_headers(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"no-format", "format is missing; 'mpistill-dataset' is expected"},
      {"wrong-format", "format is 'mpistill-softlabels'; 'mpistill-dataset' is expected"},
      {"number-format", "format is not text"},
      {"no-version", "version is missing"},
      {"version-2", "version 2"},
      {"text-version", "version is not a number"},
      {"no-splits", "has no splits"},
      {"no-inputs", "split 'train' has no array"},
      {"loose", "/x is in no split"},
      {"float64", "/train/x: is float64"},
      {"big-endian", "/train/x: has a type that is not understood"},
      {"strings", "/train/x: has a type that is not understood"},
      {"real-label", "/train/label: is float32"},
      {"rows-differ", "/train/x: has 4 rows, another array of this split 5"},
      {"no-rows", "dimension 0 is 0"},
      {"scalar", "has 0 dimensions"},
      {"nine-dimensions", "has 9 dimensions"},
      {"huge", "more values than can be counted"},
      {"nested", "/train/deep is a group"},
      {"outside-link", "link to another file"},
      {"outside-data", "in other files"},
      {"virtual", "in other files"},
      {"three-scales", "scale and offset have 3 and 0 entries; 1 or one per channel (2)"},
      {"nan-scale", "scale is not a finite number"},
      {"text-scale", "scale is not a number"},
      {"number-classes", "classes is not text"},
      {"stray-length", "/train/y.length belongs to no array"},
      {"text", "is not an HDF5 file"},
      {"empty", "is not an HDF5 file"},
      {"cut", "truncated file"},
      {"missing", "No such file"},
  };
  reference("make-bad-datasets");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    dataset *d;
    char name[64];
    snprintf(name, sizeof name, "%s.h5", cases[i][0]);
    status st = dataset_open(&d, world, in_folder(name));
    assert_null(d);
    assert_message(st, STATUS_BAD_INPUT, cases[i][1]);
    assert_non_null(strstr(status_message(), name));
  }
  dataset *d;
  assert_message(dataset_open(&d, world, folder), STATUS_BAD_INPUT, "is a folder");
}

static void halves_are_exact(void **state) {
  (void)state;
  dataset *d;
  const split *s;
  rows *r;
  size_t n;
  reference("make-halves");
  float *expected = bytes_of("halves.bin", &n), *found;
  assert_int_equal(n, 1000 * 1000 * sizeof *expected);
  OK(mem_new(&found, 1000 * 1000, sizeof *found));
  OK(dataset_open(&d, world, in_folder("halves.h5")));
  OK(dataset_split(d, "train", &s));
  OK(rows_open(&r, d, s, &s->inputs[0], 0));
  for (int64_t i = 0; i < 1000; i++) OK(rows_floats(r, &i, 1, found + 1000 * i));
  assert_memory_equal(found, expected, n);
  rows_close(&r);
  dataset_close(&d);
  mem_free(expected);
  mem_free(found);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(headers),
    cmocka_unit_test(rows_as_numpy_has_them),
    cmocka_unit_test(rows_on_other_nodes),
    cmocka_unit_test(rows_in_threads),
    cmocka_unit_test(an_array_in_memory_is_shared),
    cmocka_unit_test(values_that_are_none),
    cmocka_unit_test(bad_headers),
    cmocka_unit_test(halves_are_exact),
};

RUN_STORE(tests)
