/* Files, hashes and the log: whole or not at all, with messages that say what is wrong. */
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "testing.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder;

static char *in_folder(const char *name) {
  char *path;
  assert_int_equal(file_join(&path, folder, name), STATUS_OK);
  return path;
}

static void written_files_come_back(void **state) {
  (void)state;
  char *path = in_folder("a.bin"), *part = in_folder("a.bin.part");
  unsigned char *bytes;
  size_t n;
  assert_int_equal(file_write(path, "one\0two", 7), STATUS_OK);
  assert_false(file_exists(part));
  assert_int_equal(file_size(path), 7);
  assert_int_equal(file_write(path, "three", 5), STATUS_OK);
  assert_int_equal(file_read(path, &bytes, &n), STATUS_OK);
  assert_int_equal(n, 5);
  assert_string_equal((char *)bytes, "three");
  mem_free(bytes);
  assert_int_equal(file_write(path, "", 0), STATUS_OK);
  assert_int_equal(file_read(path, &bytes, &n), STATUS_OK);
  assert_int_equal(n, 0);
  mem_free(bytes);
  mem_free(path);
  mem_free(part);
}

static void a_full_disk_leaves_the_old_file(void **state) {
  (void)state;
  static char big[1 << 20];
  char *path = in_folder("b.bin"), *part = in_folder("b.bin.part");
  unsigned char *bytes;
  size_t n;
  assert_int_equal(file_write(path, "old", 3), STATUS_OK);
  struct rlimit all, little;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
  little = all;
  little.rlim_cur = 1 << 16; /* as a disk that is full after so many bytes */
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
  status st = file_write(path, big, sizeof big);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
  signal(SIGXFSZ, SIG_DFL);
  assert_int_equal(st, STATUS_FAILED);
  assert_contains(status_message(), "File too large");
  assert_false(file_exists(part));
  assert_int_equal(file_read(path, &bytes, &n), STATUS_OK);
  assert_string_equal((char *)bytes, "old");
  mem_free(bytes);
  mem_free(path);
  mem_free(part);
}

static mode_t mode_of(const char *path) {
  struct stat info;
  assert_int_equal(lstat(path, &info), 0);
  return info.st_mode & 0777;
}

/* Whoever can write into the folder cannot make us write elsewhere, nor read what is not finished. */
static void parts_are_private(void **state) {
  (void)state;
  char *path = in_folder("p.bin"), *part = in_folder("p.bin.part"), *other = in_folder("other");
  int fd;
  const mode_t mask = umask(027);
  assert_int_equal(file_write(other, "mine", 4), STATUS_OK);
  assert_int_equal(symlink(other, part), 0);
  assert_int_equal(file_create_part(part, &fd), STATUS_OK);
  assert_int_equal(write(fd, "secret", 6), 6);
  close(fd);
  assert_int_equal(mode_of(part), 0600);
  assert_int_equal(file_size(other), 4);
  assert_int_equal(file_commit(path), STATUS_OK);
  assert_int_equal(mode_of(path), 0640);
  assert_int_equal(file_size(path), 6);
  umask(mask);
  mem_free(path);
  mem_free(part);
  mem_free(other);
}

static void commit_renames(void **state) {
  (void)state;
  char *path = in_folder("c.h5"), *part = in_folder("c.h5.part");
  assert_int_equal(file_commit(path), STATUS_FAILED);
  FILE *f = fopen(part, "w");
  fputs("whole", f);
  fclose(f);
  assert_int_equal(file_commit(path), STATUS_OK);
  assert_true(file_exists(path) && !file_exists(part));
  mem_free(path);
  mem_free(part);
}

static void messages_name_the_trouble(void **state) {
  (void)state;
  char *missing = in_folder("none/x.h5"), *file = in_folder("file"), *under = in_folder("file/x.h5");
  unsigned char *bytes;
  size_t n;
  assert_int_equal(file_write(file, "x", 1), STATUS_OK);
  assert_int_equal(file_check_writable(file), STATUS_OK);
  assert_int_equal(file_check_writable(missing), STATUS_BAD_INPUT);
  assert_contains(status_message(), "none': No such file");
  assert_int_equal(file_check_writable(under), STATUS_BAD_INPUT);
  assert_contains(status_message(), "is not a folder");
  assert_int_equal(file_check_writable(folder), STATUS_BAD_INPUT);
  assert_contains(status_message(), "it is a folder");
  assert_int_equal(file_check_writable(""), STATUS_BAD_INPUT);
  assert_int_equal(file_write(missing, "x", 1), STATUS_BAD_INPUT);
  assert_int_equal(file_read(missing, &bytes, &n), STATUS_BAD_INPUT);
  assert_contains(status_message(), "none/x.h5: cannot be opened");
  assert_int_equal(file_read(folder, &bytes, &n), STATUS_BAD_INPUT);
  assert_contains(status_message(), "is a folder");
  mem_free(missing);
  mem_free(file);
  mem_free(under);
}

