#!/bin/bash
# Two runs into one output: the second is refused, and names the first; what a killed one leaves behind refuses nobody.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
"$python" - "$digits" <<'END' || exit 1
import sys, checks, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    x, y = f["train/image"][...], f["train/label"][...]
checks.write_dataset("long.h5", {"train": {"image": np.tile(x, (4, 1, 1, 1)), "label": np.tile(y, 4)}}, scale={"image": (1 / 16, 0)})
with open("long.csv", "w") as f:
    f.write("a,b,c,class\n" + "1.5,2.5,3.5,x\n" * 300000)
END
must 0 create mlp --layers 64,16,10 --seed 1 --output small.onnx
must 0 create resnet --depth 8 --width 8 --input 1x8x8 --classes 10 --seed 2 --output slow.onnx
must 2 teach --dataset long.h5 --teacher small.onnx --output soft
cat >recipe.yaml <<'END'
dataset: long.h5
output: run
teachers: [{name: slow, model: slow.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1}
END

# both NAME LOCK COMMAND...: the command twice at once, in a folder of its own. The first is held up in its middle, the second is
# refused; when the first is killed the lock is free, though its file is still there.
both() {
  local name=$1 lock=$2
  shift 2
  mkdir "$name" && cd "$name" || return
  cp ../*.onnx ../recipe.yaml ../long.csv .
  ln ../long.h5 ../soft/small.h5 .
  "$mpistill" "$@" >first.out 2>first.err </dev/null &
  job=$!
  for _ in $(seq 1000); do
    [ -s "$lock" ] && break
    sleep 0.01
  done
  kill -STOP "$job"
  run "$ranks" "$@"
  expect_error "$name: the second is refused, the first is named" 2 'another run is writing it' "process $job on host $(hostname)"
  kill -KILL "$job"
  wait "$job" 2>/dev/null
  check "$name: the file of the lock is left behind" test -s "$lock"
  run "$ranks" "$@"
  check "$name: the lock is not" test "$status" = 0
  check "$name: the file of the lock is removed" test ! -e "$lock"
}
for ranks in 0 2; do both "train$ranks" out.onnx.lock train --model slow.onnx --dataset long.h5 --epochs 1 --output out.onnx >"train$ranks.log" & done
ranks=2 both teach there/mpistill.lock teach --dataset long.h5 --teacher slow.onnx --output there >teach.log &
ranks=2 both aggregate out.h5.lock aggregate small.h5 small.h5 --dataset long.h5 --output out.h5 >aggregate.log &
ranks=2 both run run/mpistill.lock run recipe.yaml >run.log &
ranks=0 both import out.h5.lock import csv train=long.csv --label-column class --output out.h5 >import.log &
MPISTILL_LOCK=heartbeat ranks=2 both heartbeat out.onnx.lock train --model slow.onnx --dataset long.h5 --epochs 1 --output out.onnx >heartbeat.log &
wait
cat ./*.log
failures=$((failures + $(cat ./*.log | grep -c '^not ok')))

# The first ends while the second waits: the second finds the work done.
must 2 train --model small.onnx --dataset long.h5 --epochs 60 --output first.onnx
start 2 train --model small.onnx --dataset long.h5 --epochs 60 --output second.onnx
while [ -e "/proc/$job/exe" ] && [ ! -s second.onnx.lock ]; do sleep 0.01; done
mpi 2 "$mpistill" train --model small.onnx --dataset long.h5 --epochs 60 --output second.onnx >other.out 2>other.err
check 'the second waits for the first' test $? = 0
wait "$job"
check 'the first ends well' test $? = 0
check 'the second finds the work done' grep -q 'already done' other.err
same 'the same bytes' first.onnx second.onnx
check 'no lock is left' test ! -e second.onnx.lock
finish
