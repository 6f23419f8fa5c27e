#!/bin/bash
# Teachers of unequal cost over ranks and blocks, and logits that depend on the row and the model alone.
# shellcheck source=tests/lib/behaviour.sh
. "$(dirname "$0")/../lib/behaviour.sh"
cp "$digits" digits.h5

must 0 create mlp --layers 64,24,10 --seed 1 --output a.onnx
must 0 create cnn --input 1x8x8 --channels 8,16 --classes 10 --seed 2 --output b.onnx
must 0 create mlp --layers 64,10 --seed 3 --output c.onnx
must 0 create mlp --layers 64,20,10 --batch-norm --seed 4 --output d0.onnx
must 0 create resnet --depth 20 --input 1x8x8 --classes 10 --seed 5 --output e.onnx
must 2 train --model d0.onnx --dataset digits.h5 --epochs 2 --output d.onnx # statistics that are not those of a batch

# ---- ranks, teachers and blocks ----
teachers=()
for name in a b c d e; do teachers+=(--teacher "$name=$name.onnx"); done
must 0 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output alone
must 2 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output two
must 8 teach --dataset digits.h5 "${teachers[@]}" --dtype float32 --output eight
for name in a b c d e; do
  same "five teachers on 2 ranks: $name" "alone/$name.h5" "two/$name.h5"
  same "five teachers on 8 ranks: $name" "alone/$name.h5" "eight/$name.h5"
done
must 1 teach --dataset digits.h5 --teacher a.onnx --block 1000 --output block-1
must 8 teach --dataset digits.h5 --teacher a.onnx --block 1000 --output block-8
same 'two blocks on 8 ranks' block-1/a.h5 block-8/a.h5
must 4 teach --dataset digits.h5 --teacher e.onnx --block 8 --dtype float32 --output block-8-rows
python_check '--block: rows a block, and the same logits' <<'END'
import checks, h5py, numpy as np
with h5py.File("block-1/a.h5") as f:
    assert 1000 <= f.attrs["block_rows"] < 1437 and f["blocks/done"].shape == (2,) and (f["blocks/done"][...] == 1).all()
