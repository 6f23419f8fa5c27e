#!/bin/bash
# Soft labels stay with their rows, and mean what the formulas say: the traps that other systems fell into.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

# ---- a data set in which a wrong row is seen at once ----
# Row i is the unit vector i, and the model gives it 20 for class i and 0 for all others: the loss of a student that is its own
# teacher is 0, and about 20 for each row that meets the soft label of another.
"$python" - <<'END' || exit 1
import checks, numpy as np
n = 61
checks.write_dataset("rows.h5", {"train": {"image": np.eye(n, dtype=np.float32), "label": np.arange(n, dtype=np.int32)},
                                 "three": {"image": np.eye(n, dtype=np.float32)[:3], "label": np.arange(3, dtype=np.int32)}})
checks.write_linear("same.onnx", 20 * np.eye(n))
rolled = np.roll(20 * np.eye(n), 1, axis=0)
swapped = 20 * np.eye(n)
swapped[[4, 5]] = swapped[[5, 4]]
checks.write_soft_labels("rolled.h5", rolled, "rows.h5", dtype=np.float32)
checks.write_soft_labels("swapped.h5", swapped, "rows.h5", dtype=np.float64)
END
# own NAME RANKS SOFT-LABELS [OPTION...]: the model learns from the soft labels alone, three epochs of batches of 7 rows.
own() {
  rm -f "$1.jsonl"
  must "$2" distill --student same.onnx --dataset rows.h5 --soft-labels "$3" --kd-weight 1 --momentum 0 \
    --schedule constant --epochs 3 --batch 7 --shards 3 --log "$1.jsonl" --output "$1.onnx" "${@:4}"
}
must 3 teach --dataset rows.h5 --teacher same.onnx --block 8 --output captured
for ranks in 1 2 4; do
  own "own-$ranks" "$ranks" captured/same.h5 --learning-rate 0.5 --temperature 4
  python_check "the student is its teacher, captured on 3 ranks: no loss and no step on $ranks" "own-$ranks" <<'END'
import sys, checks, numpy as np
lines = checks.events(sys.argv[1] + ".jsonl")
assert len(lines) == 3
for line in lines:
    assert abs(line["loss"]["kd"]) < 1e-9, f"epoch {line['epoch']}: the loss is {line['loss']['kd']}"
for before, after in zip(checks.weights("same.onnx"), checks.weights(sys.argv[1] + ".onnx")):
    assert np.array_equal(before, after), "a weight has changed"
END
done
own rolled 2 rolled.h5 --learning-rate 0 --temperature 1
own swapped 2 swapped.h5 --learning-rate 0 --temperature 1
python_check 'soft labels one row off, and two rows exchanged, are seen in the loss' <<'END'
import checks
for line in checks.events("rolled.jsonl"):
    assert line["loss"]["kd"] > 19, line["loss"]
# Nine steps an epoch, eight of 7 rows and one of 5; the exchanged rows lie in some of them.
for line in checks.events("swapped.jsonl"):
    assert 2 * 19 / 7 / 9 < line["loss"]["kd"] < 2 * 20 / 5 / 9, line["loss"]
END

# ---- ranks without rows ----
must 1 teach --dataset rows.h5 --split three --teacher same.onnx --output three-1
must 8 teach --dataset rows.h5 --split three --teacher same.onnx --output three-8
same 'teach: 3 rows on 8 ranks' three-1/same.h5 three-8/same.h5
must 0 create mlp --layers 61,20,61 --output random.onnx
for ranks in 1 8; do
  must "$ranks" aggregate three-1/same.h5 three-8/same.h5 --output "three-$ranks.h5"
  must "$ranks" distill --student random.onnx --dataset rows.h5 --split three --soft-labels "three-$ranks.h5" --temperature 1 \
    --epochs 3 --batch 2 --output "three-$ranks.onnx"
done
same 'aggregate: 3 rows on 8 ranks' three-1.h5 three-8.h5
same 'distill: 3 rows in batches of 2 on 8 ranks' three-1.onnx three-8.onnx
differ 'distill: 3 rows: something was learnt' three-1.onnx random.onnx

