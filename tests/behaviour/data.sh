#!/bin/bash
# The embedded data set, the hash that ties soft labels to their rows, and the models that create writes.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

# ---- digits.h5 ----
python_check 'digits.h5: splits, types, scale and classes' <<'END'
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    assert f.attrs["format"] == b"mpistill-dataset" and f.attrs["version"] == 1 and f.attrs["name"] == b"digits"
    assert [name.decode() for name in f["classes"][...]] == [str(c) for c in range(10)]
    assert sorted(key for key in f if key != "classes") == ["test", "train"]
    for split, rows in ("train", 1437), ("test", 360):
        x, y = f[split]["image"], f[split]["label"]
        assert x.shape == (rows, 1, 8, 8) and x.dtype == np.uint8 and x[...].max() == 16, split
        assert x.attrs["scale"] == np.float32(1 / 16) and x.attrs["offset"] == 0
        assert y.shape == (rows,) and y.dtype == np.int32
        counts = np.bincount(y[...], minlength=10)
        assert len(counts) == 10 and counts.min() > rows / 12, counts
    train, test = (f[split]["image"][...].reshape(-1, 64) for split in ("train", "test"))
    assert not (train[None, :, :] == test[:, None, :]).all(axis=2).any(), "a test image is in the training split"
END
python_check 'digits.h5: source and licence, in the file and in README.md' "$top/datasets/README.md" <<'END'
import sys, h5py
text = open(sys.argv[1]).read()
with h5py.File("digits.h5") as f:
    source, licence = f.attrs["source"].decode(), f.attrs["licence"].decode()
assert "UCI" in source and "doi:10.24432/C50P49" in source and licence == "CC BY 4.0"
for word in licence, "doi:10.24432/C50P49", "digits.h5", "1 437", "360":
    assert word in text, f"README.md does not say '{word}'"
END
if "$python" -c 'import sklearn' 2>/dev/null; then
  check 'make_digits.py' "$python" "$top/datasets/make_digits.py" made.h5
  same 'make_digits.py writes the same bytes' made.h5 "$digits"
else
  echo 'skip make_digits.py: python3-sklearn is not installed'
fi
must 0 inspect digits.h5
check 'inspect: for people' grep -q -z 'train.*1437' out

# ---- scripts for a user's own downloads ----
mkdir empty wrong
for file in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
  echo 'not the data' | gzip -n >wrong/$file.gz
done
for script in mnist fashion-mnist cifar10; do
  "$top/datasets/$script.sh" empty output.h5 >out 2>err
  check "$script.sh: a folder without the files" test $? = 2 -a "$(grep -c 'there is no such file' err)" = 1
  "$top/datasets/$script.sh" nowhere output.h5 >out 2>err
  check "$script.sh: no folder" test $? = 2 -a "$(grep -c 'there is no such folder' err)" = 1
done
for script in mnist fashion-mnist; do
  "$top/datasets/$script.sh" wrong output.h5 >out 2>err
  check "$script.sh: another checksum" test $? = 2 -a "$(grep -c 'checksum' err)" = 1
done
check 'the scripts have written nothing' test ! -e output.h5

# ---- make_text.py ----
text() { "$python" "$top/datasets/make_text.py" "$@" --length 4 --output text.h5 >out 2>err; }
printf 'label\tsentence\n0\tA dull, dull film\n1\tbright\n' | gzip -n >train.tsv.gz
printf 'content\tid\tlabel\nFilm bright\t7\t1\n' >dev.tsv
printf 'DESC:manner How ?\nNUM:count How many films ?\n' >trec
text --train train.tsv.gz --test dev.tsv
python_check 'make_text.py: columns in any order, the text called sentence or content' <<'END'
import h5py
with h5py.File("text.h5") as f:
    assert [c.decode() for c in f["classes"][...]] == ["0", "1"]
    # dull is the most frequent, then by the alphabet: , a bright film
    assert f["train/tokens"][...].tolist() == [[4, 2, 3, 2], [5, 0, 0, 0]] and f["train/label"][...].tolist() == [0, 1]
    assert f["test/tokens"][...].tolist() == [[6, 5, 0, 0]] and f["test/label"][...].tolist() == [1]
