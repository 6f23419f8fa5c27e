#!/bin/bash
# Inner tensors of live teachers: the student of stored taps, byte for byte, however many ranks teach; recipes, generations, refusals.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
unset SLURM_JOB_END_TIME PBS_JOBID PBS_WALLTIME MPISTILL_END_TIME
cp "$digits" digits.h5
must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
must 0 create cnn --input 1x8x8 --classes 10 --kernel 3 --channels 8,8 --hidden 16 --seed 2 --output conv.onnx
must 0 create mlp --layers 64,20,12,10 --seed 3 --output flat.onnx
must 0 create mlp --layers 64,20,12,10 --seed 4 --output other.onnx
live=(--live-teacher conv.onnx --live-teacher flat.onnx)
# act1 is a tensor of both, hidden of conv alone.
features=(--feature hint:0.5:student=act1:teacher=act1:from=flat --feature similarity:100:student=act1:teacher=hidden)
distil=(distill --student student.onnx --dataset digits.h5 --batch 128 --shards 4 --epochs 2 --quiet)

# ---- the same bytes ----
for type in float32 float16; do
  must 2 teach --dataset digits.h5 --teacher conv.onnx --teacher flat.onnx --tap conv=hidden --tap flat=act1 --dtype $type --quiet --output "$type"
  must 1 "${distil[@]}" --soft-labels $type/conv.h5 --soft-labels $type/flat.h5 --weights 3,1 "${features[@]}" --output "$type.onnx"
done
differ 'what they are rounded to tells' float32.onnx float16.onnx
for case in 1:-1:float32 2:-1:float32 4:0:float32 2:1:float32 4:2:float32 2:0:float16 3:2:float16; do
  IFS=: read -r ranks teach type <<<"$case"
  must "$ranks" "${distil[@]}" "${live[@]}" --weights 3,1 "${features[@]}" --live-dtype "$type" --teaching-ranks "$teach" --output "live-$case.onnx"
  same "$ranks ranks, $teach of them teach, $type: the student of stored tensors" "$type.onnx" "live-$case.onnx"
done
run 4 distill --student student.onnx --dataset digits.h5 --epochs 1 "${live[@]}" "${features[@]}" --output told.onnx
check 'by default no rank only teaches: each that trains runs the teachers' test "$status" = 0 -a "$(grep -c 'ranks teach' out err | grep -vc ':0$')" = 0
augment=(--augment shift:pixels=1 --augment flip --augment cutmix)
must 2 teach --dataset digits.h5 --teacher conv.onnx --teacher flat.onnx --tap conv=hidden --tap flat=act1 "${augment[@]}" --views 2 --seed 5 --quiet --output views
must 1 "${distil[@]}" --soft-labels views/conv.h5 --soft-labels views/flat.h5 "${features[@]}" "${augment[@]}" --seed 5 --output views.onnx
for case in 1:0 2:1 4:2; do
  must "${case%:*}" "${distil[@]}" "${live[@]}" "${features[@]}" "${augment[@]}" --seed 5 --teaching-ranks "${case#*:}" --output "views-$case.onnx"
  same "${case%:*} ranks, ${case#*:} teach: the tensors are of what the student sees" views.onnx "views-$case.onnx"
done

# ---- stopped, and gone on with in another way ----
MPISTILL_END_TIME=1 run 2 "${distil[@]}" "${live[@]}" --weights 3,1 "${features[@]}" --teaching-ranks 1 --stop-before 10 --output stopped.onnx
check "stopped after its first step, not $status" test "$status" = 75 -a ! -e stopped.onnx -a -d stopped.onnx.ckpt
must 1 "${distil[@]}" "${live[@]}" --weights 3,1 "${features[@]}" --output stopped.onnx
same 'goes on to the same bytes' float16.onnx stopped.onnx
must 1 "${distil[@]}" --live-teacher flat=flat.onnx --live-teacher conv=other.onnx --feature hint:1:student=act1:teacher=act1:from=flat \
  --output named.onnx
run 1 "${distil[@]}" --live-teacher conv=flat.onnx --live-teacher flat=other.onnx --feature hint:1:student=act1:teacher=act1:from=flat \
  --output named.onnx
expect_error 'names of live teachers decide the student, too' 2 'named.onnx' 'features'

# A file with the tensor serves before the model.
must 1 "${distil[@]}" "${live[@]}" --live-dtype float32 --weights 3,1 "${features[@]}" --features-from float16/flat.h5 --output file.onnx
differ 'a file of tensors beside live teachers is read' float32.onnx file.onnx

