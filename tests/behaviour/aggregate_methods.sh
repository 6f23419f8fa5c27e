#!/bin/bash
# Every way to combine teachers: what is stored is the formula's, the same on any number of ranks.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
# Three teachers of the digits' first 800 rows and one of noise. The other rows of train are `other`, half of them labelled.
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5", "r") as f:
    x, y = f["train/image"][...], f["train/label"][...]
    tx, ty = f["test/image"][...], f["test/label"][...]
other = y[800:].copy()
other[::2] = -1
checks.write_dataset("set.h5", {"train": {"image": x[:800], "label": y[:800]}, "other": {"image": x[800:], "label": other},
                                "bare": {"image": x[800:]}, "test": {"image": tx, "label": ty}}, scale={"image": (1 / 16, 0)})
noise = np.random.default_rng(3).normal(size=(637, 10)) * 4
checks.write_soft_labels("noise.h5", noise, "set.h5", "other", dtype=np.float32)
checks.write_soft_labels("noise-bare.h5", noise, "set.h5", "bare", dtype=np.float32)
END
teachers=()
for t in 1:64 2:32 3:16; do
  must 0 create mlp --layers "64,${t#*:},10" --seed "${t%:*}" --output "fresh-${t%:*}.onnx"
  must 2 train --model "fresh-${t%:*}.onnx" --dataset set.h5 --epochs 8 --batch 100 --quiet --output "t${t%:*}.onnx"
  teachers+=(--teacher "t${t%:*}.onnx")
done
for split in other bare; do must 2 teach --dataset set.h5 --split $split "${teachers[@]}" --dtype float32 --quiet --output $split; done
files=(other/t1.h5 other/t2.h5 other/t3.h5 noise.h5)

# combine NAME OPTIONS...: the four teachers, on 1, 2 and 4 ranks.
combine() {
  local name=$1 ranks
  for ranks in 1 2 4; do
    must "$ranks" aggregate "${files[@]}" --dataset set.h5 --dtype float32 --json --quiet --output "$name-$ranks.h5" "${@:2}"
    mv out "$name-$ranks.json"
    [ "$ranks" = 1 ] || same "$name: the same file on $ranks ranks" "$name-1.h5" "$name-$ranks.h5"
    [ "$ranks" = 1 ] || check "$name: the same report on $ranks ranks" \
      diff <(grep -v '"output"' "$name-1.json") <(grep -v '"output"' "$name-$ranks.json")
  done
}
combine probability-mean --method probability-mean --temperature 3 --weights 4,3,2,1
combine calibrated --method probability-mean --temperature 3 --calibrate --held-out 1
combine logit-mean --method logit-mean
combine learned --method learned --held-out 1 --temperature 2
combine drawn --method learned --held-out 0.3 --seed 4
combine per-class --method learned --per-class --held-out 1 --temperature 2
combine entropy --method entropy --temperature 2
combine confidence --method confidence --temperature 2
combine vote --method vote --temperature 2
combine random --method random --seed 9 --weights 1,1,1,0
combine lnmax --method pate-lnmax --noise 0.3 --seed 7 --delta 1e-6
must 1 aggregate "${files[@]}" --dataset set.h5 --dtype float32 --method pate-lnmax --noise 0.3 --seed 8 --delta 1e-6 --output lnmax-1.h5
check 'pate: the mark does not know the seed, and says so' grep -q 'lnmax-1.h5: already done from the same inputs, whatever the seed; --force' err
cp lnmax-1.h5 lnmax-8.h5
must 1 aggregate "${files[@]}" --dataset set.h5 --dtype float32 --method pate-lnmax --noise 0.3 --seed 8 --delta 1e-6 --output lnmax-8.h5 --force --quiet
differ 'pate: another seed, other noise' lnmax-1.h5 lnmax-8.h5
combine gnmax --method pate-gnmax --sigma1 0.5 --sigma2 0.3 --threshold 2.5 --seed 7

