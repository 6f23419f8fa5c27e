#!/bin/bash
# A student of three outputs: classes, classes known for some rows, and numbers; each with its own teachers, one of which reads another
# array. From the commands and from a recipe, with stored labels and live teachers, and over assistants, the same bytes; the same on any number
# of ranks and after a stop.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
"$python" - "$digits" <<'END' || exit 1
import sys, h5py, heads
with h5py.File(sys.argv[1]) as f:
    image, label = ({s: f[f"{s}/{a}"][...] for s in ("train", "test")} for a in ("image", "label"))
heads.digits("three.h5", image, label)
three = {"digit": 10, "parity": 2, "ink": 1}
heads.heads("student.onnx", "image", [1, 8, 8], 12, three, 1)
heads.heads("fresh.onnx", "image", [1, 8, 8], 48, three, 2)
heads.heads("medium.onnx", "image", [1, 8, 8], 20, three, 4)
heads.heads("sees-vector.onnx", "x", [64], 32, {"digit": 10}, 3)
END
tasks=(--task digit --task parity:weight=0.5 --task ink:labels=target.ink)
must 2 train --model fresh.onnx --dataset three.h5 --input image "${tasks[@]}" --epochs 6 --batch 100 --learning-rate 0.05 --quiet --output wide.onnx
must 2 train --model sees-vector.onnx --dataset three.h5 --input vector --task digit --epochs 6 --batch 100 --quiet --output vector.onnx

# ---- commands ----
teach() {
  must "$1" teach --dataset three.h5 --teacher wide-digit=wide.onnx:input=image:output=digit --teacher vector=vector.onnx:input=vector \
    --teacher wide-parity=wide.onnx:input=image:output=parity --teacher wide-ink=wide.onnx:input=image:output=ink:values=true \
    --dtype float32 --quiet --output "soft$1"
}
losses=(--loss digit/kd:0.8:temperature=3 --loss digit/cross-entropy:0.2 --loss parity/kd:1:temperature=2 --loss ink/soft-mse:0.5
  --loss ink/smooth-l1:0.5:delta=0.5)
made=(--student student.onnx --dataset three.h5 --input image "${tasks[@]}" "${losses[@]}" --soft-labels digit=digit.h5
  --soft-labels parity=soft1/wide-parity.h5 --soft-labels ink=soft1/wide-ink.h5 --epochs 3 --batch 120 --shards 6 --quiet)
for ranks in 1 4; do teach "$ranks"; done
for file in wide-digit vector wide-parity wide-ink; do
  same "the labels of $file on 4 ranks" soft1/$file.h5 soft4/$file.h5
done
must 2 aggregate soft1/wide-digit.h5 soft1/vector.h5 --dataset three.h5 --labels label.digit --temperature 3 --dtype float32 --quiet --output digit.h5
for ranks in 1 2 4; do
  must "$ranks" distill "${made[@]}" --output "d$ranks.onnx" --log "d$ranks.jsonl"
  [ "$ranks" = 1 ] || same "the same student on $ranks ranks" d1.onnx "d$ranks.onnx"
done
python_check 'each loss is told under its task' <<'END'
import checks
line = checks.events("d1.jsonl")[-1]["loss"]
assert set(line) == {"total", "digit/kd", "digit/cross-entropy", "parity/kd", "ink/soft-mse", "ink/smooth-l1"}, line
w = {"digit/kd": 0.8, "digit/cross-entropy": 0.2, "parity/kd": 0.5, "ink/soft-mse": 0.5, "ink/smooth-l1": 0.5}
assert abs(line["total"] - sum(w[k] * line[k] for k in w)) < 1e-6, line
END
python_check 'the labels of another output, and of another array, are what numpy finds there' <<'END'
import h5py, numpy as np, onnx
from onnx import numpy_helper
def run(path, x, output):
    w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(path).graph.initializer}
    hidden = np.maximum(x @ w["w.hidden"] + w["b.hidden"], 0)
    return hidden @ w["w." + output] + w["b." + output]
