/* For LD_PRELOAD: what a rank still holds when it ends MPI, on its standard error: communicators, windows and
 * requests of MPI, objects of HDF5, and the most memory it ever used. */
#include <hdf5.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

static int communicators, windows, requests;

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *out) {
  int code = PMPI_Comm_dup(comm, out);
  communicators += code == MPI_SUCCESS;
  return code;
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *out) {
  int code = PMPI_Comm_split(comm, color, key, out);
  communicators += code == MPI_SUCCESS && *out != MPI_COMM_NULL;
  return code;
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out) {
  int code = PMPI_Comm_split_type(comm, type, key, info, out);
  communicators += code == MPI_SUCCESS && *out != MPI_COMM_NULL;
  return code;
}

int MPI_Comm_free(MPI_Comm *comm) {
  communicators--;
  return PMPI_Comm_free(comm);
}

int MPI_Win_allocate_shared(MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *out) {
  int code = PMPI_Win_allocate_shared(size, unit, info, comm, base, out);
  windows += code == MPI_SUCCESS;
  return code;
}

int MPI_Win_free(MPI_Win *window) {
  windows--;
  return PMPI_Win_free(window);
}

int MPI_Isend(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *out) {
  requests++;
  return PMPI_Isend(data, n, type, to, tag, comm, out);
}

int MPI_Irecv(void *data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *out) {
  requests++;
  return PMPI_Irecv(data, n, type, from, tag, comm, out);
}

int MPI_Wait(MPI_Request *request, MPI_Status *status) {
  requests -= *request != MPI_REQUEST_NULL;
  return PMPI_Wait(request, status);
}

int MPI_Waitall(int n, MPI_Request list[], MPI_Status statuses[]) {
  for (int i = 0; i < n; i++) requests -= list[i] != MPI_REQUEST_NULL;
  return PMPI_Waitall(n, list, statuses);
}

int MPI_Request_free(MPI_Request *request) {
  requests -= *request != MPI_REQUEST_NULL;
  return PMPI_Request_free(request);
}

static long most_memory_kib(void) {
  char line[256];
  long kib = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, "VmHWM:", 6)) sscanf(line + 6, "%ld", &kib);
  if (f) fclose(f);
  return kib;
}

int MPI_Finalize(void) {
  fprintf(stderr, "handles: %d communicators, %d windows, %d requests, %d HDF5 objects; memory: %ld KiB\n",
          communicators, windows, requests, (int)H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL),
          most_memory_kib());
  return PMPI_Finalize();
}
