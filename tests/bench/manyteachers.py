"""A whole run with five teachers and cached labels, against the usual loop of PyTorch that asks the teachers in every step.

Ours is `mpistill run` from its start to its end: teach, combine, distil, evaluate. The peer's seconds are those of its epochs alone."""
import json
import os
import shutil
import time

import h5py
import numpy as np
import onnx
from onnx import numpy_helper

from cases import BATCH, CLASSES, EPOCHS, ROWS, STUDENT, TEACHERS
from common import HERE, bound, create, program, repeats, run, spread, text, verdict

AIM = 5


def save_parameters(path):
    model = onnx.load(path)
    trained = [i for i in model.graph.initializer if not i.name.endswith((".mean", ".variance"))]
    np.savez(path.replace(".onnx", ".npz"), **{i.name: numpy_helper.to_array(i) for i in trained})


def prepare(folder):
    random = np.random.default_rng(1)
    x, y = random.integers(0, 256, (ROWS, 1, 28, 28), np.uint8), random.integers(0, CLASSES, ROWS).astype("i4")
    np.save(f"{folder}/x.npy", x)
    np.save(f"{folder}/y.npy", y)
    with h5py.File(f"{folder}/set.h5", "w") as file:
        file.attrs.update({"format": "mpistill-dataset", "version": 1})
        for split, n in (("train", ROWS), ("test", 256)):
            file[f"{split}/x"], file[f"{split}/label"] = x[:n], y[:n]
            file[f"{split}/x"].attrs.update({"scale": np.float32(1 / 255), "offset": np.float32(0)})
    for i, t in enumerate(TEACHERS):
        kind = ["mlp", "--layers", ",".join(map(str, t["layers"]))] if "layers" in t else [
            "cnn", "--input", "1x28x28", "--classes", str(CLASSES), "--channels", "32,64", "--kernel", str(t["kernel"])]
        create(f"{folder}/t{i}.onnx", *kind, "--seed", str(i))
        save_parameters(f"{folder}/t{i}.onnx")
    create(f"{folder}/student.onnx", "mlp", "--layers", ",".join(map(str, STUDENT["layers"])), "--seed", "9")
    save_parameters(f"{folder}/student.onnx")
    with open(f"{folder}/recipe.yaml", "w") as file:
        file.write("dataset: set.h5\noutput: run\nteachers:\n" + "".join(f"  - {{name: t{i}, model: t{i}.onnx}}\n" for i in range(len(TEACHERS))))
        file.write(f"student: {{model: student.onnx}}\ndistill:\n  epochs: {EPOCHS}\n  batch: {BATCH}\n  losses:\n"
                   "    - {kind: kd, weight: 0.9, temperature: 4}\n    - {kind: cross-entropy, weight: 0.1}\n"
                   "  optimizer: {kind: sgd, learning_rate: 0.01, momentum: 0.9}\n  schedule: {kind: constant}\n")


def ours(folder):
    shutil.rmtree(f"{folder}/run", ignore_errors=True)
    at = time.monotonic()
    run([*bound, program, "run", f"{folder}/recipe.yaml", "--quiet"])
    return time.monotonic() - at


def peer(python, folder):
    if os.path.exists(f"{folder}/meeting"):
        os.remove(f"{folder}/meeting")
    return json.loads(run([*bound, python, f"{HERE}/peer_live.py", folder]).strip().splitlines()[-1])


def measure(folder, pythons):
    prepare(folder)
    mine, theirs = [], {}
    for _ in range(repeats):
        mine.append(ours(folder))
        for python in pythons:
            said = peer(python, folder)
            theirs.setdefault(said["version"], []).append(said["seconds"])
    return {"ours": spread(mine), "aim": AIM, "peers": {
        version: {**spread(s), "ratio": spread([b / a for a, b in zip(mine, s)])} for version, s in theirs.items()}}


def show(result):
    print(f"\na run with {len(TEACHERS)} teachers, {EPOCHS} epochs of {ROWS} rows: seconds, median (least–most) of {repeats}")
    for version, p in result["peers"].items():
        print(f"mpistill run {text(result['ours'], 1):24} live teachers in PyTorch {version:18} {text(p, 1):24} {text(p['ratio'], 1)}× "
              f"≥ {AIM}×{verdict(p['ratio']['median'] >= AIM)}", flush=True)