# ---- losses and combinations against numpy ----
must 0 create mlp --layers 64,30,10 --seed 1 --output student.onnx
must 0 create mlp --layers 64,50,10 --seed 2 --output a0.onnx
must 0 create cnn --input 1x8x8 --channels 4 --kernel 3 --hidden 0 --classes 10 --seed 3 --output b0.onnx
must 0 create mlp --layers 64,10 --seed 4 --output c.onnx
for name in a b; do must 2 train --model "${name}0.onnx" --dataset digits.h5 --epochs 3 --output "$name.onnx"; done
must 2 teach --dataset digits.h5 --teacher a.onnx --teacher b.onnx --teacher c.onnx --dtype float32 --output soft
files='soft/a.h5 soft/b.h5 soft/c.h5'
# shellcheck disable=SC2086 # a list of files
{
  must 2 aggregate $files --weights 1,3,0.5 --dataset digits.h5 --dtype float32 --json --output p1.h5
  cp out p1.json
  must 2 aggregate $files --weights 1,3,0.5 --temperature 4 --dtype float32 --output p4.h5
  must 4 aggregate $files --method logit-mean --dataset digits.h5 --dtype float32 --json --output l.h5
  cp out l.json
  must 1 aggregate $files --weights 1,0,0 --temperature 2 --dtype float16 --output only-a.h5
}
python_check 'aggregate: both means, with and without weights and temperature' <<'END'
import checks, h5py, numpy as np
z = [checks.logits(f"soft/{name}.h5") for name in "abc"]
for file, weights, t, method in (("p1", (1, 3, 0.5), 1, "probability-mean"), ("p4", (1, 3, 0.5), 4, "probability-mean"),
                                 ("l", (1, 1, 1), 1, "logit-mean")):
    checks.close(checks.logits(f"{file}.h5"), checks.combine(z, weights, t, method), 1e-6, file)
    with h5py.File(f"{file}.h5") as f:
        checks.close(f.attrs["weights"], np.array(weights) / sum(weights), 1e-12, f"{file}: weights")
        assert f.attrs["method"].decode() == method and f["logits"].dtype == np.float32
        assert t == 1 or f.attrs["temperature"] == t
checks.close(checks.log_softmax(checks.logits("only-a.h5"), 2), checks.log_softmax(z[0], 2), 2e-3, "weights 1,0,0")
END
python_check 'aggregate: accuracy, NLL, calibration and agreement' <<'END'
import json, checks
y = checks.labels("digits.h5", "train")
z = [checks.logits(f"soft/{name}.h5") for name in "abc"]
for file, weights, method in ("p1", (1, 3, 0.5), "probability-mean"), ("l", (1, 1, 1), "logit-mean"):
    members, got = z + [checks.combine(z, weights, 1, method)], json.load(open(f"{file}.json"))
    assert [t["name"] for t in got["teachers"]] == ["a", "b", "c"] and got["rows"] == 1437
    for member, result in zip(members, got["teachers"] + [got["ensemble"]]):
        for key, wanted in checks.metrics(member, y).items():
            checks.close(result[key], wanted, 1e-6, f"{file}: {result.get('name', 'ensemble')}: {key}")
    for i, one in enumerate(members):
        for k, other in enumerate(members):
            agree = (one.argmax(axis=1) == other.argmax(axis=1)).mean()
            checks.close(got["agreement"][i][k], agree, 1e-9, f"{file}: agreement of {i} and {k}")
END
must 2 distill --student a.onnx --dataset digits.h5 --soft-labels soft/a.h5 --kd-weight 1 --momentum 0 --epochs 3 --batch 100 --shards 8 \
  --log itself.jsonl --output itself.onnx
python_check 'a network that is its own teacher stays what it is' <<'END'
import checks
for line in checks.events("itself.jsonl"):
    assert abs(line["loss"]["kd"]) < 1e-9, line["loss"]
for before, after in zip(checks.weights("a.onnx"), checks.weights("itself.onnx")):
    checks.close(after, before, 1e-6, "weights")
END
# whole NAME ARGUMENTS...: the losses of the untrained student, all rows in one batch, no step taken.
whole() {
  must 2 distill --student student.onnx --dataset "${data:-digits.h5}" --batch 1437 --shards 8 --epochs 2 --learning-rate 0 \
    --log "$1.jsonl" --output "$1.onnx" "${@:2}"
}
whole one --soft-labels soft/a.h5 --loss kd:0.7:temperature=3 --loss cross-entropy:0.3:label_smoothing=0.1
whole stored --soft-labels p4.h5 --temperature 4
# shellcheck disable=SC2046 # a list of options
whole combined $(printf -- '--soft-labels %s ' soft/a.h5 soft/b.h5 soft/c.h5) --weights 1,3,0.5 --temperature 4
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
y[x[:, 0, 3, 3] > 8] = -1
checks.write_dataset("partly.h5", {"train": {"image": x, "label": y}}, scale={"image": (1 / 16, 0)})
checks.write_soft_labels("partly-a.h5", checks.logits("soft/a.h5"), "partly.h5")
END
data=partly.h5 whole unlabelled --soft-labels partly-a.h5 --temperature 2 --kd-weight 0.5
python_check 'distill: losses by part' <<'END'
import checks, numpy as np
x, y = checks.inputs("digits.h5", "train"), checks.labels("digits.h5", "train")
z = [checks.logits(f"soft/{name}.h5") for name in "abc"]
student = checks.mlp("student.onnx", x)
def entropy(logits, labels, smoothing=0.0):
    log_p = checks.log_softmax(logits)[labels >= 0]
    right = log_p[np.arange(len(log_p)), labels[labels >= 0]]
    return -((1 - smoothing) * right + smoothing * log_p.mean(axis=1)).mean()
