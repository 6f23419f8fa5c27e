/* For LD_PRELOAD: rank 0 of MPI_COMM_WORLD is stopped (SIGSTOP) where it would make a shared window, while
 * the others make theirs. */
#include <mpi.h>
#include <signal.h>

int MPI_Win_allocate_shared(MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *out) {
  int rank;
  PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) raise(SIGSTOP);
  return PMPI_Win_allocate_shared(size, unit, info, comm, base, out);
}