with h5py.File("three.h5") as f:
    x = f["train/image"][...].reshape(-1, 64) / 16
    v = f["train/vector"][...]
for name, path, rows, output in (("wide-parity", "wide.onnx", x, "parity"), ("wide-ink", "wide.onnx", x, "ink"), ("vector", "vector.onnx", v, "digit")):
    with h5py.File(f"soft1/{name}.h5") as f:
        assert abs(f["logits"][...] - run(path, rows, output)).max() < 1e-4, name
        assert f.attrs.get("values", 0) == (name == "wide-ink")
END
export MPISTILL_END_TIME=$(($(date +%s) + 5))
run 2 distill "${made[@]}" --output halted.onnx --stop-before 1000
unset MPISTILL_END_TIME
check 'a job that ends soon stops it' test "$status" = 75
must 3 distill "${made[@]}" --output halted.onnx
same 'and it goes on to the same bytes' d1.onnx halted.onnx

# ---- live teachers: those of the labels that are combined as the student learns ----
asked=(--student student.onnx --dataset three.h5 --input image "${tasks[@]}" "${losses[@]}" --epochs 2 --batch 120 --shards 6 --weights '3,1,1,1' --quiet)
live=(--live-teacher wide-digit=wide.onnx:input=image:task=digit --live-teacher vector=vector.onnx:input=vector:task=digit
  --live-teacher wide-parity=wide.onnx:input=image:task=parity --live-teacher wide-ink=wide.onnx:input=image:output=ink:task=ink --live-dtype float32)
must 2 distill "${asked[@]}" --soft-labels digit=soft1/wide-digit.h5 --soft-labels digit=soft1/vector.h5 --soft-labels parity=soft1/wide-parity.h5 \
  --soft-labels ink=soft1/wide-ink.h5 --output stored.onnx
for case in 1:-1 2:0 3:2 4:1; do
  must "${case%:*}" distill "${asked[@]}" "${live[@]}" --teaching-ranks "${case#*:}" --output "live-$case.onnx"
  same "live teachers on ${case%:*} ranks, ${case#*:} of them teach" stored.onnx "live-$case.onnx"
done

# ---- evaluate ----
must 2 evaluate --model d1.onnx --dataset three.h5 --input image "${tasks[@]}" --json --quiet
cp out tasks.json
must 1 evaluate --model d1.onnx --dataset three.h5 --input image --task ink --json --quiet
cp out ink-alone.json
python_check 'evaluate tells of each task' <<'END'
import json, h5py, numpy as np, onnx
from onnx import numpy_helper
all = json.load(open("tasks.json"))["tasks"]
alone = json.load(open("ink-alone.json"))
w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load("d1.onnx").graph.initializer}
with h5py.File("three.h5") as f:
    x = f["test/image"][...].reshape(-1, 64) / 16
    y = {k: f["test/" + k][...] for k in ("label.digit", "label.parity", "target.ink")}
hidden = np.maximum(x @ w["w.hidden"] + w["b.hidden"], 0)
for task in ("digit", "parity"):
    known = y["label." + task] >= 0
    best = (hidden @ w["w." + task] + w["b." + task]).argmax(1)
    assert all[task]["samples"] == known.sum() and all[task]["errors"] == (best != y["label." + task])[known].sum(), task
t = y["target.ink"][:, 0]
known = ~np.isnan(t)
away = (hidden @ w["w.ink"] + w["b.ink"])[known, 0] - t[known]
ink = all["ink"]
assert ink["samples"] == known.sum() and "accuracy" not in ink
for key, value in (("mse", (away**2).mean()), ("mae", abs(away).mean()),
                   ("r2", 1 - (away**2).sum() / ((t[known] - t[known].mean()) ** 2).sum())):
    assert abs(ink[key] - value) < 1e-5 * max(1, abs(value)), (key, ink[key], value)
    assert alone[key] == ink[key]
