/* A launcher that started more processes than MPI sees: each would be rank 0 and write the same files. This
 * program starts itself with the variables that launchers set. */
#include "comm/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *program;

/* What a fresh process with only these variables says: the status of comm_start. */
static int start_with(const char *variables, char *message, size_t bytes) {
  char command[4096];
  const char *path = getenv("PATH"), *sanitizer = getenv("ASAN_OPTIONS");
  snprintf(command, sizeof command, "env -i PATH='%s' HOME=/tmp ASAN_OPTIONS='%s' %s '%s' start",
           path ? path : "/usr/bin:/bin", sanitizer ? sanitizer : "", variables, program);
  FILE *said = popen(command, "r");
  assert_non_null(said);
  size_t n = fread(message, 1, bytes - 1, said);
  message[n] = '\0';
  int code = pclose(said);
  assert_true(WIFEXITED(code));
  return WEXITSTATUS(code);
}

#ifdef OPEN_MPI
static const char remedy[] = "start with mpirun or srun --mpi=pmix";
#else
static const char remedy[] = "start with mpirun or srun --mpi=pmi2";
#endif

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *variables, *named;
  } cases[] = {
      {"SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_PROCID=0", "SLURM_NTASKS"},
      {"SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_PROCID=3", "SLURM_STEP_NUM_TASKS"},
      {"PMI_SIZE=2", "PMI_SIZE"},
#ifdef OPEN_MPI /* MPICH believes it, and asks */
      {"PMI_SIZE=2 PMI_FD=9 SLURM_JOBID=1 SLURM_NODELIST=n1 SLURM_STEP_ID=0 SLURM_PROCID=1", "PMI_SIZE"},
#endif
      {"OMPI_COMM_WORLD_SIZE=3", "OMPI_COMM_WORLD_SIZE"},
  };
  char message[1024];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(start_with(cases[i].variables, message, sizeof message), STATUS_BAD_INPUT);
    assert_non_null(strstr(message, cases[i].named));
    assert_non_null(strstr(message, remedy));
  }
}

static void test_accepted(void **state) {
  (void)state;
  static const char *const cases[] = {
      "",
      "PMI_SIZE=1",
      "OMPI_COMM_WORLD_SIZE=1",
      "PMI_SIZE=many",
      "SLURM_NTASKS=4", /* in a batch script, outside a step */
      "SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1",  /* an interactive shell of a
                                                                                  larger allocation */
      "OMPI_COMM_WORLD_SIZE=1 SLURM_NTASKS=4 SLURM_STEP_ID=0 SLURM_PROCID=0"}; /* below mpirun's own daemons
                                                                                */
  char message[1024];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(start_with(cases[i], message, sizeof message), STATUS_OK);
    assert_string_equal(message, "rank 0 of 1\n");
  }
}

static int start(void) {
  comm *c;
  status st = comm_start(&c);
  if (st)
    printf("%s\n", status_message());
  else
    printf("rank %d of %d\n", comm_rank(c), comm_size(c));
  comm_end(&c);
  return (int)st;
}

int main(int argc, char **argv) {
  static const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused), cmocka_unit_test(test_accepted)};
  program = argv[0];
  if (argc > 1 && !strcmp(argv[1], "start")) return start();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
