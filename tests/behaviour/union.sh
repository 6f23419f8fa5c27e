#!/bin/bash
# Teachers that know different classes, and a specialist with a class for all others, become one ensemble over all classes.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5", "r") as f:
    x, y = f["train/image"][...], f["train/label"][...]
low, high = np.where(y < 5, y, -1), np.where(y > 3, y - 4, -1)
pair = np.select([y == 3, y == 8], [0, 1], 2)
for name, label in {"low": low, "high": high, "pair": pair}.items():
    checks.write_dataset(name + ".h5", {"train": {"image": x, "label": label.astype(np.int32)}}, scale={"image": (1 / 16, 0)})
END
# classes 0 to 4, 4 to 9, and 3, 8 and the others
for teacher in low,5,1 high,6,2 pair,3,3; do
  IFS=, read -r name classes seed <<<"$teacher"
  must 0 create mlp --layers "64,32,$classes" --seed "$seed" --output "$name-fresh.onnx"
  must 2 train --model "$name-fresh.onnx" --dataset "$name.h5" --epochs 15 --batch 64 --quiet --output "$name.onnx"
done
must 0 create mlp --layers 64,32,10 --seed 4 --output student.onnx
cat >recipe.yaml <<'END'
dataset: digits.h5
output: run
teachers:
  - {name: low, model: low.onnx, classes: ['0', '1', '2', '3', '4']}
  - {name: high, model: high.onnx, classes: ['4', '5', '6', '7', '8', '9']}
  - {name: pair, model: pair.onnx, classes: ['3', '8', '*']}
teach: {dtype: float32}
aggregate: {method: union, dtype: float32}
student: {model: student.onnx}
distill: {losses: [{kind: kd, weight: 1, temperature: 2}], epochs: 10, batch: 64}
END
must 2 run recipe.yaml --json --quiet
python_check 'the ensemble knows all classes, and so does its student' <<'END'
import json
models = {m["name"]: m for m in json.load(open("out"))["models"]}
assert models["ensemble"]["samples"] == 360 and models["ensemble"]["accuracy"] > 0.75, models["ensemble"]
assert models["student"]["accuracy"] > 0.7, models["student"]
assert models["low"]["samples"] == 180 and models["high"]["samples"] == 217 and models["low"]["accuracy"] > 0.9, models
END
python_check 'no other distribution fits what the teachers say better' <<'END'
import numpy as np, checks
T, lists = 2, {"low": [0, 1, 2, 3, 4], "high": [4, 5, 6, 7, 8, 9], "pair": [3, 8]}
z = checks.logits("run/ensemble.h5").astype(float) / T
q = np.exp(checks.log_softmax(z))
gradient = np.zeros_like(q)
for name, own in lists.items():
    p = np.exp(checks.log_softmax(checks.logits(f"run/soft/{name}.h5").astype(float), T))
    if name != "pair":
        gradient[:, own] += q[:, own] / q[:, own].sum(1, keepdims=True) - p
        continue
    rest = [c for c in range(10) if c not in own]
    gradient += q
    gradient[:, own] -= p[:, :2]
    gradient[:, rest] -= p[:, 2:] * q[:, rest] / q[:, rest].sum(1, keepdims=True)
inside = q > 1e-5  # probabilities have a floor
assert np.abs(gradient[inside]).max() < 1e-3, np.abs(gradient[inside]).max()
END
files=(run/soft/low.h5 run/soft/high.h5 run/soft/pair.h5)
for ranks in 1 2 4; do must "$ranks" aggregate "${files[@]}" --dataset digits.h5 --method union --temperature 2 --dtype float32 --quiet --output "u$ranks.h5"; done
same 'the same ensemble on 2 ranks' u1.h5 u2.h5
same 'the same ensemble on 4 ranks' u1.h5 u4.h5
"$python" - <<'END' || exit 1
import h5py, shutil
shutil.copy("run/soft/high.h5", "turned.h5")
with h5py.File("turned.h5", "r+") as f:
    z, names = f["logits"][...], f["classes"][...]
    f["logits"][...] = z[:, ::-1]
    f["classes"][...] = names[::-1]
    del f["blocks"]
END
must 1 aggregate run/soft/low.h5 turned.h5 run/soft/pair.h5 --dataset digits.h5 --method union --temperature 2 --dtype float32 --quiet --output turned-u.h5
python_check 'classes listed in another order change nothing' <<'END'
import checks
checks.close(checks.logits("turned-u.h5"), checks.logits("u1.h5"), 1e-5, "logits")
END
fly() {
  must "$1" distill --student student.onnx --dataset digits.h5 "${@:3}" --loss kd:1:temperature=2 --epochs 2 --batch 128 --shards 4 --learning-rate 0.01 \
    --quiet --log "$2.jsonl" --output "$2.onnx"
}
soft=(--soft-labels "${files[0]}" --soft-labels "${files[1]}" --soft-labels "${files[2]}" --method union)
fly 1 fly1 "${soft[@]}"
fly 4 fly4 "${soft[@]}"
fly 2 stored --soft-labels u1.h5
same 'combined on the fly: the same student on 4 ranks' fly1.onnx fly4.onnx
python_check 'combined on the fly as stored before' <<'END'
import checks
a, b = (checks.events(f"{n}.jsonl")[-1]["loss"]["kd"] for n in ("fly1", "stored"))
checks.close(a, b, 1e-5, "loss")
END
refused() {
  run 1 aggregate "${@:3}" --dataset digits.h5 --quiet --output never.h5
  expect_error "$1" 2 "$2"
}
refused 'another rule wants all classes' "method 'union' is for teachers of some" run/soft/low.h5 run/soft/high.h5
refused 'a class that nobody knows' "no teacher knows class '5'" run/soft/low.h5 run/soft/pair.h5 --method union
refused 'one file is no union' 'takes several' u1.h5 --method union
finish
