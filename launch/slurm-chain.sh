#!/bin/bash
# The stages as jobs of their own: an array with a job for each group of teachers, then aggregate, then distill.
#
#     edit what follows, then on the login node:  slurm-chain.sh
#     one group failed and its cause is gone:     slurm-chain.sh 1        (its number from 0; "0,2-3" for several)
#
# Each job writes a checkpoint five minutes before its time limit and queues itself again. What is done is not done again.
set -eu

dataset=mnist.h5
groups=('wide=wide.onnx' 'conv=conv.onnx;resnet=resnet.onnx') # teachers NAME=FILE; those of a group share a job
student=student.onnx
soft=soft ensemble=ensemble.h5 output=distilled.onnx
temperature=4
training=(--epochs 20 --batch 256 --kd-weight 0.9 --log distill.jsonl)
lost_limit=3         # times to go on from the checkpoint in the same job when a rank was lost
place=${PLACE:-core} # a rank on each core, "numa": on each NUMA domain, "node": on each node; its cores are its threads

teach_job=(--nodes=1 --time=01:00:00)
aggregate_job=(--nodes=1 --time=00:30:00)
distill_job=(--nodes=2 --time=04:00:00)
all_jobs=(--exclusive --signal=B:USR1@300 --requeue --open-mode=append)

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

submit() { # NAME STAGE OPTIONS OF SBATCH...
  sbatch --parsable --job-name="$1" "${all_jobs[@]}" "${@:3}" "$0" "$2"
}

# libpmix can leave mpirun hanging for good when a rank dies while it starts: one with no living rank for half a minute is ended.
end_idle() {
  local idle=0 limit=${MPIRUN_IDLE:-30}
  while sleep 2 && kill -0 "$1"; do
    if ps -o state= --ppid "$1" | grep -q '[^Z ]'; then idle=0; else idle=$((idle + 2)); fi
    [ $idle -lt "$limit" ] || kill -KILL "$1"
  done
} >/dev/null 2>&1

go() { # mpistill's arguments: on all ranks of this job
  local cores each status lost
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
  asked='' job=''
  trap 'asked=yes; [ -z "$job" ] || kill -USR1 "$job"' USR1
  for ((lost = 0; lost <= lost_limit; lost++)); do
    mpirun -n $((each * SLURM_JOB_NUM_NODES)) --map-by "ppr:$each:node:PE=$OMP_NUM_THREADS" --bind-to core:overload-allowed \
      --report-bindings -x OMP_NUM_THREADS "${mpistill[@]}" "$@" &
    job=$!
    end_idle "$job" &
    while kill -0 "$job" 2>/dev/null; do wait "$job" || true; done # a signal cuts a wait short
    status=0
    wait "$job" || status=$?
    if [ $status -le 128 ] || [ -n "$asked" ]; then break; fi # above: a rank was lost
  done
  if [ -n "$asked" ] && { [ $status = 75 ] || [ $status -gt 128 ]; }; then scontrol requeue "$SLURM_JOB_ID"; fi
  exit $status
}

case ${1:-} in
  teach)
    IFS=';' read -ra teachers <<<"${groups[SLURM_ARRAY_TASK_ID]}"
    options=()
    for teacher in "${teachers[@]}"; do options+=(--teacher "$teacher"); done
    go teach --dataset "$dataset" "${options[@]}" --output "$soft"
    ;;
  aggregate)
    IFS=';' read -ra teachers <<<"$(IFS=';' && echo "${groups[*]}")"
    files=()
    for teacher in "${teachers[@]}"; do files+=("$soft/${teacher%%=*}.h5"); done
    go aggregate "${files[@]}" --dataset "$dataset" --temperature "$temperature" --output "$ensemble"
    ;;
  distill)
    go distill --student "$student" --dataset "$dataset" --soft-labels "$ensemble" --temperature "$temperature" \
      "${training[@]}" --output "$output"
    ;;
  *)
    teach=$(submit teach teach "${teach_job[@]}" --array="${1:-0-$((${#groups[@]} - 1))}" --output=teach-%A-%a.log)
    aggregate=$(submit aggregate aggregate "${aggregate_job[@]}" --dependency="afterok:$teach" --kill-on-invalid-dep=yes \
      --output=aggregate-%j.log)
    distill=$(submit distill distill "${distill_job[@]}" --dependency="afterok:$aggregate" --kill-on-invalid-dep=yes \
      --output=distill-%j.log)
    echo "teach $teach, aggregate $aggregate, distill $distill"
    ;;
esac
