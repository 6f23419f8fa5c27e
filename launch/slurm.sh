#!/bin/bash
# A whole distillation as one job, however long it takes:
#
#     sbatch [--nodes=8 --time=12:00:00 …] slurm.sh recipe.yaml [OPTIONS of mpistill run]
#
# Five minutes before its time limit the job writes a checkpoint and queues itself again, until the recipe is done.
#     mpistill inspect recipe.yaml              how far it is
#     scancel --signal=USR1 --batch JOB         checkpoint, and back into the queue
#     scancel --signal=USR2 --batch JOB         checkpoint, and stop; the same sbatch goes on
#SBATCH --job-name=mpistill
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u

place=${PLACE:-core} # a rank on each core, "numa": on each NUMA domain, "node": on each node; its cores are its threads
lost_limit=3         # times to go on from the checkpoint in the same job when a rank was lost

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

recipe=${1:?sbatch slurm.sh RECIPE [OPTIONS]}
cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
case $place in
  core) each=$cores ;;
  numa) each=$(lscpu -p=NODE | grep -v '^#' | sort -u | wc -l) ;;
  node) each=1 ;;
  *) echo "PLACE is core, numa or node, not '$place'" >&2; exit 2 ;;
esac
export OMP_NUM_THREADS=$((cores / each))
if [ "$(id -u)" = 0 ] && [ "${OMPI_ALLOW_RUN_AS_ROOT:-}${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-}" != 11 ]; then
  echo 'Open MPI refuses root: be another user, or set OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1' >&2
  exit 2
fi
# A host that is lost is noticed within half a minute.
export OMPI_MCA_oob_tcp_keepalive_time=10 OMPI_MCA_oob_tcp_keepalive_intvl=5 OMPI_MCA_oob_tcp_keepalive_probes=3

# libpmix can leave mpirun hanging for good when a rank dies while it starts: one with no living rank for half a minute is ended.
end_idle() {
  local idle=0 limit=${MPIRUN_IDLE:-30}
  while sleep 2 && kill -0 "$1"; do
    if ps -o state= --ppid "$1" | grep -q '[^Z ]'; then idle=0; else idle=$((idle + 2)); fi
    [ $idle -lt "$limit" ] || kill -KILL "$1"
  done
} >/dev/null 2>&1

asked='' job='' state=''
# shellcheck disable=SC2317 # called by the traps
ask() {
  asked=$1
  [ -z "$job" ] || kill -USR1 "$job"
}
trap 'ask requeue' USR1
trap 'ask stop' USR2 TERM

for ((lost = 0; lost <= lost_limit; lost++)); do
  mpirun -n $((each * SLURM_JOB_NUM_NODES)) --map-by "ppr:$each:node:PE=$OMP_NUM_THREADS" --bind-to core:overload-allowed \
    --report-bindings -x OMP_NUM_THREADS "${mpistill[@]}" run "$@" &
  job=$!
  end_idle "$job" &
  while kill -0 "$job" 2>/dev/null; do wait "$job"; done # a signal cuts a wait short
  wait "$job"
  status=$?
  # What the run says of itself counts where mpirun was in trouble.
  case $status in 0 | 2 | 75 | 127) ;; *) state=$("${mpistill[@]}" inspect "$recipe" | awk '$1 == "state" { print $2 }') ;; esac
  case $status:$state in
    0:* | 2:* | 127:* | *:failed) exit "$status" ;;
    75:* | *:stopped) break ;;
  esac
  [ -z "$asked" ] || break
done
if [ "$asked" = requeue ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