END

# ---- a recipe ----
recipe() { # OUTPUT
  cat <<END
dataset: three.h5
output: $1
teachers:
  - {name: wide-digit, model: wide.onnx, input: image, task: digit}
  - {name: vector, model: vector.onnx, input: vector, task: digit}
  - {name: wide-parity, model: wide.onnx, input: image, task: parity}
  - {name: wide-ink, model: wide.onnx, input: image, task: ink, output: ink}
teach: {dtype: float32}
aggregate: {dtype: float32}
student: {model: student.onnx}
baseline: true
distill:
  input: image
  tasks:
    - {name: digit, losses: [{kind: kd, weight: 0.8, temperature: 3}, {kind: cross-entropy, weight: 0.2}]}
    - {name: parity, weight: 0.5, losses: [{kind: kd, weight: 1, temperature: 2}]}
    - {name: ink, labels: target.ink, losses: [{kind: soft-mse, weight: 0.5}, {kind: smooth-l1, weight: 0.5, delta: 0.5}]}
  epochs: 3
  batch: 120
  shards: 6
END
}
for ranks in 1 4; do
  recipe "run$ranks" >recipe.yaml
  must "$ranks" run recipe.yaml --quiet
  cp out "table$ranks"
  for file in student.onnx baseline.onnx ensemble.digit.h5 ensemble.parity.h5 ensemble.ink.h5 soft/vector.h5; do
    [ "$ranks" = 1 ] || same "run: $file on $ranks ranks" "run1/$file" "run$ranks/$file"
  done
done
must 2 run recipe.yaml --quiet
same 'run: again, it is done' run1/student.onnx run4/student.onnx
must 1 distill "${made[@]::${#made[@]}-7}" --soft-labels digit=run1/ensemble.digit.h5 --soft-labels parity=run1/ensemble.parity.h5 \
  --soft-labels ink=run1/ensemble.ink.h5 --epochs 3 --batch 120 --shards 6 --quiet --output by-hand.onnx
python_check 'run: the labels and the ensemble that the commands make' <<'END'
import h5py
for a, b in (("soft1/vector.h5", "run1/soft/vector.h5"), ("digit.h5", "run1/ensemble.digit.h5"), ("soft1/wide-ink.h5", "run1/ensemble.ink.h5")):
    with h5py.File(a) as f, h5py.File(b) as g:
        assert (f["logits"][...] == g["logits"][...]).all(), (a, b)
END
python_check 'result.json and the table tell of each task' <<'END'
import json
models = {m["name"]: m for m in json.load(open("run1/result.json"))["models"]}
assert list(models) == ["wide-digit", "vector", "wide-parity", "wide-ink", "ensemble", "baseline", "student"], list(models)
assert list(models["vector"]["tasks"]) == ["digit"] and set(models["student"]["tasks"]) == {"digit", "parity", "ink"}
assert set(models["ensemble"]["tasks"]) == {"digit", "parity", "ink"}
assert set(models["baseline"]["tasks"]["ink"]) == {"samples", "mse", "mae", "r2"}
digit = {k: m["tasks"]["digit"]["accuracy"] for k, m in models.items() if "digit" in m["tasks"]}
assert digit["ensemble"] > 0.8 and digit["student"] > digit["baseline"], digit
table = open("table1").read()
assert [line.split()[0] for line in table.splitlines() if "parameters" in line] == ["digit", "parity", "ink"], table
# An ensemble is its own teachers, a model file once, whichever tasks it teaches.
wide, vector = models["wide-digit"], models["vector"]
made = {"digit": (wide, vector), "parity": (wide,), "ink": (wide,)}
shown = [[int(n) for n in line.split()[1:3]] for line in table.splitlines() if line.startswith("ensemble")]
for key in "parameters", "bytes":
    assert models["ensemble"][key] == wide[key] + vector[key], key
    for i, (task, its) in enumerate(made.items()):
        assert models["ensemble"]["tasks"][task][key] == sum(m[key] for m in its) == shown[i][key == "bytes"], (task, key)
