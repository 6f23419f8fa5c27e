#!/bin/bash
# Every loss through the program: its value is the formula's, its student the same on any number of ranks.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5", "r") as f:
    x, y = f["train/image"][...], f["train/label"][...]
y[::3] = -1
checks.write_dataset("partly.h5", {"train": {"image": x, "label": y}}, scale={"image": (1 / 16, 0)})
checks.write_dataset("unlabelled.h5", {"train": {"image": x}}, scale={"image": (1 / 16, 0)})
END
must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
must 0 create mlp --layers 64,64,10 --seed 2 --output fresh.onnx
must 2 train --model fresh.onnx --dataset digits.h5 --epochs 4 --batch 100 --quiet --output teacher.onnx
must 2 teach --dataset partly.h5 --teacher teacher.onnx --dtype float32 --output soft
must 2 teach --dataset partly.h5 --teacher student.onnx --dtype float32 --output soft
must 2 teach --dataset partly.h5 --teacher teacher.onnx --dtype float32 --top-k 3 --output top3
must 2 teach --dataset partly.h5 --teacher teacher.onnx --dtype float32 --top-k 10 --output top10
must 2 teach --dataset unlabelled.h5 --teacher teacher.onnx --output unlabelled

# distil RANKS NAME LOSS [OPTION...]
distil() {
  rm -f "$2.jsonl"
  must "$1" distill --student student.onnx --dataset partly.h5 --soft-labels soft/teacher.h5 --loss "$3" --learning-rate 0.02 \
    --batch 300 --shards 6 --epochs 2 --quiet --log "$2.jsonl" --output "$2.onnx" "${@:4}"
}
# still NAME LOSS [OPTION...]: steps with all rows in one shard that move nothing: the losses are the untrained student's.
still() {
  rm -f "$1.jsonl"
  must 1 distill --student student.onnx --dataset partly.h5 --soft-labels "${soft:-soft/teacher.h5}" --loss "$2" --learning-rate 0 \
    --batch 1437 --shards 1 --epochs "${epochs:-1}" --quiet --log "$1.jsonl" --output "$1.onnx" --force "${@:3}"
}

kinds=$("$mpistill" distill --help-losses | grep -E '^[a-z-]+$' | grep -v -x -E 'mse|soft-mse') # those of numbers: tasks.sh
check 'the losses there are' test "$(echo "$kinds" | wc -l)" -ge 8
for kind in $kinds; do
  loss=$kind:1
  [ "$kind" = cross-entropy ] && loss=cross-entropy:1:label_smoothing=0.1
  extra=()
  [ "$kind" = cross-entropy ] && extra=(--loss kd:1e-9)
  for ranks in 1 2 4; do
    distil "$ranks" "$kind-$ranks" "$loss" "${extra[@]}"
    [ "$ranks" = 1 ] || same "$kind: the same student on $ranks ranks" "$kind-1.onnx" "$kind-$ranks.onnx"
  done
  python_check "$kind: the loss falls" "$kind" <<'END'
import sys, checks
kind = sys.argv[1]
first, last = (line["loss"][kind] for line in checks.events(kind + "-1.jsonl"))
assert last < first, f"{first} then {last}"
END
  still "$kind" "$loss" "${extra[@]}"
done
still standard kd:1:temperature=2:standardize=true
still two kd:0.5:temperature=4 --loss kd:0.25:temperature=2
still dkd-half dkd:1:temperature=2:alpha=2:beta=0.5
still dist-half dist:1:temperature=1:gamma=0.5
soft=top3/teacher.h5 still top3 kd:1:temperature=3
# few NAME BATCH: as still, with few labels, in batches of which some have none.
few() {
  rm -f "$1.jsonl"
  must 2 distill --student student.onnx --dataset few.h5 --soft-labels few/teacher.h5 --loss kd:0.5 --loss cross-entropy:0.5 --learning-rate 0 --batch "$2" \
    --shards 4 --epochs 1 --quiet --log "$1.jsonl" --output "$1.onnx"
}
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("partly.h5", "r") as f:
    x, y = f["train/image"][...], f["train/label"][...]
