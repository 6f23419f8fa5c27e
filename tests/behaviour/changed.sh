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

# ---- a live teacher whose numbers lie in a file beside it ----
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import onnx
onnx.save_model(onnx.load("a.onnx"), "outside.onnx", save_as_external_data=True, location="outside.data", size_threshold=0)
END
live=(distill --student student.onnx --dataset digits.h5 --live-teacher a=outside.onnx --epochs 3 --batch 100)
must 2 "${live[@]}" --output live.onnx
MPISTILL_END_TIME=1 run 2 "${live[@]}" --output half-live.onnx --stop-before 10
check 'stopped with a live teacher' test "$status" = 75
run 1 "${live[@]}" --output live.onnx
check 'a live teacher as it was' grep -q 'already done' err
"$python" - <<'END' || exit 1
import numpy as np
(-np.fromfile("outside.data", np.float32)).tofile("outside.data")
END
run 1 "${live[@]}" --output live.onnx
expect_error 'a live teacher with other data beside it' 2 live.onnx soft_labels
run 2 "${live[@]}" --output half-live.onnx
expect_error 'and a training that was stopped' 2 half-live.onnx soft_labels --restart

# ---- labels that soft labels on trust are combined by ----
"$python" - <<'END' || exit 1
import h5py, checks
for name in "a", "b":
    checks.write_soft_labels(f"{name}-trust.h5", checks.logits(f"soft/{name}.h5"), "digits.h5", hash_text="")
END
trust=(aggregate a-trust.h5 b-trust.h5 --trust-rows --method learned --dataset digits.h5 --output trust.h5)
must 2 "${trust[@]}"
run 1 "${trust[@]}"
check 'labels as they were' grep -q 'already done' err
check 'the ensemble says which dataset it belongs to' test "$("$python" -c '
import h5py, checks
print(h5py.File("trust.h5").attrs["dataset_hash"].decode() == checks.dataset_hash("digits.h5", "train"))')" = True
cat >trust.yaml <<'END'
dataset: digits.h5
output: trusted
teachers: [{name: a, soft_labels: a-trust.h5}, {name: b, soft_labels: b-trust.h5}]
aggregate: {method: probability-mean, trust_rows: true}
student: {create: mlp, layers: [64, 12, 10]}
distill: {epochs: 1, batch: 100}
END
for method in probability-mean aekd; do
  must 2 run trust.yaml --set output="trusted-$method" --set aggregate.method="$method"
  check "trust_rows in a recipe, $method" test -s "trusted-$method/student.onnx"
done
"$python" - <<'END' || exit 1
import h5py
with h5py.File("digits.h5", "r+") as f:
    f["train/label"][...] = f["train/label"][...][::-1]
END
run 2 "${trust[@]}"
expect_error 'other labels' 2 trust.h5 rows --force

# ---- data behind a link ----
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import h5py, shutil
shutil.copy("soft/a.h5", "data.h5")
for name, objects in ("logits", ["logits"]), ("features", ["features"]), ("classes", ["classes"]):
    shutil.copy("soft/a.h5", f"linked-{name}.h5")
    with h5py.File("data.h5", "r+") as g:
        if "classes" not in g:
            g["classes"] = [str(i).encode() for i in range(10)]
    with h5py.File(f"linked-{name}.h5", "r+") as f:
        for o in objects:
            if o in f:
                del f[o]
            f[o] = h5py.ExternalLink("data.h5", "/" + o)
END
for name in logits features classes; do
  run 2 distill --student student.onnx --dataset digits.h5 --soft-labels "linked-$name.h5" --output linked.onnx
  expect_error "soft labels with $name in another file" 2 "linked-$name.h5" 'is a link to another file'
done

# ---- the student of full precision beside the other ----
half=(distill --student student.onnx --dataset digits.h5 --soft-labels soft/a.h5 --epochs 1 --batch 100 --precision float16 --output half.onnx --restart)
rm -rf half.onnx* soft
must 2 "${teach[@]}" --output soft
must 2 "${half[@]}"
cp half.float32.onnx full.onnx
run 1 "${half[@]}"
check 'two students as they were' grep -q 'already done' err
cp student.onnx half.float32.onnx
run 2 "${half[@]}"
expect_error 'the one beside it was replaced' 2 half.float32.onnx 'was changed or removed' --force
rm half.float32.onnx
run 1 "${half[@]}"
expect_error 'the one beside it is gone' 2 half.float32.onnx 'was changed or removed' --force
must 2 "${half[@]}" --force
same 'made again with --force' half.float32.onnx full.onnx

# ---- checksums taken away ----
"$python" - <<'END' || exit 1
import h5py
with h5py.File("soft/b.h5", "r+") as f:
    del f["blocks"]
END
run 2 "${teach[@]}" --output soft
expect_error 'a file of teach without its checksums' 2 soft/b.h5 checksums --force
finish