assert models["ensemble"]["tasks"]["parity"]["latency_s"] == models["wide-parity"]["latency_s"]
assert "parameters" not in models["student"]["tasks"]["digit"] and "parameters" in models["student"]
END
# Each task's answers hide behind noise of their own.
recipe private | sed '/^baseline/d; /wide-ink/d; /name: ink/d; s/^aggregate:.*/aggregate: {dtype: float32, method: pate-lnmax, noise: 5}/' >private.yaml
must 2 run private.yaml --set seed=7 --set distill.epochs=1 --quiet
by_hand() { must 1 aggregate "${@:2}" --dtype float32 --method pate-lnmax --noise 5 --seed 7 --quiet --output "seed-7.$1.h5"; }
by_hand digit private/soft/wide-digit.h5 private/soft/vector.h5
by_hand parity private/soft/wide-parity.h5
same_labels() { "$python" -c 'import h5py, sys; a, b = (h5py.File(x)["logits"][...].argmax(1) for x in sys.argv[1:]); sys.exit(int((a != b).any()))' "$@"; }
check 'pate: the first task by the seed of the recipe' same_labels private/ensemble.digit.h5 seed-7.digit.h5
check 'pate: not another one by the same noise' test "$(same_labels private/ensemble.parity.h5 seed-7.parity.h5; echo $?)" = 1
recipe made | sed '/^baseline/d; s/^student: .*/student: {create: mlp, layers: [64, 12], tasks: ["digit:10", "parity:2", "ink:1"]}/' >made.yaml
must 2 run made.yaml --quiet
must 0 create mlp --layers 64,12 --task digit:10 --task parity:2 --task ink:1 --seed 0 --output made.onnx
recipe given | sed '/^baseline/d; s/student: {model: student.onnx}/student: {model: made.onnx}/' >given.yaml
must 1 run given.yaml --quiet
same 'a student that the recipe makes, with an output for each task' made/student.onnx given/student.onnx
# An assistant and two generations: each teaches all that it has learnt from teachers; parity has none here, and hard labels alone.
chain() { # OUTPUT
  recipe "$1" | sed "/^baseline/d; /wide-parity/d; s/kind: kd, weight: 1, temperature: 2/kind: cross-entropy, weight: 1/; s/epochs: 3/epochs: 2/
    s/^student:/generations: 2\nassistants: [{name: medium, model: medium.onnx}]\nstudent:/"
}
for ranks in 1 3; do
  chain "chain$ranks" >chain.yaml
  must "$ranks" run chain.yaml --quiet
  cp out "chain-table$ranks"
  chain "asked$ranks" | sed 's/^teach: {/teach: {live: true, /; s/^aggregate:.*//' >asked.yaml
  must "$ranks" run asked.yaml --quiet
done
hard=(--loss digit/kd:0.8:temperature=3 --loss digit/cross-entropy:0.2 --loss parity/cross-entropy:1 --loss ink/soft-mse:0.5 --loss ink/smooth-l1:0.5:delta=0.5)
learn() { # NAME MODEL SEED DIGIT INK
  must 2 distill --student "$2" --dataset three.h5 --input image "${tasks[@]}" "${hard[@]}" --soft-labels "digit=$4" --soft-labels "ink=$5" --seed "$3" \
    --epochs 2 --batch 120 --shards 6 --quiet --output "$1.onnx"
  must 2 teach --dataset three.h5 --teacher "$1.digit=$1.onnx:input=image:output=digit" --teacher "$1.ink=$1.onnx:input=image:output=ink:values=true" \
    --dtype float32 --quiet --output handed
}
learn m medium.onnx 0 digit.h5 soft1/wide-ink.h5
learn g1 student.onnx 0 handed/m.digit.h5 handed/m.ink.h5
learn g2 student.onnx 1 handed/g1.digit.h5 handed/g1.ink.h5
for ranks in 1 3; do
  same "chain: the assistant, on $ranks ranks" m.onnx "chain$ranks/medium.onnx"
  same "chain: the first generation, on $ranks ranks" g1.onnx "chain$ranks/generation-1.onnx"
  same "chain: the student, on $ranks ranks" g2.onnx "chain$ranks/student.onnx"