y[40:] = -1
checks.write_dataset("few.h5", {"train": {"image": x, "label": y}}, scale={"image": (1 / 16, 0)})
END
must 2 teach --dataset few.h5 --teacher teacher.onnx --dtype float32 --quiet --output few
few few-whole 1437
few few-parts 100
python_check 'the losses of an epoch are means over its rows, however they lie in batches' <<'END'
import checks
whole, parts = (checks.events(f"few-{name}.jsonl")[0]["loss"] for name in ("whole", "parts"))
for key in "kd", "cross-entropy", "total":
    checks.close(parts[key], whole[key], 1e-6, key)
checks.close(whole["total"], (whole["kd"] + whole["cross-entropy"]) / 2, 1e-7, "total")
END
python_check 'the logged losses are those of the formulas' <<'END'
import numpy as np, checks
from checks import log_softmax
z, t, y = checks.logits("soft/student.h5").astype(float), checks.logits("soft/teacher.h5").astype(float), checks.labels("partly.h5", "train")
n = len(z)


def logged(name, kind):
    return checks.events(name + ".jsonl")[0]["loss"][kind]


def kl(log_a, log_b):
    return (np.exp(log_a) * (log_a - log_b)).sum(1).mean()


def pearson(a, b):
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def dkd(T, alpha, beta):
    rows = np.flatnonzero(y >= 0)
    lq, lp, own = log_softmax(z[rows], T), log_softmax(t[rows], T), y[rows]
    pick = np.arange(len(rows))

    def coin(l):
        p = np.exp(l[pick, own])
        return np.log(np.stack([p, 1 - p], 1))

    def others(x):
        x = x[rows] / T
        x[pick, own] = -np.inf
        x = x - x.max(1, keepdims=True)
        return x - np.log(np.exp(x).sum(1, keepdims=True))
    oq, op = others(z), others(t)
    p = np.exp(op)
    rest = np.where(p > 0, p * (np.where(p > 0, op, 0) - np.where(p > 0, oq, 0)), 0).sum(1).mean()
    return T**2 * (alpha * kl(coin(lp), coin(lq)) + beta * rest)


def dist(T, gamma):
    q, p = np.exp(log_softmax(z, T)), np.exp(log_softmax(t, T))
    return T**2 * ((1 - pearson(q, p)).mean() + gamma * (1 - pearson(q.T, p.T)).mean())


def standard(x):
    return (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-7)


lq, lp = log_softmax(z, 4), log_softmax(t, 4)
lm = np.log((np.exp(lq) + np.exp(lp)) / 2)
norm = np.linalg.norm
expected = {
    "kd": 16 * kl(lp, lq), "reverse-kl": 16 * kl(lq, lp), "jsd": 8 * (kl(lp, lm) + kl(lq, lm)), "dkd": dkd(4, 1, 8), "dist": dist(4, 1),
    "logit-mse": ((z - t) ** 2).mean(), "cosine": (1 - (z * t).sum(1) / norm(z, axis=1) / norm(t, axis=1)).mean(),
    "cross-entropy": (-0.9 * log_softmax(z)[np.arange(n), y] - 0.1 * log_softmax(z).mean(1))[y >= 0].mean(),
}
for kind, value in expected.items():
    checks.close(logged(kind, kind), value, 1e-5, kind)