static void files_are_mapped(void **state) {
  (void)state;
  char *file = in_folder("mapped"), *empty = in_folder("empty"), *missing = in_folder("none/x"),
       *folder = in_folder("");
  file_view v;
  assert_int_equal(file_write(file, "some bytes", 10), STATUS_OK);
  assert_int_equal(file_write(empty, "", 0), STATUS_OK);
  assert_int_equal(file_map(&v, file), STATUS_OK);
  assert_true(v.mapped && v.n == 10 && memcmp(v.bytes, "some bytes", 10) == 0);
  file_unmap(&v);
  assert_true(!v.bytes && !v.n);
  file_unmap(&v);
  assert_int_equal(file_map(&v, empty), STATUS_OK);
  assert_true(!v.mapped && v.n == 0);
  file_unmap(&v);
  assert_int_equal(file_map(&v, missing), STATUS_BAD_INPUT);
  assert_int_equal(file_map(&v, folder), STATUS_BAD_INPUT);
  assert_contains(status_message(), "is a folder");
  mem_free(file);
  mem_free(empty);
  mem_free(missing);
  mem_free(folder);
}

static void folders_are_made_with_parents(void **state) {
  (void)state;
  char *deep = in_folder("p/q/r/"), *file = in_folder("p/file"), *under = in_folder("p/file/x");
  struct stat info;
  assert_int_equal(file_make_folder(deep), STATUS_OK);
  assert_int_equal(file_make_folder(deep), STATUS_OK);
  assert_int_equal(stat(deep, &info), 0);
  assert_int_equal(file_write(file, "x", 1), STATUS_OK);
  assert_int_equal(file_make_folder(under), STATUS_BAD_INPUT);
  assert_contains(status_message(), "is a file, a folder is needed");
  mem_free(deep);
  mem_free(file);
  mem_free(under);
}

static void paths_are_cut(void **state) {
  (void)state;
  static const char *const cases[][3] = {
      {"a/b/c.h5", "a/b", "c.h5"}, {"c.h5", ".", "c.h5"}, {"/c.h5", "/", "c.h5"}, {"a/", "a", ""}};
  for (size_t i = 0; i < 4; i++) {
    char *text;
    assert_int_equal(file_folder(&text, cases[i][0]), STATUS_OK);
    assert_string_equal(text, cases[i][1]);
    assert_string_equal(file_name(cases[i][0]), cases[i][2]);
    mem_free(text);
  }
}

/* XXH3's published value for nothing; pieces and files agree with the whole. */
static void hashes_agree(void **state) {
  (void)state;
  char *path = in_folder("h.bin"), text[HASH_TEXT_BYTES];
  hash_stream *h;
  uint64_t hash;
  assert_true(hash_bytes("", 0) == 0x2d06800538d394c2u);
  hash_text(0x2d06800538d394c2u, text);
  assert_string_equal(text, "xxh3:2d06800538d394c2");
  assert_int_equal(hash_start(&h), STATUS_OK);
  hash_add(h, "soft ", 5);
  hash_add(h, "labels", 6);
  assert_true(hash_end(&h) == hash_bytes("soft labels", 11));
  assert_null(h);
  assert_int_equal(file_write(path, "soft labels", 11), STATUS_OK);
  assert_int_equal(hash_file(path, &hash), STATUS_OK);
  assert_true(hash == hash_bytes("soft labels", 11));
  assert_int_equal(hash_file("/none", &hash), STATUS_BAD_INPUT);
  mem_free(path);
}

static void the_log_has_one_object_a_line(void **state) {
  (void)state;
  char *path = in_folder("run.jsonl");
  unsigned char *bytes;
  size_t n;
  run_log *l;
  for (int part = 0; part < 2; part++) { /* appends */
    assert_int_equal(log_open(&l, path, true), STATUS_OK);
    log_event(l, "epoch",
              json_pack("{s:i, s:o, s:o}", "epoch", 1, "loss", json_number(NAN), "rate", json_number(0.1)));
    assert_int_equal(log_close(&l), STATUS_OK);
  }
  assert_int_equal(file_read(path, &bytes, &n), STATUS_OK);
  char *second = strchr((char *)bytes, '\n') + 1;
  assert_int_equal(strncmp((char *)bytes, "{\"event\":\"epoch\",\"time_s\":", 26), 0);
  json_t *line = json_loads(second, 0, NULL);
  assert_true(json_is_null(json_object_get(line, "loss")));
  assert_true(json_real_value(json_object_get(line, "rate")) == 0.1);
  assert_true(json_is_number(json_object_get(line, "time_s")));
  json_decref(line);
  mem_free(bytes);
  mem_free(path);
}

static void a_log_that_cannot_be_written_fails(void **state) {
  (void)state;
  run_log *l;
  assert_int_equal(log_open(&l, "/dev/full", true), STATUS_OK);
  log_event(l, "start", NULL);
  assert_int_equal(log_close(&l), STATUS_FAILED);
  assert_contains(status_message(), "No space left");
  assert_int_equal(log_open(&l, "/none/x", true), STATUS_BAD_INPUT);
  assert_int_equal(log_open(&l, "/none/x", false), STATUS_OK);
  log_event(l, "start", json_object());
  assert_int_equal(log_close(&l), STATUS_OK);
}

static int set_up(void **state) {
  (void)state;
  folder = enter_folder();
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  leave_folder(folder);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(written_files_come_back),
      cmocka_unit_test(a_full_disk_leaves_the_old_file),
      cmocka_unit_test(parts_are_private),
      cmocka_unit_test(commit_renames),
      cmocka_unit_test(messages_name_the_trouble),
      cmocka_unit_test(files_are_mapped),
      cmocka_unit_test(folders_are_made_with_parents),
      cmocka_unit_test(paths_are_cut),
      cmocka_unit_test(hashes_agree),
      cmocka_unit_test(the_log_has_one_object_a_line),
      cmocka_unit_test(a_log_that_cannot_be_written_fails),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