done
must 2 teach --dataset three.h5 --teacher m.digit=asked1/medium.onnx:input=image:task=digit --teacher m.ink=asked1/medium.onnx:input=image:output=ink:values=true \
  --dtype float32 --quiet --output asked
learn g1-asked student.onnx 0 asked/m.digit.h5 asked/m.ink.h5
same 'chain: a student that is asked teaches what stored labels would' g1-asked.onnx asked1/generation-1.onnx
for file in medium generation-1 student; do
  same "chain: teachers and students are asked, $file on 3 ranks" asked1/$file.onnx asked3/$file.onnx
done
check 'chain: what is handed on' test "$(cd chain1/soft && echo *.h5)" = \
  'generation-1.digit.h5 generation-1.ink.h5 medium.digit.h5 medium.ink.h5 vector.h5 wide-digit.h5 wide-ink.h5'
check 'chain: where students are asked nothing is stored of them' test ! -e asked1/soft/medium.digit.h5 -a -e asked1/medium.onnx
check 'chain: no ensemble of a task that nobody teaches' test "$(grep -c '^ensemble' chain-table1)" = 2
check 'chain: each student has its row in each table' test "$(grep -c '^generation-1' chain-table1)" = 3
must 0 run chain.yaml --dry-run
check 'chain: the dry run' grep -q 'teach      chain3/medium.onnx -> chain3/soft/medium.ink.h5' out
must 0 plan chain.yaml --json
check 'chain: plan knows the files' grep -q '"soft/medium.ink.h5"' out
run 1 run recipe.yaml --dry-run
check 'a dry run names the ensembles' grep -q 'aggregate  2 soft-label files -> run4/ensemble.digit.h5' out
run 0 plan recipe.yaml --ranks 2 --json
check 'plan knows such recipes' test "$status" = 0