checks.close(logged("two", "kd"), expected["kd"], 1e-5, "the first of two")
checks.close(logged("two", "kd.2"), 4 * kl(log_softmax(t, 2), log_softmax(z, 2)), 1e-5, "the second of two")
checks.close(logged("two", "total"), 0.5 * logged("two", "kd") + 0.25 * logged("two", "kd.2"), 1e-6, "their sum")
checks.close(logged("standard", "kd"), 4 * kl(log_softmax(standard(t), 2), log_softmax(standard(z), 2)), 1e-5, "standardized kd")
checks.close(logged("dkd-half", "dkd"), dkd(2, 2, 0.5), 1e-5, "dkd with its options")
checks.close(logged("dist-half", "dist"), dist(1, 0.5), 1e-5, "dist with its options")
spread = checks.from_top_k("top3/teacher.h5", 10).astype(float)
checks.close(logged("top3", "kd"), 9 * kl(log_softmax(spread, 3), log_softmax(z, 3)), 1e-5, "kd on the three largest")
# What is not among them keeps its probability at T = 1.
p, rest = np.exp(log_softmax(t)), np.argsort(-t, 1, kind="stable")[:, 3:]
checks.close(np.exp(log_softmax(spread)).take(rest + 10 * np.arange(n)[:, None]).sum(1), p.take(rest + 10 * np.arange(n)[:, None]).sum(1), 1e-5, "mass")
END

# ---- all classes among the largest: nothing is lost ----
distil 2 dense kd:1
must 2 distill --student student.onnx --dataset partly.h5 --soft-labels top10/teacher.h5 --loss kd:1 --learning-rate 0.02 --batch 300 \
  --shards 6 --epochs 2 --quiet --output k10.onnx
same 'top-k with k = C is the whole' dense.onnx k10.onnx

# ---- temperatures that move ----
for schedule in linear cosine; do
  epochs=5 still "$schedule" "kd:1:temperature=8:temperature_end=2:temperature_schedule=$schedule"
done
python_check 'the temperature moves to its end' <<'END'
import numpy as np, checks
z, t = checks.logits("soft/student.h5"), checks.logits("soft/teacher.h5")
way = np.linspace(0, 1, 5)
for schedule, temperatures in (("linear", 8 - 6 * way), ("cosine", 5 + 3 * np.cos(np.pi * way))):
    values = [line["loss"]["kd"] for line in checks.events(schedule + ".jsonl")]
    checks.close(values, [checks.kd(t, z, T).mean() for T in temperatures], 1e-5, schedule)
END
must 2 aggregate soft/teacher.h5 soft/student.h5 --temperature 8 --output for8.h5
must 2 aggregate soft/teacher.h5 soft/student.h5 --method logit-mean --output any.h5

# ---- what temperature an ensemble is for ----
must 2 aggregate for8.h5 --method logit-mean --output of8.h5
must 2 aggregate for8.h5 soft/student.h5 --method logit-mean --output with8.h5
for method in probability-mean entropy; do must 2 aggregate soft/teacher.h5 --method $method --temperature 8 --output "one-$method.h5"; done
run 2 aggregate for8.h5 soft/teacher.h5 --temperature 4 --output never.h5
expect_error 'one for another temperature among them' 2 'for8.h5: is an ensemble made for temperature 8, but 4 is asked for'
must 2 aggregate soft/teacher.h5 soft/student.h5 --temperature 3 --output for3.h5
cp for3.h5 never.h5
for ranks in 1 4; do
  run $ranks aggregate for8.h5 for3.h5 --method logit-mean --force --output never.h5
  expect_error "ensembles for two temperatures, on $ranks ranks" 2 'for3.h5: is an ensemble made for temperature 3, but ' 'for8.h5 for 8'
done
same 'ensembles for two temperatures: what was there is kept' for3.h5 never.h5
python_check 'what is made of an ensemble is for its temperature; of one teacher, whom it leaves as it is, for any' <<'END'
import h5py, numpy as np, checks
assert [h5py.File(f)["/"].attrs["temperature"] for f in ("of8.h5", "with8.h5", "any.h5", "one-entropy.h5", "one-probability-mean.h5")] == [8, 8, 0, 0, 0]
def q(file, T):
    z = checks.logits(file).astype(float) / T
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
for T in (1, 3, 20):
    for method in ("entropy", "probability-mean"):
        assert np.abs(q(f"one-{method}.h5", T) - q("soft/teacher.h5", T)).max() < 2e-3, (T, method)  # they are float16
