#!/bin/bash
# Inputs that were changed or damaged after something was made from them: what turns a dataset's numbers into what a model sees, the names of
# its classes, and blocks of soft labels.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
unset SLURM_JOB_END_TIME PBS_JOBID PBS_WALLTIME MPISTILL_END_TIME
cp "$digits" digits.h5
must 0 create mlp --layers 64,16,10 --seed 1 --output a.onnx
must 0 create mlp --layers 64,16,10 --seed 2 --output b.onnx
must 0 create mlp --layers 64,12,10 --seed 3 --output student.onnx
# change OBJECT ATTRIBUTE FACTOR: of digits.h5, in place
change() {
  "$python" - "$@" <<'END' || exit 1
import sys, h5py
with h5py.File("digits.h5", "r+") as f:
    f[sys.argv[1]].attrs[sys.argv[2]] = f[sys.argv[1]].attrs[sys.argv[2]] * float(sys.argv[3])
END
}
# classes NAME...: of digits.h5, in place
classes() {
  "$python" - "$@" <<'END' || exit 1
import sys, h5py
with h5py.File("digits.h5", "r+") as f:
    if "classes" in f:
        del f["classes"]
    if sys.argv[1:]:
        f["classes"] = [c.encode() for c in sys.argv[1:]]
END
}
# damage FILE OBJECT: one bit of its last number
damage() {
  "$python" - "$@" <<'END' || exit 1
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    d = f[sys.argv[2]]
    at = d.id.get_offset() + d.id.get_storage_size() - 1
with open(sys.argv[1], "r+b") as f:
    f.seek(at)
    byte = f.read(1)
    f.seek(at)
    f.write(bytes([byte[0] ^ 4]))
END
}

# ---- scale, offset, classes ----
tap=$("$python" -c 'import onnx; print(onnx.load("a.onnx").graph.node[0].output[0])')
teach=(teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --tap "$tap")
aggregate=(aggregate soft/a.h5 soft/b.h5 --temperature 4 --dataset digits.h5 --output ensemble.h5)
distill=(distill --student student.onnx --dataset digits.h5 --soft-labels ensemble.h5 --epochs 3 --batch 100)
cat >recipe.yaml <<'END'
dataset: digits.h5
output: ran
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
aggregate: {method: probability-mean}
student: {create: mlp, layers: [64, 12, 10]}
distill: {epochs: 2, batch: 100}
END
must 2 "${teach[@]}" --output soft
must 2 "${aggregate[@]}"
must 2 "${distill[@]}" --output student-1.onnx
must 2 run recipe.yaml
cp ran/ensemble.h5 before.h5
MPISTILL_END_TIME=1 run 2 "${distill[@]}" --output half.onnx --stop-before 10
check 'stopped' test "$status" = 75
must 1 "${teach[@]}" --output soft
check 'as it was: teach is done' grep -q 'already done' err
run 1 "${distill[@]}" --output student-1.onnx
check 'as it was: distill is done' grep -q 'already done' err
change train/image scale 0.5
for ranks in 1 2; do
  run "$ranks" "${teach[@]}" --output soft
  expect_error "another scale: teach, $ranks ranks" 2 soft/a.h5 'another scale, offset or list of classes' --force
  run "$ranks" "${distill[@]}" --output student-1.onnx
  expect_error "another scale: distill, $ranks ranks" 2 student-1.onnx scale_offset_classes --force
done
run 2 "${distill[@]}" --output half.onnx
expect_error 'another scale: a training that was stopped does not go on' 2 half.onnx scale_offset_classes --restart
run 2 run recipe.yaml
expect_error 'another scale: run' 2 ran/soft/a.h5 'another scale'
run 2 run recipe.yaml --force
check 'run --force begins anew' test "$status" = 0
differ 'with another ensemble' ran/ensemble.h5 before.h5
change train/image scale 2
must 2 run recipe.yaml --force
same 'the scale it had, the ensemble it had' ran/ensemble.h5 before.h5
change train/image offset 1
must 1 "${teach[@]}" --output soft
check 'an attribute written again as it was changes nothing' grep -q 'already done' err
classes zero one two three four five six seven eight nine
run 2 "${teach[@]}" --output soft
expect_error 'names of classes: teach' 2 'list of classes'
run 2 "${aggregate[@]}"
expect_error 'names of classes: aggregate' 2 ensemble.h5 scale_offset_classes
run 2 "${distill[@]}" --output student-1.onnx
expect_error 'names of classes: distill' 2 student-1.onnx scale_offset_classes

# ---- another split's rows ----
cp "$digits" digits.h5
prior=(train --model student.onnx --dataset digits.h5 --epochs 1 --prior-split test --test-split none --output prior.onnx)
must 1 "${prior[@]}"
run 1 "${prior[@]}"
check 'rows of prior_split as they were' grep -q 'already done' err
change test/image scale 0.5
run 1 "${prior[@]}"
expect_error 'rows of prior_split, with another scale' 2 prior.onnx prior_rows

# ---- damage ----
cp "$digits" digits.h5
rm -rf soft ensemble.h5*
must 2 "${teach[@]}" --output soft
cp -r soft whole
damage soft/b.h5 logits
for ranks in 1 2 4; do
  run "$ranks" "${teach[@]}" --output soft
  expect_error "damaged soft labels: teach, $ranks ranks" 2 soft/b.h5 'checksums of blocks' damaged --force
  run "$ranks" "${aggregate[@]}"
  expect_error "damaged soft labels: aggregate, $ranks ranks" 2 soft/b.h5 'checksums of blocks' damaged
  check 'nothing is written' test ! -e ensemble.h5
  run "$ranks" distill --student student.onnx --dataset digits.h5 --soft-labels soft/a.h5 --soft-labels soft/b.h5 --output damaged.onnx
  expect_error "damaged soft labels: distill, $ranks ranks" 2 soft/b.h5 'checksums of blocks' damaged
  check 'nothing is written' test ! -e damaged.onnx
done
must 2 "${teach[@]}" --output soft --force
same 'made again: the file it was' soft/b.h5 whole/b.h5
damage soft/a.h5 "features/$tap"
run 2 distill --student student.onnx --dataset digits.h5 --soft-labels soft/b.h5 --features-from soft/a.h5 --feature "hint:1:student=$tap:teacher=$tap:from=a" \
  --output damaged.onnx
expect_error 'damaged features' 2 soft/a.h5 'checksums of blocks'
damage whole/b.h5 blocks/checksum
run 2 aggregate whole/a.h5 whole/b.h5 --output ensemble.h5
expect_error 'a damaged checksum' 2 whole/b.h5 'checksums of blocks'
damage ran/soft/a.h5 logits
run 2 run recipe.yaml
expect_error 'damaged soft labels of a run' 2 ran/soft/a.h5 'checksums of blocks'
must 2 run recipe.yaml --force
same 'run --force makes them again' ran/ensemble.h5 before.h5
finish