python_check 'what is stored is the formula' <<'END'
import h5py, json, numpy as np, checks
from checks import log_softmax
z = np.stack([checks.logits(f).astype(float) for f in ("other/t1.h5", "other/t2.h5", "other/t3.h5", "noise.h5")])
y = checks.labels("set.h5", "other")
known = y >= 0
k, n, classes = z.shape


def stored(name):
    return checks.logits(name + "-1.h5").astype(float)


def attribute(name, key):
    with h5py.File(name + "-1.h5", "r") as f:
        return f.attrs[key]


def report(name):
    with open(name + "-1.json") as f:
        return json.load(f)


def mix(w, t, temperatures=np.ones(4)):
    """w: [K], [K, n] or [K, 1, C]."""
    w = np.asarray(w, float)
    w = w.reshape(w.shape + (1,) * (3 - w.ndim))
    with np.errstate(divide="ignore"):
        return t * np.log(sum(w[i] * np.exp(log_softmax(z[i] / temperatures[i], t)) for i in range(k)))


def same(got, wanted, name, tolerance=1e-5):
    """As distributions: constants in a row do not matter for weights by class."""
    checks.close(log_softmax(got), log_softmax(wanted), tolerance, name)


def by_row(x):
    w = 1 - x / x.sum(0)
    return w / w.sum(0)


same(stored("probability-mean"), mix([0.4, 0.3, 0.2, 0.1], 3), "probability-mean")
checks.close(stored("logit-mean"), z.mean(0), 1e-5, "logit-mean")
h = np.stack([-(np.exp(log_softmax(a, 2)) * log_softmax(a, 2)).sum(1) for a in z])
same(stored("entropy"), mix(by_row(h), 2), "entropy")
ce = np.stack([-log_softmax(a)[np.arange(n), np.maximum(y, 0)] for a in z])
same(stored("confidence"), mix(np.where(known, by_row(np.exp(ce - ce.max(0))), 0.25), 2), "confidence")
votes = np.eye(classes)[z.argmax(2)].mean(0)
voted = 2 * np.log(np.maximum(votes, 1e-7))
checks.close(stored("vote"), voted - voted.max(1, keepdims=True), 1e-5, "vote")
for name in "probability-mean", "entropy", "confidence", "vote", "learned", "per-class":
    assert (stored(name).max(1) == 0).all(), name
assert attribute("vote", "floor") == 1e-7

# ---- one of the teachers a row, never the one of weight 0 ----
who = np.array([[np.abs(stored("random")[i] - z[j, i]).max() < 1e-6 for j in range(k)] for i in range(n)])
assert who.sum(1).all() and not who[:, 3].any()
assert (abs(who[:, :3].sum(0) - n / 3) < 4 * np.sqrt(n * 2 / 9)).all(), who.sum(0)


# ---- temperatures: the least NLL of each teacher, found here by trying ----
def calibration(a):
    grid, best = np.logspace(np.log10(1 / 16), np.log10(16), 200), None
    for _ in range(6):
        nll = [-log_softmax(a[known], t)[np.arange(known.sum()), y[known]].mean() for t in grid]
        best = grid[np.argmin(nll)]
        grid = np.linspace(best * 0.97, best * 1.03, 101) if _ == 0 else np.linspace(best - (grid[1] - grid[0]), best + (grid[1] - grid[0]), 101)
    return min(best, 16)


temperatures = np.array([calibration(a) for a in z])
for name in "calibrated", "learned", "per-class":
    checks.close(attribute(name, "calibration"), temperatures, 1e-3, "temperatures of " + name)
    checks.close([t["calibration"] for t in report(name)["teachers"]], temperatures, 1e-3, "temperatures reported")
    assert report(name)["fit_rows"] == known.sum()
same(stored("calibrated"), mix(np.full(4, 0.25), 3, attribute("calibrated", "calibration")), "calibrated")

# ---- weights: those of the least NLL, and nothing for noise ----
p = np.exp(np.stack([log_softmax(z[i] / temperatures[i]) for i in range(k)]))
own = p[:, known][:, np.arange(known.sum()), y[known]]
w = np.full(k, 1 / k)
for _ in range(20000):
    w = w * (own / (w @ own)).mean(1)
