#!/usr/bin/env python3
"""Models whose tensors onnx.save_model has put into other files: the same logits and students as from one file. Large tensors that training
leaves alone: they are in the student as they were."""
import sys

sys.dont_write_bytecode = True

import os

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import DIGITS, Failure, create, fresh, main, mpistill, read_parameters, test, train


def split(path, **how):
    """The model in a folder of its own, with its data beside it."""
    folder = fresh(".model")
    os.mkdir(folder)
    moved = os.path.join(folder, "model.onnx")
    onnx.save_model(onnx.load(path), moved, save_as_external_data=True, **how)
    if len(os.listdir(folder)) < 2 or os.path.getsize(moved) > os.path.getsize(path) / 2:
        raise Failure("onnx has left the data in the model")
    return moved


def taught(path):
    folder = fresh(".soft")
    mpistill("teach", "--dataset", DIGITS, "--teacher", f"t={path}", "--dtype", "float32", "--output", folder)
    with h5py.File(os.path.join(folder, "t.h5"), "r") as f:
        return f["logits"][...], f.attrs["model_hash"]


def trained(path):
    with open(train(path, DIGITS, epochs=1).path, "rb") as f:
        return f.read()


@test("one file for all tensors, one for each, small ones inline")
def layouts():
    path = create("cnn", "--input", "1x8x8", "--classes", 10, "--seed", 3)
    logits, whole_hash = taught(path)
    student, hashes = trained(path), {whole_hash}
    ways = [{"all_tensors_to_one_file": True, "location": "weights.bin", "size_threshold": 0},
            {"all_tensors_to_one_file": False, "size_threshold": 0}, {"all_tensors_to_one_file": True, "size_threshold": 200}]
    for way in ways:
        moved = split(path, **way)
        got, model_hash = taught(moved)
        hashes.add(model_hash)
        if not np.array_equal(got, logits):
            raise Failure(f"{way}: other logits")
        if trained(moved) != student:
            raise Failure(f"{way}: another student")
    if len(hashes) != len(ways) + 1:
        raise Failure("different files have the same hash")
    return f"{len(ways)} ways, the same bytes"


@test("weights that change behind the same model are another teacher")
def changed():
    moved = split(create("mlp", "--layers", "64,16,10", "--seed", 1), location="weights.bin", size_threshold=0)
    before, old_hash = taught(moved)
    with open(os.path.join(os.path.dirname(moved), "weights.bin"), "r+b") as f:
        weights = np.frombuffer(f.read(), np.float32) * 2
        f.seek(0)
        f.write(weights.tobytes())
    after, new_hash = taught(moved)
    if old_hash == new_hash or np.array_equal(before, after):
        raise Failure("nobody has noticed")
    return "another hash, other logits"


@test("large tensors of floats that are no parameters")
def constants():
    """No gradient reaches the table that is compared with; nobody reads the other one."""
    random, path = np.random.default_rng(1), fresh(".onnx")
    tables = {"table": random.standard_normal((1, 64, 1100)).astype(np.float32), "unread": random.standard_normal((300, 300)).astype(np.float32)}
    w = random.standard_normal((1100, 10)).astype(np.float32) / 33
    nodes = [helper.make_node("Reshape", ["x", "column"], ["c"]), helper.make_node("Greater", ["c", "table"], ["above"]),
             helper.make_node("Cast", ["above"], ["f"], to=TensorProto.FLOAT), helper.make_node("ReduceMean", ["f"], ["m"], axes=[1], keepdims=0),
             helper.make_node("MatMul", ["m", "w"], ["logits"])]
    graph = helper.make_graph(nodes, "constants", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
                              [numpy_helper.from_array(t, name) for name, t in {**tables, "w": w, "column": np.int64([-1, 64, 1])}.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    with h5py.File(DIGITS) as f:
        x = f["train"][[k for k in f["train"] if k != "label"][0]]
        scale, offset = x.attrs.get("scale", 1), x.attrs.get("offset", 0)
        x = np.float32(x[...].reshape(len(x), 64)) * np.float32(scale) + np.float32(offset)
    logits = (x[:, :, None] > tables["table"]).mean(1, dtype=np.float32) @ w
    error = float(np.abs(taught(path)[0] - logits).max())
    if not error < 1e-5:
        raise Failure(f"logits off by {error}")
    after = read_parameters(train(path, DIGITS, epochs=1).path)
    if np.array_equal(after["w"], w) or any(not np.array_equal(after[name], t) for name, t in tables.items()):
        raise Failure("w has not changed, or a table has")
    return f"logits off by {error:.0e}"


if __name__ == "__main__":
    sys.exit(main())
