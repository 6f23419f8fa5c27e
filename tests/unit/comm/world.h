/* For tests that run on several ranks: one comm for the program, and ways to run a case on other layouts of
 * the same ranks. */
#ifndef TEST_COMM_WORLD_H
#define TEST_COMM_WORLD_H

#include "comm/comm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static comm *world;

typedef struct ways {
  const char *name, *shared_memory, *ranks_per_node;
} ways;

static const ways layouts[] = {
    {"one node, window", "1", "0"},
    {"one node, messages", "0", "0"},
    {"nodes of two ranks, windows", "1", "2"},
    {"nodes of three ranks, windows", "1", "3"},
};
enum { N_LAYOUTS = sizeof layouts / sizeof *layouts };

/* A comm over all ranks in one of the layouts; comm_end it. */
static inline comm *world_in(const ways *w) {
  comm *c;
  setenv("MPISTILL_SHARED_MEMORY", w->shared_memory, 1);
  setenv("MPISTILL_RANKS_PER_NODE", w->ranks_per_node, 1);
  assert_int_equal(comm_from(&c, comm_mpi(world)), STATUS_OK);
  return c;
}

#define RUN_WORLD(tests)                                                                                     \
  int main(void) {                                                                                           \
    if (comm_start(&world)) {                                                                                \
      fprintf(stderr, "%s\n", status_message());                                                             \
      return 1;                                                                                              \
    }                                                                                                        \
    int failed = cmocka_run_group_tests_name("comm", tests, NULL, NULL);                                     \
    comm_end(&world);                                                                                        \
    return failed ? 1 : 0;                                                                                   \
  }

#endif
