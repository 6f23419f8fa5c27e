#!/bin/bash
# A class that the transfer set lacks: the biases found on other rows, against numpy, on any number of ranks.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

# Digits without any 3 to train on; rows with all of them in another split, some not labelled.
"$python" - "$digits" <<'END'
import h5py, numpy as np, sys
with h5py.File(sys.argv[1]) as f, h5py.File("set.h5", "w") as out:
    out.attrs.update({"format": "mpistill-dataset", "version": 1})
    x, y = f["train/image"], f["train/label"][:].astype("i4")
    rows = np.arange(len(y))
    for name, some in (("train", (rows < 1100) & (y != 3)), ("held-out", rows >= 1100)):
        out[f"{name}/image"], out[f"{name}/label"] = x[:][some], y[some]
        out[f"{name}/image"].attrs.update(x.attrs)
    out["held-out/label"][::7] = -1
    out["all/image"], out["all/label"] = x[:], y
    out["all/image"].attrs.update(x.attrs)
    out["test/image"], out["test/label"] = f["test/image"][:], f["test/label"][:].astype("i4")
    out["test/image"].attrs.update(x.attrs)
END
must 0 create mlp --layers 64,100,10 --seed 7 --output wide0.onnx
must 2 train --model wide0.onnx --dataset set.h5 --split all --epochs 10 --batch 64 --quiet --output wide.onnx
must 2 teach --dataset set.h5 --teacher wide.onnx --output soft
must 0 create mlp --layers 64,32,10 --seed 3 --output fresh.onnx
distill() { # RANKS OUTPUT OPTION...
  must "$1" distill --student fresh.onnx --dataset set.h5 --soft-labels soft/wide.h5 --kd-weight 1 --epochs 10 --batch 64 --shards 4 --output "$2" --json "${@:3}"
}
distill 2 before.onnx && mv out before.json
distill 2 after.onnx --prior-split held-out --log log.jsonl && mv out after.json
python_check 'mean probabilities are the shares of the labels' <<'END'
import checks, json, numpy as np, onnx
from onnx import numpy_helper
def weights(path): return [numpy_helper.to_array(t).astype(float) for t in onnx.load(path).graph.initializer]
old, new = weights("before.onnx"), weights("after.onnx")
changed = [i for i in range(len(old)) if not np.array_equal(old[i], new[i])]
assert [new[i].size for i in changed] == [10], changed
x, y = checks.inputs("set.h5", "held-out"), checks.labels("set.h5", "held-out")
z = checks.mlp("before.onnx", x)
share = np.bincount(y[y >= 0], minlength=10) / (y >= 0).sum()
b = np.zeros(10)
def probabilities(b):
    p = np.exp(z + b - (z + b).max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)
def likelihood(b): return share @ b - np.log(np.exp(z + b).sum(axis=1)).mean()
for _ in range(200):  # Newton's method, halving steps, on the likelihood of biases
    p = probabilities(b)
    step, size = np.linalg.lstsq(np.diag(p.mean(axis=0)) - p.T @ p / len(p), share - p.mean(axis=0), rcond=1e-12)[0], 1.0
    while size > 1e-9 and likelihood(b + size * step) < likelihood(b): size /= 2
    b += size * step
moved = (new[changed[0]] - old[changed[0]]).ravel()
difference = (moved - moved.mean()) - (b - b.mean())
assert abs(difference).max() < 1e-4, difference
shift = next(json.loads(l) for l in open("log.jsonl") if '"prior"' in l)["shift"]
assert np.allclose(moved, shift, atol=1e-5), (moved, shift)
END
python_check 'more of the class that was lacking is known on the test rows, which it did not see' <<'END'
import checks, json
x, y = checks.inputs("set.h5", "test"), checks.labels("set.h5", "test")
known = [(checks.mlp(f, x)[y == 3].argmax(axis=1) == 3).sum() for f in ("before.onnx", "after.onnx")]
shift = next(json.loads(l) for l in open("log.jsonl") if '"prior"' in l)["shift"]
assert shift[3] == max(shift) and known[1] > known[0], (known, shift)
END
for n in 1 3 4; do
  distill $n ranks$n.onnx --prior-split held-out
  same "$n ranks: the same bytes" after.onnx ranks$n.onnx