found = attribute("learned", "weights")
checks.close(found, w, 0.02, "weights")
checks.close(-np.log(found @ own).mean(), -np.log(w @ own).mean(), 1e-4, "NLL of the weights")
checks.close(report("learned")["fit_nll"], -np.log(w @ own).mean(), 1e-3, "NLL reported")
for name in "learned", "drawn":
    weights = attribute(name, "weights")
    assert abs(weights.sum() - 1) < 1e-12 and weights[3] < 0.01, weights
same(stored("learned"), mix(found, 2, attribute("learned", "calibration")), "learned")
assert 0.15 * known.sum() < report("drawn")["fit_rows"] < 0.45 * known.sum()
assert report("learned")["ensemble"]["nll"] < report("probability-mean")["ensemble"]["nll"]

with h5py.File("per-class-1.h5", "r") as f:
    by_class = f["weights"][...]
assert by_class.shape == (k, classes) and by_class.min() >= 0 and abs(by_class.sum(0) - 1).max() < 1e-9
assert by_class[3].max() < 0.01, by_class[3]
checks.close([t["class_weights"] for t in report("per-class")["teachers"]], by_class, 1e-9, "weights by class reported")
same(stored("per-class"), mix(by_class[:, None, :], 2, attribute("per-class", "calibration")), "per-class")
assert report("per-class")["fit_nll"] < report("learned")["fit_nll"]

# ---- PATE ----
for name in "lnmax", "gnmax":
    r = report(name)
    checks.close([r["epsilon"], r["delta"]], [attribute(name, "epsilon"), attribute(name, "delta")], 1e-6, "epsilon and delta reported")
orders = 1 + np.logspace(-6, 6, 1_000_001)
least = lambda divergence, delta: np.min(divergence + np.log(1 / delta) / (orders - 1))
checks.close(attribute("lnmax", "epsilon"), least(n * np.minimum(2 / 0.3, 2 * orders / 0.3**2), 1e-6), 1e-4, "epsilon of lnmax")
with h5py.File("gnmax-1.h5", "r") as f:
    answered = f["answered"][...]
assert report("gnmax")["answered"] == answered.sum() and 0 < answered.sum() < n
checks.close(attribute("gnmax", "epsilon"), least(orders * (n / (2 * 0.5**2) + answered.sum() / 0.3**2), 1e-5), 1e-4, "epsilon of gnmax")
lead = np.sort(votes, 1)[:, -1] * k
assert answered[lead == 4].mean() > 0.95 > answered[lead == 2].mean()
for name, rows in (("lnmax", np.full(n, True)), ("gnmax", answered == 1)):
    a = stored(name)[rows]
    assert set(np.round(np.unique(a), 3)) == {0, np.round(np.log(1e-7), 3)} and ((a == 0).sum(1) == 1).all()
    agree = (a.argmax(1) == votes[rows].argmax(1))
    assert agree[lead[rows] == 4].mean() > 0.99, agree.mean()
assert (stored("gnmax")[answered == 0] == 0).all()
END

# ---- files of other rows to find weights from ----
must 2 aggregate bare/t1.h5 bare/t2.h5 bare/t3.h5 noise-bare.h5 --dataset set.h5 --method learned --temperature 2 --dtype float32 --json --quiet \
  --fit other/t1.h5 --fit other/t2.h5 --fit other/t3.h5 --fit noise.h5 --output fitted.h5
python_check 'weights from --fit files are those of their rows' <<'END'
import h5py, numpy as np
with h5py.File("fitted.h5", "r") as a, h5py.File("learned-1.h5", "r") as b:
    for key in "weights", "calibration":
        assert np.array_equal(a.attrs[key], b.attrs[key]), key
    assert np.array_equal(a["logits"], b["logits"])  # the same images
END

# ---- rows without an answer ----
must 0 create mlp --layers 64,16,10 --seed 5 --output student.onnx
for ranks in 1 4; do
  must "$ranks" distill --student student.onnx --dataset set.h5 --split other --soft-labels gnmax-1.h5 --temperature 1 --epochs 2 --batch 100 \
    --loss kd:1 --log "taught-$ranks.jsonl" --quiet --output "taught-$ranks.onnx"
