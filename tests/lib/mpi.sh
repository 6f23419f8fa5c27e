# shellcheck shell=bash
# mpi N COMMAND...: the command on N ranks of this machine, more than it has cores if need be.
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

mpi() {
  local n=$1
  shift
  "${MPIRUN:-mpirun}" --oversubscribe -n "$n" "$@"
}
