#!/bin/bash
# At the end of every command each rank has given back its communicators, windows, requests and HDF5 objects, also where it refuses its input
# or stops in the middle; and memory does not grow with the number of steps.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
counter=$(realpath "$top/${BUILD:-build}/tests/preload/handles.so")
none='handles: 0 communicators, 0 windows, 0 requests, 0 HDF5 objects; memory: [0-9]* KiB'

# counted NAME RANKS STATUS ARGUMENTS...
counted() {
  local name=$1 n=$2 wanted=$3
  shift 3
  status=0
  mpi "$n" timeout 120 env LD_PRELOAD="$counter" "$mpistill" "$@" >out 2>err </dev/null || status=$?
  check "$name, $n ranks: ends with status $wanted" test "$status" = "$wanted"
  check "$name, $n ranks: nothing is held" test "$(grep -c -x "$none" err)" = "$n" -a "$(grep -c '^handles: ' err)" = "$n"
}

cp "$digits" digits.h5
must 0 create mlp --layers 64,16,10 --seed 1 --output a.onnx
must 0 create cnn --input 1x8x8 --channels 4 --hidden 8 --classes 10 --batch-norm --seed 2 --output b.onnx
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
student: {create: mlp, layers: [64, 8, 10]}
distill: {epochs: 2, batch: 256}
checkpoint: {every_seconds: 0}
END
for n in 1 2; do
  counted train $n 0 train --model b.onnx --dataset digits.h5 --epochs 2 --checkpoint-seconds 0 --force --output out.onnx
  counted teach $n 0 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --force --output soft
  counted aggregate $n 0 aggregate soft/a.h5 soft/b.h5 --dataset digits.h5 --temperature 4 --force --output all.h5
  counted distill $n 0 distill --student a.onnx --dataset digits.h5 --soft-labels all.h5 --epochs 1 --force --output out.onnx
  counted evaluate $n 0 evaluate --model out.onnx --dataset digits.h5 --split test
  counted run $n 0 run recipe.yaml --restart
  counted 'a wrong model' $n 2 train --model digits.h5 --dataset digits.h5 --epochs 1 --force --output out.onnx
  counted 'soft labels of others' $n 2 distill --student a.onnx --dataset digits.h5 --soft-labels digits.h5 --epochs 1 --force --output out.onnx
done

# memory_after EPOCHS: the most memory a rank used in that many epochs of 100 steps.
memory_after() {
  mpi 2 timeout 300 env LD_PRELOAD="$counter" "$mpistill" train --model a.onnx --dataset hundred.h5 --batch 16 --shards 2 --epochs "$1" \
    --checkpoint-seconds 0.5 --quiet --force --output long.onnx 2>err >out </dev/null
  sed -n 's/^handles: .*memory: \([0-9]*\) KiB/\1/p' err | sort -n | tail -n 1
}
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5") as f:
    checks.write_dataset("hundred.h5", {"train": {"image": f["train/image"][:1400], "label": f["train/label"][:1400]}}, scale={"image": (1 / 16, 0)})
END
few=$(memory_after 5)
many=$(memory_after 120)
check "10,560 steps use as much memory as 440: $few KiB and $many KiB" test "${few:-0}" -gt 0 -a "$((many - few))" -lt 1500
finish
