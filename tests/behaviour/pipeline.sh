#!/bin/bash
# From files of other programs to a distilled student, command by command, and what the commands say on the way.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"

# says NAME STREAM: the last run left that stream (out, err) empty.
says_nothing() { check "$1" test ! -s "$2"; }

# one_object NAME KEY...: the last run printed one JSON object, with these keys, and nothing else on stdout.
one_object() {
  python_check "$1" "${@:2}" <<'END'
import json, sys
object = json.loads(open("out").read())
assert isinstance(object, dict), "not an object"
missing = [key for key in sys.argv[1:] if key not in object]
assert not missing, f"without {missing}"
END
}

# ---- import: the digits as IDX, CSV and NPY files, and small pictures as CIFAR's ----
"$python" - "$digits" <<'END' || exit 1
import gzip, struct, sys
import h5py, numpy as np
random = np.random.default_rng(1)
with h5py.File(sys.argv[1]) as f:
    for split, name in (("train", "train"), ("test", "t10k")):
        x, y = f[split]["image"][:, 0] * 15, f[split]["label"][...]
        open(f"{name}-images-idx3-ubyte", "wb").write(struct.pack(">HBBIII", 0, 8, 3, *x.shape) + x.tobytes())
        open(f"{name}-labels-idx1-ubyte", "wb").write(struct.pack(">HBBI", 0, 8, 1, len(y)) + y.astype(np.uint8).tobytes())
        np.save(f"{split}-x.npy", x.reshape(len(x), -1).astype(np.float32))
        np.save(f"{split}-y.npy", y.astype(np.int64))
        with open(f"{split}.csv", "w") as table:
            print(*(f"p{i}" for i in range(64)), "class", sep=",", file=table)
            for row, label in zip(x.reshape(len(x), -1), y):
                print(*row, f"digit-{label}", sep=",", file=table)
with open("train-images-idx3-ubyte", "rb") as plain, gzip.open("train-images.gz", "wb") as packed:
    packed.write(plain.read())
for name, n in (("data_batch_1", 50), ("data_batch_2", 30), ("test_batch", 20)):
    rows = np.concatenate([random.integers(0, 10, (n, 1)), random.integers(0, 256, (n, 3072))], axis=1)
    rows.astype(np.uint8).tofile(f"{name}.bin")
END
must 0 import idx train=train-images-idx3-ubyte,train-labels-idx1-ubyte test=t10k-images-idx3-ubyte,t10k-labels-idx1-ubyte --output mnist.h5
must 0 import idx train=train-images.gz,train-labels-idx1-ubyte test=t10k-images-idx3-ubyte,t10k-labels-idx1-ubyte --name mnist --output packed.h5
must 0 import cifar train=data_batch_1.bin,data_batch_2.bin test=test_batch.bin --output cifar10.h5
must 0 import csv train=train.csv test=test.csv --label-column class --output table.h5
must 0 import npy train=train-x.npy,train-y.npy test=test-x.npy,test-y.npy --output set.h5
same 'import: gzip or not' mnist.h5 packed.h5
python_check 'import: values, types, scales and classes' "$digits" <<'END'
import sys
import h5py, numpy as np
def equal(a, b, dtype):
    assert a.dtype == dtype and a.shape == b.shape and (a[...] == b).all(), f"{a.name}: {a.dtype}, {a.shape}"
digits, mnist = h5py.File(sys.argv[1]), h5py.File("mnist.h5")
table, array, cifar = h5py.File("table.h5"), h5py.File("set.h5"), h5py.File("cifar10.h5")
for split in "train", "test":
    x, y = digits[split]["image"][...] * 15, digits[split]["label"][...]
    flat = x.reshape(len(x), 64)
    equal(mnist[split]["image"], x, np.uint8)
    equal(mnist[split]["label"], y, np.int32)
    assert mnist[split]["image"].attrs["scale"] == np.float32(1 / 255) and mnist[split]["image"].attrs["offset"] == 0
    equal(array[split]["features"], flat, np.float32)
    equal(array[split]["label"], y, np.int32)
    equal(table[split]["features"], flat, np.float32)
    names = [name.decode() for name in table["classes"][...]]
    assert sorted(names) == [f"digit-{i}" for i in range(10)], names
    assert [names[i] for i in table[split]["label"]] == [f"digit-{i}" for i in y]
