/* Primitives of oneDNN with their arrays: what the kernels of dnnl.h are made of. Only dnnl*.c include this.
 */
#ifndef MPISTILL_OPS_DNNL_PASS_H
#define MPISTILL_OPS_DNNL_PASS_H

#include "ops/dnnl.h"

#include <dnnl.h>
#include <stdbool.h>
#include <stddef.h>

/* These files speak the 2.x API (operation descriptors, dnnl_memory_desc_t as a visible struct). What 3.x
 * changed is used in the *_descriptor functions, pass_plain_format and pass_new alone. */

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

enum { MAX_PORTS = 4, ALIGNMENT = 64 };

typedef enum port_kind {
  PORT_IN,     /* in the caller's format; converted before the primitive runs */
  PORT_OUT,    /* likewise; converted after it */
  PORT_IN_OUT, /* read and written: both */
  PORT_PACKED, /* converted by pass_pack, kept in memory of the pass */
  PORT_OPAQUE  /* the library's own format, in the caller's memory */
} port_kind;

/* One array of a primitive. */
typedef struct port {
  int argument;
  port_kind kind;
  dnnl_memory_t plain, own;     /* the same memory object when both formats agree */
  dnnl_primitive_t in, out;     /* conversions, NULL then */
  dnnl_exec_arg_t plain_own[2]; /* from, to */
  dnnl_exec_arg_t own_plain[2];
  size_t offset; /* IN, OUT: of the library's array in the scratch */
  void *packed;  /* PACKED: the library's array */
} port;

/* A primitive with its arrays. */
typedef struct pass {
  dnnl_primitive_t primitive;
  port ports[MAX_PORTS];
  int n_ports;
  dnnl_exec_arg_t arguments[MAX_PORTS + 1]; /* the last is the library's scratchpad */
  dnnl_memory_t scratchpad;
  size_t scratchpad_offset, scratch_bytes;
} pass;

typedef struct library {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
} library;

typedef struct port_row {
  int argument;
  port_kind kind;
  dnnl_query_t query;
  int index;     /* of that query: bias is weight 1 */
  int64_t block; /* the caller's format (tensor.block) */
} port_row;

#define LIBRARY(call)                                                                                        \
  do {                                                                                                       \
    dnnl_status_t code_ = (call);                                                                            \
    if (code_ != dnnl_success) {                                                                             \
      st = library_error(code_, #call);                                                                      \
      goto done;                                                                                             \
    }                                                                                                        \
  } while (0)

status library_error(dnnl_status_t code, const char *what);
status library_open(library *l);
void library_close(library *l);

/* Row-major, with blocks of channels (0: row-major), and whatever the library likes best. */
dnnl_memory_desc_t pass_plain_format(int rank, const dnnl_dim_t *dims);
dnnl_memory_desc_t pass_block_format(int rank, const dnnl_dim_t *dims, int64_t block);
dnnl_memory_desc_t pass_any_format(int rank, const dnnl_dim_t *dims);

/* initialised: what the library said to the operation; f: what is done to the results, NULL: nothing. *pd
 * stays NULL where it has nothing for it. */
status pass_describe(const library *l, dnnl_status_t initialised, const_dnnl_op_desc_t operation,
                     const finish *f, const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd);

status pass_new(pass *p, const library *l, dnnl_primitive_desc_t pd, const port_row *rows, int n_rows);
void pass_free(pass *p);
/* Gives a port its array for the next run; converted arrays find their place in the scratch. */
status pass_place(pass *p, const library *l, int argument, const void *array, void *scratch);
status pass_pack(pass *p, const library *l, int argument, const float *array);
/* skip: the argument whose array stands converted in the scratch already, 0 for none. */
status pass_run(pass *p, const library *l, int skip, void *scratch);
/* Two converted ports whose arrays in the library's format are alike. */
bool pass_same_format(const port *a, const port *b);

#endif