mixed = checks.combine(z, (1, 3, 0.5), 4, "probability-mean")
partly = checks.labels("partly.h5", "train")
assert 0 < (partly < 0).sum() < 1437
for name, soft, t, weight, ce in (("one", z[0], 3, 0.7, entropy(student, y, 0.1)), ("stored", mixed, 4, 0.9, entropy(student, y)),
                                  ("combined", mixed, 4, 0.9, entropy(student, y)), ("unlabelled", z[0], 2, 0.5, entropy(student, partly))):
    lines = checks.events(f"{name}.jsonl")
    assert len(lines) == 2
    for line in lines:
        kd = checks.kd(soft, student, t).mean()
        checks.close(line["loss"]["kd"], kd, 2e-6, f"{name}: kd")
        checks.close(line["loss"]["cross-entropy"], ce, 2e-6, f"{name}: cross-entropy")
        checks.close(line["loss"]["total"], weight * kd + (1 - weight) * ce, 2e-6, f"{name}: total")
END

# ---- files made elsewhere ----
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
z = checks.logits("soft/a.h5")
checks.write_soft_labels("packed.h5", z, "digits.h5", dtype=np.float64, chunks=(100, 3), compression="gzip", shuffle=True)
checks.write_soft_labels("half.h5", z, "digits.h5", dtype=np.float16)
checks.write_soft_labels("no-hash.h5", z, "digits.h5", hash_text="")
checks.write_soft_labels("other.h5", z, "digits.h5", hash_text="xxh3:0123456789abcdef")
order = np.argsort(-z, axis=1, kind="stable")[:, :10]
with h5py.File("top.h5", "w") as f:
    f.attrs.update({"format": "mpistill-softlabels", "version": 1, "split": "train", "encoding": "topk",
                    "dataset_hash": checks.dataset_hash("digits.h5", "train"), "n_classes": 10})
    f.create_dataset("topk/index", data=order.astype(np.int64), compression="gzip")
    f.create_dataset("topk/logit", data=np.take_along_axis(z, order, axis=1).astype(np.float64))
    f.create_dataset("topk/rest", data=np.full(len(z), -np.inf, np.float32))
END
learn() { must 2 distill --student student.onnx --dataset digits.h5 --epochs 2 --soft-labels "$1" --output "$2" "${@:3}"; }
learn soft/a.h5 from-a.onnx
learn packed.h5 from-packed.onnx
learn top.h5 from-top.onnx
learn half.h5 from-half.onnx
learn no-hash.h5 from-no-hash.onnx --trust-rows
same 'float64, in chunks, gzip, without /blocks' from-a.onnx from-packed.onnx
same 'top-k with all classes, int64 and float64' from-a.onnx from-top.onnx
same 'without a hash, with --trust-rows' from-a.onnx from-no-hash.onnx
differ 'float16 is another file' from-a.onnx from-half.onnx
run 2 distill --student student.onnx --dataset digits.h5 --epochs 1 --soft-labels no-hash.h5 --output refused.onnx
expect_error 'without a hash' 2 no-hash.h5 dataset_hash --trust-rows
run 2 distill --student student.onnx --dataset digits.h5 --epochs 1 --soft-labels other.h5 --output refused.onnx
expect_error 'of another dataset' 2 other.h5 xxh3:0123456789abcdef
run 2 distill --student student.onnx --dataset digits.h5 --split test --epochs 1 --soft-labels packed.h5 --output refused.onnx
expect_error 'of another split' 2 packed.h5 train test
run 2 distill --student student.onnx --dataset digits.h5 --epochs 1 --temperature 2 --soft-labels p4.h5 --output refused.onnx
expect_error 'an ensemble made for another temperature' 2 p4.h5 'temperature 4'
check 'nothing was written from them' test ! -e refused.onnx

# ---- teachers that see the rows in their own way: two arrays with their own scale and offset ----
"$python" - <<'END' || exit 1
import checks, numpy as np
random = np.random.default_rng(3)
def split(n):
    return {"raw": random.integers(0, 255, (n, 2, 3, 3)).astype(np.uint8), "table": random.normal(size=(n, 5)).astype(np.float32),
            "label": random.integers(0, 4, n).astype(np.int32)}
checks.write_dataset("two.h5", {"train": split(57), "test": split(20)},
                     scale={"raw": ((0.01, 0.02), (-1, 0.5)), "table": (3, -2)})