with h5py.File("block-8-rows/e.h5") as f:
    assert f["blocks/done"].shape[0] == -(-1437 // f.attrs["block_rows"]) > 8, f.attrs["block_rows"]
assert np.array_equal(checks.logits("block-8-rows/e.h5"), checks.logits("alone/e.h5")), "other logits"
END
must 3 teach --dataset digits.h5 --teacher ./a.onnx --teacher second=a.onnx --dtype float32 --output twice
python_check 'one model under two names' <<'END'
import checks, h5py, numpy as np
for name in "a", "second":
    assert np.array_equal(checks.logits(f"twice/{name}.h5"), checks.logits("alone/a.h5"))
    with h5py.File(f"twice/{name}.h5") as f:
        assert f.attrs["teacher"].decode() == name, f.attrs["teacher"]
END

# ---- what the file says ----
must 0 inspect digits.h5 --json
cp out dataset.json
must 0 inspect e.onnx --json
cp out model.json
must 0 inspect alone/e.h5 --json
python_check 'attributes of the file, in h5py and inspect' <<'END'
import json
import h5py
dataset, model, shown = (json.load(open(name)) for name in ("dataset.json", "model.json", "out"))
with h5py.File("alone/e.h5") as f:
    text = {key: value.decode() for key, value in f.attrs.items() if isinstance(value, bytes)}
    assert text["format"] == "mpistill-softlabels" and f.attrs["version"] == 1
    assert (text["teacher"], text["split"], text["encoding"]) == ("e", "train", "dense"), text
    assert text["dataset_hash"] == dataset["splits"]["train"]["hash"] == shown["dataset_hash"]
    assert text["model_hash"] == model["hash"] == shown["model_hash"]
    assert f["logits"].shape == (1437, 10) and f["logits"].dtype == "float32"
assert shown["blocks"] == shown["blocks_done"]
END

# ---- logits depend on the row and the model alone ----
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    x = f["train/image"][...]
order = np.random.default_rng(1).permutation(len(x))
np.save("order.npy", order)
splits = {f"row{i}": {"image": x[i : i + 1]} for i in (0, 700, 1436)}
splits["shuffled"] = {"image": x[order]}
splits["few"] = {"image": x[order[:13]]}
checks.write_dataset("other.h5", splits, scale={"image": (1 / 16, 0)})
END
for split in row0 row700 row1436 shuffled few; do
  must 2 teach --dataset other.h5 --split "$split" --teacher a.onnx --teacher b.onnx --teacher d.onnx --teacher e.onnx --dtype float32 \
    --output "$split"
done
python_check 'row by row, shuffled and in other batches: the same logits, batch norm too' <<'END'
import checks, numpy as np
order = np.load("order.npy")
for name in "a", "b", "d", "e":
    z = checks.logits(f"alone/{name}.h5")
    assert np.abs(z[0] - z[700]).max() > 1e-2, f"{name}: rows do not differ enough for this test"
    for i in 0, 700, 1436:
        checks.close(checks.logits(f"row{i}/{name}.h5")[0], z[i], 2e-5, f"{name}: row {i} alone")
    checks.close(checks.logits(f"shuffled/{name}.h5"), z[order], 2e-5, f"{name}: shuffled")
    checks.close(checks.logits(f"few/{name}.h5"), z[order[:13]], 2e-5, f"{name}: 13 rows")
x = checks.inputs("digits.h5", "train")
for name in "a", "c":
    checks.close(checks.logits(f"alone/{name}.h5"), checks.mlp(f"{name}.onnx", x), 1e-5, f"{name}: numpy")
END
python_check 'batch norm uses the statistics in the file' <<'END'
import checks, numpy as np, onnx
from onnx import numpy_helper
graph = onnx.load("d.onnx").graph
w = {t.name: numpy_helper.to_array(t).astype(float) for t in graph.initializer}
x = checks.inputs("digits.h5", "train").reshape(1437, -1)
for node in graph.node:
    if node.op_type == "Gemm":
        x = x @ w[node.input[1]].T + (w[node.input[2]] if len(node.input) > 2 else 0)
    elif node.op_type == "BatchNormalization":
        scale, bias, mean, variance = (w[name] for name in node.input[1:])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        assert np.abs(variance - 1).max() > 0.1, "training has left no trace in the statistics"
        x = (x - mean) / np.sqrt(variance + epsilon) * scale + bias
    elif node.op_type == "Relu":
        x = np.maximum(x, 0)
checks.close(checks.logits("alone/d.h5"), x, 2e-5, "logits")
END

# ---- float16, top-k ----
must 2 teach --dataset digits.h5 --teacher a.onnx --teacher e.onnx --output half
for k in 3 10; do must 3 teach --dataset digits.h5 --teacher a.onnx --teacher c.onnx --dtype float32 --top-k $k --output "top-$k"; done
"$python" -c 'import checks, numpy as np; checks.write_linear("ties.onnx", np.zeros((10, 64)), [1, 2, 2, 0, 2, 0, 0, 0, 0, 0])'
must 2 teach --dataset digits.h5 --teacher ties.onnx --dtype float32 --top-k 2 --output ties
python_check 'float16 is float32 rounded to nearest even' <<'END'
import checks, numpy as np
for name in "a", "e":
    half = checks.logits(f"half/{name}.h5")
    assert half.dtype == np.float16 and np.array_equal(half, checks.logits(f"alone/{name}.h5").astype(np.float16)), name
END
python_check 'top-k: the largest first, the log-sum-exp of the rest; all classes give the dense logits exactly' <<'END'
import checks, h5py, numpy as np
for name in "a", "c":
    z = checks.logits(f"alone/{name}.h5")
    assert np.array_equal(checks.from_top_k(f"top-10/{name}.h5", 10), z), f"{name}: K = C"
    order = np.argsort(-z, axis=1, kind="stable")
    with h5py.File(f"top-3/{name}.h5") as f:
        assert f.attrs["encoding"] in (b"topk", "topk") and "logits" not in f
        assert np.array_equal(f["topk/index"][...], order[:, :3]), name
        assert np.array_equal(f["topk/logit"][...], np.take_along_axis(z, order[:, :3], axis=1)), name
        rest = np.take_along_axis(z, order[:, 3:], axis=1).astype(float)
        checks.close(f["topk/rest"][...], np.log(np.exp(rest).sum(axis=1)), 1e-6, f"{name}: rest")
END
python_check 'top-k with ties: the first of equal ones, none twice' <<'END'
import h5py, numpy as np
with h5py.File("ties/ties.h5") as f:
    assert (f["topk/index"][...] == [1, 2]).all() and (f["topk/logit"][...] == 2).all()
    assert np.allclose(f["topk/rest"][...], np.log(np.exp(2) + np.exp(1) + 6), rtol=1e-6)
END

# ---- a teacher whose outputs stand in another order ----
"$python" - <<'END' || exit 1
import checks, numpy as np
order = [9, 3, 0, 1, 2, 4, 8, 5, 7, 6]
weight, bias = checks.weights("c.onnx")
assert weight.shape == (10, 64)
checks.write_linear("ordered.onnx", weight, bias)
checks.write_linear("permuted.onnx", weight[order], bias[order])
END
# recipe NAME MODEL CLASSES
recipe() {
  cat >"$1.yaml" <<END
dataset: digits.h5
output: $1
teachers:
  - {name: other, model: a.onnx}
  - {name: linear, model: $2$3}
teach: {dtype: float32}
aggregate: {dtype: float32}
student: {create: mlp, layers: [64, 10]}
distill: {epochs: 1}
END
  must 2 run "$1.yaml"
}
recipe ordered ordered.onnx ''
recipe permuted permuted.onnx ', classes: [9, 3, 0, 1, 2, 4, 8, 5, 7, 6]'
recipe wrong permuted.onnx ''
python_check 'permuted classes: the file has the order of the teacher, the ensemble that of the data set' <<'END'
import checks, h5py
order = [9, 3, 0, 1, 2, 4, 8, 5, 7, 6]
with h5py.File("permuted/soft/linear.h5") as f:
    assert [int(name) for name in f["classes"][...]] == order
checks.close(checks.logits("permuted/soft/linear.h5"), checks.logits("ordered/soft/linear.h5")[:, order], 1e-5, "teacher")
wanted = checks.logits("ordered/ensemble.h5")
checks.close(checks.logits("permuted/ensemble.h5"), wanted, 1e-5, "ensemble")
assert abs(checks.logits("wrong/ensemble.h5") - wanted).max() > 0.1, "the order does not matter in this test"
END

# ---- the same command again; another one into the same folder ----
cp -p half/a.h5 kept.h5
must 4 teach --dataset digits.h5 --teacher a.onnx --teacher e.onnx --output half
check 'again: says that it is done' test "$(grep -c 'already done' err)" = 2
same 'again: the same bytes' half/a.h5 kept.h5
check 'again: not written' test ! half/a.h5 -nt kept.h5
run 2 teach --dataset digits.h5 --teacher a.onnx --dtype float32 --output half
expect_error 'another dtype needs --force' 2 half/a.h5 dtype --force
run 2 teach --dataset digits.h5 --teacher a=c.onnx --output half
expect_error 'another model needs --force' 2 half/a.h5 model --force
same 'refused: the same bytes' half/a.h5 kept.h5
must 2 teach --dataset digits.h5 --teacher a=c.onnx --output half --force
must 2 teach --dataset digits.h5 --teacher a=c.onnx --output fresh
same '--force' half/a.h5 fresh/a.h5

# ---- killed and started again ----
must 0 create resnet --depth 56 --width 32 --input 1x8x8 --classes 10 --seed 6 --output slow.onnx
"$python" - <<'END' || exit 1
import checks, h5py, numpy as np
with h5py.File("digits.h5") as f:
    checks.write_dataset("long.h5", {"train": {"image": np.tile(f["train/image"][...], (6, 1, 1, 1))}}, scale={"image": (1 / 16, 0)})
END
slow=(teach --dataset long.h5 --teacher slow=slow.onnx --teacher a=a.onnx --block 8)
must 4 "${slow[@]}" --output whole
# kill_at PERCENT RANKS: SIGKILL for mpirun once that much of slow.h5 is done.
kill_at() {
  start "$2" "${slow[@]}" --output killed
  HDF5_USE_FILE_LOCKING=FALSE timeout 60 "$python" - "$1" "$job" <<'END'
import os, sys, time, h5py
share = 0
while share < int(sys.argv[1]) / 100 and os.path.exists(f"/proc/{sys.argv[2]}"):
    time.sleep(0.01)
    try:
        with h5py.File("killed/slow.h5.part") as f:
            share = f["blocks/done"][...].mean()
    except OSError:
        pass  # not begun
END
  kill_job
}
kill_at 3 2
check 'killed on 2 ranks: not under its final name' test ! -e killed/slow.h5
kill_at 40 4
check 'killed on 4 ranks: not under its final name' test ! -e killed/slow.h5
python_check 'killed: some blocks are done, but not all' <<'END'
import h5py
with h5py.File("killed/slow.h5.part") as f:
    share = f["blocks/done"][...].mean()
    assert 0.4 <= share < 1, share
END
must 3 "${slow[@]}" --output killed
cp err teach.err
python_check 'started again: only what is missing is computed' <<'END'
import re, h5py
with h5py.File("killed/slow.h5") as f, h5py.File("killed/a.h5") as g:
    blocks = len(f["blocks/done"]) + len(g["blocks/done"])
computed = int(re.search(r"teach (\d+) blocks", open("teach.err").read()).group(1))
assert computed < 0.8 * blocks, f"{computed} of {blocks} blocks"
END
for name in slow a; do same "killed twice, on 2 and 4 ranks, ended on 3: $name" whole/$name.h5 killed/$name.h5; done
check 'killed: nothing is left over' test "$(cd killed && echo *)" = 'a.h5 slow.h5'

# ---- a teacher that looks across rows ----
"$python" - <<'END' || exit 1
import numpy as np, onnx
from onnx import helper as h, numpy_helper as nh
nodes = [h.make_node("Flatten", ["image"], ["x"]), h.make_node("MatMul", ["x", "w"], ["a"]), h.make_node("Softmax", ["a"], ["logits"], axis=0)]
graph = h.make_graph(nodes, "g", [h.make_tensor_value_info("image", 1, ["N", 1, 8, 8])], [h.make_tensor_value_info("logits", 1, ["N", 10])],
                     [nh.from_array(np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32), "w")])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)])
model.ir_version = 8
onnx.save(model, "across.onnx")
END
for ranks in 1 3; do
  must "$ranks" teach --dataset digits.h5 --teacher a.onnx --teacher across.onnx --quiet --output "across-$ranks"
  check "a teacher that looks across rows is told, $ranks ranks" test \
    "$(grep -c "^mpistill: warning: teacher 'across': what it gives for a row depends on the other rows" err)$(grep -c 'warning:' err)" = 11
done
same 'its labels do not depend on ranks all the same' across-1/across.h5 across-3/across.h5
finish