# ---- refused ----
# refused NAME TEXT... -- ARGUMENTS...
refused() {
  local name=$1 words=()
  shift
  while [ "$1" != -- ]; do words+=("$1") && shift; done
  run 2 "${@:2}"
  expect_error "$name" 2 "${words[@]}"
  check "$name: nothing written" test ! -e none.onnx -a ! -e none
}
none=(--output none.onnx)
for teach in 0 1; do
  refused "a tensor of two teachers, $teach teach" "teachers 'conv' and 'flat' have a tensor 'act1'" 'from' -- \
    "${distil[@]}" "${live[@]}" --feature hint:1:student=act1:teacher=act1 --teaching-ranks $teach "${none[@]}"
done
refused 'a tensor of no teacher' 'no live teacher has' "'hiden'" 'inspect' -- "${distil[@]}" "${live[@]}" --feature hint:1:student=act1:teacher=hiden "${none[@]}"
refused 'a teacher without that tensor' "no live teacher 'flat' has" "'hidden'" -- \
  "${distil[@]}" "${live[@]}" --feature hint:1:student=act1:teacher=hidden:from=flat "${none[@]}"
refused 'tensors of stored views beside live teachers' 'views/flat.h5' 'were stored' '--live-teacher' -- \
  "${distil[@]}" --live-teacher conv.onnx --features-from views/flat.h5 --feature hint:1:student=act1:teacher=act1 "${augment[@]}" --seed 5 "${none[@]}"
refused 'shapes that do not go together' '[?, 24]' '[?, 8, 4, 4]' -- \
  "${distil[@]}" "${live[@]}" --feature attention:1:student=act1:teacher=conv2 "${none[@]}"
"$python" - <<'END' || exit 1
import checks, h5py, onnx
from onnx import numpy_helper
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
model = onnx.load("conv.onnx")  # its logits stay small
for t in model.graph.initializer[-2:]:
    t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t) * 1e-6, t.name))
onnx.save(model, "low.onnx")
bad = (x / 16).astype("f4")
bad[700] *= 1e6
checks.write_dataset("bad.h5", {"train": {"image": bad, "label": y}})
END
refused 'a tensor that is too large' "teacher 'conv', row 700, tensor 'conv1'" 'float16' '--live-dtype float32' -- \
  distill --student student.onnx --dataset bad.h5 --live-teacher conv=low.onnx --feature hint:1:student=act1:teacher=conv1:projector=mean \
  --teaching-ranks 1 --epochs 1 --quiet "${none[@]}"

# ---- a recipe: the second generation learns from the first's labels, and from what the teachers have inside ----
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
seed: 4
teachers: [{name: conv, model: conv.onnx}, {name: flat, model: flat.onnx}]
aggregate: {method: random-batch}
student: {create: mlp, layers: [64, 16, 10]}
assistants: [{name: medium, create: mlp, layers: [64, 20, 10]}]
generations: 2
baseline: false
distill:
  features:
    - {kind: hint, weight: 0.5, student: act1, teacher: hidden, from: conv}
    - {kind: similarity, weight: 100, student: act1, teacher: act2, from: flat}
  epochs: 2
  batch: 256
  shards: 4
END
must 2 run recipe.yaml --quiet
sed '/^seed/a teach: live' recipe.yaml >live.yaml
must 2 run live.yaml --quiet --set output="$work/live"
must 1 run live.yaml --quiet --set output="$work/live1"
must 4 run live.yaml --quiet --set output="$work/live4" --set teach.ranks=2
for of in live live1 live4; do
  for student in generation-1 student; do same "$of: $student of the recipe that stores" "run/$student.onnx" "$of/$student.onnx"; done
done
check 'nothing is stored of the rows to learn from' test ! -e live/soft/conv.h5 -a -e live/soft/test/conv.h5
# The first model that plan opens takes more than the others: here it is the student in both.
sed '/^assistants/d' live.yaml >apart.yaml
sed '/^  features:/,/flat}/d' apart.yaml >plain.yaml
for recipe in apart plain; do
  must 0 plan $recipe.yaml --set teach.ranks=2 --ranks 4 --json
  cp out $recipe.json
done
python_check 'plan: ranks that train hold the teachers, too' <<'END'
import json
plain, apart = (json.load(open(name))["memory"] for name in ("plain.json", "apart.json"))
assert apart["rank"] > plain["rank"] and apart["node"] > plain["node"], (plain, apart)
END
sed 's/teacher: hidden/teacher: hiden/' live.yaml >typo.yaml
refused 'recipe: a tensor that the teacher has not' "has no inner tensor 'hiden'" "did you mean 'hidden'" -- run typo.yaml --set output="$work/none"
finish
