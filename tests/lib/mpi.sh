# shellcheck shell=bash
# mpi N COMMAND...: the command on N ranks of this machine, more than it has cores if need be. MPIRUN is Open MPI's or MPICH's.
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
export OMPI_MCA_pml=${OMPI_MCA_pml-ob1} # it would be taken anyhow, 0.2 s later: PSM sleeps before it says that it has no device
export OMPI_MCA_osc=${OMPI_MCA_osc-^ucx} # Open MPI 5 looks at it for every window and, where it cannot serve, has each rank write a line
mpirun=("${MPIRUN:-mpirun}")
# shellcheck disable=SC2034 # for those who source this
case $("${mpirun[0]}" --version 2>&1) in
  *'Open MPI'*) open_mpi=true mpirun+=(--oversubscribe) ;;
  *)
    open_mpi=false
    yield=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && realpath -m "${BUILD:-build}")/tests/preload/yield.so
    if [ -e "$yield" ]; then export LD_PRELOAD=$yield; fi
    ;;
esac

mpi() {
  local n=$1
  shift
  "${mpirun[@]}" -n "$n" "$@"
}

# is_stopped STATUS: 75; MPICH's mpirun says 0 now and then when it has passed a signal on.
is_stopped() {
  [ "$1" = 75 ] || { ! $open_mpi && [ "$1" = 0 ]; }
}

# ranks_of PROCESS: those of a mpirun; MPICH's starts them through another process.
ranks_of() {
  local child name
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
    read -r name 2>/dev/null <"/proc/$child/comm" || continue
    if [ "$name" = hydra_pmi_proxy ]; then ranks_of "$child"; else echo "$child"; fi
  done
}
