/* What the launcher of this process says, held against what MPI sees. */
#include "comm/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

int launch_number(const char *name) {
  const char *text = getenv(name);
  if (!text || !*text) return 0;
  char *end;
  long n = strtol(text, &end, 10);
  return *end || n < 1 || n > INT_MAX ? 0 : (int)n;
}

/* How many processes the launcher of this one says it started, 0 if it does not say. The launcher nearest to
 * the process is asked first: below Open MPI's mpirun the SLURM_* variables describe its daemons, not its
 * processes. */
static int launched(const char **variable) {
  int n = launch_number(*variable = "OMPI_COMM_WORLD_SIZE");
  if (!n) n = launch_number(*variable = "PMI_SIZE");
  if (n || !getenv("SLURM_STEP_ID") || !getenv("SLURM_PROCID")) return n;
  n = launch_number(*variable = "SLURM_STEP_NUM_TASKS");
  return n ? n : launch_number(*variable = "SLURM_NTASKS");
}

launch launch_read(void) {
  launch l;
  l.expected = launched(&l.variable);
  return l;
}

static bool is_open_mpi(void) {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int n;
  return MPI_Get_library_version(version, &n) == MPI_SUCCESS &&
         !strncmp(version, "Open MPI", strlen("Open MPI"));
}

static bool has_setting(const char *name) {
  int index;
  return MPI_T_cvar_get_index(name, &index) == MPI_SUCCESS;
}

/* An Open MPI that finds its ranks by PMIx only: all but those that were built with Slurm's own PMI. MPICH is
 * not asked: it crashes in an MPI_Init after MPI_T_finalize. */
static bool needs_pmix(void) {
  int provided;
  if (!is_open_mpi() || MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) return false;
  bool needs = has_setting("pmix_base_async_modex") && !has_setting("pmix_s1_priority") &&
               !has_setting("pmix_s2_priority") && !has_setting("pmix_cray_major_version");
  MPI_T_finalize();
  return needs;
}

/* Tasks of srun that Open MPI would end inside MPI_Init, each with words of its own. */
static bool is_unconnected(void) {
  return !getenv("OMPI_COMM_WORLD_SIZE") && !getenv("PMIX_NAMESPACE") && getenv("SLURM_STEP_ID") &&
         getenv("SLURM_PROCID") && needs_pmix();
}

status launch_check(const launch *l, int seen) {
  if (l->expected <= 1 || l->expected <= seen || (!seen && !is_unconnected())) return STATUS_OK;
  return status_set(STATUS_BAD_INPUT,
                    "%s says that %d processes were started, but MPI sees only %d of them\n"
                    "start with mpirun or srun --mpi=%s",
                    l->variable, l->expected, seen ? seen : 1, is_open_mpi() ? "pmix" : "pmi2");
}
