#!/bin/bash
# Augmentation: the same views on any number of ranks and after a stop, teachers that see what the student sees, labels of other views refused.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
unset SLURM_JOB_END_TIME PBS_JOBID PBS_WALLTIME MPISTILL_END_TIME
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
checks.write_dataset("flat.h5", {"train": {"features": (x.reshape(len(x), -1) / 16).astype("f4"), "label": y}})
tokens = (np.arange(400).reshape(100, 4) % 7).astype("i4")
checks.write_dataset("tokens.h5", {"train": {"tokens": tokens, "label": (np.arange(100) % 3).astype("i4")}})
partly = y.copy()
partly[::2] = -1
checks.write_dataset("partly.h5", {"train": {"image": x, "label": partly}}, scale={"image": (1 / 16, 0)})
END
must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
must 0 create cnn --input 1x8x8 --classes 10 --kernel 3 --channels 8,8 --seed 2 --output fresh.onnx
must 0 create transformer --tokens 7 --length 4 --width 8 --heads 2 --depth 1 --classes 3 --seed 3 --output reader.onnx
all=(--augment crop:padding=1:reflect=true --augment shift:pixels=1 --augment flip:probability=0.3 --augment noise:deviation=0.05)
train=(train --model fresh.onnx --dataset digits.h5 "${all[@]}" --epochs 3 --batch 200 --shards 4 --quiet)

# ---- the same bytes ----
for mix in mixup:alpha=0.4 cutmix; do
  must 1 "${train[@]}" --augment "$mix" --output "$mix-1.onnx"
  for ranks in 2 3 4; do
    must "$ranks" "${train[@]}" --augment "$mix" --output "$mix-$ranks.onnx"
    same "$mix: the same model on $ranks ranks" "$mix-1.onnx" "$mix-$ranks.onnx"
  done
  MPISTILL_END_TIME=$(($(date +%s) + 10)) run 3 "${train[@]}" --augment "$mix" --stop-before 10 --output "$mix-stopped.onnx"
  check "$mix: stopped after its first step" test "$status" = 75 -a ! -e "$mix-stopped.onnx"
  must 2 "${train[@]}" --augment "$mix" --output "$mix-stopped.onnx"
  same "$mix: goes on to the same bytes" "$mix-1.onnx" "$mix-stopped.onnx"
done
must 2 "${train[@]}" --output teacher.onnx
differ 'other changes, another model' teacher.onnx mixup:alpha=0.4-1.onnx
must 1 train --model teacher.onnx --dataset digits.h5 --augment noise:deviation=3 --learning-rate 0 --epochs 1 --quiet --json --output still.onnx
mv out noisy.json
must 1 evaluate --model teacher.onnx --dataset digits.h5 --json
python_check 'the rows of the test are not changed' <<'END'
import json
a, b = json.load(open("noisy.json"))["test"], json.load(open("out"))
assert a["nll"] == b["nll"] and a["errors"] == b["errors"], (a, b)
END

# ---- teachers that see the same ----
views=(teach --dataset digits.h5 --teacher teacher.onnx --views 3 --seed 7 --dtype float32 --quiet)
for mix in mixup:alpha=0.4 cutmix; do
  for ranks in 1 2 4; do
    must "$ranks" "${views[@]}" "${all[@]}" --augment "$mix" --output "soft-$ranks-$mix"
    [ "$ranks" = 1 ] || same "$mix: the same labels on $ranks ranks" "soft-1-$mix/teacher.h5" "soft-$ranks-$mix/teacher.h5"
  done
  # A student that is its teacher has no loss in any view: it sees what the teacher saw.
  must 2 distill --student teacher.onnx --dataset digits.h5 --soft-labels "soft-1-$mix/teacher.h5" "${all[@]}" --augment "$mix" \
    --loss kd:1:temperature=1 --seed 99 --learning-rate 0 --epochs 4 --quiet --log "$mix.jsonl" --output "$mix-self.onnx"
  python_check "$mix: the student sees what its teacher saw" "$mix" <<'END'
import sys, checks
losses = [line["loss"]["kd"] for line in checks.events(sys.argv[1] + ".jsonl")]
assert len(losses) == 4 and max(map(abs, losses)) < 1e-7, losses
END
done
must 2 aggregate soft-1-cutmix/teacher.h5 soft-2-cutmix/teacher.h5 --dataset digits.h5 --dtype float32 --quiet --output both.h5
distil=(distill --student student.onnx --dataset digits.h5 --epochs 2 --quiet)
for ranks in 1 4; do
  must "$ranks" "${distil[@]}" --soft-labels both.h5 "${all[@]}" --augment cutmix --loss kd:1:temperature=1 --output "both-$ranks.onnx"