# ---- what is refused ----
refused() { # NAME TEXT SED
  recipe refused | sed "$3" >bad.yaml
  run 1 run bad.yaml --quiet
  expect_error "$1" 2 "$2"
}
refused 'a teacher of no task' "teacher 'vector': there is no task 'digits'" 's/vector, task: digit/vector, task: digits/'
refused 'a teacher whose task is not told' "teacher 'vector': task names one of distill.tasks" 's/, input: vector, task: digit/, input: vector/'
refused 'an output that is not there' "wide.onnx: has no output 'inks'" 's/output: ink}/output: inks}/'
refused 'an array that is not there' "no array 'vectors'" 's/input: vector,/input: vectors,/'
refused 'an array of another shape' "input 'image' takes [?, 1, 8, 8]" 's/wide-digit, model: wide.onnx, input: image/wide-digit, model: wide.onnx, input: vector/'
refused 'labels that are not there' "task 'ink': no split of three.h5 has an array 'target.inks'" 's/target.ink,/target.inks,/'
refused 'a teacher of other classes' 'gives 2 classes, but the student 10' 's/wide.onnx, input: image, task: digit/wide.onnx, input: image, output: parity, task: digit/'
refused 'a loss of classes for numbers' "loss 'kd' is of classes (labels), but task 'ink' learns numbers (targets)" 's/kind: soft-mse/kind: kd/'
refused 'a loss of soft labels where nobody teaches' "task 'parity': loss 'kd' needs soft labels, and nobody teaches the task; in a recipe give a teacher" '/wide-parity/d'
run 0 plan bad.yaml
expect_error 'plan: a loss of soft labels where nobody teaches' 2 "task 'parity': loss 'kd' needs soft labels"
refused 'classes for an output of numbers' "three.h5: /train/label.digit holds classes, but the output has one alone" 's/target.ink,/label.digit,/'
check 'nothing is written' test ! -e refused
refused 'two tasks of one name' 'two tasks have this name' 's/name: parity, weight/name: digit, weight/'
refused 'a loss of no task' "loss 'kd': there is no task 'digits'" 's/^  epochs: 3/  losses: [{kind: kd, weight: 1, task: digits}]/'
refused 'an assistant of a name that a teacher has' "assistant 'wide': another model" 's/^baseline: true/assistants: [{name: wide, model: medium.onnx}]/; s/wide-ink/wide.ink/'
ink=(distill --student student.onnx --dataset three.h5 --input image --task ink:labels=target.ink --loss soft-mse:1 --confidence 0.9 --output bad.onnx)
run 2 "${ink[@]}" --soft-labels ink=soft1/wide-ink.h5
expect_error 'the confidence of numbers' 2 'confidence: is the probability of a class'
run 2 "${ink[@]}" "${live[@]:6:2}"
expect_error 'the confidence of numbers that a live teacher gives' 2 'confidence: is the probability of a class'
recipe never | sed '/task: digit/d; /task: parity/d; /name: digit/d; /name: parity/d; s/^  epochs: 3/  confidence: 0.9/' >numbers.yaml
run 2 run numbers.yaml
expect_error 'the confidence of numbers, in a recipe' 2 'confidence: is the probability of a class'
check 'the confidence of numbers, in a recipe: before anything is made' test ! -e never
for n in 2 4; do
  run $n distill "${asked[@]}" "${live[@]/:task=ink/}" --output bad.onnx
  expect_error "a live teacher of no task, $n ranks" 2 "teacher 'wide-ink': task names one of --task"
  run $n distill "${asked[@]}" "${live[@]/:task=ink/:task=inks}" --output bad.onnx
  expect_error "a live teacher of another task, $n ranks" 2 "teacher 'wide-ink': there is no task 'inks'"
  run $n distill "${asked[@]}" "${live[@]/parity=wide.onnx:input=image:task=parity/parity=wide.onnx:input=image:output=digit:task=parity}" --output bad.onnx
  expect_error "a live teacher of other classes, $n ranks" 2 "teacher 'wide-parity' gives 10 logits, but the student 2"
done
run 1 aggregate soft1/wide-ink.h5 --method vote --output bad.h5
expect_error 'a vote of numbers' 2 "holds numbers, not logits: method 'vote' is for classes"
run 1 aggregate soft1/wide-ink.h5 soft1/wide-digit.h5 --output bad.h5
expect_error 'numbers and logits' 2 'wide-digit.h5: holds logits, but soft1/wide-ink.h5 holds numbers'
run 1 distill --student student.onnx --dataset three.h5 --input image "${tasks[@]}" --soft-labels soft1/wide-ink.h5 --output bad.onnx
expect_error 'labels of no task' 2 'TASK=FILE was expected'
run 1 distill --student student.onnx --dataset three.h5 --input image "${tasks[@]}" --soft-labels ink=soft1/wide-parity.h5 --output bad.onnx
expect_error 'logits for a task of numbers' 2 'soft1/wide-parity.h5: holds logits'
must 0 create mlp --layers 64,8,10 --output of-digits.onnx
must 1 teach --dataset "$digits" --teacher numbers=of-digits.onnx:values=true --quiet --output of-digits
must 1 distill --student of-digits.onnx --dataset "$digits" --soft-labels of-digits/numbers.h5 --epochs 1 --quiet --output numbers.onnx
check 'numbers beside classes are told' grep -q "warning: of-digits/numbers.h5: holds numbers, .* not the classes in array 'label'" err
run 1 train --model student.onnx --dataset three.h5 --input image --output bad.onnx
expect_error 'a task that is not named' 2 'say which is meant' "'parity' float"
finish
