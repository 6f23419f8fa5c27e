#!/bin/bash
# mpistill on this machine, or on the hosts of a file, started with mpirun:
#
#     mpirun.sh [--place core|numa|node] [--hostfile FILE] [-n RANKS] [--restarts N] COMMAND [OPTIONS]
#     mpirun.sh --hostfile hosts --place numa run recipe.yaml
#
# --place     one rank a core (the default), a NUMA domain or a node; its cores are the rank's threads
# --hostfile  lines of "HOST" or "HOST slots=CORES", as mpirun reads them; hosts reached by ssh, mpistill in the same place on each
# -n          another number of ranks than the cores, domains or nodes there are
# --restarts  when a rank or a host is lost, go on from the last checkpoint without it, at most N times (3)
#
# SIGUSR1, SIGUSR2 and SIGTERM write a checkpoint and end with status 75; the same command goes on from there.
set -u

# module load mpistill            # where the program and its libraries come from modules,
# spack load mpistill             # or from Spack,
# mpistill=(apptainer exec mpistill.sif mpistill)   # or from an image
mpistill=("${MPISTILL:-mpistill}")

place=core hostfile='' ranks='' restarts=3
while [ $# -gt 0 ]; do
  case $1 in
    --place) place=${2:?} ;;
    --hostfile) hostfile=${2:?} ;;
    -n) ranks=${2:?} ;;
    --restarts) restarts=${2:?} ;;
    *) break ;;
  esac
  shift 2
done
[ $# -gt 0 ] || { sed -n 's/^# \{0,1\}//p' "$0" | sed -n 2,5p >&2; exit 2; }

cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
domains=$(lscpu -p=NODE | grep -v '^#' | sort -u | wc -l)
case $place in
  core) on_a_host=$cores threads=1 map=slot ;;
  numa) on_a_host=$domains threads=$((cores / domains)) map=ppr:1:numa:PE=$threads ;;
  node) on_a_host=1 threads=$cores map=ppr:1:node:PE=$threads ;;
  *) echo "mpirun.sh: --place is core, numa or node, not '$place'" >&2; exit 2 ;;
esac
export OMP_NUM_THREADS=$threads
if [ "$(id -u)" = 0 ] && [ "${OMPI_ALLOW_RUN_AS_ROOT:-}${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-}" != 11 ]; then
  echo 'Open MPI refuses root: be another user, or set OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1' >&2
  exit 2
fi
# A host that is lost is noticed within half a minute.
export OMPI_MCA_oob_tcp_keepalive_time=10 OMPI_MCA_oob_tcp_keepalive_intvl=5 OMPI_MCA_oob_tcp_keepalive_probes=3

# The ranks there is room for on the hosts of a file; for one rank a core, what the file says counts.
room() {
  awk -v each="$on_a_host" -v place="$place" '
    $1 !~ /^#/ && NF { n = each; if (place == "core" && match($0, /slots *= *[0-9]+/)) { n = substr($0, RSTART, RLENGTH)
      sub(/.*= */, "", n) } sum += n } END { print sum + 0 }' "$1"
}

left=''
cleanup() { [ -z "$left" ] || rm -f "$left"; }
trap cleanup EXIT
if [ -n "$hostfile" ]; then
  left=$(mktemp) || exit 1
  cat -- "$hostfile" >"$left" || exit 2
  on_hosts=(--hostfile "$left")
  : "${ranks:=$(room "$left")}"
else
  on_hosts=()
  : "${ranks:=$on_a_host}"
fi

# Without what was lost: hosts that do not answer, else one rank.
shrink() {
  local line host before=
  [ -z "$left" ] || before=$(room "$left")
  if [ -n "$left" ]; then
    while read -r line; do
      host=${line%%[[:space:]]*}
      case $host in '' | '#'*) continue ;; esac
      # shellcheck disable=SC2086 # an agent may have options
      timeout 20 ${OMPI_MCA_plm_rsh_agent:-ssh -o BatchMode=yes} "$host" true </dev/null && printf '%s\n' "$line"
    done <"$left" >"$left.new"
    mv "$left.new" "$left"
    if [ "$(room "$left")" != "$before" ]; then
      [ "$ranks" -le "$(room "$left")" ] || ranks=$(room "$left")
      return
    fi
  fi
  [ "$ranks" -le 1 ] || ranks=$((ranks - 1))
}

# libpmix can leave mpirun hanging for good when a rank dies while it starts: one with no living rank for half a minute is ended.
end_idle() {
  local idle=0 limit=${MPIRUN_IDLE:-30}
  while sleep 2 && kill -0 "$1"; do
    if ps -o state= --ppid "$1" | grep -q '[^Z ]'; then idle=0; else idle=$((idle + 2)); fi
    [ $idle -lt "$limit" ] || kill -KILL "$1"
  done
} >/dev/null 2>&1

asked='' job=''
stop() {
  asked=yes
  [ -z "$job" ] || kill -USR1 "$job"
}
trap stop USR1 USR2 TERM

while :; do
  if [ -n "$asked" ]; then exit 75; fi # between two
  mpirun -n "$ranks" "${on_hosts[@]}" --map-by "$map" --bind-to core:overload-allowed --report-bindings -x OMP_NUM_THREADS \
    "${mpistill[@]}" "$@" &
  job=$!
  [ -z "$asked" ] || kill -USR1 "$job"
  [ -n "$hostfile" ] || end_idle "$job" & # without ranks on this host mpirun has no children
  while kill -0 "$job" 2>/dev/null; do wait "$job"; done # a signal cuts a wait short
  wait "$job"
  status=$?
  # Above 128: a rank was killed, or mpirun lost a host. Anything else the program said itself.
  if [ $status -gt 128 ] && [ -n "$asked" ]; then exit 75; fi # before the ranks could listen: nothing is lost
  if [ $status -le 128 ] || [ "$restarts" -le 0 ]; then exit $status; fi
  restarts=$((restarts - 1))
  shrink
  echo "mpirun.sh: ended with status $status; again on $ranks ranks, then at most $restarts times" >&2
done