rows = np.concatenate([np.fromfile(f"data_batch_{i}.bin", np.uint8).reshape(-1, 3073) for i in (1, 2)])
equal(cifar["train/image"], rows[:, 1:].reshape(-1, 3, 32, 32), np.uint8)
equal(cifar["train/label"], rows[:, 0], np.int32)
assert len(cifar["test/label"]) == 20
END

# ---- create, train ----
must 0 create mlp --layers 64,40,10 --seed 1 --output student.onnx
must 0 create mlp --layers 64,128,128,10 --dropout 0.2 --seed 2 --output wide0.onnx
must 0 create cnn --input 1x8x8 --channels 8,16 --kernel 3 --hidden 32 --classes 10 --seed 3 --output conv0.onnx
must 0 create resnet --depth 8 --width 4 --input 3x32x32 --classes 10 --output residual0.onnx
must 2 train --model student.onnx --dataset mnist.h5 --epochs 8 --batch 128 --output baseline.onnx
check 'train: results on stdout' grep -q -F 'accuracy' out
check 'train: progress on stderr' grep -q '^mpistill: train' err
check 'train: no progress on stdout' test "$(grep -c '^mpistill' out)" = 0
check 'train: no carriage return outside a terminal' test "$(grep -c $'\r' err)" = 0
must 4 train --model wide0.onnx --dataset mnist.h5 --epochs 8 --batch 64 --quiet --output wide.onnx
says_nothing 'train --quiet' err
must 2 train --model conv0.onnx --dataset mnist.h5 --epochs 8 --batch 64 --json --log conv.jsonl --output conv.onnx
one_object 'train --json' output epochs steps loss seconds samples_per_s test
must 2 train --model residual0.onnx --dataset cifar10.h5 --epochs 1 --batch 40 --learning-rate 0.01 --output residual.onnx
must 2 train --model student.onnx --dataset table.h5 --epochs 1 --learning-rate 0.001 --output of-table.onnx
must 2 train --model student.onnx --dataset set.h5 --epochs 1 --learning-rate 0.001 --output of-set.onnx

# ---- teach, aggregate, distill ----
must 4 teach --dataset mnist.h5 --split train --teacher wide=wide.onnx --teacher conv=conv.onnx --json --output soft/
one_object 'teach --json' files rows
must 2 aggregate soft/wide.h5 soft/conv.h5 --method probability-mean --temperature 4 --dataset mnist.h5 --output ensemble.h5
check 'aggregate: prints both teachers and the ensemble' test "$(grep -c -E '^(wide|conv|ensemble) ' out)" = 3
must 4 distill --student student.onnx --dataset mnist.h5 --soft-labels ensemble.h5 --temperature 4 --kd-weight 0.9 --epochs 8 --batch 128 \
  --warmup-epochs 1 --log distill.jsonl --output distilled.onnx
says_nothing 'distill: no words on stdout but the results' <(grep -v -E '^(distilled\.onnx|test): ' out)
must 4 evaluate --model distilled.onnx --dataset mnist.h5 --split test --json
cp out distilled.json
one_object 'evaluate --json' samples errors accuracy nll ece parameters bytes

# ---- --log ----
python_check 'log: losses by part, learning rate, samples/s, seconds by phase' <<'END'
import math
import checks
lines = checks.events("distill.jsonl")
steps = math.ceil(1437 / 128)
assert [line["epoch"] for line in lines] == list(range(1, 9)), "an epoch is missing"
for line in lines:
    loss, seconds = line["loss"], line["seconds"]
    checks.close(loss["total"], 0.9 * loss["kd"] + 0.1 * loss["cross-entropy"], 1e-6, "total loss")
    t = line["step"] - 1  # the rate is that of the epoch's last step
    rate = (t + 1) / steps if t < steps else 0.5 * (1 + math.cos(math.pi * (t - steps) / (7 * steps)))
    checks.close(line["learning_rate"], 0.1 * rate, 1e-6, f"learning rate of step {t}")
    checks.close(line["samples_per_s"] * seconds["all"], 1437, 1e-5, "samples/s")
    parts = [seconds[phase] for phase in ("read", "forward", "backward", "allreduce")]
    assert min(parts) >= 0 and 0 < sum(parts) <= seconds["all"] * 1.01, seconds