END
must 0 inspect text.h5
rm text.h5
refuse_text() { # NAME MESSAGE ARGUMENTS...
  text "${@:3}"
  check "make_text.py: $1" test "$?" = 2 -a "$(grep -c '' err)" = 1 -a "$(grep -c -F -- "$2" err)" = 1 -a ! -e text.h5
}
refuse_text 'a file that is not there' 'nowhere: cannot be read' --train nowhere --test dev.tsv
refuse_text 'no such columns' 'trec: its first line names no columns' --train train.tsv.gz --test trec
refuse_text 'no such lines' 'dev.tsv, line 1: does not begin with COARSE:fine' --format trec --train trec --test dev.tsv
printf 'label\tsentence\n2\tFilm\n' >other.tsv
refuse_text 'a class of the test rows alone' 'other.tsv: classes that train.tsv.gz has not: 2' --train train.tsv.gz --test other.tsv

# ---- the hash ----
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
random = np.random.default_rng(5)
n = 700
arrays = {"image": random.integers(0, 255, (n, 3, 20, 30)).astype(np.uint8), "table": random.normal(size=(n, 7)).astype(np.float32),
          "half": random.normal(size=(n, 2)).astype(np.float16), "tokens": random.integers(0, 90, (n, 5)),
          "tokens.length": random.integers(1, 6, n).astype(np.int32), "label": random.integers(0, 9, n).astype(np.int32),
          "label.other": random.integers(0, 3, n).astype(np.int32), "target": random.normal(size=(n, 2)).astype(np.float32)}
few = {name: a[:3] for name, a in arrays.items()}
checks.write_dataset("plain.h5", {"train": arrays, "few": few})
checks.write_dataset("scaled.h5", {"train": arrays, "few": few}, classes=[f"class {i}" for i in range(9)], scale={"image": (0.1, -1)})
with h5py.File("packed.h5", "w") as f:
    f.attrs["format"], f.attrs["version"] = "mpistill-dataset", 1
    for split, source in ("few", few), ("train", arrays):
        for name, a in reversed(source.items()):
            f.create_dataset(f"{split}/{name}", data=a, chunks=True, compression="gzip")
checks.write_dataset("swapped.h5", {"train": {name: a[[1, 0, *range(2, n)]] for name, a in arrays.items()}, "few": few})
checks.write_dataset("renamed.h5", {"train": {name.replace("table", "Table"): a for name, a in arrays.items()}, "few": few})
END
# hash FILE: into FILE.json.
hash() {
  must 0 inspect "$1" --json
  cp out "$1.json"
}
for file in digits plain scaled packed swapped renamed; do hash $file.h5; done
python_check 'inspect --json: the hash is that of the definition' <<'END'
import json
import checks
def shown(file, split):
    return json.load(open(f"{file}.h5.json"))["splits"][split]["hash"]
for file, splits in ("digits", ("train", "test")), ("plain", ("train", "few")), ("packed", ("train", "few")), ("renamed", ("train",)):
    for split in splits:
        wanted = checks.dataset_hash(f"{file}.h5", split)
        assert shown(file, split) == wanted, f"{file}, {split}: {shown(file, split)}, expected {wanted}"
for same in "scaled", "packed":  # layout, compression, scale and names of classes do not matter
    assert shown(same, "train") == shown("plain", "train"), same
for other in "swapped", "renamed":
    assert shown(other, "train") != shown("plain", "train"), other
    assert shown(other, "few") == shown("plain", "few") or other == "renamed"
END
"$python" - <<'END' || exit 1
import os, h5py
before = os.stat("plain.h5")
with h5py.File("plain.h5", "r+") as f:
    f["train/label"][5] = 8 - f["train/label"][5] if f["train/label"][5] != 4 else 5
assert os.stat("plain.h5").st_size == before.st_size
END
check 'the hash is kept beside the file' test -s plain.h5.hash
hash plain.h5
python_check 'one label changed in place: another hash, not the one kept' <<'END'
import json
import checks
shown = json.load(open("plain.h5.json"))["splits"]["train"]["hash"]
assert shown == checks.dataset_hash("plain.h5", "train"), shown
assert shown != json.load(open("packed.h5.json"))["splits"]["train"]["hash"]
END
"$python" - <<'END' || exit 1
import os, h5py
kept = os.stat("plain.h5")
with h5py.File("plain.h5", "r+") as f:
    f["train/label"][7] = 8 - f["train/label"][7] if f["train/label"][7] != 4 else 5
