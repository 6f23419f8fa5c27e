#!/usr/bin/env python3
"""Compares models made by `mpistill create` with PyTorch.

    created_models.py MPISTILL RUN_MODEL

Each model passes onnx.checker; then its one-dimensional parameters are replaced by random ones (fresh batch norms are near the
identity), and its output by our engine (RUN_MODEL, see tests/tools/run_model.c) is compared with that of the same layers called
in torch.nn.functional. Prints the largest difference relative to the largest output; exit status 1 above 1e-5."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

ROWS = 5
BOUND = 1e-5
CASES = [
    ["mlp", "--layers", "64,10"],
    ["mlp", "--layers", "784,800,800,10"],
    ["mlp", "--layers", "20,30,40,5", "--activation", "tanh", "--batch-norm", "--dropout", "0.5"],
    ["mlp", "--layers", "20,30,5", "--activation", "sigmoid"],
    ["mlp", "--layers", "20,30,5", "--activation", "leaky-relu", "--dropout", "0.25"],
    ["cnn", "--input", "1x28x28", "--classes", "10"],
    ["cnn", "--input", "3x17x12", "--classes", "7", "--channels", "4,8,16", "--kernel", "3", "--hidden", "0"],
    ["cnn", "--input", "1x8x8", "--classes", "10", "--channels", "8", "--batch-norm", "--dropout", "0.5", "--hidden", "9"],
    ["resnet", "--depth", "8", "--input", "3x32x32", "--classes", "10"],
    ["resnet", "--depth", "20", "--input", "3x32x32", "--classes", "10"],
    ["resnet", "--depth", "14", "--input", "1x9x7", "--classes", "3", "--width", "4"],
]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def apply(node, x):
    """The torch call for one node; x: its inputs."""
    a = attributes(node)
    if node.op_type == "Constant":
        return torch.tensor(a["value_float"])
    if node.op_type == "Gemm":
        assert a == {"transB": 1}
        return F.linear(*x)
    if node.op_type == "Conv":
        return F.conv2d(*x, stride=a["strides"], padding=a["pads"][:2])
    if node.op_type == "BatchNormalization":
        return F.batch_norm(x[0], x[3], x[4], x[1], x[2], training=False, eps=a["epsilon"])
    if node.op_type == "MaxPool":
        return F.max_pool2d(x[0], a["kernel_shape"], a["strides"])
    return {
        "Relu": F.relu,
        "LeakyRelu": lambda v: F.leaky_relu(v, 0.01),
        "Tanh": torch.tanh,
        "Sigmoid": torch.sigmoid,
        "Dropout": lambda v, ratio: v,
        "Flatten": lambda v: torch.flatten(v, 1),
        "GlobalAveragePool": lambda v: F.adaptive_avg_pool2d(v, 1),
        "Add": torch.add,
    }[node.op_type](*x)


def run_torch(graph, x):
    values = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    values[graph.input[0].name] = torch.from_numpy(x)
    with torch.no_grad():
        for node in graph.node:
            values[node.output[0]] = apply(node, [values[name] for name in node.input])
    return values[graph.output[0].name].numpy()


def shake(graph, random):
    for t in graph.initializer:
        if len(t.dims) != 1:
            continue
        old = numpy_helper.to_array(t)
        new = old + random.uniform(-0.3, 0.3, old.shape).astype(np.float32)
        t.CopyFrom(numpy_helper.from_array(new, t.name))


def run_ours(tool, path, x, folder):
    given, got = os.path.join(folder, "x.bin"), os.path.join(folder, "y.bin")
    x.tofile(given)
    shape = subprocess.run([tool, path, str(ROWS), given, got], check=True, stdout=subprocess.PIPE, text=True).stdout
    dims = [int(d) for d in shape.strip()[1:-1].split(",")]
    return np.fromfile(got, dtype=np.float32).reshape(dims)


def compare(mpistill, tool, options, folder):
    path = os.path.join(folder, "model.onnx")
    subprocess.run([mpistill, "create", *options, "--seed", "3", "--output", path, "--force"], check=True,
                   stdout=subprocess.DEVNULL)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    random = np.random.default_rng(1)
    shake(model.graph, random)
    onnx.save(model, path)
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = random.standard_normal([ROWS, *dims]).astype(np.float32)
    expected, got = run_torch(model.graph, x), run_ours(tool, path, x, folder)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    assert np.abs(expected).max() > 1e-3
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def main():
    mpistill, tool = sys.argv[1:3]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for options in CASES:
            difference = compare(mpistill, tool, options, folder)
            worst = max(worst, difference)
            verdict = "ok" if difference <= BOUND else "not ok"
            print(f"{verdict} {' '.join(options)}: {difference:.1e}")
    print(f"{len(CASES)} models, largest difference {worst:.1e}, allowed {BOUND:.0e}")
    return 0 if worst <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
