#!/bin/bash
# Outputs of several positions: pixels [n, C, H, W] and frames within lengths, classes second or last; labels, ensembles, students and
# metrics are those of each position.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
"$python" - "$digits" <<'END' || exit 1
import sys, h5py, numpy as np, checks, heads
random = np.random.default_rng(3)
with h5py.File(sys.argv[1]) as f:
    images = {"train": f["train/image"][:400], "test": f["test/image"][:150]}
pixels, sound = {}, {}
for split, x in images.items():
    x = x.reshape(-1, 1, 8, 8)
    around = sum(np.roll(x.astype(int), (i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1))[:, 0]
    y = np.digitize(around, [20, 70]).astype("i4")  # 0: paper, 1: edge, 2: ink
    y[random.random(y.shape) < 0.1] = -1
    pixels[split] = {"image": x, "label": y}
    n, steps = len(x), 9
    tones = random.integers(0, 3, (n, steps))
    wave = np.stack([np.cos(tones * (i + 1)) for i in range(4)], 2) + 0.5 * random.standard_normal((n, steps, 4))
    sound[split] = {"sound": wave.astype("f4"), "label": tones.astype("i4"), "sound.length": random.integers(1, steps + 1, n).astype("i4")}
checks.write_dataset("pixels.h5", pixels, scale={"image": (1 / 16, 0)}, classes=["paper", "edge", "ink"])
checks.write_dataset("sound.h5", sound)
bad = {s: dict(a) for s, a in sound.items()}
bad["train"]["sound.length"] = bad["train"]["sound.length"] + 9
checks.write_dataset("long.h5", bad)
heads.pixels("fresh-a.onnx", 1, 16, 3, 8, 1)
heads.pixels("fresh-b.onnx", 1, 12, 3, 8, 2)
heads.pixels("student.onnx", 1, 3, 3, 8, 3)
heads.heads("flat.onnx", "image", [1, 8, 8], 4, {"logits": 3}, 5)
scenes = {}
for split, n in (("train", 300), ("test", 100)):
    x = random.standard_normal((n, 6)).astype("f4")
    around = x @ np.random.default_rng(9).standard_normal((6, 20))
    kind = around.reshape(n, 5, 4)[..., :3].argmax(2).astype("i4")  # 0: background
    box = np.tanh(around.reshape(n, 5, 4)).astype("f4")
    box[kind == 0] = np.nan
    scenes[split] = {"image": x, "label.class": kind, "target.box": box}
checks.write_dataset("scenes.h5", scenes)
heads.anchors("fresh-scene.onnx", 6, 32, 5, 3, 6)
heads.anchors("student-scene.onnx", 6, 12, 5, 3, 7)
heads.frames("fresh-last.onnx", 9, 4, 16, 3, 4, True)
heads.frames("fresh-first.onnx", 9, 4, 16, 3, 4, False)
END

# ---- pixels ----
for t in a b; do
  must 2 train --model fresh-$t.onnx --dataset pixels.h5 --epochs 6 --batch 40 --learning-rate 0.1 --quiet --output $t.onnx
done
for ranks in 1 2 4; do
  must "$ranks" teach --dataset pixels.h5 --teacher a.onnx --teacher b.onnx --quiet --output "soft$ranks"
  must "$ranks" aggregate "soft$ranks/a.h5" "soft$ranks/b.h5" --dataset pixels.h5 --temperature 2 --json --quiet --output "e$ranks.h5"
  cp out "e$ranks.json"
  must "$ranks" distill --student student.onnx --dataset pixels.h5 --soft-labels "e$ranks.h5" --loss kd:0.8:temperature=2 --loss cross-entropy:0.2 \
    --epochs 3 --batch 50 --shards 5 --quiet --output "d$ranks.onnx"
  [ "$ranks" = 1 ] || same "labels on $ranks ranks" soft1/a.h5 "soft$ranks/a.h5"
  [ "$ranks" = 1 ] || same "an ensemble on $ranks ranks" e1.h5 "e$ranks.h5"
  [ "$ranks" = 1 ] || same "a student on $ranks ranks" d1.onnx "d$ranks.onnx"
done
must 3 distill --student student.onnx --dataset pixels.h5 --soft-labels soft1/a.h5 --soft-labels soft1/b.h5 --loss kd:0.8:temperature=2 \
  --loss cross-entropy:0.2 --epochs 3 --batch 50 --shards 5 --quiet --output together.onnx
must 3 distill --student student.onnx --dataset pixels.h5 --live-teacher a=a.onnx --live-teacher b=b.onnx --loss kd:0.8:temperature=2 \
  --loss cross-entropy:0.2 --epochs 3 --batch 50 --shards 5 --quiet --output live.onnx
same 'live teachers of pixels make the student that stored labels make' together.onnx live.onnx
for method in logit-mean entropy confidence vote random; do
  must 2 aggregate soft1/a.h5 soft1/b.h5 --dataset pixels.h5 --method $method --dtype float32 --quiet --output $method.h5
done
must 2 teach --dataset pixels.h5 --teacher a.onnx --top-k 2 --quiet --output top
must 2 distill --student student.onnx --dataset pixels.h5 --soft-labels top/a.h5 --epochs 1 --quiet --output top.onnx
must 2 evaluate --model d1.onnx --dataset pixels.h5 --json --quiet
cp out d1.json
python_check 'labels, ensembles and metrics are those of numpy at each pixel' <<'END'
import json, h5py, numpy as np, onnx, torch
from onnx import numpy_helper
def run(path, x):
    w = {t.name: torch.tensor(numpy_helper.to_array(t)).double() for t in onnx.load(path).graph.initializer}
    return torch.conv2d(torch.relu(torch.conv2d(x, w["w1"], w["b1"], padding=1)), w["w2"], w["b2"]).numpy()
with h5py.File("pixels.h5") as f:
    x, y = {}, {}
    for s in ("train", "test"):
        x[s], y[s] = torch.tensor(f[s + "/image"][...] / 16.0), f[s + "/label"][...]
read = lambda path: h5py.File(path)["logits"][...].astype(float)
softmax = lambda z: np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
a, b = read("soft1/a.h5"), read("soft1/b.h5")
assert a.shape == (400, 3, 8, 8) and abs(a - run("a.onnx", x["train"])).max() < 0.02
assert abs(softmax(read("e1.h5") / 2) - (softmax(a / 2) + softmax(b / 2)) / 2).max() < 2e-3
assert abs(read("logit-mean.h5") - (a + b) / 2).max() < 1e-5
entropy = [-(softmax(z) * np.log(softmax(z))).sum(1) for z in (a, b)]
w = [1 - e / (entropy[0] + entropy[1]) for e in entropy]
assert abs(softmax(read("entropy.h5")) - sum(v[:, None] * softmax(z) for v, z in zip(w, (a, b)))).max() < 1e-5
lot = read("random.h5")
for i in range(400):
    assert any(abs(lot[i] - z[i]).max() < 1e-5 for z in (a, b)), "one teacher for all of a row"
with h5py.File("top/a.h5") as f:
    assert f["topk/index"].shape == (400, 8, 8, 2) and f["topk/rest"].shape == (400, 8, 8)
    assert (f["topk/index"][..., 0] == a.argmax(1)).mean() > 0.99
def metrics(z, y):
    known, best = y >= 0, z.argmax(1)
    p = softmax(z).transpose(0, 2, 3, 1)[known]
    iou = [((best == c) & (y == c))[known].sum() / ((best == c) | (y == c))[known].sum() for c in range(3)]
    return {"samples": known.sum(), "accuracy": (best == y)[known].mean(), "nll": -np.log(p[np.arange(len(p)), y[known]]).mean(), "mean_iou": np.mean(iou)}
def near(found, wanted, bound):
    for key, value in wanted.items():
        assert abs(found[key] - value) <= bound * max(1, value), (key, found[key], value)
near(json.load(open("d1.json")), metrics(run("d1.onnx", x["test"]), y["test"]), 1e-5)
e = json.load(open("e1.json"))
near(e["teachers"][0], metrics(a, y["train"]), 1e-4)
assert abs(e["agreement"][0][1] - (a.argmax(1) == b.argmax(1)).mean()) < 1e-3
END

# ---- frames ----
last=(--task 'tone:output=logits:labels=label:class_axis=last')
must 2 train --model fresh-last.onnx --dataset sound.h5 "${last[@]}" --epochs 4 --batch 40 --quiet --output last.onnx
must 2 train --model fresh-first.onnx --dataset sound.h5 --epochs 4 --batch 40 --quiet --output first.onnx
must 2 teach --dataset sound.h5 --teacher last=last.onnx:class_axis=last --dtype float32 --quiet --output frames
must 1 evaluate --model last.onnx --dataset sound.h5 "${last[@]}" --json --quiet
cp out last.json
for ranks in 1 2 4; do
  must "$ranks" distill --student fresh-last.onnx --dataset sound.h5 "${last[@]}" --soft-labels tone=frames/last.h5 --epochs 2 --batch 40 --shards 4 \
    --quiet --output "f$ranks.onnx"
  [ "$ranks" = 1 ] || same "a student of frames on $ranks ranks" f1.onnx "f$ranks.onnx"
done
must 1 distill --student fresh-first.onnx --dataset sound.h5 --soft-labels frames/last.h5 --epochs 2 --batch 40 --shards 4 --quiet --output f-first.onnx
python_check 'classes second or last make the same student; what lies past the length counts nowhere' <<'END'
import json, h5py, numpy as np, onnx
from onnx import numpy_helper
weights = lambda path: {t.name: numpy_helper.to_array(t).astype(float) for t in onnx.load(path).graph.initializer}
for a, b in (("last.onnx", "first.onnx"), ("f1.onnx", "f-first.onnx")):
    a, b = weights(a), weights(b)
    for name in ("w1", "w2"):
        assert np.linalg.norm(a[name] - b[name]) < 1e-3 * np.linalg.norm(a[name]), (name, a[name] - b[name])
w = weights("last.onnx")
run = lambda x: np.maximum(x @ w["w1"], 0) @ w["w2"]
with h5py.File("sound.h5") as f, h5py.File("frames/last.h5") as g:
    assert abs(g["logits"][...].transpose(0, 2, 1) - run(f["train/sound"][...])).max() < 1e-4
    z, y, n = run(f["test/sound"][...]), f["test/label"][...], f["test/sound.length"][...]
inside = np.arange(9)[None] < n[:, None]
found = json.load(open("last.json"))
assert found["samples"] == inside.sum() and found["errors"] == (z.argmax(2) != y)[inside].sum(), found
END

# ---- a recipe ----
for ranks in 1 3; do
  cat >recipe.yaml <<END
dataset: pixels.h5
output: run$ranks
teachers: [{name: a, model: a.onnx}, {name: b, model: b.onnx}]
student: {model: student.onnx}
baseline: true
distill: {losses: [{kind: kd, weight: 0.8, temperature: 2}, {kind: cross-entropy, weight: 0.2}], epochs: 3, batch: 50, shards: 5}
END
  must "$ranks" run recipe.yaml --quiet
done
same 'run: the ensemble that the commands make' e1.h5 run1/ensemble.h5
same 'run: the student that the commands make' d1.onnx run1/student.onnx
same 'run: on 3 ranks' run1/student.onnx run3/student.onnx
check 'run: the table has the mean IoU' grep -q 'mean iou' out
must 2 run recipe.yaml --set output=asked --set teach=live --quiet
check 'run: of an ensemble that was never made nothing is shown' grep -q -E '^ensemble +[0-9]+ +[0-9]+ +- +- +- +[0-9.]+ us$' out
python_check 'run: nor told in result.json' <<'END'
import json
models = {m["name"]: m for m in json.load(open("asked/result.json"))["models"]}
assert "mean_iou" in models["a"] and "mean_iou" in models["student"]
assert set(models["ensemble"]) == {"name", "kind", "parameters", "bytes", "latency_s"}, models["ensemble"]
END
for teach in live '{views: 2}'; do
  run 2 run recipe.yaml --set output=never --set teach="$teach" --set distill.augment='[{kind: cutmix}]' --quiet
  expect_error "run: pixels of two images, teach: $teach" 2 "augment 'cutmix': is for outputs of one position a row"
  check "run: pixels of two images, teach: $teach: before anything is made" test ! -e never
done

# ---- the raw head of a detector: classes and boxes of anchors, teachers' answers on the foreground ----
must 2 train --model fresh-scene.onnx --dataset scenes.h5 --task class:class_axis=last --task box --epochs 20 --batch 30 --learning-rate 0.05 \
  --quiet --output scene.onnx
for ranks in 1 4; do
  cat >recipe.yaml <<END
dataset: scenes.h5
output: scene$ranks
teachers: [{name: c, model: scene.onnx, task: class}, {name: b, model: scene.onnx, task: box}]
student: {model: student-scene.onnx}
distill:
  tasks:
    - {name: class, class_axis: last, mask: label.class, losses: [{kind: kd, weight: 0.5, temperature: 2}, {kind: cross-entropy, weight: 0.5}]}
    - {name: box, mask: label.class, losses: [{kind: soft-smooth-l1, weight: 0.5}, {kind: smooth-l1, weight: 1}]}
  epochs: 10
  batch: 30
  shards: 3
END
  must "$ranks" run recipe.yaml --quiet
  [ "$ranks" = 1 ] || same "a detector's student on $ranks ranks" scene1/student.onnx "scene$ranks/student.onnx"
done
python_check 'a detector learns classes and boxes' <<'END'
import json, h5py
models = {m["name"]: m["tasks"] for m in json.load(open("scene1/result.json"))["models"]}
assert models["student"]["box"]["r2"] > 0.3 and models["student"]["class"]["accuracy"] > 0.6 and models["c"]["class"]["mean_iou"] > 0.3, models
with h5py.File("scenes.h5") as f, h5py.File("scene1/soft/b.h5") as g, h5py.File("scene1/soft/c.h5") as h:
    assert models["student"]["box"]["samples"] == (f["test/label.class"][...] > 0).sum() * 4
    assert g["logits"].shape == (300, 5, 4) and g.attrs["values"] == 1 and h["logits"].shape == (300, 3, 5)
END
sed 's/box, mask: label.class/box, mask: label.clas/' recipe.yaml >bad.yaml
run 1 run bad.yaml --set output=refused-scene --quiet
expect_error 'a mask that is not there' 2 "no array 'label.clas' of labels for a mask"

# ---- weights and temperatures of pixels ----
must 2 teach --dataset pixels.h5 --teacher a.onnx --teacher b.onnx --dtype float32 --quiet --output exact
"$python" - <<'END' || exit 1
import h5py, numpy as np, checks
with h5py.File("exact/a.h5") as f:
    shape = f["logits"].shape
checks.write_soft_labels("noise.h5", np.random.default_rng(2).normal(size=shape) * 3, "pixels.h5", "train", dtype=np.float32)
END
for ranks in 1 4; do
  must "$ranks" aggregate exact/a.h5 exact/b.h5 noise.h5 --dataset pixels.h5 --method learned --held-out 1 --temperature 2 --dtype float32 --quiet \
    --output "learned$ranks.h5"
  [ "$ranks" = 1 ] || same "learned weights of pixels on $ranks ranks" learned1.h5 "learned$ranks.h5"
done
must 2 aggregate exact/a.h5 noise.h5 --dataset pixels.h5 --calibrate --held-out 0.3 --dtype float32 --quiet --output calibrated.h5
python_check 'weights and temperatures are those of the least NLL of the pixels' <<'END'
import h5py, numpy as np, checks
z = np.stack([checks.logits(f).astype(float).transpose(0, 2, 3, 1).reshape(-1, 3) for f in ("exact/a.h5", "exact/b.h5", "noise.h5")])
y = checks.labels("pixels.h5", "train").reshape(-1)
z, y = z[:, y >= 0], y[y >= 0]
at = np.arange(len(y))
nll = lambda a, t: -checks.log_softmax(a, t)[at, y].mean()
with h5py.File("learned1.h5") as f:
    w, t = f.attrs["weights"], f.attrs["calibration"]
for k in range(2):
    assert nll(z[k], t[k]) <= min(nll(z[k], t[k] * 1.01), nll(z[k], t[k] / 1.01)), (k, t)
own = np.exp(np.stack([checks.log_softmax(z[k] / t[k])[at, y] for k in range(3)]))
best = np.full(3, 1 / 3)
for _ in range(3000):
    best = best * (own / (best @ own)).mean(1)
checks.close(w, best, 0.02, "weights")
checks.close(-np.log(w @ own).mean(), -np.log(best @ own).mean(), 1e-4, "NLL")
assert w[2] < 0.01, w
with h5py.File("calibrated.h5") as f:
    checks.close(f.attrs["calibration"][0], t[0], 0.15, "a temperature from 30 % of the pixels")
END

# ---- images that are changed: their labels move with them ----
# The label of a pixel is what its value says, and a pixel that comes in has none: value 0 means no label. `reads` says the label of a value for
# sure, `even` says nothing, so its loss is log 4 where means are over the labels there are.
"$python" - <<'END' || exit 1
import numpy as np, checks, heads
random = np.random.default_rng(6)
x = random.integers(0, 5, (150, 1, 6, 9)).astype("f4")
y = x[:, 0].astype("i4") - 1
checks.write_dataset("map.h5", {"train": {"image": x, "label": y, "target": np.where(x > 0, x, np.nan).astype("f4")}})
checks.write_dataset("coarse.h5", {"train": {"image": x[:, :, :, :8].repeat(2, 2)[:, :, :8], "label": y[:, :4, :4]}})
c = np.arange(1, 5.0)
def conv(name, w, b, stride=1):
    node = heads.helper.make_node("Conv", ["image", "w", "b"], ["out"], strides=[stride] * 2, kernel_shape=[1, 1])
    heads.save(name, [node], {"image": [1, 6, 9] if stride == 1 else [1, 8, 8]}, {"out": [len(b), 6, 9] if stride == 1 else [len(b), 4, 4]},
               {"w": np.reshape(w, (-1, 1, 1, 1)), "b": np.asarray(b)})
conv("reads.onnx", 40 * c, -20 * c**2)
conv("even.onnx", 0 * c, 0 * c)
conv("same.onnx", [1.0], [0.0])
conv("coarse.onnx", 40 * c, -20 * c**2, 2)
END
moves=(--augment shift:pixels=2 --augment flip --augment crop:padding=2:reflect=true --augment crop:padding=1)
still=(--dataset map.h5 "${moves[@]}" --learning-rate 0 --epochs 3 --batch 40 --quiet)
must 2 train --model reads.onnx "${still[@]}" --loss cross-entropy:1 --log reads.jsonl --output reads-on.onnx
must 3 train --model even.onnx "${still[@]}" --loss cross-entropy:1 --log even.jsonl --output even-on.onnx
must 2 train --model same.onnx "${still[@]}" --task out:labels=target --loss out/mse:1 --log same.jsonl --output same-on.onnx
must 1 train --model reads.onnx --dataset map.h5 --augment noise:deviation=1e-6 --learning-rate 0 --epochs 1 --loss cross-entropy:1 --quiet --log noise.jsonl \
  --output noise-on.onnx
python_check 'labels of pixels lie where the pixels are' <<'END'
import checks, numpy as np
losses = lambda name: [line["loss"]["total"] for line in checks.events(name + ".jsonl") if line["event"] == "epoch"]
assert len(losses("reads")) == 3 and max(losses("reads") + losses("noise")) < 1e-6, losses("reads")
assert len(losses("same")) == 3 and max(losses("same")) < 1e-9, losses("same")
checks.close(losses("even"), [np.log(4)] * 3, 1e-6, "the mean over the labels there are")
END
# Soft labels of the images as they are move with them, too: those of `reads` are its own of the moved image where nothing came in.
must 2 teach --dataset map.h5 --teacher reads.onnx --dtype float32 --quiet --output map
must 2 teach --dataset map.h5 --teacher same=same.onnx:values=true --dtype float32 --quiet --output map
for ranks in 1 4; do
  must "$ranks" distill --student reads.onnx "${still[@]}" --soft-labels map/reads.h5 --fixed-labels --loss logit-mse:1 --log fixed.jsonl --output "fixed$ranks.onnx"
  must "$ranks" distill --student even.onnx "${still[@]}" --soft-labels map/reads.h5 --fixed-labels --loss kd:1:temperature=1 --log even-fixed.jsonl \
    --output "even$ranks.onnx"
done
must 2 distill --student same.onnx "${still[@]}" --task out:labels=target --soft-labels out=map/same.h5 --fixed-labels --loss out/soft-mse:1 --log same-fixed.jsonl \
  --output same-fixed.onnx
must 2 train --model even.onnx --dataset map.h5 "${moves[@]}" --epochs 1 --batch 40 --loss cross-entropy:1 --quiet --output fresh-even.onnx
for ranks in 1 2; do
  must "$ranks" distill --student fresh-even.onnx --dataset map.h5 "${moves[@]}" --epochs 2 --batch 40 --shards 4 --soft-labels map/reads.h5 --fixed-labels \
    --quiet --output "learnt$ranks.onnx"
done
same 'soft labels that move: the same student on 2 ranks' learnt1.onnx learnt2.onnx
python_check 'soft labels of pixels lie where the pixels are, and say nothing of what came in' <<'END'
import checks, h5py, numpy as np
losses = lambda name: np.array([line["loss"]["total"] for line in checks.events(name + ".jsonl") if line["event"] == "epoch"])
for name in ("fixed", "same-fixed"):
    assert losses(name).max() < 1e-6, (name, losses(name))
# All of them are one-hot, log 4 from an even row; the mean is over all positions, those with nothing to say among them.
assert (losses("even-fixed") < 0.8 * np.log(4)).all() and (losses("even-fixed") > 0.4 * np.log(4)).all(), losses("even-fixed")
END
for ranks in 1 4; do
  must "$ranks" teach --dataset pixels.h5 --teacher a.onnx "${moves[@]}" --views 2 --quiet --output "moved$ranks"
  must "$ranks" distill --student student.onnx --dataset pixels.h5 "${moves[@]}" --soft-labels "moved$ranks/a.h5" --loss kd:0.8:temperature=2 \
    --loss cross-entropy:0.2 --epochs 3 --batch 50 --shards 5 --quiet --output "moved$ranks.onnx"
  [ "$ranks" = 1 ] || same "labels of moved pixels on $ranks ranks" moved1/a.h5 "moved$ranks/a.h5"
  [ "$ranks" = 1 ] || same "a student of moved pixels on $ranks ranks" moved1.onnx "moved$ranks.onnx"
done

# What aggregate compares teachers with moves as well: views are as good as a dataset of the moved images, whose pixels say their labels.
"$python" - <<'END' || exit 1
import numpy as np, heads
c = np.arange(1, 5.0)
def conv(name, w, b):
    node = heads.helper.make_node("Conv", ["image", "w", "b"], ["out"], kernel_shape=[1, 1])
    heads.save(name, [node], {"image": [1, 6, 9]}, {"out": [4, 6, 9]}, {"w": np.reshape(w, (-1, 1, 1, 1)), "b": b})
conv("blunt.onnx", c / 2, -(c**2) / 4)
conv("skewed.onnx", c, -(c**2) / 2 + np.array([0, 0.8, 0, 0]))
END
pair=(--teacher blunt.onnx --teacher skewed.onnx --dtype float32 --quiet)
must 2 teach --dataset map.h5 "${pair[@]}" --teacher same=same.onnx:values=true "${moves[@]}" --views 3 --seed 5 --output views
"$python" - <<'END' || exit 1
import checks, h5py
x = h5py.File("views/same.h5")["logits"][...].reshape(-1, 1, 6, 9)
checks.write_dataset("moved.h5", {"train": {"image": x, "label": x[:, 0].astype("i4") - 1}})
END
must 2 teach --dataset moved.h5 "${pair[@]}" --output of-moved
for method in learned confidence 'learned --per-class' 'entropy --calibrate'; do
  rm -f views1.h5* views3.h5* of-moved.h5*
  for ranks in 1 3; do
    # shellcheck disable=SC2086 # a list of words
    must "$ranks" aggregate views/blunt.h5 views/skewed.h5 --dataset map.h5 --method $method --dtype float32 --json --quiet --output "views$ranks.h5"
    cp out "views$ranks.json"
  done
  # shellcheck disable=SC2086 # a list of words
  must 1 aggregate of-moved/blunt.h5 of-moved/skewed.h5 --dataset moved.h5 --method $method --dtype float32 --json --quiet --output of-moved.h5
  same "$method of moved pixels: the same file on 3 ranks" views1.h5 views3.h5
  python_check "$method: labels of pixels lie where the pixels of a view are" <<'END'
import json, h5py
a, b = json.load(open("views1.json")), json.load(open("out"))
for key in ("teachers", "ensemble", "agreement"):
    assert a[key] == b[key], (key, a[key], b[key])
assert a.get("fit_rows") == b.get("fit_rows") and a["teachers"][0]["accuracy"] == 1 and a["teachers"][1]["accuracy"] < 0.8, a
with h5py.File("views1.h5") as f, h5py.File("of-moved.h5") as g:
    assert (f["logits"][...] == g["logits"][...]).all()
END
done
must 2 aggregate views/same.h5 --dataset map.h5 --labels target --json --quiet --output numbers.h5
python_check 'so do targets' <<'END'
import json
assert json.load(open("out"))["ensemble"]["mse"] == 0
END
must 1 teach --dataset coarse.h5 --teacher coarse.onnx --augment flip --views 2 --quiet --output coarse-views
must 1 aggregate coarse-views/coarse.h5 --dataset coarse.h5 --quiet --output coarse-mean.h5
check 'labels of no pixels are compared with nothing' test "$(grep -c accuracy out)" = 0
run 1 aggregate coarse-views/coarse.h5 --dataset coarse.h5 --method confidence --quiet --output refused
expect_error 'labels of no pixels, by a method that needs them' 2 'flip:probability=0.5' 'not of the pixels of the image' "method 'confidence'"

# ---- teachers that know different classes of the pixels ----
"$python" - <<'END' || exit 1
import h5py, numpy as np, checks
random = np.random.default_rng(8)
for name, classes in {"two": ["paper", "ink"], "rest": ["edge", "*"]}.items():
    checks.write_soft_labels(name + ".h5", random.normal(size=(400, 2, 8, 8)) * 2, "pixels.h5", "train", dtype=np.float32)
    with h5py.File(name + ".h5", "r+") as f:
        f["classes"] = np.array(classes, "S8")
END
for ranks in 1 4; do
  must "$ranks" aggregate two.h5 rest.h5 --dataset pixels.h5 --method union --temperature 2 --dtype float32 --quiet --output "union$ranks.h5"
  [ "$ranks" = 1 ] || same "a union of pixels on $ranks ranks" union1.h5 "union$ranks.h5"
done
must 2 distill --student student.onnx --dataset pixels.h5 --soft-labels two.h5 --soft-labels rest.h5 --method union --loss kd:1:temperature=2 --epochs 1 --quiet \
  --output union.onnx
python_check 'a union of pixels is that of each: what each says of its own classes, exactly' <<'END'
import numpy as np, checks
p = lambda name: np.exp(checks.log_softmax(checks.logits(name).astype(float).transpose(0, 2, 3, 1).reshape(-1, checks.logits(name).shape[1]), 2))
q, two, rest = p("union1.h5"), p("two.h5"), p("rest.h5")
inside = q.min(1) > 1e-5
checks.close(q[inside, 1], rest[inside, 0], 1e-4, "edge against all others")
checks.close((q[:, 0] / (q[:, 0] + q[:, 2]))[inside], two[inside, 0], 1e-4, "paper against ink")
END

# ---- what is refused ----
must 1 teach --dataset coarse.h5 --teacher coarse.onnx --quiet --output coarse
refused() { # NAME TEXT ARGUMENT...
  run 1 "${@:3}" --quiet --output refused
  expect_error "$1" 2 "$2"
}
for method in 'pate-lnmax --noise 1 --seed 5' 'pate-gnmax --sigma1 1 --sigma2 1 --threshold 1 --seed 5'; do
  # shellcheck disable=SC2086 # a list of words
  refused "$method of pixels" "each position would be an answer of its own, and what a row costs of epsilon would be that of 64 rows" \
    aggregate soft1/a.h5 soft1/b.h5 --dataset pixels.h5 --method $method
done
refused 'pixels of two images' "augment 'cutmix': is for outputs of one position a row" train --model student.onnx --dataset pixels.h5 --augment cutmix
refused 'soft labels of no pixels' 'not of the pixels of the image, which is 8 x 8, cannot move with it' distill --student coarse.onnx --dataset coarse.h5 \
  --soft-labels coarse/coarse.h5 --loss kd:1 --augment flip --fixed-labels
refused 'labels of no pixels' '/train/label is not of the pixels of the image, which is 8 x 8' train --model coarse.onnx --dataset coarse.h5 --augment flip
refused 'labels of one position' 'has 9 numbers a row, but the output has 3 positions' train --model fresh-last.onnx --dataset sound.h5
refused 'lengths past the end' 'there are 9 positions' train --model fresh-first.onnx --dataset long.h5
refused 'teachers of other positions' 'gives 1 positions a row, but the soft labels of soft1/a.h5 have 64' \
  distill --student flat.onnx --dataset pixels.h5 --soft-labels soft1/a.h5 --loss kd:1

# ---- a mask of pixels for numbers of several channels ----
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np, onnx
from onnx import helper as h, numpy_helper as nh
rng = np.random.default_rng(7)
graph = h.make_graph([h.make_node("Conv", ["image", "w"], ["depth"])], "g", [h.make_tensor_value_info("image", 1, ["N", 3, 4, 5])],
                     [h.make_tensor_value_info("depth", 1, ["N", 2, 4, 5])], [nh.from_array(rng.normal(size=(2, 3, 1, 1)).astype(np.float32), "w")])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)])