assert lines[-1]["loss"]["total"] < 0.5 * lines[0]["loss"]["total"], "nothing was learnt"
assert len(checks.events("distill.jsonl", "start")) == 1 and len(checks.events("distill.jsonl", "done")) == 1
assert set(checks.events("conv.jsonl")[0]["loss"]) == {"total", "cross-entropy"}
END

# ---- evaluate against numpy ----
# evaluate_model RANKS MODEL: into MODEL.json.
evaluate_model() {
  must "$1" evaluate --model "$2" --dataset mnist.h5 --split test --json --quiet
  says_nothing "evaluate $2 --quiet" err
  cp out "$2.json"
}
evaluate_model 1 wide.onnx
evaluate_model 2 conv.onnx
evaluate_model 1 baseline.onnx
must 2 teach --dataset mnist.h5 --split test --dtype float32 --teacher wide.onnx --teacher conv.onnx --teacher distilled.onnx --output test
python_check 'evaluate: metrics of the logits, computed by numpy' <<'END'
import json
import checks
y = checks.labels("mnist.h5", "test")
for model, result in ("wide", "wide.onnx.json"), ("conv", "conv.onnx.json"), ("distilled", "distilled.json"):
    wanted, got = checks.metrics(checks.logits(f"test/{model}.h5"), y), json.load(open(result))
    assert got["samples"] == 360 and got["errors"] == wanted["errors"], f"{model}: {got}, expected {wanted}"
    for key in "accuracy", "nll", "ece":
        checks.close(got[key], wanted[key], 1e-6, f"{model}: {key}")
END
python_check 'evaluate: logits, parameters and bytes, from the weights in the file' <<'END'
import json, os
import checks
x, y = checks.inputs("mnist.h5", "test"), checks.labels("mnist.h5", "test")
for model, result in ("wide.onnx", "wide.onnx.json"), ("distilled.onnx", "distilled.json"), ("baseline.onnx", "baseline.onnx.json"):
    z, got = checks.mlp(model, x), json.load(open(result))
    wanted = checks.metrics(z, y)
    assert got["errors"] == wanted["errors"], f"{model}: {got}, expected {wanted}"
    for key in "accuracy", "nll", "ece":
        checks.close(got[key], wanted[key], 1e-5, f"{model}: {key}")
    assert got["parameters"] == sum(w.size for w in checks.weights(model) if w.ndim), got["parameters"]
    assert got["bytes"] == os.path.getsize(model), got["bytes"]
    if model != "baseline.onnx":
        checks.close(checks.logits(f"test/{model[:-5]}.h5"), z, 1e-5, f"{model}: logits")
END
python_check 'all models have learnt the digits' <<'END'
import json
for result in "wide.onnx.json", "conv.onnx.json", "baseline.onnx.json", "distilled.json":
    got = json.load(open(result))
    assert got["accuracy"] > 0.85, f"{result}: {got['accuracy']}"
END

# ---- --quiet, without and with ranks ----
must 2 teach --dataset mnist.h5 --teacher wide=wide.onnx --quiet --output quiet
says_nothing 'teach --quiet' err
must 2 aggregate soft/wide.h5 soft/conv.h5 --quiet --output quiet.h5
says_nothing 'aggregate --quiet' err
check 'aggregate --quiet: the results are there' test -s out
must 2 distill --student student.onnx --dataset mnist.h5 --soft-labels ensemble.h5 --epochs 1 --quiet --output quiet.onnx
says_nothing 'distill --quiet' err
must 2 distill --student student.onnx --dataset mnist.h5 --soft-labels ensemble.h5 --epochs 1 --quiet --output quiet.onnx
says_nothing 'distill --quiet: already done' err
must 0 import npy train=train-x.npy --quiet --output quiet-set.h5
says_nothing 'import --quiet' err
must 2 aggregate soft/wide.h5 soft/conv.h5 --json --output ensemble1.h5
one_object 'aggregate --json' teachers ensemble agreement
for file in mnist.h5 ensemble.h5 distilled.onnx; do
  must 0 inspect "$file" --json
  one_object "inspect $file --json" kind file bytes
done
finish
