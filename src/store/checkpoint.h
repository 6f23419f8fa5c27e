/* Checkpoint files: where training stands after a step, enough to go on to the same bytes on any number of
 * ranks.
 *
 *     /               attributes: format="mpistill-checkpoint", version=1,
 *                     inputs (JSON: what the run is made from), libraries,
 *                     epoch, batch (batches of that epoch that are done), rollbacks, rate_scale,
 *                     sums (of the epoch so far),
 *                     checksum (XXH3 of all these but the first two, in hex; missing in older files)
 *     /vectors/<name> [n] float32: "parameters", "state0", ..., and the same under "kept..." as they were at
 *                     the epoch's start; attribute checksum (XXH3 of the bytes, in hex)
 *
 * All ranks hold the same, so one rank writes, with the serial driver: it also works when another rank hangs.
 * Two files are kept in a folder, "0.h5" and "1.h5", written in turn, so that one is whole at any instant. */
#ifndef MPISTILL_STORE_CHECKPOINT_H
#define MPISTILL_STORE_CHECKPOINT_H

#include "comm/comm.h"

enum { CHECKPOINT_MAX_SUMS = 640, CHECKPOINT_MAX_VECTORS = 8 };

typedef struct checkpoint_position {
  int64_t epoch, batch, rollbacks;
  double rate_scale;
  int64_t n_sums;
  double sums[CHECKPOINT_MAX_SUMS];
} checkpoint_position;

typedef struct checkpoint_vector {
  const char *name;
  float *data; /* [n] */
} checkpoint_vector;

/* Local, one rank. Writes the older of FOLDER/0.h5 and FOLDER/1.h5 anew (made with the folder if missing):
 * whole under its final name and on disk when this returns. */
status checkpoint_write(const char *folder, const char *inputs, const char *libraries,
                        const checkpoint_position *at, const checkpoint_vector *vectors, int n_vectors,
                        int64_t n);

typedef struct checkpoint checkpoint;

/* Local. STATUS_BAD_INPUT where a folder has files of the names of checkpoints that are others'. */
status checkpoint_check_folder(const char *folder);

/* Collective. The newest whole checkpoint of a folder: *out is NULL when there is none. Rank 0 checks the
 * checksums; a damaged file is passed over for the other one, with a warning in *warning (mem_free; NULL:
 * none) on rank 0. STATUS_BAD_INPUT where there are damaged ones alone, and as checkpoint_check_folder. */
status checkpoint_open(checkpoint **out, comm *c, const char *folder, char **warning);
void checkpoint_close(checkpoint **k);
const char *checkpoint_path(const checkpoint *k);
const char *checkpoint_inputs(const checkpoint *k); /* on all ranks */
const char *checkpoint_libraries(const checkpoint *k);
const checkpoint_position *checkpoint_at(const checkpoint *k);
/* Local. Floats [from, from + n) of a vector. STATUS_BAD_INPUT when the file has no such vector or it is
 * shorter. */
status checkpoint_read(const checkpoint *k, const char *name, int64_t from, int64_t n, float *out);

/* Local, one rank. Removes the two files and the folder if nothing else is in it. */
void checkpoint_remove(const char *folder);

#endif
