#!/usr/bin/env python3
"""Models whose tensors onnx.save_model has put into other files: the same logits and students as from one file."""
import sys

sys.dont_write_bytecode = True

import os

import h5py
import numpy as np
import onnx

from harness import DIGITS, Failure, create, fresh, main, mpistill, test, train


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


if __name__ == "__main__":
    sys.exit(main())
