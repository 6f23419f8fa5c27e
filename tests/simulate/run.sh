#!/bin/bash
# make simulate: src/comm on clusters that are not there, by SimGrid. For fat trees and dragonflies of RANKS nodes with links of GBITS
# Gbit/s it prints what summing gradients of SIZES MB adds to a step that computes for COMPUTE seconds: after it, and while its backward
# pass goes on (resnet50.txt says when a ResNet-50 has which gradients; tests/tools/backward.c measured it); the efficiency of the
# latter; what `plan` reckons for it, and how far off that is; MPI_Allreduce's algorithms; how much longer ours takes than the best of
# those; how many MB the busiest link carries, with ours and with the best, up to COUNTED nodes, as counting is slow. Then how long unequal
# teachers take on TEACH nodes against a perfect division. Above SIMULATED nodes only what `plan` reckons.
# Results are kept in build/simulate/results, ours as long as the code is the same: a run that was cut off goes on, and FRESH=1 begins
# again. RANKS='16 64 256 1024 4096', GBITS='25 100 200', SIZES='1 10 100 400', TOPOLOGIES='fat-tree dragonfly', SIMULATED=256, COUNTED=64,
# TEACH='16 64 256': one row with RANKS=64 GBITS=100 SIZES=100 TOPOLOGIES=fat-tree TEACH=. Other numbers of nodes are part of the next
# larger cluster.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}/simulate
ranks=${RANKS-16 64 256 1024 4096} sizes=${SIZES-1 10 100 400} gbits=${GBITS-25 100 200} topologies=${TOPOLOGIES-fat-tree dragonfly}
teach=${TEACH-16 64 256} simulated=${SIMULATED:-256} counted=${COUNTED:-64}
compute=${COMPUTE:-0.4} # of ResNet-50, forward and backward, 32 images a node of some 2 TFLOP/s
# A ring, recursive halving and doubling (what SimGrid has Open MPI and MVAPICH2 choose at these sizes), recursive doubling, and what Intel
# MPI would choose.
algorithms=(ring halving doubling impi)
mkdir -p "$build"
results=$build/results
[ -z "${FRESH:-}" ] || rm -f "$results"
program=$build/simulate
earlier=$(cksum "$program" 2>/dev/null || true)
smpicc -std=c11 -O2 -fopenmp -Wall -Wextra -Werror -D_GNU_SOURCE -DMPISTILL_VERSION='"simulated"' -Isrc -Iinclude -o "$program" \
  -Wl,--wrap=mem_new,--wrap=mem_free,--wrap=tree_run tests/simulate/*.c src/comm/{comm,layout,reduce*,exchange,tree,queue}.c \
  src/stages/cost.c src/base/{status,mem,file,progress}.c -lm
if [ -f "$results" ] && [ "$(cksum "$program")" != "$earlier" ]; then # those of MPI_Allreduce stay
  sed -i '/ \(step\|overlap\|model\|teach\) /d' "$results"
fi

# RANKS: nodes of the smallest cluster that has them.
nodes_for() {
  local n=16
  while [ "$n" -lt "$1" ]; do n=$((4 * n)); done
  echo "$n"
}

# TOPOLOGY NODES: SimGrid's words for it. A dragonfly has at least as many routers in a chassis as groups: SimGrid 3.32 crashes with fewer.
shape() {
  case $1:$2 in
    fat-tree:16) echo 'FAT_TREE" topo_parameters="2;4,4;1,4;1,1' ;;
    fat-tree:64) echo 'FAT_TREE" topo_parameters="2;8,8;1,8;1,1' ;;
    fat-tree:256) echo 'FAT_TREE" topo_parameters="2;16,16;1,16;1,1' ;;
    fat-tree:1024) echo 'FAT_TREE" topo_parameters="2;32,32;1,32;1,1' ;;
    fat-tree:4096) echo 'FAT_TREE" topo_parameters="2;64,64;1,64;1,1' ;;
    dragonfly:16) echo 'DRAGONFLY" topo_parameters="2,2;2,2;2,2;2' ;;
    dragonfly:64) echo 'DRAGONFLY" topo_parameters="4,2;2,2;4,2;2' ;;
    dragonfly:256) echo 'DRAGONFLY" topo_parameters="8,2;2,2;8,2;2' ;;
    dragonfly:1024) echo 'DRAGONFLY" topo_parameters="8,4;4,4;8,2;4' ;;
    dragonfly:4096) echo 'DRAGONFLY" topo_parameters="8,4;8,4;16,2;4' ;;
    *) echo "simulate: no $1 of $2 nodes" >&2; return 2 ;;
  esac
}

platform() { # TOPOLOGY RANKS GBITS
  local nodes
  nodes=$(nodes_for "$2")
  cat <<END
<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="cluster" prefix="node" suffix="" radical="0-$((nodes - 1))" speed="1Gf" bw="$3Gbps" lat="500ns" loopback_bw="100GBps"
    loopback_lat="100ns" topology="$(shape "$1" "$nodes")"/>
</platform>
END
}

# simulated RANKS OPTIONS... PROGRAM'S ARGUMENTS...: 95 % of a link's rate can be had; a microsecond of the processor for each message.
# (SMPI's own allgather sends RANKS^2 messages at once, which takes minutes for 256 where it is used at the start.)
simulated() {
  local n=$1 links=()
  shift
  seq -f 'node%g' 0 $((n - 1)) >"$build/hosts"
  if [ "$n" -le "$counted" ]; then
    local -x SIMULATE_LINKS=1
    links=(--cfg=plugin:link_load)
  fi
  smpirun -platform "$build/platform.xml" -hostfile "$build/hosts" -np "$n" --cfg=smpi/simulate-computation:no --cfg=smpi/host-speed:1Gf \
    --cfg=smpi/privatization:no --cfg=smpi/bw-factor:0:0.95 --cfg=smpi/lat-factor:0:1 --cfg=smpi/os:0:1e-6:0 --cfg=smpi/or:0:1e-6:0 \
    --cfg=smpi/ois:0:1e-6:0 --cfg=smpi/test:0 --cfg=network/crosstraffic:no \
    --cfg=smpi/barrier:ompi_recursivedoubling --cfg=smpi/allgather:ompi --cfg=smpi/shared-malloc-blocksize:16777216 \
    --cfg=surf/precision:1e-7 --log=root.thres:critical \
    "${links[@]}" "$@" 2>"$build/err" || { cat "$build/err" >&2; return 1; }
}

# once TOPOLOGY RANKS GBITS OPTIONS... ARGUMENTS...: the line that was printed, now or in an earlier run.
once() {
  local line
  if ! line=$(grep -F -m 1 "$*: " "$results" 2>/dev/null); then
    platform "$1" "$2" "$3" >"$build/platform.xml"
    line=$(simulated "$2" "${@:4}") || return 1
    line="$*: $line"
    echo "$line" >>"$results"
  fi
  echo "${line##*: }"
}

# Of lines "SECONDS MEGABYTES ..." the shortest's, of "-" none.
best_of() {
  printf '%s\n' "$@" | grep -v '^-' | sort -g | head -n 1
}

row() { # TOPOLOGY RANKS GBITS MB
  local where=("$1" "$2" "$3") algorithm how after='' beside='' model others=() best=''
  model=$(once fat-tree 16 100 "$program" model "$4" "$compute" "$2" "$3")
  if [ "$2" -le "$simulated" ]; then
    after=$(once "${where[@]}" "$program" step "$4" "$compute" "$profile")
    beside=$(once "${where[@]}" "$program" overlap "$4" "$compute" "$profile")
    for algorithm in "${algorithms[@]}"; do
      case $algorithm:$4 in
        doubling:?00 | impi:?00) # never near the best at 10 MB, and slow to simulate
          others+=(-)
          continue
          ;;
      esac
      case $algorithm in
        ring) how=--cfg=smpi/allreduce:lr ;;
        halving) how=--cfg=smpi/allreduce:mvapich2_rs ;;
        doubling) how=--cfg=smpi/allreduce:rdb ;;
        *) how=--cfg=smpi/coll-selector:$algorithm ;;
      esac
      others+=("$(once "${where[@]}" "$how" "$program" allreduce "$4" "$compute")")
    done
    best=$(best_of "${others[@]}")
  fi
  awk -v row="$(printf '%-9s %5d %6d %4d' "$@")" -v compute="$compute" -v after="$after" -v beside="$beside" -v model="$model" \
    -v best="$best" -v others="$(printf '%s;' "${others[@]}")" '
    function first(x) { sub(/ .*/, "", x); return x }
    function megabytes(x) { sub(/.* /, "", x); return x == "-" ? x : sprintf("%.1f", x) }
    function ms(x) { return x == "" || x == "-" ? "-" : sprintf("%.2f", 1000 * first(x)) }
    function percent(x, y) { return y == "" ? "-" : sprintf("%+.0f %%", 100 * (first(x) / first(y) - 1)) }
    BEGIN {
      how = first(beside == "" ? model : beside)
      printf "%s %8s %9s %10.3f %8s %6s ", row, ms(after), ms(beside), compute / (compute + how), ms(model), percent(model, beside)
      n = split(others, each, ";")
      for (i = 1; i < n; i++) printf " %8s", ms(each[i])
      if (best != "") printf "  %6s %7s %7s", percent(after, best), megabytes(after), megabytes(best)
      print ""
    }'
}

profile=tests/simulate/resnet50.txt
printf '%-9s %5s %6s %4s %8s %9s %10s %8s %6s ' topology nodes Gbit/s MB 'after ms' 'beside ms' efficiency 'plan ms' off
printf ' %8s' "${algorithms[@]}"
printf '  %6s %7s %7s\n' ours 'link MB' 'best MB'
for n in $ranks; do
  for topology in $topologies; do
    for rate in $gbits; do
      for size in $sizes; do row "$topology" "$n" "$rate" "$size"; done
    done
  done
done
[ -n "$teach" ] || exit 0

echo
printf '%-9s %5s %9s %9s %10s\n' topology nodes teachers seconds efficiency
for n in $teach; do
  for teachers in 8 64; do
    once fat-tree "$n" 100 "$program" teach $teachers 0.05 |
      awk -v n="$n" -v teachers=$teachers '{ printf "%-9s %5d %9d %9.2f %10.3f\n", "fat-tree", n, teachers, $1, $2 / $1 }'
  done
done
