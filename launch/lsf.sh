#!/bin/bash
# A whole distillation as one LSF job, however long it takes:
#
#     recipe=recipe.yaml bsub < lsf.sh         # in the recipe's folder
#
# Five minutes before its run limit the job writes a checkpoint and ends with 75, which puts it back into the queue, until the recipe
# is done.
#     mpistill inspect recipe.yaml             how far it is
#     bkill -s USR1 JOB                        checkpoint, and back into the queue
#BSUB -J mpistill
#BSUB -n 64
#BSUB -R "span[ptile=32]"
#BSUB -x
#BSUB -W 4:00
#BSUB -wt 5
#BSUB -wa USR1
#BSUB -Q "75"
#BSUB -o mpistill-%J.log
set -u

recipe=${recipe:?recipe=RECIPE bsub < lsf.sh}
options=()           # of mpistill run
lost_limit=3         # times to go on from the checkpoint in the same job when a rank was lost
place=${place:-core} # a rank on each core, "numa": on each NUMA domain, "node": on each node; its cores are its threads

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
nodes=$(sort -u "$LSB_DJOB_HOSTFILE" | wc -l)
case $place in
  core) each=$cores ;;
  numa) each=$(lscpu -p=NODE | grep -v '^#' | sort -u | wc -l) ;;
  node) each=1 ;;
  *) echo "place is core, numa or node, not '$place'" >&2; exit 2 ;;
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

job='' asked=''
trap 'asked=yes; [ -z "$job" ] || kill -USR1 "$job"' USR1 USR2 TERM
for ((lost = 0; lost <= lost_limit; lost++)); do
  mpirun -n $((each * nodes)) --map-by "ppr:$each:node:PE=$OMP_NUM_THREADS" --bind-to core:overload-allowed --report-bindings \
    -x OMP_NUM_THREADS "${mpistill[@]}" run "$recipe" "${options[@]}" &
  job=$!
  end_idle "$job" &
  while kill -0 "$job" 2>/dev/null; do wait "$job"; done # a signal cuts a wait short
  wait "$job"
  status=$?
  if [ $status -le 128 ] || [ -n "$asked" ]; then break; fi # above: a rank was lost
done
# Ranks that a signal ended before they could listen: the next job goes on from the last checkpoint.
if [ "$status" -gt 128 ] && [ -n "$asked" ]; then status=75; fi
exit "$status"
