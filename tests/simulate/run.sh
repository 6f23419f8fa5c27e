#!/bin/bash
# make simulate: src/comm on clusters that are not there, by SimGrid. Prints, for fat trees and dragonflies of RANKS nodes with links of
# GBITS Gbit/s, the time of a step's messages, its efficiency for COMPUTE seconds of computing, and its traffic, beside MPI_Allreduce's
# algorithms; then how long unequal teachers take against a perfect division.
# RANKS='16 64', SIZES='1 10 100 400' (MB of gradients), GBITS=100, TOPOLOGIES='fat-tree dragonfly', COMPUTE=0.4: half an hour.
# RANKS may be 16, 64, 256, 1024, 4096; from 256 on it takes hours, as each rank sends to each other one.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}/simulate
ranks=${RANKS:-16 64} sizes=${SIZES:-1 10 100 400} gbits=${GBITS:-100} topologies=${TOPOLOGIES:-fat-tree dragonfly}
compute=${COMPUTE:-0.4} # of ResNet-50, forward and backward, 32 images a node of some 2 TFLOP/s
algorithms='lr rdb ompi mvapich2' # a ring, recursive doubling, and what two libraries would choose
mkdir -p "$build"
program=$build/simulate
smpicc -std=c11 -O2 -fopenmp -Wall -Wextra -Werror -D_GNU_SOURCE -DMPISTILL_VERSION='"simulated"' -Isrc -Iinclude -o "$program" \
  -Wl,--wrap=mem_new,--wrap=mem_free,--wrap=tree_run tests/simulate/*.c src/comm/{comm,layout,reduce,tree,queue}.c \
  src/base/{status,mem,file,progress}.c -lm

shape() { # TOPOLOGY RANKS: SimGrid's words for it
  case $1:$2 in
    fat-tree:16) echo 'FAT_TREE" topo_parameters="2;4,4;1,4;1,1' ;;
    fat-tree:64) echo 'FAT_TREE" topo_parameters="2;8,8;1,8;1,1' ;;
    fat-tree:256) echo 'FAT_TREE" topo_parameters="2;16,16;1,16;1,1' ;;
    fat-tree:1024) echo 'FAT_TREE" topo_parameters="2;32,32;1,32;1,1' ;;
    fat-tree:4096) echo 'FAT_TREE" topo_parameters="2;64,64;1,64;1,1' ;;
    dragonfly:16) echo 'DRAGONFLY" topo_parameters="2,2;2,2;2,2;2' ;;
    dragonfly:64) echo 'DRAGONFLY" topo_parameters="4,2;2,2;4,2;2' ;;
    dragonfly:256) echo 'DRAGONFLY" topo_parameters="8,2;2,2;4,2;4' ;;
    dragonfly:1024) echo 'DRAGONFLY" topo_parameters="8,4;4,4;8,2;4' ;;
    dragonfly:4096) echo 'DRAGONFLY" topo_parameters="16,4;8,4;8,2;4' ;;
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
simulated() {
  local n=$1
  shift
  smpirun -platform "$build/platform.xml" -hostfile "$build/hosts" -np "$n" --cfg=smpi/simulate-computation:no --cfg=smpi/host-speed:1Gf \
    --cfg=smpi/privatization:no --cfg=smpi/bw-factor:0:0.95 --cfg=smpi/lat-factor:0:1 --cfg=smpi/os:0:1e-6:0 --cfg=smpi/or:0:1e-6:0 \
    --cfg=smpi/ois:0:1e-6:0 --cfg=network/optim:Full --cfg=surf/precision:1e-7 --log=root.thres:critical "$@" 2>"$build/err" ||
    { cat "$build/err" >&2; return 1; }
}

printf '%-10s %5s %8s %6s %9s %10s %9s  %s\n' topology ranks Gbit/s MB 'step ms' efficiency 'MB a rank' "MPI_Allreduce ms: $algorithms"
for topology in $topologies; do
  for n in $ranks; do
    seq -f 'node%g' 0 $((n - 1)) >"$build/hosts"
    for rate in $gbits; do
      platform "$topology" "$n" "$rate" >"$build/platform.xml"
      for size in $sizes; do
        ours=$(simulated "$n" "$program" step "$size" "$compute")
        others=
        for algorithm in $algorithms; do
          case $algorithm in
            lr | rdb) how=--cfg=smpi/allreduce:$algorithm ;;
            *) how=--cfg=smpi/coll-selector:$algorithm ;;
          esac
          others="$others $(simulated "$n" "$how" "$program" allreduce "$size" "$compute")"
        done
        echo "$ours $others" | awk -v row="$(printf '%-10s %5d %8d %6d' "$topology" "$n" "$rate" "$size")" -v n="$n" -v size="$size" \
          -v compute="$compute" '{ printf "%s %9.2f %10.3f %9.1f ", row, 1000 * $1, compute / (compute + $1), 2 * size * (n - 1) / n
            for (i = 2; i <= NF; i++) printf " %.2f", 1000 * $i
            print "" }'
      done
    done
  done
done

echo
printf '%-10s %5s %9s %9s %10s\n' topology ranks teachers seconds efficiency
for n in $ranks; do
  seq -f 'node%g' 0 $((n - 1)) >"$build/hosts"
  platform fat-tree "$n" 100 >"$build/platform.xml"
  for teachers in 8 64; do
    simulated "$n" "$program" teach $teachers 0.05 |
      awk -v n="$n" -v teachers=$teachers '{ printf "%-10s %5d %9d %9.2f %10.3f\n", "fat-tree", n, teachers, $1, $2 / $1 }'
  done
done
