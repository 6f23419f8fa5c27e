/* The operators. ops.def is the only list; a family of operators is one file. */
#ifndef MPISTILL_OPS_OPS_H
#define MPISTILL_OPS_OPS_H

#include "graph/op.h"

/* The row for an operator of a model that imports `opset` of `domain`; NULL if there is none. */
const op *op_find(const char *domain, const char *name, int opset);

/* All rows in the order of ops.def, NULL-ended: tests and `inspect` walk them. */
const op *const *op_table(void);

/* Readies the numeric libraries: one thread a kernel in this process (promise 1). STATUS_FAILED when the
 * OpenBLAS that was loaded is not the build this program was made for. Call once before any plan. */
status ops_init(void);

/* "OpenBLAS 0.3.21 Haswell, oneDNN 2.6.0 AVX2": what decides the bits besides our own code. */
const char *ops_libraries(void);

#endif