done
same 'distill on what PATE answered' taught-1.onnx taught-4.onnx
must 1 teach --dataset set.h5 --split other --teacher student.onnx --dtype float32 --output own
must 1 distill --student student.onnx --dataset set.h5 --split other --soft-labels gnmax-1.h5 --temperature 1 --epochs 1 --batch 637 \
  --learning-rate 0 --loss kd:1 --log still.jsonl --quiet --output still.onnx
python_check 'rows without an answer have no loss' <<'END'
import h5py, numpy as np, checks
with h5py.File("gnmax-1.h5", "r") as f:
    t, answered = f["logits"][...], f["answered"][...] == 1
loss = np.where(answered, checks.kd(t, checks.logits("own/student.h5"), 1), 0).mean()
checks.close(checks.events("still.jsonl")[0]["loss"]["kd"], loss, 1e-5, "kd")
END
must 1 inspect gnmax-1.h5 --verify
must 2 aggregate gnmax-1.h5 other/t1.h5 --method probability-mean --dtype float32 --quiet --output again.h5
python_check 'an ensemble of a file with rows without an answer has them too' <<'END'
import h5py, numpy as np
with h5py.File("gnmax-1.h5", "r") as a, h5py.File("again.h5", "r") as b:
    assert np.array_equal(a["answered"], b["answered"])
END

# ---- on the fly in distill ----
for method in entropy vote random; do
  for ranks in 1 4; do
    must "$ranks" distill --student student.onnx --dataset set.h5 --split other --soft-labels other/t1.h5 --soft-labels other/t2.h5 --method "$method" \
      --seed 9 --epochs 2 --batch 100 --quiet --output "fly-$method-$ranks.onnx"
  done
  same "distill --method $method on 4 ranks" "fly-$method-1.onnx" "fly-$method-4.onnx"
done
must 2 aggregate other/t1.h5 other/t2.h5 --method random --seed 9 --dtype float32 --quiet --output lot.h5
must 2 distill --student student.onnx --dataset set.h5 --split other --soft-labels lot.h5 --seed 9 --epochs 2 --batch 100 --quiet --output lot.onnx
same 'drawn on the fly or before, the same teachers' lot.onnx fly-random-1.onnx

# ---- float16 keeps what a high temperature leaves of many classes ----
"$python" - <<'END' || exit 1
import checks, numpy as np
rng = np.random.default_rng(8)
checks.write_dataset("many.h5", {"train": {"x": np.zeros((200, 1), np.float32)}})
for name in "a", "b":
    checks.write_soft_labels(f"many-{name}.h5", rng.normal(size=(200, 1000)), "many.h5", "train", dtype=np.float32)
END
must 2 aggregate many-a.h5 many-b.h5 --temperature 100 --quiet --output many-mean.h5
must 2 aggregate many-a.h5 --method probability-mean --temperature 100 --dtype float32 --quiet --output many-one.h5
python_check 'at T = 100 with 1000 classes the rounding is a thousandth of what logits differ by; one teacher stays as it is' <<'END'
import checks, h5py, numpy as np
z = [checks.logits(f"many-{name}.h5") for name in "ab"]
with h5py.File("many-mean.h5", "r") as f:
    assert f["logits"].dtype == np.float16
rounding = checks.logits("many-mean.h5") - checks.combine(z, (1, 1), 100, "probability-mean")
assert np.sqrt((rounding**2).mean()) < 1e-3, np.sqrt((rounding**2).mean())
assert np.array_equal(checks.logits("many-one.h5"), z[0])
END

