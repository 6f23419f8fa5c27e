#!/bin/bash
# Live teachers: the student of stored labels, byte for byte, however many ranks teach; stops, errors and recipes.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
unset SLURM_JOB_END_TIME PBS_JOBID PBS_WALLTIME MPISTILL_END_TIME
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
order = np.random.default_rng(3).permutation(len(x))
np.save("order.npy", order)
checks.write_dataset("mixed.h5", {"train": {"image": x[order], "label": y[order]}}, scale={"image": (1 / 16, 0)})
bad = (x / 16).astype("f4")
bad[700, 0, 3, 3] = 1e30
checks.write_dataset("bad.h5", {"train": {"image": bad, "label": y}})
END
must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
must 0 create cnn --input 1x8x8 --classes 10 --kernel 3 --channels 8,8 --batch-norm --seed 2 --output fresh.onnx
must 0 create vit --input 1x8x8 --classes 10 --patch 4 --depth 1 --width 16 --heads 2 --seed 3 --output vit.onnx
must 2 train --model fresh.onnx --dataset digits.h5 --epochs 4 --learning-rate 0.05 --batch 64 --quiet --output conv.onnx
teachers=(--teacher conv.onnx --teacher vit.onnx)
live=(--live-teacher conv.onnx --live-teacher vit.onnx)
distil=(distill --student student.onnx --dataset digits.h5 --batch 128 --shards 4 --quiet --epochs)

# A row gives the same bits wherever it stands: what live labels rest on.
must 2 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --quiet --output plain
must 2 teach --dataset mixed.h5 "${teachers[@]}" --dtype float32 --quiet --output mixed
python_check 'logits do not depend on the rows beside' <<'END'
import h5py, numpy as np
order = np.load("order.npy")
for name in ("conv", "vit"):
    with h5py.File(f"plain/{name}.h5") as a, h5py.File(f"mixed/{name}.h5") as b:
        assert np.array_equal(a["logits"][...][order].view("i4"), b["logits"][...].view("i4")), name
END

