/* Ranks, nodes, agreement and sums. The only folder that calls MPI_*.
 * A comm is made once from MPI_COMM_WORLD (comm_start) or stands for one process without MPI (comm_alone):
 * the commands that must work on a login node never call MPI_Init.
 *
 * Environment, the same on all ranks: MPISTILL_SHARED_MEMORY=0 does without shared memory (messages instead:
 * same results, slower); MPISTILL_RANKS_PER_NODE=N treats every N ranks of a host as a node of their own (to
 * try the ways of several hosts on one). */
#ifndef MPISTILL_COMM_COMM_H
#define MPISTILL_COMM_COMM_H

#include "base/status.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct comm comm;

/* Collective over the world. MPI_Init_thread(FUNNELED), MPI_ERRORS_RETURN, node layout. STATUS_BAD_INPUT when
 * the launcher started more processes (SLURM_NTASKS in a step, PMI_SIZE, OMPI_COMM_WORLD_SIZE) than MPI sees:
 * "start with mpirun or srun --mpi=pmix", pmi2 for MPICH. */
status comm_start(comm **out);
/* Local. One rank, no MPI call; comm_mpi gives MPI_COMM_NULL. */
status comm_alone(comm **out);
/* Collective. From a caller's communicator (duplicated): the library's entry. */
status comm_from(comm **out, MPI_Comm parent);
/* Collective over c. The ranks of c that give the same group, in their order. */
status comm_split(comm **out, comm *c, int group);
/* Collective. Frees; comm_start's also finalizes MPI. */
void comm_end(comm **c);

int comm_rank(const comm *c);
int comm_size(const comm *c);
int comm_node_rank(const comm *c); /* rank and number of ranks on this host */
int comm_node_size(const comm *c);
int comm_nodes(const comm *c);    /* number of hosts */
MPI_Comm comm_mpi(const comm *c); /* for parallel HDF5 */

/* Collective. The worst status of all ranks (highest code, lowest rank on a tie), returned by all; that
 * rank's message becomes everyone's stored message. Call it where ranks may have failed on their own before
 * the next collective step. */
status comm_agree(comm *c, status mine);

/* Collective. */
status comm_barrier(comm *c);
status comm_broadcast(comm *c, int root, void *data, size_t bytes); /* any size: cut below 2^31 */
/* Rank 0's file, read once and handed to all (mem_free). */
status comm_read_file(comm *c, const char *path, unsigned char **bytes, size_t *n);
/* Sums where each element is non-zero on one rank only (so any order gives the same bits): statistics by
 * block of rows. -0 becomes 0. */
status comm_combine(comm *c, double *values, size_t n);
status comm_combine_counts(comm *c, int64_t *values, size_t n);
/* in[bytes] of every rank into out[size * bytes]. */
status comm_gather_all(comm *c, const void *in, void *out, size_t bytes);

/* ---- memory shared by the ranks of a node ---- */

typedef struct shared shared;
/* Collective over the world. bytes are those of the node (the same on all its ranks), zeroed. Where /dev/shm
 * (the folder of Open MPI's osc_sm_backing_directory) has no room or MPI offers no window, every rank of the
 * node gets its own memory and shared_is_shared is false on all ranks of the node: then each rank must fill
 * all of it. A node of one rank needs no window: plain memory, "shared". All ranks of a node agree on the
 * free space before a window is made. */
status shared_new(shared **out, comm *c, size_t bytes);
void *shared_data(const shared *s);
bool shared_is_shared(const shared *s);
bool shared_is_wanted(void);   /* local: MPISTILL_SHARED_MEMORY does not say 0 */
status shared_sync(shared *s); /* collective over the node: all writes before are seen by all reads after */
void shared_free(shared **s);  /* collective, in the same order on all ranks, before comm_end */

#endif