checks.write_linear("raw.onnx", random.normal(size=(4, 18)), random.normal(size=4))
checks.write_linear("table.onnx", random.normal(size=(4, 5)), random.normal(size=4))
END
cat >two.yaml <<'END'
dataset: two.h5
output: two
teachers:
  - {name: raw, model: raw.onnx, input: raw}
  - {name: table, model: table.onnx, input: table}
teach: {dtype: float32}
student: {create: mlp, layers: [5, 6, 4]}
distill: {input: table, epochs: 1}
END
must 2 run two.yaml
python_check 'two inputs with other scales and offsets, one of them per channel' <<'END'
import checks
for split, folder in ("train", "two/soft"), ("test", "two/soft/test"):
    for name in "raw", "table":
        checks.close(checks.logits(f"{folder}/{name}.h5"), checks.mlp(f"{name}.onnx", checks.inputs("two.h5", split, name)), 1e-5,
                     f"{split}: {name}")
END

# ---- very many classes; logits beyond float16 ----
"$python" - <<'END' || exit 1
import checks, numpy as np
random = np.random.default_rng(4)
x = random.normal(size=(12, 4)).astype(np.float32)
checks.write_dataset("wide.h5", {"train": {"x": x, "label": np.array([69999, 40000, 0] * 4, np.int32)}})
checks.write_linear("wide.onnx", random.normal(size=(70000, 4)), np.arange(70000) / 20000)
checks.write_linear("wide-student.onnx", random.normal(size=(70000, 4)))
checks.write_linear("huge.onnx", 1e5 * np.ones((3, 4)))
END
must 2 teach --dataset wide.h5 --teacher wide.onnx --top-k 5 --dtype float32 --output wide
must 2 distill --student wide-student.onnx --dataset wide.h5 --soft-labels wide/wide.h5 --temperature 1 --learning-rate 0 --epochs 1 \
  --batch 12 --log wide.jsonl --output wide-distilled.onnx
python_check '70,000 classes: the five largest, the rest, and the losses' <<'END'
import checks, h5py, numpy as np
x = checks.inputs("wide.h5", "train", "x")
z, student = checks.mlp("wide.onnx", x), checks.mlp("wide-student.onnx", x)
order = np.argsort(-z, axis=1)[:, :5]
with h5py.File("wide/wide.h5") as f:
    assert f["topk/index"].dtype == np.int32 and (f["topk/index"][...] == order).all() and order.max() > 65535
    checks.close(f["topk/logit"][...], np.take_along_axis(z, order, axis=1), 1e-5, "logit")
    rest = z.copy()
    np.put_along_axis(rest, order, -np.inf, axis=1)
    checks.close(f["topk/rest"][...], np.log(np.exp(rest).sum(axis=1)), 1e-5, "rest")
loss = checks.events("wide.jsonl")[0]["loss"]
checks.close(loss["kd"], checks.kd(checks.from_top_k("wide/wide.h5", 70000), student, 1).mean(), 1e-4, "kd")
y = checks.labels("wide.h5", "train")
checks.close(loss["cross-entropy"], -checks.log_softmax(student)[np.arange(12), y].mean(), 1e-5, "cross-entropy")
END
run 2 teach --dataset wide.h5 --teacher huge.onnx --output huge
expect_error 'logits beyond float16' 2 huge row class float32
must 2 teach --dataset wide.h5 --teacher huge.onnx --dtype float32 --output huge32

# ---- a class that the transfer set does not have ----
"$python" - <<'END' || exit 1
import checks, h5py
with h5py.File("digits.h5") as f:
    x, y = f["train/image"][...], f["train/label"][...]
    test = {"image": f["test/image"][...], "label": f["test/label"][...]}
    threes = {name: a[test["label"] == 3] for name, a in test.items()}
keep = y != 3
checks.write_dataset("no-threes.h5", {"train": {"image": x[keep], "label": y[keep]}, "test": threes}, scale={"image": (1 / 16, 0)})
END
must 2 train --model a0.onnx --dataset digits.h5 --epochs 20 --batch 64 --output teacher.onnx
must 2 teach --dataset no-threes.h5 --teacher teacher.onnx --output no-threes
must 2 distill --student student.onnx --dataset no-threes.h5 --soft-labels no-threes/teacher.h5 --temperature 8 --kd-weight 1 --epochs 40 \
  --batch 64 --output taught.onnx
must 2 train --model student.onnx --dataset no-threes.h5 --epochs 40 --batch 64 --output untaught.onnx
for name in taught untaught; do
  must 1 evaluate --model "$name.onnx" --dataset no-threes.h5 --json
  cp out "$name.json"
done
python_check 'a class never seen is learnt from soft labels, and not from hard ones' <<'END'
import json
taught, untaught = (json.load(open(f"{name}.json"))["accuracy"] for name in ("taught", "untaught"))
assert untaught == 0 and taught > 0.3, f"accuracy on threes: {taught} taught, {untaught} untaught"
END
finish