END
cat >one.yaml <<'END'
dataset: partly.h5
output: one
teachers: [{name: teacher, soft_labels: soft/teacher.h5}]
student: {model: student.onnx}
distill: {epochs: 2, batch: 256, losses: [{kind: kd, weight: 1, temperature: 8, temperature_end: 2}]}
END
must 2 run one.yaml --quiet
run 2 run one.yaml --quiet --set output=late --set 'teachers=[{name: teacher, soft_labels: for8.h5}]' --set 'distill.losses=[{kind: kd, weight: 1, temperature: 4}]'
expect_error 'a teacher file for another temperature' 2 'for8.h5: is an ensemble made for temperature 8, but 4 is asked for'
check 'a teacher file for another temperature: refused before the first stage' test ! -e late/ensemble.h5

# ---- what cannot be ----
# refused NAME WORDS [OPTION...]: distil refuses the options with those words.
refused() {
  run 2 distill --student student.onnx --dataset partly.h5 --soft-labels soft/teacher.h5 --quiet --output refused.onnx "${@:3}"
  expect_error "$1" 2 "$2"
}
refused 'kd has no alpha' "loss 'kd' has no alpha (its options: temperature" --loss kd:1:alpha=2
refused 'logit-mse has no temperature' "loss 'logit-mse' has no temperature (its options: none)" --loss logit-mse:1:temperature=2
refused 'a way without an end' 'temperature_schedule needs temperature_end' --loss kd:1:temperature_schedule=cosine
refused 'nothing of dkd' 'alpha and beta are both 0' --loss dkd:1:alpha=0:beta=0
refused 'rows compared in shards of one' "loss 'dist' compares the rows of a shard, and some shards would have one row" --loss dist:1 --batch 8 --shards 8
refused 'the last batch has shards of one' "loss 'dist' compares" --loss dist:1 --batch 359 --shards 2
run 2 distill --student student.onnx --dataset partly.h5 --soft-labels for8.h5 --loss kd:1:temperature=8:temperature_end=2 --output refused.onnx
expect_error 'an ensemble for one temperature' 2 'made for temperature 8, but that of loss' 'moves'
run 2 distill --student student.onnx --dataset partly.h5 --soft-labels for8.h5 --loss logit-mse:1 --output refused.onnx
expect_error 'logits of an ensemble for another temperature' 2 'made for temperature 8, but 1 is asked for'
must 2 distill --student student.onnx --dataset partly.h5 --soft-labels any.h5 --loss kd:1:temperature=8:temperature_end=2 --quiet --output any.onnx
run 2 distill --student student.onnx --dataset unlabelled.h5 --soft-labels unlabelled/teacher.h5 --loss dkd:1 --output refused.onnx
expect_error 'dkd without a label' 2 "loss 'dkd' learns from rows with a label, and no row of /train"
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers: [{name: teacher, model: teacher.onnx}, {name: other, model: student.onnx}]
student: {model: student.onnx}
distill:
  losses: [{kind: cosine, weight: 1, gamma: 0}, {kind: dist, weight: 1, gamma: 2}]
END
run 1 run recipe.yaml
expect_error 'a recipe with an option of another loss' 2 "loss 'cosine' has no gamma"
for losses in '{kind: kd, weight: 1, temperature: 4}, {kind: jsd, weight: 1, temperature: 2}' '{kind: kd, weight: 1, temperature: 8, temperature_end: 2}'; do
  sed -i "s/^  losses: .*/  losses: [$losses]/" recipe.yaml
  run 1 run recipe.yaml
  expect_error "a recipe whose ensemble cannot serve [$losses]" 2 "method 'probability-mean' makes the ensemble for" 'see logit-mean'
done
check 'nothing was begun' test ! -e run

# ---- rows that teach nothing ----
distil 2 sure kd:1 --confidence 0.99999999
check 'no teacher is sure enough: told once' test "$(grep -c 'warning: the loss is 0 on all rows of the first epoch' err)" = 1
distil 1 hard cross-entropy:1 --loss kd:0.1 --confidence 0.99999999
check 'labels are enough' test "$(grep -c 'nothing is learnt' err)" = 0
finish
