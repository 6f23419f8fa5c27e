/* Files of every format, written by numpy and Python's csv, against what h5py then finds in the dataset file.
 */
#include "importing.h"

static void run_script(const char *action) {
  char command[4200];
  snprintf(command, sizeof command, "/usr/bin/python3 '%s' %s", script, action);
  assert_int_equal(system(command), 0);
}

static void test_every_case_becomes_what_numpy_says(void **state) {
  (void)state;
  bool seen[16] = {false};
  run_script("make");
  FILE *f = fopen("cases.txt", "r");
  assert_non_null(f);
  char line[1024], name[64], output[80], format[16];
  while (fgets(line, sizeof line, f)) {
    line[strcspn(line, "\n")] = '\0';
    assert_int_equal(sscanf(line, "%63s %15s", name, format), 2);
    snprintf(output, sizeof output, "%s.h5", name);
    status st = import_line(line + strlen(name) + 1, output);
    if (st) fail_msg("'%s': %s", line, status_message());
    for (int i = 0; importers()[i]; i++) seen[i] = seen[i] || !strcmp(importers()[i]->name, format);
  }
  fclose(f);
  run_script("check");
  for (int i = 0; importers()[i]; i++)
    if (!seen[i]) fail_msg("importer '%s' has no case", importers()[i]->name);
}

static void test_the_table_is_searched_by_name(void **state) {
  (void)state;
  for (int i = 0; importers()[i]; i++) assert_ptr_equal(importer_find(importers()[i]->name), importers()[i]);
  assert_null(importer_find("parquet"));
}

static void test_the_same_files_give_the_same_bytes(void **state) {
  (void)state;
  unsigned char *one, *two;
  size_t n_one, n_two;
  put_text("a.csv", "x,y\n1,2\n3,4\n");
  assert_int_equal(import_line("csv --standardize train=a.csv", "same.h5"), STATUS_OK);
  assert_int_equal(file_read("same.h5", &one, &n_one), STATUS_OK);
  assert_int_equal(import_line("csv --standardize --force train=a.csv", "same.h5"), STATUS_OK);
  assert_int_equal(file_read("same.h5", &two, &n_two), STATUS_OK);
  assert_int_equal(n_one, n_two);
  assert_memory_equal(one, two, n_one);
  mem_free(one);
  mem_free(two);
}

static void test_an_existing_output_needs_force_and_survives_failure(void **state) {
  (void)state;
  put_text("a.csv", "x,y\n1,2\n3,4\n");
  put_text("bad.csv", "x,y\n1,2\n3,?\n");
  put_text("kept.h5", "something else");
  assert_int_equal(import_line("csv train=a.csv", "kept.h5"), STATUS_BAD_INPUT);
  assert_non_null(strstr(status_message(), "--force"));
  assert_int_equal(import_line("csv --force train=bad.csv", "kept.h5"), STATUS_BAD_INPUT);
  assert_int_equal(file_size("kept.h5"), 14);
  assert_false(file_exists("kept.h5.part"));
  assert_int_equal(import_line("csv --force train=a.csv", "kept.h5"), STATUS_OK);
  assert_true(file_size("kept.h5") > 14);
}

/* Whichever allocation fails, there is no dataset or (the last step failed) a whole one. */
static void test_a_failed_allocation_leaves_nothing_half_done(void **state) {
  (void)state;
  const char *line = "csv --categorical --standardize --label-column=z train=t.csv";
  put_text("t.csv", "x,y,z\na,2,k\nb,4,l\n");
  assert_int_equal(import_line(line, "whole.h5"), STATUS_OK);
  unsigned long n = 1;
  for (status st = STATUS_FAILED; st; n++) {
    mem_fail_at(n);
    st = import_line(line, "m.h5");
    mem_fail_at(0);
    assert_true(st == STATUS_OK || st == STATUS_FAILED);
    assert_false(file_exists("m.h5.part"));
    if (file_exists("m.h5")) assert_int_equal(file_size("m.h5"), file_size("whole.h5"));
    unlink("m.h5");
  }
  assert_true(n > 30);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_case_becomes_what_numpy_says),
      cmocka_unit_test(test_the_table_is_searched_by_name),
      cmocka_unit_test(test_the_same_files_give_the_same_bytes),
      cmocka_unit_test(test_an_existing_output_needs_force_and_survives_failure),
      cmocka_unit_test(test_a_failed_allocation_leaves_nothing_half_done),
  };
  return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
