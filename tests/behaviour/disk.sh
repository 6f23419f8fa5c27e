#!/bin/bash
# What a disk can do: it is full, it fails once, the folder goes, a file is another one in the middle of the run. One clear message, status 1 (2 where
# the file was somebody's doing), and the same command goes on to the same bytes once the cause is gone.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/faults.sh
. "$top/tests/lib/faults.sh"
cp "$digits" digits.h5
must 0 create mlp --layers 64,16,10 --seed 1 --output a.onnx
must 0 create mlp --layers 64,24,10 --seed 2 --output b.onnx
must 0 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --output soft
"$python" - <<'END'
with open("table.csv", "w") as f:
    f.write("p,q,class\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(1000)))
END
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1, batch: 360}
checkpoint: {every_seconds: 0}
END

# ---- full from some write on; one call that fails ----
for fault in 'write ENOSPC+' 'write,fsync,rename,ftruncate,mkdir EIO'; do
  read -r calls action <<<"$fault"
  sweep "$calls" "$action" import table.csv out.h5 import csv train=table.csv --label-column class --output out.h5
  sweep "$calls" "$action" train 'digits.h5 a.onnx' out.onnx train --model a.onnx --dataset digits.h5 --epochs 2 --batch 360 --checkpoint-seconds 0 \
    --output out.onnx
  sweep "$calls" "$action" teach 'digits.h5 a.onnx b.onnx' 'soft/a.h5 soft/b.h5' teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --block 500 \
    --output soft
  sweep "$calls" "$action" aggregate 'digits.h5 soft' out.h5 aggregate soft/a.h5 soft/b.h5 --dataset digits.h5 --output out.h5
  sweep "$calls" "$action" run 'digits.h5 a.onnx b.onnx recipe.yaml' 'run/soft/a.h5 run/soft/test/a.h5 run/ensemble.h5 run/student.onnx' run recipe.yaml
done
finish
