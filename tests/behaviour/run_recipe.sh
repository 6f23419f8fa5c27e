#!/bin/bash
# A recipe from end to end: what it writes, what it skips, what it refuses, and that a killed run ends as if it never was.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

must 0 create mlp --layers 64,100,100,10 --dropout 0.2 --seed 11 --output wide0.onnx
must 0 create cnn --input 1x8x8 --channels 8,16 --kernel 3 --hidden 32 --classes 10 --seed 12 --output conv0.onnx
for name in wide conv; do must 2 train --model $name"0.onnx" --dataset digits.h5 --epochs 6 --batch 64 --quiet --output $name.onnx; done
# A teacher of another kind, whose soft labels h5py has written: the nearest class means.
"$python" - <<'END' || exit 1
import checks, numpy as np
x, y = checks.inputs("digits.h5", "train").reshape(1437, -1), checks.labels("digits.h5", "train")
means = np.array([x[y == c].mean(axis=0) for c in range(10)])
checks.write_soft_labels("tree.h5", -((x[:, None] - means) ** 2).sum(axis=2), "digits.h5")
END
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run/digits
seed: 1
baseline: true
teachers:
  - {name: wide, model: wide.onnx}
  - {name: conv, model: conv.onnx, input: image, classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
  - {name: tree, soft_labels: tree.h5}
teach:     {split: train, dtype: float16}
aggregate: {method: probability-mean, weights: [2, 2, 1]}
student:   {create: mlp, layers: [64, 32, 10]}
distill:
  losses:
    - {kind: kd, weight: 0.9, temperature: 4}
    - {kind: cross-entropy, weight: 0.1}
  optimizer: {kind: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0005}
  schedule:  {kind: cosine, warmup_epochs: 1}
  epochs: 6
  batch: 128
  shards: 8
checkpoint: {every_seconds: 600}
END
# listing FOLDER: every file with its size, time and checksum; out and err are those of the commands here.
listing() {
  (cd "$1" && find . -type f ! -name out ! -name err \( -printf '%p %s %T@\n' -exec cksum {} + \) | LC_ALL=C sort)
}
# results FOLDER: the listing of what a recipe's stages have made; the log, the state and the measured latency are the run's own.
results() { listing "$1" | grep -v -E '/(run\.jsonl|state\.json|result\.json)( |$)'; }
# unchanged NAME LISTING: that of the folder run/digits is still the same.
unchanged() { check "$1" test "$(results run/digits)" = "$2"; }
state() { sed -n 's/.*"state": "\([a-z]*\)".*/\1/p' "$1/state.json"; }

# ---- --dry-run ----
before=$(listing .)
must 0 run recipe.yaml --dry-run
cp out plan && rm out
check '--dry-run: names every stage' grep -q -z 'teach.*teach.*aggregate.*train.*distill.*evaluate' plan
rm plan
must 2 run recipe.yaml --dry-run --set distill.epochs=2
check '--dry-run: --set' grep -q '2 epochs' out
check '--dry-run: writes nothing' test "$(listing .)" = "$before"

# ---- the run ----
must 2 run recipe.yaml
cp out table
cp err told
python_check 'the table: a row for each teacher, the ensemble, the baseline and the student' <<'END'
rows = [line for line in open("table") if line.strip()]
assert [row.split()[0] for row in rows] == ["parameters", "teacher", "teacher", "teacher", "ensemble", "baseline", "student"], rows
assert [row.split()[1] for row in rows[1:4]] == ["wide", "conv", "tree"]
assert [len(row[24:].split()) for row in rows[1:3]] == [6, 6], rows  # with the unit of the latency
END
python_check 'the teachers on their rows, told before the students learn' <<'END'
lines = open("told").read().splitlines()
at = [i for i, line in enumerate(lines) if line.split()[:4] == ["teacher", "weight", "accuracy", "nll"]]
assert len(at) == 1 and [line.split()[0] for line in lines[at[0] + 1 : at[0] + 5]] == ["wide", "conv", "tree.h5", "ensemble"], lines
assert at[0] < lines.index("mpistill: baseline"), lines
END
rm told
check 'the files in the output folder' test "$(cd run/digits && find . -type f | LC_ALL=C sort | tr '\n' ' ')" = "./baseline.onnx \
./baseline.onnx.inputs ./ensemble.h5 ./ensemble.h5.inputs ./recipe.yaml ./result.json ./run.jsonl ./soft/conv.h5 ./soft/test/conv.h5 \
./soft/test/wide.h5 ./soft/wide.h5 ./state.json ./student.onnx ./student.onnx.inputs "
same 'recipe.yaml is the recipe' recipe.yaml run/digits/recipe.yaml
must 2 run recipe.yaml --set output=run/set --set distill.epochs=2 --quiet
check 'recipe.yaml tells what --set replaced' cmp -s run/set/recipe.yaml <(printf '# --set output=run/set\n# --set distill.epochs=2\n' && cat recipe.yaml)
rm -r run/set
check 'state.json: done' test "$(state run/digits)" = "done"
for name in student baseline; do
  must 2 evaluate --model run/digits/$name.onnx --dataset digits.h5 --json
  cp out $name.json
done
for name in wide conv; do
  must 1 evaluate --model $name.onnx --dataset digits.h5 --json
  cp out $name.json
done
python_check 'result.json and run.jsonl' <<'END'
import json
import checks
result = json.load(open("run/digits/result.json"))
rows = {row["name"]: row for row in result["models"]}
assert list(rows) == ["wide", "conv", "tree", "ensemble", "baseline", "student"], list(rows)
assert [row["kind"] for row in rows.values()] == ["teacher"] * 3 + ["ensemble", "baseline", "student"]
assert result["split"] == "test"
for name, tolerance in ("student", 0), ("baseline", 0), ("wide", 2e-3), ("conv", 2e-3):  # teachers are measured by float16 logits
    alone = json.load(open(f"{name}.json"))
    for key in "samples", "parameters", "bytes":
        assert rows[name][key] == alone[key], (name, key)
    for key in "accuracy", "nll", "ece":
        checks.close(rows[name][key], alone[key], tolerance + 1e-9, f"{name}: {key}")
    assert rows[name]["latency_s"] > 0
assert "accuracy" not in rows["tree"] and "accuracy" not in rows["ensemble"]  # the tree has no labels for the test split
lines = checks.events("run/digits/run.jsonl")
assert len(lines) == 12 and sum("kd" in line["loss"] for line in lines) == 6, "epochs of the baseline and the student"
END

# ---- the same again ----
before=$(results run/digits)
must 4 run recipe.yaml --json
check 'again: every stage says that it is done' test "$(grep -c 'already done' err)" = 7
unchanged 'again: no file is written' "$before"
check 'again: state.json: done' test "$(state run/digits)" = "done"
same '--json prints result.json' <(cat out) <(cat run/digits/result.json; echo)

# ---- the same by hand ----
must 0 create mlp --layers 64,32,10 --seed 1 --output student0.onnx
must 3 teach --dataset digits.h5 --split train --teacher wide.onnx --dtype float16 --output hand
must 1 aggregate hand/wide.h5 run/digits/soft/conv.h5 tree.h5 --weights 2,2,1 --temperature 4 --dataset digits.h5 --output hand/ensemble.h5
training=(--dataset digits.h5 --learning-rate 0.1 --momentum 0.9 --weight-decay 0.0005 --schedule cosine --warmup-epochs 1 --epochs 6
  --batch 128 --shards 8 --seed 1)
must 2 train --model student0.onnx "${training[@]}" --output hand/baseline.onnx
must 2 distill --student student0.onnx --soft-labels hand/ensemble.h5 --loss kd:0.9:temperature=4 --loss cross-entropy:0.1 \
  "${training[@]}" --output hand/student.onnx
same 'by hand: teach' hand/wide.h5 run/digits/soft/wide.h5
for name in ensemble.h5 baseline.onnx student.onnx; do same "by hand: $name" hand/$name run/digits/$name; done
must 2 distill --student student0.onnx --soft-labels hand/ensemble.h5 --temperature 4 --kd-weight 0.9 "${training[@]}" --output hand/weight.onnx
same 'by hand: --kd-weight 0.9 is the same two losses' hand/weight.onnx run/digits/student.onnx
differ 'the student is not the baseline' hand/baseline.onnx hand/student.onnx
sed 's|^student:.*|student: {model: student0.onnx}|; s|run/digits|run/model|; /^baseline/d' recipe.yaml >model.yaml
must 2 run model.yaml
same 'student: {model: …} and {create: …}' run/model/student.onnx run/digits/student.onnx
check 'no baseline where none is asked for' test ! -e run/model/baseline.onnx

# ---- another recipe for the same folder ----
sed 's|epochs: 6|epochs: 7|' recipe.yaml >other.yaml
for arguments in 'recipe.yaml --set distill.epochs=7' other.yaml; do
  # shellcheck disable=SC2086 # a list of arguments
  run 2 run $arguments
  expect_error "$arguments: refused, with the difference" 2 run/digits/ epochs 6 7 --force
  unchanged "$arguments: no file is written" "$before"
done
run 2 run recipe.yaml --set 'aggregate.weights=[1,1,1]'
expect_error 'other weights: refused' 2 run/digits/ensemble.h5 weights --force
unchanged 'other weights: no file is written' "$before"
must 2 run recipe.yaml
unchanged 'the old recipe is still done' "$before"
must 2 run other.yaml --force
check '--force: soft labels from the same inputs stay' grep -q 'soft/wide.h5: already done' err
same '--force: recipe.yaml is the new one' other.yaml run/digits/recipe.yaml
sed 's|run/digits|run/fresh|' other.yaml >fresh.yaml
must 3 run fresh.yaml
for name in ensemble.h5 baseline.onnx student.onnx; do same "--force: $name" run/digits/$name run/fresh/$name; done
differ '--force: another student' run/digits/student.onnx hand/student.onnx
must 2 run recipe.yaml --set distill.epochs=2 --set output="$work/run/set"
sed 's|run/digits|run/written|; s|epochs: 6|epochs: 2|' recipe.yaml >written.yaml
must 2 run written.yaml
same '--set distill.epochs=2 is epochs: 2' run/set/student.onnx run/written/student.onnx

# ---- private answers ----
sed 's|^aggregate:.*|aggregate: {method: pate-lnmax, noise: 2}|; s|run/digits|run/pate|; /^baseline/d; s|epochs: 6|epochs: 1|' recipe.yaml >pate.yaml
run 1 run pate.yaml --set seed=0
expect_error 'pate without a seed: refused' 2 'pate.yaml: cannot be followed' "method 'pate-lnmax' needs a seed"
must 2 run pate.yaml
check 'pate: what the labels reveal stands under the table' grep -q '^ensemble: epsilon [0-9.]* at delta 1e-05, whatever' out
python_check 'pate: and in result.json' <<'END'
import h5py, json
rows = {row["kind"]: row for row in json.load(open("run/pate/result.json"))["models"]}
with h5py.File("run/pate/ensemble.h5", "r") as f:
    assert rows["ensemble"]["epsilon"] == float("%.10g" % f.attrs["epsilon"]) and rows["ensemble"]["delta"] == 1e-5
END

# ---- without teachers; with an ensemble on the test split ----
sed '/^teachers:/,/^aggregate:/d; s|^  losses:.*|  losses: []|; /kind: kd/d; /kind: cross/d; s|run/digits|run/plain|; /^baseline/d; /losses/d' \
  recipe.yaml >plain.yaml
must 2 run plain.yaml
same 'without teachers: plain training' run/plain/student.onnx hand/baseline.onnx
check 'without teachers: no soft labels' test ! -e run/plain/soft -a ! -e run/plain/ensemble.h5
sed '/name: tree/d; s|, weights: .*|, weights: [2, 1]}|; s|run/digits|run/two|; s|epochs: 6|epochs: 2|' recipe.yaml >two.yaml
must 2 run two.yaml
python_check 'the ensemble of live teachers is measured on the test split' <<'END'
import json
import checks
y = checks.labels("digits.h5", "test")
mixed = checks.combine([checks.logits(f"run/two/soft/test/{name}.h5") for name in ("wide", "conv")], (2, 1), 1, "probability-mean")
rows = {row["name"]: row for row in json.load(open("run/two/result.json"))["models"]}
for key, wanted in checks.metrics(mixed, y).items():
    checks.close(rows["ensemble"][key], wanted, 1e-6, key)
assert rows["ensemble"]["parameters"] == rows["wide"]["parameters"] + rows["conv"]["parameters"]
END
sed 's|run/two|run/fitted|; s|probability-mean|learned|; s|, weights: [^}]*||' two.yaml >fitted.yaml
must 2 run fitted.yaml
python_check 'teachers are measured as they are, the ensemble with what was found for it' <<'END'
import h5py, json
import checks
y = checks.labels("digits.h5", "test")
with h5py.File("run/fitted/ensemble.h5") as f:
    weights, temperatures = f.attrs["weights"], f.attrs["calibration"]
z = [checks.logits(f"run/fitted/soft/test/{name}.h5") for name in ("wide", "conv")]
assert abs(temperatures - 1).max() > 0.05, temperatures
rows = {row["name"]: row for row in json.load(open("run/fitted/result.json"))["models"]}
wanted = {"ensemble": checks.combine([a / t for a, t in zip(z, temperatures)], weights, 1, "probability-mean"), "wide": z[0], "conv": z[1]}
for name, logits in wanted.items():
    for key, value in checks.metrics(logits, y).items():
        checks.close(rows[name][key], value, 1e-4 if name == "ensemble" else 1e-6, f"{name}: {key}")
END

# ---- killed in each stage, and started again on other ranks ----
cat >killed.yaml <<'END'
dataset: long.h5
output: killed
baseline: true
teachers:
  - {name: slow, model: slow.onnx}
  - {name: wide, model: wide.onnx}
teach:   {block: 8}
student: {create: mlp, layers: [64, 200, 10], dropout: 0.1}
distill: {epochs: 240, batch: 128, shards: 4}
checkpoint: {every_seconds: 0.05}
END
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    splits = {name: {"image": np.tile(f[name]["image"][...], (copies, 1, 1, 1)), "label": np.tile(f[name]["label"][...], copies)}
              for name, copies in (("train", 3), ("test", 1))}
checks.write_dataset("long.h5", splits, scale={"image": (1 / 16, 0)})
END
must 0 create resnet --depth 20 --width 24 --input 1x8x8 --classes 10 --output slow.onnx
must 2 run killed.yaml --set output="$work/whole"
# kill_when NAME RANKS SECONDS COMMAND...: SIGKILL for mpirun that long after the command first succeeds.
kill_when() {
  local name=$1 ranks=$2 seconds=$3
  shift 3
  touch started
  start "$ranks" run killed.yaml
  while [ -e "/proc/$job/exe" ] && ! "$@"; do sleep 0.01; done
  sleep "$seconds"
  kill_job
  check "killed $name: not at the end" test ! -e killed/student.onnx -a "$(state killed)" = running
}
in_stage() { [ killed/state.json -nt started ] && grep -q "\"stage\": \"$1\"" killed/state.json; }
kill_when 'in teach' 2 0.1 test -e killed/soft/slow.h5.part
kill_when 'after teach' 4 0 test -e killed/soft/slow.h5
kill_when 'in the baseline' 2 0.2 in_stage baseline
kill_when 'in distill' 3 0.2 in_stage distill
touch started
"$mpistill" run killed.yaml >out 2>err </dev/null &
job=$!
while [ -e "/proc/$job/exe" ] && ! in_stage distill; do sleep 0.01; done
kill -USR1 $job
wait $job
check 'SIGUSR1: status 75' test $? = 75
check 'SIGUSR1: stopped, with a checkpoint' test "$(state killed)" = stopped -a ! -e killed/student.onnx -a -e killed/checkpoint/student
must 2 run killed.yaml
python_check 'training went on from checkpoints' <<'END'
import checks
resumed = checks.events("killed/run.jsonl", "resume")
assert len(resumed) >= 2 and all(at["epoch"] * 34 + at["batch"] > 0 for at in resumed), resumed
assert len(checks.events("whole/run.jsonl", "resume")) == 0
END
for name in soft/slow.h5 soft/wide.h5 soft/test/slow.h5 ensemble.h5 baseline.onnx student.onnx; do
  same "stopped five times: $name" whole/$name killed/$name
done
check 'stopped five times: the same files as of an undisturbed run' test "$(cd killed && find . | LC_ALL=C sort)" = "$(cd whole && find . | LC_ALL=C sort)"
check 'stopped five times: done at last' test "$(state killed)" = "done"
finish
