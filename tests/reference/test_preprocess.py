#!/usr/bin/env python3
"""What a teacher's images are made into, beside PyTorch: resize, crop, channel order, scale, offset, layout, type."""
import sys

sys.dont_write_bytecode = True

import json
import subprocess

import h5py
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from harness import PROGRAM, Failure, create, fresh, main, mpistill, test, within

random = np.random.default_rng(1)
IMAGES = random.integers(0, 256, (40, 3, 10, 14)).astype(np.uint8)
SCALE, OFFSET = [0.5, 2.0, 1.5], [0.1, -0.2, 0.3]


def dataset():
    path = fresh(".h5")
    with h5py.File(path, "w") as f:
        f.attrs.update({"format": "mpistill-dataset", "version": 1})
        for split in "train", "test":
            f.create_dataset(f"{split}/image", data=IMAGES).attrs.update(scale=1 / 255, offset=0)
            f[f"{split}/label"] = np.int32(np.arange(40) % 4)
    return path


def teacher(shape, kind=TensorProto.FLOAT):
    """A linear map of all numbers of an image; with it, logits tell whether every number is in its place."""
    path, n = fresh(".onnx"), int(np.prod(shape))
    w = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32) / 8
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("Flatten", ["f"], ["v"]),
             helper.make_node("MatMul", ["v", "w"], ["logits"])]
    graph = helper.make_graph(nodes, "linear", [helper.make_tensor_value_info("x", kind, ["N", *shape])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path, w


def expected(size=None, crop=None, channel_order="same", scale=(1,), offset=(0,), layout="nchw", kind=None):
    x = torch.from_numpy(np.float32(IMAGES) * np.float32(1 / 255))
    if size:
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if crop:
        top, left = (x.shape[2] - crop[0]) // 2, (x.shape[3] - crop[1]) // 2
        x = x[:, :, top:top + crop[0], left:left + crop[1]]
    if channel_order == "reversed":
        x = x.flip(1)
    x = x * torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1) + torch.tensor(offset, dtype=torch.float32).view(-1, 1, 1)
    if layout == "nhwc":
        x = x.permute(0, 2, 3, 1)
    return x.round().clamp(0, 255) if kind == TensorProto.UINT8 else x


def logits_of(folder):
    with h5py.File(f"{folder}/a.h5") as f:
        return f["logits"][...]


def words(options):
    flags = []
    for key, value in options.items():
        text = value if isinstance(value, str) else ("x" if key in ("size", "crop") else ",").join(map(str, value))
        flags += ["--" + key.replace("_", "-"), text] if not text.startswith("-") else [f"--{key}={text}"]
    return flags


CASES = {
    "larger": dict(size=(20, 21)), "smaller": dict(size=(6, 9)), "square": dict(size=(12, 12)), "crop": dict(crop=(7, 9)),
    "resized, then cropped": dict(size=(16, 16), crop=(12, 11)), "BGR": dict(channel_order="reversed"), "NHWC": dict(layout="nhwc"),
    "scale and offset of all": dict(scale=[3.0], offset=[0.25]), "of each channel": dict(scale=SCALE, offset=OFFSET),
    "everything": dict(size=(15, 18), crop=(14, 14), channel_order="reversed", scale=SCALE, offset=OFFSET, layout="nhwc"),
    "uint8": dict(scale=[255.0], layout="nhwc", kind=TensorProto.UINT8),
}


def case(options):
    x = expected(**options)
    kind = options.get("kind", TensorProto.FLOAT)
    path, w = teacher(x.shape[1:], kind)
    given = {key: value for key, value in options.items() if key != "kind"}
    folder = fresh("")
    mpistill("teach", "--dataset", dataset(), "--teacher", f"a={path}", "--dtype", "float32", "--quiet", *words(given), "--output", folder)
    wanted = x.flatten(1).numpy() @ w
    return within("logits", float(np.abs(logits_of(folder) - wanted).max() / np.abs(wanted).max()), 1e-5)


for which, given_options in CASES.items():
    test(f"preprocess: {which}")(lambda given_options=given_options: case(given_options))


@test("a recipe: one teacher as the student sees images, one otherwise")
def recipe():
    plain, w = teacher(IMAGES.shape[1:])
    other, v = teacher((12, 12, 3))
    with open("pre.yaml", "w", encoding="utf-8") as f:
        f.write(f"""dataset: {dataset()}
output: pre
teachers:
  - {{name: a, model: {plain}}}
  - {{name: b, model: {other}, preprocess: {{size: [14], crop: [12, 12], layout: nhwc, scale: [2, 2, 2], offset: [-1]}}}}
teach: {{dtype: float32}}
student: {{create: mlp, layers: [420, 4]}}
distill: {{epochs: 1, batch: 40}}
""")
    rows = json.loads(mpistill("run", "pre.yaml", "--json", "--quiet"))["models"]
    if [r["kind"] for r in rows] != ["teacher", "teacher", "ensemble", "student"]:
        raise Failure(f"{rows}")
    x = expected(size=(14, 14), crop=(12, 12), scale=[2.0], offset=[-1.0], layout="nhwc").flatten(1).numpy() @ v
    with h5py.File("pre/soft/b.h5") as f:
        error = np.abs(f["logits"][...] - x).max() / np.abs(x).max()
    return within("logits", float(error), 1e-5)


@test("evaluate, and against another model")
def evaluated():
    given = CASES["everything"]
    x = expected(**given)
    (path, w), (other, _) = teacher(x.shape[1:]), teacher(x.shape[1:])
    result = json.loads(mpistill("evaluate", "--model", path, "--dataset", dataset(), *words(given), "--against", other, "--json"))
    logits, labels = torch.from_numpy(x.flatten(1).numpy() @ w), torch.arange(40) % 4
    errors = int((logits.argmax(1) != labels).sum())
    if result["errors"] != errors or result["against"]["agreement"] != 1:
        raise Failure(f"{errors} errors expected: {result}")
    nll = float(F.cross_entropy(logits, labels))
    return f"{errors} errors, {within('nll', abs(result['nll'] - nll) / nll, 1e-5)}"


@test("what does not go together is refused before any work")
def refused():
    path, _ = teacher((3, 12, 12))
    cases = [(["--size", "13"], "takes [?, 3, 12, 12], but preprocess makes [?, 3, 13, 13]"), (["--crop", "11"], "asks for 11 x 11"),
             (["--size", "12", "--scale", "1,2"], "2 numbers"), (["--layout", "chw"], "nhwc"),
             (["--size", "12", "--layout", "nhwc"], "makes [?, 12, 12, 3]")]
    for given, text in cases:
        done = subprocess.run([PROGRAM, "teach", "--dataset", dataset(), "--teacher", f"a={path}", *given, "--output", fresh("")],
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 2 or text not in done.stderr:
            raise Failure(f"{given}: status {done.returncode}: {done.stderr}")
        done = subprocess.run([PROGRAM, "evaluate", "--dataset", dataset(), "--model", path, *given], capture_output=True, text=True,
                              timeout=60)
        if done.returncode != 2 or text not in done.stderr:
            raise Failure(f"evaluate {given}: status {done.returncode}: {done.stderr}")
    return f"{len(cases)} cases, status 2"


@test("labels of other numbers are not taken for done")
def changed():
    path, _ = teacher((3, 12, 12))
    data, folder = dataset(), fresh("")
    command = ["teach", "--dataset", data, "--teacher", f"a={path}", "--size", "12", "--output", folder]
    mpistill(*command, "--quiet")
    mpistill(*command, "--quiet")
    done = subprocess.run([PROGRAM, *command, "--scale", "2"], capture_output=True, text=True, timeout=60)
    if done.returncode != 2 or "preprocess" not in done.stderr:
        raise Failure(f"status {done.returncode}: {done.stderr}")
    return "status 2"


if __name__ == "__main__":
    sys.exit(main())
