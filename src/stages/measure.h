/* What a model costs on this machine, found on a few rows in about a second: for `plan`. */
#ifndef MPISTILL_STAGES_MEASURE_H
#define MPISTILL_STAGES_MEASURE_H

#include "stages/common.h"

typedef struct measured {
  double worker_bytes; /* memory of a thread */
  double batch_s;      /* one thread: forward, and in training backward, of `rows` rows */
  double row_s;        /* forward of a single row */
  int64_t rows;
  int64_t late_copies; /* in training: floats of what late gradients are made of (plan_late) */
} measured;

/* Local. Forward passes of `rows` rows of the subject's input array, as teach and evaluate do them. */
status measure_forward(const subject *s, dataset *d, int64_t rows, measured *out);
/* Local. Shards of `rows` rows forward and backward, as train does. */
status measure_training(const subject *s, dataset *d, int64_t rows, measured *out);

/* What moving numbers costs here, per float and thread. */
typedef struct measured_memory {
  double sum_s;    /* adding one more vector in the tree sum */
  double update_s; /* one step of the optimizer */
  double read_s;   /* reading the input array from the file, per value */
} measured_memory;
status measure_memory(const subject *s, dataset *d, const mpistill_optimizer *o, measured_memory *out);

/* Local. Bytes of memory that is this process's alone now: what it shares and the code of libraries are not
 * in it. */
double measure_own_memory(void);

#endif