# ---- what cannot be ----
# refused NAME TEXT OPTIONS...: aggregate refuses them with that text.
refused() {
  run 2 aggregate "${files[@]}" --quiet --output refused.h5 "${@:3}"
  expect_error "$1" 2 "$2"
}
refused 'learned without labels' 'learned needs labels; give --dataset FILE' --method learned
refused 'confidence without labels' 'confidence needs labels; give --dataset FILE' --method confidence
refused 'noise that is not given' "method 'pate-lnmax' needs --noise" --method pate-lnmax
refused 'a threshold that is not given' "method 'pate-gnmax' needs --sigma1, --sigma2 and --threshold" --method pate-gnmax --sigma1 1 --sigma2 1
refused 'noise that all can make again' "method 'pate-lnmax' needs a seed that nobody else knows, not 0" --method pate-lnmax --noise 1
refused 'the same of the other kind' "method 'pate-gnmax' needs a seed" --method pate-gnmax --sigma1 1 --sigma2 1 --threshold 2 --seed 0
run 2 aggregate other/t1.h5 other/t2.h5 other/t1.h5 --method pate-lnmax --noise 1 --seed 5 --quiet --output refused.h5
expect_error 'a second vote of one teacher' 2 'other/t1.h5: is of the same model as other/t1.h5' epsilon
refused 'noise of another method' "--noise: not an option of method 'vote'" --method vote --noise 1
refused 'weights that are found' "--weights: not an option of method 'learned'" --method learned --dataset set.h5 --weights 1,1,1,1
refused 'rows for nothing' 'nothing is found from labelled rows' --held-out 0.5
refused 'too few files' 'fit: 1 files given for 4 soft-label files' --method learned --dataset set.h5 --fit noise.h5
refused 'files in another order' 'is of another teacher than other/t1.h5' --method learned --dataset set.h5 --fit other/t2.h5 --fit other/t1.h5 \
  --fit other/t3.h5 --fit noise.h5
run 1 aggregate bare/t1.h5 bare/t2.h5 --dataset set.h5 --method confidence --output refused.h5
expect_error 'rows without labels' 2 "method 'confidence' needs labels, and the rows of bare/t1.h5 have none"
run 1 aggregate bare/t1.h5 bare/t2.h5 --dataset set.h5 --method learned --output refused.h5
expect_error 'no labelled row to find weights from' 2 "0 rows of split 'bare' have a label" '--fit'
run 1 distill --student student.onnx --dataset set.h5 --split other --soft-labels other/t1.h5 --soft-labels other/t2.h5 --method learned --output refused.onnx
expect_error 'learned in distill' 2 "method 'learned' is one of aggregate"

# ---- a recipe: weights found on rows of their own ----
cat >recipe.yaml <<'END'
dataset: set.h5
output: run
seed: 2
teachers:
  - {name: t1, model: t1.onnx}
  - {name: t3, model: t3.onnx}
aggregate: {method: learned, per_class: true, fit_split: other}
student: {model: student.onnx}
distill: {epochs: 2, batch: 100}
END
for ranks in 1 2; do must "$ranks" run recipe.yaml --set output="$work/run-$ranks" --json && mv out "run-$ranks.json"; done
same 'a recipe with learned weights on 2 ranks' run-1/ensemble.h5 run-2/ensemble.h5
python_check 'the table tests the weights that were found' <<'END'
import h5py, json, numpy as np, checks
z = [checks.logits(f"run-1/soft/test/{t}.h5").astype(float) for t in ("t1", "t3")]
with h5py.File("run-1/ensemble.h5", "r") as f:
    w, t = f["weights"][...], f.attrs["calibration"]
mixed = np.log(sum(w[i] * np.exp(checks.log_softmax(z[i], t[i])) for i in range(2)))
want = checks.metrics(mixed, checks.labels("set.h5", "test"))
got = next(m for m in json.load(open("run-1.json"))["models"] if m["kind"] == "ensemble")
assert got["errors"] == want["errors"]
checks.close(got["nll"], want["nll"], 1e-4, "nll")
END
run 1 run recipe.yaml --set aggregate.fit_split=test
expect_error 'weights found on the test split' 2 'fit_split: is distill.test_split'

