#!/bin/bash
# Teachers that give labels and probabilities, as scikit-learn's exports do: a forest teaches a network.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

"$python" - <<'END' || exit 1
import checks, forest, numpy as np
from onnx import TensorProto, helper
x, y = checks.inputs("digits.h5", "train").reshape(1437, -1), checks.labels("digits.h5", "train")
f = forest.Forest(x, y, 10, trees=12, depth=9)
f.write("plain.onnx")
f.write("zipped.onnx", zipmap=True)
f.write("names.onnx", labels=[str(c) for c in range(10)])
f.write("other-names.onnx", labels=[f"class {c}" for c in range(10)], zipmap=True)
order = [9, 3, 0, 1, 2, 4, 8, 5, 7, 6]
f.write("ordered.onnx", labels=order)  # its probability j is that of class order[j]
np.savez("expected.npz", order=order, train=f.probabilities(x),
         test=f.probabilities(checks.inputs("digits.h5", "test").reshape(360, -1)))
# Two outputs of floats: which of them are the logits?
random = np.random.default_rng(0)
two = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("first", 10), ("second", 4))]
forest.save("two.onnx", [helper.make_node("MatMul", ["x", "a"], ["first"]), helper.make_node("MatMul", ["x", "b"], ["second"])], two, 64,
            [("a", random.standard_normal((64, 10)).astype(np.float32)), ("b", random.standard_normal((64, 4)).astype(np.float32))])
# A network whose probabilities are made by hand, in a way that no graph tells: exp(z) / sum(exp(z)), with a label beside them.
nodes = [helper.make_node("MatMul", ["x", "a"], ["z"]), helper.make_node("Exp", ["z"], ["e"]),
         helper.make_node("ReduceSum", ["e", "axes"], ["s"], keepdims=1), helper.make_node("Div", ["e", "s"], ["p"]),
         helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)]
outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]), helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 10])]
a = random.standard_normal((64, 10)).astype(np.float32) / 4
forest.save("by-hand.onnx", nodes, outputs, 64, [("a", a), ("axes", np.array([1]))])
np.save("by-hand.npy", checks.log_softmax(x @ a.astype(float)))
# The same with a Softmax: its logits are taken, not its probabilities.
nodes = [nodes[0], helper.make_node("Softmax", ["z"], ["p"], axis=1), nodes[-1]]
forest.save("softmax.onnx", nodes, outputs, 64, [("a", a)])
np.save("softmax.npy", x @ a.astype(float))
END

teachers=()
for name in plain zipped names ordered by-hand softmax; do teachers+=(--teacher "$name=$name.onnx"); done
must 0 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output alone
must 2 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output two
export OMP_NUM_THREADS=2
must 4 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output four
export OMP_NUM_THREADS=1
for name in plain zipped names ordered by-hand softmax; do
  same "$name on 2 ranks" "alone/$name.h5" "two/$name.h5"
  same "$name on 4 ranks of 2 threads" "alone/$name.h5" "four/$name.h5"
done
python_check 'log(max(p, floor)) and the attribute floor' <<'END'
import checks, h5py, numpy as np
expected = np.load("expected.npz")
wanted = np.log(np.maximum(expected["train"], 1e-7))
assert (expected["train"] == 0).any() and len(np.unique(expected["train"])) > 500, "nothing to be seen in this test"
for name in "plain", "zipped", "names":
    with h5py.File(f"alone/{name}.h5") as f:
        assert f.attrs["floor"] == 1e-7 and f["logits"].dtype == "float32", name
        checks.close(f["logits"][...], wanted, 2e-6, name)
END
python_check 'classes in another order come to those of the dataset' <<'END'
import checks, numpy as np
order = np.load("expected.npz")["order"]
got, plain = checks.logits("alone/ordered.h5"), checks.logits("alone/plain.h5")
assert np.array_equal(got[:, order], plain), "other columns"
assert not np.array_equal(got, plain)
END
python_check 'probabilities that the graph does not tell are seen in the numbers' <<'END'
import checks, h5py, numpy as np
with h5py.File("alone/by-hand.h5") as f:
    assert f.attrs["floor"] == 1e-7
    checks.close(f["logits"][...], np.maximum(np.load("by-hand.npy"), np.log(1e-7)), 1e-5, "logits")
END
python_check 'a Softmax: what goes into it, and no floor' <<'END'
import checks, h5py, numpy as np
with h5py.File("alone/softmax.h5") as f:
    assert f.attrs.get("floor", 0) == 0
    checks.close(f["logits"][...], np.load("softmax.npy"), 1e-5, "logits")
END

for name in plain zipped ordered; do
  must 2 evaluate --model $name.onnx --dataset digits.h5 --split test --json
  mv out $name.json
done
python_check 'evaluate: as numpy counts' <<'END'
import json
import checks, numpy as np
expected, y = np.load("expected.npz"), checks.labels("digits.h5", "test")
for name in "plain", "zipped", "ordered":
    z = np.log(np.maximum(expected["test"], 1e-7))
    if name == "ordered":
        z[:, expected["order"]] = z.copy()
    got, wanted = json.load(open(f"{name}.json")), checks.metrics(z, y)
    assert got["errors"] == wanted["errors"] and (name == "ordered" or got["errors"] < 100), (name, got["errors"], wanted["errors"])
    checks.close(got["nll"], wanted["nll"], 1e-5, f"{name}: nll")
END

must 0 create mlp --layers 64,24,10 --seed 1 --output student.onnx
must 2 aggregate alone/plain.h5 alone/by-hand.h5 --output ensemble.h5
must 2 distill --student student.onnx --dataset digits.h5 --soft-labels alone/plain.h5 --epochs 10 --output taught.onnx
must 2 evaluate --model taught.onnx --dataset digits.h5 --split test --json
python_check 'a network learns from the forest' <<'END'
import json
assert json.load(open("out"))["errors"] < 80
END

run 2 teach --dataset digits.h5 --teacher a=two.onnx --output refused
expect_error 'several outputs of floats are listed' 2 two.onnx "'first' float [1, 10]" "'second' float [1, 4]"
run 2 teach --dataset digits.h5 --teacher a=other-names.onnx --output refused
expect_error 'classes that the dataset does not have' 2 other-names.onnx "'class 0'" digits.h5
cat >listed.yaml <<'END'
dataset: digits.h5
output: listed
teachers:
  - {name: forest, model: other-names.onnx, classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
teach: {dtype: float32}
student: {create: mlp, layers: [64, 10]}
distill: {epochs: 1}
END
must 2 run listed.yaml
python_check 'but they may be listed in a recipe' <<'END'
import checks, numpy as np
assert np.array_equal(checks.logits("listed/soft/forest.h5"), checks.logits("alone/plain.h5"))
END
run 2 train --model by-hand.onnx --dataset digits.h5 --epochs 1 --output trained.onnx
expect_error 'a student must give logits' 2 by-hand.onnx probabilities logits
finish
