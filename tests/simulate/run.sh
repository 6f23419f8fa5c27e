#!/bin/bash
# make simulate: src/comm on clusters that are not there, by SimGrid. For fat trees and dragonflies of RANKS nodes with links of GBITS
# Gbit/s it prints what summing gradients of SIZES MB adds to a step that computes for COMPUTE seconds: after it, and while its backward
# pass goes on (resnet50.txt says when a ResNet-50 has which gradients; tests/tools/backward.c measured it); the efficiency of the
# latter; what `plan` reckons for it; MPI_Allreduce's algorithms; how much longer ours takes than the best of those. Then how long
# unequal teachers take on TEACH nodes against a perfect division. Above SIMULATED nodes only what `plan` reckons.
# Results are kept in build/simulate/results: a run that was cut off goes on, and FRESH=1 begins again. RANKS='16 64 256 1024 4096',
# GBITS='25 100 200', SIZES='1 10 100 400', TOPOLOGIES='fat-tree dragonfly', SIMULATED=256, TEACH='16 64 256': one row with
# RANKS=64 GBITS=100 SIZES=100 TOPOLOGIES=fat-tree TEACH=.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}/simulate
ranks=${RANKS-16 64 256 1024 4096} sizes=${SIZES-1 10 100 400} gbits=${GBITS-25 100 200} topologies=${TOPOLOGIES-fat-tree dragonfly}
teach=${TEACH-16 64 256} simulated=${SIMULATED:-256}
compute=${COMPUTE:-0.4} # of ResNet-50, forward and backward, 32 images a node of some 2 TFLOP/s
algorithms='lr rdb ompi mvapich2 impi' # a ring, recursive doubling, and what three libraries would choose
mkdir -p "$build"
results=$build/results
[ -z "${FRESH:-}" ] || rm -f "$results"
program=$build/simulate
smpicc -std=c11 -O2 -fopenmp -Wall -Wextra -Werror -D_GNU_SOURCE -DMPISTILL_VERSION='"simulated"' -Isrc -Iinclude -o "$program" \
  -Wl,--wrap=mem_new,--wrap=mem_free,--wrap=tree_run tests/simulate/*.c src/comm/{comm,layout,reduce,reduce_late,exchange,tree,queue}.c \
  src/stages/cost.c src/base/{status,mem,file,progress}.c -lm

# TOPOLOGY RANKS: SimGrid's words for it. A dragonfly has at least as many routers in a chassis as groups: SimGrid 3.32 crashes with fewer.
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
    *) echo "simulate: no $1 of $2 ranks" >&2; return 2 ;;
  esac
}

platform() { # TOPOLOGY RANKS GBITS
  cat <<END
<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="cluster" prefix="node" suffix="" radical="0-$(($2 - 1))" speed="1Gf" bw="$3Gbps" lat="500ns" loopback_bw="100GBps"
    loopback_lat="100ns" topology="$(shape "$1" "$2")"/>
</platform>
END
}

# simulated RANKS OPTIONS... PROGRAM'S ARGUMENTS...: 95 % of a link's rate can be had; a microsecond of the processor for each message.
# (SMPI's own allgather sends RANKS^2 messages at once, which takes minutes for 256 where it is used at the start.)
simulated() {
  local n=$1
  shift
  seq -f 'node%g' 0 $((n - 1)) >"$build/hosts"
  smpirun -platform "$build/platform.xml" -hostfile "$build/hosts" -np "$n" --cfg=smpi/simulate-computation:no --cfg=smpi/host-speed:1Gf \
    --cfg=smpi/privatization:no --cfg=smpi/bw-factor:0:0.95 --cfg=smpi/lat-factor:0:1 --cfg=smpi/os:0:1e-6:0 --cfg=smpi/or:0:1e-6:0 \
    --cfg=smpi/ois:0:1e-6:0 --cfg=smpi/test:0 --cfg=network/crosstraffic:no \
    --cfg=smpi/barrier:ompi_recursivedoubling --cfg=smpi/allgather:ompi --cfg=smpi/shared-malloc-blocksize:16777216 \
    --cfg=surf/precision:1e-7 --log=root.thres:critical \
    "$@" 2>"$build/err" || { cat "$build/err" >&2; return 1; }
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

row() { # TOPOLOGY RANKS GBITS MB
  local where=("$1" "$2" "$3") algorithm how after='' beside='' model others='' best=''
  model=$(once fat-tree 16 100 "$program" model "$4" "$compute" "$2" "$3")
  if [ "$2" -le "$simulated" ]; then
    after=$(once "${where[@]}" "$program" step "$4" "$compute" "$profile")
    beside=$(once "${where[@]}" "$program" overlap "$4" "$compute" "$profile")
    for algorithm in $algorithms; do
      if [ "$algorithm" = rdb ] && [ "$4" -gt 10 ]; then # five times the best at 10 MB, and slow to simulate
        others="$others -"
        continue
      fi
      case $algorithm in
        ompi | mvapich2 | impi) how=--cfg=smpi/coll-selector:$algorithm ;;
        *) how=--cfg=smpi/allreduce:$algorithm ;;
      esac
      others="$others $(once "${where[@]}" "$how" "$program" allreduce "$4" "$compute")"
    done
    best=$(printf '%s\n' $others | grep -v -x -e - | sort -g | head -n 1)
  fi
  awk -v row="$(printf '%-9s %5d %7d %5d' "$@")" -v compute="$compute" -v after="$after" -v beside="$beside" -v model="$model" -v best="$best" \
    -v others="$others" 'function ms(x) { return x == "" || x == "-" ? "-" : sprintf("%.2f", 1000 * x) }
    BEGIN { how = beside == "" ? model : beside
      printf "%s %9s %9s %10.3f %8s ", row, ms(after), ms(beside), compute / (compute + how), ms(model)
      n = split(others, each, " ")
      for (i = 1; i <= n; i++) printf " %8s", ms(each[i])
      if (best != "") printf "  %+.0f %%", 100 * (after / best - 1)
      print "" }'
}

profile=tests/simulate/resnet50.txt
printf '%-9s %5s %7s %5s %9s %9s %10s %8s ' topology nodes Gbit/s MB 'after ms' 'beside ms' efficiency 'plan ms'
printf ' %8s' $algorithms
echo '  against the best'
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