# ---- teachers that fit the task badly ----
# Rows of 4 classes, 5 % of them 'rare'. good knows it all but 'rare'; flat says the frequencies; prior says all is even; turned has the classes
# in another order; noise knows nothing.
"$python" - <<'END' || exit 1
import checks, numpy as np
r = np.random.default_rng(8)
y = r.choice(4, 1200, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32)
checks.write_dataset("skewed.h5", {"train": {"x": r.normal(size=(1200, 2)).astype(np.float32), "label": y}}, classes=["most", "some", "few", "rare"])
share = np.bincount(y, minlength=4) / len(y)
good = np.eye(4)[np.where(y == 3, 0, y)] * 4
teachers = {"good": good, "flat": np.log(share) + 1e-3 * r.normal(size=(1200, 4)), "even": 1e-3 * r.normal(size=(1200, 4)), "turned": good[:, [1, 2, 3, 0]],
            "noise": 2 * r.normal(size=(1200, 4)), "other": 2 * r.normal(size=(1200, 4))}
for name, z in teachers.items():
    checks.write_soft_labels(name + ".h5", z, "skewed.h5", "train", dtype=np.float32)
END
warned() { # RANKS FILES...: the warnings of an aggregate
  must "$1" aggregate "${@:2}" --dataset skewed.h5 --quiet --output of-"$1".h5 --force
  grep '^mpistill: warning: ' err | sort >warnings
}
warned 2 good.h5
check "a class that no teacher has right is named, once" test "$(grep -c "no teacher has a single labelled row right of class 'rare'" warnings) $(wc -l <warnings)" = '1 1'
warned 2 good.h5 flat.h5
check 'who says the frequencies is not worse than they are' test "$(grep -c worse warnings)" = 0
warned 1 good.h5 even.h5 noise.h5 other.h5
cp warnings one
warned 4 good.h5 even.h5 noise.h5 other.h5
same 'the same warnings on 4 ranks' one warnings
check 'an even guess is worse than the frequencies' grep -q "teacher 'even.h5' is worse than guessing by the frequencies" warnings
check 'so is noise' grep -q "teacher 'noise.h5' is worse than guessing" warnings
check 'two of noise agree by chance' grep -q "teachers 'noise.h5' and 'other.h5' agree in" warnings
check 'a good one is not warned of' test "$(grep -c "teacher 'good.h5'" warnings)" = 0
warned 2 good.h5 turned.h5
check 'classes in another order agree less than by chance' grep -q "teachers 'good.h5' and 'turned.h5' agree in" warnings
check 'the table has the calibration error' grep -q 'nll  *ece  *agreement' out

# ---- teachers whose temperature is not to be found ----
# huge and tiny know as much as fair, by other numbers; perfect makes no error; level, all of whose logits are equal, is the same at any
# temperature.
"$python" - <<'END' || exit 1
import checks, numpy as np
r = np.random.default_rng(9)
y = checks.labels("skewed.h5", "train")
fair = 2 * np.eye(4)[y] + r.normal(size=(1200, 4))
for name, z in {"huge": 1000 * fair, "tiny": 1e-3 * fair, "perfect": 5 * np.eye(4)[y], "level": np.ones((1200, 4)), "fair": fair}.items():
    checks.write_soft_labels(name + ".h5", z, "skewed.h5", "train", dtype=np.float32)
END
calibrated() { # RANKS
  must "$1" aggregate huge.h5 tiny.h5 perfect.h5 level.h5 fair.h5 noise.h5 other.h5 --calibrate --dataset skewed.h5 --quiet --force --output limits.h5
  grep -E 'below 1/16, the least|above 16, the highest' err | sort >"limits$1"
}
for ranks in 1 4; do calibrated $ranks; done
same 'temperatures at their bounds: the same warnings on 4 ranks' limits1 limits4
for name in perfect tiny; do
  check "$name: a temperature as low as can be" grep -q "teacher '$name.h5' has a temperature below .* makes no error on the labelled rows .* or its logits are all but equal" limits1
done
for name in huge noise other; do
  check "$name: a temperature as high as can be" grep -q "teacher '$name.h5' has a temperature above .* nothing to do with the labels .* or are very large" limits1
done
check 'of one whose temperature is found nothing is said' test "$(wc -l <limits1)" = 5
finish
