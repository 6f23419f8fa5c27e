/* One holder at a time; what a crash, a reboot or another host leaves behind. */
#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/progress.h"
#include "testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *folder;

static char *in_folder(const char *name) {
  char *path;
  assert_int_equal(file_join(&path, folder, name), STATUS_OK);
  return path;
}

/* A process that holds the lock until it is killed. */
static pid_t hold(const char *path) {
  int ready[2];
  char yes = 0;
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (!child) {
    lock *l;
    yes = lock_take(&l, path, false) == STATUS_OK;
    if (write(ready[1], &yes, 1) == 1) pause();
    _exit(1);
  }
  assert_int_equal(read(ready[0], &yes, 1), 1);
  assert_true(yes);
  close(ready[0]);
  close(ready[1]);
  return child;
}

static void end(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

static void put(const char *path, const char *text, time_t age_s) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
  assert_int_equal(futimens(fd, times), 0);
  close(fd);
}

/* The lock is had within `seconds`, and its file goes with it. */
static void assert_free(const char *path, double seconds) {
  lock *l;
  char *file;
  assert_int_equal(mem_format(&file, "%s.lock", path), STATUS_OK);
  double begun = clock_seconds();
  assert_int_equal(lock_take(&l, path, false), STATUS_OK);
  assert_true(clock_seconds() - begun < seconds);
  assert_true(file_exists(file));
  lock_release(&l);
  assert_false(file_exists(file));
  mem_free(file);
}

static void assert_held(const char *path, const char *by) {
  lock *l = NULL;
  double begun = clock_seconds();
  assert_int_equal(lock_take(&l, path, false), STATUS_BAD_INPUT);
  assert_null(l);
  assert_in_range((int)(clock_seconds() - begun), 9, 20);
  assert_contains(status_message(), path);
  assert_contains(status_message(), by);
}

static void a_holder_is_named_and_its_death_frees(void **state) {
  (void)state;
  char *path = in_folder("a"), *file = in_folder("a.lock"), by[64];
  pid_t child = hold(path);
  snprintf(by, sizeof by, "process %ld on host ", (long)child);
  assert_held(path, by);
  end(child);
  assert_true(file_exists(file));
  assert_free(path, 1);
  mem_free(path);
  mem_free(file);
}

static void a_dying_holder_is_waited_for(void **state) {
  (void)state;
  char *path = in_folder("b");
  pid_t child = hold(path);
  if (!fork()) {
    sleep(2);
    kill(child, SIGKILL);
    _exit(0);
  }
  lock *l;
  double begun = clock_seconds();
  assert_int_equal(lock_take(&l, path, false), STATUS_OK);
  assert_in_range((int)(clock_seconds() - begun), 1, 5);
  lock_release(&l);
  while (wait(NULL) > 0) {
  }
  mem_free(path);
}

static void a_file_without_a_lock_is_nothing(void **state) {
  (void)state;
  char *path = in_folder("c"), *file = in_folder("c.lock");
  put(file, "elsewhere 1 1 boot space\n", 0);
  assert_free(path, 1);
  put(file, "", 0);
  assert_free(path, 1);
  mem_free(path);
  mem_free(file);
}

static void with_a_heartbeat(void **state) {
  (void)state;
  char *path = in_folder("d"), *file = in_folder("d.lock"), host[128] = "", text[256], by[64];
  char *other = in_folder("e"), *beating = in_folder("e.lock");
  struct stat before, after;
  lock *l;
  gethostname(host, sizeof host - 1);
  setenv("MPISTILL_LOCK", "heartbeat", 1);
  assert_free(path, 2);

  assert_int_equal(lock_take(&l, other, false), STATUS_OK);
  assert_int_equal(stat(beating, &before), 0);
  put(file, "elsewhere 1234 1 boot space\n", 100); /* no sign of life for more than a minute */
  assert_free(path, 2);
  snprintf(text, sizeof text, "%s 1 1 another-boot space\n", host);
  put(file, text, 0); /* before this host's last start */
  assert_free(path, 2);

  pid_t child = hold(path);
  snprintf(by, sizeof by, "process %ld on host ", (long)child);
  assert_held(path, by);
  end(child); /* known to be gone: no need to wait a minute */
  assert_true(file_exists(file));
  assert_free(path, 2);

  put(file, "elsewhere 1234 1 boot space\n", 0);
  assert_held(path, "process 1234 on host elsewhere");
  sleep(1);
  assert_int_equal(stat(beating, &after), 0);
  assert_true(after.st_mtime >= before.st_mtime + 9); /* a sign of life while nothing else was done */
  lock_release(&l);
  unsetenv("MPISTILL_LOCK");
  mem_free(other);
  mem_free(beating);
  mem_free(path);
  mem_free(file);
}

static void a_lock_needs_a_folder(void **state) {
  (void)state;
  char *path = in_folder("none/f");
  lock *l;
  assert_int_equal(lock_take(&l, path, false), STATUS_BAD_INPUT);
  assert_contains(status_message(), "No such file");
  mem_free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_holder_is_named_and_its_death_frees),
      cmocka_unit_test(a_dying_holder_is_waited_for),
      cmocka_unit_test(a_file_without_a_lock_is_nothing),
      cmocka_unit_test(with_a_heartbeat),

      cmocka_unit_test(a_lock_needs_a_folder),
  };
  folder = enter_folder();
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  leave_folder(folder);
  return failed;
}