model.ir_version = 8
onnx.save(model, "pixels.onnx")
checks.write_dataset("masked.h5", {"train": {"image": rng.normal(size=(30, 3, 4, 5)).astype(np.float32),
                                             "label.fg": rng.integers(0, 2, (30, 4, 5)).astype(np.int32)}})
checks.write_soft_labels("depth.h5", rng.normal(size=(30, 2, 4, 5)).astype(np.float32), "masked.h5")
with h5py.File("depth.h5", "r+") as f:
    f.attrs["values"] = 1
END
for ranks in 1 2; do
  must "$ranks" distill --student pixels.onnx --dataset masked.h5 --soft-labels depth=depth.h5 --task depth:mask=label.fg --loss depth/soft-mse:1 \
    --test-split none --epochs 1 --batch 30 --momentum 0 --schedule constant --learning-rate 0.1 --output "masked-$ranks.onnx"
done
same 'a mask of pixels: the same student on 2 ranks' masked-1.onnx masked-2.onnx
python_check 'a mask of pixels holds for each channel' <<'END'
import checks, h5py, numpy as np
with h5py.File("masked.h5") as f, h5py.File("depth.h5") as g:
    x, inside, wanted = (np.float64(a[...]) for a in (f["train/image"], f["train/label.fg"], g["logits"]))
w = np.float64(checks.weights("pixels.onnx")[0])[:, :, 0, 0]
apart = (np.einsum("oi,nihw->nohw", w, x) - wanted) * inside[:, None]
step = np.einsum("nohw,nihw->oi", apart, x) * 2 / (2 * inside.sum())
checks.close(checks.weights("masked-1.onnx")[0][:, :, 0, 0], w - 0.1 * step, 1e-5, "weights")
END
finish