# ---- the same bytes ----
must 2 teach --dataset digits.h5 "${teachers[@]}" --quiet --output soft
must 1 "${distil[@]}" 3 --soft-labels soft/conv.h5 --soft-labels soft/vit.h5 --weights 3,1 --output stored.onnx
for case in 1:-1 1:1 2:-1 3:1 3:0 4:3 4:2; do
  ranks=${case%:*} teach=${case#*:}
  must "$ranks" "${distil[@]}" 3 "${live[@]}" --weights 3,1 --teaching-ranks "$teach" --output "live-$case.onnx"
  same "$ranks ranks, $teach of them teach: the student of stored labels" stored.onnx "live-$case.onnx"
done
must 1 "${distil[@]}" 3 --soft-labels plain/conv.h5 --output float.onnx
must 3 "${distil[@]}" 3 --live-teacher conv.onnx --live-dtype float32 --output live-float.onnx
same 'labels of float32' float.onnx live-float.onnx
augment=(--augment shift:pixels=1 --augment flip --augment cutmix)
must 2 teach --dataset digits.h5 "${teachers[@]}" "${augment[@]}" --views 3 --seed 5 --quiet --output views
must 1 "${distil[@]}" 3 --soft-labels views/conv.h5 --soft-labels views/vit.h5 "${augment[@]}" --seed 5 --output views.onnx
for case in 1:0 2:1 4:2; do
  must "${case%:*}" "${distil[@]}" 3 "${live[@]}" "${augment[@]}" --seed 5 --teaching-ranks "${case#*:}" --output "live-views-$case.onnx"
  same "${case%:*} ranks, ${case#*:} teach: live teachers see what those of stored views saw" views.onnx "live-views-$case.onnx"
done
must 2 "${distil[@]}" 3 --soft-labels soft/conv.h5 --soft-labels soft/vit.h5 --method aekd --output aekd.onnx
must 3 "${distil[@]}" 3 "${live[@]}" --method aekd --output live-aekd.onnx
same 'a rule that needs the student' aekd.onnx live-aekd.onnx

# ---- stopped, and gone on with in another way ----
MPISTILL_END_TIME=$(($(date +%s) + 10)) run 4 "${distil[@]}" 3 "${live[@]}" --weights 3,1 --stop-before 10 --output stopped.onnx
check "stopped after its first step, not $status" test "$status" = 75 -a ! -e stopped.onnx -a -d stopped.onnx.ckpt
must 2 "${distil[@]}" 3 "${live[@]}" --weights 3,1 --teaching-ranks 0 --output stopped.onnx
same 'goes on to the same bytes' stored.onnx stopped.onnx
check 'the same command again has nothing to do' grep -q 'already done' \
  <("${mpirun[@]}" -n 3 "$mpistill" "${distil[@]/--quiet/--restart}" 3 "${live[@]}" --weights 3,1 --output stopped.onnx 2>&1)
start 3 "${distil[@]}" 150 "${live[@]}" --checkpoint-seconds 0 --output killed.onnx
while [ -e "/proc/$job/exe" ] && [ ! -e killed.onnx.ckpt/1.h5 ]; do sleep 0.02; done
kill_job
check 'killed in the middle' test ! -e killed.onnx -a -d killed.onnx.ckpt
must 2 "${distil[@]}" 150 "${live[@]}" --output killed.onnx
must 1 "${distil[@]}" 150 "${live[@]}" --output whole.onnx
same 'killed and gone on with to the same bytes' whole.onnx killed.onnx
# An epoch that starts again: what was asked ahead is thrown away.
for case in 1:0 3:2; do
  run "${case%:*}" "${distil[@]}" 3 --live-teacher conv.onnx --loss logit-mse:1000000 --learning-rate 1000000 --teaching-ranks "${case#*:}" --output "rolled-$case.onnx"
  check "$case: an epoch starts again, and at last the run ends" \
    test "$status" = 1 -a "$(grep -c 'epoch 1 starts again' err)" = 3 -a "$(grep -c '^mpistill: error' err)" = 1
done

# ---- refused ----
refused() { # NAME RANKS WORDS... -- ARGUMENTS...
  local name=$1 ranks=$2 words=()
  shift 2
  while [ "$1" != -- ]; do words+=("$1") && shift; done
  run "$ranks" "${@:2}"
  expect_error "$name" 2 "${words[@]}"
  check "$name: nothing written" test ! -e none.onnx
}
must 0 create mlp --layers 64,8,7 --seed 1 --output seven.onnx
none=(--output none.onnx)
refused 'no teacher at all' 2 '--soft-labels' '--live-teacher' -- "${distil[@]}" 3 "${none[@]}"
refused 'both kinds' 2 'soft labels are given, too' -- "${distil[@]}" 3 "${live[@]}" --soft-labels soft/conv.h5 "${none[@]}"
refused 'nobody left to train' 2 'there are 2 ranks' 'must train' -- "${distil[@]}" 3 "${live[@]}" --teaching-ranks 2 "${none[@]}"
refused 'other classes' 3 'seven.onnx' 'gives 7 classes' -- "${distil[@]}" 3 --live-teacher seven.onnx "${none[@]}"
refused 'a model that is not there' 3 'gone.onnx' -- "${distil[@]}" 3 --live-teacher gone.onnx "${none[@]}"
refused 'a rule of stored labels' 2 "method 'learned' is one of aggregate" -- "${distil[@]}" 3 "${live[@]}" --method learned "${none[@]}"
for teach in 0 1; do
  refused "a row that is too large, $teach teach" 3 "teacher 'conv'" 'row 700' 'float16' '--live-dtype float32' \
    -- distill --student student.onnx --dataset bad.h5 --live-teacher conv.onnx --teaching-ranks $teach --quiet "${none[@]}"
done

# ---- a recipe ----
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 4
teachers: [{name: conv, model: conv.onnx}, {name: vit, model: vit.onnx}]
teach: live
aggregate: {weights: [3, 1]}
student: {create: mlp, layers: [64, 16, 10]}
distill:
  augment: [{kind: shift, pixels: 1}, {kind: mixup, alpha: 0.2}]
  epochs: 2
  batch: 200
END
must 3 run recipe.yaml
must 1 run recipe.yaml --set output="$work/run1" --set teach.ranks=1
must 4 run recipe.yaml --set output="$work/run4" --set teach.ranks=2
same 'recipe: the same student on 1 rank' run/student.onnx run1/student.onnx
same 'recipe: the same student with 2 of 4 ranks that teach' run/student.onnx run4/student.onnx
check 'recipe: nothing is stored of the rows to learn from' test ! -e run/soft/conv.h5 -a ! -e run/ensemble.h5 -a -e run/soft/test/conv.h5
python_check 'recipe: figures of the teachers' <<'END'
import json
models = {m["name"]: m for m in json.load(open("run/result.json"))["models"]}
assert models["conv"]["accuracy"] > 0.5 and "accuracy" not in models["ensemble"] and "accuracy" in models["student"], models
END
run 0 plan recipe.yaml --json
check 'recipe: plan knows that nothing is stored of the rows to learn from' \
  test "$status" = 0 -a "$(grep -c '"soft/conv.h5"' out)$(grep -c '"soft/test/conv.h5"' out)$(grep -c ensemble.h5 out)" = 010
refused 'recipe: nobody left to train' 2 'recipe.yaml: teach.ranks: 2, but there are 2 ranks' -- run recipe.yaml --set teach.ranks=2 --set baseline=true \
  --set output="$work/none"
check 'recipe: nobody left to train: no work is done' test ! -e none
run 0 plan recipe.yaml --ranks 2 --set teach.ranks=2
expect_error 'plan: nobody left to train' 2 'recipe.yaml: teach.ranks: 2, but there are 2 ranks'
refused 'recipe: top-k' 2 'teach.top_k' -- run recipe.yaml --set teach.top_k=3 --set output="$work/none"
refused 'recipe: a rule of stored labels' 2 "method 'learned' needs stored labels" -- run recipe.yaml --set aggregate.method=learned --set output="$work/none"
sed 's/teach: live/teach: alive/' recipe.yaml >typo.yaml
refused 'recipe: another word' 2 'a mapping was expected' -- run typo.yaml
sed 's/teach: live/teach: {ranks: 1, views: 2}/' recipe.yaml >ranks.yaml
refused 'recipe: ranks of nobody' 2 'teach.ranks: is for live teachers' -- run ranks.yaml
finish
