#!/bin/bash
# A whole distillation as one Flux batch job, however long it takes:
#
#     flux batch flux.sh recipe.yaml [OPTIONS of mpistill run]      # in the folder with this file
#
# Five minutes before its time limit the job writes a checkpoint and submits its successor, until the recipe is done.
#     mpistill inspect recipe.yaml                                  how far it is
# flux: -N 2
# flux: --exclusive
# flux: -t 4h
# flux: --job-name=mpistill
# flux: --output=mpistill-{{id}}.log
set -u

script=${script:-flux.sh} # this file: Flux runs a copy of it
place=${place:-core}      # a rank on each core, "numa": on each NUMA domain, "node": on each node; its cores are its threads

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

: "${1:?flux batch flux.sh RECIPE [OPTIONS]}"
cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
nodes=$(flux resource list -n -o '{nnodes}' -s up)
case $place in
  core) each=$cores ;;
  numa) each=$(lscpu -p=NODE | grep -v '^#' | sort -u | wc -l) ;;
  node) each=1 ;;
  *) echo "place is core, numa or node, not '$place'" >&2; exit 2 ;;
esac
export OMP_NUM_THREADS=$((cores / each))

# Ranks get the signal from Flux itself, so there is no mpirun between.
job=$(flux submit -N "$nodes" -n $((each * nodes)) -c "$OMP_NUM_THREADS" -o cpu-affinity=per-task --output='mpistill-ranks-{{id}}.log' \
  "${mpistill[@]}" run "$@") || exit
timeout $(($(flux job timeleft) - ${margin:-300})) flux job status "$job"
status=$?
if [ $status = 124 ]; then
  flux job kill --signal=SIGUSR1 "$job"
  flux job status "$job"
  status=$?
  # Ranks that the signal ended before they could listen: the next job goes on from the last checkpoint.
  if [ $status -gt 128 ]; then status=75; fi
fi
if [ $status = 75 ]; then flux --parent batch --env=script="$script" --env=place="$place" "$script" "$@"; fi
exit $status