done
same 'an ensemble of views: the same student on 4 ranks' both-1.onnx both-4.onnx
run 1 inspect both.h5 --json
python_check 'the file says of what it is' <<'END'
import json, h5py
it = json.load(open("out"))
wanted = "crop:padding=1:reflect=true shift:pixels=1 flip:probability=0.3 noise:deviation=0.05 cutmix:alpha=1"
assert (it["augment"], it["augment_seed"], it["views"], it["shape"]) == (wanted, "7", 3, [3 * 1437, 10]), it
with h5py.File("soft-1-cutmix/teacher.h5") as f:
    assert f.attrs["augment"].decode() == wanted and f["logits"].shape == (3 * 1437, 10)
END

# ---- labels of mixed rows ----
# Where a view mixes a row it has two labels: aggregate neither takes one of them nor goes on without.
must 2 train --model student.onnx --dataset digits.h5 --epochs 1 --batch 200 --quiet --output other.onnx
two=(--teacher teacher.onnx --teacher other.onnx --dtype float32 --quiet)
must 1 teach --dataset digits.h5 "${two[@]}" --output as-they-are
must 1 teach --dataset digits.h5 "${two[@]}" --augment mixup:alpha=0.3 --views 2 --output mixed
must 1 teach --dataset digits.h5 "${two[@]}" --augment mixup:alpha=1:probability=0.5 --views 2 --output half
together() { # FOLDER OPTIONS...
  echo aggregate "$1/teacher.h5" "$1/other.h5" --dataset digits.h5 --dtype float32 --json --quiet "${@:2}"
}
# shellcheck disable=SC2046 # lists of words
{
  must 1 $(together mixed --output mixed.h5)
  check 'teachers of mixed rows are not measured by one of two labels' test "$(grep -c accuracy out)" = "$(grep -c '"accuracy": null' out)"
  run 2 $(together mixed --method confidence --output refused)
  expect_error 'who is right about mixed rows' 2 "mixed/teacher.h5: is of rows changed by 'mixup:alpha=0.3'" 'two labels' "method 'confidence' needs the label"
  for method in 'learned' 'probability-mean --calibrate'; do
    # shellcheck disable=SC2086
    run 2 $(together mixed --method $method --output refused)
    expect_error "$method from mixed rows" 2 "mixed/teacher.h5: is of rows changed by 'mixup:alpha=0.3'" 'give --fit files'
  done
  check 'nothing is written' test ! -e refused
  for ranks in 1 3; do
    must "$ranks" $(together mixed --method learned --fit as-they-are/teacher.h5 --fit as-they-are/other.h5 --output "mixed-$ranks.h5")
  done
  same 'weights of rows as they are for mixed ones: the same file on 3 ranks' mixed-1.h5 mixed-3.h5
  for ranks in 1 3; do must "$ranks" $(together half --method learned --held-out 1 --output "half-$ranks.h5"); done
}
same 'some rows mixed: the same file on 3 ranks' half-1.h5 half-3.h5
python_check 'rows that a view does not mix keep their label, and it counts' <<'END'
import json, checks, numpy as np
plain, half, y = checks.logits("as-they-are/other.h5"), checks.logits("half/other.h5"), checks.labels("digits.h5", "train")
# But for a row that is mixed with itself.
kept = (half == np.concatenate([plain, plain])).all(1)
it = json.load(open("out"))
assert 0.4 < kept.mean() < 0.6 and 0 <= kept.sum() - it["fit_rows"] < 6, (kept.mean(), it["fit_rows"])
right = half.argmax(1) == np.concatenate([y, y])
assert it["teachers"][1]["samples"] == it["fit_rows"] and 0 <= (kept & ~right).sum() - it["teachers"][1]["errors"] < 6, it["teachers"]
END

# ---- labels of other rows ----
must 1 teach --dataset digits.h5 --teacher teacher.onnx --output plain --quiet
must 1 teach --dataset partly.h5 --teacher teacher.onnx --output partly --quiet
must 1 "${views[@]}" --augment flip --output flipped
refused() { # NAME WORDS... -- ARGUMENTS...
  local name=$1 words=()
  shift
  while [ "$1" != -- ]; do words+=("$1") && shift; done
  run 2 "${@:2}" ${output:---output refused}
  expect_error "$name" 2 "${words[@]}"
  check "$name: nothing written" test ! -e refused
}
refused 'labels of plain rows' plain/teacher.h5 'of the rows as they are' 'shift:pixels=1' 'teach --augment shift:pixels=1 --views N' --fixed-labels \
  -- "${distil[@]}" --soft-labels plain/teacher.h5 --augment shift:pixels=1
refused 'labels of changed rows' flipped/teacher.h5 'flip:probability=0.5' 'as they are' 'give --augment flip:probability=0.5' \
  -- "${distil[@]}" --soft-labels flipped/teacher.h5
