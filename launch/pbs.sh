#!/bin/bash
# A whole distillation as one PBS job, however long it takes (PBS Professional, OpenPBS; for Torque change the resource line):
#
#     qsub -v recipe=recipe.yaml pbs.sh        # in the folder with this file and the recipe
#
# Five minutes before its walltime the job writes a checkpoint and submits its successor, until the recipe is done.
#     mpistill inspect recipe.yaml             how far it is
#     qsig -s USR2 JOB                         checkpoint, and stop; the same qsub goes on
#PBS -N mpistill
#PBS -l select=2:ncpus=32:mpiprocs=32
#PBS -l place=scatter:excl
#PBS -l walltime=04:00:00
#PBS -j oe
# Torque:  #PBS -l nodes=2:ppn=32
set -u
cd "$PBS_O_WORKDIR" || exit 1

recipe=${recipe:?qsub -v recipe=RECIPE pbs.sh}
options=()               # of mpistill run
script=${script:-pbs.sh} # this file: PBS runs a copy of it
lost_limit=3             # times to go on from the checkpoint in the same job when a rank was lost
place=${place:-core}     # a rank on each core, "numa": on each NUMA domain, "node": on each node; its cores are its threads

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
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

# PBS gives no signal ahead of the limit: timeout does.
limit=$(qstat -f "$PBS_JOBID" | awk -F '[ =:]+' '/Resource_List.walltime/ { print $3 * 3600 + $4 * 60 + $5 }')
job='' stopped=''
trap '[ -z "$job" ] || kill -USR1 "$job"' USR1
trap 'stopped=yes; [ -z "$job" ] || kill -USR1 "$job"' USR2 TERM
for ((lost = 0; lost <= lost_limit; lost++)); do
  timeout --foreground --preserve-status --signal=USR1 $((limit - ${margin:-300} - SECONDS)) \
    mpirun -n $((each * nodes)) --map-by "ppr:$each:node:PE=$OMP_NUM_THREADS" --bind-to core:overload-allowed --report-bindings \
    -x OMP_NUM_THREADS "${mpistill[@]}" run "$recipe" "${options[@]}" &
  job=$!
  { sleep 1 && end_idle "$(ps -o pid= --ppid "$job" | tr -d ' ')"; } & # timeout's child
  while kill -0 "$job" 2>/dev/null; do wait "$job"; done # a signal cuts a wait short
  wait "$job"
  status=$?
  if [ $status -le 128 ] || [ -n "$stopped" ]; then break; fi # above: a rank was lost
  # Ranks that the signal ended before they could listen: the next job goes on from the last checkpoint.
  if [ $SECONDS -ge $((limit - ${margin:-300})) ]; then
    status=75
    break
  fi
done
if [ "$status" = 75 ] && [ -z "$stopped" ]; then qsub -v "recipe=$recipe,place=$place,script=$script" "$script"; fi
exit "$status"
