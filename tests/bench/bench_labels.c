/* Soft labels to the disk and back, as teach writes and distill reads them.
 *
 *     mpirun -n 2 build/tests/bench/bench_labels write FILE ROWS CLASSES
 *     mpirun -n 2 build/tests/bench/bench_labels read FILE
 *
 * Prints the seconds of the slowest rank: of creating the file, all blocks, flushing, reading back and
 * renaming; of opening it and taking it into memory. The logits are there before the clock starts. */
#include "base/mem.h"
#include "base/progress.h"
#include "store/softlabels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 8192, VALUES = 1 << 16 };

static status write_blocks(softlabels *s, comm *c, const float *logits, int64_t classes) {
  status st = STATUS_OK;
  for (int64_t b = comm_rank(c); b < softlabels_n_blocks(s) && !st; b += comm_size(c))
    st = softlabels_write(s, b, logits + b * classes % VALUES);
  return st;
}

static status write_file(comm *c, const char *path, int64_t rows, int64_t classes, double *seconds) {
  status st = STATUS_OK;
  softlabels *s = NULL;
  float *logits = NULL;
  softlabels_header h = {.teacher = "bench",
                         .model_hash = "",
                         .dataset_hash = "xxh3:0000000000000000",
                         .split = "train",
                         .method = "",
                         .augment = "",
                         .augment_seed = "",
                         .type = ELEMENT_FLOAT16,
                         .rank = 2,
                         .dims = {rows, classes},
                         .block_rows = BLOCK_ROWS,
                         .batch_rows = 128};
  TRY(comm_agree(c, mem_new(&logits, (size_t)(BLOCK_ROWS * classes + VALUES), sizeof *logits)));
  for (int64_t i = 0; i < BLOCK_ROWS * classes + VALUES; i++) logits[i] = (float)(i * 7919 % 4001) / 128 - 16;
  TRY(comm_barrier(c));
  const double at = clock_seconds();
  TRY(softlabels_create(&s, c, path, &h, false));
  TRY(softlabels_finish(s, write_blocks(s, c, logits, classes)));
  *seconds = clock_seconds() - at;
done:
  softlabels_close(&s);
  mem_free(logits);
  return st;
}

static status read_file(comm *c, const char *path, double *seconds) {
  status st = STATUS_OK;
  softlabels *s = NULL;
  shared *first = NULL; /* MPI takes its time for the first window of a process */
  TRY(shared_new(&first, c, 4096));
  TRY(comm_barrier(c));
  const double at = clock_seconds();
  TRY(softlabels_open(&s, c, path));
  TRY(softlabels_load(s, 0));
  *seconds = clock_seconds() - at;
done:
  softlabels_close(&s);
  shared_free(&first);
  return st;
}

static status run(comm *c, int argc, char **argv) {
  status st = STATUS_OK;
  double mine = 0, all[1024];
  if (argc == 5 && !strcmp(argv[1], "write"))
    TRY(write_file(c, argv[2], strtoll(argv[3], NULL, 10), strtoll(argv[4], NULL, 10), &mine));
  else if (argc == 3 && !strcmp(argv[1], "read"))
    TRY(read_file(c, argv[2], &mine));
  else
    THROW(STATUS_BAD_INPUT, "usage: bench_labels write FILE ROWS CLASSES | read FILE");
  TRY(comm_gather_all(c, &mine, all, sizeof mine));
  for (int i = 1; i < comm_size(c); i++)
    if (all[i] > all[0]) all[0] = all[i];
  if (!comm_rank(c)) printf("%.6f\n", all[0]);
done:
  return st;
}

int main(int argc, char **argv) {
  comm *c = NULL;
  status st = comm_start(&c);
  if (!st) st = run(c, argc, argv);
  if (st) fprintf(stderr, "%s\n", status_message());
  comm_end(&c);
  return st;
}