os.utime("plain.h5", ns=(kept.st_atime_ns, kept.st_mtime_ns))
END
hash plain.h5
python_check 'nor where its time was set back' <<'END'
import json
import checks
shown = json.load(open("plain.h5.json"))["splits"]["train"]["hash"]
assert shown == checks.dataset_hash("plain.h5", "train"), shown
END
sed -i 's/^xxh3:[0-9a-f]*/xxh3:0123456789abcdef/' plain.h5.hash
must 0 inspect plain.h5 --verify --json
check 'inspect --verify computes it, whatever is kept' test "$(grep -c 'xxh3:0123456789abcdef' out)" = 0
"$python" - <<'END' || exit 1
import checks, numpy as np
checks.write_linear("table.onnx", np.ones((9, 7)))
random = np.random.default_rng(6)
checks.write_dataset("ranks.h5", {"train": {"table": random.normal(size=(300001, 7)).astype(np.float32)}})
END
must 3 teach --dataset ranks.h5 --teacher table.onnx --output ranks
must 0 inspect ranks/table.h5 --json
python_check 'three ranks that share the work find the same hash' <<'END'
import json
import checks
assert json.load(open("out"))["dataset_hash"] == checks.dataset_hash("ranks.h5", "train")
END

# ---- create ----
n=0
# created ARGUMENTS...: writes N.onnx, and its arguments to N.txt.
created() {
  must 0 create "$@" --output "$n.onnx"
  echo "$*" >"$n.txt"
  n=$((n + 1))
}
for activation in relu tanh sigmoid leaky-relu; do created mlp --layers 64,30,20,10 --activation $activation; done
created mlp --layers 64,10
created mlp --layers 64,30,10 --dropout 0.5 --batch-norm
created cnn --input 1x8x8 --classes 10
created cnn --input 3x32x32 --classes 7 --channels 8,16,32 --kernel 3 --hidden 0
created cnn --input 2x12x9 --classes 3 --channels 4 --activation tanh --dropout 0.2 --batch-norm
for depth in 8 20 32 56; do created resnet --depth $depth --input 3x32x32 --classes 10; done
created resnet --depth 14 --width 6 --input 1x8x8 --classes 5
python_check 'create: every model passes the checker and gives [N, classes]' $n <<'END'
import sys, onnx
for i in range(int(sys.argv[1])):
    words = open(f"{i}.txt").read().split()
    try:
        model = onnx.load(f"{i}.onnx")
        onnx.checker.check_model(model, full_check=True)
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as problem:
        sys.exit(f"create {' '.join(words)}: {problem}")
    classes = int(words[words.index("--classes") + 1] if "--classes" in words else words[words.index("--layers") + 1].split(",")[-1])
    dims = graph.output[0].type.tensor_type.shape.dim
    assert len(graph.output) == 1 and len(dims) == 2 and dims[0].dim_param and dims[1].dim_value == classes, f"{words}: {dims}"
END
python_check 'create: ResNets have the parameters of the CIFAR ones' <<'END'
import checks, onnx
from onnx import numpy_helper
def parameters(depth, channels=3, classes=10):
    total, width_in = 16 * channels * 9 + 32, 16
    for width in 16, 32, 64:
        for block in range((depth - 2) // 6):
            total += width * width_in * 9 + width * width * 9 + 4 * width + (width * width_in + 2 * width if width != width_in else 0)
            width_in = width
    return total + classes * 65
for i, depth in enumerate((8, 20, 32, 56), start=9):
    graph = onnx.load(f"{i}.onnx").graph
    moving = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    sizes = [numpy_helper.to_array(t).size for t in graph.initializer if t.data_type == 1 and t.dims and t.name not in moving]
    total, plain = sum(sizes), parameters(depth) - sum(w * v + 2 * w for v, w in ((16, 32), (32, 64)))
    assert total in (plain, parameters(depth)), f"depth {depth}: {total}, expected {plain} or {parameters(depth)}"
END
must 0 create mlp --layers 64,500,10 --seed 1 --output seed1.onnx
must 0 create mlp --layers 64,500,10 --seed 1 --output again.onnx
must 0 create mlp --layers 64,500,10 --seed 2 --output seed2.onnx
same 'create: the same seed' seed1.onnx again.onnx
differ 'create: another seed' seed1.onnx seed2.onnx
python_check 'create: weights of the size that He proposes for ReLU' <<'END'
import checks, numpy as np
first = next(w for w in checks.weights("seed1.onnx") if w.shape in ((500, 64), (64, 500)))
assert abs(first.std() / np.sqrt(2 / 64) - 1) < 0.03 and abs(first.mean()) < 0.01, (first.mean(), first.std())
END
finish