done
distill 2 given.onnx --prior-split held-out --priors 1,1,1,1,1,1,1,1,1,1
differ 'shares that are given' after.onnx given.onnx
# A class without a share: it keeps its bias, the others have their shares of what it leaves them.
distill 2 some.onnx --prior-split held-out --priors 2,1,1,0,1,1,1,1,1,1 --log some.jsonl
check 'a class without a share: it converges' test "$(grep -c warning err)" = 0
"$python" - <<'END'
import h5py
with h5py.File("set.h5", "a") as f:
    rows = f["held-out/label"][:] != 3
    for key in ("image", "label"): f[f"without/{key}"] = f[f"held-out/{key}"][:][rows]
    f["without/image"].attrs.update(f["held-out/image"].attrs)
END
distill 2 without.onnx --prior-split without --log without.jsonl
python_check 'a class without a share: the biases of iterative scaling in numpy' <<'END'
import checks, json, numpy as np
def shares(name, labels):
    if name == "some": return np.array([2, 1, 1, 0, 1, 1, 1, 1, 1, 1]) / 10
    return np.bincount(labels[labels >= 0], minlength=10) / (labels >= 0).sum()
for name, split in ("some", "held-out"), ("without", "without"):
    z, share = checks.mlp("before.onnx", checks.inputs("set.h5", split)), shares(name, checks.labels("set.h5", split))
    some = share > 0
    assert list(np.flatnonzero(~some)) == [3]
    mean = lambda b: np.exp(checks.log_softmax(z + b)).mean(axis=0)
    b = np.zeros(10)
    for _ in range(3000):
        m = mean(b)
        b[some] += np.log(share[some] * m[some].sum() / m[some])
    found = next(json.loads(l) for l in open(f"{name}.jsonl") if '"prior"' in l)
    assert found["rounds"] < 1000 and found["shift"][3] == 0, found
    assert abs(np.array(found["shift"]) - b).max() < 1e-4, (found, b)
    m = mean(found["shift"])
    assert abs(m[some] / m[some].sum() - share[some]).max() < 1e-5, m
END
"$python" - <<'END'
import onnx
from onnx import numpy_helper
model = onnx.load("fresh.onnx")
for t in model.graph.initializer: t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t) * 1000, t.name))
onnx.save(model, "sure.onnx")
END
must 2 distill --student sure.onnx --dataset set.h5 --soft-labels soft/wide.h5 --kd-weight 1 --epochs 1 --learning-rate 0 --quiet --output sure-after.onnx \
  --prior-split held-out
check 'shares that no bias comes to in time: a warning' grep -q "the shares of the classes are not met on split 'held-out'" err
cat >recipe.yaml <<'END'
dataset: set.h5
output: run
teachers: [{name: wide, soft_labels: soft/wide.h5}]
aggregate: {method: logit-mean}
student: {model: fresh.onnx}
distill: {epochs: 10, batch: 64, shards: 4, kd_weight: 1, prior_split: held-out}
END
must 2 run recipe.yaml --quiet
same 'in a recipe' after.onnx run/student.onnx

# ---- bad input ----
refuse() { # WHAT MESSAGE OPTION...
  run 2 train --model "${model:-fresh.onnx}" --dataset set.h5 --output no.onnx "${@:3}"
  expect_error "$1" 2 "$2"
  check "$1: nothing is written" test ! -e no.onnx
}
refuse 'a split that is not there' "nowhere" --prior-split nowhere
refuse 'the test split' 'what is found there cannot be tested there' --prior-split test
refuse 'too few shares' '3 given for 10 classes' --prior-split held-out --priors 1,2,3
check 'too few shares: found before the first step' bash -c '! grep -q "epoch" err'
refuse 'shares of nothing' 'prior_split names the rows' --priors 1,1,1,1,1,1,1,1,1,1
refuse 'a bias that is frozen' 'which freeze keeps' --prior-split held-out --freeze '*bias*'
"$python" - <<'END'
import h5py
with h5py.File("set.h5", "a") as f: f.create_group("bare")["image"] = f["train/image"][:5]
END
refuse 'no labels' "no row of split 'bare' has a label" --prior-split bare
"$python" - <<'END'
import onnx
from onnx import helper, numpy_helper, TensorProto
import numpy as np
w = numpy_helper.from_array(np.zeros((64, 10), np.float32), "w")
flat = helper.make_node("Flatten", ["x"], ["flat"])
out = helper.make_node("MatMul", ["flat", "w"], ["y"])
g = helper.make_graph([flat, out], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
                      [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])], [w])
onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 13)]), "bare.onnx")
END
model=bare.onnx refuse 'no bias' 'it has none' --prior-split held-out
finish
