/* What the files of this folder share. */
#ifndef MPISTILL_COMM_INTERNAL_H
#define MPISTILL_COMM_INTERNAL_H

#include "comm/comm.h"

struct comm {
  MPI_Comm world, node; /* MPI_COMM_NULL: one process without MPI */
  int rank, size;
  int node_rank, node_size, nodes;
  int leader;    /* the world rank of this node's rank 0 */
  int host_size; /* ranks of this communicator on the host, however many nodes it is treated as */
  bool finalize;
  char *window_folder; /* where windows lie; NULL while nobody asked the MPI library */
};

/* One message or collective call carries at most this many elements, of any type: far below the 2^31 of MPI's
 * int. */
enum { COMM_PIECE = 1 << 28 };

/* Local. Turns an MPI error code into a status; `call` is the text of the call, cut at its parenthesis. */
status comm_failed(int code, const char *call);

/* Local, the main thread: it waits for other ranks from begins = true to false; may be nested. For pulse.h.
 */
void pulse_wait(bool begins);

#define TRY_MPI(call)                                                                                        \
  do {                                                                                                       \
    pulse_wait(true);                                                                                        \
    int code_ = (call);                                                                                      \
    pulse_wait(false);                                                                                       \
    if (code_ != MPI_SUCCESS) {                                                                              \
      st = comm_failed(code_, #call);                                                                        \
      goto done;                                                                                             \
    }                                                                                                        \
  } while (0)

/* A whole positive number from the environment, 0 if there is none. */
int launch_number(const char *name);

/* How many processes were started, 0: nothing says it; which variable does. */
typedef struct launch {
  const char *variable;
  int expected;
} launch;

/* Local. */
launch launch_read(void);
/* Local. STATUS_BAD_INPUT where MPI sees fewer ranks than were started. seen 0: before MPI_Init, where that
 * would end the process with words of its own. */
status launch_check(const launch *l, int seen);

/* Collective. The status code and message of rank `worst`, which all ranks already know to be the worst,
 * become everyone's. */
status comm_adopt(comm *c, status code, int worst);

/* Collective. comm_gather_all in pieces of `most` bytes a rank. */
status comm_gather_pieces(comm *c, const void *in, void *out, size_t bytes, size_t most);

/* Collective over the node. Like shared_new, but *out is NULL on all ranks of the node where no window can be
 * had: nothing is allocated in its place. Also on a node of one rank, which needs none. */
status shared_window(shared **out, comm *c, size_t bytes);

#endif