refused 'labels of rows changed otherwise' flipped/teacher.h5 "'flip:probability=0.5'" "'flip:probability=0.25'" \
  -- "${distil[@]}" --soft-labels flipped/teacher.h5 --augment flip:probability=0.25
refused 'labels of other views are not made fixed' flipped/teacher.h5 'shift:pixels=2' \
  -- "${distil[@]}" --soft-labels flipped/teacher.h5 --augment shift --fixed-labels
refused 'files of different views' 'of the same views' \
  -- "${distil[@]}" --soft-labels plain/teacher.h5 --soft-labels flipped/teacher.h5 --augment flip
# Of rows as they are for rows that are mixed: the losses are mixed, of rows without a label too.
fixed=(distill --student student.onnx --dataset partly.h5 --soft-labels partly/teacher.h5 --soft-labels partly/teacher.h5 --fixed-labels --epochs 2 --quiet)
for mix in mixup cutmix; do
  for ranks in 1 3; do must "$ranks" "${fixed[@]}" --augment "$mix" --log "$mix-$ranks.log" --output "fixed-$mix-$ranks.onnx"; done
  same "$mix with fixed labels: the same student on 3 ranks" "fixed-$mix-1.onnx" "fixed-$mix-3.onnx"
done
refused 'a loss that compares rows, with mixed labels' "loss 'dist' compares rows" -- "${fixed[@]}" --augment mixup --loss dist:1

# ---- what cannot be ----
must 1 train --model student.onnx --dataset flat.h5 --augment noise --augment mixup --epochs 1 --quiet --output flat.onnx
refused 'images only' "augment 'shift' is for images" "'features'" -- train --model student.onnx --dataset flat.h5 --augment shift
refused 'tokens' "'tokens' is int" 'augment is for floats' -- train --model reader.onnx --dataset tokens.h5 --augment noise
refused 'nothing behind mixing' "augment 'mixup' mixes rows" "'flip'" -- "${train[@]}" --augment mixup --augment flip
refused 'too far' 'up to 8 pixels' -- "${train[@]}" --augment shift:pixels=8
refused 'an option of another kind' "augment 'flip' has no pixels" -- "${train[@]}" --augment flip:pixels=2
refused 'views of nothing' 'views: nothing differs' -- teach --dataset digits.h5 --teacher teacher.onnx --views 3
refused 'fixed labels of plain rows' 'fixed_labels: is for changed rows' -- "${distil[@]}" --soft-labels plain/teacher.h5 --fixed-labels

# ---- a recipe ----
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 4
teachers: [{name: teacher, model: teacher.onnx}]
teach: {views: 2, dtype: float32}
student: {create: mlp, layers: [64, 16, 10]}
baseline: true
distill:
  augment: [{kind: shift, pixels: 1}, {kind: mixup, alpha: 0.2}]
  epochs: 3
  batch: 200
END
must 2 run recipe.yaml
must 3 run recipe.yaml --set output="$work/run3"
same 'recipe: the same student on 3 ranks' run/student.onnx run3/student.onnx
same 'recipe: the same baseline on 3 ranks' run/baseline.onnx run3/baseline.onnx
python_check 'recipe: views of the rows to learn from, none of the test' <<'END'
import h5py
with h5py.File("run/soft/teacher.h5") as a, h5py.File("run/soft/test/teacher.h5") as b:
    assert a["logits"].shape[0] == 2 * 1437 and b["logits"].shape[0] == 360
    assert a.attrs["augment_seed"].decode() == "4" and "augment" not in b.attrs
END
run 0 plan recipe.yaml --json
python_check 'recipe: plan knows how long the file of views is' <<'END'
import json, os
said = {f["file"]: f["bytes"] for f in json.load(open("out"))["files"]}
for name in ("soft/teacher.h5", "soft/test/teacher.h5"):
    assert abs(said[name] / os.path.getsize("run/" + name) - 1) < 0.2, (said, os.path.getsize("run/" + name))
END
for method in '{method: confidence}' '{method: learned}' '{method: entropy, calibrate: true}'; do
  output=--quiet refused "recipe: aggregate: $method, of mixed rows" 'recipe.yaml: aggregate.' "augment 'mixup' mixes rows of two" \
    -- run recipe.yaml --set output=refused --set aggregate="$method"
done
must 1 run recipe.yaml --dry-run --set output=never --set aggregate='{method: learned, fit_split: train}'
sed '/views:/d' recipe.yaml >plain.yaml
output=--quiet refused 'recipe: teachers that would see other rows' 'the teachers must see what the student sees' 'teach.views' -- run plain.yaml --set output=refused
finish
