#!/bin/bash
# Killed at any instant, the same command ends in the same bytes, and nothing under a final name is ever partial: at each call that changes a
# file, and at random instants on several ranks (tests/torture.sh, which does many more).
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
# shellcheck source=tests/lib/faults.sh
. "$top/tests/lib/faults.sh"
cp "$digits" digits.h5
must 0 create mlp --layers 64,16,10 --seed 1 --output a.onnx
must 0 create mlp --layers 64,24,10 --seed 2 --output b.onnx
must 0 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --output soft
must 0 train --model b.onnx --dataset digits.h5 --epochs 1 --output old.onnx
"$python" - <<'END_PYTHON'
with open("table.csv", "w") as f:
    f.write("p,q,class\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(1000)))
END_PYTHON
cat >recipe.yaml <<'END_RECIPE'
dataset: digits.h5
output: run
baseline: true
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
student: {create: mlp, layers: [64, 16, 10]}
distill: {epochs: 1, batch: 360}
checkpoint: {every_seconds: 0}
END_RECIPE
train=(train --model a.onnx --dataset digits.h5 --epochs 2 --batch 360 --checkpoint-seconds 0)
sweep any kill import table.csv out.h5 import csv train=table.csv --label-column class --output out.h5
sweep any kill train 'digits.h5 a.onnx' out.onnx "${train[@]}" --output out.onnx
sweep any kill 'train --force' 'digits.h5 a.onnx old.onnx old.onnx.inputs' old.onnx "${train[@]}" --output old.onnx --force
sweep any kill teach 'digits.h5 a.onnx b.onnx' 'soft/a.h5 soft/b.h5' teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --block 500 --output soft
sweep any kill aggregate 'digits.h5 soft' out.h5 aggregate soft/a.h5 soft/b.h5 --dataset digits.h5 --output out.h5
sweep any kill distill 'digits.h5 a.onnx soft' out.onnx distill --student a.onnx --dataset digits.h5 --soft-labels soft/b.h5 --epochs 1 --batch 720 \
  --checkpoint-seconds 0 --output out.onnx
sweep any kill run 'digits.h5 a.onnx b.onnx recipe.yaml' 'run/soft/a.h5 run/soft/b.h5 run/soft/test/a.h5 run/ensemble.h5 run/baseline.onnx run/student.onnx' \
  run recipe.yaml
# All that a checkpoint and a run can hold: projectors and AdamW's moments, the weights of teachers, a student in two precisions; a chain.
must 0 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --tap act1 --block 500 --output taps
sweep any kill 'distill with more' 'digits.h5 a.onnx taps' 'out.onnx out.float32.onnx' distill --student a.onnx --dataset digits.h5 \
  --soft-labels taps/a.h5 --soft-labels taps/b.h5 --method aekd --feature hint:1:student=act1:teacher=act1:from=a --optimizer adamw --confidence 0.2 \
  --augment shift:pixels=1 --fixed-labels --epochs 2 --batch 360 --checkpoint-seconds 0 --precision int8 --output out.onnx
sed 's/^baseline.*/generations: 2/; s/^student/assistants: [{name: mid, model: b.onnx}]\naggregate: {method: learned, calibrate: true}\n&/' recipe.yaml >chain.yaml
sweep any kill chain 'digits.h5 a.onnx b.onnx chain.yaml' \
  'run/soft/a.h5 run/soft/mid.h5 run/ensemble.h5 run/mid.onnx run/generation-1.onnx run/student.onnx' run chain.yaml
TORTURE_RESULTS=$work/torture.jsonl "$top/tests/torture.sh" kills "${KILLS:-20}" || failures=$((failures + 1))
finish
